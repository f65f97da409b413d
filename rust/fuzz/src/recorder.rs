//! A sink that keeps what it is told, and knows how much memory that takes.

use crate::memory;
use ferrows_core::{CloseFrame, Error, Kind, Masked, Place, Sink};

/// What a sink was told. A failure is its close code.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the methods of `Sink` say it")]
pub enum Event {
    Message(Kind, Vec<u8>, Vec<u32>),
    Fragment(Kind, Vec<u8>, bool),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
    Failure(u16),
}

/// Keeps events.
#[derive(Debug, Default)]
pub struct Recorder {
    /// What was told, in order.
    pub events: Vec<Event>,
    /// Bytes of heap that the events take.
    pub own: isize,
    places: bool,
    ended: bool,
}

impl Recorder {
    /// Make a recorder that provides memory for large messages, or does not.
    pub fn new(places: bool) -> Self {
        Self { places, ..Self::default() }
    }

    fn record(&mut self, make: impl FnOnce() -> Event) {
        assert!(!self.ended, "nothing is told after a failure");
        let before = memory::held();
        let event = make();
        match &event {
            Event::Message(Kind::Text, payload, _) | Event::Fragment(Kind::Text, payload, _) => {
                assert!(std::str::from_utf8(payload).is_ok(), "text is valid");
            }
            Event::Failure(_) => self.ended = true,
            _ => {}
        }
        self.events.push(event);
        self.own += memory::held() - before;
    }
}

impl Sink for Recorder {
    fn message(&mut self, kind: Kind, payload: &[u8], ends: &[u32]) {
        self.record(|| Event::Message(kind, payload.into(), ends.into()));
    }
    fn fragment(&mut self, kind: Kind, payload: &[u8], fin: bool) {
        self.record(|| Event::Fragment(kind, payload.into(), fin));
    }
    fn ping(&mut self, payload: &[u8]) {
        self.record(|| Event::Ping(payload.into()));
    }
    fn pong(&mut self, payload: &[u8]) {
        self.record(|| Event::Pong(payload.into()));
    }
    fn close(&mut self, frame: &CloseFrame) {
        self.record(|| Event::Close(frame.code, frame.reason.clone()));
    }
    fn failure(&mut self, error: &Error) {
        assert!(!error.to_string().is_empty());
        self.record(|| Event::Failure(error.close_code().expect("an error of the peer has a code")));
    }
    fn place(&mut self, _: Kind) -> Option<Box<dyn Place>> {
        self.places.then(|| Box::<Growing>::default() as Box<dyn Place>)
    }
}

/// A place as the bindings have one: it grows with what arrives.
#[derive(Debug, Default)]
struct Growing(Vec<u8>);

impl Place for Growing {
    fn append(&mut self, piece: Masked<'_>, left: u64) -> bool {
        if self.0.capacity() - self.0.len() < piece.len() {
            let announced = usize::try_from(left).unwrap_or(usize::MAX);
            self.0.reserve_exact(piece.len() + announced.min(self.0.len()));
        }
        let before = self.0.len();
        let ascii = piece.unmask_into(&mut self.0.spare_capacity_mut()[..piece.len()]);
        // SAFETY: `unmask_into` has written every byte of what it was given.
        unsafe { self.0.set_len(before + piece.len()) };
        ascii
    }

    fn payload(&self) -> &[u8] {
        &self.0
    }
}
