//! Messages that a sink unmasks by itself, into its own memory.

mod common;

use common::{client, header, server};
use ferrows_core::{CloseFrame, Connection, Error, InvalidUtf8, Kind, Masked, Place, Sink, validate_utf8};
use std::mem::MaybeUninit;
use std::sync::Arc;

const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// Keeps messages with whether they were ASCII.
#[derive(Default)]
struct Unmasking {
    messages: Vec<(Vec<u8>, bool)>,
    failures: Vec<Option<u16>>,
}

impl Sink for Unmasking {
    fn masked_message(&mut self, kind: Kind, payload: Masked<'_>) -> Result<(), InvalidUtf8> {
        let mut out = vec![MaybeUninit::new(0xAA); payload.len()];
        let ascii = payload.unmask_into(&mut out);
        // SAFETY: all of it was initialized above.
        let out: Vec<u8> = out.into_iter().map(|byte| unsafe { byte.assume_init() }).collect();
        if kind == Kind::Text {
            validate_utf8(&out)?;
        }
        self.messages.push((out, ascii));
        Ok(())
    }
    fn message(&mut self, _: Kind, _: &[u8], _: &[u32]) {
        panic!("a message in one piece goes to masked_message");
    }
    fn fragment(&mut self, _: Kind, _: &[u8], _: bool) {}
    fn ping(&mut self, _: &[u8]) {}
    fn pong(&mut self, _: &[u8]) {}
    fn close(&mut self, _: &CloseFrame) {}
    fn failure(&mut self, error: &Error) {
        self.failures.push(error.close_code());
    }
}

/// A frame masked one byte after the other, as §5.3 says it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len(), Some(KEY));
    bytes.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

#[test]
fn test_5_3_every_length_is_unmasked_and_every_byte_above_ascii_is_seen() {
    let mut connection = Connection::new(server());
    let mut sink = Unmasking::default();
    for length in 0..200 {
        for flaw in (0..length).map(Some).chain([None]) {
            let mut payload: Vec<u8> = (0..length).map(|i| u8::try_from(i * 7 % 128).expect("below 128")).collect();
            if let Some(at) = flaw {
                payload[at] |= 0x80;
            }
            connection.receive_data(&frame(0x82, &payload), &mut sink);
            assert_eq!(sink.messages.pop(), Some((payload, flaw.is_none())), "length {length} flaw {flaw:?}");
        }
    }
    assert_eq!(sink.failures, []);
}

#[test]
fn test_5_1_what_a_server_sends_is_not_masked() {
    let mut connection = Connection::new(client());
    let mut sink = Unmasking::default();
    connection.receive_data(b"\x81\x05hello\x82\x02\xff\x00", &mut sink);
    assert_eq!(sink.messages, [(b"hello".to_vec(), true), (vec![0xFF, 0], false)]);
}

#[test]
fn test_8_1_text_that_a_sink_finds_invalid_fails_the_connection() {
    let mut connection = Connection::new(server());
    let mut sink = Unmasking::default();
    let mut data = frame(0x81, b"ok");
    data.extend(frame(0x81, b"ok\xff"));
    data.extend(frame(0x81, b"not read"));
    connection.receive_data(&data, &mut sink);
    assert_eq!(sink.messages, [(b"ok".to_vec(), true)]);
    assert_eq!(sink.failures, [Some(1007)]);
    assert!(connection.has_pending_close());
}

#[test]
fn test_a_header_alone_is_what_the_whole_frame_begins_with() {
    for length in [0, 125, 126, 65_535, 65_536] {
        let mut whole = Connection::new(server());
        let mut alone = Connection::new(server());
        let payload = vec![b'x'; length];
        whole.send_binary(&payload, true, None).expect("open");
        assert!(alone.send_header(Kind::Binary, length));
        assert_eq!(whole.output(), [alone.output(), &payload].concat());
    }
}

#[test]
fn test_no_header_alone_where_the_payload_is_changed_or_does_not_fit() {
    let mut masking = Connection::new(client());
    let mut deflating = Connection::new(common::deflating(ferrows_core::Role::Server, common::deflate()));
    let mut fragmenting = Connection::new(server());
    fragmenting.send_binary(b"first", false, None).expect("open");
    let mut closed = Connection::new(server());
    closed.send_close(Some(1000), "").expect("open");
    for connection in [&mut masking, &mut deflating, &mut fragmenting, &mut closed] {
        let before = connection.pending_output();
        assert!(!connection.send_header(Kind::Binary, 100_000));
        assert_eq!(connection.pending_output(), before);
    }
}

/// Memory that knows whether it is still held.
#[derive(Debug)]
struct Held {
    bytes: Vec<u8>,
    _held: Arc<()>,
}

impl Place for Held {
    fn append(&mut self, piece: Masked<'_>, _left: u64) -> bool {
        let mut out = vec![MaybeUninit::new(0xAA); piece.len()];
        let ascii = piece.unmask_into(&mut out);
        // SAFETY: all of it was initialized above.
        self.bytes.extend(out.into_iter().map(|byte| unsafe { byte.assume_init() }));
        ascii
    }
    fn payload(&self) -> &[u8] {
        &self.bytes
    }
}

/// Provides places, and keeps what came out of them.
#[derive(Default)]
struct Placing {
    held: Arc<()>,
    placed: Vec<(Kind, Vec<u8>, bool)>,
    others: usize,
    failures: Vec<Option<u16>>,
}

impl Sink for Placing {
    fn place(&mut self, _: Kind) -> Option<Box<dyn Place>> {
        Some(Box::new(Held { bytes: Vec::new(), _held: Arc::clone(&self.held) }))
    }
    fn placed_message(&mut self, kind: Kind, place: Box<dyn Place>, fragment: bool) {
        self.placed.push((kind, place.payload().to_vec(), fragment));
    }
    fn message(&mut self, _: Kind, _: &[u8], _: &[u32]) {
        self.others += 1;
    }
    fn fragment(&mut self, _: Kind, _: &[u8], _: bool) {
        self.others += 1;
    }
    fn ping(&mut self, _: &[u8]) {}
    fn pong(&mut self, _: &[u8]) {}
    fn close(&mut self, _: &CloseFrame) {}
    fn failure(&mut self, error: &Error) {
        self.failures.push(error.close_code());
    }
}

impl Placing {
    /// Places that a connection holds.
    fn places(&self) -> usize {
        Arc::strong_count(&self.held) - 1
    }
}

/// A large text whose characters are cut by nearly every piece.
fn large_text() -> Vec<u8> {
    ["a".repeat(15_000), "\u{e4}\u{20ac}\u{1f600}".repeat(3_000)].concat().into_bytes()
}

#[test]
fn test_a_large_message_in_pieces_of_any_size_is_assembled_in_its_place() {
    let payload = large_text();
    let data = frame(0x81, &payload);
    for size in [1, 2, 3, 5, 7, 1000, 4099, data.len() - 1] {
        let mut connection = Connection::new(server());
        let mut sink = Placing::default();
        for piece in data.chunks(size).chain(data.chunks(size)) {
            connection.receive_data(piece, &mut sink);
        }
        assert_eq!((sink.places(), sink.others, sink.failures.len()), (0, 0, 0), "pieces of {size}");
        let expected = (Kind::Text, payload.clone(), false);
        assert!(sink.placed == [expected.clone(), expected], "pieces of {size}");
    }
}

#[test]
fn test_streaming_that_begins_within_a_placed_message_gets_it_as_one_fragment() {
    let data = frame(0x82, &large_text());
    for begin in [0, 1, 20_000] {
        let mut connection = Connection::new(server());
        let mut sink = Placing::default();
        connection.receive_data(&data[..begin], &mut sink);
        connection.begin_streaming(&mut sink);
        connection.receive_data(&data[begin..data.len() - 1], &mut sink);
        assert_eq!(sink.placed, []);
        connection.receive_data(&data[data.len() - 1..], &mut sink);
        assert!(sink.placed == [(Kind::Binary, large_text(), true)], "after {begin}");
        assert_eq!((sink.places(), sink.others), (0, 0));
    }
}

#[test]
fn test_8_1_a_placed_text_fails_at_its_first_wrong_byte_and_leaves_no_place() {
    let mut payload = large_text();
    for (at, flaw) in [(0, 0xFF), (14_000, 0x80), (15_001, b'a'), (payload.len() - 1, b'a')] {
        let right = std::mem::replace(&mut payload[at], flaw);
        let data = frame(0x81, &payload);
        payload[at] = right;
        let header = data.len() - payload.len();
        let mut connection = Connection::new(server());
        let mut sink = Placing::default();
        connection.receive_data(&data[..header + at], &mut sink);
        assert_eq!((sink.places(), &sink.failures[..]), (usize::from(at > 0), &[][..]), "before byte {at}");
        connection.receive_data(&data[header + at..=header + at], &mut sink);
        assert_eq!((sink.places(), &sink.failures[..]), (0, &[Some(1007)][..]), "at byte {at}");
        assert_eq!(sink.placed, []);
    }
}

#[test]
fn test_8_1_a_placed_text_that_ends_within_a_character_fails() {
    let payload = large_text();
    let data = frame(0x81, &payload[..payload.len() - 1]);
    let mut connection = Connection::new(server());
    let mut sink = Placing::default();
    connection.receive_data(&data[..100], &mut sink);
    connection.receive_data(&data[100..], &mut sink);
    assert_eq!((sink.placed.len(), sink.failures, Arc::strong_count(&sink.held)), (0, vec![Some(1007)], 1));
}

#[test]
fn test_a_placed_message_that_comes_to_nothing_leaves_no_place() {
    let mut connection = Connection::new(server());
    let mut sink = Placing::default();
    connection.receive_data(&frame(0x82, &large_text())[..20_000], &mut sink);
    assert_eq!(sink.places(), 1);
    connection.receive_eof();
    assert_eq!(sink.places(), 0);
}

#[test]
fn test_5_4_a_message_in_several_frames_has_no_place() {
    let mut connection = Connection::new(server());
    let mut sink = Placing::default();
    let (first, last) = (frame(0x02, &large_text()), frame(0x80, &large_text()));
    for piece in [&first[..100], &first[100..], &last[..100], &last[100..]] {
        connection.receive_data(piece, &mut sink);
        assert_eq!(sink.places(), 0);
    }
    assert_eq!((sink.placed.len(), sink.others), (0, 1));
}
