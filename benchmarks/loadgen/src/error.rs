//! Why a run ended.

use std::fmt;
use std::io;

/// Why a run ended without a result.
#[derive(Debug)]
pub enum Error {
    /// The command line asks for what there is not.
    Usage(String),
    /// The operating system refused something.
    Io(&'static str, io::Error),
    /// The server answered something else than it should.
    Peer(String),
}

impl Error {
    /// Say what was being done when the operating system refused it; for `map_err`.
    pub fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io(doing, error)
    }

    /// Say on which connection the server answered something wrong.
    #[must_use]
    pub fn on(self, connection: usize) -> Self {
        match self {
            Self::Peer(what) => Self::Peer(format!("connection {connection}: {what}")),
            other => other,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) | Self::Peer(what) => f.write_str(what),
            Self::Io(doing, error) => write!(f, "{doing}: {error}"),
        }
    }
}

impl std::error::Error for Error {}
