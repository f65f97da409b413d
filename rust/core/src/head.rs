//! The strict guard in front of the HTTP parser: a request's head (RFC 9112 §2, §3, §5) or the reason to refuse it.
//!
//! What one parser takes for the end of a message and another does not is how requests are smuggled, so nothing is
//! repaired here: a head follows the grammar or it is refused. Two stages give one verdict however the bytes were cut:
//! while a head arrives, [`HeadReader`] judges each byte by its position alone; when it is whole, its meaning is judged.

use std::borrow::Cow;
use std::fmt;

use crate::fields::{self, Fields};
use crate::request_line;

/// Bytes of the longest method that is known and of the version, with the spaces around the target.
const REQUEST_LINE_EXTRA: usize = 32;

/// The most that a head may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the request target.
    pub target: usize,
    /// Bytes of the header section, the empty line left out.
    pub header_size: usize,
    /// Number of header lines.
    pub headers: usize,
}

impl Limits {
    pub(crate) fn target_too_long(&self) -> HeadError {
        HeadError::new(414, format!("request target over {} bytes", self.target))
    }

    fn section_too_large(&self) -> HeadError {
        HeadError::new(431, format!("header section over {} bytes", self.header_size))
    }

    fn too_many_headers(&self) -> HeadError {
        HeadError::new(431, format!("over {} headers", self.headers))
    }
}

/// Why a head is refused: the status to answer with and a message for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadError {
    /// 400, 414, 417, 431, 501 or 505.
    pub status: u16,
    /// ASCII, without control characters.
    pub message: Cow<'static, str>,
}

impl HeadError {
    pub(crate) fn new(status: u16, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: message.into() }
    }

    pub(crate) const fn bad_request(message: &'static str) -> Self {
        Self { status: 400, message: Cow::Borrowed(message) }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for HeadError {}

/// What a head says about the connection and about its body; what it spells out stays in its bytes.
///
/// The bytes that a method asks for as `raw` are those that came with the head in [`Complete`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is one independent fact")]
pub struct Head {
    /// HTTP/1.1, as opposed to HTTP/1.0.
    pub http_1_1: bool,
    /// Bytes of the body; `10^18` where the number has more than 18 digits.
    pub content_length: u64,
    /// Whether the body is chunked instead.
    pub chunked: bool,
    /// Whether the client wants the connection to stay (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// Whether the client waits for a 100 (RFC 9110 §10.1.1).
    pub expect_continue: bool,
    /// Whether this asks for a WebSocket connection (RFC 6455 §4.1).
    pub websocket: bool,
    method: u8,
    target_end: usize,
}

impl Head {
    /// Return the index of the method in [`METHODS`](crate::METHODS).
    pub fn method(&self) -> usize {
        self.method.into()
    }

    /// Return the request target.
    pub fn target<'r>(&self, raw: &'r [u8]) -> &'r [u8] {
        raw.get(request_line::METHODS[self.method()].len() + 1..self.target_end).unwrap_or_default()
    }

    /// Iterate over names and values, without the white space around a value.
    pub fn fields<'r>(&self, raw: &'r [u8]) -> Fields<'r> {
        Fields::new(raw.get(self.section()..).unwrap_or_default())
    }

    /// Return where the header section begins.
    fn section(&self) -> usize {
        self.target_end + request_line::VERSION_END
    }
}

/// A whole head.
#[derive(Debug)]
pub struct Complete<'d> {
    /// What it says.
    pub head: Head,
    /// Its bytes with the empty line; borrowed where they came in one piece.
    pub raw: Cow<'d, [u8]>,
    /// The bytes behind it.
    pub rest: &'d [u8],
}

/// Collects one head.
///
/// No byte is searched twice, apart from those of the first piece and the three that may begin an end.
#[derive(Debug)]
pub struct HeadReader {
    limits: Limits,
    buffer: Vec<u8>,
    line_end: Option<usize>,
    line_feeds: usize,
    skipped_line: bool,
    started: bool,
}

impl HeadReader {
    /// Make a reader for one head.
    pub fn new(limits: Limits) -> Self {
        Self { limits, buffer: Vec::new(), line_end: None, line_feeds: 0, skipped_line: false, started: false }
    }

    /// Tell whether anything was received, be it nothing but an empty piece.
    pub fn started(&self) -> bool {
        self.started
    }

    /// Return what has arrived of a head that is not whole or was refused, for the log.
    pub fn received(&self) -> &[u8] {
        &self.buffer
    }

    /// Return the head, or `None` while it is not whole. The reader is not to be used after a head or an error.
    ///
    /// # Errors
    /// The first rule that is broken, as soon as the head cannot become a valid one by its octets or its size.
    pub fn receive_data<'d>(&mut self, data: &'d [u8]) -> Result<Option<Complete<'d>>, HeadError> {
        self.started = true;
        let scanned = self.buffer.len();
        if scanned == 0 {
            // The common case is a head that is whole, right, and the first that arrives: one pass tells. Any other
            // is judged below.
            let blank = if self.skipped_line { 0 } else { blank_line(data) };
            if let Ok(parsed) = parse(&data[blank..], &self.limits)
                && parsed.lines <= self.limits.headers
                && parsed.size - parsed.head.section() <= self.limits.header_size.saturating_add(2)
            {
                let (raw, rest) = data[blank..].split_at(parsed.size);
                return Ok(Some(Complete { head: parsed.head, raw: Cow::Borrowed(raw), rest }));
            }
        }
        self.buffer.extend_from_slice(data);
        self.receive_piece(scanned, data)
    }

    /// Judge what is in the buffer, of which the first `scanned` bytes have been before.
    fn receive_piece<'d>(&mut self, mut scanned: usize, data: &'d [u8]) -> Result<Option<Complete<'d>>, HeadError> {
        // RFC 9112 §2.2: an empty line before the request line SHOULD be ignored; one, as a client may end a body so.
        if !self.skipped_line && blank_line(&self.buffer) > 0 {
            self.skipped_line = true;
            self.buffer.drain(..2);
            scanned = 0;
        }
        let (stop, whole) = self.find_lines(scanned);
        let excess = self.first_excess(stop, whole);
        if whole && excess.is_none() {
            // The octets are judged before the meaning, as they would be if they came one by one.
            let parsed = parse(&self.buffer[..stop], &self.limits)
                .or_else(|error| check_octets(&self.buffer, scanned, stop).and(Err(error)))?;
            // The end is in the piece that came last.
            let rest = &data[data.len() - (self.buffer.len() - stop)..];
            self.buffer.truncate(stop);
            let raw = Cow::Owned(std::mem::take(&mut self.buffer));
            return Ok(Some(Complete { head: parsed.head, raw, rest }));
        }
        check_octets(&self.buffer, scanned, excess.as_ref().map_or(stop, |(position, _)| *position))?;
        excess.map_or(Ok(None), |(_, error)| Err(error))
    }

    /// Note the line feeds up to the head's end, and return where that is and whether it was found.
    fn find_lines(&mut self, scanned: usize) -> (usize, bool) {
        let buffer = &self.buffer;
        let mut at = scanned;
        while let Some(step) = buffer[at..].iter().position(|&octet| octet == b'\n') {
            at += step + 1;
            self.line_feeds += 1;
            if self.line_end.is_none() && buffer[..at].ends_with(b"\r\n") {
                self.line_end = Some(at - 2);
            }
            if buffer[..at].ends_with(b"\r\n\r\n") {
                return (at, true);
            }
        }
        (buffer.len(), false)
    }

    /// Return where a limit is first exceeded, as a number of bytes received, and the error.
    fn first_excess(&self, stop: usize, whole: bool) -> Option<(usize, HeadError)> {
        let limits = &self.limits;
        let line_limit = limits.target.saturating_add(REQUEST_LINE_EXTRA);
        let Some(line_end) = self.line_end else {
            return (stop > line_limit.saturating_add(1)).then(|| (line_limit + 2, limits.target_too_long()));
        };
        if line_end == 0 {
            return Some((2, HeadError::bad_request("empty request line")));
        }
        if line_end > line_limit {
            return Some((line_limit + 2, limits.target_too_long()));
        }

        // The section ends before the empty line, of which the last byte or all may be here. A whole head whose only
        // line is the request line ends where its section would begin, and two bytes behind.
        let section = line_end + 2;
        let permitted = limits.header_size.saturating_add(if whole { 2 } else { 1 });
        let size = (stop > section.saturating_add(permitted))
            .then(|| (section + limits.header_size + 2, limits.section_too_large()));
        // One line feed ends the request line and, in a whole head, one the empty line.
        let lines = self.line_feeds - if whole { 2 } else { 1 };
        if lines <= limits.headers {
            return size;
        }
        let line_feeds = self.buffer.iter().enumerate().filter(|&(_, &octet)| octet == b'\n');
        let count = line_feeds.map(|(at, _)| at + 1).nth(limits.headers + 1).map(|at| (at, limits.too_many_headers()));
        // Where both are exceeded with the same byte, it is the size.
        [size, count].into_iter().flatten().min_by_key(|(position, _)| *position)
    }
}

fn blank_line(data: &[u8]) -> usize {
    if data.starts_with(b"\r\n") { 2 } else { 0 }
}

/// Refuse controls, LF without CR, and CR without LF. A CR at the end is judged with the byte that follows.
fn check_octets(buffer: &[u8], start: usize, stop: usize) -> Result<(), HeadError> {
    for at in start.saturating_sub(1)..stop {
        match buffer[at] {
            b'\n' if !buffer[..at].ends_with(b"\r") => return Err(HeadError::bad_request("LF without CR in the head")),
            b'\r' if at + 1 < stop && buffer[at + 1] != b'\n' => {
                return Err(HeadError::bad_request("CR without LF in the head"));
            }
            b'\t' | b'\n' | b'\r' => {}
            octet @ (..0x20 | 0x7f) => {
                return Err(HeadError::new(400, format!("control character 0x{octet:02x} in the head")));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A head that follows the grammar, before its size is judged.
struct Parsed {
    head: Head,
    /// Header lines.
    lines: usize,
    /// Bytes, with the empty line.
    size: usize,
}

/// Parse the head at the beginning of `data`. One that is not whole is refused, for a reason that means nothing.
fn parse(data: &[u8], limits: &Limits) -> Result<Parsed, HeadError> {
    let line = request_line::parse(data, limits)?;
    let section = line.target_end + request_line::VERSION_END;
    let (said, lines, size) = fields::parse(data, section)?;
    let framing = said.judge(line.http_1_1, line.method == request_line::GET)?;
    let head = Head {
        http_1_1: line.http_1_1,
        content_length: framing.content_length,
        chunked: framing.chunked,
        keep_alive: framing.keep_alive,
        expect_continue: framing.expect_continue,
        websocket: framing.websocket,
        method: line.method,
        target_end: line.target_end,
    };
    Ok(Parsed { head, lines, size })
}
