//! The batch: what is sent on other connections while one connection's turn runs leaves at that turn's end.
//!
//! A handler that passes a message on to many peers, or many messages to one, costs each of them one write a turn. The
//! turn that is outermost on the stack has the batch; there is one a thread, as there is one event loop.

use crate::convert;
use crate::direct;
use crate::stream::MessageStream;
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::any::Any;
use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// The streams that something was sent on, in the order in which that began; None outside of a turn. It is empty when
    /// the thread ends, and need not be dropped.
    static STREAMS: ManuallyDrop<RefCell<Option<Vec<Py<MessageStream>>>>> =
        const { ManuallyDrop::new(RefCell::new(None)) };
}

/// The open batch of this thread, in the hands of the turn that opened it.
pub struct Batch<'py>(Python<'py>);

impl<'py> Batch<'py> {
    /// Open a batch; None where a turn that is on the stack has one.
    pub fn open(py: Python<'py>) -> Option<Self> {
        STREAMS.with(|streams| {
            let mut streams = streams.borrow_mut();
            if streams.is_some() {
                return None;
            }
            *streams = Some(Vec::new());
            Some(Self(py))
        })
    }

    /// Add a stream to the open batch, and tell whether there is one.
    pub fn add(stream: &Bound<'_, MessageStream>) -> bool {
        STREAMS.with(|streams| match &mut *streams.borrow_mut() {
            Some(streams) => {
                streams.push(stream.clone().unbind());
                true
            }
            None => false,
        })
    }

    /// End the batch: let what was sent on its streams leave. What one of them raises is reported to its event loop and
    /// keeps nothing from the others; an exit or an interrupt is raised after the last.
    pub fn end(self) -> PyResult<()> {
        ManuallyDrop::new(self).let_leave()
    }

    fn let_leave(&self) -> PyResult<()> {
        // From here on, what is sent leaves at once.
        let streams = STREAMS.with(|streams| streams.borrow_mut().take()).unwrap_or_default();
        if streams.is_empty() {
            return Ok(());
        }
        let (direct, mut result) = match direct::running_loop(self.0, streams.len()) {
            Ok(direct) => (direct, Ok(())),
            Err(error) => (None, Err(error)),
        };
        for stream in streams {
            let stream = stream.into_bound(self.0);
            if let Err(error) = guarded(&stream, || MessageStream::leave_batch(&stream, direct.as_ref())) {
                result = Err(error);
            }
        }
        result
    }
}

impl Drop for Batch<'_> {
    /// Also where the turn panics: a stream that stayed in a batch would never send again.
    fn drop(&mut self) {
        if let Err(error) = self.let_leave() {
            error.write_unraisable(self.0, None);
        }
    }
}

/// Do what concerns one stream of many. What it raises, and a panic, is reported to the stream's event loop, and None is
/// returned; an exit or an interrupt is an error.
pub fn guarded<R>(stream: &Bound<'_, MessageStream>, work: impl FnOnce() -> PyResult<R>) -> PyResult<Option<R>> {
    let worked = catch_unwind(AssertUnwindSafe(work));
    let panicked = |panic: Box<dyn Any + Send>| Err(PyRuntimeError::new_err(convert::panic_message(&*panic)));
    match worked.unwrap_or_else(panicked) {
        Ok(result) => Ok(Some(result)),
        Err(error) => report(stream, error).map(|()| None),
    }
}

/// Report an exception that is not the business of the handler whose turn it is.
fn report(stream: &Bound<'_, MessageStream>, error: PyErr) -> PyResult<()> {
    let py = stream.py();
    if !error.is_instance_of::<PyException>(py) {
        return Err(error);
    }
    let context = PyDict::new(py);
    context.set_item("message", "what was sent on a websocket could not be written")?;
    context.set_item("exception", error)?;
    context.set_item("websocket", stream)?;
    let event_loop = stream.borrow().event_loop(py).into_bound(py);
    event_loop.call_method1(intern!(py, "call_exception_handler"), (context,))?;
    Ok(())
}
