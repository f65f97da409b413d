//! The command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ferrows_core::Kind;
use serde_json::{Value, json};

use crate::error::Error;
use crate::handshake::DEFLATE_OFFER;
use crate::link::Target;
use crate::payload::Payloads;

/// What `loadgen --help` prints.
pub const HELP: &str = "\
loadgen SCENARIO --address HOST:PORT [OPTION...]
Prints one JSON object. Exit code 1 if the server answered anything wrong, 2 if the command line is wrong.

Scenarios
  echo       N connections with D messages in flight on each; every message comes back to its connection
  broadcast  N receivers and one publisher; every message of the publisher comes back to all
  idle       N connections that are opened, do nothing for S seconds, and then echo one message each
  connect    open and close connections, N at a time
  http       GET on N keep-alive connections, one request in flight on each

Options
  --address HOST:PORT   the server
  --path PATH           the request's target (/ws; broadcast: /broadcast; http: /)
  --connections N       connections (50; idle: 10000; connect: 16)
  --receivers N         the same for broadcast (500)
  --in-flight D         echo: messages on the way on each connection (1)
  --outstanding K       broadcast: messages on the way (1)
  --size BYTES          bytes of a message (32)
  --kind text|binary    kind of the messages (text)
  --payload-file FILE   a message; given several times, they are sent in turn; instead of --size
  --rate R              echo: open loop, R messages a second over all connections; latencies count from the intended time
  --deflate             offer permessage-deflate as a browser does
  --offer OFFER         offer these extensions instead
  --seconds S           how long to measure (5; idle: 2)
  --warmup W            how long to run before (1)
  --pid PID             root of the server's processes, whose CPU time and memory are read
  --pin CORE            run on this core only
";

/// What is to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Messages come back to their connection.
    Echo,
    /// Messages of one connection come back to all.
    Broadcast,
    /// Connections that do nothing.
    Idle,
    /// Opening and closing.
    Connect,
    /// Requests without a WebSocket.
    Http,
}

impl Scenario {
    /// Its name on the command line and in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Broadcast => "broadcast",
            Self::Idle => "idle",
            Self::Connect => "connect",
            Self::Http => "http",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Echo, Self::Broadcast, Self::Idle, Self::Connect, Self::Http].into_iter().find(|it| it.name() == name)
    }
}

/// A checked command line.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// What is to be measured.
    pub scenario: Scenario,
    /// Where, and with which offer.
    pub target: Target,
    /// Connections, without the publisher.
    pub connections: usize,
    /// Messages in flight on each connection; in a broadcast of the publisher.
    pub in_flight: usize,
    /// Bytes of a message, if there is no file.
    pub size: usize,
    /// Kind of the messages.
    pub kind: Kind,
    /// Messages instead of generated ones.
    pub payload_files: Vec<PathBuf>,
    /// Messages per second, if the loop is open.
    pub rate: Option<f64>,
    /// How long to measure.
    pub length: Duration,
    /// How long to run before.
    pub warm_up: Duration,
    /// Root of the server's processes.
    pub pid: Option<u32>,
    /// The core to run on.
    pub pin: Option<usize>,
}

impl Arguments {
    /// Read the command line, without the program's name.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, Error> {
        let mut arguments = arguments.into_iter();
        let name = arguments.next().ok_or_else(|| usage("which scenario?"))?;
        let scenario = Scenario::parse(&name).ok_or_else(|| usage(&format!("there is no scenario {name:?}")))?;
        let mut address = None;
        let mut parsed = Self::defaults(scenario);
        while let Some(argument) = arguments.next() {
            let (option, mut value) = match argument.split_once('=') {
                Some((option, value)) => (option.to_owned(), Some(value.to_owned())),
                None => (argument, None),
            };
            if option == "--deflate" {
                parsed.target.offer.get_or_insert_with(|| DEFLATE_OFFER.to_owned());
                continue;
            }
            let mut value = || value.take().or_else(|| arguments.next()).ok_or_else(|| lacking(&option));
            match (option.as_str(), scenario) {
                ("--address", _) => address = Some(value()?),
                ("--path", _) => parsed.target.path = value()?,
                ("--connections", _) | ("--receivers", Scenario::Broadcast) => {
                    parsed.connections = number(&option, &value()?, 1)?;
                }
                ("--in-flight", Scenario::Echo) | ("--outstanding", Scenario::Broadcast) => {
                    parsed.in_flight = number(&option, &value()?, 1)?;
                }
                ("--size", _) => parsed.size = number(&option, &value()?, 0)?,
                ("--kind", _) => {
                    parsed.kind = match value()?.as_str() {
                        "text" => Kind::Text,
                        "binary" => Kind::Binary,
                        other => return Err(usage(&format!("--kind is {other:?}, expected text or binary"))),
                    };
                }
                ("--payload-file", _) => parsed.payload_files.push(value()?.into()),
                ("--rate", Scenario::Echo) => parsed.rate = Some(number(&option, &value()?, 0.001)?),
                ("--offer", _) => parsed.target.offer = Some(value()?),
                ("--seconds", _) => parsed.length = seconds(&option, &value()?, 0.001)?,
                ("--warmup", _) => parsed.warm_up = seconds(&option, &value()?, 0.0)?,
                ("--pid", _) => parsed.pid = Some(number(&option, &value()?, 1)?),
                ("--pin", _) => parsed.pin = Some(number(&option, &value()?, 0)?),
                _ => return Err(usage(&format!("there is no option {option} of {name}"))),
            }
        }
        let address = address.ok_or_else(|| lacking("--address"))?;
        parsed.target.address = resolve(&address)?;
        Ok(parsed)
    }

    fn defaults(scenario: Scenario) -> Self {
        let (path, connections, length) = match scenario {
            Scenario::Echo => ("/ws", 50, 5),
            Scenario::Broadcast => ("/broadcast", 500, 5),
            Scenario::Idle => ("/ws", 10_000, 2),
            Scenario::Connect => ("/ws", 16, 5),
            Scenario::Http => ("/", 50, 5),
        };
        Self {
            scenario,
            target: Target { address: SocketAddr::from(([127, 0, 0, 1], 0)), path: path.to_owned(), offer: None },
            connections,
            in_flight: 1,
            size: 32,
            kind: Kind::Text,
            payload_files: Vec::new(),
            rate: None,
            length: Duration::from_secs(length),
            warm_up: Duration::from_secs(1),
            pid: None,
            pin: None,
        }
    }

    /// The messages to send.
    ///
    /// # Errors
    /// [`Error::Usage`] if a file is unfit.
    pub fn payloads(&self) -> Result<Payloads, Error> {
        if self.payload_files.is_empty() {
            Ok(Payloads::generate(self.kind, self.size))
        } else {
            Payloads::read(self.kind, &self.payload_files)
        }
    }

    /// What a report repeats of the command line.
    pub fn to_json(&self) -> Value {
        // Not their folder, which is a temporary one.
        let names = self.payload_files.iter().filter_map(|file| file.file_name());
        let files: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        json!({
            "address": self.target.address.to_string(),
            "path": self.target.path,
            "offer": self.target.offer,
            "connections": self.connections,
            "in_flight": self.in_flight,
            "size": files.is_empty().then_some(self.size),
            "kind": self.kind.to_string(),
            "payload_files": files,
            "rate": self.rate,
            "seconds": self.length.as_secs_f64(),
            "warmup": self.warm_up.as_secs_f64(),
            "pid": self.pid,
            "pin": self.pin,
        })
    }
}

fn usage(what: &str) -> Error {
    Error::Usage(format!("{what} (see --help)"))
}

fn lacking(option: &str) -> Error {
    usage(&format!("{option} lacks its value"))
}

fn number<T: FromStr + PartialOrd + Copy>(option: &str, value: &str, least: T) -> Result<T, Error> {
    let number = value.parse().ok().filter(|number| *number >= least);
    number.ok_or_else(|| usage(&format!("{option} is {value:?}, which is no number or too small")))
}

fn seconds(option: &str, value: &str, least: f64) -> Result<Duration, Error> {
    Duration::try_from_secs_f64(number(option, value, least)?)
        .map_err(|error| usage(&format!("{option} is {value:?}: {error}")))
}

fn resolve(address: &str) -> Result<SocketAddr, Error> {
    let mut addresses =
        address.to_socket_addrs().map_err(|error| usage(&format!("--address is {address:?}: {error}")))?;
    addresses.next().ok_or_else(|| usage(&format!("--address is {address:?}, which has no address")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, Error> {
        Arguments::parse(line.split(' ').map(str::to_owned))
    }

    #[test]
    fn options_come_with_a_space_or_an_equals_sign() {
        for line in [
            "echo --address 127.0.0.1:80 --in-flight 32 --kind binary --rate 1.5 --seconds 0.5 --deflate",
            "echo \
             --address=127.0.0.1:80 --in-flight=32 --kind=binary --rate=1.5 --seconds=0.5 --deflate",
        ] {
            let arguments = parse(line).expect("the line is right");
            assert_eq!(arguments.target.address.port(), 80);
            assert_eq!((arguments.in_flight, arguments.kind, arguments.rate), (32, Kind::Binary, Some(1.5)));
            assert_eq!(arguments.length, Duration::from_millis(500));
            assert_eq!(arguments.target.offer.as_deref(), Some(DEFLATE_OFFER));
            assert_eq!((arguments.target.path.as_str(), arguments.connections), ("/ws", 50));
        }
    }

    #[test]
    fn a_broadcast_has_words_of_its_own() {
        let arguments = parse("broadcast --address 127.0.0.1:80 --receivers 7 --outstanding 4").expect("it is right");
        assert_eq!((arguments.connections, arguments.in_flight), (7, 4));
        assert_eq!(arguments.target.path, "/broadcast");
    }

    #[test]
    fn wrong_lines_are_refused() {
        for line in [
            "",
            "dance --address 127.0.0.1:80",
            "echo",
            "echo --address",
            "echo --address nowhere",
            "echo --address 127.0.0.1:80 --in-flight 0",
            "echo --address 127.0.0.1:80 --size -1",
            "echo --address 127.0.0.1:80 --kind json",
            "echo --address 127.0.0.1:80 --outstanding 1",
            "echo --address 127.0.0.1:80 --rate NaN",
            "echo --address 127.0.0.1:80 --rate 0",
            "http --address 127.0.0.1:80 --rate 5",
            "echo --address 127.0.0.1:80 --seconds 1e300",
        ] {
            assert!(matches!(parse(line), Err(Error::Usage(_))), "{line}");
        }
    }
}
