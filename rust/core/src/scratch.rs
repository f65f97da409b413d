//! Buffers that the connections of a thread share, so that an idle connection holds none.

use std::cell::Cell;

/// Capacity in bytes above which a buffer is freed instead of kept for the next message: one read of an event loop.
const KEPT: usize = 256 * 1024;

/// A purpose for which each thread keeps one buffer.
#[derive(Clone, Copy)]
pub(crate) enum Scratch {
    /// Unmasked payload of the frame being read, or compressed payload of the frame being sent.
    Payload,
    /// Inflated payload of the message being read.
    Inflated,
    /// Bytes waiting to be written.
    Output,
}

thread_local! {
    static BUFFERS: [Cell<Vec<u8>>; 3] = const { [const { Cell::new(Vec::new()) }; 3] };
}

impl Scratch {
    /// Take the thread's buffer, empty. A second taker before it is put back gets a new one.
    #[inline]
    pub(crate) fn take(self) -> Vec<u8> {
        BUFFERS.try_with(|buffers| buffers[self as usize].take()).unwrap_or_default()
    }

    /// Put a buffer back for the next taker.
    #[inline]
    pub(crate) fn put(self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= KEPT {
            buffer.clear();
            // A thread that is ending has no buffers any more; then this one is freed.
            let _ = BUFFERS.try_with(|buffers| buffers[self as usize].set(buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_and_a_second_taker_gets_another() {
        let mut first = Scratch::Payload.take();
        first.extend_from_slice(b"secret");
        let capacity = first.capacity();
        assert_eq!(Scratch::Payload.take().capacity(), 0);
        Scratch::Payload.put(first);
        let again = Scratch::Payload.take();
        assert!(again.is_empty());
        assert_eq!(again.capacity(), capacity);
    }

    #[test]
    fn a_large_buffer_is_not_kept() {
        Scratch::Inflated.put(Vec::with_capacity(KEPT + 1));
        assert_eq!(Scratch::Inflated.take().capacity(), 0);
    }
}
