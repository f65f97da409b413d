//! Payloads on their way between the wire and the objects of a handler, with no copy between that can be spared.

use ferrows_core::{InvalidUtf8, Kind, Masked, Place, validate_utf8};
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
    let mut growing = Growing::new(kind);
    growing.grow(py, payload.len())?;
    growing.fill(payload);
    Ok(growing.finish(py))
}

/// The object that a handler is to get, while its payload is still arriving.
///
/// Text is taken for ASCII until it is known better. If it was not, the object has bytes in it that no str may have: it
/// served as memory only, and goes without having been seen.
#[derive(Debug)]
pub struct Growing {
    kind: Kind,
    /// Nobody else knows it. It has `capacity` bytes, of which `filled` are initialized.
    object: Option<Py<PyAny>>,
    capacity: usize,
    filled: usize,
    ascii: bool,
}

impl Growing {
    pub fn new(kind: Kind) -> Self {
        Self { kind, object: None, capacity: 0, filled: 0, ascii: true }
    }

    /// Move to an object of so many bytes more than there are.
    fn grow(&mut self, py: Python<'_>, more: usize) -> PyResult<()> {
        let capacity = self.filled + more;
        let size = capacity.cast_signed();
        // SAFETY: the interpreter is held. Both are new references, or null with an exception.
        let object = unsafe {
            let object = match self.kind {
                Kind::Text => ffi::PyUnicode_New(size, 0x7F),
                Kind::Binary => ffi::PyBytes_FromStringAndSize(ptr::null(), size),
            };
            Bound::from_owned_ptr_or_err(py, object)?.unbind()
        };
        if let Some(before) = self.object.replace(object) {
            // SAFETY: two objects; the one before has `filled` bytes that are initialized, the new one has room for them.
            unsafe { ptr::copy_nonoverlapping(self.contents(&before), self.pointer(), self.filled) };
        }
        self.capacity = capacity;
        Ok(())
    }

    /// Unmask into the memory that is left. Tells whether all of the piece is ASCII.
    fn fill(&mut self, piece: Masked<'_>) -> bool {
        assert!(piece.len() <= self.capacity - self.filled, "room for a piece");
        // SAFETY: the object has `capacity` bytes, which nobody else knows: those of no bytes, which are shared, have
        // none to write. All that is in the slice is initialized by `unmask_into`.
        let ascii = unsafe {
            let out = self.pointer().add(self.filled).cast::<MaybeUninit<u8>>();
            piece.unmask_into(slice::from_raw_parts_mut(out, piece.len()))
        };
        self.filled += piece.len();
        self.ascii &= ascii;
        ascii
    }

    /// Make it the handler's, once it is full.
    ///
    /// # Errors
    /// [`InvalidUtf8`] for text that is none.
    pub fn finish(self, py: Python<'_>) -> Result<Py<PyAny>, InvalidUtf8> {
        assert_eq!(self.filled, self.capacity, "a payload that is complete");
        if self.kind == Kind::Text && !self.ascii {
            return validate_utf8(self.payload()).map(|text| PyString::new(py, text).into_any().unbind());
        }
        Ok(self.object.expect("memory was reserved"))
    }

    fn pointer(&self) -> *mut u8 {
        self.object.as_ref().map_or(ptr::NonNull::dangling().as_ptr(), |object| self.contents(object))
    }

    /// Where the bytes of an object of this kind are.
    fn contents(&self, object: &Py<PyAny>) -> *mut u8 {
        // SAFETY: `grow` made it, a str of ASCII or bytes, and it is alive.
        unsafe {
            match self.kind {
                Kind::Text => ffi::PyUnicode_DATA(object.as_ptr()).cast(),
                Kind::Binary => ffi::PyBytes_AsString(object.as_ptr()).cast(),
            }
        }
    }
}

impl Place for Growing {
    fn append(&mut self, piece: Masked<'_>, left: u64) -> bool {
        if self.capacity - self.filled < piece.len() {
            // No more than doubling: a header costs its sender nothing.
            let announced = usize::try_from(left).unwrap_or(usize::MAX).min(self.filled + piece.len());
            Python::attach(|py| self.grow(py, piece.len() + announced)).expect("memory for a message");
        }
        self.fill(piece)
    }

    fn payload(&self) -> &[u8] {
        // SAFETY: so many bytes are initialized, and whoever could write more needs `self` for himself.
        unsafe { slice::from_raw_parts(self.pointer(), self.filled) }
    }
}

/// Make bytes of this size, which `fill` initializes.
fn bytes_with(py: Python<'_>, size: usize, fill: impl FnOnce(&mut [MaybeUninit<u8>])) -> PyResult<Bound<'_, PyBytes>> {
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
