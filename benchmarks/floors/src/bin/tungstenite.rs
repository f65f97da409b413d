//! `floor-tungstenite`: a plain Rust server on one thread, tokio and tungstenite.
//!
//! `/ws` echoes, `/broadcast` sends every message to all that are connected there, and any other path is answered with
//! a page. What has arrived together is answered in one write.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::process::ExitCode;
use std::rc::Rc;
use std::task::{Context, Poll};

use ferrows_floors::{Arguments, PAGE};
use ferrows_loadgen::handshake::Head;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{LocalSet, spawn_local};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

/// Bytes of messages that are gathered before they are answered.
const BATCH: usize = 256 * 1024;
/// Bytes of the buffer that tungstenite keeps for each connection: 128 KiB if it is not told otherwise.
const READ_BUFFER: usize = 16 * 1024;

fn main() -> ExitCode {
    match Arguments::parse(std::env::args().skip(1)).and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor-tungstenite: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let listener = arguments.listen()?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(|error| error.to_string())?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::from_std(listener).map_err(|error| error.to_string())?;
        let room = Rc::new(Room::default());
        loop {
            let (stream, _) = listener.accept().await.map_err(|error| error.to_string())?;
            let room = Rc::clone(&room);
            spawn_local(async move {
                // A peer that breaks the rules or goes away ends its own connection.
                let _ = serve(stream, &room).await;
            });
        }
    })
}

/// Answer requests until one of them asks for a WebSocket.
async fn serve(mut stream: TcpStream, room: &Room) -> Result<(), tungstenite::Error> {
    stream.set_nodelay(true)?;
    let mut input = Vec::with_capacity(1024);
    loop {
        let Ok(head) = Head::parse(&input) else { return Ok(()) };
        let Some(head) = head else {
            if stream.read_buf(&mut input).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let size = head.size;
        let Some(answer) = head.upgrade() else {
            stream.write_all(PAGE).await?;
            input.drain(..size);
            continue;
        };
        let is_broadcast = head.path() == "/broadcast";
        stream.write_all(&answer).await?;
        let rest = input.split_off(size);
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
        let socket = WebSocketStream::from_partially_read(stream, rest, Role::Server, Some(config)).await;
        return if is_broadcast { broadcast(socket, room).await } else { echo(socket).await };
    }
}

type Socket = WebSocketStream<TcpStream>;

async fn echo(mut socket: Socket) -> Result<(), tungstenite::Error> {
    let mut messages = Vec::new();
    while poll_fn(|context| poll_messages(&mut socket, &mut messages, context)).await? {
        for message in messages.drain(..) {
            socket.feed(message).await?;
        }
        socket.flush().await?;
    }
    Ok(())
}

/// Those who receive what is broadcast.
#[derive(Default)]
struct Room {
    members: RefCell<BTreeMap<u64, UnboundedSender<Message>>>,
    next: Cell<u64>,
}

async fn broadcast(socket: Socket, room: &Room) -> Result<(), tungstenite::Error> {
    let member = room.next.replace(room.next.get() + 1);
    let (sender, receiver) = unbounded_channel();
    room.members.borrow_mut().insert(member, sender);
    let result = relay(socket, receiver, room).await;
    room.members.borrow_mut().remove(&member);
    result
}

async fn relay(
    mut socket: Socket,
    mut receiver: UnboundedReceiver<Message>,
    room: &Room,
) -> Result<(), tungstenite::Error> {
    let (mut arrived, mut outgoing) = (Vec::new(), Vec::new());
    loop {
        let going = poll_fn(|context| {
            let messages = poll_messages(&mut socket, &mut arrived, context);
            let queued = receiver.poll_recv_many(context, &mut outgoing, 64);
            match (messages, queued) {
                (Poll::Ready(messages), _) => Poll::Ready(messages),
                (_, Poll::Ready(_)) => Poll::Ready(Ok(true)),
                _ => Poll::Pending,
            }
        });
        if !going.await? {
            return Ok(());
        }
        for message in arrived.drain(..) {
            for member in room.members.borrow().values() {
                // A member whose task has just ended is about to leave the room.
                let _ = member.send(message.clone());
            }
        }
        if !outgoing.is_empty() {
            for message in outgoing.drain(..) {
                socket.feed(message).await?;
            }
            socket.flush().await?;
        }
    }
}

/// Take the messages that are there, until there is one at least; false at the end.
fn poll_messages(
    socket: &mut Socket,
    messages: &mut Vec<Message>,
    context: &mut Context<'_>,
) -> Poll<Result<bool, tungstenite::Error>> {
    let mut size = 0;
    while size < BATCH {
        match socket.poll_next_unpin(context) {
            Poll::Ready(Some(Ok(message @ (Message::Text(_) | Message::Binary(_))))) => {
                size += message.len() + 1;
                messages.push(message);
            }
            // Tungstenite answers pings and the Close by itself.
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
            Poll::Ready(None) => return Poll::Ready(Ok(!messages.is_empty())),
            Poll::Pending if messages.is_empty() => return Poll::Pending,
            Poll::Pending => break,
        }
    }
    Poll::Ready(Ok(true))
}
