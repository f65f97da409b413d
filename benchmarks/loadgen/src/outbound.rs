//! What is still to be written of a cycle of frames.

use std::io::{self, ErrorKind, Write};

use crate::cycle::Cycle;

/// A place in a [`Cycle`], and how much of it from there is queued. Nothing is copied.
#[derive(Clone, Copy, Debug)]
pub struct Outbound {
    /// The next frame to be queued.
    next: usize,
    /// The byte that is to be written next.
    offset: usize,
    /// Bytes from there that are queued.
    queued: usize,
}

impl Outbound {
    /// Begin with frame `first` of the cycle.
    pub fn new(first: usize, cycle: &Cycle) -> Self {
        let next = first % cycle.count();
        Self { next, offset: cycle.start(next), queued: 0 }
    }

    /// Queue the next `count` frames.
    #[inline]
    pub fn queue(&mut self, count: usize, cycle: &Cycle) {
        for _ in 0..count {
            self.queued += cycle.end(self.next) - cycle.start(self.next);
            self.next += 1;
            if self.next == cycle.count() {
                self.next = 0;
            }
        }
    }

    /// Bytes that are queued.
    #[inline]
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Whether the next byte is the first of a frame.
    pub fn is_at_boundary(&self, cycle: &Cycle) -> bool {
        cycle.boundary(self.offset) == self.offset
    }

    /// Write all that is queued, as much as there is room for. Returns the bytes written, and whether there is no room.
    ///
    /// # Errors
    /// Those of `write`, but for the want of room.
    #[inline]
    pub fn write(&mut self, stream: impl Write, cycle: &Cycle) -> io::Result<(usize, bool)> {
        self.write_until(stream, cycle, self.queued)
    }

    /// Write the rest of the frame that was begun.
    ///
    /// # Errors
    /// Those of `write`, but for the want of room.
    pub fn write_frame(&mut self, stream: impl Write, cycle: &Cycle) -> io::Result<(usize, bool)> {
        self.write_until(stream, cycle, cycle.boundary(self.offset) - self.offset)
    }

    #[inline]
    fn write_until(&mut self, mut stream: impl Write, cycle: &Cycle, size: usize) -> io::Result<(usize, bool)> {
        let mut left = size.min(self.queued);
        let mut written = 0;
        while left != 0 {
            let end = cycle.bytes().len().min(self.offset + left);
            match stream.write(&cycle.bytes()[self.offset..end]) {
                Ok(size) => {
                    // Not all of it was taken: there is no room for more, and no need to be told so.
                    let blocked = size != end - self.offset;
                    written += size;
                    left -= size;
                    self.queued -= size;
                    self.offset += size;
                    if self.offset == cycle.bytes().len() {
                        self.offset = 0;
                    }
                    if blocked {
                        return Ok((written, true));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok((written, true)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok((written, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Payloads;
    use ferrows_core::Kind;

    /// Takes `room` bytes at once and then says that there is no room.
    struct Narrow {
        taken: Vec<u8>,
        room: usize,
    }

    impl Write for Narrow {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            let size = data.len().min(self.room);
            self.room -= size;
            self.taken.extend_from_slice(&data[..size]);
            Ok(size)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn frames_come_in_turn_however_narrow_the_way() {
        let cycle = Cycle::answered(&Payloads::generate(Kind::Text, 50_000));
        let twice = cycle.bytes().repeat(3);
        for room in [1_000, 50_004, 70_001, 1 << 20] {
            let mut outbound = Outbound::new(1, &cycle);
            outbound.queue(2 * cycle.count(), &cycle);
            let mut narrow = Narrow { taken: Vec::new(), room: 0 };
            while outbound.queued() != 0 {
                narrow.room = room;
                let before = narrow.taken.len();
                let (written, blocked) = outbound.write(&mut narrow, &cycle).expect("there is room at times");
                assert_eq!(narrow.taken.len() - before, written);
                assert!(blocked || outbound.queued() == 0);
            }
            assert!(narrow.taken == twice[cycle.end(0)..][..2 * cycle.bytes().len()], "room for {room}");
        }
    }

    #[test]
    fn a_frame_that_was_begun_is_ended() {
        let cycle = Cycle::answered(&Payloads::generate(Kind::Text, 8));
        let mut outbound = Outbound::new(0, &cycle);
        outbound.queue(3, &cycle);
        let mut narrow = Narrow { taken: Vec::new(), room: 13 };
        assert_eq!(outbound.write(&mut narrow, &cycle).expect("there is room"), (13, true));
        assert!(!outbound.is_at_boundary(&cycle));
        narrow.room = 100;
        assert_eq!(outbound.write_frame(&mut narrow, &cycle).expect("there is room"), (7, false));
        assert!(outbound.is_at_boundary(&cycle));
        assert_eq!(outbound.queued(), 10);
    }
}
