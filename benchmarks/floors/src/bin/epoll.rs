//! `floor-epoll`: what the system calls alone cost.
//!
//! An echo server that neither parses nor unmasks: it counts the bytes that one `recv` brought, divides by the size of
//! a frame, and answers as many prebuilt frames in one `send`. It can do so because the load generator's messages are
//! the same in every run and of the same size; the first message of a connection tells which they are. GET is answered
//! in the same way.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use ferrows_core::Kind;
use ferrows_floors::{Arguments, PAGE};
use ferrows_loadgen::cycle::Cycle;
use ferrows_loadgen::error::Error;
use ferrows_loadgen::frame::Header;
use ferrows_loadgen::handshake::Head;
use ferrows_loadgen::outbound::Outbound;
use ferrows_loadgen::payload::Payloads;
use ferrows_loadgen::poller::{Interest, Poller};

/// The token of the listening socket.
const LISTENER: usize = usize::MAX;
/// Bytes that one `recv` takes at the most.
const READ_SIZE: usize = 256 * 1024;
/// What answers a Close, whatever its code: 1000.
const CLOSE: [u8; 4] = [0x88, 0x02, 0x03, 0xE8];

fn main() -> ExitCode {
    let served =
        Arguments::parse(std::env::args().skip(1)).and_then(|arguments| Server::new(&arguments)).and_then(Server::run);
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor-epoll: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Server {
    listener: TcpListener,
    poller: Poller,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    scripts: Scripts,
    page: Rc<Cycle>,
}

impl Server {
    fn new(arguments: &Arguments) -> Result<Self, String> {
        let listener = arguments.listen()?;
        let poller = Poller::new().map_err(|error| error.to_string())?;
        poller.add(&listener, LISTENER, Interest::Read).map_err(|error| error.to_string())?;
        Ok(Self {
            listener,
            poller,
            connections: Vec::new(),
            free: Vec::new(),
            scripts: Scripts { files: arguments.payload_files.clone(), known: BTreeMap::new() },
            page: Rc::new(Cycle::new([PAGE.to_vec()])),
        })
    }

    fn run(mut self) -> Result<(), String> {
        let (mut buffer, mut events) = (vec![0; READ_SIZE], Vec::new());
        loop {
            self.poller.wait(None, &mut events).map_err(|error| error.to_string())?;
            for event in &events {
                if event.token == LISTENER {
                    self.accept().map_err(|error| error.to_string())?;
                } else if let Err(why) = self.serve(event.token, event.readable, &mut buffer) {
                    if let Ended::Badly(why) = why {
                        eprintln!("floor-epoll: {why}");
                    }
                    self.connections[event.token] = None;
                    self.free.push(event.token);
                }
            }
        }
    }

    fn accept(&mut self) -> Result<(), Error> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(Error::Io("cannot accept", error)),
            };
            stream.set_nonblocking(true).map_err(Error::io("cannot make a socket non-blocking"))?;
            stream.set_nodelay(true).map_err(Error::io("cannot set TCP_NODELAY"))?;
            let token = self.free.pop().unwrap_or(self.connections.len());
            self.poller.add(&stream, token, Interest::Read)?;
            let connection = Connection { stream, interest: Interest::Read, stage: Stage::Head(Vec::new()) };
            if token == self.connections.len() {
                self.connections.push(Some(connection));
            } else {
                self.connections[token] = Some(connection);
            }
        }
    }

    #[inline]
    fn serve(&mut self, token: usize, readable: bool, buffer: &mut [u8]) -> Result<(), Ended> {
        let Some(connection) = self.connections.get_mut(token).and_then(Option::as_mut) else { return Ok(()) };
        if readable {
            match connection.stream.read(buffer) {
                Ok(0) => return Err(Ended::Well),
                Ok(size) => {
                    if let Stage::Counting(counter) = &mut connection.stage {
                        counter.count(&buffer[..size], &connection.stream)?;
                    } else {
                        connection.begin(&buffer[..size], &mut self.scripts, &self.page)?;
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error.into()),
            }
        }
        connection.flush(&self.poller, token)
    }
}

/// Why a connection is over.
enum Ended {
    Well,
    Badly(String),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Self::Well,
            _ => Self::Badly(error.to_string()),
        }
    }
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Badly(error.to_string())
    }
}

struct Connection {
    stream: TcpStream,
    interest: Interest,
    stage: Stage,
}

enum Stage {
    /// A request is awaited, of which so much is there.
    Head(Vec<u8>),
    /// The first message is awaited, of which so much is there.
    First(Vec<u8>),
    /// All that comes is of one size.
    Counting(Counter),
}

impl Connection {
    /// Parse until it is known what to count.
    fn begin(&mut self, data: &[u8], scripts: &mut Scripts, page: &Rc<Cycle>) -> Result<(), Ended> {
        if let Stage::Head(head) = &mut self.stage {
            head.extend_from_slice(data);
            let Some(request) = Head::parse(head)? else { return Ok(()) };
            let size = request.size;
            if let Some(answer) = request.upgrade() {
                self.stream.write_all(&answer)?;
                let rest = head.split_off(size);
                self.stage = Stage::First(Vec::new());
                return self.begin(&rest, scripts, page);
            }
            let counter = Counter::new(size, false, 0, Rc::clone(page));
            let arrived = std::mem::take(head);
            return self.begin_to_count(counter, &arrived);
        }
        if let Stage::First(first) = &mut self.stage {
            first.extend_from_slice(data);
            if first.first().is_some_and(|byte| byte & 0x08 != 0) {
                self.stream.write_all(&CLOSE)?;
                return Err(Ended::Well);
            }
            let Some(header) = Header::parse(first) else { return Ok(()) };
            let Some(unit) = usize::try_from(header.length).ok().and_then(|length| length.checked_add(header.size))
            else {
                return Err(Ended::Badly("a message that is too big for this machine".into()));
            };
            if first.len() < unit {
                return Ok(());
            }
            let (cycle, index) = scripts.find(&header, &first[header.size..unit])?;
            let arrived = std::mem::take(first);
            return self.begin_to_count(Counter::new(unit, true, index, cycle), &arrived);
        }
        Ok(())
    }

    fn begin_to_count(&mut self, mut counter: Counter, arrived: &[u8]) -> Result<(), Ended> {
        counter.count(arrived, &self.stream)?;
        self.stage = Stage::Counting(counter);
        Ok(())
    }

    #[inline]
    fn flush(&mut self, poller: &Poller, token: usize) -> Result<(), Ended> {
        let Stage::Counting(counter) = &mut self.stage else { return Ok(()) };
        let (_, blocked) = counter.outbound.write(&self.stream, &counter.answers)?;
        let interest = if blocked { Interest::ReadWrite } else { Interest::Read };
        if interest != self.interest {
            self.interest = interest;
            poller.modify(&self.stream, token, interest)?;
        }
        Ok(())
    }
}

/// Answers as many times as a request or a frame has come, by its size alone.
struct Counter {
    /// Bytes of what comes.
    unit: usize,
    /// Bytes that are there of the next one.
    partial: usize,
    is_websocket: bool,
    answers: Rc<Cycle>,
    outbound: Outbound,
}

impl Counter {
    fn new(unit: usize, is_websocket: bool, first: usize, answers: Rc<Cycle>) -> Self {
        Self { unit, partial: 0, is_websocket, outbound: Outbound::new(first, &answers), answers }
    }

    #[inline]
    fn count(&mut self, data: &[u8], mut stream: &TcpStream) -> Result<(), Ended> {
        // The load generator closes when nothing is in flight: its Close is the first of what arrives.
        if self.is_websocket && self.partial == 0 && data[0] & 0x08 != 0 {
            stream.write_all(&CLOSE)?;
            return Err(Ended::Well);
        }
        let arrived = self.partial + data.len();
        self.partial = arrived % self.unit;
        self.outbound.queue(arrived / self.unit, &self.answers);
        Ok(())
    }
}

/// The answers to the messages that the load generator may send, each kind and size built once.
struct Scripts {
    files: Vec<PathBuf>,
    known: BTreeMap<(u8, usize), (Payloads, Rc<Cycle>)>,
}

impl Scripts {
    /// Find the answers by the first message of a connection, and the place of its own among them.
    fn find(&mut self, header: &Header, masked: &[u8]) -> Result<(Rc<Cycle>, usize), Ended> {
        let kind = match header.first {
            0x81 => Kind::Text,
            0x82 => Kind::Binary,
            other => return Err(Ended::Badly(format!("a frame begins with {other:#04x}, expected 0x81 or 0x82"))),
        };
        let key = (header.first, masked.len());
        if !self.known.contains_key(&key) {
            let payloads = if self.files.is_empty() {
                Payloads::generate(kind, masked.len())
            } else {
                Payloads::read(kind, &self.files)?
            };
            if payloads.messages().iter().any(|message| message.len() != masked.len()) {
                return Err(Ended::Badly("messages differ in size: they cannot be counted".into()));
            }
            let cycle = Rc::new(Cycle::answered(&payloads));
            self.known.insert(key, (payloads, cycle));
        }
        let (payloads, cycle) = &self.known[&key];
        let mask = header.mask.unwrap_or_default();
        let message: Vec<u8> = masked.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        let index = payloads.messages().iter().position(|known| *known == message);
        let index = index.ok_or_else(|| Ended::Badly("the first message is none of the load generator's".into()))?;
        Ok((Rc::clone(cycle), index))
    }
}
