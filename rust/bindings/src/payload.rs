//! Payloads on their way between the wire and the objects of a handler, with no copy between that can be spared.

use ferrows_core::{InvalidUtf8, Kind, Masked, validate_utf8};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView, PyString};
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::{ptr, slice};

/// Payloads from this size on are written from where they are. Below it, one system call for several corked messages is
/// worth more than a copy of each.
pub const UNCOPIED: usize = 32 * 1024;

/// Make the object that a handler gets, unmasking into its own memory.
///
/// # Errors
/// [`InvalidUtf8`] for text that is none. What is left to fail is memory, which is the outer error.
pub fn unmasked(py: Python<'_>, kind: Kind, payload: Masked<'_>) -> PyResult<Result<Py<PyAny>, InvalidUtf8>> {
    match kind {
        Kind::Binary => Ok(Ok(bytes_with(py, payload.len(), |out| {
            payload.unmask_into(out);
        })?
        .into_any()
        .unbind())),
        Kind::Text => unmasked_text(py, payload),
    }
}

fn unmasked_text(py: Python<'_>, payload: Masked<'_>) -> PyResult<Result<Py<PyAny>, InvalidUtf8>> {
    let size = payload.len().cast_signed();
    // SAFETY: the interpreter is held. A new str of ASCII has `size` bytes, and nobody else knows it: that of no bytes,
    // which is shared, has none to write. All of them are initialized by `unmask_into`.
    let (text, bytes, ascii) = unsafe {
        let text = Bound::from_owned_ptr_or_err(py, ffi::PyUnicode_New(size, 0x7F))?;
        let bytes = ffi::PyUnicode_DATA(text.as_ptr()).cast::<MaybeUninit<u8>>();
        let ascii = payload.unmask_into(slice::from_raw_parts_mut(bytes, payload.len()));
        (text, slice::from_raw_parts(bytes.cast::<u8>().cast_const(), payload.len()), ascii)
    };
    if ascii {
        return Ok(Ok(text.unbind()));
    }
    // The object is no str with these bytes in it. It served as the scratch, and goes without being looked at.
    Ok(validate_utf8(bytes).map(|text| PyString::new(py, text).into_any().unbind()))
}

/// Make bytes of this size, which `fill` initializes.
fn bytes_with(
    py: Python<'_>,
    size: usize,
    fill: impl FnOnce(&mut [MaybeUninit<u8>]),
) -> PyResult<Bound<'_, PyBytes>> {
    // SAFETY: the interpreter is held. New bytes without contents are there to be filled in, as long as nobody else
    // knows them; those of no bytes, which are shared, have none to write. Both callers fill in all of them.
    unsafe {
        let bytes = Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromStringAndSize(ptr::null(), size.cast_signed()))?;
        fill(slice::from_raw_parts_mut(ffi::PyBytes_AsString(bytes.as_ptr()).cast::<MaybeUninit<u8>>(), size));
        Ok(bytes.cast_into_unchecked())
    }
}

/// Make bytes of what is to be written first and a payload after it.
pub fn joined<'py>(py: Python<'py>, head: &[u8], payload: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    bytes_with(py, head.len() + payload.len(), |out| {
        for (out, byte) in out.iter_mut().zip(head) {
            out.write(*byte);
        }
        for (out, byte) in out[head.len()..].iter_mut().zip(payload) {
            out.write(*byte);
        }
    })
}

/// Tell whether the transport hands several buffers to the system in one call.
///
/// uvloop's do. asyncio's writes them one by one or, in 3.11, joins them, and before 3.12.9 and 3.13.2 forgets to pause
/// its protocol after `writelines`.
pub fn gathers(transport: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(transport.get_type().module()?.to_str()?.starts_with("uvloop"))
}

/// A str or bytes as a transport takes it: bytes themselves, or a memoryview of a str's UTF-8.
pub fn buffer<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    match data.cast::<PyString>() {
        Ok(text) => {
            let exporter = Bound::new(data.py(), Utf8 { text: text.clone().unbind() })?;
            Ok(PyMemoryView::from(&exporter)?.into_any())
        }
        Err(_) => Ok(data.clone()),
    }
}

/// The UTF-8 of a str, as a buffer.
#[pyclass(frozen, module = "ferrows._core")]
struct Utf8 {
    text: Py<PyString>,
}

#[pymethods]
impl Utf8 {
    /// # Safety
    /// Called by the interpreter, with a view to fill in.
    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let bytes = slf.get().text.bind(slf.py()).to_str()?.as_bytes();
        // SAFETY: the bytes belong to the str, which keeps them unchanged as long as it lives, and the view keeps `slf`.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                bytes.as_ptr().cast_mut().cast(),
                bytes.len().cast_signed(),
                1,
                flags,
            )
        };
        if filled == 0 {
            return Ok(());
        }
        Err(PyErr::take(slf.py()).unwrap_or_else(|| PyBufferError::new_err("no buffer of a str")))
    }
}
