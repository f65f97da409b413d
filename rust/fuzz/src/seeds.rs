//! The seeds: `tests/vectors/frames.json` as each target reads it, and heads by hand.
//!
//! A few of them are in `rust/fuzz/seeds`, so that they can be looked at and `cargo fuzz` finds them; `cargo run --bin seeds`
//! wrote these, and a test holds them to it.

use crate::wire::{self, FIN, TEXT};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    id: String,
    rule: u32,
    client: bool,
    deflate: bool,
    takeover: bool,
    max_size: Option<u64>,
    input: String,
}

/// Every seed of a target, by name.
pub fn all(target: &str) -> BTreeMap<String, Vec<u8>> {
    match target {
        "frame" => vectors().iter().map(|vector| (vector.id.clone(), vector.for_frame())).collect(),
        "deflate" => deflates(),
        "connection" => {
            let vectors = vectors();
            let lives = vectors.iter().map(|vector| (vector.id.clone(), vector.for_connection()));
            lives.chain(lives_by_hand()).collect()
        }
        "head" => heads(),
        other => panic!("no target {other:?}"),
    }
}

/// The seeds that are committed: the first vector of each rule, and what is made by hand.
pub fn committed(target: &str) -> BTreeMap<String, Vec<u8>> {
    let mut first = BTreeMap::new();
    for vector in vectors() {
        first.entry(vector.rule).or_insert(vector.id);
    }
    let chosen: Vec<String> = first.into_values().collect();
    let mut seeds = all(target);
    let by_hand = ["life-0-0", "life-0-3d", "deflate-", "head-0"];
    seeds.retain(|name, _| chosen.contains(name) || by_hand.iter().any(|prefix| name.starts_with(prefix)));
    seeds.retain(|_, bytes| bytes.len() <= 1024);
    seeds
}

fn vectors() -> Vec<Vector> {
    let vectors: Vectors = serde_json::from_str(include_str!("../../../tests/vectors/frames.json")).expect("JSON");
    vectors.cases.into_iter().filter(|vector| vector.input.len() < 2 * 8000).collect()
}

impl Vector {
    fn bytes(&self) -> Vec<u8> {
        let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16).expect("hexadecimal")).expect("below 16");
        self.input.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    }

    /// The place of the limit, or of the nearest, in the target's choice.
    fn limit(&self, choice: &[Option<u64>]) -> u8 {
        let at = choice.iter().position(|size| *size == self.max_size).unwrap_or_default();
        u8::try_from(at).expect("few")
    }

    fn for_frame(&self) -> Vec<u8> {
        let choice = [Some(1 << 20), None, Some(0), Some(5), Some(10), Some(125), Some(1000), Some(65_535)];
        [vec![self.client.into(), self.limit(&choice)], self.bytes()].concat()
    }

    fn for_connection(&self) -> Vec<u8> {
        let deflate = u8::from(self.deflate) | 0x0C | if self.takeover { 0x20 } else { 0 };
        let bounded = [Some(1 << 16), Some(1000), Some(16), Some(0), Some(1 << 20)];
        let unbounded = [None, Some(1 << 20), Some(1000), Some(16), Some(0)];
        let limit = self.limit(if self.deflate { &bounded } else { &unbounded });
        let mut life = vec![self.client.into(), deflate, 0, 7, limit];
        for piece in self.bytes().chunks(128) {
            life.push(u8::try_from(piece.len() - 1).expect("7 bits"));
            life.extend(piece);
        }
        life
    }
}

fn deflates() -> BTreeMap<String, Vec<u8>> {
    let mut seeds = BTreeMap::new();
    for (index, payload) in [
        // RFC 7692 §7.2.3: "Hello" in one block, in a stored block, in two blocks, and with BFINAL.
        &b"\xf2\x48\xcd\xc9\xc9\x07\x00"[..],
        b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
        b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
        b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
        b"\xf2\x00\x11\x00\x00",
        b"",
        b"\x00",
        b"\xff\xff\xff\xff",
        b"the quick brown fox jumps over the lazy dog, the quick brown fox",
    ]
    .into_iter()
    .enumerate()
    {
        for (flags, window, level, mem_level) in [(0, 15, 6, 8), (7, 9, 0, 1), (3, 10, 9, 9)] {
            let seed = [&[flags, window, level, mem_level, 0, 3, 0], payload].concat();
            seeds.insert(format!("deflate-{index}-{flags}"), seed);
        }
    }
    for vector in vectors().iter().filter(|vector| vector.deflate) {
        // The frame's payload, with its header and mask undone, where there is one frame.
        let bytes = vector.bytes();
        if let [first, second, ..] = bytes[..]
            && first & 0x40 != 0
            && second & 0x7F < 126
            && bytes.len() > 6
        {
            let payload = bytes[6..].iter().zip(bytes[2..6].iter().cycle()).map(|(byte, key)| byte ^ key);
            let seed = [2, 15, 6, 8, 0, 1, 0].into_iter().chain(payload).collect();
            seeds.insert(format!("vector-{}", vector.id), seed);
        }
    }
    seeds
}

fn lives_by_hand() -> impl Iterator<Item = (String, Vec<u8>)> {
    let mut hello = Vec::new();
    wire::frame(FIN | TEXT, b"Hello", true, &mut hello);
    let received = [&[u8::try_from(hello.len() - 1).expect("short")], &hello[..]].concat();
    let said = b"\x82\x05Hello\x83\x03abc\x82\x03def\x86\x04\x00\x01\x02\x03";
    let controls = b"\x88\x04ping\x89\x04pong\x9c\x80\x89\x02hi\x8c\x8b";
    let large = b"\x81\x00\x02\x01x\x8d\x91\x00\x01\x02ab\x81\x02\x01\x01c\x87\x78\x02\x8f\x00\x00\x05later";
    let closing = b"\x8a\x03\xe8\x04done\x80\x89\x01p\x80\x88\x02\x03\xe8\x8e";
    let failing = b"\x80\x89\x01x\x9f\x03\xf3\x03bad\x82\x01x\x8b";
    let parts: [&[u8]; 6] = [&received, said, controls, large, closing, failing];
    let mut lives = Vec::new();
    for role in [0, 1, 2] {
        for deflate in [0, 0x0D, 0x3D, 0xFD] {
            for (index, part) in parts.iter().enumerate() {
                let life = [&[role, deflate, 0, 5, 0], *part, said, controls].concat();
                lives.push((format!("life-{role}-{deflate:02x}-{index}"), life));
            }
        }
    }
    lives.into_iter()
}

fn heads() -> BTreeMap<String, Vec<u8>> {
    const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n\
        Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let cases = [
        ("handshake", HANDSHAKE.to_owned()),
        ("handshake-and-frames", format!("{HANDSHAKE}\u{1}\u{2}")),
        ("blank-line-before", format!("\r\n{HANDSHAKE}")),
        ("get", "GET / HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        ("old", "GET / HTTP/1.0\r\n\r\n".into()),
        ("keep-alive", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".into()),
        ("close", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".into()),
        ("absolute", "GET http://a:80/b?c HTTP/1.1\r\nHost: a:80\r\n\r\n".into()),
        ("options", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        ("length", "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".into()),
        ("chunked", "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into()),
        ("both", "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n".into()),
        ("lengths", "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\nContent-Length: 3\r\n\r\n".into()),
        ("expect", "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n".into()),
        ("spaces", "GET /  HTTP/1.1\r\nHost : a\r\nX:\t b \t\r\n\r\n".into()),
        ("folded", "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n".into()),
        ("bare-lf", "GET / HTTP/1.1\nHost: a\n\n".into()),
        ("bare-cr", "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n".into()),
        ("nul", "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        ("no-host", "GET / HTTP/1.1\r\n\r\n".into()),
        ("hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".into()),
        ("not-ascii", "GET /\u{fc} HTTP/1.1\r\nHost: a\r\nX: \u{20ac}\r\n\r\n".into()),
        ("version", "GET / HTTP/2.0\r\nHost: a\r\n\r\n".into()),
        ("method", "BREW / HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        ("many", format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(101))),
        ("long-target", format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(45))),
        ("long-value", format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(110))),
        ("unfinished", "GET / HTTP/1.1\r\nHost: a\r\n\r".into()),
    ];
    let mut seeds = BTreeMap::new();
    for (name, head) in cases {
        for limits in [0, 1] {
            seeds.insert(format!("head-{limits}-{name}"), [&[limits, 0, 9], head.as_bytes()].concat());
        }
    }
    seeds
}
