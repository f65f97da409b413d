//! The sending half of a stream: what a plain `send` does at once.

use super::turns::{CORK_LIMIT, SENDS_A_TURN};
use super::{MessageStream, Turn};
use crate::panics::point;
use crate::receive::Sent;
use crate::{convert, payload};
use ferrows_core::{Error, Kind};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// What a plain `send` was given.
#[derive(Clone, Copy)]
enum Payload<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
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
            if !this.send_now(payload) {
                return Ok(None);
            }
            (this.turn == Turn::Idle && !this.batched) || this.core.pending_output() > CORK_LIMIT
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
        let (kind, payload) = match payload {
            Payload::Text(text) => (Kind::Text, text.as_bytes()),
            Payload::Binary(bytes) => (Kind::Binary, bytes),
        };
        if payload.len() < payload::UNCOPIED {
            return Ok(false);
        }
        let py = slf.py();
        let Some(transport) = slf.borrow().transport.as_ref().map(|transport| transport.bind(py).clone()) else {
            return Ok(false);
        };
        let gathered = if payload::gathers(&transport)? { Some(payload::buffer(data)?) } else { None };
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

    /// The fast path of `send`, with nothing in the way. Tells whether it was sent.
    fn send_now(&mut self, payload: Payload<'_>) -> bool {
        if self.write_paused || self.send_queued || self.transport.is_none() {
            return false;
        }
        let (sent, size) = match payload {
            Payload::Text(text) => (self.core.send_text(text, true, None), text.len()),
            Payload::Binary(bytes) => (self.core.send_binary(bytes, true, None), bytes.len()),
        };
        if sent.is_ok() {
            self.count_sent(size, true);
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
