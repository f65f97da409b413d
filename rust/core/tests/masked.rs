//! Messages that a sink unmasks by itself, into its own memory.

mod common;

use common::{client, header, server};
use ferrows_core::{CloseFrame, Connection, Error, InvalidUtf8, Kind, Masked, Sink, validate_utf8};
use std::mem::MaybeUninit;

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
