//! `Receive` and `Sent`: what `ws.recv()` and `ws.send()` return.
//!
//! `Receive` is a coroutine and, while it is suspended, also the future-like object that it yields. asyncio's Task asks
//! such an object for `_asyncio_future_blocking`, `get_loop()` and `add_done_callback(wakeup, context=)`; the stream calls
//! that wakeup in place when a message is there. So a message costs no Future, no Handle and no turn of the loop.

use crate::panics::{Panic, caught, point};
use crate::slots::in_context;
use crate::stream::{MessageStream, Taken};
use pyo3::exceptions::asyncio::CancelledError;
use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyStopIteration};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// What a [`Receive`] waits for and how it ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `recv()`: a message, else `WebsocketClosed`.
    Message,
    /// `__anext__()`: a message, else `StopAsyncIteration` after a clean end.
    Iteration,
    /// One step of `recv_streaming()`: a pair of data and fin, else `WebsocketClosed`.
    Fragment,
    /// `recv_event()`: a message as ASGI's `websocket.receive`, else what the subclass makes of the end.
    Event,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Fresh,
    Waiting,
    Done,
}

/// When a waiting task runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// It has run, as far as it could.
    Now,
    /// In the next turn of the loop.
    Later,
}

/// How far [`Receive::advance`] came.
pub enum Step<'py> {
    /// To the end, with what the await evaluates to.
    Done(Bound<'py, PyAny>),
    /// The task has to wait; the receive itself is what it waits for.
    Waiting,
}

/// The awaitable of the next message. It takes the message when it is resumed, not when it is woken: a cancellation
/// that comes in between loses nothing.
#[pyclass(module = "ferrows._core")]
pub struct Receive {
    /// None once it has its message.
    stream: Option<Py<MessageStream>>,
    mode: Mode,
    phase: Phase,
    /// The task's wakeup and the context to call it in; `None` while running or once it was called.
    wakeup: Option<(Py<PyAny>, Option<Py<PyAny>>)>,
    blocking: bool,
    cancelled: bool,
    /// What the task was cancelled with: anyio knows its own cancellations by it.
    cancel_message: Option<Py<PyAny>>,
}

/// The receive that got its message last: it is used again once nobody else refers to it. There is one for all threads,
/// for whom holds the interpreter; null while it is in use.
static SPARE: AtomicPtr<ffi::PyObject> = AtomicPtr::new(ptr::null_mut());

impl Receive {
    /// Make the awaitable of a stream's next message.
    pub fn start<'py>(stream: &Bound<'py, MessageStream>, mode: Mode) -> PyResult<Bound<'py, Self>> {
        let py = stream.py();
        let fresh = Self::new(stream.clone().unbind(), mode);
        let spare = SPARE.swap(ptr::null_mut(), Ordering::Relaxed);
        if spare.is_null() {
            return Bound::new(py, fresh);
        }
        // SAFETY: what was in its place is a `Receive` and a reference to it, which is ours now.
        let spare = unsafe { Bound::from_owned_ptr(py, spare).cast_into_unchecked::<Self>() };
        // SAFETY: it is alive.
        if unsafe { ffi::Py_REFCNT(spare.as_ptr()) } > 1 {
            return Bound::new(py, fresh);
        }
        let before = std::mem::replace(&mut *spare.borrow_mut(), fresh);
        drop(before);
        Ok(spare)
    }

    /// Keep a receive that has its message for the next one.
    fn keep(slf: &Bound<'_, Self>) {
        let before = SPARE.swap(slf.clone().into_ptr(), Ordering::Relaxed);
        // SAFETY: what was in its place was a reference.
        drop(unsafe { Bound::from_owned_ptr_or_opt(slf.py(), before) });
    }

    fn new(stream: Py<MessageStream>, mode: Mode) -> Self {
        Self {
            stream: Some(stream),
            mode,
            phase: Phase::Fresh,
            wakeup: None,
            blocking: false,
            cancelled: false,
            cancel_message: None,
        }
    }

    /// Whether a task waits to be woken.
    pub fn is_wakeable(&self) -> bool {
        self.wakeup.is_some()
    }

    /// Wake the waiting task: in place where that is possible, else in the next turn of the loop.
    pub fn wake(slf: &Bound<'_, Self>, event_loop: &Bound<'_, PyAny>) -> PyResult<Woken> {
        let py = slf.py();
        // A task that feeds its own connection cannot be left half-way for another one.
        let in_place = current_task(event_loop)?.is_none();
        point("wake");
        // Only now: a task whose wakeup was taken, and not called because something failed, would wait for ever.
        let Some((wakeup, context)) = slf.borrow_mut().wakeup.take() else {
            return Ok(Woken::Now);
        };
        if in_place {
            // The wakeup asks what it is given for its result; of a real future it takes None without a call.
            let (done, call) = (done_future(py)?, wakeup.bind(py));
            let entered = match &context {
                Some(context) => in_context(context.bind(py), || call.call1((done,))),
                None => Some(call.call1((done,))),
            };
            // Neither can a context be entered twice.
            if let Some(woken) = entered {
                return woken.map(|_| Woken::Now);
            }
        }
        schedule(event_loop, &wakeup, context.as_ref(), slf)?;
        Ok(Woken::Later)
    }

    /// Note whom to call when a message is there, and in which context.
    pub fn wait_in(&mut self, wakeup: Py<PyAny>, context: Option<Py<PyAny>>) {
        self.wakeup = Some((wakeup, context));
    }

    /// What a Task looks at; see the getter.
    pub fn blocking(&self) -> Option<bool> {
        (self.phase == Phase::Waiting).then_some(self.blocking)
    }

    pub fn event_loop(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match &self.stream {
            Some(stream) => Ok(stream.borrow(py).event_loop(py)),
            None => Err(PyRuntimeError::new_err("the receive has ended")),
        }
    }

    /// Go on: the coroutine's `send(None)`. Where that panics the connection ends, and the receive as at any other end.
    #[inline]
    pub fn advance<'py>(slf: &Bound<'py, Self>) -> PyResult<Step<'py>> {
        caught("advance", || Self::go_on(slf)).unwrap_or_else(|panic| Err(Self::ended_by(slf, panic)))
    }

    #[cold]
    fn ended_by(slf: &Bound<'_, Self>, panic: Panic) -> PyErr {
        let py = slf.py();
        let stream = match slf.try_borrow() {
            Ok(this) => this.stream.as_ref().map(|stream| stream.clone_ref(py).into_bound(py)),
            Err(error) => return error.into(),
        };
        Self::close(slf);
        match stream {
            Some(stream) => MessageStream::ended_by(&stream, &panic),
            None => panic.into_error(),
        }
    }

    #[inline]
    fn go_on<'py>(slf: &Bound<'py, Self>) -> PyResult<Step<'py>> {
        let py = slf.py();
        let (stream, mode, phase) = {
            let this = slf.borrow();
            let stream = this.stream.as_ref().map(|stream| stream.clone_ref(py).into_bound(py));
            (stream, this.mode, this.phase)
        };
        let (Phase::Fresh | Phase::Waiting, Some(stream)) = (phase, stream) else {
            return Err(PyRuntimeError::new_err("cannot await the same receive twice"));
        };
        if phase == Phase::Waiting {
            Self::release(slf);
        } else if stream.borrow().is_waited_for() {
            slf.borrow_mut().phase = Phase::Done;
            return Err(concurrent_receive(py));
        }
        match MessageStream::take(&stream, mode)? {
            Taken::Item(value) => {
                let ended = {
                    let mut this = slf.borrow_mut();
                    this.phase = Phase::Done;
                    this.stream.take()
                };
                // The stream's last reference is `stream`, if anything.
                if let Some(ended) = ended {
                    ended.drop_ref(py);
                }
                Self::keep(slf);
                Ok(Step::Done(value.into_bound(py)))
            }
            Taken::Ended => {
                slf.borrow_mut().phase = Phase::Done;
                let name = match mode {
                    Mode::Iteration => intern!(py, "_iteration_end"),
                    Mode::Message | Mode::Fragment => intern!(py, "_closed_error"),
                    Mode::Event => return Ok(Step::Done(stream.call_method0(intern!(py, "_end_event"))?)),
                };
                Err(PyErr::from_value(stream.call_method0(name)?))
            }
            Taken::Nothing => {
                {
                    let mut this = slf.borrow_mut();
                    this.phase = Phase::Waiting;
                    this.blocking = true;
                }
                stream.borrow_mut().wait_with(slf.clone().unbind());
                Ok(Step::Waiting)
            }
        }
    }

    fn step(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        match Self::advance(slf)? {
            Step::Done(value) => Err(PyStopIteration::new_err((value.unbind(),))),
            Step::Waiting => Ok(slf.clone().into_any().unbind()),
        }
    }

    /// Give the stream's one place for a waiting receive back.
    fn release(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let (wakeup, stream) = {
            let mut this = slf.borrow_mut();
            (this.wakeup.take(), this.stream.as_ref().map(|stream| stream.clone_ref(py).into_bound(py)))
        };
        // Not inside the borrow: the last reference may run a finalizer.
        if let Some((wakeup, context)) = wakeup {
            wakeup.drop_ref(py);
            if let Some(context) = context {
                context.drop_ref(py);
            }
        }
        if let Some(stream) = stream {
            stream.borrow_mut().stop_waiting(slf);
        }
    }
}

#[pymethods]
impl Receive {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::step(slf)
    }

    #[pyo3(signature = (value, /))]
    fn send(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let _ = value;
        Self::step(slf)
    }

    #[pyo3(signature = (typ, val=None, tb=None, /))]
    fn throw(
        slf: &Bound<'_, Self>,
        typ: &Bound<'_, PyAny>,
        val: Option<&Bound<'_, PyAny>>,
        tb: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let _ = tb;
        Self::close(slf);
        Err(thrown(typ, val)?)
    }

    fn close(slf: &Bound<'_, Self>) {
        Self::release(slf);
        slf.borrow_mut().phase = Phase::Done;
    }

    /// What asyncio calls the coroutine when it describes a task.
    #[getter]
    #[allow(clippy::unused_self, reason = "an attribute of the instance, as a coroutine has it")]
    fn __name__(&self) -> &'static str {
        "Websocket.recv"
    }

    // ---- the protocol between a Task and the future that it waits for ----

    /// `None` unless suspended, so that `asyncio.isfuture()` takes it for what it is elsewhere: a coroutine.
    #[getter]
    fn _asyncio_future_blocking(&self) -> Option<bool> {
        self.blocking()
    }

    #[setter(_asyncio_future_blocking)]
    pub(crate) fn set_blocking(&mut self, blocking: bool) {
        self.blocking = blocking;
    }

    fn get_loop(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.event_loop(py)
    }

    #[pyo3(signature = (callback, /, *, context=None))]
    fn add_done_callback(&mut self, callback: Py<PyAny>, context: Option<Py<PyAny>>) {
        self.wait_in(callback, context);
    }

    #[pyo3(signature = (callback, /))]
    fn remove_done_callback(&mut self, callback: &Bound<'_, PyAny>) -> PyResult<usize> {
        let held = match &self.wakeup {
            Some((wakeup, _)) => wakeup.bind(callback.py()).eq(callback)?,
            None => false,
        };
        if held {
            self.wakeup = None;
        }
        Ok(usize::from(held))
    }

    #[pyo3(signature = (msg=None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        let Some((wakeup, context)) = slf.borrow_mut().wakeup.take() else {
            return Ok(false);
        };
        Self::release(slf);
        {
            let mut this = slf.borrow_mut();
            this.cancelled = true;
            this.cancel_message = msg;
        }
        let event_loop = slf.borrow().event_loop(slf.py())?.into_bound(slf.py());
        schedule(&event_loop, &wakeup, context.as_ref(), slf)?;
        Ok(true)
    }

    fn result(&self, py: Python<'_>) -> PyResult<()> {
        match (self.cancelled, &self.cancel_message) {
            (false, _) => Ok(()),
            (true, None) => Err(CancelledError::new_err(())),
            (true, Some(message)) => Err(CancelledError::new_err((message.clone_ref(py),))),
        }
    }

    fn done(&self) -> bool {
        self.wakeup.is_none()
    }

    fn cancelled(&self) -> bool {
        self.cancelled
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.stream)?;
        if let Some((wakeup, context)) = &self.wakeup {
            visit.call(wakeup)?;
            visit.call(context)?;
        }
        visit.call(&self.cancel_message)?;
        Ok(())
    }

    fn __clear__(&mut self) {
        self.wakeup = None;
    }
}

/// The awaitable of a `send()` that is done already: awaiting it never suspends.
#[pyclass(module = "ferrows._core", frozen)]
pub struct Sent;

impl Sent {
    /// The one instance.
    pub fn instance(py: Python<'_>) -> PyResult<Py<PyAny>> {
        static INSTANCE: PyOnceLock<Py<Sent>> = PyOnceLock::new();
        Ok(INSTANCE.get_or_try_init(py, || Py::new(py, Self))?.clone_ref(py).into_any())
    }
}

#[pymethods]
#[allow(clippy::unused_self, reason = "the coroutine protocol asks for methods; there is nothing to look at")]
impl Sent {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self) -> Option<Py<PyAny>> {
        None
    }

    #[pyo3(signature = (value, /))]
    fn send(&self, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let _ = value;
        Err(PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (typ, val=None, tb=None, /))]
    fn throw(
        &self,
        typ: &Bound<'_, PyAny>,
        val: Option<&Bound<'_, PyAny>>,
        tb: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let _ = tb;
        Err(thrown(typ, val)?)
    }

    fn close(&self) {}

    #[getter]
    fn __name__(&self) -> &'static str {
        "Websocket.send"
    }
}

/// The exception that the arguments of a coroutine's `throw()` mean.
fn thrown(typ: &Bound<'_, PyAny>, val: Option<&Bound<'_, PyAny>>) -> PyResult<PyErr> {
    let given = val
        .filter(|val| val.is_instance_of::<PyBaseException>())
        .or_else(|| (!typ.is_instance_of::<PyType>()).then_some(typ));
    Ok(PyErr::from_value(match given {
        Some(exception) => exception.clone(),
        None => match val.filter(|val| !val.is_none()) {
            Some(argument) => typ.call1((argument,))?,
            None => typ.call0()?,
        },
    }))
}

fn schedule(
    event_loop: &Bound<'_, PyAny>,
    wakeup: &Py<PyAny>,
    context: Option<&Py<PyAny>>,
    receive: &Bound<'_, Receive>,
) -> PyResult<()> {
    let py = event_loop.py();
    let options = PyDict::new(py);
    if let Some(context) = context {
        options.set_item(intern!(py, "context"), context)?;
    }
    event_loop.call_method(intern!(py, "call_soon"), (wakeup, receive), Some(&options))?;
    Ok(())
}

/// A future that is done, with None; it belongs to no loop.
fn done_future(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static DONE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let done = DONE.get_or_try_init(py, || {
        // All that a future asks a loop for, as long as it has no callbacks.
        let code = c"__import__('types').SimpleNamespace(get_debug=lambda: False)";
        let options = PyDict::new(py);
        options.set_item("loop", py.eval(code, None, None)?)?;
        let future = py.import("asyncio")?.getattr("Future")?.call((), Some(&options))?;
        future.call_method1("set_result", (py.None(),))?;
        Ok::<_, PyErr>(future.unbind())
    })?;
    Ok(done.bind(py))
}

/// The task that runs on the loop now. Up to 3.13 asyncio keeps a dictionary of them; `current_task` is Python code in 3.11.
fn current_task<'py>(event_loop: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    static CURRENT_TASKS: PyOnceLock<Option<Py<PyDict>>> = PyOnceLock::new();
    static CURRENT_TASK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = event_loop.py();
    let tasks = CURRENT_TASKS.get_or_try_init(py, || {
        let tasks = py.import("asyncio.tasks")?.getattr_opt("_current_tasks")?;
        Ok::<_, PyErr>(tasks.and_then(|tasks| tasks.cast_into::<PyDict>().ok()).map(Bound::unbind))
    })?;
    if let Some(tasks) = tasks {
        let tasks = tasks.bind(py);
        return if tasks.is_empty() { Ok(None) } else { tasks.get_item(event_loop) };
    }
    let task = CURRENT_TASK.import(py, "asyncio", "current_task")?.call1((event_loop,))?;
    Ok((!task.is_none()).then_some(task))
}

fn concurrent_receive(py: Python<'_>) -> PyErr {
    static SERVER_ERROR: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    match SERVER_ERROR.import(py, "ferrows.exceptions", "ServerError") {
        Ok(class) => PyErr::from_type(class.clone(), ("another task is waiting for a message of this connection",)),
        Err(error) => error,
    }
}
