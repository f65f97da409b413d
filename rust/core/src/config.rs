//! What is settled when a connection begins.

use crate::deflate::DeflateConfig;

/// Which side of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Frames that arrive are masked, frames that are sent are not (RFC 6455 §5.1).
    Server,
    /// Frames that are sent are masked, frames that arrive are not.
    Client,
}

/// What is settled when a connection begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The side of the connection.
    pub role: Role,
    /// Bytes that a message of the peer may have after inflating; no limit if `None`.
    pub max_size: Option<u64>,
    /// What was agreed on for permessage-deflate, if it was.
    pub deflate: Option<DeflateConfig>,
}
