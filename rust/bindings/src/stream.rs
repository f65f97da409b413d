//! `MessageStream`: the hot half of a `Websocket`. A core connection, the queue of what arrived, the one task that
//! waits for it, and the cork that gathers what is sent meanwhile into one write.
//!
//! A *turn* is one run over what has arrived: the waiting task is woken in place, works messages off until it waits for
//! something else or the turn's share is used up, and what it sent leaves as one write. What it sent on other
//! connections does so too: they are in the turn's batch.
//!
//! Python code is never called while the stream is borrowed: a handler that runs inside `receive_data` may call
//! anything on its own connection.

mod receiving;
mod sending;
mod turns;

pub use receiving::Taken;
pub use sending::Payload;

use receiving::Held;

use crate::convert;
use crate::direct::Socket;
use crate::panics;
use crate::queue::Queue;
use crate::receive::{Mode, Receive};
use ferrows_core::{Connection, Role, State};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Sends leave at once.
    Idle,
    /// `run_turn` is on the stack and will flush.
    Running,
    /// A handler that was woken by something else works the queue off; a scheduled `run_turn` will flush.
    Deferred,
}

/// A limit of the queue. What is beyond 32 bits is none.
#[derive(Clone, Copy)]
struct Limit(u32);

impl Limit {
    fn new(limit: Option<usize>) -> Self {
        Self(limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(u32::MAX))
    }

    fn get(self) -> usize {
        if self.0 == u32::MAX { usize::MAX } else { self.0 as usize }
    }
}

/// The hot half of a `Websocket`, which is its Python subclass and provides the methods with a leading underscore.
#[pyclass(subclass, weakref, module = "ferrows._core")]
#[allow(clippy::struct_excessive_bools, reason = "each is one independent fact of a state that has no fewer")]
pub struct MessageStream {
    core: Connection,
    /// A frame that other streams have as well. It leaves before the core's output.
    shared: Option<Py<PyBytes>>,
    queue: Queue,
    waiter: Option<Py<Receive>>,
    event_loop: Py<PyAny>,
    transport: Option<Py<PyAny>>,
    socket: Socket,
    turn: Turn,
    turn_left: u16,
    sends_left: u16,
    turn_scheduled: bool,
    /// In the batch of another connection's turn, which will flush.
    batched: bool,
    /// The core hands the next message over in fragments, and the last of them was not taken yet.
    fragments_asked: bool,
    /// A `recv_streaming()` has taken the first of them.
    streaming: bool,
    /// What waits is the beginning of a message that only its end makes deliverable.
    stalled: bool,
    /// Our Close is out, and something that came after it found no room.
    dropping: bool,
    /// What was read and is not parsed yet, since there may be no room for what it becomes.
    held: Option<Box<Held>>,
    /// Octets that came after the connection failed.
    discarded: u32,
    write_paused: bool,
    read_paused: bool,
    frames_paused: bool,
    heard: bool,
    /// The state that `_state_changed()` was last called for.
    reported: (State, bool, bool),
    max_queue: Limit,
    max_queued_bytes: Limit,
    /// Senders wait, for their turn or for the end of a fragmented message: a new one has to queue up behind them.
    #[pyo3(get, set)]
    send_queued: bool,
    #[pyo3(get)]
    messages_received: u64,
    #[pyo3(get)]
    bytes_received: u64,
    #[pyo3(get)]
    messages_sent: u64,
    #[pyo3(get)]
    bytes_sent: u64,
}

#[pymethods]
impl MessageStream {
    #[new]
    #[pyo3(
        signature = (
            r#loop, transport, *, max_size=Some(1 << 20), max_queue=Some(32), deflate=None, limits=None, client=false,
            **_options
        ),
        text_signature = "(loop, transport, *, max_size=1048576, max_queue=32, deflate=None, limits=None, client=False, **_options)"
    )]
    #[allow(clippy::too_many_arguments, reason = "Python's keywords")]
    fn new(
        r#loop: Py<PyAny>,
        transport: Option<Py<PyAny>>,
        max_size: Option<u64>,
        max_queue: Option<usize>,
        deflate: Option<&Bound<'_, PyAny>>,
        limits: Option<&Bound<'_, PyAny>>,
        client: bool,
        _options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let role = if client { Role::Client } else { Role::Server };
        Ok(Self {
            core: convert::connection(role, max_size, deflate, limits)?,
            shared: None,
            queue: Queue::default(),
            waiter: None,
            event_loop: r#loop,
            transport,
            socket: Socket::UNKNOWN,
            turn: Turn::Idle,
            turn_left: 0,
            sends_left: turns::SENDS_A_TURN,
            turn_scheduled: false,
            batched: false,
            fragments_asked: false,
            streaming: false,
            stalled: false,
            dropping: false,
            held: None,
            discarded: 0,
            write_paused: false,
            read_paused: false,
            frames_paused: false,
            heard: false,
            reported: (State::Open, false, false),
            max_queue: Limit::new(max_queue.filter(|&limit| limit > 0)),
            max_queued_bytes: Limit::new(max_size.and_then(|size| usize::try_from(size).ok())),
            send_queued: false,
            messages_received: 0,
            bytes_received: 0,
            messages_sent: 0,
            bytes_sent: 0,
        })
    }

    // ---- from the transport ----

    pub(crate) fn receive_data(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::contained(slf, "receive_data", || {
            let mut pongs = Vec::new();
            convert::with_bytes(data, |data| {
                let this = &mut *slf.borrow_mut();
                this.heard = true;
                this.receive(slf.py(), &mut pongs, data);
            })?;
            Self::react(slf, pongs)
        })
    }

    /// Go on with what was read before there was room for it.
    #[pyo3(name = "receive_held")]
    fn run_held(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::contained(slf, "receive_held", || {
            let mut pongs = Vec::new();
            {
                let this = &mut *slf.borrow_mut();
                this.receive_held(slf.py(), &mut pongs);
            }
            Self::react(slf, pongs)
        })
    }

    fn receive_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::contained(slf, "receive_eof", || {
            slf.borrow_mut().core.receive_eof();
            Self::run_turn(slf)
        })
    }

    /// The transport is gone: nothing more arrives and nothing more can be sent.
    fn lose_transport(slf: &Bound<'_, Self>) -> PyResult<()> {
        let lose = || {
            let transport = {
                let mut this = slf.borrow_mut();
                this.core.receive_eof();
                this.held = None;
                this.transport.take()
            };
            // Not inside the borrow: the last reference may run the transport's finalizer.
            drop(transport);
            Self::run_turn(slf)
        };
        Self::contained(slf, "lose_transport", lose)?;
        // This call comes once. Where it panicked, what it was to do is still to be done.
        if slf.borrow().transport.is_some() { Self::contained(slf, "lose_transport", lose) } else { Ok(()) }
    }

    fn pause_writing(&mut self) {
        self.write_paused = true;
        self.core.hold_pongs(true);
    }

    fn resume_writing(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::contained(slf, "resume_writing", || {
            {
                let mut this = slf.borrow_mut();
                this.write_paused = false;
                this.core.hold_pongs(false);
            }
            Self::settle(slf)
        })
    }

    // ---- for the handler ----

    fn __aiter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __anext__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Receive>> {
        Self::guarded(slf, "__anext__", || Receive::start(slf, Mode::Iteration))
    }

    #[pyo3(signature = (timeout=None))]
    fn recv<'py>(slf: &Bound<'py, Self>, timeout: Option<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        match timeout {
            None => Self::guarded(slf, "recv", || Ok(Receive::start(slf, Mode::Message)?.into_any())),
            Some(timeout) => slf.call_method1(intern!(slf.py(), "_recv_within"), (timeout,)),
        }
    }

    /// The next message as an event of ASGI.
    fn recv_event<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Receive>> {
        Self::guarded(slf, "recv_event", || Receive::start(slf, Mode::Event))
    }

    /// One step of `recv_streaming()`.
    fn recv_fragment<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Receive>> {
        Self::guarded(slf, "recv_fragment", || Receive::start(slf, Mode::Fragment))
    }

    /// Up to `limit` whole messages that have arrived, without waiting.
    fn take_messages(slf: &Bound<'_, Self>, limit: isize) -> PyResult<Vec<Py<PyAny>>> {
        Self::guarded(slf, "take_messages", || {
            let mut messages = Vec::new();
            slf.borrow_mut().sends_left = turns::SENDS_A_TURN;
            while messages.len() < usize::try_from(limit).unwrap_or(0) {
                let Some(item) = slf.borrow_mut().pop(slf.py(), Mode::Message)? else { break };
                messages.push(item.into_object(slf.py(), Mode::Message)?);
            }
            Self::adjust_reading(slf)?;
            Ok(messages)
        })
    }

    #[pyo3(signature = (data, encoding=None, *, compress=None))]
    fn send(
        slf: &Bound<'_, Self>,
        data: &Bound<'_, PyAny>,
        encoding: Option<&Bound<'_, PyAny>>,
        compress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        if encoding.is_none()
            && compress.is_none()
            && let Some(sent) = Self::guarded(slf, "send", || Self::send_plain(slf, data))?
        {
            return Ok(sent);
        }
        // Everything that may wait, fail or take another form than str or bytes.
        let options = PyDict::new(py);
        options.set_item(intern!(py, "compress"), compress)?;
        Ok(slf.call_method(intern!(py, "_send_slowly"), (data, encoding), Some(&options))?.unbind())
    }

    // ---- for the Python half ----

    /// Send a whole message or a fragment of one, at once.
    #[pyo3(signature = (data, fin=true, compress=None))]
    fn send_data(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>, fin: bool, compress: Option<bool>) -> PyResult<()> {
        Self::guarded(slf, "send_data", || {
            let (sent, size) = match data.cast::<PyString>() {
                Ok(text) => {
                    let text = text.to_str()?;
                    (slf.borrow_mut().core.send_text(text, fin, compress), text.len())
                }
                Err(_) => convert::with_bytes(data, |data| {
                    (slf.borrow_mut().core.send_binary(data, fin, compress), data.len())
                })?,
            };
            slf.borrow().checked(slf.py(), sent)?;
            slf.borrow_mut().count_sent(size, fin);
            Self::leave_or_wait(slf)
        })
    }

    fn send_ping(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::guarded(slf, "send_ping", || {
            let sent = convert::with_bytes(data, |data| slf.borrow_mut().core.send_ping(data))?;
            slf.borrow().checked(slf.py(), sent)?;
            Self::leave_or_wait(slf)
        })
    }

    fn send_pong(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::guarded(slf, "send_pong", || {
            let sent = convert::with_bytes(data, |data| slf.borrow_mut().core.send_pong(data))?;
            slf.borrow().checked(slf.py(), sent)?;
            Self::leave_or_wait(slf)
        })
    }

    #[pyo3(signature = (code=Some(1000), reason=""), text_signature = "($self, /, code=1000, reason='')")]
    fn send_close(slf: &Bound<'_, Self>, code: Option<i64>, reason: &str) -> PyResult<()> {
        let code = code.map(convert::close_code).transpose()?;
        // Who wants to close gets what he wants also by a panic.
        Self::contained(slf, "send_close", || {
            let sent = slf.borrow_mut().core.send_close(code, reason);
            slf.borrow().checked(slf.py(), sent)?;
            Self::leave_or_wait(slf)
        })
    }

    /// Fail the connection (RFC 6455 §7.1.7): a Close with this code, and nothing after it.
    #[pyo3(signature = (code, reason=""))]
    fn fail(slf: &Bound<'_, Self>, code: i64, reason: &str) -> PyResult<()> {
        let code = convert::close_code(code)?;
        Self::contained(slf, "fail", || {
            slf.borrow_mut().core.fail(code, reason);
            Self::run_turn(slf)
        })
    }

    /// Stop (or go on) reading on the handler's own wish.
    fn hold_frames(slf: &Bound<'_, Self>, hold: bool) -> PyResult<()> {
        Self::contained(slf, "hold_frames", || {
            slf.borrow_mut().frames_paused = hold;
            Self::adjust_reading(slf)
        })
    }

    /// Whether anything has arrived since the last call.
    fn take_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// Wake the waiting task in place for what has arrived; called by the loop where one turn was not enough.
    fn run_scheduled_turn(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::contained(slf, "run_scheduled_turn", || {
            {
                let mut this = slf.borrow_mut();
                this.turn_scheduled = false;
                this.turn = Turn::Idle;
            }
            Self::run_turn(slf)
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

    /// Which of the limits the peer went beyond, if the connection failed for that.
    #[getter]
    fn excess(&self) -> Option<&'static str> {
        convert::excess(self.core.failure())
    }

    #[getter]
    fn transport(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.transport.as_ref().map(|transport| transport.clone_ref(py))
    }

    #[getter]
    fn r#loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.event_loop(py)
    }

    #[getter]
    fn write_paused(&self) -> bool {
        self.write_paused
    }

    #[getter]
    fn read_paused(&self) -> bool {
        self.read_paused
    }

    /// A task waits in `recv()`, `async for` or `recv_streaming()`.
    #[getter]
    fn waited_for(&self) -> bool {
        self.is_waited_for()
    }

    /// Nothing more will arrive; what waits in the queue can still be taken.
    #[getter]
    fn ended(&self) -> bool {
        self.is_ended()
    }

    /// A `recv_streaming()` has taken the first fragment of a message but not its last.
    #[getter]
    fn streaming(&self) -> bool {
        self.streaming
    }

    /// Messages and fragments that wait for the handler.
    #[getter]
    fn queued(&self) -> usize {
        self.queue.len()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.transport)?;
        visit.call(&self.waiter)?;
        // The queue and the shared frame are str and bytes only, which refer to nothing.
        Ok(())
    }

    fn __clear__(&mut self) {
        self.transport = None;
        self.waiter = None;
    }
}

impl MessageStream {
    pub fn event_loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.event_loop.clone_ref(py)
    }

    pub fn is_waited_for(&self) -> bool {
        self.waiter.is_some()
    }

    pub fn wait_with(&mut self, receive: Py<Receive>) {
        self.waiter = Some(receive);
    }

    pub fn stop_waiting(&mut self, receive: &Bound<'_, Receive>) {
        if let Some(waiter) = self.waiter.take_if(|waiter| waiter.is(receive)) {
            waiter.drop_ref(receive.py());
        }
    }

    pub fn bound_transport<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.transport.as_ref().map(|transport| transport.bind(py).clone())
    }

    /// Fail after a panic that came at any point: the core, and what would keep a turn from running.
    pub fn fail_after_panic(&mut self) {
        self.core.fail(1011, panics::REASON);
        if self.turn != Turn::Running {
            // Else the turn that is on the stack goes on, and flushes.
            self.turn = Turn::Idle;
            self.turn_scheduled = false;
        }
    }

    fn is_ended(&self) -> bool {
        self.transport.is_none()
            || self.core.state() == State::Closed
            || self.core.close_received().is_some()
            || self.core.failure().is_some()
    }
}
