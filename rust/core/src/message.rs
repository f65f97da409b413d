//! The message under assembly: its fragments, its limits, and its text validated as it arrives (RFC 6455 §5.4, §8.1).

use crate::deflate::PerMessageDeflate;
use crate::error::Error;
use crate::frame::Unfinished;
use crate::kind::Kind;
use crate::mask::{self, Masked};
use crate::scratch::Scratch;
use crate::sink::{Place, Sink};
use crate::utf8;

/// Ends of fragments that are recorded for one message; the fragments after them merge.
pub const MAX_ENDS: usize = 512;

/// Size in bytes from which a message in one frame is assembled where its sink wants it.
const PLACED: u64 = 16 * 1024;

/// How a message leaves the assembler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    /// Whole.
    Message,
    /// One fragment a frame.
    Fragments,
}

/// A message of which the first frame has begun.
#[derive(Debug)]
struct Open {
    kind: Kind,
    said: Unfinished,
    delivery: Delivery,
    /// Frames that have begun.
    frames: u32,
    /// Bytes of it that were handed over as fragments.
    handed: u64,
    /// Bytes of the buffer that are whole characters, or just bytes.
    checked: usize,
    /// Bytes of the buffer that belong to whole frames, in whole characters.
    framed: usize,
    ends: Vec<u32>,
}

/// Puts the frames of one message after the other together.
#[derive(Debug)]
pub(crate) struct Assembler {
    max_size: u64,
    open: Option<Box<Open>>,
    /// Payload that was not handed over, inflated. Of text, up to three bytes at its end may begin a character.
    buffer: Vec<u8>,
    /// Where the message under assembly is instead of the buffer: all of it is in one frame.
    place: Option<Box<dyn Place>>,
    /// How the next message is to leave.
    next: Delivery,
}

impl Assembler {
    pub(crate) fn new(max_size: Option<u64>) -> Self {
        Self {
            max_size: max_size.unwrap_or(u64::MAX),
            open: None,
            buffer: Vec::new(),
            place: None,
            next: Delivery::Message,
        }
    }

    /// Bytes that a message may have; `u64::MAX` if there is no limit.
    #[inline]
    pub(crate) fn max_size(&self) -> u64 {
        self.max_size
    }

    /// Return what the frames of the message under assembly said so far.
    #[inline]
    pub(crate) fn unfinished(&self) -> Option<Unfinished> {
        self.open.as_ref().map(|open| open.said)
    }

    /// Tell whether a message that arrives in one piece may be handed over without being assembled here.
    #[inline]
    pub(crate) fn is_bypassable(&self) -> bool {
        self.open.is_none() && self.next == Delivery::Message
    }

    /// Begin a message. Its first frame still has to be [announced](Self::announce).
    pub(crate) fn begin(&mut self, kind: Kind, compressed: bool) {
        let delivery = std::mem::replace(&mut self.next, Delivery::Message);
        self.open = Some(Box::new(Open {
            kind,
            said: Unfinished { compressed, wire: 0 },
            delivery,
            frames: 0,
            handed: 0,
            checked: 0,
            framed: 0,
            ends: Vec::new(),
        }));
    }

    /// Take note of a frame of `length` bytes; return which of its message it is, from 1 on.
    pub(crate) fn announce(&mut self, length: u64) -> u32 {
        let Some(open) = &mut self.open else { return 0 };
        open.said.wire = open.said.wire.saturating_add(length);
        open.frames = open.frames.saturating_add(1);
        open.frames
    }

    /// Bytes of the message under assembly, inflated, that came so far.
    pub(crate) fn size(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.handed.saturating_add(self.buffer.len() as u64))
    }

    /// Take the next piece of the frame.
    ///
    /// # Errors
    /// [`Error::InvalidDeflate`], [`Error::InflatedTooBig`], [`Error::InvalidText`].
    pub(crate) fn push<S: Sink>(
        &mut self,
        piece: &Piece<'_>,
        deflate: Option<&mut PerMessageDeflate>,
        sink: &mut S,
    ) -> Result<(), Error> {
        let Some(open) = &mut self.open else { return Ok(()) };
        if self.place.is_none() && self.buffer.is_empty() && open.is_placeable(piece) {
            self.place = sink.place(open.kind);
        }
        if let Some(place) = &mut self.place {
            let before = place.payload().len();
            // Text that is ASCII up to here is valid up to here, and needs no second look.
            let ascii = place.append(Masked::new(piece.bytes, piece.mask, piece.offset), piece.left);
            if ascii && open.checked == before {
                open.checked = place.payload().len();
                return Ok(());
            }
            return open.check(place.payload());
        }
        if let (true, Some(deflate)) = (open.said.compressed, deflate) {
            let mut unmasked = Scratch::Payload.take();
            piece.unmask_into(&mut unmasked);
            let room = open.room(self.max_size, &self.buffer);
            let inflated = deflate.inflate(&unmasked, room, &mut self.buffer);
            Scratch::Payload.put(unmasked);
            inflated.map_err(|error| error.into_error(self.max_size))?;
        } else {
            piece.grow(&mut self.buffer);
            piece.unmask_into(&mut self.buffer);
        }
        open.check(&self.buffer)
    }

    /// Hand over a compressed message that came in one frame and one piece, past the buffer. `check` is asked about its
    /// size before that.
    ///
    /// # Errors
    /// As [`push`](Self::push), and what `check` returns.
    #[inline]
    pub(crate) fn bypass<S: Sink>(
        &self,
        kind: Kind,
        payload: Masked<'_>,
        deflate: &mut PerMessageDeflate,
        sink: &mut S,
        check: impl FnOnce(usize, &mut S) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut unmasked = Scratch::Payload.take();
        payload.append_to(&mut unmasked);
        let mut inflated = Scratch::Inflated.take();
        let result = deflate
            .inflate(&unmasked, self.max_size, &mut inflated)
            .and_then(|()| deflate.finish_inflate(self.max_size.saturating_sub(inflated.len() as u64), &mut inflated))
            .map_err(|error| error.into_error(self.max_size))
            .and_then(|()| check(inflated.len(), sink))
            .and_then(|()| whole(kind, &inflated, sink));
        Scratch::Inflated.put(inflated);
        Scratch::Payload.put(unmasked);
        result
    }

    /// End a frame; with `fin` also the message, which leaves.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub(crate) fn end_frame<S: Sink>(
        &mut self,
        fin: bool,
        deflate: Option<&mut PerMessageDeflate>,
        sink: &mut S,
    ) -> Result<(), Error> {
        let Some(open) = &mut self.open else { return Ok(()) };
        if fin {
            if let (true, Some(deflate)) = (open.said.compressed, deflate) {
                let room = open.room(self.max_size, &self.buffer);
                deflate.finish_inflate(room, &mut self.buffer).map_err(|error| error.into_error(self.max_size))?;
                open.check(&self.buffer)?;
            }
            // §8.1: a text that ends inside a character is not UTF-8.
            if open.checked != self.place.as_ref().map_or(self.buffer.len(), |place| place.payload().len()) {
                return Err(Error::InvalidText);
            }
            if let Some(place) = self.place.take() {
                sink.placed_message(open.kind, place, open.delivery == Delivery::Fragments);
                self.open = None;
                return Ok(());
            }
        }
        match (open.delivery, fin) {
            (Delivery::Message, false) => open.record_end(),
            (Delivery::Message, true) => {
                open.drop_last_end();
                sink.message(open.kind, &self.buffer, &open.ends);
            }
            (Delivery::Fragments, _) => {
                open.framed = open.checked;
                self.hand_over(fin, sink);
            }
        }
        if fin {
            self.open = None;
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// Hand the message under assembly over in fragments from here on, or the next one if there is none.
    pub(crate) fn begin_streaming<S: Sink>(&mut self, sink: &mut S) {
        let Some(open) = &mut self.open else {
            self.next = Delivery::Fragments;
            return;
        };
        if open.delivery == Delivery::Message {
            open.delivery = Delivery::Fragments;
            let mut start = 0;
            for end in std::mem::take(&mut open.ends).into_iter().map(|end| end as usize) {
                sink.fragment(open.kind, &self.buffer[start..end], false);
                start = end;
            }
            self.forget(start);
            self.hand_over(false, sink);
        }
    }

    /// Give up the message under assembly and what belongs to it.
    pub(crate) fn clear(&mut self) {
        self.open = None;
        self.buffer = Vec::new();
        self.place = None;
    }

    /// Hand over what belongs to whole frames as one fragment, unless it is empty and not the last.
    fn hand_over<S: Sink>(&mut self, fin: bool, sink: &mut S) {
        let Some(open) = &self.open else { return };
        let size = open.framed;
        if size > 0 || fin {
            sink.fragment(open.kind, &self.buffer[..size], fin);
            self.forget(size);
        }
    }

    /// Remove the first `size` bytes of the buffer, which were handed over, and keep no memory for them.
    fn forget(&mut self, size: usize) {
        if let (Some(open), 1..) = (&mut self.open, size) {
            open.handed = open.handed.saturating_add(size as u64);
            open.checked -= size;
            open.framed -= size;
            self.buffer = self.buffer[size..].to_vec();
        }
    }
}

impl Open {
    /// Bytes that the message may still grow by.
    fn room(&self, max_size: u64, buffer: &[u8]) -> u64 {
        max_size.saturating_sub(self.handed).saturating_sub(buffer.len() as u64)
    }

    /// Tell whether the piece may begin a message that is assembled where its sink wants it: large, all of it in this
    /// frame, and as it is on the wire.
    fn is_placeable(&self, piece: &Piece<'_>) -> bool {
        let size = piece.left.saturating_add(piece.bytes.len() as u64);
        piece.fin && !self.said.compressed && self.handed == 0 && self.framed == 0 && size >= PLACED
    }

    /// Validate what was added to the buffer.
    ///
    /// # Errors
    /// [`Error::InvalidText`], at the first byte that cannot continue the text.
    fn check(&mut self, buffer: &[u8]) -> Result<(), Error> {
        self.checked = match self.kind {
            Kind::Binary => buffer.len(),
            Kind::Text => {
                let whole = utf8::valid_prefix(&buffer[self.checked..]).map_err(|_| Error::InvalidText)?;
                self.checked + whole
            }
        };
        Ok(())
    }

    /// Record that a fragment ended after what is checked, unless nothing came since the last one.
    fn record_end(&mut self) {
        if self.checked > self.framed
            && self.ends.len() < MAX_ENDS
            && let Ok(end) = u32::try_from(self.checked)
        {
            self.ends.push(end);
        }
        self.framed = self.checked;
    }

    /// Remove the end of the last non-empty fragment, which is that of the message, if empty ones came after it.
    fn drop_last_end(&mut self) {
        if self.ends.last().is_some_and(|end| *end as usize == self.checked) {
            self.ends.pop();
        }
    }
}

/// Bytes of a data frame's payload that are there, still masked.
#[derive(Debug)]
pub(crate) struct Piece<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) mask: Option<[u8; 4]>,
    /// Bytes of the payload before this piece; modulo four is enough.
    pub(crate) offset: usize,
    /// Bytes of the payload after this piece.
    pub(crate) left: u64,
    /// No frame follows in this message.
    pub(crate) fin: bool,
}

impl Piece<'_> {
    #[inline]
    fn unmask_into(&self, out: &mut Vec<u8>) {
        mask::append_unmasked(out, self.bytes, self.mask, self.offset);
    }

    /// Make room in `buffer` for the piece and for what is announced after it, without doubling more than what is
    /// there: a header costs its sender nothing.
    fn grow(&self, buffer: &mut Vec<u8>) {
        if buffer.capacity() - buffer.len() < self.bytes.len() {
            let doubled = (buffer.len() + self.bytes.len()).max(64);
            let announced = if self.fin { usize::try_from(self.left).unwrap_or(usize::MAX) } else { usize::MAX };
            buffer.reserve_exact(self.bytes.len() + announced.min(doubled));
        }
    }
}

/// Hand over a message that is whole.
#[inline]
fn whole<S: Sink>(kind: Kind, payload: &[u8], sink: &mut S) -> Result<(), Error> {
    if kind == Kind::Text && !utf8::is_valid(payload) {
        return Err(Error::InvalidText);
    }
    sink.message(kind, payload, &[]);
    Ok(())
}
