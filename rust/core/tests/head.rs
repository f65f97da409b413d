//! The guard of HTTP heads: tables of RFC 9110 and RFC 9112, each case whole, cut everywhere and with more behind it.

use ferrows_core::{Head, HeadReader, Limits, METHODS};
use std::borrow::Cow;

const ROOMY: Limits = Limits { target: 8190, header_size: 8192, headers: 100 };
const SMALL: Limits = Limits { target: 40, header_size: 100, headers: 5 };

/// What a reader answered: the head with its bytes and what lies behind it, the refusal, or nothing yet.
#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    Head(Head, Vec<u8>, Vec<u8>),
    Refused(u16, String),
    More,
}

fn feed(pieces: &[&[u8]], limits: Limits) -> Verdict {
    let mut reader = HeadReader::new(limits);
    for (number, piece) in pieces.iter().enumerate() {
        match reader.receive_data(piece) {
            Ok(None) => {}
            Ok(Some(found)) => {
                let rest = [found.rest, &pieces[number + 1..].concat()].concat();
                return Verdict::Head(found.head, found.raw.into_owned(), rest);
            }
            Err(error) => return Verdict::Refused(error.status, error.to_string()),
        }
    }
    Verdict::More
}

/// Feed `data` whole, byte by byte and with one cut anywhere, and return the verdict, which is always the same.
fn verdict(data: &[u8], limits: Limits) -> Verdict {
    let whole = feed(&[data], limits);
    let octets: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(feed(&octets, limits), whole, "byte by byte: {}", data.escape_ascii());
    for cut in 0..=data.len() {
        let (first, second) = data.split_at(cut);
        assert_eq!(feed(&[first, second], limits), whole, "cut at {cut}: {}", data.escape_ascii());
    }
    whole
}

fn refused(data: &[u8], limits: Limits, status: u16, message: &str) {
    let expected = Verdict::Refused(status, message.to_owned());
    assert_eq!(verdict(data, limits), expected, "{}", data.escape_ascii());
    let more = [data, b"\x81\x05hello\x00\n"].concat();
    assert_eq!(verdict(&more, limits), expected, "with more behind it: {}", data.escape_ascii());
}

fn taken(data: &[u8], limits: Limits) -> Head {
    let behind = b"\x81\x05hello\x00\n";
    let Verdict::Head(head, raw, rest) = verdict(data, limits) else { panic!("refused: {}", data.escape_ascii()) };
    assert_eq!((&raw[..], &rest[..]), (data, &b""[..]));
    assert_eq!(verdict(&[data, behind].concat(), limits), Verdict::Head(head.clone(), raw, behind.to_vec()));
    head
}

/// A GET of HTTP/1.1 with these header lines.
fn get(lines: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\n{lines}\r\n").into_bytes()
}

/// A POST of HTTP/1.1 with a Host and these header lines.
fn post(lines: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes()
}

fn request(line: &str) -> Vec<u8> {
    format!("{line}\r\nHost: a\r\n\r\n").into_bytes()
}

#[test]
fn rfc9112_2_2_lines_end_with_crlf_and_hold_no_controls() {
    for (data, message) in [
        (&b"GET / HTTP/1.1\nHost: a\n\n"[..], "LF without CR in the head"),
        (b"GET / HTTP/1.1\r\nHost: a\nB: c\r\n\r\n", "LF without CR in the head"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\n", "LF without CR in the head"),
        (b"\n", "LF without CR in the head"),
        (b"GET / HTTP/1.1\r\nHost: a\rB: c\r\n\r\n", "CR without LF in the head"),
        (b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", "CR without LF in the head"),
        (b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", "CR without LF in the head"),
        (b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", "control character 0x00 in the head"),
        (b"GET / HTTP/1.1\r\nHost: a\x1f\r\n\r\n", "control character 0x1f in the head"),
        (b"GET / HTTP/1.1\r\nHost: a\x7f\r\n\r\n", "control character 0x7f in the head"),
        // The octets are judged before the meaning.
        (b"FROB / HTTP/1.2\r\nA : \x0b\r\n\r\n", "control character 0x0b in the head"),
        (b"\x16\x03\x01\x02\x00", "control character 0x16 in the head"),
    ] {
        refused(data, ROOMY, 400, message);
    }
}

#[test]
fn rfc9112_2_2_one_empty_line_before_the_request_line_is_ignored() {
    let data = [b"\r\n", &request("GET / HTTP/1.1")[..]].concat();
    let Verdict::Head(_, raw, _) = verdict(&data, ROOMY) else { panic!("a head") };
    assert_eq!(raw, data[2..]);
    refused(&[b"\r\n", &data[..]].concat(), ROOMY, 400, "empty request line");
}

#[test]
fn rfc9112_3_request_lines_that_are_refused() {
    for line in [
        "GET /",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET  HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET /\u{e4} HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/1.10",
        "GET / HTTP/11",
        "GET / HTTP/a.1",
    ] {
        refused(&request(line), ROOMY, 400, "malformed request line");
    }
    refused(&request("GET / HTTP/1.2"), ROOMY, 505, "HTTP/1.2 is not supported, permitted: 1.0, 1.1");
    refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ROOMY, 505, "HTTP/2.0 is not supported, permitted: 1.0, 1.1");
    refused(&request("get / HTTP/1.1"), ROOMY, 501, "method get is not supported");
    refused(&request("CONNECT a:1 HTTP/1.1"), ROOMY, 501, "method CONNECT is not supported");
    let long = "X".repeat(40);
    refused(&request(&format!("{long} / HTTP/1.1")), ROOMY, 501, &format!("method {} is not supported", &long[..32]));
}

#[test]
fn rfc9110_9_every_known_method_is_taken() {
    for (index, method) in METHODS.iter().enumerate() {
        let data = request(&format!("{method} /a?b HTTP/1.1"));
        let head = taken(&data, ROOMY);
        assert_eq!((head.method(), head.target(&data)), (index, &b"/a?b"[..]), "{method}");
    }
}

#[test]
fn rfc9112_3_2_forms_of_the_target() {
    for target in ["/", "//a", "/a|b{c}^[d]\"<>`\\", "http://a", "HTTPS://a:1/b?c", "ws://[::1]/?d", "Wss://a?b"] {
        let data = request(&format!("GET {target} HTTP/1.1"));
        assert_eq!(taken(&data, ROOMY).target(&data), target.as_bytes());
    }
    taken(&request("OPTIONS * HTTP/1.1"), ROOMY);
    for target in ["a", "*", "http:///", "http://u@a/", "ftp://a/", "http:/a", "http://a:b", "http"] {
        refused(&request(&format!("GET {target} HTTP/1.1")), ROOMY, 400, "malformed request target");
    }
    refused(&request("GET /#a HTTP/1.1"), ROOMY, 400, "fragment in the request target");
}

#[test]
fn rfc9112_3_2_exactly_one_valid_host() {
    refused(&get(""), ROOMY, 400, "no Host header");
    refused(&get("Host: a\r\nhOST: a\r\n"), ROOMY, 400, "several Host headers");
    refused(b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n", ROOMY, 400, "invalid Host header");
    assert!(!taken(b"GET / HTTP/1.0\r\n\r\n", ROOMY).http_1_1);
}

#[test]
fn rfc3986_3_2_2_grammar_of_a_host() {
    for host in [
        "a",
        "a-b.c_d~:",
        "127.0.0.1:80",
        "%41!$&'()*+,;=",
        "a:65535",
        "[::1]",
        "[::ffff:1.2.3.4]:65535",
        "[1:2:3:4:5:6:7::]",
        "[v1.a:b]",
        "[VF.~]:1",
    ] {
        taken(&get(&format!("Host: \t{host} \t\r\n")), ROOMY);
    }
    for host in [
        "",
        ":80",
        "a/b",
        "u@a",
        "a b",
        "a\tb",
        "a?b",
        "a:b",
        "a:65536",
        "a:000080",
        "a:1:2",
        "::1",
        "%4",
        "%4g",
        "\u{e4}",
        "[::1",
        "[]",
        "[::1]a",
        "[::g]",
        "[1:2]",
        "[::1.2.3.04]",
        "[::1%1]",
        "[v1.]",
        "[v.a]",
        "[vg.a]",
        "[v1.a/]",
    ] {
        refused(&get(&format!("Host: {host}\r\n")), ROOMY, 400, "invalid Host header");
    }
}

#[test]
fn rfc9112_5_header_lines_that_are_refused() {
    for (lines, message) in [
        (" A: b\r\n", "folded header line"),
        ("A: b\r\n\tc\r\n", "folded header line"),
        (" \r\n", "folded header line"),
        ("A : b\r\n", "space before the colon of a header"),
        ("A\t: b\r\n", "space before the colon of a header"),
        ("A(: b\r\n", "header name is no token"),
        (": b\r\n", "header name is no token"),
        ("\u{e4}: b\r\n", "header name is no token"),
        ("Abc\r\n", "header line without a colon"),
        // The first line that is wrong decides, and the grammar before the meaning.
        ("Host: b\r\nA(: b\r\n c\r\n", "header name is no token"),
    ] {
        refused(&post(lines), ROOMY, 400, message);
    }
}

#[test]
fn rfc9112_5_1_white_space_around_a_value_is_no_part_of_it() {
    let data = get("Host:a\r\nA:\t b c\t \r\nB:\r\nC: \t \r\nd:\u{e4}\t\"\r\n");
    let head = taken(&data, ROOMY);
    let fields: Vec<_> = head.fields(&data).collect();
    let expected: [(&[u8], &[u8]); 5] =
        [(b"Host", b"a"), (b"A", b"b c"), (b"B", b""), (b"C", b""), (b"d", "\u{e4}\t\"".as_bytes())];
    assert_eq!(fields, expected);
}

#[test]
fn rfc9112_6_1_transfer_encoding() {
    for value in ["chunked", "Chunked", " CHUNKED\t", ", chunked,"] {
        let head = taken(&post(&format!("Transfer-Encoding:{value}\r\n")), ROOMY);
        assert_eq!((head.chunked, head.content_length), (true, 0), "{value}");
    }
    for value in ["", "identity", "chunked, gzip", "xchunked", "chunked;q=1", "\"chunked\""] {
        let message = "the last transfer coding is not chunked";
        refused(&post(&format!("Transfer-Encoding: {value}\r\n")), ROOMY, 400, message);
    }
    for (lines, status, message) in [
        ("Transfer-Encoding: chunked, chunked\r\n", 400, "chunked twice in Transfer-Encoding"),
        ("Transfer-Encoding: chunked\r\ntransfer-encoding: x, chunked\r\n", 400, "chunked twice in Transfer-Encoding"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", 400, "Content-Length beside Transfer-Encoding"),
        ("Transfer-Encoding: gzip, chunked\r\n", 501, "the only transfer coding supported is chunked"),
    ] {
        refused(&post(lines), ROOMY, status, message);
    }
    let data = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    refused(data, ROOMY, 400, "Transfer-Encoding in an HTTP/1.0 request");
}

#[test]
fn rfc9112_6_2_content_length() {
    for (value, length) in [
        ("0", 0),
        ("007", 7),
        ("999999999999999999", 999_999_999_999_999_999),
        ("1000000000000000000", 10_u64.pow(18)),
        ("99999999999999999999999999", 10_u64.pow(18)),
    ] {
        assert_eq!(taken(&post(&format!("Content-Length: {value}\r\n")), ROOMY).content_length, length);
    }
    for value in ["", "-3", "+3", "0x3", "1_0", "3, 3", "3 3", "\u{b2}"] {
        refused(&post(&format!("Content-Length: {value}\r\n")), ROOMY, 400, "invalid Content-Length");
    }
    let twice = post("Content-Length: 3\r\ncontent-length: 3\r\n");
    refused(&twice, ROOMY, 400, "several Content-Length headers");
}

#[test]
fn rfc9112_9_3_persistence() {
    for (version, lines, expected) in [
        ("1.1", "", true),
        ("1.1", "Connection: x, CLOSE\r\n", false),
        ("1.1", "Connection: x\r\nConnection: close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let data = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(taken(data.as_bytes(), ROOMY).keep_alive, expected, "{version} {lines}");
    }
}

#[test]
fn rfc9110_7_8_and_rfc6455_4_1_what_asks_for_a_websocket() {
    let upgrade = "Connection: keep-alive, UPGRADE\r\nUpgrade: h2c, WebSocket\r\n";
    for (method, version, lines, expected) in [
        ("GET", "1.1", upgrade, true),
        ("GET", "1.1", "Upgrade: h2c\r\nConnection: upgrade\r\nUpgrade: websocket\r\n", true),
        ("GET", "1.1", "Upgrade: websocket\r\n", false),
        ("GET", "1.1", "Connection: upgrade\r\n", false),
        ("GET", "1.1", "Connection: upgraded\r\nUpgrade: websocket\r\n", false),
        ("GET", "1.1", "Connection: upgrade\r\nUpgrade: websocket2\r\n", false),
        ("GET", "1.0", upgrade, false),
        ("POST", "1.1", upgrade, false),
    ] {
        let data = format!("{method} / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(taken(data.as_bytes(), ROOMY).websocket, expected, "{data}");
    }
    for framing in ["Content-Length: 1", "Transfer-Encoding: chunked"] {
        let data = get(&format!("Host: a\r\n{upgrade}{framing}\r\n"));
        refused(&data, ROOMY, 400, "a websocket upgrade with a body");
    }
}

#[test]
fn rfc9110_10_1_1_expectations() {
    for (version, value, expected) in [("1.1", "100-Continue", true), ("1.1", "", false), ("1.0", "frob", false)] {
        let data = format!("POST / HTTP/{version}\r\nHost: a\r\nExpect: {value}\r\n\r\n");
        assert_eq!(taken(data.as_bytes(), ROOMY).expect_continue, expected, "{version} {value}");
    }
    let message = "the only expectation supported is 100-continue";
    refused(&post("Expect: 100-continue, frob\r\n"), ROOMY, 417, message);
    refused(&post("Expect: 100-continue\r\nExpect: frob\r\n"), ROOMY, 417, message);
}

#[test]
fn rfc9112_3_limit_of_the_target() {
    let target = format!("/{}", "a".repeat(39));
    taken(&request(&format!("GET {target} HTTP/1.1")), SMALL);
    let message = "request target over 40 bytes";
    refused(&request(&format!("GET {target}a HTTP/1.1")), SMALL, 414, message);
    refused(&request(&format!("GET {} HTTP/1.1", target.repeat(3))), SMALL, 414, message);
    refused(target.repeat(2).as_bytes(), SMALL, 414, message);
}

#[test]
fn rfc9110_5_4_limits_of_the_header_section() {
    let size = "header section over 100 bytes";
    let section = format!("Host: a\r\nA: {}\r\n", "b".repeat(100 - "Host: a\r\nA: \r\n".len()));
    taken(&get(&section), SMALL);
    refused(&get(&section.replace("A: ", "A: b")), SMALL, 431, size);
    refused(&get(&section.repeat(4)), SMALL, 431, size);
    taken(&post(&"A: b\r\n".repeat(4)), SMALL);
    refused(&post(&"A: b\r\n".repeat(5)), SMALL, 431, "over 5 headers");
    refused(&post(&"A: b\r\n".repeat(50)), SMALL, 431, "over 5 headers");
    // What comes first decides.
    refused(&post(&format!("A: \0{}\r\n", "b".repeat(200))), SMALL, 400, "control character 0x00 in the head");
    refused(&post(&format!("A: {}\0\r\n", "b".repeat(200))), SMALL, 431, size);
}

#[test]
fn a_head_in_one_piece_is_not_copied() {
    let data = [b"\r\n", &request("GET / HTTP/1.1")[..], b"more"].concat();
    let found = HeadReader::new(ROOMY).receive_data(&data).expect("valid").expect("whole");
    let Cow::Borrowed(raw) = found.raw else { panic!("a copy") };
    assert_eq!(raw.as_ptr(), data[2..].as_ptr());
    assert_eq!(found.rest, b"more");
}

#[test]
fn every_octet_in_a_value_is_judged_at_every_offset() {
    for octet in 0..=255_u8 {
        let permitted = octet == b'\t' || (octet >= 0x20 && octet != 0x7f);
        for offset in 0..20 {
            let mut value = [b'x'; 20];
            value[offset] = octet;
            let data = [b"GET / HTTP/1.1\r\nHost: a\r\nA: ", &value[..], b"\r\n\r\n"].concat();
            let found = matches!(feed(&[&data], ROOMY), Verdict::Head(..));
            assert_eq!(found, permitted, "0x{octet:02x} at {offset}");
        }
    }
}

#[test]
fn what_was_received_is_kept_for_the_log() {
    let mut reader = HeadReader::new(ROOMY);
    assert!(!reader.started() && reader.received().is_empty());
    assert!(reader.receive_data(b"\r").expect("valid").is_none());
    assert!(reader.started());
    assert!(reader.receive_data(b"\nGET /").expect("valid").is_none());
    assert!(reader.receive_data(b"a\0b").is_err());
    assert_eq!(reader.received(), b"GET /a\0b");
}
