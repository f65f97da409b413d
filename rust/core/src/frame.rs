//! Frame headers (RFC 6455 §5.2).

use crate::error::Error;
use crate::kind::Kind;

/// Bytes of the longest header: two, eight of length, four of masking key.
pub(crate) const MAX_HEADER: usize = 14;
/// Bytes that a control frame's payload may have (RFC 6455 §5.5).
pub(crate) const MAX_CONTROL: usize = 125;

const FIN: u8 = 0x80;
/// RSV1 among the three reserved bits: "this message is compressed" (RFC 7692 §6).
const RSV1: u8 = 0b100;
const MASKED: u8 = 0x80;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

/// What a frame is (RFC 6455 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xA,
}

impl Opcode {
    #[inline]
    fn parse(opcode: u8) -> Option<Self> {
        Some(match opcode {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    /// §5.5: control frames are those whose opcode has its top bit set.
    #[inline]
    pub(crate) fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

impl From<Kind> for Opcode {
    #[inline]
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text,
            Kind::Binary => Self::Binary,
        }
    }
}

/// What the earlier frames of a message said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unfinished {
    pub(crate) compressed: bool,
    /// Bytes of payload that they announced, as on the wire.
    pub(crate) wire: u64,
}

/// What the next frame may be; it follows from the role, the extension and the message under assembly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// The peer is a client: it masks every frame. A server masks none (§5.1).
    pub(crate) masked: bool,
    /// permessage-deflate was negotiated.
    pub(crate) deflate: bool,
    /// The fragmented message that is unfinished.
    pub(crate) unfinished: Option<Unfinished>,
    /// Bytes that a message may have; `u64::MAX` if there is no limit.
    pub(crate) max_size: u64,
}

impl Rules {
    /// Refuse a data frame from its header alone, before a byte of its payload is there (code 1009).
    #[inline]
    fn check_size(&self, begins_compressed: bool, length: u64) -> Result<(), Error> {
        let Unfinished { compressed, wire } =
            self.unfinished.unwrap_or(Unfinished { compressed: begins_compressed, wire: 0 });
        let at_least = wire.saturating_add(length);
        // Deflate adds five bytes to each 64 KiB that it cannot compress, so a compressed message may well be
        // longer than its limit; the exact check is made on what comes out of it.
        let slack = if compressed { self.max_size / 256 + 64 } else { 0 };
        if at_least > self.max_size.saturating_add(slack) {
            return Err(Error::MessageTooBig { at_least, permitted: self.max_size });
        }
        Ok(())
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) opcode: Opcode,
    pub(crate) fin: bool,
    /// RSV1 is set: the frame begins a compressed message.
    pub(crate) compressed: bool,
    pub(crate) mask: Option<[u8; 4]>,
    /// Bytes of payload that follow.
    pub(crate) length: u64,
}

impl FrameHeader {
    /// Read a header from the beginning of `input`, which may be cut off anywhere.
    ///
    /// Returns the header and its size in bytes, or `None` if it is not all there yet. What is there is checked in the
    /// order of the bytes, so that a header fails at the same byte however it is split.
    ///
    /// # Errors
    /// What the peer did wrong, from [`Error::ReservedBits`] to [`Error::MessageTooBig`].
    #[inline]
    pub(crate) fn parse(input: &[u8], rules: &Rules) -> Result<Option<(Self, usize)>, Error> {
        let Some(&first) = input.first() else { return Ok(None) };
        let (fin, opcode) = Self::check_first(first, rules)?;
        let begins_compressed = first & (RSV1 << 4) != 0;

        let Some(&second) = input.get(1) else { return Ok(None) };
        // §5.1: a server MUST fail the connection on a frame that is not masked, a client on one that is.
        if (second & MASKED != 0) != rules.masked {
            return Err(if rules.masked { Error::UnmaskedFrame } else { Error::MaskedFrame });
        }
        let short = second & !MASKED;
        // §5.5: all control frames MUST have a payload length of 125 bytes or less.
        if opcode.is_control() && short >= LENGTH_16 {
            return Err(Error::ControlTooLong);
        }
        let (length, mut size) = match short {
            LENGTH_16 => {
                let Some(bytes) = input.get(2..).and_then(<[u8]>::first_chunk) else {
                    return Ok(None);
                };
                let length = u64::from(u16::from_be_bytes(*bytes));
                // §5.2: the minimal number of bytes MUST be used to encode the length.
                if length < u64::from(LENGTH_16) {
                    return Err(Error::LengthNotMinimal(length));
                }
                (length, 4)
            }
            LENGTH_64 => {
                let Some(bytes) = input.get(2..).and_then(<[u8]>::first_chunk) else {
                    return Ok(None);
                };
                let length = u64::from_be_bytes(*bytes);
                // §5.2: the most significant bit MUST be 0.
                if length >> 63 != 0 {
                    return Err(Error::LengthTopBit);
                }
                if u16::try_from(length).is_ok() {
                    return Err(Error::LengthNotMinimal(length));
                }
                (length, 10)
            }
            short => (u64::from(short), 2),
        };
        if !opcode.is_control() {
            rules.check_size(begins_compressed, length)?;
        }
        let mask = if rules.masked {
            let Some(mask) = input.get(size..).and_then(<[u8]>::first_chunk) else {
                return Ok(None);
            };
            size += 4;
            Some(*mask)
        } else {
            None
        };
        Ok(Some((Self { opcode, fin, compressed: begins_compressed, mask, length }, size)))
    }

    /// Check what the first byte says: FIN, the reserved bits and the opcode.
    #[inline]
    fn check_first(first: u8, rules: &Rules) -> Result<(bool, Opcode), Error> {
        let fin = first & FIN != 0;
        let bits = (first >> 4) & 0b111;
        let opcode = Opcode::parse(first & 0x0F);
        // RFC 7692 §6: RSV1 is set on the first frame of a compressed message only; §6.1: never on a control frame.
        let starts_message = matches!(opcode, Some(Opcode::Text | Opcode::Binary));
        let permitted = if rules.deflate && starts_message { RSV1 } else { 0 };
        // §5.2: a nonzero bit without a negotiated meaning MUST fail the connection.
        if bits & !permitted != 0 {
            return Err(Error::ReservedBits { bits, permitted });
        }
        // §5.2: an unknown opcode MUST fail the connection.
        let Some(opcode) = opcode else {
            return Err(Error::UnknownOpcode(first & 0x0F));
        };
        // §5.5: control frames MUST NOT be fragmented.
        if opcode.is_control() && !fin {
            return Err(Error::FragmentedControl);
        }
        // §5.4: the fragments of one message MUST NOT be interleaved with those of another.
        match opcode {
            Opcode::Continuation if rules.unfinished.is_none() => Err(Error::ContinuationOutsideMessage),
            Opcode::Text | Opcode::Binary if rules.unfinished.is_some() => Err(Error::DataInsideMessage),
            _ => Ok((fin, opcode)),
        }
    }

    /// Bytes of the header itself.
    pub(crate) fn size(&self) -> usize {
        let length = match self.length {
            0..=125 => 0,
            126..=0xFFFF => 2,
            _ => 8,
        };
        2 + length + self.mask.map_or(0, |mask| mask.len())
    }

    /// Append the header as it goes on the wire.
    #[inline]
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut bytes = [0; MAX_HEADER];
        bytes[0] = self.opcode as u8 | if self.fin { FIN } else { 0 } | if self.compressed { RSV1 << 4 } else { 0 };
        let masked = if self.mask.is_some() { MASKED } else { 0 };
        // The casts cut nothing off: each arm bounds the length.
        #[allow(clippy::cast_possible_truncation)]
        let mut size = match self.length {
            length @ 0..=125 => {
                bytes[1] = masked | length as u8;
                2
            }
            length @ 126..=0xFFFF => {
                bytes[1] = masked | LENGTH_16;
                bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
                4
            }
            length => {
                bytes[1] = masked | LENGTH_64;
                bytes[2..10].copy_from_slice(&length.to_be_bytes());
                10
            }
        };
        if let Some(mask) = self.mask {
            bytes[size..size + 4].copy_from_slice(&mask);
            size += 4;
        }
        out.extend_from_slice(&bytes[..size]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { masked: true, deflate: true, unfinished: None, max_size: u64::MAX };

    #[test]
    fn what_is_encoded_parses_back_whole_and_not_before() {
        for length in [0, 1, 125, 126, 127, 0xFFFF, 0x1_0000, u64::MAX >> 1] {
            for mask in [None, Some([1, 2, 3, 4])] {
                for (opcode, fin, compressed) in
                    [(Opcode::Text, true, false), (Opcode::Binary, false, true), (Opcode::Text, false, false)]
                {
                    let header = FrameHeader { opcode, fin, compressed, mask, length };
                    let rules = Rules { masked: mask.is_some(), ..RULES };
                    let mut bytes = Vec::new();
                    header.encode(&mut bytes);
                    for end in 0..bytes.len() {
                        assert_eq!(FrameHeader::parse(&bytes[..end], &rules), Ok(None), "{header:?} at {end}");
                    }
                    assert_eq!(FrameHeader::parse(&bytes, &rules), Ok(Some((header, bytes.len()))));
                    bytes.extend_from_slice(b"more");
                    assert_eq!(FrameHeader::parse(&bytes, &rules), Ok(Some((header, bytes.len() - 4))));
                }
            }
        }
    }

    #[test]
    fn sizes_do_not_overflow() {
        let rules =
            Rules { unfinished: Some(Unfinished { compressed: false, wire: u64::MAX - 1 }), max_size: 1000, ..RULES };
        let too_big = Err(Error::MessageTooBig { at_least: u64::MAX, permitted: 1000 });
        assert_eq!(FrameHeader::parse(&[0x80, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], &rules), too_big);
        let unlimited = Rules { unfinished: Some(Unfinished { compressed: true, wire: u64::MAX - 1 }), ..RULES };
        assert_eq!(
            FrameHeader::parse(&[0x80, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], &unlimited),
            Ok(None)
        );
    }
}
