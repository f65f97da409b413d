//! Echo: every message comes back to its connection.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use super::{TURN, check_progress};
use crate::arguments::Arguments;
use crate::check::Expected;
use crate::clock::Clock;
use crate::cycle::Cycle;
use crate::error::Error;
use crate::histogram::Histogram;
use crate::link::{self, Link, READ_SIZE};
use crate::meter::{Meter, Phase, latencies};
use crate::poller::{Event, Poller};
use crate::process::ProcessTree;
use crate::report::{self, Memory};
use crate::schedule::Schedule;

/// Nanoseconds before an intended time from which on the clock is watched: a sleep may last that much longer.
const WATCH: u64 = 60_000;
/// Connections begin with messages that lie so far apart in the cycle, so that a mixed-up connection is noticed.
const STRIDE: usize = 7;

pub(super) fn run(arguments: &Arguments, tree: Option<ProcessTree>) -> Result<Map<String, Value>, Error> {
    let memory = Memory::new(tree)?;
    let (opened, extensions) = arguments.target.open_all(arguments.connections)?;
    let payloads = arguments.payloads()?;
    let cycle = match &extensions.deflate {
        Some(deflate) => Cycle::compressed(&payloads, deflate)?,
        None => Cycle::sent(&payloads),
    };
    let mean_size = payloads.mean_size();
    let expected = Expected::new(payloads, extensions.deflate.clone());
    let poller = Poller::new()?;
    let links = opened
        .into_iter()
        .enumerate()
        .map(|(token, opened)| Link::new(opened, token, token * STRIDE, &cycle, &expected, &poller))
        .collect::<Result<Vec<_>, _>>()?;
    let clock = Clock::new();
    let pace = match arguments.rate {
        Some(rate) => {
            Pace::Open { schedule: Schedule::new(clock.now(), rate, links.len()), sent: 0, lag: Histogram::new() }
        }
        None => Pace::Closed { in_flight: arguments.in_flight },
    };
    let mut echo = Echo {
        flights: (0..links.len()).map(|_| Flight::default()).collect(),
        links,
        cycle,
        expected,
        poller,
        clock,
        meter: Meter::new(clock, tree, arguments.warm_up, arguments.length),
        pace,
        missing: 0,
    };
    echo.run()?;

    let mut report = report::begin(arguments, &extensions.header);
    echo.meter.report(&mut report);
    report.insert("message_bytes".into(), json!(mean_size));
    report.insert("rss_bytes".into(), memory.after(echo.links.len())?);
    report.insert("parsed_connections".into(), json!(echo.links.iter().filter(|link| link.is_general()).count()));
    if let Pace::Open { lag, .. } = &echo.pace {
        report.insert("schedule_lag_us".into(), latencies(lag));
    }
    report.insert("unclean_closes".into(), json!(link::close_all(echo.links, &echo.expected)?));
    Ok(report)
}

struct Echo {
    cycle: Cycle,
    expected: Expected,
    poller: Poller,
    links: Vec<Link>,
    flights: Vec<Flight>,
    clock: Clock,
    meter: Meter,
    pace: Pace,
    /// Messages that have not come back yet.
    missing: usize,
}

/// When messages are sent.
enum Pace {
    /// When another one has come back.
    Closed { in_flight: usize },
    /// When it is time.
    Open { schedule: Schedule, sent: u64, lag: Histogram },
}

/// The messages of one connection that are on their way.
#[derive(Default)]
struct Flight {
    /// Closed loop: when they were sent, and how many then.
    sent: VecDeque<(u64, usize)>,
    /// How many are on their way.
    missing: usize,
    /// How many came back before.
    received: u64,
}

impl Echo {
    fn run(&mut self) -> Result<(), Error> {
        let (mut buffer, mut events) = (vec![0; READ_SIZE], Vec::new());
        if let Pace::Closed { in_flight } = self.pace {
            for index in 0..self.links.len() {
                self.send(index, in_flight, self.clock.now());
                self.flush(index)?;
            }
        }
        let (mut phase, mut last) = (Phase::WarmUp, self.clock.now());
        loop {
            let now = self.clock.now();
            let before = std::mem::replace(&mut phase, self.meter.phase(now)?);
            let timeout = if phase == Phase::Draining {
                if before != phase {
                    // What was to be sent while measuring is sent, however late.
                    self.send_due(self.meter.deadline() - 1)?;
                }
                TURN
            } else {
                let next = self.send_due(now)?;
                next.min(self.meter.deadline()).saturating_sub(now).min(TURN)
            };
            if self.missing == 0 {
                if phase == Phase::Draining {
                    return Ok(());
                }
                last = now;
            }
            self.poller.wait(Some(timeout), &mut events)?;
            let before = self.missing;
            for event in &events {
                self.serve(*event, phase, &mut buffer)?;
            }
            if self.missing != before || !events.is_empty() {
                last = now;
            }
            check_progress(last, now, self.missing)?;
        }
    }

    /// Send what is due in an open loop. Returns when to be back.
    fn send_due(&mut self, now: u64) -> Result<u64, Error> {
        let Pace::Open { schedule, sent, lag } = &mut self.pace else { return Ok(u64::MAX) };
        let (schedule, first, due) = (*schedule, *sent, schedule.due(now));
        *sent = due.max(first);
        for index in first..due {
            let intended = schedule.intended(index);
            if self.meter.counts(intended) {
                lag.record(now.saturating_sub(intended), 1);
            }
            let lane = schedule.lane(index);
            self.links[lane].queue(1, &self.cycle);
            self.flights[lane].missing += 1;
            self.missing += 1;
        }
        // Each connection once, even if several of its messages are due.
        for index in first..due.min(first + self.links.len() as u64) {
            self.flush(schedule.lane(index))?;
        }
        Ok(schedule.intended(due.max(first)).saturating_sub(WATCH))
    }

    #[inline]
    fn serve(&mut self, event: Event, phase: Phase, buffer: &mut [u8]) -> Result<(), Error> {
        let index = event.token;
        if event.readable {
            let received = self.links[index].read_open(buffer, &self.expected)?;
            self.meter.bytes_in(received.bytes);
            if received.messages != 0 {
                let now = self.clock.now();
                self.answered(index, received.messages, now)?;
                if phase != Phase::Draining && matches!(self.pace, Pace::Closed { .. }) {
                    self.send(index, received.messages, now);
                }
            }
        }
        self.flush(index)
    }

    #[inline]
    fn send(&mut self, index: usize, count: usize, now: u64) {
        self.links[index].queue(count, &self.cycle);
        self.flights[index].sent.push_back((now, count));
        self.flights[index].missing += count;
        self.missing += count;
    }

    #[inline]
    fn flush(&mut self, index: usize) -> Result<(), Error> {
        let written = self.links[index].flush(&self.cycle, &self.poller)?;
        self.meter.bytes_out(written);
        Ok(())
    }

    /// Take note of messages that have come back.
    #[inline]
    fn answered(&mut self, index: usize, count: usize, now: u64) -> Result<(), Error> {
        let flight = &mut self.flights[index];
        let Some(missing) = flight.missing.checked_sub(count) else {
            return Err(Error::Peer("more messages came than were sent".into()).on(index));
        };
        flight.missing = missing;
        self.missing -= count;
        self.meter.count(count);
        match &self.pace {
            Pace::Closed { .. } => {
                let mut left = count;
                while left != 0
                    && let Some((sent, group)) = flight.sent.front_mut()
                {
                    let taken = left.min(*group);
                    self.meter.latency(*sent, now, taken as u64);
                    left -= taken;
                    *group -= taken;
                    if *group == 0 {
                        flight.sent.pop_front();
                    }
                }
            }
            Pace::Open { schedule, .. } => {
                for nth in flight.received..flight.received + count as u64 {
                    self.meter.latency(schedule.intended_on(index, nth), now, 1);
                }
            }
        }
        flight.received += count as u64;
        Ok(())
    }
}
