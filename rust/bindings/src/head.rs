//! `HeadReader` and `Head`: the guard in front of the HTTP parser as Python sees it.

use crate::convert;
use crate::panics::caught;
use ferrows_core::{Head as CoreHead, HeadReader as CoreReader, Limits, METHODS};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use std::borrow::Cow;

/// Collects one head of a request (RFC 9112).
#[pyclass(module = "ferrows._core")]
pub struct HeadReader {
    core: CoreReader,
}

#[pymethods]
impl HeadReader {
    #[new]
    fn new(target: usize, header_size: usize, headers: usize) -> Self {
        Self { core: CoreReader::new(Limits { target, header_size, headers }) }
    }

    fn receive_data<'py>(
        slf: &Bound<'py, Self>,
        data: &Bound<'py, PyBytes>,
    ) -> PyResult<Option<(Head, Bound<'py, PyBytes>)>> {
        let py = slf.py();
        let octets = data.as_bytes();
        // What was received is the reader's, or borrowed from `octets`; so the reader is not borrowed beyond this line.
        let received = caught("HeadReader.receive_data", || slf.borrow_mut().core.receive_data(octets));
        let received = received.map_err(|panic| convert::broken_head(py, &panic))?;
        let Some(found) = received.map_err(|error| convert::refusal(py, error))? else { return Ok(None) };
        let raw = match found.raw {
            Cow::Borrowed(raw) if raw.len() == octets.len() => data.clone(),
            raw => PyBytes::new(py, &raw),
        };
        Ok(Some((Head { core: found.head, raw: raw.unbind() }, PyBytes::new(py, found.rest))))
    }

    fn beginning<'py>(&self, py: Python<'py>, size: usize) -> Bound<'py, PyBytes> {
        let received = self.core.received();
        PyBytes::new(py, &received[..size.min(received.len())])
    }

    #[getter]
    fn started(&self) -> bool {
        self.core.started()
    }
}

/// A head that follows the grammar, with what it says about the connection and about its body.
///
/// It lives as long as its request, which may be a websocket's: nothing is kept beside the bytes but numbers.
#[pyclass(frozen, module = "ferrows._core")]
pub struct Head {
    core: CoreHead,
    #[pyo3(get)]
    raw: Py<PyBytes>,
}

#[pymethods]
impl Head {
    #[getter]
    fn method<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        static NAMES: PyOnceLock<[Py<PyString>; METHODS.len()]> = PyOnceLock::new();
        let names = NAMES.get_or_init(py, || METHODS.map(|method| PyString::intern(py, method).unbind()));
        names[self.core.method()].bind(py)
    }

    #[getter]
    fn target<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.core.target(self.raw.as_bytes(py)))
    }

    #[getter]
    fn version<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        if self.core.http_1_1 { intern!(py, "1.1") } else { intern!(py, "1.0") }
    }

    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> Vec<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let fields = self.core.fields(self.raw.as_bytes(py));
        fields.map(|(name, value)| (PyBytes::new(py, name), PyBytes::new(py, value))).collect()
    }

    fn getall<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let fields = self.core.fields(self.raw.as_bytes(py));
        let values = fields.filter(|(known, _)| is_named(known, name));
        values.map(|(_, value)| decoded(py, value)).collect()
    }

    fn select<'py>(&self, py: Python<'py>, names: &Bound<'py, PyTuple>) -> PyResult<Vec<Bound<'py, PyList>>> {
        let wanted = names.iter().map(|name| name.extract::<PyBackedStr>()).collect::<PyResult<Vec<_>>>()?;
        let lists: Vec<_> = wanted.iter().map(|_| PyList::empty(py)).collect();
        for (known, value) in self.core.fields(self.raw.as_bytes(py)) {
            for (name, list) in wanted.iter().zip(&lists) {
                if is_named(known, name) {
                    list.append(decoded(py, value)?)?;
                }
            }
        }
        Ok(lists)
    }

    #[getter]
    fn content_length(&self) -> u64 {
        self.core.content_length
    }

    #[getter]
    fn chunked(&self) -> bool {
        self.core.chunked
    }

    #[getter]
    fn keep_alive(&self) -> bool {
        self.core.keep_alive
    }

    #[getter]
    fn expect_continue(&self) -> bool {
        self.core.expect_continue
    }

    #[getter]
    fn websocket(&self) -> bool {
        self.core.websocket
    }

    #[getter]
    fn has_body(&self) -> bool {
        self.core.chunked || self.core.content_length > 0
    }
}

/// A value as text: UTF-8, with what is not kept as surrogates.
fn decoded<'py>(py: Python<'py>, octets: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    match std::str::from_utf8(octets) {
        Ok(text) => Ok(PyString::new(py, text).into_any()),
        Err(_) => PyBytes::new(py, octets).call_method1(intern!(py, "decode"), ("utf-8", "surrogateescape")),
    }
}

/// Tell whether a header as it came has this name, which is in lower case.
fn is_named(known: &[u8], name: &str) -> bool {
    known.len() == name.len() && known.iter().map(u8::to_ascii_lowercase).eq(name.bytes())
}
