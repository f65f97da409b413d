//! Writes past the transport: what leaves for many peers at once goes to their sockets by system calls of our own.
//!
//! Four fifths of what a broadcast to 500 peers costs are the kernel's. Most of the rest was the way through the
//! transport, and `write`, which uvloop calls, costs the kernel more than `send` does. CPU time of a delivery of 32 bytes
//! to 500 sockets of one process, the smallest of 150 broadcasts and several runs, with the transport's `write` and
//! without: uvloop 0.22 4.1 us and 3.8, uvloop 0.23 4.6 and 3.9, asyncio's loop 4.8 and 4.2.
//!
//! It is done only where it comes to the same as the transport's `write`: the transport is one of those that are known to
//! write to a socket what they are given, nothing waits in it, it is not closing and its loop is the running one, so that
//! the socket is open. What the socket does not take at once, be it for an error, is the transport's business as ever.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyCFunction, PyDict, PyTuple};
use std::cell::Cell;

/// Streams that make it worth while.
const MANY: usize = 16;

/// Transports that write what they are given to a socket, as it is.
const PLAIN: [&str; 3] =
    ["uvloop.loop.TCPTransport", "uvloop.loop.UnixTransport", "asyncio.selector_events._SelectorSocketTransport"];

thread_local! {
    static PASSES: Cell<Passes> = const { Cell::new(Passes { event_loop: 0, now: 0, before: 0 }) };
}

/// How many batches to many ended, in a pass of an event loop that goes on, and in the last pass before that had any.
#[derive(Clone, Copy)]
struct Passes {
    /// The loop's address: one that stopped has no end of its pass.
    event_loop: usize,
    now: u32,
    before: u32,
}

/// A transport's socket. A number, as there is one in every connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Socket(i32);

impl Socket {
    pub const UNKNOWN: Self = Self(-2);
    /// There is none, or none that may be written to.
    const NONE: Self = Self(-1);

    /// Its descriptor, if there is one.
    pub fn descriptor(self) -> Option<i32> {
        (self.0 >= 0).then_some(self.0)
    }

    /// The socket of a transport, if what is written there is what the transport would write.
    pub fn of(transport: &Bound<'_, PyAny>) -> Self {
        let find = || -> PyResult<i32> {
            let name = transport.get_type().fully_qualified_name()?;
            if !PLAIN.contains(&name.to_str()?) {
                return Ok(-1);
            }
            let py = transport.py();
            let socket = transport.call_method1(intern!(py, "get_extra_info"), (intern!(py, "socket"),))?;
            socket.call_method0(intern!(py, "fileno"))?.extract()
        };
        match find() {
            Ok(descriptor) if descriptor >= 0 => Self(descriptor),
            _ => Self::NONE,
        }
    }
}

/// The running event loop, if a batch of so many streams is to be written directly: those of this loop, that is.
///
/// uvloop 0.22 gathers what is written to a transport until the end of a pass, which is worth more where several handlers
/// broadcast in one pass. Whether they do is known of the pass before.
pub fn running_loop(py: Python<'_>, streams: usize) -> PyResult<Option<Bound<'_, PyAny>>> {
    static RUNNING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static END_PASS: PyOnceLock<Py<PyCFunction>> = PyOnceLock::new();
    if streams < MANY || !cfg!(target_os = "linux") {
        return Ok(None);
    }
    let running = RUNNING.import(py, "asyncio", "_get_running_loop")?.call0()?;
    if running.is_none() {
        return Ok(None);
    }
    let event_loop = running.as_ptr() as usize;
    let passes = Some(PASSES.get()).filter(|passes| passes.event_loop == event_loop);
    let Passes { now, before, .. } = passes.unwrap_or(Passes { event_loop, now: 0, before: 0 });
    PASSES.set(Passes { event_loop, now: now + 1, before });
    if now == 0 {
        let ender = END_PASS.get_or_try_init(py, || {
            let end_pass = |_: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
                let passes = PASSES.get();
                PASSES.set(Passes { now: 0, before: passes.now, ..passes });
            };
            PyCFunction::new_closure(py, Some(c"end_pass"), None, end_pass).map(Bound::unbind)
        })?;
        running.call_method1(intern!(py, "call_soon"), (ender.bind(py),))?;
    }
    Ok(if now == 0 && before <= 1 { Some(running) } else { None })
}

/// Write to a transport, directly if nothing waits in it. Returns what the transport still has to write.
pub fn write<'py>(
    descriptor: i32,
    transport: &Bound<'py, PyAny>,
    output: Bound<'py, PyBytes>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let py = transport.py();
    // Whoever drives a websocket by hand may not have told it that its transport is gone; the number of its socket may be
    // that of another one by now.
    let closing = transport.call_method0(intern!(py, "is_closing"))?.is_truthy()?;
    if closing || transport.call_method0(intern!(py, "get_write_buffer_size"))?.extract::<usize>()? != 0 {
        return Ok(Some(output));
    }
    let bytes = output.as_bytes();
    Ok(match send(descriptor, bytes) {
        0 => Some(output),
        sent if sent == bytes.len() => None,
        sent => Some(PyBytes::new(py, &bytes[sent..])),
    })
}

/// Send as many bytes as the socket takes at once; an error is none, and the transport's next write has it as well.
#[cfg(target_os = "linux")]
fn send(descriptor: i32, bytes: &[u8]) -> usize {
    use rustix::net::SendFlags;
    // SAFETY: the transport is not closing and its loop runs, so it has not closed the socket.
    let socket = unsafe { std::os::fd::BorrowedFd::borrow_raw(descriptor) };
    rustix::net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).unwrap_or(0)
}

#[cfg(not(target_os = "linux"))]
fn send(_descriptor: i32, _bytes: &[u8]) -> usize {
    0
}
