//! What a peer may send beyond the size of a message: rates by token buckets, and the fragments of a message.

mod common;

use common::{BINARY, Event, FIN, KEY, PING, PONG, RSV1, TEXT, binary, deflate, deflating, failure, masked, server};
use ferrows_core::{CloseFrame, Config, Connection, Error, InboundLimits, Kind, Rate, Role, Sink, State};
use std::sync::Arc;
use std::time::Duration;

/// A connection with limits, and a clock that the test sets.
struct Limited {
    connection: Connection,
    inbox: Inbox,
}

#[derive(Default)]
struct Inbox {
    recorder: common::Recorder,
    now: Duration,
}

impl Sink for Inbox {
    fn message(&mut self, kind: Kind, payload: &[u8], ends: &[u32]) {
        self.recorder.message(kind, payload, ends);
    }
    fn fragment(&mut self, kind: Kind, payload: &[u8], fin: bool) {
        self.recorder.fragment(kind, payload, fin);
    }
    fn ping(&mut self, payload: &[u8]) {
        self.recorder.ping(payload);
    }
    fn pong(&mut self, payload: &[u8]) {
        self.recorder.pong(payload);
    }
    fn close(&mut self, frame: &CloseFrame) {
        self.recorder.close(frame);
    }
    fn failure(&mut self, error: &Error) {
        self.recorder.failure(error);
    }
    fn now(&mut self) -> Duration {
        self.now
    }
}

impl Limited {
    fn new(config: Config, limits: InboundLimits) -> Self {
        Self { connection: Connection::new(config).with_limits(Arc::new(limits)), inbox: Inbox::default() }
    }

    fn at(&mut self, seconds: f64) -> &mut Self {
        self.inbox.now = Duration::from_secs(1000) + Duration::from_secs_f64(seconds);
        self
    }

    fn receive(&mut self, bytes: &[u8]) -> &mut Self {
        self.connection.receive_data(bytes, &mut self.inbox);
        self
    }

    fn set_reading(&mut self, reading: bool) {
        let now = self.inbox.now;
        self.connection.set_reading(reading, || now);
    }

    fn events(&self) -> &[Event] {
        &self.inbox.recorder.0
    }

    fn messages(&self) -> usize {
        self.events().iter().filter(|event| matches!(event, Event::Message(..))).count()
    }

    fn failure(&self) -> Option<String> {
        self.connection.failure().map(ToString::to_string)
    }
}

#[allow(clippy::unnecessary_wraps, reason = "what a field of the limits takes")]
fn rate(per_second: f64, burst: f64) -> Option<Rate> {
    Some(Rate { per_second, burst })
}

fn messages(per_second: f64, burst: f64) -> InboundLimits {
    InboundLimits { messages: rate(per_second, burst), ..InboundLimits::default() }
}

fn bytes(per_second: f64, burst: f64) -> InboundLimits {
    InboundLimits { bytes: rate(per_second, burst), ..InboundLimits::default() }
}

fn pings(per_second: f64, burst: f64) -> InboundLimits {
    InboundLimits { pings: rate(per_second, burst), ..InboundLimits::default() }
}

fn fragments(count: u32) -> InboundLimits {
    InboundLimits { fragments: Some(count), ..InboundLimits::default() }
}

fn message() -> Vec<u8> {
    masked(FIN | BINARY, b"four")
}

/// How a stream of bytes may arrive.
const CUTS: [usize; 4] = [1, 3, 7, usize::MAX];

#[test]
fn messages_beyond_the_burst_fail_with_1008_after_those_within_it() {
    for cut in CUTS {
        let mut limited = Limited::new(server(), messages(2.0, 3.0));
        limited.at(0.0);
        for chunk in message().repeat(5).chunks(cut.min(1000)) {
            limited.receive(chunk);
        }
        let mut expected = vec![binary(b"four"); 3];
        expected.push(failure(1008, "more than 2 messages a second"));
        assert_eq!(limited.events(), expected, "cut at {cut}");
        assert_eq!(limited.connection.state(), State::Closing);
    }
}

#[test]
fn a_bucket_fills_at_its_rate_up_to_its_burst() {
    let mut limited = Limited::new(server(), messages(2.0, 3.0));
    limited.at(0.0).receive(&message().repeat(3));
    limited.at(0.5).receive(&message());
    assert_eq!(limited.failure(), None);
    // An hour brings no more than the burst.
    limited.at(3600.0).receive(&message().repeat(3));
    assert_eq!((limited.failure(), limited.messages()), (None, 7));
    limited.receive(&message());
    assert_eq!(limited.failure().as_deref(), Some("more than 2 messages a second"));
}

#[test]
fn a_peer_that_keeps_the_rate_is_never_refused() {
    let mut limited = Limited::new(server(), messages(4.0, 1.0));
    for step in 0..10_000 {
        limited.at(f64::from(step) * 0.25).receive(&message());
    }
    assert_eq!((limited.failure(), limited.messages()), (None, 10_000));
}

#[test]
fn a_rate_may_be_less_than_one_a_second() {
    let mut limited = Limited::new(server(), messages(0.5, 1.0));
    limited.at(0.0).receive(&message());
    limited.at(2.0).receive(&message());
    assert_eq!(limited.failure(), None);
    limited.at(3.0).receive(&message());
    assert_eq!(limited.failure().as_deref(), Some("more than 0.5 messages a second"));
}

#[test]
fn a_clock_that_goes_back_gives_and_takes_nothing() {
    let mut limited = Limited::new(server(), messages(1.0, 2.0));
    limited.at(10.0).receive(&message());
    limited.at(5.0).receive(&message());
    assert_eq!(limited.failure(), None);
    limited.at(5.5).receive(&message());
    assert!(limited.failure().is_some());
}

#[test]
fn what_piles_up_while_nothing_is_read_may_come_at_once() {
    let mut limited = Limited::new(server(), messages(2.0, 3.0));
    limited.at(0.0).receive(&message().repeat(3));
    limited.set_reading(false);
    limited.at(10.0).set_reading(true);
    limited.receive(&message().repeat(20));
    assert_eq!((limited.failure(), limited.messages()), (None, 23));
    limited.receive(&message());
    assert!(limited.failure().is_some(), "no more than the time in which nothing was read brings");
}

#[test]
fn what_piles_up_before_the_first_message_may_come_at_once() {
    let mut limited = Limited::new(server(), messages(2.0, 3.0));
    limited.at(0.0).set_reading(false);
    limited.at(10.0).set_reading(true);
    limited.receive(&message().repeat(23));
    assert_eq!((limited.failure(), limited.messages()), (None, 23));
    limited.receive(&message());
    assert!(limited.failure().is_some());
}

#[test]
fn time_before_the_pause_brings_no_more_than_the_burst() {
    let mut limited = Limited::new(server(), messages(2.0, 3.0));
    limited.at(0.0).receive(&message());
    limited.at(100.0).set_reading(false);
    limited.at(101.0).set_reading(true);
    limited.receive(&message().repeat(5));
    assert_eq!(limited.failure(), None);
    limited.receive(&message());
    assert!(limited.failure().is_some());
}

#[test]
fn fragments_are_one_message() {
    let mut limited = Limited::new(server(), messages(1.0, 1.0));
    limited.at(0.0).receive(&masked(TEXT, b"a")).receive(&masked(0, b"b")).receive(&masked(FIN, b"c"));
    assert_eq!((limited.failure(), limited.messages()), (None, 1));
    limited.receive(&masked(TEXT, b"a"));
    assert_eq!(limited.failure().as_deref(), Some("more than 1 messages a second"));
}

#[test]
fn bytes_are_those_on_the_wire() {
    // A frame of four bytes of payload has ten on the wire, a ping too.
    for frame in [message(), masked(FIN | PING, b"four"), masked(BINARY, b"four")] {
        for cut in CUTS {
            let mut limited = Limited::new(server(), bytes(1.0, 10.0));
            limited.at(0.0);
            for chunk in frame.chunks(cut.min(1000)) {
                limited.receive(chunk);
            }
            assert_eq!(limited.failure(), None);
            limited.at(5.0).receive(&masked(FIN | PONG, b""));
            assert_eq!(limited.failure().as_deref(), Some("more than 1 bytes a second"));
        }
    }
}

#[test]
fn a_frame_of_many_bytes_may_come_slowly() {
    let mut limited = Limited::new(server(), bytes(100.0, 100.0));
    let frame = masked(FIN | BINARY, &[7; 10_000]);
    for (second, chunk) in (0..).zip(frame.chunks(100)) {
        limited.at(f64::from(second)).receive(chunk);
    }
    assert_eq!((limited.failure(), limited.messages()), (None, 1));
}

#[test]
fn bytes_that_a_message_inflates_to_count_where_they_are_more() {
    let parameters = deflate();
    let mut sender = Connection::new(deflating(Role::Client, parameters.clone()));
    sender.send_binary(&vec![0; 100_000], true, Some(true)).expect("it is open");
    let frame = common::output(&mut sender);
    assert!(frame.len() < 500);
    for (burst, cut) in [99_000.0, 101_000.0].into_iter().flat_map(|burst| CUTS.map(|cut| (burst, cut))) {
        let mut limited = Limited::new(deflating(Role::Server, parameters.clone()), bytes(1.0, burst));
        limited.at(0.0);
        for chunk in frame.chunks(cut.min(1000)) {
            limited.receive(chunk);
        }
        assert_eq!(limited.failure().is_some(), burst < 100_000.0, "burst {burst}, cut at {cut}");
    }
}

#[test]
fn bytes_that_a_message_inflates_to_count_also_in_fragments() {
    let parameters = deflate();
    let mut sender = Connection::new(deflating(Role::Client, parameters.clone()));
    for fin in [false, true] {
        sender.send_binary(&vec![0; 50_000], fin, Some(true)).expect("it is open");
    }
    let frames = common::output(&mut sender);
    assert_eq!(frames[0] & (FIN | RSV1), RSV1);
    for burst in [99_000.0, 101_000.0] {
        let mut limited = Limited::new(deflating(Role::Server, parameters.clone()), bytes(1.0, burst));
        limited.at(0.0).receive(&frames);
        assert_eq!(limited.failure().is_some(), burst < 100_000.0);
    }
}

#[test]
fn pings_and_pongs_that_nobody_asked_for_are_limited() {
    for opcode in [PING, PONG] {
        let mut limited = Limited::new(server(), pings(1.0, 2.0));
        limited.at(0.0).receive(&masked(FIN | opcode, b"x").repeat(2)).receive(&message().repeat(100));
        assert_eq!(limited.failure(), None);
        limited.receive(&masked(FIN | opcode, b"x"));
        assert_eq!(limited.failure().as_deref(), Some("more than 1 pings a second"));
    }
}

#[test]
fn a_ping_that_is_refused_is_not_answered() {
    let mut limited = Limited::new(server(), pings(1.0, 1.0));
    limited.at(0.0).receive(&masked(FIN | PING, b"x").repeat(2));
    let pong = common::unmasked(FIN | PONG, b"x");
    let output = common::output(&mut limited.connection);
    assert!(output.starts_with(&pong) && !output[pong.len()..].starts_with(&pong));
}

#[test]
fn pongs_that_we_asked_for_are_not_limited() {
    let mut limited = Limited::new(server(), pings(1.0, 1.0));
    limited.at(0.0);
    for _ in 0..50 {
        limited.connection.send_ping(b"x").expect("it is open");
    }
    limited.receive(&masked(FIN | PONG, b"x").repeat(51));
    assert_eq!(limited.failure(), None);
    limited.receive(&masked(FIN | PONG, b"x"));
    assert_eq!(limited.failure().as_deref(), Some("more than 1 pings a second"));
}

#[test]
fn fragments_beyond_the_limit_fail_with_1008_also_empty_ones() {
    for payload in [&b""[..], b"x"] {
        let mut limited = Limited::new(server(), fragments(3));
        let mut stream = masked(BINARY, payload);
        stream.extend(masked(0, payload));
        limited.receive(&stream).receive(&masked(FIN, payload)).receive(&stream);
        assert_eq!((limited.failure(), limited.messages()), (None, 1));
        limited.receive(&masked(FIN | PING, b"between")).receive(&masked(0, payload));
        assert_eq!(limited.failure(), None);
        limited.receive(&masked(0, payload));
        assert_eq!(limited.failure().as_deref(), Some("more than 3 fragments of a message"));
    }
}

#[test]
fn fragments_beyond_the_limit_fail_at_the_header() {
    let mut limited = Limited::new(server(), fragments(1));
    limited.receive(&masked(BINARY, b"x")).receive(&common::header(FIN, 1000, Some(KEY)));
    assert_eq!(limited.failure().as_deref(), Some("more than 1 fragments of a message"));
}

#[test]
fn without_limits_nothing_is_asked_of_the_clock() {
    struct Timeless;
    impl Sink for Timeless {
        fn message(&mut self, _: Kind, _: &[u8], _: &[u32]) {}
        fn fragment(&mut self, _: Kind, _: &[u8], _: bool) {}
        fn ping(&mut self, _: &[u8]) {}
        fn pong(&mut self, _: &[u8]) {}
        fn close(&mut self, _: &CloseFrame) {}
        fn failure(&mut self, _: &Error) {}
        fn now(&mut self) -> Duration {
            panic!("nothing is limited by time")
        }
    }
    let mut connection = Connection::new(server());
    connection.receive_data(&[message(), masked(FIN | PING, b"")].concat(), &mut Timeless);
    let mut connection = Connection::new(server()).with_limits(Arc::new(pings(1.0, 1.0)));
    connection.receive_data(&message().repeat(10), &mut Timeless);
}
