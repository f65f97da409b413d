//! What becomes of a panic: it ends one connection, and neither the worker nor anything else.
//!
//! Every entry that Python calls runs its work in [`caught`]. With the feature `panic-injection`, which no wheel has,
//! `_panic_at(name, countdown)` makes a named point panic when it is passed for the `countdown`-th time on this thread.

use crate::stream::MessageStream;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The reason of the Close, code 1011, that ends a connection on which the extension panicked.
pub const REASON: &str = "internal error";

/// The message of a panic.
#[derive(Debug)]
pub struct Panic(pub String);

impl Panic {
    fn of(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().map(ToString::to_string);
        Self(text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "unknown panic".to_owned()))
    }

    /// What is raised where there is no connection that could end.
    pub fn into_error(self) -> PyErr {
        PyRuntimeError::new_err(format!("the extension panicked: {}", self.0))
    }
}

/// Do the work of an entry; a panic comes back as its message.
#[inline]
pub fn caught<R>(name: &'static str, work: impl FnOnce() -> R) -> Result<R, Panic> {
    catch_unwind(AssertUnwindSafe(|| {
        point(name);
        work()
    }))
    .map_err(|payload| Panic::of(&*payload))
}

impl MessageStream {
    /// Run an entry that the transport or the event loop calls. Where it panics this connection ends, and nothing is
    /// raised: to whom it would be has nothing to do with it.
    #[inline]
    pub fn contained(slf: &Bound<'_, Self>, name: &'static str, work: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
        caught(name, work).unwrap_or_else(|panic| Self::break_off(slf, &panic))
    }

    /// Run an entry that a handler calls. Where it panics this connection ends, and the handler learns of it as it would of
    /// any other end.
    #[inline]
    pub fn guarded<R>(slf: &Bound<'_, Self>, name: &'static str, work: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
        caught(name, work).unwrap_or_else(|panic| Err(Self::ended_by(slf, &panic)))
    }

    /// End the connection because of a panic, and return what a handler is to get for it.
    #[cold]
    pub fn ended_by(slf: &Bound<'_, Self>, panic: &Panic) -> PyErr {
        let ended = Self::break_off(slf, panic);
        match ended.and_then(|()| slf.call_method0(intern!(slf.py(), "_closed_error"))) {
            Ok(closed) => PyErr::from_value(closed),
            Err(error) => error,
        }
    }

    /// End the connection because of a panic: one line in the log, and a Close with 1011 if one can still be sent. What was
    /// encoded before leaves in front of it: the encoder makes room before it writes, so that only whole frames are there.
    #[cold]
    fn break_off(slf: &Bound<'_, Self>, panic: &Panic) -> PyResult<()> {
        let py = slf.py();
        slf.try_borrow_mut()?.fail_after_panic();
        slf.call_method1(intern!(py, "_panicked"), (&panic.0,))?;
        // Whoever waits for a message learns that none will come, and the Close leaves.
        if let Ok(result) = caught("break_off", || Self::run_turn(slf)) {
            return result;
        }
        // Not even that: then without a Close.
        let Some(transport) = slf.try_borrow()?.bound_transport(py) else { return Ok(()) };
        transport.call_method0(intern!(py, "abort"))?;
        Ok(())
    }
}

/// A place at which a test may have the extension panic. Nothing without the feature.
#[cfg(not(feature = "panic-injection"))]
#[inline(always)]
#[allow(clippy::inline_always, reason = "so that it is nothing in every build")]
pub fn point(_name: &'static str) {}

#[cfg(feature = "panic-injection")]
pub use injected::{_panic_at, point};

#[cfg(feature = "panic-injection")]
mod injected {
    use pyo3::prelude::*;
    use std::cell::RefCell;
    use std::collections::HashMap;

    thread_local! {
        /// How often each point is still to be passed, the panic included.
        static PLANNED: RefCell<HashMap<String, u32>> = RefCell::default();
    }

    /// Panic if this point was to panic now.
    pub fn point(name: &'static str) {
        let due = PLANNED.with_borrow_mut(|planned| {
            let Some(left) = planned.get_mut(name) else { return false };
            *left -= 1;
            let due = *left == 0;
            if due {
                planned.remove(name);
            }
            due
        });
        assert!(!due, "injected at {name}");
    }

    /// Make a point panic when it is passed for the `countdown`-th time on this thread; 0 takes that back. Returns whether
    /// the point was still to panic.
    #[pyfunction]
    #[pyo3(signature = (name, countdown=1))]
    pub fn _panic_at(name: String, countdown: u32) -> bool {
        PLANNED
            .with_borrow_mut(|planned| match countdown {
                0 => planned.remove(&name),
                countdown => planned.insert(name, countdown),
            })
            .is_some()
    }
}
