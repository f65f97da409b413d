//! `Connection`: the sans-I/O machine as Python sees it, for tests, engines and clients.

use crate::convert::{self, Collector};
use crate::panics::{self, Panic, caught};
use ferrows_core::{Connection as CoreConnection, Error, Role};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// A sans-I/O WebSocket connection after its opening handshake (RFC 6455 §5-§7, RFC 7692).
#[pyclass(module = "ferrows._core")]
pub struct Connection {
    core: CoreConnection,
    inbox: Collector,
}

#[pymethods]
impl Connection {
    #[new]
    #[pyo3(
        signature = (*, client=false, max_size=Some(1 << 20), deflate=None, limits=None),
        text_signature = "(*, client=False, max_size=1048576, deflate=None, limits=None)"
    )]
    fn new(
        client: bool,
        max_size: Option<u64>,
        deflate: Option<&Bound<'_, PyAny>>,
        limits: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let role = if client { Role::Client } else { Role::Server };
        let core = convert::connection(role, max_size, deflate, limits)?;
        Ok(Self { core, inbox: Collector::default() })
    }

    #[pyo3(signature = (data, now=0.0))]
    fn receive_data(&mut self, data: &Bound<'_, PyAny>, now: f64) -> PyResult<()> {
        self.inbox.now = convert::time(now)?;
        convert::with_bytes(data, |data| {
            self.guarded("Connection.receive_data", |this| this.core.receive_data(data, &mut this.inbox))
        })?
    }

    fn receive_eof(&mut self) -> PyResult<()> {
        self.guarded("Connection.receive_eof", |this| this.core.receive_eof())
    }

    fn events(slf: &Bound<'_, Self>) -> PyResult<Vec<Py<PyAny>>> {
        let collected = std::mem::take(&mut slf.borrow_mut().inbox.events);
        collected.into_iter().map(|event| event.into_object(slf.py())).collect()
    }

    fn stream_next(&mut self) -> PyResult<()> {
        self.guarded("Connection.stream_next", |this| this.core.begin_streaming(&mut this.inbox))
    }

    #[pyo3(signature = (data, fin=true, compress=None))]
    fn send_text(&mut self, py: Python<'_>, data: &str, fin: bool, compress: Option<bool>) -> PyResult<()> {
        let sent = self.guarded("Connection.send_text", |this| this.core.send_text(data, fin, compress))?;
        self.checked(py, sent)
    }

    #[pyo3(signature = (data, fin=true, compress=None))]
    fn send_binary(&mut self, data: &Bound<'_, PyAny>, fin: bool, compress: Option<bool>) -> PyResult<()> {
        let sent = convert::with_bytes(data, |data| {
            self.guarded("Connection.send_binary", |this| this.core.send_binary(data, fin, compress))
        })?;
        self.checked(data.py(), sent?)
    }

    #[pyo3(signature = (data=None))]
    fn send_ping(&mut self, py: Python<'_>, data: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let sent = self.control("Connection.send_ping", data, CoreConnection::send_ping)?;
        self.checked(py, sent)
    }

    #[pyo3(signature = (data=None))]
    fn send_pong(&mut self, py: Python<'_>, data: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let sent = self.control("Connection.send_pong", data, CoreConnection::send_pong)?;
        self.checked(py, sent)
    }

    #[pyo3(signature = (code=Some(1000), reason=""), text_signature = "($self, /, code=1000, reason='')")]
    fn send_close(&mut self, py: Python<'_>, code: Option<i64>, reason: &str) -> PyResult<()> {
        let code = code.map(convert::close_code).transpose()?;
        let sent = self.guarded("Connection.send_close", |this| this.core.send_close(code, reason))?;
        self.checked(py, sent)
    }

    #[pyo3(signature = (code, reason=""))]
    fn fail(&mut self, code: i64, reason: &str) -> PyResult<()> {
        let code = convert::close_code(code)?;
        self.guarded("Connection.fail", |this| this.core.fail(code, reason))
    }

    fn hold_pongs(&mut self, hold: bool) -> PyResult<()> {
        self.guarded("Connection.hold_pongs", |this| this.core.hold_pongs(hold))
    }

    fn data_to_send<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.guarded("Connection.data_to_send", |this| {
            this.core.flush_close();
            let output = PyBytes::new(py, this.core.output());
            this.core.clear_output();
            output
        })
    }

    #[getter]
    fn state(&self) -> u8 {
        self.core.state() as u8
    }

    #[getter]
    fn close_sent(&self) -> Option<(u16, &str)> {
        self.core.close_sent().map(convert::close_pair)
    }

    #[getter]
    fn close_received(&self) -> Option<(u16, &str)> {
        self.core.close_received().map(convert::close_pair)
    }

    #[getter]
    fn failure(&self) -> Option<(u16, String)> {
        self.core.failure().map(convert::failure_pair)
    }
}

impl Connection {
    /// Do the work of a method. Where it panics the connection has failed with 1011, and the caller gets a `RuntimeError`.
    fn guarded<R>(&mut self, name: &'static str, work: impl FnOnce(&mut Self) -> R) -> PyResult<R> {
        caught(name, || work(self)).map_err(|panic| {
            self.core.fail(1011, panics::REASON);
            panic.into_error()
        })
    }

    fn control(
        &mut self,
        name: &'static str,
        data: Option<&Bound<'_, PyAny>>,
        send: fn(&mut CoreConnection, &[u8]) -> Result<(), Error>,
    ) -> PyResult<Result<(), Error>> {
        match data {
            None => self.guarded(name, |this| send(&mut this.core, &[])),
            Some(data) => convert::with_bytes(data, |data| self.guarded(name, |this| send(&mut this.core, data)))?,
        }
    }

    fn checked(&self, py: Python<'_>, sent: Result<(), Error>) -> PyResult<()> {
        let close = self.core.close_received().or(self.core.close_sent());
        sent.map_err(|error| convert::caller_error(py, &error, close))
    }
}

/// Apply the four-byte masking key to `data` (RFC 6455 §5.3); the same call unmasks.
#[pyfunction]
pub fn apply_mask<'py>(data: &Bound<'py, PyAny>, mask: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let key = convert::with_bytes(mask, |key| <[u8; 4]>::try_from(key))?
        .map_err(|_| PyValueError::new_err("a masking key has 4 bytes"))?;
    convert::with_bytes(data, |data| {
        caught("apply_mask", || {
            let mut masked = data.to_vec();
            ferrows_core::apply_mask(&mut masked, key);
            PyBytes::new(mask.py(), &masked)
        })
        .map_err(Panic::into_error)
    })?
}
