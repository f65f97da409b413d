//! Where what arrives goes.

use crate::close::CloseFrame;
use crate::error::Error;
use crate::kind::Kind;
use crate::mask::Masked;
use crate::scratch::Scratch;
use crate::utf8::{self, InvalidUtf8};
use std::any::Any;
use std::fmt::Debug;
use std::time::Duration;

/// Memory that a [`Sink`] provides for a message that is still arriving.
pub trait Place: Any + Debug + Send + Sync {
    /// Append a piece, of which `left` bytes at most follow, but are only announced: memory is bounded by a multiple of
    /// what is there. Tells whether the piece is ASCII.
    fn append(&mut self, piece: Masked<'_>, left: u64) -> bool;

    /// What was appended, unmasked.
    fn payload(&self) -> &[u8];
}

/// Takes what a [`Connection`](crate::Connection) reads, in the order in which it arrived.
///
/// Payloads are borrowed for the call only. Text is valid UTF-8 already, fragments of text included; only
/// [`masked_message`](Self::masked_message) is asked before that.
pub trait Sink {
    /// Take a message.
    ///
    /// `ends` are the byte offsets, in text at characters, at which its non-empty fragments ended, but for the last;
    /// none if it came in one frame. At most [`MAX_ENDS`](crate::MAX_ENDS) are recorded, later fragments merge.
    fn message(&mut self, kind: Kind, payload: &[u8], ends: &[u32]);

    /// Take a message that came in one frame and in one piece, which is neither unmasked nor validated yet.
    ///
    /// A sink that unmasks it to where it is to stay saves a copy. By default it goes to [`message`](Self::message).
    ///
    /// # Errors
    /// [`InvalidUtf8`] if it is text that is none; the connection fails with it.
    fn masked_message(&mut self, kind: Kind, payload: Masked<'_>) -> Result<(), InvalidUtf8> {
        let mut unmasked = Scratch::Payload.take();
        payload.append_to(&mut unmasked);
        let valid = kind == Kind::Binary || utf8::is_valid(&unmasked);
        if valid {
            self.message(kind, &unmasked, &[]);
        }
        Scratch::Payload.put(unmasked);
        if valid { Ok(()) } else { Err(InvalidUtf8) }
    }

    /// Tell the time, by a clock that only goes forward; asked for where [rates](crate::InboundLimits) are limited.
    ///
    /// By default it stands still, and no more than a burst is ever permitted.
    fn now(&mut self) -> Duration {
        Duration::ZERO
    }

    /// Provide memory for a large message that comes in one frame but in several pieces, or let the connection assemble
    /// it, which is the default. The connection drops it where the message comes to nothing.
    fn place(&mut self, _kind: Kind) -> Option<Box<dyn Place>> {
        None
    }

    /// Take a message back that was assembled in a [`place`](Self::place): as a whole, or as the only fragment after
    /// [`begin_streaming`](crate::Connection::begin_streaming).
    fn placed_message(&mut self, kind: Kind, place: Box<dyn Place>, fragment: bool) {
        if fragment {
            self.fragment(kind, place.payload(), true);
        } else {
            self.message(kind, place.payload(), &[]);
        }
    }

    /// Take a fragment of a message after [`begin_streaming`](crate::Connection::begin_streaming), one a frame.
    ///
    /// A character that is cut goes with the fragment that ends it. Only the last fragment, with `fin`, may be empty.
    fn fragment(&mut self, kind: Kind, payload: &[u8], fin: bool);

    /// Take a ping. The connection answers it by itself.
    fn ping(&mut self, payload: &[u8]);

    /// Take a pong, asked for or not.
    fn pong(&mut self, payload: &[u8]);

    /// Take the peer's Close, with code 1005 if it had no body. The connection answers it by itself.
    fn close(&mut self, frame: &CloseFrame);

    /// Take what the peer did wrong; nothing is read and no method is called after it.
    fn failure(&mut self, error: &Error);
}
