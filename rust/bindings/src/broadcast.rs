//! `broadcast`: one message to many websockets, encoded once.

use crate::batch::{self, Batch};
use crate::convert;
use crate::stream::{MessageStream, Payload};
use ferrows_core::Encoding;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

/// A message on its way to many streams.
pub struct Broadcast<'a, 'py> {
    pub payload: Payload<'a>,
    pub compress: Option<bool>,
    /// Its frames, as far as they were needed. Nearly always it is one: connections differ in what was agreed on only.
    frames: Vec<(Encoding, Bound<'py, PyBytes>)>,
}

impl<'py> Broadcast<'_, 'py> {
    /// The frame of this encoding.
    pub fn frame(&mut self, py: Python<'py>, encoding: Encoding) -> &Bound<'py, PyBytes> {
        let at = self.frames.iter().position(|(made, _)| *made == encoding).unwrap_or_else(|| {
            let mut frame = Vec::new();
            encoding.encode(self.payload.kind(), self.payload.bytes(), &mut frame);
            self.frames.push((encoding, PyBytes::new(py, &frame)));
            self.frames.len() - 1
        });
        &self.frames[at].1
    }

    /// Send it on every stream that takes it; returns the others.
    fn send(mut self, streams: Vec<Bound<'py, MessageStream>>, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let left_out = PyList::empty(py);
        let mut result = Ok(());
        // Outside of a turn as well: all have the message before the first transport is called.
        let own = Batch::open(py);
        for stream in streams {
            match batch::guarded(&stream, || MessageStream::send_broadcast(&stream, &mut self)) {
                Ok(Some(false)) => left_out.append(stream)?,
                Ok(_) => {}
                Err(error) => result = Err(error),
            }
        }
        result.and(own.map_or(Ok(()), Batch::end)).map(|()| left_out)
    }
}

/// Send one message to many websockets at once, and return those that it was not sent to.
///
/// `ferrows.broadcast` documents it.
#[pyfunction]
#[pyo3(signature = (websockets, data, *, compress=None))]
pub fn broadcast<'py>(
    websockets: &Bound<'py, PyAny>,
    data: &Bound<'py, PyAny>,
    compress: Option<bool>,
) -> PyResult<Bound<'py, PyList>> {
    let py = data.py();
    // All are looked at before anything is sent: what iterates runs code that may raise, and close some of them.
    let streams = websockets.try_iter()?.map(|websocket| stream(&websocket?)).collect::<PyResult<Vec<_>>>()?;
    if let Ok(text) = data.cast::<PyString>() {
        return Broadcast { payload: Payload::Text(text.to_str()?), compress, frames: Vec::new() }.send(streams, py);
    }
    convert::with_bytes(data, |bytes| {
        Broadcast { payload: Payload::Binary(bytes), compress, frames: Vec::new() }.send(streams, py)
    })
    .map_err(|error| {
        if !error.is_instance_of::<PyTypeError>(py) {
            return error;
        }
        PyTypeError::new_err(format!("cannot broadcast {}, permitted: str or bytes-like", type_name(data)))
    })?
}

fn stream<'py>(websocket: &Bound<'py, PyAny>) -> PyResult<Bound<'py, MessageStream>> {
    websocket.cast::<MessageStream>().cloned().map_err(|_| {
        PyTypeError::new_err(format!("cannot broadcast to {}, permitted: Websocket", type_name(websocket)))
    })
}

fn type_name(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "it".to_owned(), |name| name.to_string())
}
