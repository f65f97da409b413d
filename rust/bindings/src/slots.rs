//! The slots that run for every message, without the layer that pyo3 puts around a Python method.
//!
//! An `async for` over a websocket that sends each message back goes through five slots a message: `__anext__`, its
//! awaitable's `__await__` and `__next__`, and the same two of what `send` returns. pyo3's own slots count the
//! attachment to the interpreter, and end an await by an exception object that the interpreter takes apart again. These
//! replace them in the finished types; what they do is the methods' own, in `receive.rs`.

use crate::receive::{Receive, Sent, Step};
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

/// Put the slots into the types, once, before the first instance is made.
pub fn install(py: Python<'_>) {
    let receive = py.get_type::<Receive>().as_type_ptr();
    let sent = py.get_type::<Sent>().as_type_ptr();
    // SAFETY: both are heap types of this module that pyo3 has made ready, with an `__await__`, so that `tp_as_async` is
    // theirs; no instance exists yet and nothing else runs, since the interpreter is held.
    unsafe {
        let slots = &mut *(*receive).tp_as_async;
        slots.am_await = Some(itself);
        slots.am_send = Some(receive_send);
        (*receive).tp_iternext = Some(receive_next);
        ffi::PyType_Modified(receive);
        let slots = &mut *(*sent).tp_as_async;
        slots.am_await = Some(itself);
        slots.am_send = Some(sent_send);
        (*sent).tp_iternext = Some(sent_next);
        ffi::PyType_Modified(sent);
    }
}

/// Call `work` in a context, as `contextvars.Context.run` does; None where the context is entered already.
pub fn in_context<R>(context: &Bound<'_, PyAny>, work: impl FnOnce() -> R) -> Option<R> {
    /// Leaves the context also when `work` panics.
    struct Entered<'a, 'py>(&'a Bound<'py, PyAny>);
    impl Drop for Entered<'_, '_> {
        fn drop(&mut self) {
            // SAFETY: the interpreter is held, and this context is the one that was entered last.
            unsafe { ffi::PyContext_Exit(self.0.as_ptr()) };
        }
    }
    // SAFETY: the interpreter is held; anything but a context, or one that is entered, is an error.
    if unsafe { ffi::PyContext_Enter(context.as_ptr()) } != 0 {
        drop(PyErr::take(context.py()));
        return None;
    }
    let _entered = Entered(context);
    Some(work())
}

unsafe extern "C" fn itself(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: a slot's argument is alive during the call; the new reference is the result's.
    unsafe { ffi::Py_NewRef(object) }
}

/// `am_send`, which `CPython` 3.11 uses: a result without an exception to carry it.
unsafe extern "C" fn receive_send(
    object: *mut ffi::PyObject,
    _value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    // SAFETY: the interpreter calls slots with itself held, with an object of the slot's type, and with a place for the
    // result, which is a new reference or null.
    unsafe {
        match advance(object) {
            Ok(Some(value)) => {
                *result = value;
                ffi::PySendResult::PYGEN_RETURN
            }
            Ok(None) => {
                *result = ffi::Py_NewRef(object);
                ffi::PySendResult::PYGEN_NEXT
            }
            Err(Raised) => {
                *result = ptr::null_mut();
                ffi::PySendResult::PYGEN_ERROR
            }
        }
    }
}

/// `tp_iternext`, which later versions use: the result goes as the value of a `StopIteration`.
unsafe extern "C" fn receive_next(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: as above. A message is str, bytes or a tuple; a bare tuple would be taken for the exception's arguments.
    unsafe {
        match advance(object) {
            Ok(Some(value)) => {
                if ffi::PyTuple_Check(value) != 0 {
                    let arguments = ffi::PyTuple_Pack(1, value);
                    if !arguments.is_null() {
                        ffi::PyErr_SetObject(ffi::PyExc_StopIteration, arguments);
                        ffi::Py_DECREF(arguments);
                    }
                } else {
                    ffi::PyErr_SetObject(ffi::PyExc_StopIteration, value);
                }
                ffi::Py_DECREF(value);
                ptr::null_mut()
            }
            Ok(None) => ffi::Py_NewRef(object),
            Err(Raised) => ptr::null_mut(),
        }
    }
}

unsafe extern "C" fn sent_send(
    _object: *mut ffi::PyObject,
    _value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    // SAFETY: `result` is the interpreter's place for it; None is a new reference.
    unsafe { *result = ffi::Py_NewRef(ffi::Py_None()) };
    ffi::PySendResult::PYGEN_RETURN
}

unsafe extern "C" fn sent_next(_object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // Null without an exception is the end of an iterator, and of an await with the value None.
    ptr::null_mut()
}

/// An exception is set.
struct Raised;

/// Advance a receive; the result is a new reference, or None for "wait".
///
/// # Safety
/// The interpreter is held and `object` is a [`Receive`].
unsafe fn advance(object: *mut ffi::PyObject) -> Result<Option<*mut ffi::PyObject>, Raised> {
    // SAFETY: see above.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: the slot is in no other type, and `Receive` has no subclasses.
    let receive = unsafe { Bound::from_borrowed_ptr(py, object).cast_into_unchecked::<Receive>() };
    let error = match catch_unwind(AssertUnwindSafe(|| Receive::advance(&receive))) {
        Ok(Ok(Step::Done(value))) => return Ok(Some(value.into_ptr())),
        Ok(Ok(Step::Waiting)) => return Ok(None),
        Ok(Err(error)) => error,
        Err(_) => PyRuntimeError::new_err("the extension panicked"),
    };
    error.restore(py);
    Err(Raised)
}
