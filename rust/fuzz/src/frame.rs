//! Target `frame`: any bytes, against a reader that is written for plainness (RFC 6455 §5, §8.1).

use crate::input::{Cut, Input};
use crate::recorder::{Event, Recorder};
use crate::wire::{self, CLOSE, FIN, PING, PONG};
use ferrows_core::{Config, Connection, Kind, MAX_ENDS, Role, State};

/// Read what follows the first two bytes as frames: the same events as the model's, whole and byte by byte, and the answers
/// that they ask for.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.byte();
    let max_size = input.one(&[Some(1 << 20), None, Some(0), Some(5), Some(10), Some(125), Some(1000), Some(65_535)]);
    let (client, streaming, places) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
    let bytes = input.rest();

    let expected = Model::new(client, max_size, streaming).read(bytes);
    for mut cut in [Cut::Whole, Cut::Bytes, Cut::Pieces(bytes.len() as u64)] {
        let role = if client { Role::Client } else { Role::Server };
        let mut connection = Connection::new(Config { role, max_size, deflate: None });
        let mut recorder = Recorder::new(places);
        if streaming {
            connection.begin_streaming(&mut recorder);
        }
        cut.apply(bytes, |piece| connection.receive_data(piece, &mut recorder));
        assert_eq!(recorder.events, expected, "{cut:?}");
        check_answers(&mut connection, &expected, client);
    }
}

/// A pong for every ping before the end, then a Close if the peer sent one or broke a rule, and nothing else.
fn check_answers(connection: &mut Connection, events: &[Event], client: bool) {
    let mut out = Vec::new();
    connection.take_output(&mut out);
    let mut frames = wire::frames(&out, client).into_iter();
    for event in events {
        match event {
            Event::Ping(payload) => {
                let pong = frames.next().expect("a pong");
                assert_eq!((pong.first, &pong.payload), (FIN | PONG, payload));
            }
            Event::Close(code, _) => {
                let close = frames.next().expect("a Close");
                let body = if *code == 1005 { Vec::new() } else { code.to_be_bytes().to_vec() };
                assert_eq!((close.first, close.payload), (FIN | CLOSE, body));
                assert_eq!(connection.state(), State::Closed);
            }
            Event::Failure(code) => {
                let close = frames.next().expect("a Close");
                assert_eq!((close.first, &close.payload[..2]), (FIN | CLOSE, &code.to_be_bytes()[..]));
                assert!(std::str::from_utf8(&close.payload[2..]).is_ok());
                assert_eq!(connection.state(), State::Closed);
            }
            Event::Message(..) | Event::Fragment(..) | Event::Pong(_) => {}
        }
    }
    assert_eq!(frames.next(), None);
}

/// Reads a stream that is there as a whole, in the order of its bytes.
struct Model {
    masked: bool,
    max_size: u64,
    streaming: bool,
    events: Vec<Event>,
    message: Option<Message>,
}

struct Message {
    kind: Kind,
    payload: Vec<u8>,
    /// What the headers announced.
    announced: u64,
    ends: Vec<u32>,
    /// Where the last frame ended, in whole characters.
    framed: usize,
    streamed: bool,
}

/// The close code of a failure, or the end of what is there.
enum Stop {
    Failure(u16),
    End,
}

impl Model {
    fn new(client: bool, max_size: Option<u64>, streaming: bool) -> Self {
        Self { masked: !client, max_size: max_size.unwrap_or(u64::MAX), streaming, events: Vec::new(), message: None }
    }

    fn read(mut self, bytes: &[u8]) -> Vec<Event> {
        let mut rest = bytes;
        let stop = loop {
            match self.frame(rest) {
                Ok(after) => rest = after,
                Err(stop) => break stop,
            }
        };
        if let Stop::Failure(code) = stop {
            self.events.push(Event::Failure(code));
        }
        self.events
    }

    fn frame<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Stop> {
        let mut input = bytes.iter().copied();
        let first = input.next().ok_or(Stop::End)?;
        let (fin, reserved, opcode) = (first & FIN != 0, first & 0x70, first & 0x0F);
        let control = opcode >= 8;
        if reserved != 0 || !matches!(opcode, 0..=2 | 8..=10) || (control && !fin) {
            return Err(Stop::Failure(1002));
        }
        if !control && (opcode == 0) != self.message.is_some() {
            return Err(Stop::Failure(1002));
        }
        let second = input.next().ok_or(Stop::End)?;
        if (second & 0x80 != 0) != self.masked || (control && second & 0x7F > 125) {
            return Err(Stop::Failure(1002));
        }
        let (width, least) = match second & 0x7F {
            126 => (2, 126),
            127 => (8, 65_536),
            _ => (0, 0),
        };
        let mut length = u64::from(second & 0x7F);
        if width > 0 {
            length = 0;
            for _ in 0..width {
                length = length << 8 | u64::from(input.next().ok_or(Stop::End)?);
            }
            if length < least || length >> 63 != 0 {
                return Err(Stop::Failure(1002));
            }
        }
        if !control {
            let before = self.message.as_ref().map_or(0, |message| message.announced);
            if before.saturating_add(length) > self.max_size {
                return Err(Stop::Failure(1009));
            }
        }
        let mut key = [0; 4];
        if self.masked {
            for byte in &mut key {
                *byte = input.next().ok_or(Stop::End)?;
            }
        }
        let header = 2 + width + if self.masked { 4 } else { 0 };
        let there = usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len() - header);
        let payload: Vec<u8> = input.take(there).zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        let whole = there as u64 == length;
        if control {
            if !whole {
                return Err(Stop::End);
            }
            self.control(opcode, payload)?;
        } else {
            self.data(opcode, length, &payload, whole, fin)?;
        }
        if whole { Ok(&bytes[header + there..]) } else { Err(Stop::End) }
    }

    fn control(&mut self, opcode: u8, payload: Vec<u8>) -> Result<(), Stop> {
        match opcode {
            PING => self.events.push(Event::Ping(payload)),
            PONG => self.events.push(Event::Pong(payload)),
            _ => {
                let (code, reason) = match payload.as_slice() {
                    [] => (1005, &[][..]),
                    [_] => return Err(Stop::Failure(1002)),
                    [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
                };
                let registered = matches!(code, 1000..1004 | 1007..1015 | 3000..5000);
                if !registered && !payload.is_empty() {
                    return Err(Stop::Failure(1002));
                }
                let reason = String::from_utf8(reason.to_vec()).map_err(|_| Stop::Failure(1007))?;
                self.events.push(Event::Close(code, reason));
                return Err(Stop::End);
            }
        }
        Ok(())
    }

    fn data(&mut self, opcode: u8, length: u64, payload: &[u8], whole: bool, fin: bool) -> Result<(), Stop> {
        let mut message = self.message.take().unwrap_or_else(|| Message {
            kind: if opcode == wire::TEXT { Kind::Text } else { Kind::Binary },
            payload: Vec::new(),
            announced: 0,
            ends: Vec::new(),
            framed: 0,
            streamed: std::mem::take(&mut self.streaming),
        });
        message.announced = message.announced.saturating_add(length);
        message.payload.extend(payload);
        let mut characters = message.payload.len();
        if message.kind == Kind::Text
            && let Err(error) = std::str::from_utf8(&message.payload)
        {
            if error.error_len().is_some() || (whole && fin) {
                return Err(Stop::Failure(1007));
            }
            characters = error.valid_up_to();
        }
        if !whole {
            return Ok(());
        }
        if message.streamed {
            if characters > message.framed || fin {
                let fragment = message.payload[message.framed..characters].to_vec();
                self.events.push(Event::Fragment(message.kind, fragment, fin));
            }
        } else if fin {
            message.ends.retain(|end| *end as usize != characters);
            self.events.push(Event::Message(message.kind, message.payload, message.ends));
            return Ok(());
        } else if characters > message.framed && message.ends.len() < MAX_ENDS {
            message.ends.push(u32::try_from(characters).expect("small"));
        }
        message.framed = characters;
        if !fin {
            self.message = Some(message);
        }
        Ok(())
    }
}
