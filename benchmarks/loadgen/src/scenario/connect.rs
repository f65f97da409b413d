//! Connect: opening and closing connections.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use serde_json::{Map, Value, json};

use super::TURN;
use crate::arguments::Arguments;
use crate::check::{Checker, Expected};
use crate::clock::{Clock, nanoseconds};
use crate::error::Error;
use crate::frame;
use crate::handshake::Request;
use crate::link::{PATIENCE, Target};
use crate::meter::{Meter, Phase};
use crate::payload::{Payloads, Random};
use crate::poller::{Interest, Poller};
use crate::process::ProcessTree;
use crate::report::{self, Memory};

/// Nanoseconds that the server has for the closing handshake, before the connection counts as not cleanly closed.
const CLOSING: u64 = 1_000_000_000;

/// The messages that are counted are connections; their latency is the time from `connect` to the handshake's answer.
pub(super) fn run(arguments: &Arguments, tree: Option<ProcessTree>) -> Result<Map<String, Value>, Error> {
    let memory = Memory::new(tree)?;
    let clock = Clock::new();
    let mut connect = Connect {
        target: &arguments.target,
        random: Random::new(0),
        expected: Expected::new(Payloads::generate(arguments.kind, arguments.size), None),
        poller: Poller::new()?,
        slots: Vec::new(),
        clock,
        meter: Meter::new(clock, tree, arguments.warm_up, arguments.length),
        negotiated: String::new(),
        unclean: 0,
    };
    connect.run(arguments.connections)?;

    let mut report = report::begin(arguments, &connect.negotiated);
    connect.meter.report(&mut report);
    report.insert("cpu_us_per_connection".into(), report["cpu_us_per_message"].clone());
    report.insert("connections_per_second".into(), report["messages_per_second"].clone());
    report.insert("rss_bytes".into(), memory.after(1)?);
    report.insert("unclean_closes".into(), json!(connect.unclean));
    Ok(report)
}

struct Connect<'a> {
    target: &'a Target,
    random: Random,
    expected: Expected,
    poller: Poller,
    slots: Vec<Option<Slot>>,
    clock: Clock,
    meter: Meter,
    negotiated: String,
    unclean: u64,
}

/// One connection after the other.
struct Slot {
    stream: TcpStream,
    /// When the stage began.
    since: u64,
    stage: Stage,
}

enum Stage {
    /// The handshake's answer is awaited, of which so much is there.
    Opening(Request, Vec<u8>),
    /// The server's Close and the end of the stream are awaited.
    Closing(Checker),
}

/// What became of a connection.
enum Outcome {
    Going,
    Closed { cleanly: bool },
}

impl Connect<'_> {
    fn run(&mut self, count: usize) -> Result<(), Error> {
        for index in 0..count {
            let slot = self.open(index)?;
            self.slots.push(Some(slot));
        }
        let mut events = Vec::new();
        loop {
            let now = self.clock.now();
            let phase = self.meter.phase(now)?;
            if phase == Phase::Draining && self.slots.iter().all(Option::is_none) {
                return Ok(());
            }
            let timeout = self.meter.deadline().checked_sub(now).map_or(TURN, |left| left.min(TURN));
            self.poller.wait(Some(timeout), &mut events)?;
            for event in &events {
                self.serve(event.token, phase)?;
            }
            self.sweep(phase)?;
        }
    }

    fn open(&mut self, index: usize) -> Result<Slot, Error> {
        let since = self.clock.now();
        let mut stream = self.target.connect()?;
        stream.set_nonblocking(true).map_err(Error::io("cannot make a socket non-blocking"))?;
        let request = self.target.request(&mut self.random);
        stream.write_all(request.bytes()).map_err(Error::io("cannot send the handshake"))?;
        self.poller.add(&stream, index, Interest::Read)?;
        self.meter.bytes_out(request.bytes().len() as u64);
        Ok(Slot { stream, since, stage: Stage::Opening(request, Vec::new()) })
    }

    fn serve(&mut self, index: usize, phase: Phase) -> Result<(), Error> {
        let Some(slot) = &mut self.slots[index] else { return Ok(()) };
        let mut chunk = [0; 4096];
        let size = match slot.stream.read(&mut chunk) {
            Ok(size) => size,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(()),
            // A reset after our Close is not clean, but the connection is closed.
            Err(_) if matches!(slot.stage, Stage::Closing(_)) => 0,
            Err(error) => return Err(Error::Io("cannot read the handshake's answer", error)),
        };
        self.meter.bytes_in(size as u64);
        if let Outcome::Closed { cleanly } = self.receive(index, &chunk[..size]).map_err(|error| error.on(index))? {
            self.closed(index, cleanly, phase)?;
        }
        Ok(())
    }

    fn receive(&mut self, index: usize, data: &[u8]) -> Result<Outcome, Error> {
        let Some(slot) = &mut self.slots[index] else { return Ok(Outcome::Going) };
        match &mut slot.stage {
            Stage::Opening(request, answer) => {
                if data.is_empty() {
                    return Err(Error::Peer("the server closed the connection during the handshake".into()));
                }
                answer.extend_from_slice(data);
                let Some((extensions, size)) = request.check(answer)? else { return Ok(Outcome::Going) };
                let now = self.clock.now();
                self.meter.count(1);
                self.meter.latency(slot.since, now, 1);
                if self.negotiated != extensions.header {
                    self.negotiated = extensions.header;
                }
                let mut checker = Checker::new(&self.expected, 0);
                receive_frames(&mut checker, &answer[size..], &self.expected)?;
                if checker.is_closed() {
                    return Err(Error::Peer("the server closed early, with a Close".into()));
                }
                slot.stream.write_all(&frame::CLOSE).map_err(Error::io("cannot send a Close"))?;
                self.meter.bytes_out(frame::CLOSE.len() as u64);
                slot.since = now;
                slot.stage = Stage::Closing(checker);
                Ok(Outcome::Going)
            }
            Stage::Closing(checker) => {
                if data.is_empty() {
                    return Ok(Outcome::Closed { cleanly: checker.is_closed() });
                }
                receive_frames(checker, data, &self.expected)?;
                Ok(Outcome::Going)
            }
        }
    }

    /// Open the next connection in place of a closed one.
    fn closed(&mut self, index: usize, cleanly: bool, phase: Phase) -> Result<(), Error> {
        self.unclean += u64::from(!cleanly);
        self.slots[index] = None;
        if phase != Phase::Draining {
            self.slots[index] = Some(self.open(index)?);
        }
        Ok(())
    }

    /// Give connections up whose server does not end them, and fail if one does not open.
    fn sweep(&mut self, phase: Phase) -> Result<(), Error> {
        let now = self.clock.now();
        for index in 0..self.slots.len() {
            let Some(slot) = &self.slots[index] else { continue };
            let waited = now.saturating_sub(slot.since);
            match slot.stage {
                Stage::Closing(_) if waited > CLOSING => self.closed(index, false, phase)?,
                Stage::Opening(..) if waited > nanoseconds(PATIENCE) => {
                    return Err(Error::Peer("the handshake was not answered".into()).on(index));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Check that nothing but control frames comes.
fn receive_frames(checker: &mut Checker, data: &[u8], expected: &Expected) -> Result<(), Error> {
    match checker.receive(data, expected, &mut Vec::new())? {
        0 => Ok(()),
        _ => Err(Error::Peer("a message came though none was sent".into())),
    }
}
