//! Target `connection`: a connection's life, drawn: what arrives, in pieces, and what is sent in between.
//!
//! Everything happens twice, with what arrives cut in two ways. A second connection, the peer, reads what leaves.

use crate::input::{Cut, Input};
use crate::memory;
use crate::recorder::{Event, Recorder};
use crate::wire::{self, BINARY, CLOSE, FIN, Frame, RSV1, TEXT};
use ferrows_core::{Config, Connection, DeflateConfig, Error, InboundLimits, Kind, Rate, Role, State};
use std::cell::Cell;
use std::sync::{Arc, OnceLock};

/// Bytes of a large message: such are assembled in one place.
const LARGE: [usize; 4] = [300, 16_384, 65_535, 70_000];
/// Bytes that an inflater takes.
const INFLATER: usize = 64 * 1024;
/// Bytes that the largest compressor takes, with what it gathers.
const COMPRESSOR: usize = 512 * 1024;

/// Live the life that the bytes describe.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (flags, deflating, seed) = (input.byte(), input.byte(), u64::from(input.pair()));
    let deflate = (deflating & 1 != 0).then(|| DeflateConfig {
        compress_window_bits: 9 + (deflating >> 1) % 7,
        decompress_window_bits: 15,
        compress_takeover: deflating & 0x10 != 0,
        decompress_takeover: deflating & 0x20 != 0,
        level: if deflating & 0x40 != 0 { 0 } else { 6 },
        mem_level: if deflating & 0x80 != 0 { 1 } else { 8 },
        threshold: 8,
    });
    let bounded = [Some(1 << 16), Some(1000), Some(16), Some(0), Some(1 << 20)];
    let unbounded = [None, Some(1 << 20), Some(1000), Some(16), Some(0)];
    let max_size = input.one(if deflate.is_some() { &bounded } else { &unbounded });
    let role = if flags & 1 != 0 { Role::Client } else { Role::Server };
    let config = Config { role, max_size, deflate };
    let places = flags & 2 != 0;
    let limits = (flags & 4 != 0).then(|| limits(flags >> 3, config.deflate.is_some()));

    let whole = Life::new(&config, limits.as_ref(), places, Cut::Whole).live(input);
    let cut = if seed % 2 == 0 { Cut::Bytes } else { Cut::Pieces(seed) };
    let other = Life::new(&config, limits.as_ref(), false, cut).live(input);
    let flawed = |event: Option<&Event>| matches!(event, Some(Event::Failure(1007..=1009)));
    let counts_bytes = limits.is_some_and(|limits| limits.bytes.is_some());
    if (config.deflate.is_some() || counts_bytes) && flawed(whole.events.last()) {
        // A text may have two flaws: it is none, inflates to too much, or has more bytes than are permitted. A piece is
        // charged for, inflated and validated in turn, so that it depends on the cut which flaw is met first; whatever
        // comes before is the same.
        let (last, events) = other.events.split_last().expect("no event fewer");
        assert!(flawed(Some(last)), "{last:?}, {cut:?}");
        assert_eq!(events, &whole.events[..whole.events.len() - 1], "{cut:?}");
    } else {
        assert_eq!(other, whole, "{cut:?}");
    }
}

/// Limits that are soon reached. Time stands still.
fn limits(flags: u8, deflate: bool) -> Arc<InboundLimits> {
    let rate = |burst| Some(Rate { per_second: 1.0, burst });
    Arc::new(InboundLimits {
        messages: if flags & 1 != 0 { rate(3.0) } else { None },
        // A compressed message is charged for by the pieces in which it is inflated, so that the cut matters.
        bytes: if flags & 2 != 0 && !deflate { rate(100.0) } else { None },
        pings: if flags & 4 != 0 { rate(2.0) } else { None },
        fragments: if flags & 8 != 0 { Some(3) } else { None },
    })
}

/// All that can be seen of a life.
#[derive(Debug, PartialEq)]
struct Seen {
    events: Vec<Event>,
    frames: Vec<Frame>,
    results: Vec<Result<(), Error>>,
    states: Vec<State>,
}

struct Life {
    config: Config,
    cut: Cut,
    connection: Connection,
    recorder: Recorder,
    /// Bytes that were given to the connection.
    accepted: usize,
    /// Bytes of output that the sends may make.
    asked: usize,
    /// The most bytes of output that have waited.
    waited: usize,
    /// Bytes of heap that the connection holds.
    pinned: isize,
    compressed: bool,
    ended: bool,
    /// Large messages so far.
    large: u8,
    wire: Vec<u8>,
    results: Vec<Result<(), Error>>,
    states: Vec<State>,
    /// Messages and pings that were sent, and the message of which a part was.
    said: Vec<Event>,
    begun: Option<(Kind, Vec<u8>)>,
    pongs: Vec<Vec<u8>>,
}

impl Life {
    fn new(config: &Config, limits: Option<&Arc<InboundLimits>>, places: bool, cut: Cut) -> Self {
        warm();
        let connection = Connection::new(config.clone());
        Self {
            config: config.clone(),
            cut,
            connection: match limits {
                Some(limits) => connection.with_limits(Arc::clone(limits)),
                None => connection,
            },
            recorder: Recorder::new(places),
            accepted: 0,
            asked: 0,
            waited: 0,
            pinned: 0,
            compressed: false,
            ended: false,
            large: 0,
            wire: Vec::new(),
            results: Vec::new(),
            states: vec![State::Open],
            said: Vec::new(),
            begun: None,
            pongs: Vec::new(),
        }
    }

    fn live(mut self, mut input: Input<'_>) -> Seen {
        while !input.is_empty() {
            self.step(&mut input);
            self.check_memory();
            let state = self.connection.state();
            assert!(state >= *self.states.last().expect("one at least"), "a state is never left for an earlier one");
            self.states.push(state);
        }
        self.take_output();
        self.on(|connection, _| connection.receive_eof());
        self.take_output();
        self.check_output();
        let frames = self.check_peer();
        WARM.set(self.waited.max(self.accepted) < WARM_SIZE);
        Seen { events: self.recorder.events, frames, results: self.results, states: self.states }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let command = input.byte();
        let compress = [None, Some(true), Some(false)][usize::from(command >> 4 & 7) % 3];
        match (command & 0x80 != 0, command & 0x0F) {
            (false, _) => self.receive(input.bytes(usize::from(command) + 1)),
            (true, 0) => {
                let mut bytes = Vec::new();
                let first = input.byte();
                wire::frame(first, input.counted(), self.config.role == Role::Server, &mut bytes);
                self.receive(&bytes);
            }
            // A few: an input of a thousand bytes could ask for a hundred, and would take as long as a thousand others.
            (true, 1 | 7) if self.large == 4 => {}
            (true, 1) => {
                self.large += 1;
                let mut bytes = Vec::new();
                let (first, size) = (input.one(&[BINARY, TEXT, 0]), input.one(&LARGE));
                let payload: Vec<u8> = input.counted().iter().copied().chain([b'x']).cycle().take(size).collect();
                let fin = if command & 0x10 == 0 { FIN } else { 0 };
                wire::frame(fin | first, &payload, self.config.role == Role::Server, &mut bytes);
                self.receive(&bytes);
            }
            (true, 2..=4) => {
                let fin = command & 1 == 0;
                let text = String::from_utf8_lossy(input.counted()).into_owned();
                self.send(Kind::Text, text.as_bytes(), fin, compress);
            }
            (true, 5..=6) => {
                let fin = command & 1 == 0;
                self.send(Kind::Binary, input.counted(), fin, compress);
            }
            (true, 7) => {
                self.large += 1;
                let data = vec![input.byte(); input.one(&LARGE)];
                self.send(Kind::Binary, &data, true, compress);
            }
            (true, 8) => self.control(input.counted(), true),
            (true, 9) => self.control(input.counted(), false),
            (true, 10) => {
                let (code, reason) = (input.pair(), String::from_utf8_lossy(input.counted()).into_owned());
                let code = if command & 0x10 == 0 { Some(code) } else { None };
                self.asked += 14 + 125;
                let result = self.on(|connection, _| connection.send_close(code, &reason));
                self.results.push(result);
            }
            (true, 11) => self.take_output(),
            (true, 12) => self.on(|connection, _| connection.hold_pongs(command & 0x10 != 0)),
            (true, 13) => self.on(Connection::begin_streaming),
            (true, 14) => {
                self.ended = true;
                self.on(|connection, _| connection.receive_eof());
            }
            _ => {
                let code = input.pair();
                if command & 0x10 == 0 {
                    self.send_uncopied(input.counted());
                } else {
                    let reason = String::from_utf8_lossy(input.counted()).into_owned();
                    self.on(|connection, _| connection.fail(code, &reason));
                }
            }
        }
    }

    /// Do something with the connection, and see what memory it holds or frees.
    fn on<R>(&mut self, work: impl FnOnce(&mut Connection, &mut Recorder) -> R) -> R {
        let before = memory::held() - self.recorder.own;
        let result = work(&mut self.connection, &mut self.recorder);
        self.pinned += memory::held() - self.recorder.own - before;
        result
    }

    fn receive(&mut self, bytes: &[u8]) {
        let told = self.recorder.events.len();
        // Byte by byte, a large message would take as long as a thousand others.
        let mut cut = if bytes.len() > 1024 && self.cut == Cut::Bytes { Cut::Pieces(1) } else { self.cut };
        cut.apply(bytes, |piece| {
            self.accepted += piece.len();
            self.on(|connection, recorder| connection.receive_data(piece, recorder));
            self.check_memory();
        });
        if bytes.len() <= 1024 {
            self.cut = cut;
        }
        assert!(!self.ended || self.recorder.events.len() == told, "nothing is read after the end");
    }

    fn send(&mut self, kind: Kind, data: &[u8], fin: bool, compress: Option<bool>) {
        let result = self.on(|connection, _| match kind {
            Kind::Text => connection.send_text(std::str::from_utf8(data).expect("text"), fin, compress),
            Kind::Binary => connection.send_binary(data, fin, compress),
        });
        if result.is_ok() {
            self.note_message(kind, data, fin);
            self.asked += 14 + data.len();
            if self.config.deflate.is_some() {
                self.compressed = true;
                self.asked += data.len() / 8 + 64;
            }
        }
        self.results.push(result);
    }

    fn note_message(&mut self, kind: Kind, data: &[u8], fin: bool) {
        let (begun, mut payload) = self.begun.take().unwrap_or_else(|| (kind, Vec::new()));
        assert_eq!(begun, kind, "a message has one kind");
        payload.extend(data);
        if fin {
            self.said.push(Event::Message(kind, payload, Vec::new()));
        } else {
            self.begun = Some((kind, payload));
        }
    }

    fn send_uncopied(&mut self, payload: &[u8]) {
        if self.on(|connection, _| connection.send_header(Kind::Binary, payload.len())) {
            self.asked += 14 + payload.len();
            self.wire.extend(self.connection.output());
            self.wire.extend(payload);
            self.on(|connection, _| connection.clear_output());
            self.note_message(Kind::Binary, payload, true);
        }
    }

    fn control(&mut self, data: &[u8], ping: bool) {
        let result =
            self.on(|connection, _| if ping { connection.send_ping(data) } else { connection.send_pong(data) });
        assert!(result.is_err() || data.len() <= 125);
        if result.is_ok() {
            self.asked += 14 + data.len();
            if ping {
                self.said.push(Event::Ping(data.into()));
            } else {
                self.pongs.push(data.into());
            }
        }
        self.results.push(result);
    }

    fn take_output(&mut self) {
        self.on(|connection, _| connection.flush_close());
        self.wire.extend(self.connection.output());
        self.on(|connection, _| connection.clear_output());
    }

    /// Twice what was accepted, 4 KiB, one message; what was asked to be sent; and what deflate needs.
    fn check_memory(&mut self) {
        // A buffer that grew for output is kept for the thread's next.
        self.waited = self.waited.max(self.connection.pending_output());
        let message = self.config.max_size.map_or(0, |size| usize::try_from(size).expect("small"));
        let mut permitted = 2 * self.accepted + 4096 + 2 * self.waited;
        if self.config.deflate.is_some() {
            permitted += message + INFLATER + if self.compressed { COMPRESSOR } else { 0 };
        }
        assert!(
            self.pinned <= isize::try_from(permitted).expect("small"),
            "{} bytes pinned, {permitted} permitted, {} accepted",
            self.pinned,
            self.accepted
        );
    }

    /// What leaves is bounded by what was asked for: by the sends, and by what arrived, of which a ping asks for most, two
    /// bytes for six.
    fn check_output(&self) {
        let permitted = self.asked + 3 * self.accepted + 14 + 125;
        assert!(self.wire.len() <= permitted, "{} bytes sent, {permitted} permitted", self.wire.len());
    }

    /// The peer reads what was sent, in this order, and finds nothing wrong with it.
    fn check_peer(&mut self) -> Vec<Frame> {
        let mirrored = self.config.deflate.clone().map(|deflate| DeflateConfig {
            decompress_takeover: deflate.compress_takeover,
            compress_takeover: deflate.decompress_takeover,
            ..deflate
        });
        let role = if self.config.role == Role::Server { Role::Client } else { Role::Server };
        let mut peer = Connection::new(Config { role, max_size: None, deflate: mirrored });
        let mut heard = Recorder::default();
        peer.receive_data(&self.wire, &mut heard);
        assert_eq!(peer.failure(), None, "what is sent breaks no rule");
        peer.clear_output();

        let mut pings: Vec<_> = std::mem::take(&mut self.pongs);
        for event in &self.recorder.events {
            if let Event::Ping(payload) = event {
                pings.push(payload.clone());
            }
        }
        let mut said = std::mem::take(&mut self.said).into_iter();
        let mut closed = None;
        for event in heard.events {
            assert_eq!(closed, None, "nothing follows a Close");
            match event {
                Event::Pong(payload) => {
                    let at = pings.iter().position(|ping| *ping == payload).expect("a pong answers a ping");
                    pings.swap_remove(at);
                }
                Event::Close(code, reason) => closed = Some((code, reason)),
                Event::Message(kind, payload, _) => {
                    assert_eq!(said.next(), Some(Event::Message(kind, payload, Vec::new())));
                }
                other => assert_eq!(said.next(), Some(other)),
            }
        }
        assert_eq!(said.next(), None, "all that was sent leaves");
        let sent = self.connection.close_sent().map(|frame| (frame.code, frame.reason.clone()));
        assert_eq!(closed, sent, "the Close that was sent leaves");

        let frames = wire::frames(&self.wire, self.config.role == Role::Client);
        let last = frames.iter().position(|frame| frame.first & 0x0F == CLOSE);
        assert!(last.is_none_or(|at| at + 1 == frames.len()), "no frame follows a Close");
        frames
    }
}

/// Bytes of the thread's shared buffers; what was larger may have been freed.
const WARM_SIZE: usize = 64 * 1024;

thread_local! {
    /// The buffers that the thread's connections share are large enough.
    static WARM: Cell<bool> = const { Cell::new(false) };
}

/// Let the buffers that the thread's connections share be large enough, so that they count for none of them.
fn warm() {
    static STREAM: OnceLock<Vec<u8>> = OnceLock::new();
    if WARM.replace(true) {
        return;
    }
    let parameters = DeflateConfig {
        compress_window_bits: 15,
        decompress_window_bits: 15,
        compress_takeover: false,
        decompress_takeover: false,
        level: 1,
        mem_level: 8,
        threshold: 0,
    };
    let config = |role| Config { role, max_size: None, deflate: Some(parameters.clone()) };
    let stream = STREAM.get_or_init(|| {
        let mut other = Connection::new(config(Role::Client));
        other.send_binary(&vec![0; WARM_SIZE], true, Some(true)).expect("open");
        let mut stream = other.output().to_vec();
        assert!(stream[0] & RSV1 != 0);
        wire::frame(FIN | BINARY, &vec![0; WARM_SIZE], true, &mut stream);
        stream
    });
    let mut connection = Connection::new(config(Role::Server));
    connection.receive_data(stream, &mut Recorder::default());
    connection.send_binary(&vec![0; WARM_SIZE], true, Some(false)).expect("open");
    connection.clear_output();
}
