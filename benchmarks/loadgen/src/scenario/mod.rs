//! What can be measured.

mod broadcast;
mod connect;
mod echo;
mod http;
mod idle;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::Value;

use crate::arguments::{Arguments, Scenario};
use crate::error::Error;
use crate::process::ProcessTree;

/// How long to wait for sockets before looking at the clock, in nanoseconds.
const TURN: u64 = 100_000_000;

/// Run a scenario and return its report.
///
/// # Errors
/// Whatever kept the run from a result; a wrong byte is [`Error::Peer`].
pub fn run(arguments: &Arguments) -> Result<Value, Error> {
    if let Some(core) = arguments.pin {
        pin(core)?;
    }
    permit_files(arguments.connections as u64 + 64)?;
    let tree = arguments.pid.map(ProcessTree::new).transpose()?;
    let report = match arguments.scenario {
        Scenario::Echo => echo::run(arguments, tree),
        Scenario::Broadcast => broadcast::run(arguments, tree),
        Scenario::Idle => idle::run(arguments, tree),
        Scenario::Connect => connect::run(arguments, tree),
        Scenario::Http => http::run(arguments, tree),
    }?;
    Ok(Value::Object(report))
}

fn pin(core: usize) -> Result<(), Error> {
    if core >= CpuSet::MAX_CPU {
        return Err(Error::Usage(format!("--pin is {core}, expected less than {}", CpuSet::MAX_CPU)));
    }
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).map_err(|error| Error::Io("cannot run on the core of --pin", error.into()))
}

/// Raise the limit of open files, if it is too low and may be raised.
fn permit_files(needed: u64) -> Result<(), Error> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let current = limit.maximum.map_or(needed, |maximum| maximum.max(needed));
    setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum.map(|_| current) })
        .map_err(|error| Error::Io("cannot raise the limit of open files", error.into()))
}

/// Fail if the server has answered nothing for too long; `last` is when it did.
fn check_progress(last: u64, now: u64, missing: usize) -> Result<(), Error> {
    let patience = crate::clock::nanoseconds(crate::link::PATIENCE);
    if now.saturating_sub(last) < patience {
        return Ok(());
    }
    Err(Error::Peer(format!("no answer for {} s, {missing} are missing", patience / 1_000_000_000)))
}
