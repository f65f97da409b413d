//! `MessageStream`: the hot half of a `Websocket`. A core connection, the queue of what arrived, the one task that
//! waits for it, and the cork that gathers what is sent meanwhile into one write.
//!
//! A *turn* is one run over what has arrived: the waiting task is woken in place, works messages off until it waits for
//! something else or the turn's share is used up, and what it sent leaves as one write. What it sent on other
//! connections does so too: they are in the turn's batch.
//!
//! Python code is never called while the stream is borrowed: a handler that runs inside `receive_data` may call
//! anything on its own connection.

use crate::batch::Batch;
use crate::convert;
use crate::inbox::{Inbox, Item, split};
use crate::payload;
use crate::queue::Queue;
use crate::receive::{Mode, Receive, Sent, Woken};
use ferrows_core::{Connection, Error, Kind, Role, State};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Messages that one connection may work off before other connections get their turn.
const TURN_MESSAGES: u16 = 256;

/// Corked output beyond this many bytes leaves at once, so that the transport's limits are felt.
const CORK_LIMIT: usize = 64 * 1024;

/// What [`MessageStream::take`] found.
pub enum Taken {
    /// A message, or a pair of data and fin.
    Item(Py<PyAny>),
    /// Nothing is left and nothing will come.
    Ended,
    /// Nothing now, or this turn's share is used up.
    Nothing,
}

/// What a plain `send` was given.
#[derive(Clone, Copy)]
enum Payload<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

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
    queue: Queue,
    waiter: Option<Py<Receive>>,
    event_loop: Py<PyAny>,
    transport: Option<Py<PyAny>>,
    turn: Turn,
    turn_left: u16,
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
            r#loop, transport, *, max_size=Some(1 << 20), max_queue=Some(32), deflate=None, client=false, **_options
        ),
        text_signature = "(loop, transport, *, max_size=1048576, max_queue=32, deflate=None, client=False, **_options)"
    )]
    fn new(
        r#loop: Py<PyAny>,
        transport: Option<Py<PyAny>>,
        max_size: Option<u64>,
        max_queue: Option<usize>,
        deflate: Option<&Bound<'_, PyAny>>,
        client: bool,
        _options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let role = if client { Role::Client } else { Role::Server };
        Ok(Self {
            core: Connection::new(convert::config(role, max_size, deflate)?),
            queue: Queue::default(),
            waiter: None,
            event_loop: r#loop,
            transport,
            turn: Turn::Idle,
            turn_left: 0,
            turn_scheduled: false,
            batched: false,
            fragments_asked: false,
            streaming: false,
            stalled: false,
            dropping: false,
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
        let mut pongs = Vec::new();
        let parsed = convert::with_bytes(data, |data| {
            let this = &mut *slf.borrow_mut();
            this.heard = true;
            this.parse(slf.py(), &mut pongs, |core, inbox| core.receive_data(data, inbox))
        })?;
        if let Err(panic) = parsed {
            slf.borrow_mut().core.fail(1011, "internal error");
            slf.call_method1(intern!(slf.py(), "_panicked"), (panic,))?;
        }
        for payload in pongs {
            slf.call_method1(intern!(slf.py(), "_pong_received"), (PyBytes::new(slf.py(), &payload),))?;
        }
        Self::run_turn(slf)
    }

    fn receive_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.borrow_mut().core.receive_eof();
        Self::run_turn(slf)
    }

    /// The transport is gone: nothing more arrives and nothing more can be sent.
    fn lose_transport(slf: &Bound<'_, Self>) -> PyResult<()> {
        let transport = {
            let mut this = slf.borrow_mut();
            this.core.receive_eof();
            this.transport.take()
        };
        // Not inside the borrow: the last reference may run the transport's finalizer.
        drop(transport);
        Self::run_turn(slf)
    }

    fn pause_writing(&mut self) {
        self.write_paused = true;
        self.core.hold_pongs(true);
    }

    fn resume_writing(slf: &Bound<'_, Self>) -> PyResult<()> {
        {
            let mut this = slf.borrow_mut();
            this.write_paused = false;
            this.core.hold_pongs(false);
        }
        Self::settle(slf)
    }

    // ---- for the handler ----

    fn __aiter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __anext__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Receive>> {
        Receive::start(slf, Mode::Iteration)
    }

    #[pyo3(signature = (timeout=None))]
    fn recv<'py>(slf: &Bound<'py, Self>, timeout: Option<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        match timeout {
            None => Ok(Receive::start(slf, Mode::Message)?.into_any()),
            Some(timeout) => slf.call_method1(intern!(slf.py(), "_recv_within"), (timeout,)),
        }
    }

    /// One step of `recv_streaming()`.
    fn recv_fragment<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Receive>> {
        Receive::start(slf, Mode::Fragment)
    }

    /// Up to `limit` whole messages that have arrived, without waiting.
    fn take_messages(slf: &Bound<'_, Self>, limit: isize) -> PyResult<Vec<Py<PyAny>>> {
        let mut messages = Vec::new();
        while messages.len() < usize::try_from(limit).unwrap_or(0) {
            let Some(item) = slf.borrow_mut().pop(slf.py(), Mode::Message)? else { break };
            messages.push(item.into_object(slf.py(), Mode::Message)?);
        }
        Self::adjust_reading(slf)?;
        Ok(messages)
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
            && let Some(sent) = Self::send_plain(slf, data)?
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
        let py = slf.py();
        let (sent, size) = match data.cast::<PyString>() {
            Ok(text) => {
                let text = text.to_str()?;
                (slf.borrow_mut().core.send_text(text, fin, compress), text.len())
            }
            Err(_) => {
                convert::with_bytes(data, |data| (slf.borrow_mut().core.send_binary(data, fin, compress), data.len()))?
            }
        };
        slf.borrow().checked(py, sent)?;
        slf.borrow_mut().count_sent(size, fin);
        Self::leave_or_wait(slf)
    }

    fn send_ping(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let sent = convert::with_bytes(data, |data| slf.borrow_mut().core.send_ping(data))?;
        slf.borrow().checked(slf.py(), sent)?;
        Self::leave_or_wait(slf)
    }

    fn send_pong(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let sent = convert::with_bytes(data, |data| slf.borrow_mut().core.send_pong(data))?;
        slf.borrow().checked(slf.py(), sent)?;
        Self::leave_or_wait(slf)
    }

    #[pyo3(signature = (code=Some(1000), reason=""), text_signature = "($self, /, code=1000, reason='')")]
    fn send_close(slf: &Bound<'_, Self>, code: Option<i64>, reason: &str) -> PyResult<()> {
        let sent = slf.borrow_mut().core.send_close(code.map(convert::close_code).transpose()?, reason);
        slf.borrow().checked(slf.py(), sent)?;
        Self::leave_or_wait(slf)
    }

    /// Fail the connection (RFC 6455 §7.1.7): a Close with this code, and nothing after it.
    #[pyo3(signature = (code, reason=""))]
    fn fail(slf: &Bound<'_, Self>, code: i64, reason: &str) -> PyResult<()> {
        slf.borrow_mut().core.fail(convert::close_code(code)?, reason);
        Self::run_turn(slf)
    }

    /// Stop (or go on) reading on the handler's own wish.
    fn hold_frames(slf: &Bound<'_, Self>, hold: bool) -> PyResult<()> {
        slf.borrow_mut().frames_paused = hold;
        Self::adjust_reading(slf)
    }

    /// Whether anything has arrived since the last call.
    fn take_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// Wake the waiting task in place for what has arrived; called by the loop where one turn was not enough.
    fn run_scheduled_turn(slf: &Bound<'_, Self>) -> PyResult<()> {
        {
            let mut this = slf.borrow_mut();
            this.turn_scheduled = false;
            this.turn = Turn::Idle;
        }
        Self::run_turn(slf)
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
        // The queue holds str and bytes only, which refer to nothing.
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

    /// Send exactly str or bytes with nothing in the way; None where it is not that.
    pub fn send_plain(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        // The payload is looked at before the stream is borrowed: a text that is none raises, and raising may run code.
        let Some(payload) = plain_payload(data) else { return Ok(None) };
        if Self::send_uncopied(slf, data, payload)? {
            return Sent::instance(slf.py()).map(Some);
        }
        let due = {
            let mut this = slf.borrow_mut();
            if !this.send_now(payload) {
                return Ok(None);
            }
            (this.turn == Turn::Idle && !this.batched) || this.core.pending_output() > CORK_LIMIT
        };
        if due {
            Self::leave_or_wait(slf)?;
        }
        Sent::instance(slf.py()).map(Some)
    }

    /// Take the next item for a receive of this mode.
    pub fn take(slf: &Bound<'_, Self>, mode: Mode) -> PyResult<Taken> {
        let (item, turn_due, reading_due, ended) = {
            let this = &mut *slf.borrow_mut();
            if this.turn != Turn::Idle && this.turn_left == 0 && !this.queue.is_empty() {
                return Ok(Taken::Nothing);
            }
            if mode == Mode::Fragment {
                this.stalled = false;
                this.prepare_fragments(slf.py())?;
            }
            let item = this.pop(slf.py(), mode)?;
            this.turn_left = this.turn_left.saturating_sub(u16::from(item.is_some()));
            let turn_due = item.is_some() && this.turn == Turn::Idle && !this.queue.is_empty();
            if turn_due {
                this.turn = Turn::Deferred;
                this.turn_left = TURN_MESSAGES;
            }
            // Also where nothing was found: fragments may have been passed over or joined.
            (item, turn_due, this.read_paused, this.is_ended())
        };
        if turn_due {
            Self::schedule_turn(slf)?;
        }
        if reading_due {
            Self::adjust_reading(slf)?;
        }
        match item {
            Some(item) => item.into_object(slf.py(), mode).map(Taken::Item),
            None => Ok(if ended { Taken::Ended } else { Taken::Nothing }),
        }
    }

    /// Run `work` on the core with an inbox; a panic comes back as its message.
    fn parse(
        &mut self,
        py: Python<'_>,
        pongs: &mut Vec<Vec<u8>>,
        work: impl FnOnce(&mut Connection, &mut Inbox<'_, '_>),
    ) -> Result<(), String> {
        let Self {
            core, queue, messages_received, bytes_received, max_queue, max_queued_bytes, stalled, dropping, ..
        } = self;
        // Once our Close is out we read on for the peer's alone, and keep no more than what the limits allow.
        let limits = core.close_sent().is_some().then_some((max_queue.get(), max_queued_bytes.get()));
        let (items, queued_bytes) = queue.open();
        let mut inbox = Inbox {
            py,
            queue: items,
            queued_bytes,
            messages_received,
            bytes_received,
            stalled,
            dropping,
            pongs,
            limits,
        };
        let worked = catch_unwind(AssertUnwindSafe(|| work(core, &mut inbox)));
        queue.give_back();
        worked.map_err(|panic| {
            let text = panic.downcast_ref::<&str>().map(ToString::to_string);
            text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "unknown panic".to_owned())
        })
    }

    /// Make the next message available fragment by fragment.
    fn prepare_fragments(&mut self, py: Python<'_>) -> PyResult<()> {
        match self.queue.front() {
            None if !self.fragments_asked => {
                self.fragments_asked = true;
                // Pongs do not arise here: nothing is parsed.
                let _ = self.parse(py, &mut Vec::new(), |core, inbox| core.begin_streaming(inbox));
            }
            Some(Item::Message { ends, .. }) if !ends.is_empty() => {
                if let Some(Item::Message { data, ends, .. }) = self.queue.pop_front() {
                    for item in split(py, &data, &ends)?.into_iter().rev() {
                        self.queue.push_front(item);
                    }
                    self.fragments_asked = true;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn pop(&mut self, py: Python<'_>, mode: Mode) -> PyResult<Option<Item>> {
        loop {
            let Some(item) = self.queue.pop_front() else { return Ok(None) };
            let Item::Fragment { fin, .. } = item else { return Ok(Some(item)) };
            if mode == Mode::Fragment || self.streaming {
                self.streaming = !fin;
                self.fragments_asked &= !fin;
                if mode == Mode::Fragment {
                    return Ok(Some(item));
                }
                // The rest of a message whose iterator was abandoned half-way is of no use to anyone.
                continue;
            }
            // A `recv_streaming()` was given up before its first fragment: the message is still owed as a whole.
            let joined = self.join(py, item)?;
            if let Item::Message { .. } = joined {
                self.fragments_asked = false;
                return Ok(Some(joined));
            }
            self.queue.push_front(joined);
            self.stalled = true;
            return Ok(None);
        }
    }

    /// Join a fragment with those behind it in the queue: to a message if its last one is there.
    fn join(&mut self, py: Python<'_>, first: Item) -> PyResult<Item> {
        let mut payload = Vec::new();
        let mut next = Some(first);
        let mut kind = Kind::Binary;
        while let Some(Item::Fragment { data, fin, .. }) = next {
            let data = data.bind(py);
            if let Ok(text) = data.cast::<PyString>() {
                kind = Kind::Text;
                payload.extend_from_slice(text.to_str()?.as_bytes());
            } else {
                payload.extend_from_slice(data.cast::<PyBytes>()?.as_bytes());
            }
            if fin {
                let (data, size) = (convert::payload_object(py, kind, &payload)?, payload.len());
                return Ok(Item::Message { data, size, ends: Box::default() });
            }
            next = self.queue.pop_front();
        }
        let (data, size) = (convert::payload_object(py, kind, &payload)?, payload.len());
        Ok(Item::Fragment { data, size, fin: false })
    }

    fn is_ended(&self) -> bool {
        self.transport.is_none()
            || self.core.state() == State::Closed
            || self.core.close_received().is_some()
            || self.core.failure().is_some()
    }

    /// `send` of a large payload, with nothing in the way: what waits, its header and the payload leave at once, in one
    /// call, so that nothing can come between them. Tells whether it was sent.
    fn send_uncopied(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>, payload: Payload<'_>) -> PyResult<bool> {
        let (kind, payload) = match payload {
            Payload::Text(text) => (Kind::Text, text.as_bytes()),
            Payload::Binary(bytes) => (Kind::Binary, bytes),
        };
        if payload.len() < payload::UNCOPIED {
            return Ok(false);
        }
        let py = slf.py();
        let Some(transport) = slf.borrow().transport.as_ref().map(|transport| transport.bind(py).clone()) else {
            return Ok(false);
        };
        let gathered = if payload::gathers(&transport)? { Some(payload::buffer(data)?) } else { None };
        let output = {
            let this = &mut *slf.borrow_mut();
            if this.write_paused || this.send_queued || !this.core.send_header(kind, payload.len()) {
                return Ok(false);
            }
            let payload_behind = if gathered.is_none() { payload } else { &[] };
            let output = payload::joined(py, this.core.output(), payload_behind);
            // Also without memory for it: a header must not stay there without its payload.
            this.core.clear_output();
            this.count_sent(payload.len(), true);
            output?
        };
        match gathered {
            Some(payload) => transport.call_method1(intern!(py, "writelines"), ((output, payload),))?,
            None => transport.call_method1(intern!(py, "write"), (output,))?,
        };
        Ok(true)
    }

    /// The fast path of `send`, with nothing in the way. Tells whether it was sent.
    fn send_now(&mut self, payload: Payload<'_>) -> bool {
        if self.write_paused || self.send_queued || self.transport.is_none() {
            return false;
        }
        let (sent, size) = match payload {
            Payload::Text(text) => (self.core.send_text(text, true, None), text.len()),
            Payload::Binary(bytes) => (self.core.send_binary(bytes, true, None), bytes.len()),
        };
        if sent.is_ok() {
            self.count_sent(size, true);
        }
        sent.is_ok()
    }

    fn count_sent(&mut self, size: usize, fin: bool) {
        self.messages_sent += u64::from(fin);
        self.bytes_sent += size as u64;
    }

    fn checked(&self, py: Python<'_>, sent: Result<(), Error>) -> PyResult<()> {
        let close = self.core.close_received().or(self.core.close_sent());
        sent.map_err(|error| convert::caller_error(py, &error, close))
    }

    /// Outside a turn, what was written leaves now; inside, at the turn's end or when it grows large.
    fn leave_or_wait(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (waits, pending) = {
            let this = slf.borrow();
            (this.turn != Turn::Idle || this.batched, this.core.pending_output())
        };
        if !waits {
            if !Batch::add(slf) {
                return Self::settle(slf);
            }
            slf.borrow_mut().batched = true;
        }
        if pending > CORK_LIMIT { Self::flush(slf, true) } else { Ok(()) }
    }

    /// The batch ends that this stream is in.
    pub fn leave_batch(slf: &Bound<'_, Self>) -> PyResult<()> {
        let idle = {
            let mut this = slf.borrow_mut();
            this.batched = false;
            this.turn == Turn::Idle
        };
        if idle { Self::settle(slf) } else { Self::flush(slf, true) }
    }

    /// Wake the waiting task in place as long as there is something for it, then let all that was written leave.
    fn run_turn(slf: &Bound<'_, Self>) -> PyResult<()> {
        {
            let mut this = slf.borrow_mut();
            if this.turn == Turn::Running {
                // The handler fed its own connection; the turn that is on the stack goes on with it.
                return Ok(());
            }
            this.turn = Turn::Running;
            this.turn_left = TURN_MESSAGES;
        }
        let batch = Batch::open(slf.py());
        let woken = Self::wake_while_due(slf);
        let scheduled = matches!(woken, Ok(Woken::Later));
        let more = {
            let mut this = slf.borrow_mut();
            // A task that wakes in the next turn of the loop has its say before a Close that is pending.
            this.turn = if scheduled { Turn::Deferred } else { Turn::Idle };
            scheduled || this.is_wake_due(slf.py())
        };
        let settled = if more { Self::leave_the_rest(slf) } else { Self::settle(slf) };
        woken.and(settled).and(batch.map_or(Ok(()), Batch::end))
    }

    /// This turn's share is used up: what was written leaves, what waits comes in the next turn of the loop.
    fn leave_the_rest(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::schedule_turn(slf)?;
        Self::flush(slf, true)?;
        Self::adjust_reading(slf)
    }

    fn wake_while_due(slf: &Bound<'_, Self>) -> PyResult<Woken> {
        let py = slf.py();
        loop {
            let (waiter, event_loop) = {
                let this = slf.borrow();
                if this.turn_left == 0 || !this.is_wake_due(py) {
                    return Ok(Woken::Now);
                }
                let Some(waiter) = &this.waiter else { return Ok(Woken::Now) };
                (waiter.bind(py).clone(), this.event_loop.bind(py).clone())
            };
            if Receive::wake(&waiter, &event_loop)? == Woken::Later {
                return Ok(Woken::Later);
            }
        }
    }

    fn is_wake_due(&self, py: Python<'_>) -> bool {
        let due = (!self.queue.is_empty() && !self.stalled) || self.is_ended();
        due && self.waiter.as_ref().is_some_and(|waiter| waiter.borrow(py).is_wakeable())
    }

    fn schedule_turn(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let event_loop = {
            let mut this = slf.borrow_mut();
            if std::mem::replace(&mut this.turn_scheduled, true) {
                return Ok(());
            }
            this.event_loop.bind(py).clone()
        };
        let run = slf.getattr(intern!(py, "run_scheduled_turn"))?;
        event_loop.call_method1(intern!(py, "call_soon"), (run,))?;
        Ok(())
    }

    /// Let everything leave, a pending Close last, then tell the Python half what changed.
    fn settle(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::flush(slf, false)?;
        Self::adjust_reading(slf)?;
        let changed = {
            let mut this = slf.borrow_mut();
            let now = (this.core.state(), this.core.close_received().is_some(), this.core.failure().is_some());
            std::mem::replace(&mut this.reported, now) != now
        };
        if changed {
            slf.call_method0(intern!(slf.py(), "_state_changed"))?;
        }
        Ok(())
    }

    fn flush(slf: &Bound<'_, Self>, before_close: bool) -> PyResult<()> {
        let py = slf.py();
        let (transport, output) = {
            let this = &mut *slf.borrow_mut();
            if this.core.pending_output() == 0 && (before_close || !this.core.has_pending_close()) {
                return Ok(());
            }
            if !before_close {
                this.core.flush_close();
            }
            let output = PyBytes::new(py, this.core.output());
            this.core.clear_output();
            let Some(transport) = &this.transport else { return Ok(()) };
            (transport.bind(py).clone(), output)
        };
        transport.call_method1(intern!(py, "write"), (output,))?;
        Ok(())
    }

    /// Stop reading while more waits than the limits allow, go on once half of it is gone.
    fn adjust_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let (transport, pause) = {
            let mut this = slf.borrow_mut();
            let (count, bytes) = (this.queue.len(), this.queue.bytes());
            let (max_count, max_bytes) = (this.max_queue.get(), this.max_queued_bytes.get());
            // The beginning of a message that is owed whole is of no use without its end, however long.
            let full = !this.stalled && (count >= max_count || bytes >= max_bytes);
            let low = this.stalled || (count <= max_count / 2 && bytes <= max_bytes / 2);
            let pause = this.frames_paused || full || (this.read_paused && !low);
            let Some(transport) = this.transport.as_ref().map(|transport| transport.bind(py).clone()) else {
                return Ok(());
            };
            // To see the peer's Close, and its FIN after that, we read on whatever waits.
            let pause = pause && !this.is_ended() && this.core.close_sent().is_none();
            if std::mem::replace(&mut this.read_paused, pause) == pause {
                return Ok(());
            }
            (transport, pause)
        };
        let name = if pause { intern!(py, "pause_reading") } else { intern!(py, "resume_reading") };
        transport.call_method0(name)?;
        Ok(())
    }
}

/// The payload of exactly str or bytes; None for anything else, a str that is no text among it.
fn plain_payload<'a>(data: &'a Bound<'_, PyAny>) -> Option<Payload<'a>> {
    if let Ok(text) = data.cast_exact::<PyString>() {
        return text.to_str().ok().map(Payload::Text);
    }
    data.cast_exact::<PyBytes>().ok().map(|bytes| Payload::Binary(bytes.as_bytes()))
}
