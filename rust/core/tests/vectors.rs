//! The vectors of `tests/vectors/frames.json`, which the Python tests read too: one truth for every implementation.

mod common;

use common::{Event, PING, masked, unmasked};
use ferrows_core::{Config, Connection, DeflateConfig, Kind, Role, State};
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    id: String,
    client: bool,
    deflate: bool,
    takeover: bool,
    max_size: Option<u64>,
    input: String,
    events: Vec<Expected>,
    output: Vec<Frame>,
    then: Then,
    fails_at: Option<usize>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Expected {
    Text { data: String },
    Binary { data: String },
    Ping { data: String },
    Pong { data: String },
    Close { code: u16, reason: String },
    Failure { code: u16, reason: String },
}

#[derive(Deserialize)]
struct Frame {
    opcode: u8,
    payload: String,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Then {
    Open,
    Ended,
    Partial,
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16).expect("hexadecimal")).expect("below 16");
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

impl Vector {
    fn config(&self) -> Config {
        Config {
            role: if self.client { Role::Client } else { Role::Server },
            max_size: self.max_size,
            deflate: self.deflate.then(|| DeflateConfig { decompress_takeover: self.takeover, ..common::deflate() }),
        }
    }

    /// The events, without the ends of fragments, which the vectors leave open.
    fn events(&self) -> Vec<Event> {
        let event = |expected: &Expected| match expected {
            Expected::Text { data } => Event::Message(Kind::Text, bytes(data), Vec::new()),
            Expected::Binary { data } => Event::Message(Kind::Binary, bytes(data), Vec::new()),
            Expected::Ping { data } => Event::Ping(bytes(data)),
            Expected::Pong { data } => Event::Pong(bytes(data)),
            Expected::Close { code, reason } => Event::Close(*code, reason.clone()),
            Expected::Failure { code, reason } => Event::Failure(*code, reason.clone()),
        };
        self.events.iter().map(event).collect()
    }

    fn check<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>, how: &str) {
        let mut connection = Connection::new(self.config());
        let mut recorder = common::Recorder::default();
        for piece in pieces {
            connection.receive_data(piece, &mut recorder);
        }
        for event in &mut recorder.0 {
            if let Event::Message(_, _, ends) = event {
                ends.clear();
            }
        }
        assert_eq!(recorder.0, self.events(), "{}, {how}", self.id);
        let output = common::output(&mut connection);
        if !self.client {
            let expected = self.output.iter().flat_map(|frame| unmasked(0x80 | frame.opcode, &bytes(&frame.payload)));
            assert_eq!(output, expected.collect::<Vec<_>>(), "{}, {how}", self.id);
        }
        assert_eq!(connection.state() == State::Closed, self.then == Then::Ended, "{}, {how}", self.id);
    }
}

#[test]
fn every_vector_whole_byte_by_byte_and_with_a_frame_behind_it() {
    let vectors: Vectors = serde_json::from_str(include_str!("../../../tests/vectors/frames.json")).expect("JSON");
    assert!(vectors.cases.len() > 600, "{} vectors", vectors.cases.len());
    for vector in &vectors.cases {
        let input = bytes(&vector.input);
        vector.check([&input[..]], "whole");
        vector.check(input.chunks(1), "byte by byte");
        if vector.then == Then::Ended {
            let ping = if vector.client { unmasked(0x80 | PING, b"late") } else { masked(0x80 | PING, b"late") };
            vector.check([&[input.clone(), ping].concat()[..]], "with a frame behind it");
        }
        if let Some(at) = vector.fails_at {
            let mut connection = Connection::new(vector.config());
            let mut recorder = common::Recorder::default();
            connection.receive_data(&input[..at - 1], &mut recorder);
            assert!(connection.failure().is_none(), "{} fails before byte {at}", vector.id);
            connection.receive_data(&input[at - 1..at], &mut recorder);
            assert!(connection.failure().is_some(), "{} does not fail at byte {at}", vector.id);
        }
    }
}
