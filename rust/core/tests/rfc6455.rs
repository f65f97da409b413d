//! RFC 6455, case by case, named by section.
#![allow(clippy::decimal_bitwise_operands, reason = "the RFC writes lengths in decimal")]

mod common;

use common::*;
use ferrows_core::{Config, Connection, Error, Kind, MAX_ENDS, Role, State};

fn open() -> Connection {
    Connection::new(server())
}

fn limited(max_size: u64) -> Config {
    Config { max_size: Some(max_size), ..server() }
}

#[test]
fn test_5_1_unmasked_frame_from_a_client_fails_1002() {
    assert_fails(&server(), &unmasked(FIN | TEXT, b"Hello"), vec![], 1002, "unmasked frame from a client");
    assert_fails(&server(), &unmasked(FIN | PING, b""), vec![], 1002, "unmasked frame from a client");
}

#[test]
fn test_5_1_masked_frame_from_a_server_fails_1002() {
    assert_fails(&client(), &masked(FIN | TEXT, b"Hello"), vec![], 1002, "masked frame from a server");
}

#[test]
fn test_5_1_server_does_not_mask_and_client_masks_with_fresh_keys() {
    let mut connection = open();
    connection.send_text("Hello", true, None).expect("open");
    assert_eq!(output(&mut connection), unmasked(FIN | TEXT, b"Hello"));

    let mut connection = Connection::new(client());
    let mut keys = std::collections::HashSet::new();
    for _ in 0..16 {
        connection.send_text("Hello", true, None).expect("open");
        let frame = output(&mut connection);
        assert_eq!(frame[..2], [FIN | TEXT, 0x80 | 5]);
        keys.insert(frame[2..6].to_vec());
        let payload: Vec<u8> = frame[6..].iter().zip(frame[2..6].iter().cycle()).map(|(a, b)| a ^ b).collect();
        assert_eq!(payload, b"Hello");
    }
    assert!(keys.len() > 8, "{} keys in 16 frames", keys.len());
}

#[test]
fn test_5_2_reserved_bits_without_an_extension_fail_1002() {
    for bits in 1..8_u8 {
        for opcode in [0, TEXT, BINARY, CLOSE, PING, PONG, 0x3] {
            let reason = format!("reserved bits 0b{bits:03b}, permitted 0b000");
            assert_fails(&server(), &masked(FIN | bits << 4 | opcode, b""), vec![], 1002, &reason);
        }
    }
}

#[test]
fn test_5_2_undefined_opcodes_fail_1002() {
    for opcode in (0x3..=0x7).chain(0xB..=0xF) {
        for fin in [0, FIN] {
            let reason = format!("opcode 0x{opcode:X} is not defined");
            assert_fails(&server(), &masked(fin | opcode, b""), vec![], 1002, &reason);
        }
    }
}

#[test]
fn test_5_2_payload_of_every_length_form() {
    for length in [0, 1, 125, 126, 127, 0xFFFF, 0x1_0000] {
        let payload = vec![b'x'; length];
        let outcome = replay(&server(), &masked(FIN | BINARY, &payload));
        assert!(outcome.events == [binary(&payload)], "{length}");
        let outcome = replay(&client(), &unmasked(FIN | BINARY, &payload));
        assert!(outcome.events == [binary(&payload)], "{length} unmasked");

        let mut connection = open();
        connection.send_binary(&payload, true, None).expect("open");
        assert!(output(&mut connection) == unmasked(FIN | BINARY, &payload), "{length} sent");
    }
}

#[test]
fn test_5_2_length_not_in_its_shortest_form_fails_1002() {
    for length in [0_u16, 125] {
        let bytes = [&[FIN | BINARY, 0x80 | 126][..], &length.to_be_bytes(), &KEY].concat();
        let reason = format!("payload length {length} is not in its shortest form");
        assert_fails(&server(), &bytes, vec![], 1002, &reason);
    }
    for length in [0_u64, 126, 0xFFFF] {
        let bytes = [&[FIN | BINARY, 0x80 | 127][..], &length.to_be_bytes(), &KEY].concat();
        let reason = format!("payload length {length} is not in its shortest form");
        assert_fails(&server(), &bytes, vec![], 1002, &reason);
    }
}

#[test]
fn test_5_2_length_with_its_top_bit_set_fails_1002() {
    for length in [1_u64 << 63, u64::MAX] {
        let bytes = [&[FIN | BINARY, 0x80 | 127][..], &length.to_be_bytes()].concat();
        assert_fails(&server(), &bytes, vec![], 1002, "payload length has its top bit set");
    }
}

#[test]
fn test_5_2_each_header_byte_is_checked_as_soon_as_it_is_there() {
    let cases: &[(&[u8], &str)] = &[
        (&[0xF1], "reserved bits 0b111, permitted 0b000"),
        (&[0x83], "opcode 0x3 is not defined"),
        (&[PING], "fragmented control frame"),
        (&[FIN], "continuation frame outside a message"),
        (&[FIN | TEXT, 0x00], "unmasked frame from a client"),
        (&[FIN | PING, 0x80 | 126], "control frame over 125 bytes"),
        (&[FIN | PING, 0x80 | 127], "control frame over 125 bytes"),
        (&[FIN | TEXT, 0x80 | 126, 0, 125], "payload length 125 is not in its shortest form"),
    ];
    for (bytes, reason) in cases {
        assert_fails(&server(), bytes, vec![], 1002, reason);
    }
    assert_fails(&limited(10), &[FIN | TEXT, 0x80 | 11], vec![], 1009, "message of at least 11 bytes, permitted 10");
}

#[test]
fn test_5_3_unmasking_does_not_depend_on_where_reads_end() {
    let payload = noise(300);
    for key in [[0; 4], [0xFF; 4], [1, 2, 3, 4]] {
        let mut bytes = header(FIN | BINARY, payload.len(), Some(key));
        bytes.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]));
        assert_eq!(replay(&server(), &bytes).events, [binary(&payload)]);
    }
}

#[test]
fn test_5_4_fragments_make_one_message_with_their_ends() {
    let bytes = [masked(TEXT, b"Hel"), masked(0, b"lo "), masked(FIN, b"you")].concat();
    assert_eq!(replay(&server(), &bytes).events, [Event::Message(Kind::Text, b"Hello you".to_vec(), vec![3, 6])]);
}

#[test]
fn test_5_4_ends_leave_out_empty_fragments_and_the_last() {
    let cases: &[(&[&[u8]], &[u32])] = &[
        (&[b"", b""], &[]),
        (&[b"ab", b""], &[]),
        (&[b"", b"ab"], &[]),
        (&[b"ab", b"", b"", b"c", b""], &[2]),
        (&[b"a", b"b", b"c"], &[1, 2]),
    ];
    for (fragments, ends) in cases {
        let last = fragments.len() - 1;
        let bytes: Vec<u8> = fragments
            .iter()
            .enumerate()
            .flat_map(|(i, payload)| masked(if i == last { FIN } else { 0 } | if i == 0 { BINARY } else { 0 }, payload))
            .collect();
        let expected = Event::Message(Kind::Binary, fragments.concat(), ends.to_vec());
        assert_eq!(replay(&server(), &bytes).events, [expected]);
    }
}

#[test]
fn test_5_4_ends_in_text_are_at_characters() {
    // U+20AC is e2 82 ac. The second fragment ends inside the character that the first one began.
    let bytes =
        [masked(TEXT, b"a\xe2"), masked(0, b"\x82"), masked(0, b"\xacb\xe2"), masked(FIN, b"\x82\xac")].concat();
    let expected = Event::Message(Kind::Text, "a\u{20ac}b\u{20ac}".into(), vec![1, 5]);
    assert_eq!(replay(&server(), &bytes).events, [expected]);
}

#[test]
fn test_5_4_ends_are_bounded_and_later_fragments_merge() {
    let mut bytes = masked(BINARY, b"x");
    for _ in 0..MAX_ENDS + 10 {
        bytes.extend(masked(0, b"x"));
    }
    bytes.extend(masked(FIN, b"x"));
    let events = read(&server(), [&bytes[..]], false).events;
    let ends: Vec<u32> = (1..=512).collect();
    assert!(events == [Event::Message(Kind::Binary, vec![b'x'; MAX_ENDS + 12], ends)]);
}

#[test]
fn test_5_4_control_frames_between_fragments() {
    let bytes = [
        masked(TEXT, b"Hel"),
        masked(FIN | PING, b"1"),
        masked(FIN | PONG, b"2"),
        masked(FIN, b"lo"),
        masked(FIN | TEXT, b"next"),
    ]
    .concat();
    let outcome = replay(&server(), &bytes);
    let message = Event::Message(Kind::Text, b"Hello".to_vec(), vec![3]);
    assert_eq!(outcome.events, [Event::Ping(b"1".to_vec()), Event::Pong(b"2".to_vec()), message, text("next")]);
    assert_eq!(outcome.output, unmasked(FIN | PONG, b"1"));
}

#[test]
fn test_5_4_continuation_outside_a_message_fails_1002() {
    let reason = "continuation frame outside a message";
    assert_fails(&server(), &masked(FIN, b"x"), vec![], 1002, reason);
    assert_fails(&server(), &masked(0, b""), vec![], 1002, reason);
    let bytes = [masked(FIN | TEXT, b"a"), masked(FIN, b"b")].concat();
    assert_fails(&server(), &bytes, vec![text("a")], 1002, reason);
}

#[test]
fn test_5_4_data_frame_inside_a_message_fails_1002() {
    for first in [TEXT, BINARY, FIN | TEXT, FIN | BINARY] {
        let bytes = [masked(TEXT, b"a"), masked(first, b"b")].concat();
        assert_fails(&server(), &bytes, vec![], 1002, "data frame inside a fragmented message");
    }
}

#[test]
fn test_5_4_empty_frames_and_messages_are_messages() {
    assert_eq!(replay(&server(), &masked(FIN | TEXT, b"")).events, [text("")]);
    assert_eq!(replay(&server(), &masked(FIN | BINARY, b"")).events, [binary(b"")]);
    let bytes = [masked(TEXT, b""), masked(0, b""), masked(FIN, b"")].concat();
    assert_eq!(replay(&server(), &bytes).events, [text("")]);
    assert_eq!(replay(&limited(0), &bytes).events, [text("")]);
}

#[test]
fn test_5_4_sending_fragments() {
    let mut connection = open();
    connection.send_text("Hel", false, None).expect("open");
    assert_eq!(connection.send_binary(b"x", true, None), Err(Error::KindMixed(Kind::Text)));
    connection.send_ping(b"p").expect("control frames go between");
    connection.send_text("", false, None).expect("same kind");
    connection.send_text("lo", true, None).expect("same kind");
    connection.send_binary(b"next", true, None).expect("the message is over");
    let expected = [
        unmasked(TEXT, b"Hel"),
        unmasked(FIN | PING, b"p"),
        unmasked(0, b""),
        unmasked(FIN, b"lo"),
        unmasked(FIN | BINARY, b"next"),
    ];
    assert_eq!(output(&mut connection), expected.concat());
}

#[test]
fn test_5_5_control_frame_over_125_bytes_fails_1002() {
    for opcode in [CLOSE, PING, PONG] {
        for length in [126, 0x1_0000] {
            assert_fails(
                &server(),
                &masked(FIN | opcode, &vec![0; length]),
                vec![],
                1002,
                "control frame over 125 bytes",
            );
        }
    }
    let payload = vec![b'x'; 125];
    assert_eq!(replay(&server(), &masked(FIN | PING, &payload)).events, [Event::Ping(payload)]);
}

#[test]
fn test_5_5_fragmented_control_frame_fails_1002() {
    for opcode in [CLOSE, PING, PONG] {
        assert_fails(&server(), &masked(opcode, b""), vec![], 1002, "fragmented control frame");
    }
}

#[test]
fn test_5_5_sending_over_125_bytes_is_the_callers_error() {
    let mut connection = open();
    let long = [b'x'; 126];
    assert_eq!(connection.send_ping(&long), Err(Error::ControlPayloadTooLong(126)));
    assert_eq!(connection.send_pong(&long), Err(Error::ControlPayloadTooLong(126)));
    connection.send_ping(&long[..125]).expect("fits");
    connection.send_pong(b"").expect("fits");
    assert_eq!(output(&mut connection), [unmasked(FIN | PING, &long[..125]), unmasked(FIN | PONG, b"")].concat());
    assert_eq!(connection.state(), State::Open);
}

#[test]
fn test_5_5_1_close_is_answered_once_with_its_code() {
    let bytes = masked_close(1001, b"going");
    let outcome = replay(&server(), &[bytes.clone(), bytes].concat());
    assert_eq!(outcome.events, [Event::Close(1001, "going".to_owned())]);
    assert_eq!(outcome.output, unmasked(FIN | CLOSE, &1001_u16.to_be_bytes()));
    assert_eq!(outcome.state, State::Closed);
}

#[test]
fn test_5_5_1_close_without_a_body_is_1005_and_answered_without_one() {
    let outcome = replay(&server(), &masked(FIN | CLOSE, b""));
    assert_eq!(outcome.events, [Event::Close(1005, String::new())]);
    assert_eq!(outcome.output, unmasked(FIN | CLOSE, b""));
}

#[test]
fn test_5_5_1_close_body_of_one_byte_fails_1002() {
    assert_fails(&server(), &masked(FIN | CLOSE, b"\x03"), vec![], 1002, "close frame body of 1 byte");
}

#[test]
fn test_5_5_1_close_reason_that_is_not_utf8_fails_1007() {
    assert_fails(&server(), &masked_close(1000, b"\xff"), vec![], 1007, "invalid UTF-8 in a close reason");
    assert_fails(&server(), &masked_close(1000, b"\xe2\x82"), vec![], 1007, "invalid UTF-8 in a close reason");
    assert_fails(&server(), &masked_close(999, b"\xff"), vec![], 1002, "close code 999 is not permitted");
}

#[test]
fn test_5_5_1_pending_close_lets_sends_pass_until_the_output_is_taken() {
    let mut connection = open();
    let mut recorder = Recorder::default();
    connection.receive_data(&masked_close(1000, b""), &mut recorder);
    assert_eq!(connection.state(), State::Closing);
    assert!(connection.has_pending_close());
    assert_eq!(connection.close_sent(), None);
    connection.send_text("last words", true, None).expect("the Close is pending");
    connection.send_close(Some(4000), "mine").expect("a second Close is not sent");
    assert_eq!(connection.pending_output(), 12);

    let mut out = Vec::new();
    connection.take_output_before_close(&mut out);
    assert_eq!(out, unmasked(FIN | TEXT, b"last words"));
    assert!(connection.has_pending_close());
    connection.send_ping(b"").expect("the Close is still pending");
    assert_eq!(
        output(&mut connection),
        [unmasked(FIN | PING, b""), unmasked(FIN | CLOSE, &1000_u16.to_be_bytes())].concat()
    );
    assert_eq!(connection.state(), State::Closed);
    assert!(!connection.has_pending_close());
    assert_eq!(connection.close_sent().map(|frame| frame.code), Some(1000));
    assert_eq!(connection.send_text("x", true, None), Err(Error::Closed));
    assert_eq!(connection.send_pong(b""), Err(Error::Closed));
    assert_eq!(connection.send_close(None, ""), Ok(()));
    assert!(output(&mut connection).is_empty());
}

#[test]
fn test_5_5_1_nothing_is_sent_after_our_close_but_messages_are_read() {
    let mut connection = open();
    connection.send_close(Some(1000), "bye").expect("open");
    connection.send_close(Some(1001), "again").expect("no second Close");
    assert_eq!(connection.state(), State::Closing);
    assert_eq!(connection.send_text("x", true, None), Err(Error::Closed));
    let mut recorder = Recorder::default();
    let bytes = [masked(FIN | TEXT, b"late"), masked(FIN | PING, b"p"), masked_close(1000, b"")].concat();
    connection.receive_data(&bytes, &mut recorder);
    connection.receive_data(&masked(FIN | TEXT, b"too late"), &mut recorder);
    assert_eq!(recorder.0, [text("late"), Event::Ping(b"p".to_vec()), Event::Close(1000, String::new())]);
    assert_eq!(connection.state(), State::Closed);
    assert_eq!(output(&mut connection), unmasked(FIN | CLOSE, b"\x03\xe8bye"));
}

#[test]
fn test_5_5_1_failure_after_our_close_sends_nothing_more() {
    let mut connection = open();
    connection.send_close(None, "").expect("open");
    let mut recorder = Recorder::default();
    connection.receive_data(&masked(FIN | 0x3, b""), &mut recorder);
    assert_eq!(recorder.0, [failure(1002, "opcode 0x3 is not defined")]);
    assert_eq!(connection.failure(), Some(&Error::UnknownOpcode(3)));
    assert_eq!(connection.state(), State::Closed);
    assert_eq!(output(&mut connection), unmasked(FIN | CLOSE, b""));
}

#[test]
fn test_5_5_1_what_a_caller_may_close_with() {
    let mut connection = open();
    for code in (0..1000).chain([1004, 1005, 1006, 1015, 2999, 5000, u16::MAX]) {
        assert_eq!(connection.send_close(Some(code), ""), Err(Error::CloseCodeNotSendable(code)));
    }
    assert_eq!(connection.send_close(None, "why"), Err(Error::ReasonWithoutCode));
    assert_eq!(connection.send_close(Some(1000), &"x".repeat(124)), Err(Error::ReasonTooLong(124)));
    assert_eq!(connection.state(), State::Open);
    connection.send_close(Some(1000), &"x".repeat(123)).expect("fits");
    assert_eq!(output(&mut connection).len(), 2 + 125);
}

#[test]
fn test_5_5_2_ping_is_answered_with_its_payload() {
    let outcome = replay(&server(), &[masked(FIN | PING, b""), masked(FIN | PING, b"Hello")].concat());
    assert_eq!(outcome.events, [Event::Ping(vec![]), Event::Ping(b"Hello".to_vec())]);
    assert_eq!(outcome.output, [unmasked(FIN | PONG, b""), unmasked(FIN | PONG, b"Hello")].concat());
}

#[test]
fn test_5_5_3_only_the_latest_of_the_held_pings_is_answered() {
    let mut connection = open();
    let mut recorder = Recorder::default();
    connection.hold_pongs(true);
    connection.receive_data(&[masked(FIN | PING, b"1"), masked(FIN | PING, b"2")].concat(), &mut recorder);
    assert_eq!(recorder.0.len(), 2);
    assert_eq!(connection.pending_output(), 0);
    connection.hold_pongs(false);
    assert_eq!(output(&mut connection), unmasked(FIN | PONG, b"2"));
    connection.hold_pongs(true);
    connection.hold_pongs(false);
    assert_eq!(connection.pending_output(), 0);
}

#[test]
fn test_5_5_3_a_held_pong_does_not_follow_our_close() {
    let mut connection = open();
    connection.hold_pongs(true);
    connection.receive_data(&masked(FIN | PING, b"1"), &mut Recorder::default());
    connection.send_close(None, "").expect("open");
    connection.hold_pongs(false);
    assert_eq!(output(&mut connection), unmasked(FIN | CLOSE, b""));
}

#[test]
fn test_5_5_3_unsolicited_pong_is_not_answered() {
    let outcome = replay(&server(), &masked(FIN | PONG, b"x"));
    assert_eq!(outcome.events, [Event::Pong(b"x".to_vec())]);
    assert!(outcome.output.is_empty());
}

#[test]
fn test_5_7_examples() {
    // A single-frame unmasked text message, and the same masked.
    let outcome = replay(&client(), b"\x81\x05\x48\x65\x6c\x6c\x6f");
    assert_eq!(outcome.events, [text("Hello")]);
    let outcome = replay(&server(), b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    assert_eq!(outcome.events, [text("Hello")]);
    // A fragmented unmasked text message.
    let outcome = replay(&client(), b"\x01\x03\x48\x65\x6c\x80\x02\x6c\x6f");
    assert_eq!(outcome.events, [Event::Message(Kind::Text, b"Hello".to_vec(), vec![3])]);
    // An unmasked ping and the masked answer to one.
    let outcome = replay(&client(), b"\x89\x05\x48\x65\x6c\x6c\x6f\x8a\x00");
    assert_eq!(outcome.events, [Event::Ping(b"Hello".to_vec()), Event::Pong(vec![])]);
    let outcome = replay(&server(), b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    assert_eq!(outcome.events, [Event::Pong(b"Hello".to_vec())]);
}

#[test]
fn test_7_1_5_end_without_a_close_is_abnormal() {
    let mut connection = open();
    let mut recorder = Recorder::default();
    connection.receive_data(&masked(FIN | TEXT, b"cut")[..7], &mut recorder);
    connection.receive_eof();
    assert_eq!(connection.state(), State::Closed);
    assert_eq!(connection.close_received(), None);
    assert!(!connection.has_pending_close());
    connection.receive_data(b"more", &mut recorder);
    assert_eq!(recorder.0, []);
    assert_eq!(connection.send_text("x", true, None), Err(Error::Closed));
    assert_eq!(connection.send_close(None, ""), Err(Error::Closed));
    connection.fail(1011, "late");
    assert_eq!(connection.failure(), None);
}

#[test]
fn test_7_1_5_end_after_the_peers_close_leaves_the_answer_pending() {
    let mut connection = open();
    connection.receive_data(&masked_close(1000, b""), &mut Recorder::default());
    connection.receive_eof();
    assert_eq!(connection.state(), State::Closed);
    assert_eq!(output(&mut connection), unmasked(FIN | CLOSE, b"\x03\xe8"));
}

#[test]
fn test_7_1_7_the_caller_can_fail_the_connection() {
    let mut connection = open();
    let mut recorder = Recorder::default();
    connection.send_text("before", true, None).expect("open");
    connection.fail(1011, &"\u{20ac}".repeat(50));
    assert_eq!(connection.state(), State::Closing);
    connection.fail(1008, "second");
    connection.receive_data(&masked(FIN | TEXT, b"ignored"), &mut recorder);
    assert_eq!(recorder.0, []);
    let error = connection.failure().expect("failed").clone();
    assert_eq!((error.close_code(), error.to_string()), (Some(1011), "\u{20ac}".repeat(41)));
    let close = [b"\x03\xf3", "\u{20ac}".repeat(41).as_bytes()].concat();
    assert_eq!(output(&mut connection), [unmasked(FIN | TEXT, b"before"), unmasked(FIN | CLOSE, &close)].concat());
    assert_eq!(connection.state(), State::Closed);
}

#[test]
fn test_7_4_1_failing_with_a_code_that_is_never_sent_sends_no_close() {
    for code in [1005, 1006, 1015] {
        let mut connection = open();
        connection.fail(code, "lost");
        assert_eq!(connection.state(), State::Closed);
        assert!(output(&mut connection).is_empty());
        assert_eq!(connection.failure().and_then(Error::close_code), Some(code));
    }
}

#[test]
fn test_7_4_2_close_codes_on_receipt() {
    for code in (0..1100).chain(2990..3010).chain(4990..5010).chain([u16::MAX]) {
        let bytes = masked_close(code, b"");
        if matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            assert_eq!(replay(&server(), &bytes).events, [Event::Close(code, String::new())]);
        } else {
            assert_fails(&server(), &bytes, vec![], 1002, &format!("close code {code} is not permitted"));
        }
    }
}

#[test]
fn test_7_4_1_too_big_fails_1009_from_the_header_alone() {
    let cases = [
        (10, header(FIN | BINARY, 11, Some(KEY)), 11),
        (300, header(FIN | TEXT, 301, Some(KEY)), 301),
        (1 << 20, header(BINARY, 1 << 40, Some(KEY)), 1_u64 << 40),
        (0, header(FIN | TEXT, 1, Some(KEY)), 1),
        (10, [masked(TEXT, b"123456"), header(0, 5, Some(KEY))].concat(), 11),
        (10, [masked(TEXT, b"123456"), header(FIN, (1 << 62) + 5, Some(KEY))].concat(), (1 << 62) + 11),
    ];
    for (max, bytes, at_least) in cases {
        let reason = format!("message of at least {at_least} bytes, permitted {max}");
        assert_fails(&limited(max), &bytes, vec![], 1009, &reason);
    }
    assert_eq!(replay(&limited(10), &masked(FIN | TEXT, b"1234567890")).events, [text("1234567890")]);
    let bytes = [masked(TEXT, b"123456"), masked(FIN, b"7890"), masked(FIN | TEXT, b"1234567890")].concat();
    let fragmented = Event::Message(Kind::Text, b"1234567890".to_vec(), vec![6]);
    assert_eq!(replay(&limited(10), &bytes).events, [fragmented, text("1234567890")]);
}

#[test]
fn test_7_4_1_without_a_limit_lengths_do_not_overflow() {
    let unlimited = Config { max_size: None, ..server() };
    let half = usize::try_from(i64::MAX).expect("64 bits");
    let mut connection = Connection::new(unlimited);
    let mut recorder = Recorder::default();
    connection.receive_data(&header(BINARY, half, Some(KEY)), &mut recorder);
    connection.receive_data(&[0; 1000], &mut recorder);
    assert_eq!(connection.state(), State::Open);
}

#[test]
fn test_8_1_valid_text_across_frames() {
    let full = "\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}".as_bytes();
    for at in 0..=full.len() {
        let bytes = [masked(TEXT, &full[..at]), masked(FIN, &full[at..])].concat();
        let events = replay(&server(), &bytes).events;
        assert!(matches!(&events[..], [Event::Message(Kind::Text, payload, _)] if payload == full), "{events:?}");
    }
}

#[test]
fn test_8_1_invalid_text_fails_1007() {
    let invalid: &[&[u8]] = &[
        b"\x80",
        b"\xc0\x80",
        b"\xe0\x9f\xbf",
        b"\xed\xa0\x80",
        b"\xf0\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xff",
        b"ok\xe2\x28\xa1",
        b"cut\xe2\x82",
        b"cut\xf0\x9f\x98",
    ];
    let reason = "invalid UTF-8 in a text message";
    for payload in invalid {
        assert_fails(&server(), &masked(FIN | TEXT, payload), vec![], 1007, reason);
        for at in 0..=payload.len() {
            let bytes = [masked(TEXT, &payload[..at]), masked(FIN, &payload[at..])].concat();
            assert_fails(&server(), &bytes, vec![], 1007, reason);
        }
        assert_eq!(replay(&server(), &masked(FIN | BINARY, payload)).events, [binary(payload)]);
    }
}

#[test]
fn test_8_1_invalid_text_fails_at_the_first_impossible_byte() {
    let cases: &[(&[u8], usize)] = &[
        (b"abc\xffdef", 4),
        (b"\xed\xa0\x80rest", 2),
        (b"\xf4\x90\x80\x80", 2),
        (b"\xc0\x80", 1),
        (b"\xe2\x82abc", 3),
        (b"\xf0\x9f\x98\x80\x80", 5),
    ];
    for (payload, fatal) in cases {
        let bytes = masked(TEXT, payload);
        let start = bytes.len() - payload.len();
        for size in start..start + fatal {
            assert_eq!(read(&server(), [&bytes[..size]], false).events, [], "{payload:02x?} {size}");
        }
        assert_fails(&server(), &bytes[..start + fatal], vec![], 1007, "invalid UTF-8 in a text message");
    }
}

#[test]
fn test_8_1_invalid_text_counts_before_the_next_header() {
    let bytes = [masked(TEXT, b"\xff"), masked(FIN | 0x7, b"")].concat();
    assert_fails(&server(), &bytes, vec![], 1007, "invalid UTF-8 in a text message");
    let bytes = [masked(FIN | TEXT, b"\xff"), masked(FIN | 0x7, b"")].concat();
    assert_fails(&server(), &bytes, vec![], 1007, "invalid UTF-8 in a text message");
}

#[test]
fn test_many_messages_in_one_chunk_stay_in_order() {
    let mut bytes = Vec::new();
    let mut expected = Vec::new();
    for i in 0..100 {
        bytes.extend(masked(FIN | TEXT, format!("message {i}").as_bytes()));
        expected.push(text(&format!("message {i}")));
        if i % 7 == 0 {
            bytes.extend(masked(FIN | PONG, b"p"));
            expected.push(Event::Pong(b"p".to_vec()));
        }
    }
    assert_eq!(replay(&server(), &bytes).events, expected);
}

#[test]
fn test_streaming_the_next_message_gives_a_fragment_a_frame() {
    let bytes = [
        masked(TEXT, b"a\xe2"),
        masked(0, b""),
        masked(FIN | PING, b"p"),
        masked(0, b"\x82"),
        masked(0, b"\xacb"),
        masked(FIN, b""),
        masked(FIN | TEXT, b"whole again"),
    ]
    .concat();
    let fragment = |payload: &str, fin| Event::Fragment(Kind::Text, payload.into(), fin);
    let expected = [
        fragment("a", false),
        Event::Ping(b"p".to_vec()),
        fragment("\u{20ac}b", false),
        fragment("", true),
        text("whole again"),
    ];
    assert_eq!(replay_streaming(&server(), &bytes).events, expected);
}

#[test]
fn test_streaming_a_single_frame_message() {
    let bytes = [masked(FIN | BINARY, b"one"), masked(FIN | BINARY, b"two")].concat();
    let expected = [Event::Fragment(Kind::Binary, b"one".to_vec(), true), binary(b"two")];
    assert_eq!(replay_streaming(&server(), &bytes).events, expected);
}

#[test]
fn test_streaming_hands_over_what_is_assembled_already() {
    let frames = [masked(TEXT, b"ab"), masked(0, b"c\xe2"), masked(0, b"\x82\xacdef"), masked(FIN, b"gh")];
    let bytes = frames.concat();
    let fragment = |payload: &str, fin| Event::Fragment(Kind::Text, payload.into(), fin);
    let expected =
        [fragment("ab", false), fragment("c", false), fragment("\u{20ac}def", false), fragment("gh", true), text("x")];
    // Whenever it begins, the fragments are the same.
    for at in 1..bytes.len() {
        let mut connection = open();
        let mut recorder = Recorder::default();
        connection.receive_data(&bytes[..at], &mut recorder);
        assert_eq!(recorder.0, []);
        connection.begin_streaming(&mut recorder);
        connection.begin_streaming(&mut recorder);
        let whole_frames = frames.iter().scan(0, |end, frame| {
            *end += frame.len();
            Some(*end)
        });
        assert_eq!(recorder.0.len(), whole_frames.filter(|end| *end <= at).count(), "begun at {at}");
        connection.receive_data(&bytes[at..], &mut recorder);
        connection.receive_data(&masked(FIN | TEXT, b"x"), &mut recorder);
        assert_eq!(recorder.0, expected, "begun at {at}");
    }
}

#[test]
fn test_streaming_merges_fragments_beyond_the_recorded_ends() {
    let mut connection = open();
    let mut recorder = Recorder::default();
    connection.receive_data(&masked(BINARY, b"x"), &mut recorder);
    for _ in 1..MAX_ENDS + 5 {
        connection.receive_data(&masked(0, b"x"), &mut recorder);
    }
    connection.begin_streaming(&mut recorder);
    assert_eq!(recorder.0.len(), MAX_ENDS + 1);
    assert_eq!(recorder.0.last(), Some(&Event::Fragment(Kind::Binary, b"xxxxx".to_vec(), false)));
    connection.receive_data(&masked(FIN, b"end"), &mut recorder);
    assert_eq!(recorder.0.last(), Some(&Event::Fragment(Kind::Binary, b"end".to_vec(), true)));
}

#[test]
fn test_streaming_keeps_the_limits() {
    let bytes = [masked(BINARY, b"123456"), header(FIN, 5, Some(KEY))].concat();
    let events = replay_streaming(&limited(10), &bytes).events;
    let fragment = Event::Fragment(Kind::Binary, b"123456".to_vec(), false);
    assert_eq!(events, [fragment, failure(1009, "message of at least 11 bytes, permitted 10")]);
    let events = replay_streaming(&server(), &[masked(TEXT, b"ok\xe2"), masked(FIN, b"")].concat()).events;
    let fragment = Event::Fragment(Kind::Text, b"ok".to_vec(), false);
    assert_eq!(events, [fragment, failure(1007, "invalid UTF-8 in a text message")]);
}

#[test]
fn test_both_roles_understand_each_other() {
    let mut ours = Connection::new(server());
    let mut theirs = Connection::new(Config { role: Role::Client, ..server() });
    theirs.send_text("gr\u{fc}\u{df}", true, None).expect("open");
    theirs.send_binary(&noise(70_000), true, None).expect("open");
    theirs.send_ping(b"?").expect("open");
    let events = deliver(&mut theirs, &mut ours);
    assert!(events == [text("gr\u{fc}\u{df}"), binary(&noise(70_000)), Event::Ping(b"?".to_vec())]);
    ours.send_close(Some(1000), "done").expect("open");
    assert_eq!(deliver(&mut ours, &mut theirs), [Event::Pong(b"?".to_vec()), Event::Close(1000, "done".to_owned())]);
    assert_eq!(deliver(&mut theirs, &mut ours), [Event::Close(1000, String::new())]);
    assert_eq!((ours.state(), theirs.state()), (State::Closed, State::Closed));
}

#[test]
fn test_output_is_borrowed_and_cleared() {
    let mut connection = open();
    connection.send_text("a", true, None).expect("open");
    assert_eq!(connection.output(), unmasked(FIN | TEXT, b"a"));
    connection.fail(1011, "x");
    assert_eq!(connection.output(), unmasked(FIN | TEXT, b"a"));
    connection.flush_close();
    assert_eq!(connection.output().len(), 3 + 5);
    connection.clear_output();
    assert_eq!(connection.pending_output(), 0);
    let mut out = b"kept".to_vec();
    connection.take_output(&mut out);
    assert_eq!(out, b"kept");
}

#[test]
fn test_a_connection_may_move_between_threads() {
    fn movable<T: Send + Sync>() {}
    movable::<Connection>();
}

#[test]
fn test_5_2_the_end_of_a_frame_is_known_from_its_header_on() {
    for length in [0, 5, 125, 126, 300, 65_535, 65_536, 100_000] {
        let frame = masked(FIN | BINARY, &vec![7; length]);
        let data = [&frame[..], &masked(FIN | BINARY, b"next")].concat();
        let mut connection = Connection::new(server());
        assert_eq!(connection.frame_end(&data), frame.len(), "{length}");
        for cut in [1, 2, 5, 8, 14, length / 2 + 7, frame.len() - 1].into_iter().filter(|cut| *cut < frame.len()) {
            assert!(matches!(connection.frame_end(&frame[..cut]), end if end == 0 || end == cut), "{length}, {cut}");
            let mut begun = Connection::new(server());
            begun.receive_data(&data[..cut], &mut Recorder::default());
            let known = begun.frame_end(&data[cut..]);
            assert!(known == 0 && cut < 14 || known == frame.len() - cut, "{length}, cut at {cut}: {known}");
        }
        connection.receive_data(&data, &mut Recorder::default());
        assert_eq!(connection.frame_end(b""), 0);
    }
}

#[test]
fn test_5_2_a_header_that_breaks_a_rule_has_no_end() {
    assert_eq!(Connection::new(server()).frame_end(&unmasked(FIN | BINARY, b"four")), 0);
    assert_eq!(Connection::new(server()).frame_end(&header(FIN | BINARY, 2 << 20, Some(KEY))), 0);
}
