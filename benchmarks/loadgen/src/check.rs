//! Checking what the server answers.

use ferrows_core::{CloseFrame, Config, Connection, DeflateConfig, Kind, Role, Sink};

use crate::cycle::Cycle;
use crate::error::Error;
use crate::frame::{self, Header};
use crate::payload::Payloads;

/// The masking key of what is sent in answer to a ping.
const PONG_MASK: [u8; 4] = [0x5A, 0xA5, 0x3C, 0xC3];

/// What every connection is to answer: the messages in turn.
#[derive(Clone, Debug)]
pub struct Expected {
    payloads: Payloads,
    /// The answer as most servers put it on the wire: each message in one frame, uncompressed.
    plain: Cycle,
    deflate: Option<DeflateConfig>,
}

impl Expected {
    /// Expect the messages back, compressed if the server likes to and `deflate` was agreed on.
    pub fn new(payloads: Payloads, deflate: Option<DeflateConfig>) -> Self {
        Self { plain: Cycle::answered(&payloads), payloads, deflate }
    }

    /// How many messages there are before the first comes again.
    pub fn count(&self) -> usize {
        self.plain.count()
    }
}

/// Checks every byte that one connection answers.
///
/// As long as the server puts each message into one frame, what arrives is compared with prebuilt bytes and not
/// parsed. From the first frame on that differs, a [`Connection`] in the client's role reads, and its messages are
/// compared. Control frames between messages do not end the fast way.
#[derive(Debug)]
pub struct Checker {
    /// The message that is awaited, of those of the cycle.
    message: usize,
    /// How much of the cycle has arrived; not counted any more in general mode.
    offset: usize,
    mode: Mode,
    closed: bool,
    control: Vec<u8>,
}

#[derive(Debug)]
enum Mode {
    /// The bytes are those of the cycle so far.
    Exact,
    /// A control frame came between two messages, and not all of it is there.
    Control,
    /// The server's frames are others than those of the cycle.
    General(Box<Connection>),
}

impl Checker {
    /// Await message `first` of the cycle.
    pub fn new(expected: &Expected, first: usize) -> Self {
        let message = first % expected.count();
        Self { message, offset: expected.plain.start(message), mode: Mode::Exact, closed: false, control: Vec::new() }
    }

    /// Check what arrived and count the messages that it completes. An answer to a ping is appended to `reply`.
    ///
    /// # Errors
    /// [`Error::Peer`] if a byte is wrong.
    #[inline]
    pub fn receive(&mut self, data: &[u8], expected: &Expected, reply: &mut Vec<u8>) -> Result<usize, Error> {
        let (completed, rest) = self.receive_exact(data, expected);
        if rest.is_empty() {
            return Ok(completed);
        }
        Ok(completed + self.receive_slowly(rest, expected, reply)?)
    }

    /// Whether the server's Close has come.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether the server's frames are not those that were expected, so that checking is slow.
    pub fn is_general(&self) -> bool {
        matches!(self.mode, Mode::General(_))
    }

    /// Take what is exactly as expected. Returns the messages that it completes, and the rest; not always is all that
    /// is left wrong.
    #[inline]
    fn receive_exact<'a>(&mut self, mut data: &'a [u8], expected: &Expected) -> (usize, &'a [u8]) {
        let mut completed = 0;
        while !data.is_empty() && matches!(self.mode, Mode::Exact) && !self.closed {
            let wanted = &expected.plain.bytes()[self.offset..];
            let size = wanted.len().min(data.len());
            if wanted[..size] != data[..size] {
                break;
            }
            completed += self.advance(size, expected);
            data = &data[size..];
        }
        (completed, data)
    }

    /// Take note that so many more bytes of the cycle have arrived, not beyond its end.
    #[inline]
    fn advance(&mut self, size: usize, expected: &Expected) -> usize {
        let before = self.message;
        self.offset += size;
        while self.message < expected.count() && expected.plain.end(self.message) <= self.offset {
            self.message += 1;
        }
        let completed = self.message - before;
        if self.message == expected.count() {
            self.message = 0;
            self.offset = 0;
        }
        completed
    }

    #[cold]
    fn receive_slowly(&mut self, data: &[u8], expected: &Expected, reply: &mut Vec<u8>) -> Result<usize, Error> {
        let mut completed = 0;
        let mut data = data;
        while !data.is_empty() {
            if self.closed {
                return Err(Error::Peer("bytes came after the server's Close".into()));
            }
            match &mut self.mode {
                Mode::Exact => {
                    let matched;
                    (matched, data) = self.receive_exact(data, expected);
                    completed += matched;
                    let wanted = &expected.plain.bytes()[self.offset..];
                    if let Some(same) = wanted.iter().zip(data).position(|(wanted, found)| wanted != found) {
                        completed += self.advance(same, expected);
                        completed += self.leave_exact(&data[same..=same], expected, reply)?;
                        data = &data[same + 1..];
                    }
                }
                Mode::Control => {
                    self.control.push(data[0]);
                    data = &data[1..];
                    self.receive_control(reply)?;
                }
                Mode::General(connection) => {
                    let mut judge = Judge::new(expected, self.message);
                    connection.receive_data(data, &mut judge);
                    reply.extend_from_slice(connection.output());
                    connection.clear_output();
                    if let Some(problem) = judge.problem {
                        return Err(Error::Peer(problem));
                    }
                    self.message = judge.message;
                    self.closed = judge.closed;
                    return Ok(completed + judge.completed);
                }
            }
        }
        Ok(completed)
    }

    /// Leave the fast way, at a byte that is not the expected one.
    fn leave_exact(&mut self, byte: &[u8], expected: &Expected, reply: &mut Vec<u8>) -> Result<usize, Error> {
        let start = expected.plain.start(self.message);
        let arrived = &expected.plain.bytes()[start..self.offset];
        if arrived.is_empty() && byte[0] & 0x08 != 0 {
            self.mode = Mode::Control;
            self.control.extend_from_slice(byte);
            return Ok(0);
        }
        let config = Config { role: Role::Client, max_size: None, deflate: expected.deflate.clone() };
        self.mode = Mode::General(Box::new(Connection::new(config)));
        let arrived = [arrived, byte].concat();
        self.receive_slowly(&arrived, expected, reply)
    }

    /// Take note of the control frame that came between two messages, if it is all there (RFC 6455 §5.5).
    fn receive_control(&mut self, reply: &mut Vec<u8>) -> Result<(), Error> {
        let Some(header) = Header::parse(&self.control) else { return Ok(()) };
        if !matches!(header.first, 0x88..=0x8A) || header.mask.is_some() || header.length > 125 {
            return Err(Error::Peer(format!("a frame begins with {:02x?}", self.control)));
        }
        let payload = &self.control[header.size..];
        if (payload.len() as u64) < header.length {
            return Ok(());
        }
        match header.first {
            0x88 => self.closed = true,
            0x89 => frame::append(0x8A, payload, Some(PONG_MASK), reply),
            _ => {}
        }
        self.control.clear();
        self.mode = Mode::Exact;
        Ok(())
    }
}

/// Compares messages with those that are expected.
struct Judge<'a> {
    expected: &'a Expected,
    message: usize,
    completed: usize,
    closed: bool,
    problem: Option<String>,
}

impl<'a> Judge<'a> {
    fn new(expected: &'a Expected, message: usize) -> Self {
        Self { expected, message, completed: 0, closed: false, problem: None }
    }
}

impl Sink for Judge<'_> {
    fn message(&mut self, kind: Kind, payload: &[u8], _ends: &[u32]) {
        let wanted = &self.expected.payloads.messages()[self.message];
        if self.problem.is_none() && (kind != self.expected.payloads.kind() || payload != wanted) {
            self.problem = Some(difference(self.expected, self.message, kind, payload));
        }
        self.message = (self.message + 1) % self.expected.count();
        self.completed += 1;
    }

    fn fragment(&mut self, _kind: Kind, _payload: &[u8], _fin: bool) {
        self.problem.get_or_insert_with(|| "a fragment came outside of a message".into());
    }

    fn ping(&mut self, _payload: &[u8]) {}

    fn pong(&mut self, _payload: &[u8]) {}

    fn close(&mut self, _frame: &CloseFrame) {
        self.closed = true;
    }

    fn failure(&mut self, error: &ferrows_core::Error) {
        self.problem.get_or_insert_with(|| format!("the server broke the protocol: {error}"));
    }
}

/// Say in which way a message is not the expected one.
fn difference(expected: &Expected, message: usize, kind: Kind, payload: &[u8]) -> String {
    let messages = expected.payloads.messages();
    let wanted = &messages[message];
    if kind != expected.payloads.kind() {
        return format!("{kind} message came, {} expected", expected.payloads.kind());
    }
    if let Some(other) = messages.iter().position(|message| message == payload) {
        return format!("message {other} came, {message} was expected: lost, doubled or out of order");
    }
    if payload.len() != wanted.len() {
        return format!("message of {} bytes came, {} expected", payload.len(), wanted.len());
    }
    let byte = wanted.iter().zip(payload).position(|(wanted, found)| wanted != found).unwrap_or(0);
    format!("byte {byte} of message {message} is {:#04x}, expected {:#04x}", payload[byte], wanted[byte])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(size: usize) -> Expected {
        Expected::new(Payloads::generate(Kind::Text, size), None)
    }

    /// Check a stream whole, byte by byte and in chunks of seven; return the messages that it completes.
    fn check(expected: &Expected, first: usize, stream: &[u8]) -> Result<usize, String> {
        let results = [stream.len().max(1), 1, 7].map(|size| {
            let (mut checker, mut reply) = (Checker::new(expected, first), Vec::new());
            let mut completed = 0;
            for chunk in stream.chunks(size) {
                completed += checker.receive(chunk, expected, &mut reply).map_err(|error| error.to_string())?;
            }
            Ok(completed)
        });
        let [whole, ref split @ ..] = results;
        assert!(split.iter().all(|other| *other == whole), "{whole:?} but split {split:?}");
        whole
    }

    fn frames(expected: &Expected, first: usize, count: usize) -> Vec<u8> {
        let mut stream = Vec::new();
        for index in first..first + count {
            let payload = &expected.payloads.messages()[index % expected.count()];
            frame::append(0x81, payload, None, &mut stream);
        }
        stream
    }

    #[test]
    fn what_is_expected_is_counted_around_the_end_of_the_cycle() {
        for size in [8, 32, 200, 70_000] {
            let expected = expected(size);
            for first in [0, 1, expected.count() - 1] {
                let stream = frames(&expected, first, 5);
                assert_eq!(check(&expected, first, &stream), Ok(5), "{size} bytes from {first}");
                assert_eq!(check(&expected, first, &stream[..stream.len() - 1]), Ok(4), "{size} bytes from {first}");
            }
        }
    }

    #[test]
    fn every_wrong_byte_is_found() {
        let expected = expected(32);
        let right = frames(&expected, 0, 3);
        for index in 0..right.len() {
            let mut stream = right.clone();
            // The first byte of a frame becomes that of a compressed message, the second that of a masked one.
            stream[index] ^= if index % 34 == 1 { 0x80 } else { 0x40 };
            assert!(check(&expected, 0, &stream).is_err(), "byte {index}");
        }
    }

    #[test]
    fn lost_and_doubled_messages_are_named() {
        let expected = expected(32);
        let mut stream = frames(&expected, 0, 1);
        stream.extend(frames(&expected, 2, 1));
        let lost = check(&expected, 0, &stream).expect_err("message 1 is missing");
        assert!(lost.contains("message 2 came, 1 was expected"), "{lost}");
        let doubled = [frames(&expected, 0, 1), frames(&expected, 0, 1)].concat();
        let doubled = check(&expected, 0, &doubled).expect_err("message 0 comes twice");
        assert!(doubled.contains("message 0 came, 1 was expected"), "{doubled}");
    }

    #[test]
    fn a_message_of_the_other_kind_is_wrong() {
        let expected = expected(32);
        let mut stream = frames(&expected, 0, 1);
        stream[0] = 0x82;
        assert!(check(&expected, 0, &stream).expect_err("binary").contains("binary message came"));
    }

    #[test]
    fn pings_between_messages_are_answered_and_leave_the_fast_way_open() {
        let expected = expected(32);
        let stream = [frames(&expected, 0, 1), b"\x89\x02hi".to_vec(), frames(&expected, 1, 2)].concat();
        assert_eq!(check(&expected, 0, &stream), Ok(3));
        let (mut checker, mut reply) = (Checker::new(&expected, 0), Vec::new());
        checker.receive(&stream, &expected, &mut reply).expect("the stream is right");
        assert!(!checker.is_general());
        let header = Header::parse(&reply).expect("a pong");
        assert_eq!((header.first, header.mask, header.length), (0x8A, Some(PONG_MASK), 2));
    }

    #[test]
    fn fragmented_messages_are_checked_too() {
        let expected = expected(32);
        let mut stream = frames(&expected, 0, 1);
        let payload = &expected.payloads.messages()[1];
        frame::append(0x01, &payload[..10], None, &mut stream);
        frame::append(0x89, b"between", None, &mut stream);
        frame::append(0x80, &payload[10..], None, &mut stream);
        stream.extend(frames(&expected, 2, 2));
        assert_eq!(check(&expected, 0, &stream), Ok(4));
        let place = 34 + 2 + 5;
        stream[place] ^= 1;
        assert!(check(&expected, 0, &stream).expect_err("a byte is wrong").contains("byte 5 of message 1"));
    }

    #[test]
    fn compressed_messages_are_checked_too() {
        let payloads = Payloads::generate(Kind::Text, 2048);
        let deflate = DeflateConfig {
            compress_window_bits: 15,
            decompress_window_bits: 15,
            compress_takeover: true,
            decompress_takeover: true,
            level: 6,
            mem_level: 8,
            threshold: 0,
        };
        let expected = Expected::new(payloads.clone(), Some(deflate.clone()));
        let mut server = Connection::new(Config { role: Role::Server, max_size: None, deflate: Some(deflate) });
        for (index, payload) in payloads.messages().iter().take(4).enumerate() {
            let text = str::from_utf8(payload).expect("ASCII");
            server.send_text(text, true, Some(index != 1)).expect("the connection is open");
        }
        assert_eq!(check(&expected, 0, server.output()), Ok(4));
        assert!(check(&expected, 1, server.output()).is_err());
    }

    #[test]
    fn a_close_ends_the_stream() {
        let expected = expected(32);
        let mut stream = frames(&expected, 0, 1);
        stream.extend_from_slice(b"\x88\x02\x03\xE8");
        let mut checker = Checker::new(&expected, 0);
        assert_eq!(checker.receive(&stream, &expected, &mut Vec::new()).expect("it is right"), 1);
        assert!(checker.is_closed());
        stream.push(0x81);
        assert!(check(&expected, 0, &stream).expect_err("a byte too many").contains("after the server's Close"));
    }

    #[test]
    fn a_malformed_control_frame_is_an_error() {
        for wrong in [&b"\xC9\x00"[..], b"\x09\x00", b"\x8B\x00", b"\x89\x80\0\0\0\0", b"\x89\x7E\x00\x80"] {
            assert!(check(&expected(32), 0, wrong).is_err(), "{wrong:x?}");
        }
    }
}
