//! Idle: connections that do nothing.

use std::thread;

use serde_json::{Map, Value, json};

use super::{TURN, check_progress};
use crate::arguments::Arguments;
use crate::check::Expected;
use crate::clock::Clock;
use crate::cycle::Cycle;
use crate::error::Error;
use crate::histogram::Histogram;
use crate::link::{self, Link, READ_SIZE};
use crate::meter::latencies;
use crate::poller::Poller;
use crate::process::{CpuTime, ProcessTree};
use crate::report::{self, Memory};

/// Connections that are opened, used and closed before, so that what a server does once is not counted.
const FIRST: usize = 20;
/// Connections that echo at the same time.
const BATCH: usize = 50;

/// Memory is looked at twice: while nothing was sent yet, and after one message on each connection.
#[allow(clippy::cast_precision_loss)]
pub(super) fn run(arguments: &Arguments, tree: Option<ProcessTree>) -> Result<Map<String, Value>, Error> {
    let count = arguments.connections;
    let (opened, extensions) = arguments.target.open_all(FIRST)?;
    let payloads = arguments.payloads()?;
    let cycle = match &extensions.deflate {
        Some(deflate) => Cycle::compressed(&payloads, deflate)?,
        None => Cycle::sent(&payloads),
    };
    let expected = Expected::new(payloads, extensions.deflate.clone());
    let mut idle = Idle { cycle, expected, clock: Clock::new(), latencies: Histogram::new() };
    let first = idle.echo(opened)?;
    link::close_all(first, &idle.expected)?;
    thread::sleep(arguments.warm_up);

    let cpu = || tree.map(|tree| tree.cpu_time()).transpose();
    let microseconds = |before: &Option<CpuTime>, after: &Option<CpuTime>| after.as_ref()?.since(before.as_ref()?);
    let memory = Memory::new(tree)?;
    let (cpu_before, start) = (cpu()?, idle.clock.now());
    let (opened, _) = arguments.target.open_all(count)?;
    let (cpu_opened, opening) = (cpu()?, idle.clock.now() - start);
    thread::sleep(arguments.length);
    let cpu_idle = cpu()?;
    let mut rss = memory.after(count)?;

    idle.latencies = Histogram::new();
    let start = idle.clock.now();
    let links = idle.echo(opened)?;
    let echoing = idle.clock.now() - start;
    let cpu_echoed = cpu()?;
    rss["after_echo"] = memory.after(count)?;

    let mut report = report::begin(arguments, &extensions.header);
    report.insert("messages".into(), json!(count));
    report.insert("seconds".into(), json!(arguments.length.as_secs_f64()));
    report.insert("messages_per_second".into(), json!(count as f64 / (echoing as f64 / 1e9)));
    report.insert("latency_us".into(), latencies(&idle.latencies));
    let each = |microseconds: f64| microseconds / count as f64;
    report.insert("cpu_us_per_message".into(), json!(microseconds(&cpu_idle, &cpu_echoed).map(each)));
    report.insert("cpu_us_per_connection".into(), json!(microseconds(&cpu_before, &cpu_opened).map(each)));
    let idling = microseconds(&cpu_opened, &cpu_idle).map(|spent| spent / arguments.length.as_secs_f64());
    report.insert("idle_cpu_us_per_second".into(), json!(idling));
    report.insert("connections_per_second".into(), json!(count as f64 / (opening as f64 / 1e9)));
    report.insert("rss_bytes".into(), rss);
    report.insert("bytes_in".into(), Value::Null);
    report.insert("bytes_out".into(), Value::Null);
    report.insert("unclean_closes".into(), json!(link::close_all(links, &idle.expected)?));
    Ok(report)
}

struct Idle {
    cycle: Cycle,
    expected: Expected,
    clock: Clock,
    latencies: Histogram,
}

impl Idle {
    /// Send one message on each connection, on some at a time, and check that it comes back: all of them are served.
    fn echo(&mut self, opened: Vec<link::Opened>) -> Result<Vec<Link>, Error> {
        let (mut buffer, mut events) = (vec![0; READ_SIZE], Vec::new());
        let mut poller = Poller::new()?;
        let mut links = Vec::with_capacity(opened.len());
        for (token, opened) in opened.into_iter().enumerate() {
            links.push(Link::new(opened, token, token, &self.cycle, &self.expected, &poller)?);
        }
        let (mut sent, mut answered, mut last) = (0, vec![None; links.len()], self.clock.now());
        let mut missing = 0;
        loop {
            while missing < BATCH && sent < links.len() {
                links[sent].queue(1, &self.cycle);
                answered[sent] = Some(self.clock.now());
                links[sent].flush(&self.cycle, &poller)?;
                sent += 1;
                missing += 1;
            }
            if missing == 0 {
                return Ok(links);
            }
            poller.wait(Some(TURN), &mut events)?;
            let now = self.clock.now();
            for event in &events {
                let link = &mut links[event.token];
                if event.readable {
                    let received = link.read_open(&mut buffer, &self.expected)?;
                    for _ in 0..received.messages {
                        let Some(sent) = answered[event.token].take() else {
                            return Err(Error::Peer("more messages came than were sent".into()).on(event.token));
                        };
                        self.latencies.record(now.saturating_sub(sent), 1);
                        missing -= 1;
                    }
                }
                link.flush(&self.cycle, &poller)?;
            }
            if !events.is_empty() {
                last = now;
            }
            check_progress(last, now, missing)?;
        }
    }
}
