//! The receiving half of a stream: bytes into its queue, messages and fragments out of it.

use super::turns::{SENDS_A_TURN, TURN_MESSAGES};
use super::{MessageStream, Turn};
use crate::convert;
use crate::inbox::{Inbox, Item, split};
use crate::panics::point;
use crate::receive::Mode;
use ferrows_core::{Connection, Kind};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// What [`MessageStream::take`] found.
pub enum Taken {
    /// A message, or a pair of data and fin.
    Item(Py<PyAny>),
    /// Nothing is left and nothing will come.
    Ended,
    /// Nothing now, or this turn's share is used up.
    Nothing,
}

/// Octets that are parsed before it counts how many messages wait: the smallest take six.
const PIECE: usize = 32 * 1024;

/// Octets of a compressed stream that are parsed before it counts how much waits: they may inflate to a thousand times
/// as many.
const DEFLATE_PIECE: usize = 1024;

/// Octets that are still read of a peer that goes on sending after its connection failed. One that reads has our Close by
/// then, and one that first writes what it has to write comes to its end; the others wait for theirs without being read.
pub(super) const DISCARDED: u32 = 64 << 20;

/// What was read and is not parsed yet.
pub(super) struct Held {
    octets: Vec<u8>,
    /// Where the rest begins.
    start: usize,
    /// The event loop will go on with it.
    pub(super) scheduled: bool,
}

impl MessageStream {
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
            point("take");
            let item = this.pop(slf.py(), mode)?;
            this.turn_left = this.turn_left.saturating_sub(u16::from(item.is_some()));
            this.sends_left = SENDS_A_TURN;
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

    /// Run `work` on the core with an inbox. What it parsed is in the queue also if it panics.
    pub(super) fn parse(
        &mut self,
        py: Python<'_>,
        pongs: &mut Vec<Vec<u8>>,
        work: impl FnOnce(&mut Connection, &mut Inbox<'_, '_>),
    ) {
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
            now: None,
        };
        let worked = catch_unwind(AssertUnwindSafe(|| {
            work(core, &mut inbox);
            point("parse");
        }));
        queue.give_back();
        if let Err(panic) = worked {
            resume_unwind(panic);
        }
    }

    /// Parse what arrived as long as there is room for what it becomes, and keep the rest for later.
    pub(super) fn receive(&mut self, py: Python<'_>, pongs: &mut Vec<Vec<u8>>, data: &[u8]) {
        if self.core.failure().is_some() {
            self.discarded = self.discarded.saturating_add(u32::try_from(data.len()).unwrap_or(u32::MAX));
            return;
        }
        if let Some(held) = &mut self.held {
            held.octets.extend_from_slice(data);
            return;
        }
        let parsed = self.parse_while_room(py, pongs, data);
        if parsed < data.len() {
            self.held = Some(Box::new(Held { octets: data[parsed..].to_vec(), start: 0, scheduled: false }));
        }
    }

    /// Go on with what was kept.
    pub(super) fn receive_held(&mut self, py: Python<'_>, pongs: &mut Vec<Vec<u8>>) {
        let Some(mut held) = self.held.take() else { return };
        held.scheduled = false;
        held.start += self.parse_while_room(py, pongs, &held.octets[held.start..]);
        if held.start < held.octets.len() {
            self.held = Some(held);
        }
    }

    /// Parse in pieces until the queue is full; return how many octets were parsed.
    fn parse_while_room(&mut self, py: Python<'_>, pongs: &mut Vec<Vec<u8>>, data: &[u8]) -> usize {
        let mut parsed = 0;
        while parsed < data.len() && !self.is_full(parsed >= PIECE) {
            let end = parsed + self.piece_of(&data[parsed..]);
            self.parse(py, pongs, |core, inbox| core.receive_data(&data[parsed..end], inbox));
            parsed = end;
        }
        parsed
    }

    /// How many octets to parse next. A frame that is larger than a piece is not cut: it costs less in one.
    fn piece_of(&self, data: &[u8]) -> usize {
        if self.core.has_deflate() {
            return data.len().min(DEFLATE_PIECE);
        }
        if data.len() <= PIECE { data.len() } else { self.core.frame_end(data).max(PIECE) }
    }

    /// Whether reading has to pause because of the size of what waits, or because of its number if that counts.
    fn is_full(&self, number: bool) -> bool {
        (self.queue.bytes() >= self.max_queued_bytes.get() || (number && self.queue.len() >= self.max_queue.get()))
            && !self.stalled
            && !self.is_ended()
            && self.core.close_sent().is_none()
    }

    /// Do what parsing asked for: resolve pings, wake the handler.
    pub(super) fn react(slf: &Bound<'_, Self>, pongs: Vec<Vec<u8>>) -> PyResult<()> {
        for payload in pongs {
            slf.call_method1(intern!(slf.py(), "_pong_received"), (PyBytes::new(slf.py(), &payload),))?;
        }
        Self::run_turn(slf)
    }

    /// Make the next message available fragment by fragment.
    fn prepare_fragments(&mut self, py: Python<'_>) -> PyResult<()> {
        match self.queue.front() {
            None if !self.fragments_asked => {
                self.fragments_asked = true;
                // Pongs do not arise here: nothing is parsed.
                self.parse(py, &mut Vec::new(), |core, inbox| core.begin_streaming(inbox));
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

    pub(super) fn pop(&mut self, py: Python<'_>, mode: Mode) -> PyResult<Option<Item>> {
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
}
