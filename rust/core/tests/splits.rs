//! Streams drawn at random, right and wrong ones: how they are cut into pieces changes nothing.

mod common;

use common::*;
use ferrows_core::{Config, DeflateConfig, Role};
use zlib_rs::{Deflate, DeflateFlush};

/// Numbers that look random and are the same at every run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % limit
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

const TEXTS: &[&str] = &["", "a", "Hello", "\u{20ac}", "na\u{ef}ve \u{1f600}", "\u{10ffff}\u{800}", "0123456789abcdef"];

fn squeeze(data: &[u8], flush: DeflateFlush) -> Vec<u8> {
    let mut compressor = Deflate::new(6, false, 15);
    let mut out = vec![0; data.len() + 100];
    compressor.compress(data, &mut out, flush).expect("valid state");
    out.truncate(usize::try_from(compressor.total_out()).expect("fits"));
    out
}

/// Append the frames of a message, cut anywhere, with control frames between them.
fn draw_message(draw: &mut Draw, deflate: bool, out: &mut Vec<u8>) {
    let opcode = draw.one(&[TEXT, BINARY]);
    let mut payload = draw.one(TEXTS).repeat(draw.one(&[0, 1, 1, 3, 40])).into_bytes();
    if draw.below(8) == 0 && !payload.is_empty() {
        let at = draw.below(payload.len());
        payload[at] = draw.one(&[0x80, 0xC0, 0xED, 0xF4, 0xFF]);
    }
    let mut rsv1 = 0;
    if deflate && draw.below(2) == 0 {
        rsv1 = RSV1;
        let first = squeeze(&payload, draw.one(&[DeflateFlush::SyncFlush, DeflateFlush::Finish]));
        payload = match draw.below(4) {
            0 => [first.clone(), squeeze(&payload, DeflateFlush::Finish)].concat(),
            1 => first,
            _ => first.strip_suffix(b"\x00\x00\xff\xff").map_or(first.clone(), <[u8]>::to_vec),
        };
    }
    let mut first = opcode | rsv1;
    while draw.below(3) == 0 {
        let (piece, rest) = payload.split_at(draw.below(payload.len() + 1));
        out.extend(masked(first, piece));
        first = 0;
        payload = rest.to_vec();
        if draw.below(3) == 0 {
            out.extend(masked(FIN | draw.one(&[PING, PONG]), b"control"));
        }
    }
    out.extend(masked(FIN | first, &payload));
}

fn draw_stream(draw: &mut Draw, deflate: bool) -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..=draw.below(4) {
        draw_message(draw, deflate, &mut stream);
    }
    if draw.below(3) == 0 {
        stream.extend(masked_close(draw.one(&[1000, 1001, 1005, 3000]), draw.one(TEXTS).as_bytes()));
    }
    // A flaw somewhere, the frames' payloads included.
    for _ in 0..draw.one(&[0, 0, 1, 1, 3]) {
        let at = draw.below(stream.len());
        stream[at] ^= 1 << draw.below(8);
    }
    stream
}

#[test]
fn test_every_way_to_cut_a_stream_means_the_same() {
    let mut draw = Draw(0x0123_4567_89AB_CDEF);
    let mut failures = 0;
    for round in 0..30_000 {
        let parameters = DeflateConfig { decompress_takeover: round % 2 == 0, ..deflate() };
        let deflate = draw.below(2) == 0;
        let max_size = draw.one(&[None, Some(1 << 20), Some(100), Some(16)]);
        let config = Config { role: Role::Server, max_size, deflate: deflate.then_some(parameters) };
        let streaming = draw.below(4) == 0;
        let stream = draw_stream(&mut draw, deflate);
        let whole = read(&config, [&stream[..]], streaming);
        failures += usize::from(matches!(whole.events.last(), Some(Event::Failure(..))));

        let mut pieces = Vec::new();
        let mut rest = &stream[..];
        let longest = draw.one(&[1, 3, 20, 200]);
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((1 + draw.below(longest)).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        let cut = read(&config, pieces, streaming);
        if cut != whole {
            // A compressed text may have two flaws. One piece is inflated before it is validated, so the flaw of the
            // text counts if it comes in an earlier piece, and that of the compression if both come in one.
            let (last, last_cut) = (whole.events.last(), cut.events.last());
            let two_flaws =
                matches!(last, Some(Event::Failure(1009, _))) || last == Some(&failure(1007, "invalid deflate data"));
            assert!(
                deflate && two_flaws && last_cut == Some(&failure(1007, "invalid UTF-8 in a text message")),
                "round {round}, {config:?}\n{stream:02x?}\n{whole:?}\n{cut:?}"
            );
            assert_eq!(whole.events[..whole.events.len() - 1], cut.events[..cut.events.len() - 1], "round {round}");
        }
    }
    assert!((3_000..27_000).contains(&failures), "{failures} of the streams failed");
}
