//! One connection: what is still to be written to it, and the check of what comes back.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::check::{Checker, Expected};
use crate::cycle::Cycle;
use crate::error::Error;
use crate::frame;
use crate::handshake::{Extensions, Request};
use crate::outbound::Outbound;
use crate::payload::Random;
use crate::poller::{Interest, Poller};

/// How long an answer may take before the run fails.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long the server may take to end the next connection when all are closed at once: an event loop may well read
/// every Close before it ends the first stream.
const CLOSING: Duration = Duration::from_secs(5);
/// Bytes that one `read` takes at the most.
pub const READ_SIZE: usize = 256 * 1024;
/// Reads of one connection before the others have their turn.
const READS: usize = 4;

/// Where and how to open connections.
#[derive(Clone, Debug)]
pub struct Target {
    /// The server.
    pub address: SocketAddr,
    /// The request's target.
    pub path: String,
    /// The value of `Sec-WebSocket-Extensions`.
    pub offer: Option<String>,
}

impl Target {
    /// Connect without a handshake; small writes leave at once.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn connect(&self) -> Result<TcpStream, Error> {
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE).map_err(Error::io("cannot connect"))?;
        stream.set_nodelay(true).map_err(Error::io("cannot set TCP_NODELAY"))?;
        Ok(stream)
    }

    /// Build the request of a handshake.
    pub fn request(&self, random: &mut Random) -> Request {
        Request::new(&self.address.to_string(), &self.path, self.offer.as_deref(), random)
    }
}

/// A connection right after its handshake.
#[derive(Debug)]
pub struct Opened {
    /// The socket, non-blocking.
    pub stream: TcpStream,
    /// What was agreed on.
    pub extensions: Extensions,
    /// What came behind the handshake's answer.
    pub rest: Vec<u8>,
}

/// What one turn of reading brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Messages that are complete now.
    pub messages: usize,
    /// Bytes that were read.
    pub bytes: u64,
    /// The server has ended the connection.
    pub ended: bool,
}

/// A connection that sends the frames of a [`Cycle`] in turn and checks the answers.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    token: usize,
    interest: Interest,
    checker: Checker,
    outbound: Outbound,
    /// Control frames that are to be written before the next frame of the cycle.
    control: Vec<u8>,
}

impl Link {
    /// Begin with message `first` of the cycle, in both directions.
    ///
    /// # Errors
    /// [`Error::Io`] if the socket cannot be waited for, [`Error::Peer`] if what came already is wrong.
    pub fn new(
        opened: Opened,
        token: usize,
        first: usize,
        cycle: &Cycle,
        expected: &Expected,
        poller: &Poller,
    ) -> Result<Self, Error> {
        let interest = Interest::Read;
        poller.add(&opened.stream, token, interest)?;
        let mut checker = Checker::new(expected, first);
        let mut control = Vec::new();
        if checker.receive(&opened.rest, expected, &mut control).map_err(|error| error.on(token))? != 0 {
            return Err(Error::Peer("a message came before one was sent".into()).on(token));
        }
        let outbound = Outbound::new(first, cycle);
        Ok(Self { stream: opened.stream, token, interest, checker, outbound, control })
    }

    /// Queue the next `count` frames of the cycle.
    #[inline]
    pub fn queue(&mut self, count: usize, cycle: &Cycle) {
        self.outbound.queue(count, cycle);
    }

    /// Write what is queued, as much as there is room for; the rest when [`Poller`] says so. Returns the bytes written.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn flush(&mut self, cycle: &Cycle, poller: &Poller) -> Result<u64, Error> {
        let (mut written, mut blocked) = (0, false);
        if !self.control.is_empty() {
            (written, blocked) = self.flush_control(cycle).map_err(Error::io("cannot send"))?;
        }
        if !blocked && self.outbound.queued() != 0 {
            let size;
            (size, blocked) = self.outbound.write(&self.stream, cycle).map_err(Error::io("cannot send"))?;
            written += size;
        }
        let interest = if blocked { Interest::ReadWrite } else { Interest::Read };
        if interest != self.interest {
            self.interest = interest;
            poller.modify(&self.stream, self.token, interest)?;
        }
        Ok(written as u64)
    }

    /// Write the control frames, which must not come into the midst of another frame.
    #[cold]
    fn flush_control(&mut self, cycle: &Cycle) -> io::Result<(usize, bool)> {
        let mut written = 0;
        if !self.outbound.is_at_boundary(cycle) {
            let blocked;
            (written, blocked) = self.outbound.write_frame(&self.stream, cycle)?;
            if blocked {
                return Ok((written, true));
            }
        }
        match self.stream.write(&self.control) {
            Ok(size) => {
                self.control.drain(..size);
                Ok((written + size, !self.control.is_empty()))
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok((written, true)),
            Err(error) => Err(error),
        }
    }

    /// Read what is there, check it, and answer pings.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Peer`] if a byte is wrong.
    #[inline]
    pub fn read(&mut self, buffer: &mut [u8], expected: &Expected) -> Result<Received, Error> {
        let mut received = Received::default();
        for _ in 0..READS {
            match self.stream.read(buffer) {
                Ok(0) => {
                    received.ended = true;
                    break;
                }
                Ok(size) => {
                    received.bytes += size as u64;
                    let checked = self.checker.receive(&buffer[..size], expected, &mut self.control);
                    received.messages += checked.map_err(|error| error.on(self.token))?;
                    if size < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Io("cannot read", error)),
            }
        }
        Ok(received)
    }

    /// Read as [`read`](Self::read) does, where the connection is not to end.
    ///
    /// # Errors
    /// The same, and [`Error::Peer`] if the server closes.
    #[inline]
    pub fn read_open(&mut self, buffer: &mut [u8], expected: &Expected) -> Result<Received, Error> {
        let received = self.read(buffer, expected)?;
        if received.ended || self.checker.is_closed() {
            let how = if self.checker.is_closed() { "with a Close" } else { "without a Close" };
            return Err(Error::Peer(format!("the server closed early, {how}")).on(self.token));
        }
        Ok(received)
    }

    /// Whether the server's frames have to be parsed; see [`Checker`].
    pub fn is_general(&self) -> bool {
        self.checker.is_general()
    }
}

/// Close all connections in order, and count those that the server does not end with a Close and the end of the
/// stream, within five seconds after the one before. Nothing may be in flight any more.
///
/// # Errors
/// [`Error::Peer`] if something else than a Close comes.
pub fn close_all(mut links: Vec<Link>, expected: &Expected) -> Result<usize, Error> {
    for link in &mut links {
        // A server that has gone already is counted below.
        let _ = link.stream.write(&frame::CLOSE);
    }
    let mut last = Instant::now();
    let mut buffer = vec![0; 4096];
    let mut unclean = 0;
    for link in &mut links {
        link.stream.set_nonblocking(false).map_err(Error::io("cannot make a socket blocking"))?;
        loop {
            let left = CLOSING.saturating_sub(last.elapsed()).max(Duration::from_millis(1));
            link.stream.set_read_timeout(Some(left)).map_err(Error::io("cannot set a timeout"))?;
            match link.read(&mut buffer, expected) {
                Ok(received) if received.messages != 0 => {
                    return Err(Error::Peer("more messages came than were sent".into()).on(link.token));
                }
                Ok(Received { bytes: 1.., ended: false, .. }) => {}
                Ok(Received { ended, .. }) => {
                    unclean += usize::from(!(ended && link.checker.is_closed()));
                    last = Instant::now();
                    break;
                }
                Err(Error::Io(..)) => {
                    unclean += 1;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(unclean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Payloads;
    use crate::poller::Event;
    use ferrows_core::Kind;
    use std::net::TcpListener;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let client = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
        client.set_nonblocking(true).expect("a socket");
        (client, listener.accept().expect("it has connected").0)
    }

    #[test]
    fn many_frames_leave_in_order_around_the_end_of_the_cycle_with_a_pong_between_frames() {
        let payloads = Payloads::generate(Kind::Binary, 100_000);
        let (cycle, expected) = (Cycle::sent(&payloads), Expected::new(payloads, None));
        let mut poller = Poller::new().expect("epoll");
        let (client, mut server) = pair();
        let opened = Opened { stream: client, extensions: Extensions::default(), rest: b"\x89\x00".to_vec() };
        let mut link = Link::new(opened, 0, 1, &cycle, &expected, &poller).expect("a ping is no message");
        let pong_first = link.control.clone();
        link.queue(40, &cycle);
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            server.read_to_end(&mut all).map(|_| all)
        });
        let (mut events, mut written) = (Vec::<Event>::new(), link.flush(&cycle, &poller).expect("it is open"));
        // Now that it is in the midst of a frame, another one.
        link.control.extend_from_slice(b"\x8A\x80\0\0\0\0");
        loop {
            written += link.flush(&cycle, &poller).expect("it is open");
            if link.outbound.queued() == 0 && link.control.is_empty() {
                break;
            }
            poller.wait(Some(1_000_000_000), &mut events).expect("epoll");
            assert!(events[0].writable);
        }
        drop(link);
        let all = reader.join().expect("no panic").expect("it is open");
        assert_eq!(all.len() as u64, written);
        let (mut input, mut next, mut pongs) = (&all[..], 1, 0);
        assert!(input.starts_with(&pong_first));
        while let Some(header) = frame::Header::parse(input) {
            let size = header.size + usize::try_from(header.length).expect("it is small");
            if header.first == 0x8A {
                pongs += 1;
            } else {
                let index = next % cycle.count();
                assert!(input[..size] == cycle.bytes()[cycle.start(index)..cycle.end(index)]);
                next += 1;
            }
            input = &input[size..];
        }
        assert_eq!((next, pongs, input.len()), (41, 2, 0));
    }

    #[test]
    fn an_early_end_is_an_error() {
        let payloads = Payloads::generate(Kind::Text, 32);
        let (cycle, expected) = (Cycle::sent(&payloads), Expected::new(payloads, None));
        let poller = Poller::new().expect("epoll");
        for (bytes, how) in [(&b""[..], "without a Close"), (b"\x88\x00", "with a Close")] {
            let (client, mut server) = pair();
            let opened = Opened { stream: client, extensions: Extensions::default(), rest: Vec::new() };
            let mut link = Link::new(opened, 0, 0, &cycle, &expected, &poller).expect("it is new");
            server.write_all(bytes).expect("it is open");
            drop(server);
            let error = loop {
                match link.read_open(&mut [0; 100], &expected) {
                    Ok(received) => assert_eq!(received, Received::default()),
                    Err(error) => break error.to_string(),
                }
            };
            assert!(error.contains(how), "{error}");
        }
    }
}
