//! Opening connections: many at a time, so that a server that sleeps between its turns opens many in each.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::clock::nanoseconds;
use crate::error::Error;
use crate::handshake::{Extensions, Request};
use crate::link::{Opened, PATIENCE, Target};
use crate::payload::Random;
use crate::poller::{Interest, Poller};

/// Connections that are opened at the same time: less than the shortest backlog, 100, that a server has by default.
const PARALLEL: usize = 64;

impl Target {
    /// Open `count` connections, in this order, that all agree on the same extensions.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Peer`] if the server does not agree, or answers none for as long as [`PATIENCE`].
    pub fn open_all(&self, count: usize) -> Result<(Vec<Opened>, Extensions), Error> {
        self.open_within(count, PATIENCE)
    }

    fn open_within(&self, count: usize, patience: Duration) -> Result<(Vec<Opened>, Extensions), Error> {
        let (mut random, mut poller) = (Random::new(0), Poller::new()?);
        let mut started = Vec::<Option<Handshake>>::with_capacity(count);
        let mut opened = std::iter::repeat_with(|| None).take(count).collect::<Vec<Option<Opened>>>();
        let (mut done, mut first, mut events, mut last) = (0, None::<Extensions>, Vec::new(), Instant::now());
        while done < count {
            while started.len() < count && started.len() - done < PARALLEL {
                let handshake = Handshake::begin(self, &mut random).map_err(|error| error.on(started.len()))?;
                poller.add(&handshake.stream, started.len(), Interest::Read)?;
                started.push(Some(handshake));
            }
            poller.wait(Some(nanoseconds(patience.saturating_sub(last.elapsed()))), &mut events)?;
            if events.is_empty() && last.elapsed() >= patience {
                let slowest = started.iter().position(Option::is_some).unwrap_or_default();
                let what = format!("no handshake was answered for {patience:?}, {done} of {count} were before");
                return Err(Error::Peer(what).on(slowest));
            }
            for event in &events {
                let index = event.token;
                let Some(handshake) = started[index].take() else { continue };
                match handshake.advance().map_err(|error| error.on(index))? {
                    Progress::Going(handshake) => started[index] = Some(handshake),
                    Progress::Done(new) => {
                        poller.remove(&new.stream)?;
                        let agreed = first.get_or_insert_with(|| new.extensions.clone());
                        if *agreed != new.extensions {
                            let what = format!("{:?} was agreed on, {:?} before", new.extensions.header, agreed.header);
                            return Err(Error::Peer(what).on(index));
                        }
                        opened[index] = Some(new);
                        done += 1;
                    }
                }
                last = Instant::now();
            }
        }
        Ok((opened.into_iter().flatten().collect(), first.unwrap_or_default()))
    }
}

/// A connection whose handshake is not answered yet.
struct Handshake {
    stream: TcpStream,
    request: Request,
    answer: Vec<u8>,
}

enum Progress {
    Going(Handshake),
    Done(Opened),
}

impl Handshake {
    fn begin(target: &Target, random: &mut Random) -> Result<Self, Error> {
        let mut stream = target.connect()?;
        let request = target.request(random);
        stream.write_all(request.bytes()).map_err(Error::io("cannot send the handshake"))?;
        stream.set_nonblocking(true).map_err(Error::io("cannot make a socket non-blocking"))?;
        Ok(Self { stream, request, answer: Vec::new() })
    }

    /// Read what is there. The bytes after the handshake's answer are the first of the server's frames.
    fn advance(mut self) -> Result<Progress, Error> {
        let mut chunk = [0; 4096];
        let size = match self.stream.read(&mut chunk) {
            Ok(0) => return Err(Error::Peer("the server closed the connection during the handshake".into())),
            Ok(size) => size,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(Progress::Going(self));
            }
            Err(error) => return Err(Error::Io("cannot read the handshake's answer", error)),
        };
        self.answer.extend_from_slice(&chunk[..size]);
        match self.request.check(&self.answer)? {
            Some((extensions, size)) => {
                Ok(Progress::Done(Opened { stream: self.stream, extensions, rest: self.answer.split_off(size) }))
            }
            None => Ok(Progress::Going(self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::Head;
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    /// A server that accepts `count` connections before it does anything with them.
    fn serve(
        count: usize,
        answer: impl Fn(usize, TcpStream, Vec<u8>) -> Option<TcpStream> + Send + 'static,
    ) -> (Target, JoinHandle<Vec<Option<TcpStream>>>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let served = std::thread::spawn(move || {
            let streams: Vec<_> = (0..count).map(|_| listener.accept().expect("a connection").0).collect();
            let served = streams.into_iter().enumerate().map(|(index, mut stream)| {
                let (mut request, mut chunk) = (Vec::new(), [0; 4096]);
                while !request.ends_with(b"\r\n\r\n") {
                    let size = stream.read(&mut chunk).expect("a request");
                    request.extend_from_slice(&chunk[..size]);
                }
                answer(index, stream, request)
            });
            served.collect()
        });
        (Target { address, path: "/ws".into(), offer: None }, served)
    }

    fn agree(index: usize, mut stream: TcpStream, request: &[u8]) -> TcpStream {
        let head = Head::parse(request).expect("a head").expect("whole");
        let answer =
            [head.upgrade().expect("an upgrade"), vec![0x81, 1, b'a' + u8::try_from(index % 26).expect("a letter")]];
        stream.write_all(&answer.concat()).expect("it is open");
        stream
    }

    #[test]
    fn many_are_opened_at_a_time_and_returned_in_order() {
        let (target, server) = serve(PARALLEL, |index, stream, request| Some(agree(index, stream, &request)));
        let (opened, extensions) = target.open_all(PARALLEL).expect("the server agrees");
        assert_eq!(extensions, Extensions::default());
        for (index, (ours, theirs)) in opened.iter().zip(server.join().expect("no panic")).enumerate() {
            let theirs = theirs.expect("it was answered");
            assert_eq!(ours.stream.local_addr().expect("open"), theirs.peer_addr().expect("open"));
            assert_eq!(ours.rest.last(), Some(&(b'a' + u8::try_from(index % 26).expect("a letter"))));
        }
    }

    #[test]
    fn none_is_opened_where_none_is_wanted() {
        let target = Target { address: ([127, 0, 0, 1], 1).into(), path: "/".into(), offer: None };
        assert!(target.open_all(0).expect("nobody is asked").0.is_empty());
    }

    #[test]
    fn a_refusal_names_its_connection() {
        let (target, server) = serve(3, |index, stream, request| {
            if index == 1 {
                return None; // closed
            }
            Some(agree(index, stream, &request))
        });
        let error = target.open_all(3).expect_err("the second is closed").to_string();
        server.join().expect("no panic");
        assert!(error.starts_with("connection 1: the server closed"), "{error}");
    }

    #[test]
    fn silence_is_an_error_that_says_how_far_it_came() {
        let (target, server) =
            serve(3, |index, stream, request| Some(if index == 1 { stream } else { agree(index, stream, &request) }));
        let error = target.open_within(3, Duration::from_millis(300)).expect_err("one is silent").to_string();
        assert!(error.starts_with("connection 1: no handshake was answered for 300ms, 2 of 3"), "{error}");
        server.join().expect("no panic");
    }
}
