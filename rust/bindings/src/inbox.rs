//! What arrives and waits for the handler: the items of a stream's queue, and the sink that puts them there.

use crate::clock;
use crate::convert;
use crate::payload::{self, Growing};
use crate::receive::Mode;
use ferrows_core::{CloseFrame, Error, InvalidUtf8, Kind, Masked, Place, Sink};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};
use std::any::Any;
use std::collections::VecDeque;
use std::time::Duration;

/// Something that arrived and waits for the handler.
pub enum Item {
    /// A whole message; `ends` are the byte offsets at which its fragments ended, the last left out.
    Message { data: Py<PyAny>, size: usize, ends: Box<[u32]> },
    /// A fragment of a message that is being streamed.
    Fragment { data: Py<PyAny>, size: usize, fin: bool },
}

impl Item {
    /// Its payload in bytes.
    pub fn size(&self) -> usize {
        match self {
            Self::Message { size, .. } | Self::Fragment { size, .. } => *size,
        }
    }

    /// What a receive of this mode evaluates to.
    pub fn into_object(self, py: Python<'_>, mode: Mode) -> PyResult<Py<PyAny>> {
        let (data, fin) = match self {
            Self::Message { data, .. } => (data, true),
            Self::Fragment { data, fin, .. } => (data, fin),
        };
        if mode == Mode::Event {
            let event = PyDict::new(py);
            event.set_item(intern!(py, "type"), intern!(py, "websocket.receive"))?;
            let data = data.into_bound(py);
            let key = if data.is_instance_of::<PyString>() { intern!(py, "text") } else { intern!(py, "bytes") };
            event.set_item(key, data)?;
            return Ok(event.into_any().unbind());
        }
        if mode == Mode::Fragment {
            return Ok(PyTuple::new(py, [data.into_bound(py), fin.into_pyobject(py)?.to_owned().into_any()])?
                .into_any()
                .unbind());
        }
        Ok(data)
    }
}

/// Split a whole message at the offsets at which its fragments ended.
pub fn split(py: Python<'_>, data: &Py<PyAny>, ends: &[u32]) -> PyResult<Vec<Item>> {
    let data = data.bind(py);
    let (kind, payload) = match data.cast::<PyString>() {
        Ok(text) => (Kind::Text, text.to_str()?.as_bytes()),
        Err(_) => (Kind::Binary, data.cast::<PyBytes>()?.as_bytes()),
    };
    let mut items = Vec::with_capacity(ends.len() + 1);
    let mut start = 0;
    for end in ends.iter().map(|&end| end as usize).chain([payload.len()]) {
        let piece = &payload[start..end];
        let data = convert::payload_object(py, kind, piece)?;
        items.push(Item::Fragment { data, size: piece.len(), fin: end == payload.len() && items.len() == ends.len() });
        start = end;
    }
    Ok(items)
}

/// Puts what the core hands over into the queue. It makes str and bytes only, whose allocation runs no Python code.
pub struct Inbox<'a, 'py> {
    pub py: Python<'py>,
    pub queue: &'a mut VecDeque<Item>,
    pub queued_bytes: &'a mut usize,
    pub messages_received: &'a mut u64,
    pub bytes_received: &'a mut u64,
    pub stalled: &'a mut bool,
    pub dropping: &'a mut bool,
    pub pongs: &'a mut Vec<Vec<u8>>,
    /// Messages and bytes that are kept, where there is a limit.
    pub limits: Option<(usize, usize)>,
    /// The time, once it was asked for.
    pub now: Option<Duration>,
}

impl Inbox<'_, '_> {
    /// Count what arrived. Tells whether it is kept.
    fn admit(&mut self, size: usize) -> bool {
        *self.bytes_received += size as u64;
        if let Some((count, bytes)) = self.limits {
            // All that follows the first that is dropped is dropped too, lest a message lose its middle.
            *self.dropping |= self.queue.len() >= count || *self.queued_bytes + size > bytes;
        }
        !*self.dropping
    }

    fn push(&mut self, item: Item, fin: bool) {
        *self.queued_bytes += item.size();
        self.queue.push_back(item);
        // A message that stalled for want of its end still does before that.
        *self.stalled &= !fin;
    }

    /// A payload as the handler gets it. The core has validated text.
    fn object(&self, kind: Kind, payload: &[u8]) -> Py<PyAny> {
        let object = payload::unmasked(self.py, kind, Masked::plain(payload)).expect("memory for a message");
        object.expect("text that is valid")
    }
}

impl Sink for Inbox<'_, '_> {
    fn message(&mut self, kind: Kind, payload: &[u8], ends: &[u32]) {
        *self.messages_received += 1;
        if self.admit(payload.len()) {
            let data = self.object(kind, payload);
            self.push(Item::Message { data, size: payload.len(), ends: ends.into() }, true);
        }
    }

    fn masked_message(&mut self, kind: Kind, payload: Masked<'_>) -> Result<(), InvalidUtf8> {
        // Also where it is dropped: a text has to be one.
        let data = payload::unmasked(self.py, kind, payload).expect("memory for a message")?;
        *self.messages_received += 1;
        if self.admit(payload.len()) {
            self.push(Item::Message { data, size: payload.len(), ends: Box::default() }, true);
        }
        Ok(())
    }

    fn place(&mut self, kind: Kind) -> Option<Box<dyn Place>> {
        Some(Box::new(Growing::new(kind)))
    }

    fn placed_message(&mut self, _kind: Kind, place: Box<dyn Place>, fragment: bool) {
        let size = place.payload().len();
        *self.messages_received += 1;
        if self.admit(size) {
            let place: Box<dyn Any> = place;
            let growing = place.downcast::<Growing>().expect("a place that this sink made");
            let data = growing.finish(self.py).expect("text that is valid");
            let item = if fragment {
                Item::Fragment { data, size, fin: true }
            } else {
                Item::Message { data, size, ends: Box::default() }
            };
            self.push(item, true);
        }
    }

    fn fragment(&mut self, kind: Kind, payload: &[u8], fin: bool) {
        *self.messages_received += u64::from(fin);
        if self.admit(payload.len()) {
            let data = self.object(kind, payload);
            self.push(Item::Fragment { data, size: payload.len(), fin }, fin);
        }
    }

    fn ping(&mut self, _payload: &[u8]) {}

    fn pong(&mut self, payload: &[u8]) {
        self.pongs.push(payload.to_vec());
    }

    fn close(&mut self, _frame: &CloseFrame) {}

    fn failure(&mut self, _error: &Error) {}

    fn now(&mut self) -> Duration {
        *self.now.get_or_insert_with(clock::now)
    }
}
