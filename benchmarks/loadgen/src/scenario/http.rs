//! HTTP: GET on connections that are kept alive.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use serde_json::{Map, Value, json};

use super::{TURN, check_progress};
use crate::arguments::Arguments;
use crate::clock::Clock;
use crate::error::Error;
use crate::handshake::Head;
use crate::link::READ_SIZE;
use crate::meter::{Meter, Phase};
use crate::poller::{Interest, Poller};
use crate::process::ProcessTree;
use crate::report::{self, Memory};

pub(super) fn run(arguments: &Arguments, tree: Option<ProcessTree>) -> Result<Map<String, Value>, Error> {
    let memory = Memory::new(tree)?;
    let poller = Poller::new()?;
    let clients = (0..arguments.connections)
        .map(|token| {
            let stream = arguments.target.connect()?;
            stream.set_nonblocking(true).map_err(Error::io("cannot make a socket non-blocking"))?;
            poller.add(&stream, token, Interest::Read)?;
            Ok(Client { stream, partial: Vec::new(), sent: None })
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", arguments.target.path, arguments.target.address);
    let clock = Clock::new();
    let mut http = Http {
        request: request.into_bytes(),
        answer: Answer::default(),
        poller,
        clients,
        clock,
        meter: Meter::new(clock, tree, arguments.warm_up, arguments.length),
        missing: 0,
    };
    http.run()?;

    let mut report = report::begin(arguments, "");
    http.meter.report(&mut report);
    report.insert("body_bytes".into(), json!(http.answer.body.as_ref().map(Vec::len)));
    report.insert("rss_bytes".into(), memory.after(http.clients.len())?);
    Ok(report)
}

struct Http {
    request: Vec<u8>,
    answer: Answer,
    poller: Poller,
    clients: Vec<Client>,
    clock: Clock,
    meter: Meter,
    /// Answers that have not come yet.
    missing: usize,
}

struct Client {
    stream: TcpStream,
    /// What is there of an answer.
    partial: Vec<u8>,
    /// When the request was sent that is not answered.
    sent: Option<u64>,
}

impl Http {
    fn run(&mut self) -> Result<(), Error> {
        let (mut buffer, mut events) = (vec![0; READ_SIZE], Vec::new());
        for index in 0..self.clients.len() {
            self.send(index)?;
        }
        let mut last = self.clock.now();
        loop {
            let now = self.clock.now();
            let phase = self.meter.phase(now)?;
            if phase == Phase::Draining && self.missing == 0 {
                return Ok(());
            }
            let timeout = self.meter.deadline().checked_sub(now).map_or(TURN, |left| left.min(TURN));
            self.poller.wait(Some(timeout), &mut events)?;
            for event in &events {
                if self.receive(event.token, &mut buffer).map_err(|error| error.on(event.token))?
                    && phase != Phase::Draining
                {
                    self.send(event.token)?;
                }
            }
            if !events.is_empty() {
                last = now;
            }
            check_progress(last, now, self.missing)?;
        }
    }

    fn send(&mut self, index: usize) -> Result<(), Error> {
        let client = &mut self.clients[index];
        client.sent = Some(self.clock.now());
        // One request is in flight, so there is always room for it.
        client.stream.write_all(&self.request).map_err(Error::io("cannot send a request"))?;
        self.missing += 1;
        self.meter.bytes_out(self.request.len() as u64);
        Ok(())
    }

    /// Read from a connection, and tell whether its answer is all there.
    fn receive(&mut self, index: usize, buffer: &mut [u8]) -> Result<bool, Error> {
        let client = &mut self.clients[index];
        let size = match client.stream.read(buffer) {
            Ok(0) => return Err(Error::Peer("the server closed a connection that was to be kept alive".into())),
            Ok(size) => size,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(false),
            Err(error) => return Err(Error::Io("cannot read an answer", error)),
        };
        self.meter.bytes_in(size as u64);
        let whole = if client.partial.is_empty() && self.answer.is_same(&buffer[..size]) {
            true
        } else {
            client.partial.extend_from_slice(&buffer[..size]);
            let whole = self.answer.check(&client.partial)?;
            if whole {
                client.partial.clear();
            }
            whole
        };
        if !whole {
            return Ok(false);
        }
        let Some(sent) = client.sent.take() else {
            return Err(Error::Peer("an answer came that was not asked for".into()));
        };
        self.missing -= 1;
        self.meter.count(1);
        self.meter.latency(sent, self.clock.now(), 1);
        Ok(true)
    }
}

/// What the server answers. Headers may change, such as the date; the body may not.
#[derive(Default)]
struct Answer {
    last: Vec<u8>,
    body: Option<Vec<u8>>,
}

impl Answer {
    /// Whether an answer is, byte for byte, the last one that was checked.
    #[inline]
    fn is_same(&self, answer: &[u8]) -> bool {
        !answer.is_empty() && self.last == answer
    }

    /// Check an answer, and tell whether it is all there.
    fn check(&mut self, answer: &[u8]) -> Result<bool, Error> {
        let Some(head) = Head::parse(answer)? else { return Ok(false) };
        if head.start.split(' ').nth(1) != Some("200") {
            return Err(Error::Peer(format!("the answer is {:?}, expected status 200", head.start)));
        }
        if head.has_token("connection", "close") {
            return Err(Error::Peer("the server does not keep the connection alive".into()));
        }
        let length: usize = head
            .value("content-length")
            .and_then(|value| value.parse().ok())
            .ok_or_else(|| Error::Peer("an answer without a Content-Length".into()))?;
        let body = &answer[head.size..];
        if body.len() < length {
            return Ok(false);
        }
        if body.len() > length {
            return Err(Error::Peer(format!("a body of {length} bytes has {} more", body.len() - length)));
        }
        if self.body.get_or_insert_with(|| body.to_vec()) != body {
            return Err(Error::Peer("the body is not the same as before".into()));
        }
        self.last.clear();
        self.last.extend_from_slice(answer);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: &[u8] = b"HTTP/1.1 200 OK\r\nDate: 1\r\nContent-Length: 2\r\n\r\nhi";

    #[test]
    fn an_answer_is_checked_when_it_is_whole() {
        let mut answer = Answer::default();
        for end in 0..RIGHT.len() {
            assert!(!answer.check(&RIGHT[..end]).expect("nothing is wrong"), "{end} bytes");
        }
        assert!(answer.check(RIGHT).expect("nothing is wrong"));
        assert!(answer.is_same(RIGHT));
        assert!(!answer.is_same(&RIGHT[..RIGHT.len() - 1]));
        assert!(!answer.is_same(b""));
    }

    #[test]
    fn headers_may_change_and_the_body_may_not() {
        let text = str::from_utf8(RIGHT).expect("ASCII");
        let mut answer = Answer::default();
        answer.check(RIGHT).expect("nothing is wrong");
        assert!(answer.check(text.replace("Date: 1", "Date: 2").as_bytes()).expect("nothing is wrong"));
        for (part, other) in [
            ("hi", "ho"),
            ("hi", "hi!"),
            ("200 OK", "404 Not Found"),
            ("Date: 1", "Connection: close"),
            ("Content-Length: 2", "Transfer-Encoding: chunked"),
        ] {
            assert!(answer.check(text.replace(part, other).as_bytes()).is_err(), "{other}");
        }
    }
}
