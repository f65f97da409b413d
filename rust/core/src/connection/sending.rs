//! The sending half of a connection: messages and control frames in, bytes out.

use super::{Connection, State};
use crate::close::CloseFrame;
use crate::config::Role;
use crate::encoding::Encoding;
use crate::error::Error;
use crate::frame::{FrameHeader, MAX_CONTROL, MAX_HEADER, Opcode};
use crate::kind::Kind;
use crate::mask;
use crate::scratch::Scratch;

impl Connection {
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

    /// Answer a ping with its payload, or keep the answer for later.
    pub(super) fn answer_ping(&mut self, payload: &[u8]) {
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

/// Make a masking key that cannot be predicted, from the operating system's source of randomness (§5.3).
///
/// # Panics
/// If that source fails: a key that can be guessed would be worse.
fn fresh_mask() -> [u8; 4] {
    let mut mask = [0; 4];
    getrandom::fill(&mut mask).expect("the operating system provides randomness");
    mask
}
