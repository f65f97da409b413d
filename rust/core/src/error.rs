//! What the peer did wrong, with the close code that it means, and what the caller did wrong.

use std::fmt;

use crate::kind::Kind;
use crate::rate::Excess;

/// An error of the peer, which fails the connection, or of the caller, which leaves it as it was.
///
/// [`close_code`](Self::close_code) tells the two apart. The `Display` text is what the Close frame carries as its
/// reason; it is at most 123 bytes for every error of the peer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A reserved bit is set that no negotiated extension gives a meaning (RFC 6455 §5.2).
    ReservedBits {
        /// The three bits as they came, RSV1 being `0b100`.
        bits: u8,
        /// The bits that would have been permitted.
        permitted: u8,
    },
    /// An opcode that the RFC reserves: 3-7 and B-F (RFC 6455 §5.2).
    UnknownOpcode(u8),
    /// A control frame without FIN (RFC 6455 §5.5).
    FragmentedControl,
    /// A continuation frame while no message is unfinished (RFC 6455 §5.4).
    ContinuationOutsideMessage,
    /// A text or binary frame while a fragmented message is unfinished (RFC 6455 §5.4).
    DataInsideMessage,
    /// A client sent an unmasked frame (RFC 6455 §5.1).
    UnmaskedFrame,
    /// A server sent a masked frame (RFC 6455 §5.1).
    MaskedFrame,
    /// A control frame announced more than 125 bytes (RFC 6455 §5.5).
    ControlTooLong,
    /// A 64-bit payload length of 2^63 or more (RFC 6455 §5.2).
    LengthTopBit,
    /// A payload length written in more bytes than it needs (RFC 6455 §5.2).
    LengthNotMinimal(u64),
    /// The frame headers of a message announce more than `max_size` (RFC 6455 §7.4.1, code 1009).
    MessageTooBig {
        /// Bytes on the wire that the message has at least.
        at_least: u64,
        /// The limit, in bytes of the message.
        permitted: u64,
    },
    /// The payload is not a deflate stream (RFC 7692 §7.2.2).
    InvalidDeflate,
    /// A message grew over `max_size`, the given limit, while it was inflated.
    InflatedTooBig(u64),
    /// A text message is not UTF-8 (RFC 6455 §8.1).
    InvalidText,
    /// A Close frame with a body of one byte, half a close code (RFC 6455 §5.5.1).
    CloseBodyTooShort,
    /// A close code that must not be on the wire (RFC 6455 §7.4.2).
    CloseCode(u16),
    /// The reason in a Close frame is not UTF-8 (RFC 6455 §5.5.1).
    InvalidCloseReason,
    /// The peer sent more than the [limits](crate::InboundLimits) permit (RFC 6455 §7.4.1, code 1008).
    Excess(Excess),
    /// The caller failed the connection, see [`Connection::fail`](crate::Connection::fail).
    Failed {
        /// The close code that the caller gave.
        code: u16,
        /// The reason that the caller gave.
        reason: String,
    },

    /// Caller: nothing can be sent any more, the Close is out or the connection is closed (RFC 6455 §5.5.1).
    Closed,
    /// Caller: a frame of the other kind while a fragmented message of the given kind is unfinished.
    KindMixed(Kind),
    /// Caller: a ping or pong payload of this many bytes, more than 125 (RFC 6455 §5.5).
    ControlPayloadTooLong(usize),
    /// Caller: a close code that must not be sent (RFC 6455 §7.4).
    CloseCodeNotSendable(u16),
    /// Caller: a close reason of this many bytes of UTF-8, more than 123 (RFC 6455 §5.5).
    ReasonTooLong(usize),
    /// Caller: a close reason without a close code (RFC 6455 §5.5.1).
    ReasonWithoutCode,
}

impl Error {
    /// Return the close code that an error of the peer means, or `None` if the caller made it.
    pub fn close_code(&self) -> Option<u16> {
        match self {
            Self::ReservedBits { .. }
            | Self::UnknownOpcode(_)
            | Self::FragmentedControl
            | Self::ContinuationOutsideMessage
            | Self::DataInsideMessage
            | Self::UnmaskedFrame
            | Self::MaskedFrame
            | Self::ControlTooLong
            | Self::LengthTopBit
            | Self::LengthNotMinimal(_)
            | Self::CloseBodyTooShort
            | Self::CloseCode(_) => Some(1002),
            Self::InvalidDeflate | Self::InvalidText | Self::InvalidCloseReason => Some(1007),
            Self::MessageTooBig { .. } | Self::InflatedTooBig(_) => Some(1009),
            Self::Excess(_) => Some(1008),
            Self::Failed { code, .. } => Some(*code),
            Self::Closed
            | Self::KindMixed(_)
            | Self::ControlPayloadTooLong(_)
            | Self::CloseCodeNotSendable(_)
            | Self::ReasonTooLong(_)
            | Self::ReasonWithoutCode => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReservedBits { bits, permitted } => {
                write!(f, "reserved bits 0b{bits:03b}, permitted 0b{permitted:03b}")
            }
            Self::UnknownOpcode(opcode) => write!(f, "opcode 0x{opcode:X} is not defined"),
            Self::FragmentedControl => f.write_str("fragmented control frame"),
            Self::ContinuationOutsideMessage => f.write_str("continuation frame outside a message"),
            Self::DataInsideMessage => f.write_str("data frame inside a fragmented message"),
            Self::UnmaskedFrame => f.write_str("unmasked frame from a client"),
            Self::MaskedFrame => f.write_str("masked frame from a server"),
            Self::ControlTooLong => f.write_str("control frame over 125 bytes"),
            Self::LengthTopBit => f.write_str("payload length has its top bit set"),
            Self::LengthNotMinimal(length) => write!(f, "payload length {length} is not in its shortest form"),
            Self::MessageTooBig { at_least, permitted } => {
                write!(f, "message of at least {at_least} bytes, permitted {permitted}")
            }
            Self::InvalidDeflate => f.write_str("invalid deflate data"),
            Self::InflatedTooBig(permitted) => write!(f, "inflated message over {permitted} bytes"),
            Self::InvalidText => f.write_str("invalid UTF-8 in a text message"),
            Self::CloseBodyTooShort => f.write_str("close frame body of 1 byte"),
            Self::CloseCode(code) | Self::CloseCodeNotSendable(code) => write!(f, "close code {code} is not permitted"),
            Self::InvalidCloseReason => f.write_str("invalid UTF-8 in a close reason"),
            Self::Excess(excess) => excess.fmt(f),
            Self::Failed { reason, .. } => f.write_str(reason),
            Self::Closed => f.write_str("the connection is closed"),
            Self::KindMixed(kind) => write!(f, "a fragmented {kind} message is unfinished"),
            Self::ControlPayloadTooLong(size) => write!(f, "control payload of {size} bytes, permitted 125"),
            Self::ReasonTooLong(size) => write!(f, "close reason of {size} bytes, permitted 123"),
            Self::ReasonWithoutCode => f.write_str("close reason without a close code"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Excess> for Error {
    fn from(excess: Excess) -> Self {
        Self::Excess(excess)
    }
}
