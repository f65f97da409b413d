//! A connection after its opening handshake: bytes in, messages and events out; sends in, bytes out (RFC 6455 §5-§7).

mod receiving;
mod sending;

use self::receiving::Partial;
use crate::close::{self, CloseFrame};
use crate::config::{Config, Role};
use crate::deflate::PerMessageDeflate;
use crate::error::Error;
use crate::kind::Kind;
use crate::message::Assembler;
use crate::rate::{InboundLimits, Meters};
use std::sync::Arc;

/// How far the closing handshake is (RFC 6455 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// No Close was sent or received.
    Open = 1,
    /// One Close is out or pending, the other one is awaited.
    Closing = 2,
    /// Both are out, the connection failed, or the peer's bytes ended.
    Closed = 3,
}

/// The state of a WebSocket connection, without I/O.
///
/// What arrives is given to [`receive_data`](Self::receive_data), which hands its meaning to a [`Sink`]. What is sent
/// gathers in the [output](Self::take_output). Pings are answered, and so is the peer's Close, and a breach of the
/// rules with a Close that names it: such a Close is *pending* until the output is taken, and what is sent before goes
/// in front of it.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    state: State,
    /// Neither the peer's Close nor a failure nor the end of the bytes has come.
    receiving: bool,
    /// Between two frames there is none.
    partial: Option<Box<Partial>>,
    assembler: Assembler,
    deflate: Option<Box<PerMessageDeflate>>,
    /// The kind of the fragmented message being sent, and whether it is compressed.
    sending: Option<(Kind, bool)>,
    output: Vec<u8>,
    hold_pongs: bool,
    /// The limits are of messages or of bytes, not of what seldom comes only.
    metered: bool,
    limits: Option<Arc<InboundLimits>>,
    /// Pings that were sent and not answered; one pong may answer several.
    pongs_due: u16,
    /// Made when the first of it is there.
    rare: Option<Box<Rare>>,
}

/// What an open connection has no use for, or seldom has.
#[derive(Debug, Default)]
struct Rare {
    /// Made when the first that is limited arrives.
    meters: Option<Meters>,
    held_pong: Option<Box<[u8]>>,
    pending_close: Option<CloseFrame>,
    close_sent: Option<CloseFrame>,
    close_received: Option<CloseFrame>,
    failure: Option<Error>,
}

impl Connection {
    /// Begin a connection, right after the opening handshake.
    pub fn new(config: Config) -> Self {
        Self {
            role: config.role,
            state: State::Open,
            receiving: true,
            partial: None,
            assembler: Assembler::new(config.max_size),
            deflate: config.deflate.map(|config| Box::new(PerMessageDeflate::new(config))),
            sending: None,
            output: Vec::new(),
            hold_pongs: false,
            metered: false,
            limits: None,
            pongs_due: 0,
            rare: None,
        }
    }

    /// Fail the connection with 1008 where the peer sends more than `limits` permit, which many connections may share.
    #[must_use]
    pub fn with_limits(mut self, limits: Arc<InboundLimits>) -> Self {
        self.metered = limits.messages.is_some() || limits.bytes.is_some();
        self.limits = Some(limits);
        self
    }

    /// Whether permessage-deflate was agreed on, so that a few bytes may become many.
    #[must_use]
    pub fn has_deflate(&self) -> bool {
        self.deflate.is_some()
    }

    /// Fail the connection as if the peer had broken a rule: nothing more is read, and a Close is pending.
    ///
    /// A reason is cut at 123 bytes. With a code that must not be on the wire, such as 1006, no Close is sent. Nothing
    /// happens if the connection failed already, or the closing handshake is as good as over.
    pub fn fail(&mut self, code: u16, reason: &str) {
        if self.state != State::Closed && !self.has_pending_close() {
            self.fail_with(Error::Failed { code, reason: CloseFrame::truncated(code, reason).reason });
        }
    }

    /// Tell whether a Close waits for the output to be taken.
    pub fn has_pending_close(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.pending_close.is_some())
    }

    /// How far the closing handshake is.
    pub fn state(&self) -> State {
        self.state
    }

    /// The Close that was sent; a pending one was not.
    pub fn close_sent(&self) -> Option<&CloseFrame> {
        self.rare.as_ref()?.close_sent.as_ref()
    }

    /// The peer's Close.
    pub fn close_received(&self) -> Option<&CloseFrame> {
        self.rare.as_ref()?.close_received.as_ref()
    }

    /// Why the connection failed, if it did.
    pub fn failure(&self) -> Option<&Error> {
        self.rare.as_ref()?.failure.as_ref()
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Fail the connection (§7.1.7).
    fn fail_with(&mut self, error: Error) {
        self.receiving = false;
        self.release();
        let code = error.close_code().filter(|code| close::is_permitted(*code));
        if let (Some(code), None) = (code, self.close_sent()) {
            self.state = State::Closing;
            self.rare().pending_close = Some(CloseFrame::truncated(code, &error.to_string()));
        } else {
            // Our Close is out: §5.5.1 has nothing sent after it.
            self.state = State::Closed;
        }
        self.rare().failure = Some(error);
    }

    /// Free what reading needed.
    fn release(&mut self) {
        self.partial = None;
        self.assembler.clear();
        if let Some(deflate) = &mut self.deflate {
            deflate.stop_inflating();
        }
    }
}
