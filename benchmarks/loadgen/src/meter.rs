//! What is counted between the warm-up and the end.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::clock::{Clock, nanoseconds};
use crate::error::Error;
use crate::histogram::Histogram;
use crate::process::{self, CpuTime, ProcessTree};

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Everything happens, nothing counts.
    WarmUp,
    /// Everything counts.
    Measuring,
    /// Nothing new is sent, what is in flight is awaited.
    Draining,
}

/// Counts messages, bytes, latencies and CPU time while it is measuring.
#[derive(Debug)]
pub struct Meter {
    clock: Clock,
    tree: Option<ProcessTree>,
    phase: Phase,
    length: u64,
    start: u64,
    end: u64,
    messages: u64,
    bytes_in: u64,
    bytes_out: u64,
    latencies: Histogram,
    server: Span<CpuTime>,
    own: Span<u64>,
}

/// CPU time at the beginning and at the end.
#[derive(Clone, Copy, Debug)]
struct Span<T> {
    before: Option<T>,
    after: Option<T>,
}

impl<T> Default for Span<T> {
    fn default() -> Self {
        Self { before: None, after: None }
    }
}

impl Span<CpuTime> {
    fn microseconds(&self) -> Option<f64> {
        self.after.as_ref()?.since(self.before.as_ref()?)
    }
}

impl Span<u64> {
    #[allow(clippy::cast_precision_loss)]
    fn microseconds(&self) -> Option<f64> {
        Some(self.after?.checked_sub(self.before?)? as f64 / 1e3)
    }
}

impl Meter {
    /// Begin the warm-up.
    pub fn new(clock: Clock, tree: Option<ProcessTree>, warm_up: Duration, length: Duration) -> Self {
        let (warm_up, length) = (nanoseconds(warm_up), nanoseconds(length));
        let start = clock.now() + warm_up;
        Self {
            clock,
            tree,
            phase: Phase::WarmUp,
            length,
            start,
            end: start + length,
            messages: 0,
            bytes_in: 0,
            bytes_out: 0,
            latencies: Histogram::new(),
            server: Span::default(),
            own: Span::default(),
        }
    }

    /// Let time pass, and tell where the run is now.
    ///
    /// # Errors
    /// [`Error::Peer`] if the server's process has ended.
    #[inline]
    pub fn phase(&mut self, now: u64) -> Result<Phase, Error> {
        if self.phase == Phase::WarmUp && now >= self.start {
            self.server.before = self.cpu()?;
            self.own.before = process::own_cpu_nanoseconds();
            // Looking at /proc took some time, which does not count.
            self.start = self.clock.now();
            self.end = self.start + self.length;
            self.phase = Phase::Measuring;
        } else if self.phase == Phase::Measuring && now >= self.end {
            self.end = self.clock.now();
            self.server.after = self.cpu()?;
            self.own.after = process::own_cpu_nanoseconds();
            self.phase = Phase::Draining;
        }
        Ok(self.phase)
    }

    /// The time at which the phase ends; while draining, the time at which measuring ended.
    pub fn deadline(&self) -> u64 {
        if self.phase == Phase::WarmUp { self.start } else { self.end }
    }

    /// Whether the latency of what was sent, or should have been, at that time counts: it was sent while measuring.
    #[inline]
    pub fn counts(&self, sent: u64) -> bool {
        self.phase != Phase::WarmUp && (self.start..self.end).contains(&sent)
    }

    /// Count messages that arrived.
    #[inline]
    pub fn count(&mut self, messages: usize) {
        if self.phase == Phase::Measuring {
            self.messages += messages as u64;
        }
    }

    /// Count the latency of messages that were sent, or should have been, at the same time and have arrived now. What
    /// was sent while measuring counts even if it arrives later: the slowest must not be left out.
    #[inline]
    pub fn latency(&mut self, sent: u64, now: u64, messages: u64) {
        if self.counts(sent) {
            self.latencies.record(now.saturating_sub(sent), messages);
        }
    }

    /// Count bytes that were read.
    #[inline]
    pub fn bytes_in(&mut self, bytes: u64) {
        if self.phase == Phase::Measuring {
            self.bytes_in += bytes;
        }
    }

    /// Count bytes that were written.
    #[inline]
    pub fn bytes_out(&mut self, bytes: u64) {
        if self.phase == Phase::Measuring {
            self.bytes_out += bytes;
        }
    }

    /// Put what was counted into a report, once the run is over.
    #[allow(clippy::cast_precision_loss)]
    pub fn report(&self, report: &mut Map<String, Value>) {
        let seconds = (self.end - self.start) as f64 / 1e9;
        let messages = self.messages as f64;
        let each = |microseconds: f64| (self.messages != 0).then(|| microseconds / messages);
        let (server, own) = (self.server.microseconds(), self.own.microseconds());
        report.insert("messages".into(), json!(self.messages));
        report.insert("seconds".into(), json!(seconds));
        report.insert("messages_per_second".into(), json!(messages / seconds));
        report.insert("latency_us".into(), latencies(&self.latencies));
        report.insert("cpu_us_per_message".into(), json!(server.and_then(each)));
        report.insert("cpu_utilization".into(), json!(server.map(|microseconds| microseconds / 1e6 / seconds)));
        report.insert("bytes_in".into(), json!(self.bytes_in));
        report.insert("bytes_out".into(), json!(self.bytes_out));
        let load_generator = json!({
            "cpu_us_per_message": own.and_then(each),
            "cpu_utilization": own.map(|microseconds| microseconds / 1e6 / seconds),
        });
        report.insert("load_generator".into(), load_generator);
    }

    fn cpu(&self) -> Result<Option<CpuTime>, Error> {
        self.tree.map(|tree| tree.cpu_time()).transpose()
    }
}

/// The quantiles of a histogram of nanoseconds, in microseconds.
#[allow(clippy::cast_precision_loss)]
pub fn latencies(histogram: &Histogram) -> Value {
    let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1e3;
    let quantile = |per_mille| histogram.quantile(per_mille).map(microseconds);
    json!({
        "p50": quantile(500),
        "p99": quantile(990),
        "p999": quantile(999),
        "max": (histogram.total() != 0).then(|| microseconds(histogram.max())),
        "count": histogram.total(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(meter: &Meter) -> Map<String, Value> {
        let mut report = Map::new();
        meter.report(&mut report);
        report
    }

    #[test]
    fn only_what_happens_while_measuring_counts() {
        let clock = Clock::new();
        let mut meter = Meter::new(clock, None, Duration::ZERO, Duration::from_secs(3600));
        meter.count(1000);
        meter.bytes_in(1000);
        meter.bytes_out(1000);
        meter.latency(0, 1_000_000, 1000);
        assert_eq!(meter.phase(clock.now()).expect("no process"), Phase::Measuring);
        let start = meter.start;
        meter.count(3);
        meter.bytes_in(40);
        meter.bytes_out(50);
        meter.latency(start - 1, start + 9_000, 1);
        meter.latency(start, start + 2_000, 2);
        assert_eq!(meter.phase(start + nanoseconds(Duration::from_secs(3601))).expect("no process"), Phase::Draining);
        meter.count(1000);
        meter.latency(meter.end, meter.end + 1_000_000, 1000);
        meter.latency(meter.end - 1, meter.end + 5_999, 1);
        let report = report(&meter);
        assert_eq!(
            (&report["messages"], &report["bytes_in"], &report["bytes_out"]),
            (&json!(3), &json!(40), &json!(50))
        );
        let latency = &report["latency_us"];
        assert_eq!((&latency["count"], &latency["max"]), (&json!(3), &json!(6.0)));
        let p50 = latency["p50"].as_f64().expect("a number");
        assert!((2.0..2.02).contains(&p50), "{p50}");
        assert_eq!(report["cpu_us_per_message"], Value::Null);
    }

    #[test]
    fn nothing_counted_has_no_latency() {
        let meter = Meter::new(Clock::new(), None, Duration::ZERO, Duration::from_secs(1));
        assert_eq!(report(&meter)["latency_us"]["p50"], Value::Null);
    }
}
