//! Broadcast: every message of one publisher comes back to all receivers.

use std::collections::VecDeque;
use std::thread;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{TURN, check_progress};
use crate::arguments::Arguments;
use crate::check::Expected;
use crate::clock::Clock;
use crate::cycle::Cycle;
use crate::error::Error;
use crate::link::{self, Link, READ_SIZE};
use crate::meter::{Meter, Phase};
use crate::poller::{Event, Poller};
use crate::process::ProcessTree;
use crate::report::{self, Memory};

/// How long the server has to add the last connection to the receivers, after it agreed to it.
const SETTLE: Duration = Duration::from_millis(300);

/// The messages that are counted are deliveries. The publisher may receive its own messages or not; if it does, these
/// are deliveries too, but nothing waits for them.
pub(super) fn run(arguments: &Arguments, tree: Option<ProcessTree>) -> Result<Map<String, Value>, Error> {
    let memory = Memory::new(tree)?;
    let (opened, extensions) = arguments.target.open_all(arguments.connections + 1)?;
    let payloads = arguments.payloads()?;
    let cycle = match &extensions.deflate {
        Some(deflate) => Cycle::compressed(&payloads, deflate)?,
        None => Cycle::sent(&payloads),
    };
    let expected = Expected::new(payloads, extensions.deflate.clone());
    let poller = Poller::new()?;
    let links = opened
        .into_iter()
        .enumerate()
        .map(|(token, opened)| Link::new(opened, token, 0, &cycle, &expected, &poller))
        .collect::<Result<Vec<_>, _>>()?;
    thread::sleep(SETTLE);
    let clock = Clock::new();
    let mut broadcast = Broadcast {
        received: vec![0; links.len()],
        links,
        cycle,
        expected,
        poller,
        clock,
        meter: Meter::new(clock, tree, arguments.warm_up, arguments.length),
        outstanding: arguments.in_flight,
        published: VecDeque::new(),
        complete: 0,
        complete_in_window: 0,
    };
    broadcast.run()?;

    let mut report = report::begin(arguments, &extensions.header);
    broadcast.meter.report(&mut report);
    report.insert("published".into(), json!(broadcast.complete_in_window));
    report.insert("publisher_receives".into(), json!(broadcast.received.last().is_some_and(|count| *count != 0)));
    report.insert("rss_bytes".into(), memory.after(broadcast.links.len())?);
    report.insert("unclean_closes".into(), json!(link::close_all(broadcast.links, &broadcast.expected)?));
    Ok(report)
}

struct Broadcast {
    cycle: Cycle,
    expected: Expected,
    poller: Poller,
    /// The receivers, and at last the publisher.
    links: Vec<Link>,
    /// How many messages each of them has received.
    received: Vec<u64>,
    clock: Clock,
    meter: Meter,
    /// Messages that are on their way at the same time.
    outstanding: usize,
    published: VecDeque<Published>,
    /// Messages that all receivers have: these come before those in `published`.
    complete: u64,
    complete_in_window: u64,
}

/// A message that not all receivers have yet.
struct Published {
    sent: u64,
    /// Receivers that do not have it.
    missing: usize,
}

impl Broadcast {
    fn run(&mut self) -> Result<(), Error> {
        let (mut buffer, mut events) = (vec![0; READ_SIZE], Vec::new());
        self.publish(self.outstanding)?;
        let mut last = self.clock.now();
        loop {
            let now = self.clock.now();
            let phase = self.meter.phase(now)?;
            if phase == Phase::Draining && self.published.is_empty() && self.publisher_has_all() {
                return Ok(());
            }
            let timeout = self.meter.deadline().checked_sub(now).map_or(TURN, |left| left.min(TURN));
            self.poller.wait(Some(timeout), &mut events)?;
            for event in &events {
                self.serve(*event, &mut buffer)?;
            }
            let complete = self.published.iter().take_while(|message| message.missing == 0).count();
            self.published.drain(..complete);
            self.complete += complete as u64;
            if phase == Phase::Measuring {
                self.complete_in_window += complete as u64;
            }
            if complete != 0 && phase != Phase::Draining {
                self.publish(complete)?;
            }
            if !events.is_empty() {
                last = now;
            }
            check_progress(last, now, self.published.iter().map(|message| message.missing).sum())?;
        }
    }

    fn publish(&mut self, count: usize) -> Result<(), Error> {
        let (sent, receivers) = (self.clock.now(), self.links.len() - 1);
        self.published.extend((0..count).map(|_| Published { sent, missing: receivers }));
        self.links[receivers].queue(count, &self.cycle);
        self.flush(receivers)
    }

    /// Whether the publisher has received all that it sent, or receives nothing.
    fn publisher_has_all(&self) -> bool {
        self.received.last().is_none_or(|received| [0, self.complete].contains(received))
    }

    #[inline]
    fn serve(&mut self, event: Event, buffer: &mut [u8]) -> Result<(), Error> {
        let index = event.token;
        if event.readable {
            let received = self.links[index].read_open(buffer, &self.expected)?;
            self.meter.bytes_in(received.bytes);
            if received.messages != 0 {
                self.delivered(index, received.messages)?;
            }
        }
        self.flush(index)
    }

    /// Take note of messages that have arrived at one connection.
    #[inline]
    fn delivered(&mut self, index: usize, count: usize) -> Result<(), Error> {
        let now = self.clock.now();
        let first = self.received[index];
        self.received[index] += count as u64;
        if self.received[index] > self.complete + self.published.len() as u64 {
            return Err(Error::Peer("more messages came than were published".into()).on(index));
        }
        self.meter.count(count);
        let is_receiver = index != self.links.len() - 1;
        for message in first..first + count as u64 {
            // The publisher's own copy may come when all others have theirs.
            let place = message.checked_sub(self.complete).and_then(|place| usize::try_from(place).ok());
            if let Some(published) = place.and_then(|place| self.published.get_mut(place)) {
                self.meter.latency(published.sent, now, 1);
                published.missing -= usize::from(is_receiver);
            }
        }
        Ok(())
    }

    #[inline]
    fn flush(&mut self, index: usize) -> Result<(), Error> {
        let written = self.links[index].flush(&self.cycle, &self.poller)?;
        self.meter.bytes_out(written);
        Ok(())
    }
}
