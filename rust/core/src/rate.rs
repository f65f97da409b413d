//! How much a peer may send: token buckets, one each for messages, bytes and pings, and the fragments of a message.

use std::fmt;
use std::time::Duration;

/// So many a second, and so many at once after a while of fewer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// What a bucket gains in a second.
    pub per_second: f64,
    /// What a bucket holds at most, and at the beginning.
    pub burst: f64,
}

/// What a peer may send beyond the size of a message; `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InboundLimits {
    /// Messages.
    pub messages: Option<Rate>,
    /// Bytes: those on the wire, frame headers included, and where a message inflates to more, that much.
    pub bytes: Option<Rate>,
    /// Pings, and pongs that are more than the pings that we sent.
    pub pings: Option<Rate>,
    /// Frames of one message.
    pub fragments: Option<u32>,
}

/// What there can be too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counted {
    /// [`InboundLimits::messages`].
    Messages,
    /// [`InboundLimits::bytes`].
    Bytes,
    /// [`InboundLimits::pings`].
    Pings,
    /// [`InboundLimits::fragments`].
    Fragments,
}

/// A peer sent more than [`InboundLimits`] permit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Excess {
    /// What there was too much of.
    pub counted: Counted,
    /// How much is permitted: per second, or fragments of a message.
    pub permitted: f64,
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Messages => "messages",
            Self::Bytes => "bytes",
            Self::Pings => "pings",
            Self::Fragments => "fragments",
        })
    }
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { counted, permitted } = self;
        let unit = if *counted == Counted::Fragments { "of a message" } else { "a second" };
        write!(f, "more than {permitted} {counted} {unit}")
    }
}

/// Fills at its rate, up to its burst, and is emptied by what arrives.
#[derive(Debug)]
struct Bucket {
    rate: Rate,
    level: f64,
    /// When the level was right.
    at: Duration,
}

impl Bucket {
    fn full(rate: Rate, now: Duration) -> Self {
        Self { rate, level: rate.burst, at: now }
    }

    /// What it gained since. A clock that goes back gives nothing.
    fn gain(&mut self, now: Duration) -> f64 {
        let elapsed = now.saturating_sub(self.at);
        self.at = now;
        elapsed.as_secs_f64() * self.rate.per_second
    }

    fn take(&mut self, amount: f64, now: Duration) -> bool {
        let gain = self.gain(now);
        // More than the burst is there only where it was granted, and stays.
        self.level = self.level.max((self.level + gain).min(self.rate.burst));
        let enough = self.level >= amount;
        if enough {
            self.level -= amount;
        }
        enough
    }

    /// Gain what a time brings in which nothing was read, also beyond the burst: we held up what comes then.
    fn excuse(&mut self, now: Duration) {
        self.level += self.gain(now);
    }
}

/// The buckets of a connection.
#[derive(Debug)]
pub(crate) struct Meters {
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
    pings: Option<Bucket>,
}

impl Meters {
    pub(crate) fn new(limits: &InboundLimits, now: Duration) -> Self {
        let full = |rate: Option<Rate>| rate.map(|rate| Bucket::full(rate, now));
        Self { messages: full(limits.messages), bytes: full(limits.bytes), pings: full(limits.pings) }
    }

    /// Charge so much of something that arrived.
    ///
    /// # Errors
    /// [`Excess`] if there is too much of it.
    pub(crate) fn take(
        &mut self,
        counted: Counted,
        amount: usize,
        now: impl FnOnce() -> Duration,
    ) -> Result<(), Excess> {
        let bucket = match counted {
            Counted::Messages => &mut self.messages,
            Counted::Bytes => &mut self.bytes,
            Counted::Pings => &mut self.pings,
            Counted::Fragments => return Ok(()),
        };
        let Some(bucket) = bucket else { return Ok(()) };
        #[allow(clippy::cast_precision_loss, reason = "bytes of one read")]
        let amount = amount as f64;
        if bucket.take(amount, now()) { Ok(()) } else { Err(Excess { counted, permitted: bucket.rate.per_second }) }
    }

    /// Note that nothing is read from now on, or that nothing was until now.
    pub(crate) fn set_reading(&mut self, reading: bool, now: Duration) {
        for bucket in [&mut self.messages, &mut self.bytes, &mut self.pings].into_iter().flatten() {
            if reading {
                bucket.excuse(now);
            } else {
                bucket.take(0.0, now);
            }
        }
    }
}
