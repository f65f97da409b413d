//! Frames (RFC 6455 §5.2), as far as a load generator needs them.

use ferrows_core::Kind;

/// A close frame with the code 1000, masked with zeros.
pub const CLOSE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8];

/// The short length that says that two bytes of length follow.
const LENGTH_16: u8 = 126;
/// The short length that says that eight bytes of length follow.
const LENGTH_64: u8 = 127;

/// The first byte of a message in one frame: FIN and the opcode.
pub fn first_byte(kind: Kind) -> u8 {
    match kind {
        Kind::Text => 0x81,
        Kind::Binary => 0x82,
    }
}

/// Append a frame to `out`; `mask` is given by a client and not by a server (§5.1).
pub fn append(first: u8, payload: &[u8], mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    out.push(first);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ ..=125), _) => out.push(masked | length),
        (_, Ok(length)) => {
            out.push(masked | LENGTH_16);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(masked | LENGTH_64);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    if let Some(mask) = mask {
        out.extend_from_slice(&mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        out.extend_from_slice(payload);
    }
}

/// What the header of a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// FIN, the reserved bits and the opcode.
    pub first: u8,
    /// The masking key, of a client's frame.
    pub mask: Option<[u8; 4]>,
    /// Bytes of payload.
    pub length: u64,
    /// Bytes of the header itself.
    pub size: usize,
}

impl Header {
    /// Read a header from the beginning of `input`; `None` if it is not all there yet.
    pub fn parse(input: &[u8]) -> Option<Self> {
        let &[first, second, ..] = input else { return None };
        let (length, size) = match second & 0x7F {
            LENGTH_16 => (u64::from(u16::from_be_bytes(*input.get(2..)?.first_chunk()?)), 4),
            LENGTH_64 => (u64::from_be_bytes(*input.get(2..)?.first_chunk()?), 10),
            short => (u64::from(short), 2),
        };
        if second & 0x80 == 0 {
            return Some(Self { first, mask: None, length, size });
        }
        let mask = *input.get(size..)?.first_chunk()?;
        Some(Self { first, mask: Some(mask), length, size: size + 4 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_parses_back_at_every_form_of_the_length() {
        for length in [0, 1, 125, 126, 127, 0xFFFF, 0x1_0000] {
            let payload: Vec<u8> = (0..length).map(|i| u8::try_from(i % 251).expect("below 251")).collect();
            for mask in [None, Some([1, 2, 3, 4])] {
                let mut bytes = Vec::new();
                append(first_byte(Kind::Binary), &payload, mask, &mut bytes);
                let header = Header::parse(&bytes).expect("the header is all there");
                assert_eq!((header.first, header.mask, header.length), (0x82, mask, length as u64));
                assert_eq!(bytes.len(), header.size + length);
                for end in 0..header.size {
                    assert_eq!(Header::parse(&bytes[..end]), None, "{length} bytes, cut at {end}");
                }
                let key = mask.unwrap_or_default();
                let unmasked: Vec<u8> =
                    bytes[header.size..].iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
                assert!(unmasked == payload, "{length} bytes");
            }
        }
    }

    #[test]
    fn frames_are_those_of_5_7() {
        let mut bytes = Vec::new();
        append(first_byte(Kind::Text), b"Hello", None, &mut bytes);
        assert_eq!(bytes, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        bytes.clear();
        append(first_byte(Kind::Text), b"Hello", Some([0x37, 0xfa, 0x21, 0x3d]), &mut bytes);
        assert_eq!(bytes, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
        bytes.clear();
        append(first_byte(Kind::Binary), &[0; 256], None, &mut bytes);
        assert_eq!(bytes[..4], [0x82, 0x7E, 0x01, 0x00]);
        bytes.clear();
        append(first_byte(Kind::Binary), &vec![0; 65536], None, &mut bytes);
        assert_eq!(bytes[..10], [0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn the_close_frame_says_1000() {
        let mut bytes = Vec::new();
        append(0x88, &1000_u16.to_be_bytes(), Some([0; 4]), &mut bytes);
        assert_eq!(bytes, CLOSE);
    }
}
