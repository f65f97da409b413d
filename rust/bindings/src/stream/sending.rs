//! The sending half of a stream: what a plain `send` does at once.

use super::turns::{CORK_LIMIT, SENDS_A_TURN};
use super::{MessageStream, Turn};
use crate::broadcast::Broadcast;
use crate::panics::point;
use crate::receive::Sent;
use crate::{convert, payload};
use ferrows_core::{Error, Kind};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// What a plain `send` was given.
#[derive(Clone, Copy)]
pub enum Payload<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

impl<'a> Payload<'a> {
    pub fn kind(self) -> Kind {
        match self {
            Self::Text(_) => Kind::Text,
            Self::Binary(_) => Kind::Binary,
        }
    }

    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

impl MessageStream {
    /// Send exactly str or bytes with nothing in the way; None where it is not that.
    pub fn send_plain(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        // The payload is looked at before the stream is borrowed: a text that is none raises, and raising may run code.
        let Some(payload) = plain_payload(data) else { return Ok(None) };
        if Self::send_uncopied(slf, data, payload)? {
            return Self::sent(slf).map(Some);
        }
        let due = {
            let mut this = slf.borrow_mut();
            point("send_now");
            if !this.send_now(payload, None) {
                return Ok(None);
            }
            (this.turn == Turn::Idle && !this.batched) || this.pending_output(slf.py()) > CORK_LIMIT
        };
        if due {
            Self::leave_or_wait(slf)?;
        }
        Self::sent(slf).map(Some)
    }

    /// What a send returns that is done.
    fn sent(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let left = {
            let this = &mut *slf.borrow_mut();
            this.sends_left = this.sends_left.checked_sub(1).unwrap_or(SENDS_A_TURN);
            this.sends_left
        };
        if left == 0 {
            return Ok(slf.call_method0(intern!(slf.py(), "_give_way"))?.unbind());
        }
        Sent::instance(slf.py())
    }

    /// `send` of a large payload, with nothing in the way: what waits, its header and the payload leave at once, in one
    /// call, so that nothing can come between them. Tells whether it was sent.
    fn send_uncopied(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>, payload: Payload<'_>) -> PyResult<bool> {
        let (kind, payload) = (payload.kind(), payload.bytes());
        if payload.len() < payload::UNCOPIED {
            return Ok(false);
        }
        let py = slf.py();
        let Some(transport) = slf.borrow().transport.as_ref().map(|transport| transport.bind(py).clone()) else {
            return Ok(false);
        };
        let gathered = if payload::gathers(&transport)? { Some(payload::buffer(data)?) } else { None };
        if slf.borrow().shared.is_some() {
            Self::flush(slf, true)?;
        }
        let output = {
            let this = &mut *slf.borrow_mut();
            if this.write_paused || this.send_queued || !this.core.send_header(kind, payload.len()) {
                return Ok(false);
            }
            let payload_behind = if gathered.is_none() { payload } else { &[] };
            let output = payload::joined(py, this.core.output(), payload_behind);
            // Also without memory for it: a header must not stay there without its payload.
            this.core.clear_output();
            this.count_sent(payload.len(), true);
            output?
        };
        match gathered {
            Some(payload) => transport.call_method1(intern!(py, "writelines"), ((output, payload),))?,
            None => transport.call_method1(intern!(py, "write"), (output,))?,
        };
        Ok(true)
    }

    /// Send a whole message that goes to others as well. Tells whether it was sent: it was not where `send` would raise
    /// or wait. It leaves as what `send` sends does; what is raised is the transport's.
    pub fn send_broadcast<'py>(slf: &Bound<'py, Self>, broadcast: &mut Broadcast<'_, 'py>) -> PyResult<bool> {
        let encoding = {
            let this = slf.borrow();
            if !this.takes_message() {
                return Ok(false);
            }
            this.core.encoding(broadcast.payload.bytes().len(), broadcast.compress)
        };
        if let Some(encoding) = encoding {
            let frame = broadcast.frame(slf.py(), encoding);
            // A large frame is not copied behind what waits: that leaves first, and the transport may pause at it.
            if frame.as_bytes().len() >= payload::UNCOPIED && slf.borrow().pending_output(slf.py()) != 0 {
                Self::flush(slf, true)?;
                if !slf.borrow().takes_message() {
                    return Ok(false);
                }
            }
            let this = &mut *slf.borrow_mut();
            if this.pending_output(slf.py()) == 0 {
                this.shared = Some(frame.clone().unbind());
            } else {
                this.core.send_encoded(frame.as_bytes());
            }
            this.count_sent(broadcast.payload.bytes().len(), true);
        } else if !slf.borrow_mut().send_now(broadcast.payload, broadcast.compress) {
            return Ok(false);
        }
        Self::leave_or_wait(slf)?;
        Ok(true)
    }

    /// Whether `send` would send a whole message at once.
    fn takes_message(&self) -> bool {
        !self.write_paused && !self.send_queued && self.transport.is_some() && self.core.takes_message()
    }

    /// Bytes waiting to be written, without a pending Close.
    pub(super) fn pending_output(&self, py: Python<'_>) -> usize {
        self.shared.as_ref().map_or(0, |frame| frame.as_bytes(py).len()) + self.core.pending_output()
    }

    /// Take all that is to be written: mostly one piece, but what is large is not copied in front of the rest.
    pub(super) fn take_output<'py>(
        &mut self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyBytes>, Option<Bound<'py, PyBytes>>)> {
        let Some(shared) = self.shared.take().map(|frame| frame.into_bound(py)) else {
            let output = PyBytes::new(py, self.core.output());
            self.core.clear_output();
            return Ok((output, None));
        };
        if self.core.pending_output() == 0 {
            return Ok((shared, None));
        }
        let pieces = if shared.as_bytes().len() < payload::UNCOPIED {
            payload::joined(py, shared.as_bytes(), self.core.output()).map(|output| (output, None))
        } else {
            Ok((shared, Some(PyBytes::new(py, self.core.output()))))
        };
        self.core.clear_output();
        pieces
    }

    /// The fast path of `send`, with nothing in the way. Tells whether it was sent.
    fn send_now(&mut self, payload: Payload<'_>, compress: Option<bool>) -> bool {
        if self.write_paused || self.send_queued || self.transport.is_none() {
            return false;
        }
        let sent = match payload {
            Payload::Text(text) => self.core.send_text(text, true, compress),
            Payload::Binary(bytes) => self.core.send_binary(bytes, true, compress),
        };
        if sent.is_ok() {
            self.count_sent(payload.bytes().len(), true);
        }
        sent.is_ok()
    }

    pub(super) fn count_sent(&mut self, size: usize, fin: bool) {
        self.messages_sent += u64::from(fin);
        self.bytes_sent += size as u64;
    }

    pub(super) fn checked(&self, py: Python<'_>, sent: Result<(), Error>) -> PyResult<()> {
        let close = self.core.close_received().or(self.core.close_sent());
        sent.map_err(|error| convert::caller_error(py, &error, close))
    }
}

/// The payload of exactly str or bytes; None for anything else, a str that is no text among it.
fn plain_payload<'a>(data: &'a Bound<'_, PyAny>) -> Option<Payload<'a>> {
    if let Ok(text) = data.cast_exact::<PyString>() {
        return text.to_str().ok().map(Payload::Text);
    }
    data.cast_exact::<PyBytes>().ok().map(|bytes| Payload::Binary(bytes.as_bytes()))
}
