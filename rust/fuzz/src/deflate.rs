//! Target `deflate`: any bytes as a compressed payload, and any payload there and back (RFC 7692).

use crate::input::{Cut, Input};
use crate::recorder::{Event, Recorder};
use crate::wire::{self, BINARY, FIN, RSV1};
use ferrows_core::{Config, Connection, DeflateConfig, Kind, Role};
use miniz_oxide::inflate::core::inflate_flags::{TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// Bytes to which a payload may inflate here.
const MAX_SIZE: u64 = 1 << 18;

/// Inflate what follows the parameters, then compress it and inflate that.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.byte();
    let parameters = DeflateConfig {
        compress_window_bits: input.byte(),
        decompress_window_bits: 15,
        compress_takeover: flags & 1 != 0,
        decompress_takeover: flags & 2 != 0,
        level: input.byte() % 11,
        mem_level: input.byte() % 11,
        threshold: 0,
    };
    let seed = u64::from(input.pair());
    let max_size = input.one(&[MAX_SIZE, 0, 10, 1000, 65_536]);
    let payload = input.rest();
    inflate(payload, &parameters, max_size, seed);
    there_and_back(payload, &parameters, seed, flags & 4 != 0);
}

/// The payload means the same in one frame, in several, and however these are cut; and no more than another inflater says.
fn inflate(payload: &[u8], parameters: &DeflateConfig, max_size: u64, seed: u64) {
    let read = |bytes: &[u8], mut cut: Cut| {
        let config = Config { role: Role::Server, max_size: Some(max_size), deflate: Some(parameters.clone()) };
        let mut connection = Connection::new(config);
        let mut recorder = Recorder::default();
        cut.apply(bytes, |piece| connection.receive_data(piece, &mut recorder));
        without_ends(recorder.events)
    };
    // Twice, so that a window that was kept counts.
    let mut whole = Vec::new();
    wire::frame(FIN | RSV1 | BINARY, payload, true, &mut whole);
    wire::frame(FIN | RSV1 | BINARY, payload, true, &mut whole);
    let mut fragments = Vec::new();
    for _ in 0..2 {
        let mut first = RSV1 | BINARY;
        Cut::Pieces(seed).apply(payload, |fragment| {
            wire::frame(first, fragment, true, &mut fragments);
            first = 0;
        });
        wire::frame(FIN | first, b"", true, &mut fragments);
    }

    let events = read(&whole, Cut::Whole);
    for cut in [Cut::Pieces(seed), Cut::Bytes] {
        assert_eq!(read(&whole, cut), events, "{cut:?}");
    }
    for cut in [Cut::Whole, Cut::Pieces(seed), Cut::Bytes] {
        let others = read(&fragments, cut);
        // More on the wire than any payload of that size needs is refused by its headers, and a fragment may be wrong before
        // the header that says too much.
        if payload.len() as u64 > max_size + max_size / 256 + 64 {
            assert!(matches!((&events[..], &others[..]), ([Event::Failure(1009)], [Event::Failure(1007 | 1009)])));
        } else {
            assert_eq!(others, events, "in fragments, {cut:?}");
        }
    }
    for event in &events {
        match event {
            Event::Message(Kind::Binary, inflated, _) => assert!(inflated.len() as u64 <= max_size),
            Event::Failure(code) => assert!([1007, 1009].contains(code)),
            other => panic!("{other:?}"),
        }
    }
    if let Some(Event::Message(_, inflated, _)) = events.first() {
        check_against_other(payload, inflated);
    }
}

/// What another implementation makes of the first stream in the payload is what ours begins with. It refuses more: zlib
/// takes a block whose codes are nonsense for unfinished until a symbol of it is met, which may be never.
fn check_against_other(payload: &[u8], inflated: &[u8]) {
    let stream = [payload, &[0x00, 0x00, 0xFF, 0xFF]].concat();
    let mut out = vec![0; inflated.len() + 1];
    let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF | TINFL_FLAG_HAS_MORE_INPUT;
    let (_, _, written) = decompress(&mut DecompressorOxide::new(), &stream, &mut out, 0, flags);
    assert!(inflated.starts_with(&out[..written]), "another payload than miniz_oxide's");
}

fn there_and_back(payload: &[u8], parameters: &DeflateConfig, seed: u64, client: bool) {
    let (ours, theirs) = if client { (Role::Client, Role::Server) } else { (Role::Server, Role::Client) };
    let mut sender = Connection::new(Config { role: ours, max_size: None, deflate: Some(parameters.clone()) });
    let mirrored = DeflateConfig { decompress_takeover: parameters.compress_takeover, ..parameters.clone() };
    let mut receiver = Connection::new(Config { role: theirs, max_size: None, deflate: Some(mirrored) });
    let mut recorder = Recorder::default();
    for round in 0..3 {
        let mut count = 0;
        // Whole in one round, in fragments in another.
        let mut cut = if round == 1 { Cut::Pieces(seed) } else { Cut::Whole };
        cut.apply(payload, |fragment| {
            sender.send_binary(fragment, false, None).expect("open");
            count += 1;
        });
        sender.send_binary(b"", true, None).expect("open");
        let mut out = Vec::new();
        sender.take_output(&mut out);
        // Five bytes for each stored block, of which the smallest memory makes small ones, and the flush and the header
        // of each fragment.
        let permitted = payload.len() + payload.len() / 8 + 64 * (count + 1);
        assert!(out.len() <= permitted, "{} bytes for {} in {count} fragments", out.len(), payload.len());
        Cut::Pieces(seed).apply(&out, |piece| receiver.receive_data(piece, &mut recorder));
    }
    let expected = vec![Event::Message(Kind::Binary, payload.to_vec(), Vec::new()); 3];
    assert_eq!(without_ends(recorder.events), expected);
}

fn without_ends(mut events: Vec<Event>) -> Vec<Event> {
    for event in &mut events {
        if let Event::Message(_, _, ends) = event {
            ends.clear();
        }
    }
    events
}
