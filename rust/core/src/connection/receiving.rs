//! The receiving half of a connection: bytes in, messages and events out.

use super::{Connection, Rare, State};
use crate::close::CloseFrame;
use crate::config::Role;
use crate::error::Error;
use crate::frame::{FrameHeader, MAX_HEADER, Opcode, Rules};
use crate::kind::Kind;
use crate::mask::{self, Masked};
use crate::message::Piece;
use crate::rate::{Counted, Excess, InboundLimits, Meters};
use crate::sink::Sink;
use crate::utf8::InvalidUtf8;
use std::time::Duration;

impl Connection {
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
}

/// A frame of which only the beginning has come.
#[derive(Debug, Default)]
pub(super) struct Partial {
    /// Its header, and how many bytes of its payload came; if `None`, not even all of the header did.
    header: Option<(FrameHeader, u64)>,
    /// The beginning of the header, or of a control frame's payload.
    bytes: Vec<u8>,
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
