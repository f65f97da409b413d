//! A connection after its opening handshake: bytes in, messages and events out; sends in, bytes out (RFC 6455 §5-§7).

use crate::close::{self, CloseFrame};
use crate::config::{Config, Role};
use crate::deflate::PerMessageDeflate;
use crate::encoding::Encoding;
use crate::error::Error;
use crate::frame::{FrameHeader, MAX_CONTROL, MAX_HEADER, Opcode, Rules};
use crate::kind::Kind;
use crate::mask::{self, Masked};
use crate::message::{Assembler, Piece};
use crate::rate::{Counted, Excess, InboundLimits, Meters};
use crate::scratch::Scratch;
use crate::sink::Sink;
use crate::utf8::InvalidUtf8;
use std::sync::Arc;
use std::time::Duration;

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

/// A frame of which only the beginning has come.
#[derive(Debug, Default)]
struct Partial {
    /// Its header, and how many bytes of its payload came; if `None`, not even all of the header did.
    header: Option<(FrameHeader, u64)>,
    /// The beginning of the header, or of a control frame's payload.
    bytes: Vec<u8>,
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

    /// Note whether what arrives is read, from `now` on. While it is not, it piles up through no fault of the peer: it
    /// may come at once afterwards, however much the limits permit at once.
    pub fn set_reading(&mut self, reading: bool, now: impl FnOnce() -> Duration) {
        if let Some(meters) = self.rare.as_mut().and_then(|rare| rare.meters.as_mut()) {
            meters.set_reading(reading, now());
        } else if let (true, false, Some(limits)) = (self.metered, reading, &self.limits) {
            let meters = Meters::new(limits, now());
            self.rare().meters = Some(meters);
        }
    }

    /// Whether permessage-deflate was agreed on, so that a few bytes may become many.
    #[must_use]
    pub fn has_deflate(&self) -> bool {
        self.deflate.is_some()
    }

    /// Read what arrived, however it was cut, and hand what it means to `sink`.
    ///
    /// Nothing is read after the peer's Close, a failure or the end (RFC 6455 §5.5.1, §7.1.7). Memory grows with what
    /// arrives, not with what a header announces.
    pub fn receive_data<S: Sink>(&mut self, data: &[u8], sink: &mut S) {
        if !self.receiving {
            return;
        }
        if let Err(error) = self.receive(data, sink) {
            self.fail_with(error);
            if let Some(error) = self.failure() {
                sink.failure(error);
            }
        }
    }

    /// Tell how many bytes of `data` belong to the frame that is arriving, or to the one that begins with it: all, where
    /// it ends later; 0 where its header is not all there. Cut elsewhere, it would not arrive in one piece.
    pub fn frame_end(&self, data: &[u8]) -> usize {
        let missing = match self.partial.as_deref() {
            Some(Partial { header: Some((header, received)), .. }) => header.length - received,
            Some(Partial { header: None, .. }) => 0,
            None => match FrameHeader::parse(data, &self.rules()) {
                Ok(Some((header, size))) => header.length.saturating_add(size as u64),
                _ => 0,
            },
        };
        usize::try_from(missing).map_or(data.len(), |missing| missing.min(data.len()))
    }

    /// Take note that no more bytes will arrive. Without the peer's Close that is the abnormal end, 1006 (RFC 6455
    /// §7.1.5). A pending Close stays pending: the peer may have closed its direction only.
    pub fn receive_eof(&mut self) {
        self.receiving = false;
        self.state = State::Closed;
        self.release();
    }

    /// Hand the message under assembly over as fragments from here on: what is there of it now, split where its frames
    /// ended, and then one fragment a frame. If there is none, do so with the next message. It ends with the message.
    pub fn begin_streaming<S: Sink>(&mut self, sink: &mut S) {
        self.assembler.begin_streaming(sink);
    }

    /// Send text: a message, or with `fin` false a fragment of one, which the next call continues (RFC 6455 §5.4).
    ///
    /// Where permessage-deflate was agreed on, `compress` decides; if `None`, fragmented messages are compressed and
    /// others from the configured threshold on. It counts on the first fragment only.
    ///
    /// # Errors
    /// [`Error::Closed`], or [`Error::KindMixed`] while a fragmented binary message is unfinished.
    pub fn send_text(&mut self, data: &str, fin: bool, compress: Option<bool>) -> Result<(), Error> {
        self.send_data(Kind::Text, data.as_bytes(), fin, compress)
    }

    /// Send bytes: a message, or a fragment of one, as [`send_text`](Self::send_text) does.
    ///
    /// # Errors
    /// [`Error::Closed`], or [`Error::KindMixed`] while a fragmented text message is unfinished.
    pub fn send_binary(&mut self, data: &[u8], fin: bool, compress: Option<bool>) -> Result<(), Error> {
        self.send_data(Kind::Binary, data, fin, compress)
    }

    /// Send the header of a whole message whose payload the caller itself writes, right after the
    /// [output](Self::take_output).
    ///
    /// Returns false, with nothing sent, where that is not possible: the payload would be masked or compressed, a
    /// fragmented message is unfinished, or the connection is closed.
    pub fn send_header(&mut self, kind: Kind, length: usize) -> bool {
        if self.role == Role::Client || self.deflate.is_some() || !self.takes_message() {
            return false;
        }
        self.encode_header(Opcode::from(kind), true, false, None, length, 0);
        true
    }

    /// Tell whether a whole message can be sent: the connection is not closed, and no fragmented message is unfinished.
    #[inline]
    pub fn takes_message(&self) -> bool {
        self.sending.is_none() && self.check_open().is_ok()
    }

    /// How a whole message of `length` bytes would be sent, with `compress` as in [`send_text`](Self::send_text).
    ///
    /// `None` if its bytes are this connection's alone: a client masks them, and with context takeover they depend on
    /// the messages before.
    #[inline]
    pub fn encoding(&self, length: usize, compress: Option<bool>) -> Option<Encoding> {
        if self.role == Role::Client {
            return None;
        }
        match self.deflate.as_deref().filter(|deflate| compress.unwrap_or(length >= deflate.threshold())) {
            None => Some(Encoding { compressed: None }),
            Some(deflate) => deflate.shared().map(|parameters| Encoding { compressed: Some(parameters) }),
        }
    }

    /// Send a whole message that is encoded already, in this connection's [`encoding`](Self::encoding) of it.
    ///
    /// Returns false, with nothing sent, unless it [takes a message](Self::takes_message).
    pub fn send_encoded(&mut self, frame: &[u8]) -> bool {
        if !self.takes_message() {
            return false;
        }
        if self.output.capacity() == 0 {
            self.output = Scratch::Output.take();
        }
        self.output.extend_from_slice(frame);
        true
    }

    /// Send a ping (RFC 6455 §5.5.2).
    ///
    /// # Errors
    /// [`Error::ControlPayloadTooLong`] over 125 bytes, or [`Error::Closed`].
    pub fn send_ping(&mut self, data: &[u8]) -> Result<(), Error> {
        self.send_control(Opcode::Ping, data)?;
        self.pongs_due = self.pongs_due.saturating_add(1);
        Ok(())
    }

    /// Send a pong that no ping asked for (RFC 6455 §5.5.3).
    ///
    /// # Errors
    /// [`Error::ControlPayloadTooLong`] over 125 bytes, or [`Error::Closed`].
    pub fn send_pong(&mut self, data: &[u8]) -> Result<(), Error> {
        self.send_control(Opcode::Pong, data)
    }

    /// Begin the closing handshake (RFC 6455 §7.1.2), with an empty body if `code` is `None`.
    ///
    /// A second Close is not sent: nothing happens if one is out or pending.
    ///
    /// # Errors
    /// [`Error::CloseCodeNotSendable`], [`Error::ReasonTooLong`] over 123 bytes, [`Error::ReasonWithoutCode`], or
    /// [`Error::Closed`] if the peer's bytes ended before.
    pub fn send_close(&mut self, code: Option<u16>, reason: &str) -> Result<(), Error> {
        let frame = CloseFrame::checked(code, reason)?;
        if self.close_sent().is_some() || self.has_pending_close() {
            return Ok(());
        }
        self.check_open()?;
        self.encode_close(frame);
        self.state = State::Closing;
        Ok(())
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

    /// Hold answers to pings back, for as long as the peer does not read: only the latest is kept (RFC 6455 §5.5.3).
    ///
    /// With `false` the one that was kept goes to the output.
    pub fn hold_pongs(&mut self, hold: bool) {
        self.hold_pongs = hold;
        if !hold && let Some(pong) = self.rare.as_mut().and_then(|rare| rare.held_pong.take()) {
            self.answer_ping(&pong);
        }
    }

    /// Append all that is to be written to `out`, a pending Close at last.
    pub fn take_output(&mut self, out: &mut Vec<u8>) {
        self.flush_close();
        self.take_output_before_close(out);
    }

    /// Append all that is to be written to `out`, but leave a pending Close pending.
    pub fn take_output_before_close(&mut self, out: &mut Vec<u8>) {
        if out.is_empty() {
            std::mem::swap(out, &mut self.output);
        } else {
            out.extend_from_slice(&self.output);
        }
        self.clear_output();
    }

    /// Encode a pending Close: it is at the end of the [output](Self::output) then, and the connection is closed.
    pub fn flush_close(&mut self) {
        if let Some(frame) = self.rare.as_mut().and_then(|rare| rare.pending_close.take()) {
            self.encode_close(frame);
            self.state = State::Closed;
        }
    }

    /// Borrow all that is to be written, without a pending Close.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// Forget the output, which was written.
    pub fn clear_output(&mut self) {
        if self.output.capacity() != 0 {
            Scratch::Output.put(std::mem::take(&mut self.output));
        }
    }

    /// Bytes waiting to be written, without a pending Close.
    pub fn pending_output(&self) -> usize {
        self.output.len()
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

    // Receiving.

    fn receive<S: Sink>(&mut self, data: &[u8], sink: &mut S) -> Result<(), Error> {
        let mut input = data;
        if let Some(partial) = &self.partial {
            if let Some((header, received)) = partial.header {
                input = self.payload(header, received, input, sink)?;
            } else {
                let Some((header, rest)) = self.resume_header(input)? else {
                    return Ok(());
                };
                self.begin_frame(&header, sink)?;
                input = self.payload(header, 0, rest, sink)?;
            }
        }
        while self.receiving && !input.is_empty() {
            let Some((header, size)) = FrameHeader::parse(input, &self.rules())? else {
                self.partial().bytes.extend_from_slice(input);
                break;
            };
            let rest = &input[size..];
            // The way of nearly every message: all of it is there, and nothing has to be kept.
            if let Some(kind) = self.bypass(&header)
                && let Some((payload, rest)) =
                    usize::try_from(header.length).ok().and_then(|n| rest.split_at_checked(n))
            {
                let wire = payload.len();
                if self.metered {
                    self.charge(Counted::Messages, 1, sink)?;
                    self.charge(Counted::Bytes, size + wire, sink)?;
                }
                let payload = Masked::new(payload, header.mask, 0);
                match self.deflate.as_deref_mut().filter(|_| header.compressed) {
                    None => sink.masked_message(kind, payload).map_err(|InvalidUtf8| Error::InvalidText)?,
                    Some(deflate) => {
                        let (metered, limits, rare) = (self.metered, &self.limits, &mut self.rare);
                        self.assembler.bypass(kind, payload, deflate, sink, |inflated, sink| match limits {
                            Some(limits) if metered && inflated > wire => {
                                Ok(charge(limits, rare, Counted::Bytes, inflated - wire, sink)?)
                            }
                            _ => Ok(()),
                        })?;
                    }
                }
                input = rest;
                continue;
            }
            self.begin_frame(&header, sink)?;
            input = self.payload(header, 0, rest, sink)?;
        }
        Ok(())
    }

    /// Charge what arrived against the limits.
    fn charge<S: Sink>(&mut self, counted: Counted, amount: usize, sink: &mut S) -> Result<(), Excess> {
        match &self.limits {
            Some(limits) => charge(limits, &mut self.rare, counted, amount, sink),
            None => Ok(()),
        }
    }

    /// Charge the bytes that a message, or a piece of one, has become beyond those on the wire.
    fn charge_inflated<S: Sink>(&mut self, inflated: usize, wire: usize, sink: &mut S) -> Result<(), Excess> {
        if self.metered && inflated > wire { self.charge(Counted::Bytes, inflated - wire, sink) } else { Ok(()) }
    }

    /// What the next frame may be.
    #[inline]
    fn rules(&self) -> Rules {
        Rules {
            masked: self.role == Role::Server,
            deflate: self.deflate.is_some(),
            unfinished: self.assembler.unfinished(),
            max_size: self.assembler.max_size(),
        }
    }

    /// Return the kind of the message if the frame is all of one and the assembler is not needed.
    #[inline]
    fn bypass(&self, header: &FrameHeader) -> Option<Kind> {
        if !header.fin || !self.assembler.is_bypassable() {
            return None;
        }
        match header.opcode {
            Opcode::Text => Some(Kind::Text),
            Opcode::Binary => Some(Kind::Binary),
            _ => None,
        }
    }

    /// Go on with a header whose beginning came before. Returns it with the input after it.
    fn resume_header<'a>(&mut self, input: &'a [u8]) -> Result<Option<(FrameHeader, &'a [u8])>, Error> {
        let mut bytes = [0; MAX_HEADER];
        let begun = self.partial().bytes.as_slice();
        let before = begun.len();
        let added = input.len().min(MAX_HEADER - before);
        bytes[..before].copy_from_slice(begun);
        bytes[before..before + added].copy_from_slice(&input[..added]);
        let Some((header, size)) = FrameHeader::parse(&bytes[..before + added], &self.rules())? else {
            self.partial().bytes.extend_from_slice(&input[..added]);
            return Ok(None);
        };
        self.partial = None;
        Ok(Some((header, &input[size - before..])))
    }

    fn partial(&mut self) -> &mut Partial {
        self.partial.get_or_insert_default()
    }

    /// Take note of a header.
    fn begin_frame<S: Sink>(&mut self, header: &FrameHeader, sink: &mut S) -> Result<(), Excess> {
        let kind = match header.opcode {
            Opcode::Text => Some(Kind::Text),
            Opcode::Binary => Some(Kind::Binary),
            Opcode::Continuation | Opcode::Close | Opcode::Ping | Opcode::Pong => None,
        };
        if self.metered {
            if kind.is_some() {
                self.charge(Counted::Messages, 1, sink)?;
            }
            self.charge(Counted::Bytes, header.size(), sink)?;
        }
        if header.opcode.is_control() {
            return Ok(());
        }
        if let Some(kind) = kind {
            self.assembler.begin(kind, header.compressed);
        }
        let frames = self.assembler.announce(header.length);
        match self.limits.as_ref().and_then(|limits| limits.fragments) {
            Some(permitted) if frames > permitted => {
                Err(Excess { counted: Counted::Fragments, permitted: permitted.into() })
            }
            _ => Ok(()),
        }
    }

    /// Read the payload of a frame of which `received` bytes came before. Returns the input after it.
    fn payload<'a, S: Sink>(
        &mut self,
        header: FrameHeader,
        received: u64,
        input: &'a [u8],
        sink: &mut S,
    ) -> Result<&'a [u8], Error> {
        let missing = header.length - received;
        let size = usize::try_from(missing).map_or(input.len(), |missing| missing.min(input.len()));
        let (bytes, rest) = input.split_at(size);
        let left = missing - size as u64;
        if self.metered {
            self.charge(Counted::Bytes, size, sink)?;
        }
        // The key repeats every four bytes, so the remainder is enough.
        let offset = (received % 4) as usize;
        let begun = if left == 0 {
            self.partial.take()
        } else {
            self.partial().header = Some((header, header.length - left));
            None
        };
        if header.opcode.is_control() {
            if left > 0 {
                mask::append_unmasked(&mut self.partial().bytes, bytes, header.mask, offset);
            } else {
                // Most control frames arrive whole and leave no buffer behind.
                let mut payload = begun.map_or_else(Vec::new, |partial| partial.bytes);
                mask::append_unmasked(&mut payload, bytes, header.mask, offset);
                self.control(header.opcode, &payload, sink)?;
            }
            return Ok(rest);
        }
        if size > 0 {
            let piece = Piece { bytes, mask: header.mask, offset, left, fin: header.fin };
            let before = self.assembler.size();
            self.assembler.push(&piece, self.deflate.as_deref_mut(), sink)?;
            let grown = usize::try_from(self.assembler.size() - before).unwrap_or(usize::MAX);
            self.charge_inflated(grown, size, sink)?;
        }
        if left == 0 {
            self.assembler.end_frame(header.fin, self.deflate.as_deref_mut(), sink)?;
        }
        Ok(rest)
    }

    /// Act on a control frame (§5.5).
    fn control<S: Sink>(&mut self, opcode: Opcode, payload: &[u8], sink: &mut S) -> Result<(), Error> {
        match opcode {
            Opcode::Ping => {
                self.charge(Counted::Pings, 1, sink)?;
                self.answer_ping(payload);
                sink.ping(payload);
            }
            // §5.5.3: a pong that nothing asked for is not answered.
            Opcode::Pong => {
                match self.pongs_due.checked_sub(1) {
                    Some(due) => self.pongs_due = due,
                    None => self.charge(Counted::Pings, 1, sink)?,
                }
                sink.pong(payload);
            }
            Opcode::Close => {
                let frame = CloseFrame::parse(payload)?;
                self.receiving = false;
                self.release();
                if self.close_sent().is_some() {
                    self.state = State::Closed;
                } else {
                    // §5.5.1: an endpoint that has not sent a Close MUST send one in response, typically with the
                    // code that it received.
                    self.state = State::Closing;
                    self.rare().pending_close = Some(CloseFrame { code: frame.code, reason: String::new() });
                }
                let frame: &CloseFrame = self.rare().close_received.insert(frame);
                sink.close(frame);
            }
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {}
        }
        Ok(())
    }

    /// Answer a ping with its payload, or keep the answer for later.
    fn answer_ping(&mut self, payload: &[u8]) {
        // §5.5.1: nothing is sent after a Close.
        if self.check_open().is_err() {
            return;
        }
        // §5.5.3: it is enough to answer the latest ping.
        if self.hold_pongs {
            self.rare().held_pong = Some(payload.into());
        } else {
            self.encode(Opcode::Pong, true, false, payload);
        }
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

    // Sending.

    /// §5.5.1: nothing is sent after a Close.
    #[inline]
    fn check_open(&self) -> Result<(), Error> {
        if self.close_sent().is_some() || self.state == State::Closed { Err(Error::Closed) } else { Ok(()) }
    }

    #[inline]
    fn send_data(&mut self, kind: Kind, data: &[u8], fin: bool, compress: Option<bool>) -> Result<(), Error> {
        self.check_open()?;
        let (opcode, compressed) = match self.sending {
            Some((sending, compressed)) if sending == kind => (Opcode::Continuation, compressed),
            // §5.4: the fragments of one message MUST NOT be interleaved with those of another.
            Some((sending, _)) => return Err(Error::KindMixed(sending)),
            None => {
                let compressed = match &self.deflate {
                    None => false,
                    Some(deflate) => compress.unwrap_or(!fin || data.len() >= deflate.threshold()),
                };
                (Opcode::from(kind), compressed)
            }
        };
        self.sending = if fin { None } else { Some((kind, compressed)) };
        if let (true, Some(deflate)) = (compressed, &mut self.deflate) {
            let mut payload = Scratch::Payload.take();
            deflate.compress(data, fin, &mut payload);
            // RFC 7692 §6: RSV1 on the first frame of the message only.
            self.encode(opcode, fin, opcode != Opcode::Continuation, &payload);
            Scratch::Payload.put(payload);
        } else {
            self.encode(opcode, fin, false, data);
        }
        Ok(())
    }

    fn send_control(&mut self, opcode: Opcode, data: &[u8]) -> Result<(), Error> {
        if data.len() > MAX_CONTROL {
            return Err(Error::ControlPayloadTooLong(data.len()));
        }
        self.check_open()?;
        self.encode(opcode, true, false, data);
        Ok(())
    }

    fn encode_close(&mut self, frame: CloseFrame) {
        self.encode(Opcode::Close, true, false, &frame.body());
        self.rare().close_sent = Some(frame);
    }

    /// Append a frame to the output, masked if we are the client.
    #[inline]
    fn encode(&mut self, opcode: Opcode, fin: bool, compressed: bool, payload: &[u8]) {
        let mask = match self.role {
            Role::Server => None,
            Role::Client => Some(fresh_mask()),
        };
        self.encode_header(opcode, fin, compressed, mask, payload.len(), payload.len());
        mask::append_unmasked(&mut self.output, payload, mask, 0);
    }

    /// Append a header to the output, with room for `reserve` bytes after it.
    #[inline]
    fn encode_header(
        &mut self,
        opcode: Opcode,
        fin: bool,
        compressed: bool,
        mask: Option<[u8; 4]>,
        length: usize,
        reserve: usize,
    ) {
        if self.output.capacity() == 0 {
            self.output = Scratch::Output.take();
        }
        self.output.reserve(MAX_HEADER + reserve);
        FrameHeader { opcode, fin, compressed, mask, length: length as u64 }.encode(&mut self.output);
    }
}

/// Charge what arrived against the limits.
fn charge<S: Sink>(
    limits: &InboundLimits,
    rare: &mut Option<Box<Rare>>,
    counted: Counted,
    amount: usize,
    sink: &mut S,
) -> Result<(), Excess> {
    let meters = &mut rare.get_or_insert_default().meters;
    meters.get_or_insert_with(|| Meters::new(limits, sink.now())).take(counted, amount, || sink.now())
}

/// Make a masking key that cannot be predicted, from the operating system's source of randomness (§5.3).
///
/// # Panics
/// If that source fails: a key that can be guessed would be worse.
fn fresh_mask() -> [u8; 4] {
    let mut mask = [0; 4];
    getrandom::fill(&mut mask).expect("the operating system provides randomness");
    mask
}
