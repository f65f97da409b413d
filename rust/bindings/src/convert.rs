//! Conversions between the core's types and Python's: parameters in; events, closes and errors out.

use crate::panics::{self, Panic};
use ferrows_core::{
    CloseFrame, Config, Connection, Counted, DeflateConfig, Error, HeadError, InboundLimits, Kind, Rate, Role, Sink,
};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString, PyType};
use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Begin a connection as Python's keyword arguments say.
///
/// `deflate` is duck-typed: the attributes of `ferrows.extensions.DeflateParameters`, which speak of server and client,
/// become "what we send" and "what we receive" for `role`.
pub fn connection(
    role: Role,
    max_size: Option<u64>,
    deflate: Option<&Bound<'_, PyAny>>,
    limits: Option<&Bound<'_, PyAny>>,
) -> PyResult<Connection> {
    let deflate = deflate.map(|parameters| deflate_config(role, parameters)).transpose()?;
    let connection = Connection::new(Config { role, max_size, deflate });
    Ok(match limits {
        None => connection,
        Some(limits) => connection.with_limits(shared_limits(limits)?),
    })
}

/// Seconds of a clock as the core takes them.
pub fn time(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|error| PyValueError::new_err(format!("time {seconds}: {error}")))
}

fn deflate_config(role: Role, parameters: &Bound<'_, PyAny>) -> PyResult<DeflateConfig> {
    let py = parameters.py();
    let server_bits: u8 = parameters.getattr(intern!(py, "server_max_window_bits"))?.extract()?;
    let client_bits: u8 = parameters.getattr(intern!(py, "client_max_window_bits"))?.extract()?;
    let server_takeover = !parameters.getattr(intern!(py, "server_no_context_takeover"))?.is_truthy()?;
    let client_takeover = !parameters.getattr(intern!(py, "client_no_context_takeover"))?.is_truthy()?;
    let level: u8 = parameters.getattr(intern!(py, "level"))?.extract()?;
    let mem_level: u8 = parameters.getattr(intern!(py, "mem_level"))?.extract()?;
    let threshold: usize = parameters.getattr(intern!(py, "threshold"))?.extract()?;

    let (ours, theirs) = match role {
        Role::Server => ((server_bits, server_takeover), (client_bits, client_takeover)),
        Role::Client => ((client_bits, client_takeover), (server_bits, server_takeover)),
    };
    // zlib cannot compress with a window of 256 bytes (RFC 7692 §7.1.2.1 permits 8, the compressor emits 9).
    within("window bits to compress with", ours.0, 9, 15)?;
    within("window bits to decompress with", theirs.0, 8, 15)?;
    within("compression level", level, 0, 9)?;
    within("memory level", mem_level, 1, 9)?;
    Ok(DeflateConfig {
        compress_window_bits: ours.0,
        decompress_window_bits: theirs.0,
        compress_takeover: ours.1,
        decompress_takeover: theirs.1,
        level,
        mem_level,
        threshold,
    })
}

/// Build limits from the tuple that `ferrows.limits.InboundLimits` is. The connections of a route share them.
fn shared_limits(limits: &Bound<'_, PyAny>) -> PyResult<Arc<InboundLimits>> {
    static LATEST: Mutex<Option<Arc<InboundLimits>>> = Mutex::new(None);
    type Pair = Option<(f64, f64)>;
    let (messages, bytes, pings, fragments): (Pair, Pair, Pair, Option<u64>) = limits.extract()?;
    // No message that fits has more frames.
    let fragments = fragments.and_then(|fragments| u32::try_from(fragments).ok());
    let limits = InboundLimits { messages: rate(messages)?, bytes: rate(bytes)?, pings: rate(pings)?, fragments };
    let mut latest = LATEST.lock().unwrap_or_else(PoisonError::into_inner);
    match &*latest {
        Some(latest) if **latest == limits => Ok(Arc::clone(latest)),
        _ => Ok(Arc::clone(latest.insert(Arc::new(limits)))),
    }
}

fn rate(rate: Option<(f64, f64)>) -> PyResult<Option<Rate>> {
    match rate {
        Some((per_second, burst)) if !(per_second > 0.0 && burst >= 1.0) => {
            Err(PyValueError::new_err(format!("rate {per_second} a second, burst {burst}, permitted > 0 and >= 1")))
        }
        _ => Ok(rate.map(|(per_second, burst)| Rate { per_second, burst })),
    }
}

fn within(what: &str, value: u8, low: u8, high: u8) -> PyResult<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("{what} {value}, permitted {low} to {high}")))
}

/// Turn what the caller did wrong into its exception; `close` is how the connection ended, for `WebsocketClosed`.
pub fn caller_error(py: Python<'_>, error: &Error, close: Option<&CloseFrame>) -> PyErr {
    static WEBSOCKET_CLOSED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    if !matches!(error, Error::Closed) {
        return PyValueError::new_err(error.to_string());
    }
    let (code, reason) = close.map_or((1006, ""), |frame| (frame.code, frame.reason.as_str()));
    match WEBSOCKET_CLOSED.import(py, "ferrows.exceptions", "WebsocketClosed") {
        Ok(class) => PyErr::from_type(class.clone(), (code, reason.to_owned())),
        Err(error) => error,
    }
}

/// Make the `HTTPException` that answers a head which is refused.
pub fn refusal(py: Python<'_>, error: HeadError) -> PyErr {
    let name = match error.status {
        414 => intern!(py, "URITooLong"),
        417 => intern!(py, "ExpectationFailed"),
        431 => intern!(py, "HeaderFieldsTooLarge"),
        501 => intern!(py, "NotImplementedByServer"),
        505 => intern!(py, "VersionNotSupported"),
        _ => intern!(py, "BadRequest"),
    };
    let class = py.import(intern!(py, "ferrows.exceptions")).and_then(|exceptions| exceptions.getattr(name));
    match class.and_then(|class| Ok(class.cast_into::<PyType>()?)) {
        Ok(class) => PyErr::from_type(class, error.message.into_owned()),
        Err(error) => error,
    }
}

/// Make the `HTTPException` that answers a head on which the extension panicked, and log that.
#[cold]
pub fn broken_head(py: Python<'_>, panic: &Panic) -> PyErr {
    let made = || {
        let log = py.import("ferrows.log")?.getattr("error_logger")?;
        log.call_method1("critical", ("the extension panicked, this connection ends with 500: %s", &panic.0))?;
        py.import("ferrows.exceptions")?.getattr("ServerError")?.call1((panics::REASON,))
    };
    made().map_or_else(|error| error, PyErr::from_value)
}

/// A Close as Python sees it: code and reason.
pub fn close_pair(frame: &CloseFrame) -> (u16, &str) {
    (frame.code, &frame.reason)
}

/// A failure as Python sees it: the code that it means and its reason.
pub fn failure_pair(error: &Error) -> (u16, String) {
    (error.close_code().unwrap_or(1006), error.to_string())
}

/// What there was too much of, if a connection failed for that.
pub fn excess(failure: Option<&Error>) -> Option<&'static str> {
    let Some(Error::Excess(excess)) = failure else { return None };
    Some(match excess.counted {
        Counted::Messages => "messages",
        Counted::Bytes => "bytes",
        Counted::Pings => "pings",
        Counted::Fragments => "fragments",
    })
}

/// A close code as the wire could carry it; `ValueError` for a number that has no 16 bits.
pub fn close_code(code: i64) -> PyResult<u16> {
    u16::try_from(code).map_err(|_| PyValueError::new_err(format!("close code {code} is not permitted")))
}

/// The bytes of any bytes-like object, without a copy where it is contiguous `bytes`.
pub fn with_bytes<R>(data: &Bound<'_, PyAny>, work: impl FnOnce(&[u8]) -> R) -> PyResult<R> {
    if let Ok(bytes) = data.cast::<PyBytes>() {
        return Ok(work(bytes.as_bytes()));
    }
    if data.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err("a bytes-like object is required, not 'str'"));
    }
    let buffer = PyBuffer::<u8>::get(data).map_err(|error| {
        if error.is_instance_of::<PyBufferError>(data.py()) { PyTypeError::new_err(error.to_string()) } else { error }
    })?;
    // A mutable buffer may change under us once other code runs: take a copy of it first.
    Ok(work(&buffer.to_vec(data.py())?))
}

/// What a panic that was caught has to say.
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "unknown panic".to_owned())
}

/// A payload as the object that a handler gets. The core has validated text.
pub fn payload_object(py: Python<'_>, kind: Kind, payload: &[u8]) -> PyResult<Py<PyAny>> {
    Ok(match kind {
        Kind::Text => PyString::from_bytes(py, payload)?.into_any().unbind(),
        Kind::Binary => PyBytes::new(py, payload).into_any().unbind(),
    })
}

/// An event kept in Rust until no borrow of the connection is held any more.
pub enum OwnedEvent {
    Message(Kind, Vec<u8>),
    Fragment(Kind, Vec<u8>, bool),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
    Failure(u16, String),
}

impl OwnedEvent {
    /// Build the named tuple of `ferrows.events`.
    pub fn into_object(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let events = py.import(intern!(py, "ferrows.events"))?;
        let object = match self {
            Self::Message(kind, data) => events.call_method1("Message", (payload_object(py, kind, &data)?,)),
            Self::Fragment(kind, data, fin) => events.call_method1("Fragment", (payload_object(py, kind, &data)?, fin)),
            Self::Ping(data) => events.call_method1("Ping", (PyBytes::new(py, &data),)),
            Self::Pong(data) => events.call_method1("Pong", (PyBytes::new(py, &data),)),
            Self::Close(code, reason) => events.call_method1("Close", (code, reason)),
            Self::Failure(code, reason) => events.call_method1("Failure", (code, reason)),
        };
        Ok(object?.unbind())
    }
}

/// Collects events as [`OwnedEvent`]s.
#[derive(Default)]
pub struct Collector {
    pub events: Vec<OwnedEvent>,
    /// The time that the caller told.
    pub now: Duration,
}

impl Sink for Collector {
    fn message(&mut self, kind: Kind, payload: &[u8], _ends: &[u32]) {
        self.events.push(OwnedEvent::Message(kind, payload.to_vec()));
    }
    fn fragment(&mut self, kind: Kind, payload: &[u8], fin: bool) {
        self.events.push(OwnedEvent::Fragment(kind, payload.to_vec(), fin));
    }
    fn ping(&mut self, payload: &[u8]) {
        self.events.push(OwnedEvent::Ping(payload.to_vec()));
    }
    fn pong(&mut self, payload: &[u8]) {
        self.events.push(OwnedEvent::Pong(payload.to_vec()));
    }
    fn close(&mut self, frame: &CloseFrame) {
        self.events.push(OwnedEvent::Close(frame.code, frame.reason.clone()));
    }
    fn failure(&mut self, error: &Error) {
        let (code, reason) = failure_pair(error);
        self.events.push(OwnedEvent::Failure(code, reason));
    }
    fn now(&mut self) -> Duration {
        self.now
    }
}
