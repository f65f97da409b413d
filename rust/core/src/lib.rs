//! The WebSocket protocol of RFC 6455 with the permessage-deflate extension of RFC 7692, sans-I/O.
//!
//! [`Connection`] takes the bytes that arrived and hands what they mean to a [`Sink`]; what is sent becomes bytes that
//! the caller takes and writes. There are no sockets, no clock and no threads here, and no opening handshake: a
//! connection begins with the first frame. [`HeadReader`] reads the HTTP request that comes before it.
#![forbid(unsafe_code)]

mod close;
mod config;
mod connection;
mod deflate;
mod encoding;
mod error;
mod fields;
mod frame;
mod head;
mod kind;
mod mask;
mod message;
mod rate;
mod request_line;
mod scratch;
mod sink;
mod utf8;

pub use close::CloseFrame;
pub use config::{Config, Role};
pub use connection::{Connection, State};
pub use deflate::DeflateConfig;
pub use encoding::Encoding;
pub use error::Error;
pub use fields::Fields;
pub use head::{Complete, Head, HeadError, HeadReader, Limits};
pub use kind::Kind;
pub use mask::{Masked, apply_mask};
pub use message::MAX_ENDS;
pub use rate::{Counted, Excess, InboundLimits, Rate};
pub use request_line::METHODS;
pub use sink::{Place, Sink};
pub use utf8::{InvalidUtf8, validate_utf8};
