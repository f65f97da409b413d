//! What the test files share: frames built by hand, a sink that records, and replays in pieces.
#![allow(dead_code, reason = "no file uses all of it")]
#![allow(clippy::decimal_bitwise_operands, reason = "the RFC writes lengths in decimal")]

use ferrows_core::{CloseFrame, Config, Connection, DeflateConfig, Error, Kind, Role, Sink, State};

pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;
pub const FIN: u8 = 0x80;
pub const RSV1: u8 = 0x40;
pub const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// What a sink was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Message(Kind, Vec<u8>, Vec<u32>),
    Fragment(Kind, Vec<u8>, bool),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
    Failure(u16, String),
}

pub fn text(payload: &str) -> Event {
    Event::Message(Kind::Text, payload.into(), Vec::new())
}

pub fn binary(payload: &[u8]) -> Event {
    Event::Message(Kind::Binary, payload.into(), Vec::new())
}

pub fn failure(code: u16, reason: &str) -> Event {
    Event::Failure(code, reason.to_owned())
}

#[derive(Default)]
pub struct Recorder(pub Vec<Event>);

impl Sink for Recorder {
    fn message(&mut self, kind: Kind, payload: &[u8], ends: &[u32]) {
        assert!(kind == Kind::Binary || std::str::from_utf8(payload).is_ok(), "text is valid");
        self.0.push(Event::Message(kind, payload.into(), ends.into()));
    }
    fn fragment(&mut self, kind: Kind, payload: &[u8], fin: bool) {
        assert!(kind == Kind::Binary || std::str::from_utf8(payload).is_ok(), "a fragment of text is valid");
        self.0.push(Event::Fragment(kind, payload.into(), fin));
    }
    fn ping(&mut self, payload: &[u8]) {
        self.0.push(Event::Ping(payload.into()));
    }
    fn pong(&mut self, payload: &[u8]) {
        self.0.push(Event::Pong(payload.into()));
    }
    fn close(&mut self, frame: &CloseFrame) {
        self.0.push(Event::Close(frame.code, frame.reason.clone()));
    }
    fn failure(&mut self, error: &Error) {
        self.0.push(Event::Failure(error.close_code().expect("an error of the peer has a code"), error.to_string()));
    }
}

pub fn server() -> Config {
    Config { role: Role::Server, max_size: Some(1 << 20), deflate: None }
}

pub fn client() -> Config {
    Config { role: Role::Client, ..server() }
}

pub fn deflate() -> DeflateConfig {
    DeflateConfig {
        compress_window_bits: 15,
        decompress_window_bits: 15,
        compress_takeover: false,
        decompress_takeover: false,
        level: 6,
        mem_level: 8,
        threshold: 1024,
    }
}

pub fn deflating(role: Role, deflate: DeflateConfig) -> Config {
    Config { role, max_size: Some(1 << 20), deflate: Some(deflate) }
}

/// Build a header by hand: the first byte, the length in its shortest form, the key.
pub fn header(first: u8, length: usize, key: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if key.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(masked | u8::try_from(length).expect("7 bits")),
        126..=0xFFFF => {
            bytes.push(masked | 126);
            bytes.extend(u16::try_from(length).expect("16 bits").to_be_bytes());
        }
        _ => {
            bytes.push(masked | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(key.iter().flatten());
    bytes
}

/// Build a frame of a server.
pub fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len(), None);
    bytes.extend(payload);
    bytes
}

/// Build a frame of a client.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len(), Some(KEY));
    bytes.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ KEY[i % 4]));
    bytes
}

pub fn masked_close(code: u16, reason: &[u8]) -> Vec<u8> {
    masked(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// What reading some bytes led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub events: Vec<Event>,
    pub output: Vec<u8>,
    pub state: State,
}

pub fn output(connection: &mut Connection) -> Vec<u8> {
    let mut out = Vec::new();
    connection.take_output(&mut out);
    out
}

pub fn read<'a>(config: &Config, pieces: impl IntoIterator<Item = &'a [u8]>, streaming: bool) -> Outcome {
    let mut connection = Connection::new(config.clone());
    let mut recorder = Recorder::default();
    if streaming {
        connection.begin_streaming(&mut recorder);
    }
    for piece in pieces {
        connection.receive_data(piece, &mut recorder);
    }
    let mut output = output(&mut connection);
    if config.role == Role::Client {
        // Masked with keys that differ from run to run.
        output.fill(0);
    }
    Outcome { events: recorder.0, output, state: connection.state() }
}

/// Read `bytes` whole; check that they mean the same in two pieces split at every byte, byte by byte, and with a valid
/// frame right after them.
pub fn replay(config: &Config, bytes: &[u8]) -> Outcome {
    replay_as(config, bytes, false)
}

/// As [`replay`], with the first message streamed.
pub fn replay_streaming(config: &Config, bytes: &[u8]) -> Outcome {
    replay_as(config, bytes, true)
}

fn replay_as(config: &Config, bytes: &[u8], streaming: bool) -> Outcome {
    let whole = read(config, [bytes], streaming);
    let splits: Vec<usize> = match bytes.len() {
        0..=2000 => (0..=bytes.len()).collect(),
        // A long payload is split around its ends, and here and there.
        length => (0..300).chain((300..length).step_by(length / 50 + 1)).chain(length - 300..=length).collect(),
    };
    for at in splits {
        let (first, second) = bytes.split_at(at);
        assert_eq!(read(config, [first, second], streaming), whole, "split at {at}");
    }
    assert_eq!(read(config, bytes.chunks(1), streaming), whole, "byte by byte");

    let pong = if config.role == Role::Server { masked(FIN | PONG, b"next") } else { unmasked(FIN | PONG, b"next") };
    let mut coalesced = whole.clone();
    if whole.state == State::Open {
        coalesced.events.push(Event::Pong(b"next".to_vec()));
    }
    assert_eq!(read(config, [&[bytes, &pong].concat()[..]], streaming), coalesced, "with the next frame");
    assert_eq!(read(config, [bytes, &pong], streaming), coalesced, "before the next frame");
    whole
}

/// Check that `bytes` fail a connection after `events` with this code and reason, and what is sent then.
pub fn assert_fails(config: &Config, bytes: &[u8], mut events: Vec<Event>, code: u16, reason: &str) {
    let outcome = replay(config, bytes);
    events.push(failure(code, reason));
    assert_eq!(outcome.events, events);
    assert_eq!(outcome.state, State::Closed);
    if config.role == Role::Server {
        let close = unmasked(FIN | CLOSE, &[&code.to_be_bytes(), reason.as_bytes()].concat());
        assert!(outcome.output.ends_with(&close), "the Close names the error");
    }
}

/// Let `from` speak to `to`, and return what `to` read.
pub fn deliver(from: &mut Connection, to: &mut Connection) -> Vec<Event> {
    let bytes = output(from);
    let mut recorder = Recorder::default();
    to.receive_data(&bytes, &mut recorder);
    recorder.0
}

/// Bytes that compress badly, the same at every run.
pub fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..count).map(|_| next()).collect()
}
