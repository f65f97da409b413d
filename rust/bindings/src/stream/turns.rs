//! The turns of a stream: when its waiting task is woken, and when what was sent leaves.

use super::receiving::DISCARDED;
use super::{MessageStream, Turn};
use crate::batch::Batch;
use crate::clock;
use crate::direct::{self, Socket};
use crate::panics::point;
use crate::receive::{Receive, Woken};
use pyo3::intern;
use pyo3::prelude::*;

/// Messages that one connection may work off before other connections get their turn.
pub(super) const TURN_MESSAGES: u16 = 256;

/// Messages that a handler may send in a row, receiving none, before a send suspends for one turn of the loop.
///
/// A transport that has lost its peer takes whatever is written and never says stop before the loop turns. So a handler
/// that does nothing but send must let it turn now and then, or nobody else would ever run again.
pub(super) const SENDS_A_TURN: u16 = 512;

/// Corked output beyond this many bytes leaves at once, so that the transport's limits are felt.
pub(super) const CORK_LIMIT: usize = 64 * 1024;

/// A turn that is running. Where it panics, it is over: else no other would ever run.
struct Running<'a, 'py>(&'a Bound<'py, MessageStream>);

impl Drop for Running<'_, '_> {
    fn drop(&mut self) {
        if let Ok(mut stream) = self.0.try_borrow_mut() {
            stream.turn = Turn::Idle;
        }
    }
}

impl MessageStream {
    /// Outside a turn, what was written leaves now; inside, at the turn's end or when it grows large.
    pub(super) fn leave_or_wait(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (waits, pending) = {
            let this = slf.borrow();
            (this.turn != Turn::Idle || this.batched, this.pending_output(slf.py()))
        };
        if !waits {
            if !Batch::add(slf) {
                return Self::settle(slf);
            }
            slf.borrow_mut().batched = true;
        }
        if pending > CORK_LIMIT { Self::flush(slf, true) } else { Ok(()) }
    }

    /// The batch ends that this stream is in; a stream of the loop in `direct` writes to its socket itself.
    pub fn leave_batch(slf: &Bound<'_, Self>, direct: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let (idle, direct) = {
            let mut this = slf.borrow_mut();
            this.batched = false;
            this.sends_left = SENDS_A_TURN;
            (this.turn == Turn::Idle, direct.is_some_and(|direct| this.event_loop.is(direct)))
        };
        // The turn belongs to another connection, which has nothing to do with a panic of this one.
        Self::contained(slf, "leave_batch", || {
            if direct {
                Self::flush_directly(slf)?;
            }
            if idle { Self::settle(slf) } else { Self::flush(slf, true) }
        })
    }

    /// Wake the waiting task in place as long as there is something for it, then let all that was written leave.
    pub fn run_turn(slf: &Bound<'_, Self>) -> PyResult<()> {
        {
            let mut this = slf.borrow_mut();
            if this.turn == Turn::Running {
                // The handler fed its own connection; the turn that is on the stack goes on with it.
                return Ok(());
            }
            this.turn = Turn::Running;
            this.turn_left = TURN_MESSAGES;
            this.sends_left = SENDS_A_TURN;
        }
        let batch = Batch::open(slf.py());
        let running = Running(slf);
        let woken = Self::wake_while_due(slf);
        let scheduled = matches!(woken, Ok(Woken::Later));
        // From here on no turn is running.
        std::mem::forget(running);
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
        point("run_turn");
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

    pub(super) fn schedule_turn(slf: &Bound<'_, Self>) -> PyResult<()> {
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
    pub(super) fn settle(slf: &Bound<'_, Self>) -> PyResult<()> {
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

    pub(super) fn flush(slf: &Bound<'_, Self>, before_close: bool) -> PyResult<()> {
        let py = slf.py();
        let (transport, output, rest) = {
            let this = &mut *slf.borrow_mut();
            point("flush");
            if this.pending_output(py) == 0 && (before_close || !this.core.has_pending_close()) {
                return Ok(());
            }
            if !before_close {
                this.core.flush_close();
            }
            let (output, rest) = this.take_output(py)?;
            let Some(transport) = &this.transport else { return Ok(()) };
            (transport.bind(py).clone(), output, rest)
        };
        transport.call_method1(intern!(py, "write"), (output,))?;
        if let Some(rest) = rest {
            transport.call_method1(intern!(py, "write"), (rest,))?;
        }
        Ok(())
    }

    /// Let what was sent leave as far as the socket takes it, if nothing waits in the transport; a pending Close stays.
    fn flush_directly(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let (transport, mut socket) = {
            let this = slf.borrow();
            let Some(transport) = &this.transport else { return Ok(()) };
            (transport.bind(py).clone(), this.socket)
        };
        if socket == Socket::UNKNOWN {
            socket = Socket::of(&transport);
            slf.borrow_mut().socket = socket;
        }
        let Some(descriptor) = socket.descriptor() else { return Ok(()) };
        let (output, rest) = {
            let this = &mut *slf.borrow_mut();
            if this.transport.is_none() || this.write_paused || this.pending_output(py) == 0 {
                return Ok(());
            }
            this.take_output(py)?
        };
        if let Some(left) = direct::write(descriptor, &transport, output)? {
            transport.call_method1(intern!(py, "write"), (left,))?;
        }
        if let Some(rest) = rest {
            transport.call_method1(intern!(py, "write"), (rest,))?;
        }
        Ok(())
    }

    /// Stop reading while more waits than the limits allow, go on once half of it is gone.
    pub(super) fn adjust_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let (transport, pause, held) = {
            let this = &mut *slf.borrow_mut();
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
            let mut pause = pause && !this.is_ended() && this.core.close_sent().is_none();
            pause |= this.discarded >= DISCARDED;
            let mut held = None;
            let ended = this.is_ended();
            if let Some(waiting) = &mut this.held {
                if ended {
                    this.held = None;
                } else {
                    // What was read already comes before what the transport has.
                    if !pause && !std::mem::replace(&mut waiting.scheduled, true) {
                        held = Some(this.event_loop.bind(py).clone());
                    }
                    pause = true;
                }
            }
            let changes = std::mem::replace(&mut this.read_paused, pause) != pause;
            if changes {
                this.core.set_reading(!pause, clock::now);
            }
            if !changes && held.is_none() {
                return Ok(());
            }
            (changes.then_some(transport), pause, held)
        };
        if let Some(transport) = transport {
            let name = if pause { intern!(py, "pause_reading") } else { intern!(py, "resume_reading") };
            transport.call_method0(name)?;
        }
        if let Some(event_loop) = held {
            event_loop.call_method1(intern!(py, "call_soon"), (slf.getattr(intern!(py, "receive_held"))?,))?;
        }
        Ok(())
    }
}
