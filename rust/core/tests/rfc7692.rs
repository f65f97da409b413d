//! RFC 7692, case by case, named by section.

mod common;

use common::*;
use ferrows_core::{Config, Connection, DeflateConfig, Kind, Role, State};
use zlib_rs::{Deflate, DeflateFlush, Inflate, InflateFlush};

const TAIL: &[u8] = b"\x00\x00\xff\xff";

fn plain() -> Config {
    deflating(Role::Server, deflate())
}

fn takeover() -> Config {
    deflating(Role::Server, DeflateConfig { compress_takeover: true, decompress_takeover: true, ..deflate() })
}

fn limited(max_size: u64) -> Config {
    Config { max_size: Some(max_size), ..plain() }
}

/// Compress like another implementation would, each item ended by its flush, tails and all.
fn squeeze(items: &[(&[u8], DeflateFlush)]) -> Vec<u8> {
    let mut compressor = Deflate::new(6, false, 15);
    let mut out = Vec::new();
    for (data, flush) in items {
        let mut buffer = vec![0; data.len() + 1024];
        let before = compressor.total_out();
        compressor.compress(data, &mut buffer, *flush).expect("valid state");
        let size = usize::try_from(compressor.total_out() - before).expect("fits");
        out.extend_from_slice(&buffer[..size]);
    }
    out
}

/// Compress a message as §7.2.1 says.
fn message(data: &[u8]) -> Vec<u8> {
    let mut out = squeeze(&[(data, DeflateFlush::SyncFlush)]);
    assert!(out.ends_with(TAIL));
    out.truncate(out.len() - 4);
    out
}

/// Take apart the frames that a server sent: first byte and payload of each.
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, length, rest @ ..] = bytes {
        let (length, rest) = match length {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => (usize::try_from(u64::from_be_bytes(rest[..8].try_into().expect("8"))).expect("fits"), &rest[8..]),
            length => (usize::from(*length), rest),
        };
        frames.push((*first, rest[..length].to_vec()));
        bytes = &rest[length..];
    }
    frames
}

/// Inflate like another implementation would.
fn expand(inflater: &mut Inflate, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 4 << 20];
    let before = inflater.total_out();
    for input in [payload, TAIL] {
        let start = usize::try_from(inflater.total_out() - before).expect("fits");
        inflater.decompress(input, &mut out[start..], InflateFlush::SyncFlush).expect("valid data");
    }
    out.truncate(usize::try_from(inflater.total_out() - before).expect("fits"));
    out
}

fn json() -> Vec<u8> {
    let users: Vec<String> = (0..60).map(|i| format!(r#"{{"id":{i},"name":"user {i}","tags":["a","b"]}}"#)).collect();
    users.join(",").into_bytes()
}

#[test]
fn test_6_rsv1_without_the_extension_fails_1002() {
    let frame = masked(FIN | RSV1 | TEXT, &message(b"Hello"));
    assert_fails(&server(), &frame, vec![], 1002, "reserved bits 0b100, permitted 0b000");
}

#[test]
fn test_6_other_reserved_bits_fail_1002_with_the_extension() {
    for bits in [0b001, 0b010, 0b011, 0b101, 0b110, 0b111_u8] {
        let reason = format!("reserved bits 0b{bits:03b}, permitted 0b100");
        assert_fails(&plain(), &masked(FIN | bits << 4 | TEXT, b""), vec![], 1002, &reason);
    }
}

#[test]
fn test_6_1_rsv1_on_control_frames_and_undefined_opcodes_fails_1002() {
    for opcode in [CLOSE, PING, PONG, 0x3, 0xB] {
        let reason = "reserved bits 0b100, permitted 0b000";
        assert_fails(&plain(), &masked(FIN | RSV1 | opcode, b""), vec![], 1002, reason);
    }
}

#[test]
fn test_6_1_rsv1_on_a_continuation_fails_1002() {
    let payload = message(b"Hello");
    let bytes = [masked(RSV1 | TEXT, &payload[..3]), masked(FIN | RSV1, &payload[3..])].concat();
    assert_fails(&plain(), &bytes, vec![], 1002, "reserved bits 0b100, permitted 0b000");
}

#[test]
fn test_6_uncompressed_messages_stay_legal() {
    let bytes = [masked(FIN | TEXT, b"plain"), masked(FIN | RSV1 | TEXT, &message(b"squeezed")), masked(TEXT, b"a")];
    let bytes = [bytes.concat(), masked(FIN, b"b")].concat();
    for config in [plain(), takeover()] {
        let fragmented = Event::Message(Kind::Text, b"ab".to_vec(), vec![1]);
        assert_eq!(replay(&config, &bytes).events, [text("plain"), text("squeezed"), fragmented]);
    }
}

#[test]
fn test_6_2_a_compressed_message_in_fragments() {
    let data = json();
    let payload = message(&data);
    let third = payload.len() / 3;
    let bytes = [
        masked(RSV1 | TEXT, &payload[..third]),
        masked(FIN | PING, b"p"),
        masked(0, &payload[third..2 * third]),
        masked(0, b""),
        masked(FIN, &payload[2 * third..]),
    ]
    .concat();
    for config in [plain(), takeover()] {
        let events = replay(&config, &bytes).events;
        assert_eq!(events[0], Event::Ping(b"p".to_vec()));
        let Event::Message(Kind::Text, payload, ends) = &events[1] else { panic!("{events:?}") };
        assert_eq!(*payload, data);
        assert_eq!(ends.len(), 2);
    }
}

#[test]
fn test_7_2_3_1_one_compressed_block() {
    let config = deflating(Role::Client, deflate());
    assert_eq!(replay(&config, b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00").events, [text("Hello")]);
    let events = replay(&config, b"\x41\x03\xf2\x48\xcd\x80\x04\xc9\xc9\x07\x00").events;
    assert!(matches!(&events[..], [Event::Message(Kind::Text, payload, _)] if payload == b"Hello"), "{events:?}");
}

#[test]
fn test_7_2_3_1_what_we_send() {
    let mut connection = Connection::new(plain());
    connection.send_text("Hello", true, Some(true)).expect("open");
    assert_eq!(output(&mut connection), b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00");
}

#[test]
fn test_7_2_3_2_sharing_the_window() {
    let with = deflating(Role::Client, DeflateConfig { decompress_takeover: true, ..deflate() });
    let bytes = b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x05\xf2\x00\x11\x00\x00";
    assert_eq!(replay(&with, bytes).events, [text("Hello"), text("Hello")]);
    // Without takeover there is no window that the second message could refer to.
    let without = deflating(Role::Client, deflate());
    assert_fails(&without, bytes, vec![text("Hello")], 1007, "invalid deflate data");
}

#[test]
fn test_7_2_3_3_a_block_without_compression() {
    let config = deflating(Role::Client, deflate());
    let bytes = b"\xc1\x0b\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00";
    assert_eq!(replay(&config, bytes).events, [text("Hello")]);
}

#[test]
fn test_7_2_3_4_a_block_with_bfinal() {
    for takeover in [false, true] {
        let config = deflating(Role::Client, DeflateConfig { decompress_takeover: takeover, ..deflate() });
        let one = b"\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00";
        assert_eq!(replay(&config, one).events, [text("Hello")]);
        assert_eq!(replay(&config, &one.repeat(3)).events, [text("Hello"), text("Hello"), text("Hello")]);
    }
}

#[test]
fn test_7_2_3_4_a_final_block_at_the_end_of_the_payload() {
    // As zlib's Z_FINISH ends it: nothing follows the block, and the tail is not read into the next stream.
    let finished = squeeze(&[(b"Hello", DeflateFlush::Finish)]);
    let bytes = [masked(FIN | RSV1 | TEXT, &finished), masked(FIN | RSV1 | TEXT, &message(b"next"))].concat();
    for config in [plain(), takeover()] {
        assert_eq!(replay(&config, &bytes).events, [text("Hello"), text("next")]);
    }
}

#[test]
fn test_7_2_3_4_blocks_after_a_final_block_begin_a_new_stream() {
    let finished = squeeze(&[(b"one ", DeflateFlush::Finish)]);
    let payload = [&finished[..], &finished, &message(b"two")].concat();
    let whole = masked(FIN | RSV1 | TEXT, &payload);
    let at = finished.len();
    let fragments = [masked(RSV1 | TEXT, &payload[..at]), masked(0, b""), masked(FIN, &payload[at..])].concat();
    for config in [plain(), takeover()] {
        assert_eq!(replay(&config, &whole).events, [text("one one two")]);
        let expected = Event::Message(Kind::Text, b"one one two".to_vec(), vec![4]);
        assert_eq!(replay(&config, &fragments).events, [expected]);
    }
    // A final block in one frame and an empty last frame.
    let bytes = [masked(RSV1 | TEXT, &finished), masked(FIN, b"")].concat();
    assert_eq!(replay(&plain(), &bytes).events, [text("one ")]);
}

#[test]
fn test_7_2_3_4_a_final_block_forgets_the_window() {
    // The second message refers to the window of the first, which its final block gave up.
    let bytes = [
        masked(FIN | RSV1 | TEXT, b"\xf3\x48\xcd\xc9\xc9\x07\x00"),
        masked(FIN | RSV1 | TEXT, b"\xf2\x00\x11\x00\x00"),
    ];
    assert_fails(&takeover(), &bytes.concat(), vec![text("Hello")], 1007, "invalid deflate data");
}

#[test]
fn test_7_2_3_4_trailing_garbage_fails_1007() {
    let garbage = [&squeeze(&[(b"Hello", DeflateFlush::Finish)])[..], b"\xff\xff\xff\xff"].concat();
    for config in [plain(), takeover()] {
        assert_fails(&config, &masked(FIN | RSV1 | TEXT, &garbage), vec![], 1007, "invalid deflate data");
    }
}

#[test]
fn test_7_2_3_5_two_blocks() {
    let config = deflating(Role::Client, deflate());
    let bytes = b"\xc1\x0d\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00";
    assert_eq!(replay(&config, bytes).events, [text("Hello")]);
}

#[test]
fn test_7_2_3_6_an_empty_message() {
    for config in [plain(), takeover()] {
        assert_eq!(replay(&config, &masked(FIN | RSV1 | TEXT, b"\x00").repeat(2)).events, [text(""), text("")]);
        let mut connection = Connection::new(config);
        for _ in 0..3 {
            connection.send_text("", true, Some(true)).expect("open");
            assert_eq!(output(&mut connection), b"\xc1\x01\x00");
        }
        connection.send_text("x", true, Some(true)).expect("open");
        output(&mut connection);
        connection.send_binary(b"", true, Some(true)).expect("open");
        assert_eq!(output(&mut connection), b"\xc2\x01\x00");
    }
}

#[test]
fn test_7_2_2_payload_that_is_not_deflate_fails_1007() {
    // A block of the reserved type, a stored block with a wrong complement, a distance before the beginning.
    for payload in [&b"\x07"[..], b"\x00\x05\x00\x00\x00Hello", b"\xf2\x00\x11\x00\x00", b"\xff\xff\xff\xff"] {
        for config in [plain(), takeover()] {
            assert_fails(&config, &masked(FIN | RSV1 | BINARY, payload), vec![], 1007, "invalid deflate data");
        }
    }
}

#[test]
fn test_7_2_2_every_way_to_cut_a_compressed_message() {
    let data = json();
    let (first, second) = (message(&data), message(&noise(3000)));
    let bytes = [masked(FIN | RSV1 | TEXT, &first), masked(FIN | RSV1 | BINARY, &second)].concat();
    for config in [plain(), takeover()] {
        let expected = [Event::Message(Kind::Text, data.clone(), vec![]), binary(&noise(3000))];
        assert!(replay(&config, &bytes).events == expected);
    }
}

#[test]
fn test_7_2_2_text_is_validated_after_inflating() {
    let reason = "invalid UTF-8 in a text message";
    for data in [&b"ok\xff"[..], b"\xed\xa0\x80", b"cut\xe2\x82"] {
        assert_fails(&plain(), &masked(FIN | RSV1 | TEXT, &message(data)), vec![], 1007, reason);
        assert_eq!(replay(&plain(), &masked(FIN | RSV1 | BINARY, &message(data))).events, [binary(data)]);
    }
    let full = "\u{20ac}\u{1f600}\u{fc}".repeat(50);
    assert_eq!(replay(&plain(), &masked(FIN | RSV1 | TEXT, &message(full.as_bytes()))).events, [text(&full)]);
}

#[test]
fn test_7_2_2_invalid_text_fails_before_the_message_ends() {
    let mut connection = Connection::new(plain());
    let mut recorder = Recorder::default();
    connection.receive_data(&masked(RSV1 | TEXT, &squeeze(&[(b"\xff", DeflateFlush::SyncFlush)])), &mut recorder);
    assert_eq!(recorder.0, [failure(1007, "invalid UTF-8 in a text message")]);
}

#[test]
fn test_inflated_size_at_the_limit_and_above() {
    for size in [1, 100, 511, 512, 513, 5000, 65_535, 65_536, 65_537, 200_000] {
        let payload = message(&vec![b'x'; size]);
        let bytes = masked(FIN | RSV1 | BINARY, &payload);
        let size = size as u64;
        assert!(replay(&limited(size), &bytes).events == [binary(&vec![b'x'; usize::try_from(size).expect("fits")])]);
        let reason = format!("inflated message over {} bytes", size - 1);
        if payload.len() as u64 <= size - 1 + 64 {
            assert_fails(&limited(size - 1), &bytes, vec![], 1009, &reason);
        }
    }
}

#[test]
fn test_inflated_size_counts_all_fragments_and_streams() {
    let payload = message(&[b'x'; 1000]);
    let at = payload.len() / 2;
    let bytes = [masked(RSV1 | BINARY, &payload[..at]), masked(0, &payload[at..]), masked(FIN, b"\x00")].concat();
    assert_fails(&limited(999), &bytes, vec![], 1009, "inflated message over 999 bytes");
    let events = replay_streaming(&limited(999), &bytes).events;
    assert_eq!(events.last(), Some(&failure(1009, "inflated message over 999 bytes")));
    // The messages after it begin to count at nothing.
    let bytes = masked(FIN | RSV1 | BINARY, &payload).repeat(3);
    assert_eq!(replay(&limited(1000), &bytes).events.len(), 3);
}

#[test]
fn test_a_deflate_bomb_fails_1009_whatever_its_form() {
    let zeros = vec![0; 4 << 20];
    let mut bomb = vec![0; 1 << 16];
    let mut compressor = Deflate::new(9, false, 15);
    compressor.compress(&zeros, &mut bomb, DeflateFlush::SyncFlush).expect("valid state");
    bomb.truncate(usize::try_from(compressor.total_out()).expect("fits"));
    assert!(bomb.len() < 8192, "a thousand to one");
    for config in [plain(), takeover()] {
        let reason = "inflated message over 1048576 bytes";
        let events = read(&config, [&masked(FIN | RSV1 | BINARY, &bomb)[..]], false).events;
        assert_eq!(events, [failure(1009, reason)]);
        let fragments: Vec<u8> = std::iter::once(masked(RSV1 | BINARY, b""))
            .chain(bomb.chunks(100).map(|piece| masked(0, piece)))
            .flatten()
            .collect();
        assert_eq!(read(&config, [&fragments[..]], false).events, [failure(1009, reason)]);
        assert_eq!(read(&config, fragments.chunks(10), false).events, [failure(1009, reason)]);
        let events = read(&config, fragments.chunks(1000), true).events;
        let handed: usize =
            events.iter().map(|event| if let Event::Fragment(_, p, _) = event { p.len() } else { 0 }).sum();
        assert!(handed <= 1 << 20);
        assert_eq!(events.last(), Some(&failure(1009, reason)));
    }
}

#[test]
fn test_compressed_size_from_the_header_alone() {
    // Incompressible data may be a little longer than what it inflates to.
    let fits = 1000 + 1000 / 256 + 64;
    let reason = format!("message of at least {} bytes, permitted 1000", fits + 1);
    assert_fails(&limited(1000), &header(FIN | RSV1 | BINARY, fits + 1, Some(KEY)), vec![], 1009, &reason);
    let mut connection = Connection::new(limited(1000));
    connection.receive_data(&header(FIN | RSV1 | BINARY, fits, Some(KEY)), &mut Recorder::default());
    assert_eq!(connection.state(), State::Open);
    let bytes = [masked(RSV1 | BINARY, &message(b"x")), header(FIN, fits, Some(KEY))].concat();
    let reason = format!("message of at least {} bytes, permitted 1000", fits + message(b"x").len());
    assert_fails(&limited(1000), &bytes, vec![], 1009, &reason);
    // An uncompressed message has no such slack.
    let reason = "message of at least 1001 bytes, permitted 1000";
    assert_fails(&limited(1000), &header(FIN | BINARY, 1001, Some(KEY)), vec![], 1009, reason);
}

#[test]
fn test_7_1_1_no_context_takeover_sends_the_same_bytes_again() {
    let data = json();
    let mut connection = Connection::new(plain());
    connection.send_binary(&data, true, None).expect("open");
    let first = output(&mut connection);
    connection.send_binary(&data, true, None).expect("open");
    assert_eq!(output(&mut connection), first);
    let (byte, payload) = &frames(&first)[0];
    assert_eq!(*byte, FIN | RSV1 | BINARY);
    assert!(payload.len() * 3 < data.len());
    assert_eq!(expand(&mut Inflate::new(false, 15), payload), data);
}

#[test]
fn test_7_1_1_context_takeover_shrinks_what_repeats() {
    let data = json();
    let mut connection = Connection::new(takeover());
    let mut inflater = Inflate::new(false, 15);
    let mut sizes = Vec::new();
    for _ in 0..3 {
        connection.send_binary(&data, true, None).expect("open");
        let frames = frames(&output(&mut connection));
        assert_eq!(expand(&mut inflater, &frames[0].1), data);
        sizes.push(frames[0].1.len());
    }
    assert!(sizes[1] * 5 < sizes[0], "{sizes:?}");
}

#[test]
fn test_7_1_2_window_bits_are_kept() {
    // The same 300 bytes again after 2000 others: out of reach of a small window, and a small inflater can read it.
    let start = noise(300);
    let data = [&start[..], &noise(4000)[300..2300], &start].concat();
    let mut sizes = Vec::new();
    for bits in 9..=15 {
        let config = deflating(Role::Server, DeflateConfig { compress_window_bits: bits, ..deflate() });
        let mut connection = Connection::new(config);
        connection.send_binary(&data, true, Some(true)).expect("open");
        let payload = frames(&output(&mut connection)).remove(0).1;
        assert_eq!(expand(&mut Inflate::new(false, bits), &payload), data, "{bits} bits");
        sizes.push(payload.len());
    }
    assert!(sizes[0] > sizes[6] + 200, "{sizes:?}");
}

#[test]
fn test_7_1_2_every_window_of_the_peer_is_read() {
    let data = json();
    for bits in 8..=15 {
        for decompress_takeover in [false, true] {
            let parameters = DeflateConfig { decompress_window_bits: bits, decompress_takeover, ..deflate() };
            let mut compressor = Deflate::new(6, false, bits.max(9));
            let mut payload = vec![0; 8192];
            compressor.compress(&data, &mut payload, DeflateFlush::SyncFlush).expect("valid state");
            payload.truncate(usize::try_from(compressor.total_out()).expect("fits") - 4);
            let events = replay(&deflating(Role::Server, parameters), &masked(FIN | RSV1 | BINARY, &payload)).events;
            assert_eq!(events, [binary(&data)]);
        }
    }
}

#[test]
fn test_the_threshold_decides_unless_told() {
    let mut connection = Connection::new(plain());
    let mut first_byte = |size: usize, compress| {
        connection.send_binary(&vec![b'x'; size], true, compress).expect("open");
        output(&mut connection)[0]
    };
    assert_eq!(first_byte(1023, None), FIN | BINARY);
    assert_eq!(first_byte(1024, None), FIN | RSV1 | BINARY);
    assert_eq!(first_byte(1, Some(true)), FIN | RSV1 | BINARY);
    assert_eq!(first_byte(5000, Some(false)), FIN | BINARY);
    let mut connection = Connection::new(server());
    connection.send_binary(&[b'x'; 5000], true, Some(true)).expect("open");
    assert_eq!(output(&mut connection)[0], FIN | BINARY, "not negotiated");
}

#[test]
fn test_6_1_sending_fragments() {
    for config in [plain(), takeover()] {
        let mut connection = Connection::new(config);
        let mut inflater = Inflate::new(false, 15);
        for pieces in [&[&b"Hel"[..], b"", b"lo"][..], &[b"a", b"b", b""], &[b"", b""], &[b"", b"x"]] {
            for (i, piece) in pieces.iter().enumerate() {
                connection.send_binary(piece, i + 1 == pieces.len(), None).expect("open");
                connection.send_ping(b"between").expect("open");
            }
            let mut sent = frames(&output(&mut connection));
            sent.retain(|(first, _)| *first != FIN | PING);
            let firsts: Vec<u8> = sent.iter().map(|(first, _)| *first).collect();
            assert_eq!(firsts[0], RSV1 | BINARY);
            assert!(firsts[1..firsts.len() - 1].iter().all(|first| *first == 0));
            assert_eq!(firsts.last(), Some(&FIN));
            let payload: Vec<u8> = sent.into_iter().flat_map(|(_, payload)| payload).collect();
            assert_eq!(expand(&mut inflater, &payload), pieces.concat());
        }
        connection.send_binary(b"x", false, Some(false)).expect("open");
        connection.send_binary(&[b'x'; 5000], true, Some(true)).expect("open");
        assert!(frames(&output(&mut connection)).iter().all(|(first, _)| first & RSV1 == 0));
    }
}

#[test]
fn test_each_fragment_can_be_read_when_it_arrives() {
    let mut ours = Connection::new(plain());
    let mut theirs = Connection::new(deflating(Role::Client, deflate()));
    let mut recorder = Recorder::default();
    theirs.begin_streaming(&mut recorder);
    for (piece, fin) in [("one ", false), ("two ", false), ("three", true)] {
        ours.send_text(piece, fin, None).expect("open");
        theirs.receive_data(&output(&mut ours), &mut recorder);
        assert_eq!(recorder.0.pop(), Some(Event::Fragment(Kind::Text, piece.into(), fin)));
    }
}

#[test]
fn test_connections_of_a_thread_do_not_disturb_each_other() {
    // All of them share the thread's compressor and inflater, in turns inside of each other's messages.
    let mut pairs: Vec<(Connection, Connection, Recorder)> = (0..4)
        .map(|_| {
            let theirs = Connection::new(deflating(Role::Client, deflate()));
            (Connection::new(plain()), theirs, Recorder::default())
        })
        .collect();
    let data = json();
    for piece in data.chunks(500) {
        for (i, (ours, theirs, recorder)) in pairs.iter_mut().enumerate() {
            theirs.send_binary(&[piece, &[u8::try_from(i).expect("few")]].concat(), false, None).expect("open");
            let bytes = output(theirs);
            for half in bytes.chunks(bytes.len() / 2 + 1) {
                ours.receive_data(half, recorder);
            }
        }
    }
    for (i, (ours, theirs, recorder)) in pairs.iter_mut().enumerate() {
        theirs.send_binary(b"end", true, None).expect("open");
        theirs.send_binary(b"short", true, Some(true)).expect("open");
        ours.receive_data(&output(theirs), recorder);
        let marked: Vec<u8> =
            data.chunks(500).flat_map(|piece| [piece, &[u8::try_from(i).expect("few")]].concat()).collect();
        let Event::Message(Kind::Binary, payload, _) = &recorder.0[0] else { panic!("connection {i}") };
        assert!(*payload == [&marked[..], b"end"].concat(), "connection {i}");
        assert_eq!(recorder.0[1], binary(b"short"));
    }
}

#[test]
fn test_both_roles_understand_each_other_at_all_settings() {
    let messages = [json(), noise(70_000), b"x".to_vec(), vec![], vec![7; 300_000], json()];
    for level in [0, 1, 3, 6, 9] {
        for (compress_takeover, decompress_takeover) in [(false, false), (true, false), (false, true), (true, true)] {
            for bits in [9, 12, 15] {
                let ours = DeflateConfig {
                    compress_window_bits: bits,
                    compress_takeover,
                    decompress_takeover,
                    level,
                    mem_level: level.max(1),
                    ..deflate()
                };
                let theirs = DeflateConfig {
                    compress_takeover: decompress_takeover,
                    decompress_takeover: compress_takeover,
                    decompress_window_bits: bits,
                    ..deflate()
                };
                let mut ours = Connection::new(deflating(Role::Server, ours));
                let mut theirs = Connection::new(deflating(Role::Client, theirs));
                for message in &messages {
                    ours.send_binary(message, true, Some(true)).expect("open");
                    assert!(deliver(&mut ours, &mut theirs) == [binary(message)]);
                    theirs.send_binary(message, true, Some(true)).expect("open");
                    assert!(deliver(&mut theirs, &mut ours) == [binary(message)]);
                }
            }
        }
    }
}
