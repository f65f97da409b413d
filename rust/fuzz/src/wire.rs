//! Frames, built and read by hand (RFC 6455 §5.2): what the core does is checked against this, so none of it is shared.
#![allow(missing_docs, reason = "the names are the RFC's")]
#![allow(clippy::decimal_bitwise_operands, reason = "the RFC writes lengths in decimal")]

pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;
pub const FIN: u8 = 0x80;
pub const RSV1: u8 = 0x40;
pub const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// Append a frame, masked with [`KEY`] if a client sends it.
pub fn frame(first: u8, payload: &[u8], client: bool, out: &mut Vec<u8>) {
    let masked = if client { 0x80 } else { 0 };
    out.push(first);
    match payload.len() {
        length @ ..126 => out.push(masked | u8::try_from(length).expect("7 bits")),
        length @ 126..0x1_0000 => {
            out.push(masked | 126);
            out.extend(u16::try_from(length).expect("16 bits").to_be_bytes());
        }
        length => {
            out.push(masked | 127);
            out.extend((length as u64).to_be_bytes());
        }
    }
    if client {
        out.extend(KEY);
        out.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        out.extend(payload);
    }
}

/// A frame that was read: its first byte and its payload, unmasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub first: u8,
    pub payload: Vec<u8>,
}

/// Read frames of which all is there. Panics where they are masked and should not be, or the reverse, or the length is not
/// in its shortest form.
pub fn frames(mut bytes: &[u8], masked: bool) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        assert_eq!(second & 0x80 != 0, masked, "masked as the role demands");
        let (length, rest) = match second & 0x7F {
            126 => {
                let (length, rest) = rest.split_first_chunk().expect("a whole header");
                let length = usize::from(u16::from_be_bytes(*length));
                assert!(length >= 126, "shortest form");
                (length, rest)
            }
            127 => {
                let (length, rest) = rest.split_first_chunk().expect("a whole header");
                let length = usize::try_from(u64::from_be_bytes(*length)).expect("what is there");
                assert!(length > 0xFFFF, "shortest form");
                (length, rest)
            }
            length => (usize::from(length), rest),
        };
        let (key, rest) = if masked { rest.split_first_chunk().expect("a key") } else { (&[0; 4], rest) };
        assert!(rest.len() >= length, "a whole frame");
        let (payload, rest) = rest.split_at(length);
        let payload = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        frames.push(Frame { first: *first, payload });
        bytes = rest;
    }
    assert!(bytes.is_empty(), "whole frames");
    frames
}
