//! The time of a run.

use std::time::{Duration, Instant};

/// Counts nanoseconds from its making.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Begin to count.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }

    /// Nanoseconds since the beginning.
    #[inline]
    pub fn now(&self) -> u64 {
        nanoseconds(self.origin.elapsed())
    }
}

/// The nanoseconds of a duration; 584 years at the most.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_does_not_go_back() {
        let clock = Clock::new();
        let first = clock.now();
        assert!(clock.now() >= first);
    }
}
