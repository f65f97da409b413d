//! Messages that are encoded once for several connections.

mod common;

use common::*;
use ferrows_core::{Config, Connection, DeflateConfig, Error, Kind, Role};

const LONG: &str = "a message that is long enough, long enough, long enough to be compressed";

fn takeover() -> DeflateConfig {
    DeflateConfig { compress_takeover: true, ..deflate() }
}

fn sent(config: &Config, kind: Kind, payload: &[u8], compress: Option<bool>) -> Vec<u8> {
    let mut connection = Connection::new(config.clone());
    match kind {
        Kind::Text => connection.send_text(std::str::from_utf8(payload).expect("text"), true, compress),
        Kind::Binary => connection.send_binary(payload, true, compress),
    }
    .expect("open");
    output(&mut connection)
}

#[test]
fn what_is_encoded_is_what_a_send_sends() {
    let thresholds = [0, LONG.len(), LONG.len() + 1].map(|threshold| DeflateConfig { threshold, ..deflate() });
    let others = [
        DeflateConfig { level: 0, threshold: 0, ..deflate() },
        DeflateConfig { compress_window_bits: 9, mem_level: 1, threshold: 0, ..deflate() },
    ];
    let mut configs: Vec<Config> = vec![server()];
    configs.extend(thresholds.into_iter().chain(others).map(|config| deflating(Role::Server, config)));
    let large = noise(70_000);
    for config in &configs {
        for (kind, payload) in
            [(Kind::Text, LONG.as_bytes()), (Kind::Binary, LONG.as_bytes()), (Kind::Text, b""), (Kind::Binary, &large)]
        {
            for compress in [None, Some(false), Some(true)] {
                let mut connection = Connection::new(config.clone());
                let encoding = connection.encoding(payload.len(), compress).expect("shared");
                let mut frame = Vec::new();
                encoding.encode(kind, payload, &mut frame);
                assert!(connection.send_encoded(&frame));
                assert_eq!(output(&mut connection), sent(config, kind, payload, compress), "{config:?} {compress:?}");
            }
        }
    }
}

#[test]
fn encodings_are_equal_where_the_bytes_are() {
    let with = |config| Connection::new(deflating(Role::Server, config)).encoding(100, None).expect("shared");
    let config = || DeflateConfig { threshold: 0, ..deflate() };
    let plain = Connection::new(server()).encoding(100, None).expect("shared");
    assert_ne!(with(config()), plain);
    // What the peer sends and a threshold that is reached change nothing.
    assert_eq!(with(config()), with(DeflateConfig { threshold: 100, ..deflate() }));
    assert_eq!(
        with(config()),
        with(DeflateConfig { decompress_takeover: true, decompress_window_bits: 8, ..config() })
    );
    assert_eq!(with(DeflateConfig { threshold: 101, ..deflate() }), plain);
    for other in [
        DeflateConfig { level: 1, ..config() },
        DeflateConfig { mem_level: 1, ..config() },
        DeflateConfig { compress_window_bits: 10, ..config() },
    ] {
        assert_ne!(with(config()), with(other));
    }
}

#[test]
fn a_client_and_context_takeover_have_encodings_of_their_own() {
    let plain = Connection::new(server()).encoding(100, None);
    assert_eq!(Connection::new(client()).encoding(100, None), None);
    let keeping = Connection::new(deflating(Role::Server, DeflateConfig { threshold: 100, ..takeover() }));
    assert_eq!(keeping.encoding(100, None), None);
    assert_eq!(keeping.encoding(1, Some(true)), None);
    // What is not compressed leaves the context as it is.
    assert_eq!(keeping.encoding(99, None), plain);
    assert_eq!(keeping.encoding(100, Some(false)), plain);
}

#[test]
fn a_message_without_compression_does_not_touch_the_context() {
    let config = DeflateConfig { threshold: 0, ..takeover() };
    let mut connection = Connection::new(deflating(Role::Server, config.clone()));
    let mut peer = Connection::new(deflating(Role::Client, DeflateConfig { decompress_takeover: true, ..config }));
    let mut frame = Vec::new();
    connection.encoding(4, Some(false)).expect("plain").encode(Kind::Text, b"bare", &mut frame);
    for _ in 0..2 {
        connection.send_text(LONG, true, None).expect("open");
        assert!(connection.send_encoded(&frame));
        assert_eq!(deliver(&mut connection, &mut peer), [text(LONG), text("bare")]);
    }
}

#[test]
fn an_encoded_message_keeps_its_place_among_the_others() {
    let (mut connection, mut peer) = (Connection::new(server()), Connection::new(client()));
    let mut frame = Vec::new();
    connection.encoding(1, None).expect("plain").encode(Kind::Binary, b"b", &mut frame);
    connection.send_text("a", true, None).expect("open");
    assert!(connection.send_encoded(&frame));
    connection.send_ping(b"c").expect("open");
    assert_eq!(deliver(&mut connection, &mut peer), [text("a"), binary(b"b"), Event::Ping(b"c".to_vec())]);
}

#[test]
fn test_5_4_nothing_comes_between_the_fragments_of_a_message() {
    let mut connection = Connection::new(server());
    connection.send_text("a", false, None).expect("open");
    assert!(!connection.takes_message());
    assert!(!connection.send_encoded(b"\x81\x00"));
    connection.send_text("b", true, None).expect("open");
    assert!(connection.takes_message());
    assert_eq!(output(&mut connection), [unmasked(TEXT, b"a"), unmasked(FIN, b"b")].concat());
}

#[test]
fn test_5_5_1_nothing_is_sent_after_a_close() {
    let mut connection = Connection::new(server());
    connection.send_close(Some(1000), "").expect("open");
    output(&mut connection);
    assert!(!connection.takes_message());
    assert!(!connection.send_encoded(b"\x81\x00"));
    assert_eq!(connection.pending_output(), 0);

    let mut ended = Connection::new(server());
    ended.receive_eof();
    assert!(!ended.takes_message());
    assert_eq!(ended.send_text("late", true, None), Err(Error::Closed));
}
