//! When messages are to be sent at a fixed rate.

const NANOSECONDS: u128 = 1_000_000_000;

/// The intended times of an open loop: evenly spaced, in turn over the lanes, whatever the server does.
///
/// A latency is counted from the intended time, so that a message that could not leave because the server was slow
/// counts with all that it waited (no coordinated omission).
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    start: u64,
    /// Messages in a thousand seconds.
    rate: u128,
    lanes: u64,
}

impl Schedule {
    /// Begin at `start` nanoseconds with `rate` messages per second over all lanes.
    pub fn new(start: u64, rate: f64, lanes: usize) -> Self {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let rate = (rate * 1000.0).round().max(1.0) as u128;
        Self { start, rate, lanes: lanes.max(1) as u64 }
    }

    /// The time at which message `index` is to be sent.
    pub fn intended(&self, index: u64) -> u64 {
        let after = u128::from(index) * NANOSECONDS * 1000 / self.rate;
        self.start.saturating_add(u64::try_from(after).unwrap_or(u64::MAX))
    }

    /// The time at which the message `nth` of a lane is to be sent.
    #[inline]
    pub fn intended_on(&self, lane: usize, nth: u64) -> u64 {
        self.intended(nth * self.lanes + lane as u64)
    }

    /// How many messages are to have been sent by now.
    pub fn due(&self, now: u64) -> u64 {
        let Some(elapsed) = now.checked_sub(self.start) else { return 0 };
        let due = ((u128::from(elapsed) + 1) * self.rate).div_ceil(NANOSECONDS * 1000);
        u64::try_from(due).unwrap_or(u64::MAX)
    }

    /// The lane of message `index`.
    #[allow(clippy::cast_possible_truncation)]
    pub fn lane(&self, index: u64) -> usize {
        (index % self.lanes) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_due_exactly_from_its_intended_time() {
        for rate in [0.5, 1.0, 3.0, 7.0, 999.5, 1e6, 33_333.3] {
            let schedule = Schedule::new(1_000, rate, 3);
            assert_eq!(schedule.due(999), 0);
            for index in [0, 1, 2, 10, 999, 123_456] {
                let time = schedule.intended(index);
                assert!(schedule.due(time) > index, "rate {rate}, message {index}");
                assert!(schedule.due(time - 1) <= index, "rate {rate}, message {index}");
            }
        }
    }

    #[test]
    fn lanes_take_turns() {
        let schedule = Schedule::new(500, 1000.0, 3);
        assert_eq!([0, 1, 2, 3, 4].map(|index| schedule.lane(index)), [0, 1, 2, 0, 1]);
        assert_eq!(schedule.intended_on(0, 0), 500);
        assert_eq!(schedule.intended_on(2, 0), schedule.intended(2));
        assert_eq!(schedule.intended_on(1, 5), schedule.intended(16));
        assert_eq!(schedule.intended(1) - schedule.intended(0), 1_000_000);
    }

    #[test]
    fn the_rate_does_not_drift() {
        let schedule = Schedule::new(0, 30_000.0, 50);
        assert_eq!(schedule.intended(30_000 * 3600), 3_600_000_000_000);
    }

    #[test]
    fn a_late_sender_is_told_of_all_that_is_due() {
        let schedule = Schedule::new(0, 1000.0, 1);
        assert_eq!(schedule.due(0), 1);
        assert_eq!(schedule.due(10_000_000), 11);
    }
}
