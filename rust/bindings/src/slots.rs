//! What runs for every message, without the layer that pyo3 puts around a Python method.
//!
//! An `async for` over a websocket that sends each message back goes through `__anext__`, `send` and five slots a message:
//! `am_anext`, its awaitable's `__await__` and `__next__`, and the same two of what `send` returns; whenever it has to
//! wait, the task asks the awaitable three things more. pyo3's own functions count the attachment to the interpreter, sort
//! arguments in general, and end an await by an exception object that the interpreter takes apart again. These replace
//! them in the finished types; what they do is the methods' own, in `receive.rs` and `stream.rs`.
//!
//! Since the attachment is not counted, a `Py` that is dropped in them would be put off until pyo3 is entered again: on
//! their way, references are dropped as `Bound` or by `drop_ref`.

use crate::panics::caught;
use crate::receive::{Mode, Receive, Sent, Step};
use crate::stream::MessageStream;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

type Method = ffi::PyCFunctionFastWithKeywords;

/// What pyo3 made of the methods: it takes whatever the fast way does not.
static SEND: OnceLock<Method> = OnceLock::new();
static ADD_DONE_CALLBACK: OnceLock<Method> = OnceLock::new();

/// Put the functions into the types, once, before the first instance and the first subclass is made.
pub fn install(py: Python<'_>) -> PyResult<()> {
    let receive = py.get_type::<Receive>().as_type_ptr();
    let sent = py.get_type::<Sent>().as_type_ptr();
    let stream = py.get_type::<MessageStream>().as_type_ptr();
    // SAFETY: they are heap types of this module that pyo3 has made ready, with an `__await__` or an `__anext__`, so that
    // `tp_as_async` is theirs; no instance exists yet and nothing else runs, since the interpreter is held.
    unsafe {
        let slots = &mut *(*receive).tp_as_async;
        slots.am_await = Some(itself);
        slots.am_send = Some(receive_send);
        (*receive).tp_iternext = Some(receive_next);
        let slots = &mut *(*sent).tp_as_async;
        slots.am_await = Some(itself);
        slots.am_send = Some(sent_send);
        (*sent).tp_iternext = Some(sent_next);

        (*(*stream).tp_as_async).am_anext = Some(stream_anext);
        // A subclass made by Python takes the slot from what it finds in the dictionary, an override or this descriptor.
        (*own::<ffi::PyWrapperDescrObject>(py, stream, c"__anext__")?).d_wrapped = stream_anext as *mut c_void;
        replace(py, stream, c"send", stream_send, &SEND)?;

        replace(py, receive, c"add_done_callback", receive_add_done_callback, &ADD_DONE_CALLBACK)?;
        let get_loop = (*own::<ffi::PyMethodDescrObject>(py, receive, c"get_loop")?).d_method;
        assert_eq!((*get_loop).ml_flags, ffi::METH_NOARGS);
        (*get_loop).ml_meth.PyCFunction = receive_get_loop;
        let blocking = (*own::<ffi::PyGetSetDescrObject>(py, receive, c"_asyncio_future_blocking")?).d_getset;
        (*blocking).get = Some(receive_get_blocking);
        (*blocking).set = Some(receive_set_blocking);

        for changed in [receive, sent, stream] {
            ffi::PyType_Modified(changed);
        }
    }
    Ok(())
}

/// The descriptor of a type's own attribute. It lives as long as the type, which is for ever.
///
/// # Safety
/// The attribute is in the type's own dictionary, and its descriptor is a `D`.
unsafe fn own<D>(py: Python<'_>, class: *mut ffi::PyTypeObject, name: &CStr) -> PyResult<*mut D> {
    // SAFETY: the interpreter is held; a descriptor of these kinds that is read from its own type is itself.
    unsafe {
        let descriptor = ffi::PyObject_GetAttrString(class.cast(), name.as_ptr());
        Ok(Bound::from_owned_ptr_or_err(py, descriptor)?.as_ptr().cast())
    }
}

/// Replace a method by its fast way, keep what it was, and its name and documentation in place.
///
/// # Safety
/// The type has this method itself, and nothing calls it meanwhile.
unsafe fn replace(
    py: Python<'_>,
    class: *mut ffi::PyTypeObject,
    name: &CStr,
    fast: Method,
    before: &OnceLock<Method>,
) -> PyResult<()> {
    // SAFETY: pyo3 leaves the definitions of a type's methods on the heap, writable; the flags say which function it is.
    unsafe {
        let method = (*own::<ffi::PyMethodDescrObject>(py, class, name)?).d_method;
        assert_eq!((*method).ml_flags, ffi::METH_FASTCALL | ffi::METH_KEYWORDS);
        let _ = before.set((*method).ml_meth.PyCFunctionFastWithKeywords);
        (*method).ml_meth.PyCFunctionFastWithKeywords = fast;
    }
    Ok(())
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

/// `MessageStream.__anext__`.
unsafe extern "C" fn stream_anext(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls slots with itself held; the slot and its descriptor are those of `MessageStream`.
    let stream = unsafe { borrowed::<MessageStream>(&object) };
    let receive = MessageStream::guarded(stream, "__anext__", || Receive::start(stream, Mode::Iteration));
    returned(stream.py(), receive.map(|receive| Some(receive.into_any().unbind())))
}

/// `MessageStream.send`: exactly str or bytes as the only argument, with nothing in the way.
unsafe extern "C" fn stream_send(
    object: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    if count == 1 && names.is_null() {
        // SAFETY: the method's descriptor has checked the type of `object`; one argument is there, alive during the call.
        let (stream, data) = unsafe { (borrowed::<MessageStream>(&object), borrowed::<PyAny>(&*arguments)) };
        let sent = MessageStream::guarded(stream, "send", || MessageStream::send_plain(stream, data));
        let result = returned(stream.py(), sent);
        // SAFETY: the interpreter is held. Null without an exception is None: it was not sent.
        if !result.is_null() || unsafe { !ffi::PyErr_Occurred().is_null() } {
            return result;
        }
    }
    // SAFETY: the arguments are handed on as they are, to the function that they were meant for.
    SEND.get().map_or(ptr::null_mut(), |send| unsafe { send(object, arguments, count, names) })
}

/// `Receive.add_done_callback` as a Task calls it: the callback, and `context=`.
unsafe extern "C" fn receive_add_done_callback(
    object: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the descriptor has checked the type of `object`. With one positional argument and a tuple of one name, which
    // is a str, two arguments are there.
    unsafe {
        let receive = borrowed::<Receive>(&object);
        if count == 1
            && !names.is_null()
            && ffi::PyTuple_GET_SIZE(names) == 1
            && ffi::PyUnicode_CompareWithASCIIString(ffi::PyTuple_GET_ITEM(names, 0), c"context".as_ptr()) == 0
        {
            let callback = borrowed::<PyAny>(&*arguments).clone().unbind();
            let context = Some(borrowed::<PyAny>(&*arguments.add(1))).filter(|context| !context.is_none());
            let context = context.map(|context| context.clone().unbind());
            return or_null(receive.py(), || {
                receive.try_borrow_mut()?.wait_in(callback, context);
                Ok(Some(receive.py().None()))
            });
        }
        ADD_DONE_CALLBACK.get().map_or(ptr::null_mut(), |add| add(object, arguments, count, names))
    }
}

/// `Receive.get_loop`.
unsafe extern "C" fn receive_get_loop(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the descriptor has checked the type of `object`; the interpreter is held.
    let receive = unsafe { borrowed::<Receive>(&object) };
    or_null(receive.py(), || receive.try_borrow()?.event_loop(receive.py()).map(Some))
}

/// The getter of `Receive._asyncio_future_blocking`.
unsafe extern "C" fn receive_get_blocking(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: as above.
    let receive = unsafe { borrowed::<Receive>(&object) };
    or_null(receive.py(), || {
        let py = receive.py();
        let blocking = receive.try_borrow()?.blocking();
        Ok(Some(match blocking {
            Some(blocking) => blocking.into_pyobject(py)?.to_owned().into_any().unbind(),
            None => py.None(),
        }))
    })
}

/// The setter of `Receive._asyncio_future_blocking`. A Task sets False; anything else than a bool is no use of it.
unsafe extern "C" fn receive_set_blocking(
    object: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    _: *mut c_void,
) -> c_int {
    // SAFETY: as above; `value` is null where the attribute is deleted.
    let (receive, yes, no) = unsafe { (borrowed::<Receive>(&object), ffi::Py_True(), ffi::Py_False()) };
    if value != yes && value != no {
        PyTypeError::new_err("_asyncio_future_blocking is a bool").restore(receive.py());
        return -1;
    }
    match receive.try_borrow_mut() {
        Ok(mut receive) => receive.set_blocking(value == yes),
        Err(error) => {
            PyErr::from(error).restore(receive.py());
            return -1;
        }
    }
    0
}

/// An argument of a slot or of a method.
///
/// # Safety
/// The interpreter is held, and the object is a `T` and alive for as long as it is borrowed.
unsafe fn borrowed<T>(object: &*mut ffi::PyObject) -> &Bound<'_, T> {
    // SAFETY: see above.
    unsafe { Bound::ref_from_ptr(Python::assume_attached(), object).cast_unchecked() }
}

/// The result of `work` as the interpreter takes it; a panic as an exception.
fn or_null(py: Python<'_>, work: impl FnOnce() -> PyResult<Option<Py<PyAny>>>) -> *mut ffi::PyObject {
    returned(py, caught("slot", work).unwrap_or_else(|panic| Err(panic.into_error())))
}

/// A result as the interpreter takes it: a new reference, or null with its exception, or null for None.
#[inline]
fn returned(py: Python<'_>, result: PyResult<Option<Py<PyAny>>>) -> *mut ffi::PyObject {
    match result {
        Ok(result) => result.map_or(ptr::null_mut(), Py::into_ptr),
        Err(error) => {
            error.restore(py);
            ptr::null_mut()
        }
    }
}

/// An exception is set.
struct Raised;

/// Advance a receive; the result is a new reference, or None for "wait".
///
/// # Safety
/// The interpreter is held and `object` is a [`Receive`].
unsafe fn advance(object: *mut ffi::PyObject) -> Result<Option<*mut ffi::PyObject>, Raised> {
    // SAFETY: see above.
    let receive = unsafe { borrowed::<Receive>(&object) };
    match Receive::advance(receive) {
        Ok(Step::Done(value)) => Ok(Some(value.into_ptr())),
        Ok(Step::Waiting) => Ok(None),
        Err(error) => {
            error.restore(receive.py());
            Err(Raised)
        }
    }
}
