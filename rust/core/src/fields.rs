//! The header section (RFC 9112 §5), and what its fields say about the connection and about the body.

use crate::head::HeadError;
use crate::request_line::is_host;

/// The octets of a token (RFC 9110 §5.6.2).
pub(crate) const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut octet = 0_u8;
    while octet < 128 {
        table[octet as usize] = octet.is_ascii_alphanumeric();
        octet += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut index = 0;
    while index < marks.len() {
        table[marks[index] as usize] = true;
        index += 1;
    }
    table
};

/// Names and values of a header section that follows the grammar, in order.
#[derive(Clone, Debug)]
pub struct Fields<'r> {
    section: &'r [u8],
}

impl<'r> Fields<'r> {
    pub(crate) fn new(section: &'r [u8]) -> Self {
        Self { section }
    }
}

impl<'r> Iterator for Fields<'r> {
    type Item = (&'r [u8], &'r [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let colon = self.section.iter().position(|&octet| !TOKEN[usize::from(octet)])?;
        if self.section[colon] != b':' {
            return None;
        }
        let end = value_end(self.section, colon + 1);
        let field = (&self.section[..colon], trim(&self.section[colon + 1..end]));
        self.section = self.section.get(end + 2..)?;
        Some(field)
    }
}

/// Parse the section that begins at `start`, and return what the deciding fields say, the number of lines, and where
/// the section ends, with the empty line.
///
/// The first line that breaks the grammar is the error. So is the end of `data`, then for a reason that means nothing.
pub(crate) fn parse(data: &[u8], start: usize) -> Result<(Said<'_>, usize, usize), HeadError> {
    let mut said = Said::default();
    let mut lines = 0;
    let mut at = start;
    loop {
        let line = &data[at..];
        let size = line.iter().position(|&octet| !TOKEN[usize::from(octet)]).unwrap_or(line.len());
        if size == 0 && line.starts_with(b"\r\n") {
            return Ok((said, lines, at + 2));
        }
        if size == 0 || line.get(size) != Some(&b':') {
            return Err(explain(line));
        }
        let end = value_end(line, size + 1);
        if !line[end..].starts_with(b"\r\n") {
            return Err(HeadError::bad_request("malformed header section"));
        }
        said.take(&line[..size], &line[size + 1..end]);
        lines += 1;
        at += end + 2;
    }
}

/// Say what is wrong with a line whose name is none (RFC 9112 §5.1, §5.2).
fn explain(line: &[u8]) -> HeadError {
    let line = &line[..line.iter().position(|&octet| octet == b'\r').unwrap_or(line.len())];
    if let [b' ' | b'\t', ..] = line {
        return HeadError::bad_request("folded header line");
    }
    let Some(colon) = line.iter().position(|&octet| octet == b':') else {
        return HeadError::bad_request("header line without a colon");
    };
    if let [.., b' ' | b'\t'] = line[..colon] {
        return HeadError::bad_request("space before the colon of a header");
    }
    HeadError::bad_request("header name is no token")
}

/// Return where the value that begins at `at` ends: at the first octet that it cannot hold, or with the data.
fn value_end(data: &[u8], mut at: usize) -> usize {
    loop {
        at = first_control(data, at);
        if data.get(at) != Some(&b'\t') {
            return at;
        }
        at += 1;
    }
}

/// Return where the first octet below 0x20 or DEL is, at or behind `at`, or the end of the data.
fn first_control(data: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::MAX / 255;
    while let Some(chunk) = data[at..].first_chunk() {
        // Eight octets at once: a borrow out of an octet sets its top bit, and the lowest that is set is right.
        let word = u64::from_le_bytes(*chunk);
        let controls = word.wrapping_sub(ONES * 0x20) & !word;
        let deletes = word ^ (ONES * 0x7f);
        let deletes = deletes.wrapping_sub(ONES) & !deletes;
        let found = (controls | deletes) & (ONES * 0x80);
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    data[at..].iter().position(u8::is_ascii_control).map_or(data.len(), |step| at + step)
}

/// White space around a value is no part of it (RFC 9112 §5), nor is it of a list's element (RFC 9110 §5.6.1).
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The elements of a list-valued field without quoted strings; empty ones are ignored (RFC 9110 §5.6.1).
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&octet| octet == b',').map(trim).filter(|element| !element.is_empty())
}

/// What the deciding fields say, line by line.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is one independent fact")]
pub(crate) struct Said<'d> {
    host: Option<&'d [u8]>,
    several_hosts: bool,
    length: Option<&'d [u8]>,
    several_lengths: bool,
    transfer_encoding: bool,
    codings: usize,
    last_is_chunked: bool,
    chunked_before: bool,
    close: bool,
    keep_alive: bool,
    upgrade_option: bool,
    websocket: bool,
    expectations: bool,
    other_expectation: bool,
}

/// What the fields mean together.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is one independent fact")]
pub(crate) struct Meaning {
    pub(crate) content_length: u64,
    pub(crate) chunked: bool,
    pub(crate) keep_alive: bool,
    pub(crate) expect_continue: bool,
    pub(crate) websocket: bool,
}

impl<'d> Said<'d> {
    #[inline]
    fn take(&mut self, name: &[u8], value: &'d [u8]) {
        // Most fields decide nothing, and their length tells.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                self.several_hosts |= self.host.replace(trim(value)).is_some();
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                for expectation in elements(value) {
                    self.expectations = true;
                    self.other_expectation |= !expectation.eq_ignore_ascii_case(b"100-continue");
                }
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.websocket |= elements(value).any(|protocol| protocol.eq_ignore_ascii_case(b"websocket"));
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for option in elements(value) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    self.upgrade_option |= option.eq_ignore_ascii_case(b"upgrade");
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.several_lengths |= self.length.replace(trim(value)).is_some();
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.transfer_encoding = true;
                for coding in elements(value) {
                    self.chunked_before |= self.last_is_chunked;
                    self.last_is_chunked = coding.eq_ignore_ascii_case(b"chunked");
                    self.codings += 1;
                }
            }
            _ => {}
        }
    }

    /// Judge the fields together; the first rule that they break decides which error is returned.
    pub(crate) fn judge(&self, http_1_1: bool, get: bool) -> Result<Meaning, HeadError> {
        self.check_host(http_1_1)?;
        let content_length = self.content_length(http_1_1)?;
        // RFC 6455 §4.1: a GET request. RFC 9110 §7.8: Upgrade in an HTTP/1.0 request MUST be ignored, and it needs
        // its connection option.
        let websocket = http_1_1 && get && self.websocket && self.upgrade_option;
        if websocket && (self.transfer_encoding || content_length > 0) {
            // Frames follow such a head, so what comes next could be read as either. In other requests the upgrade is
            // declined and the body one like any other.
            return Err(HeadError::bad_request("a websocket upgrade with a body"));
        }
        // RFC 9110 §10.1.1: to be ignored in HTTP/1.0.
        if http_1_1 && self.other_expectation {
            return Err(HeadError::new(417, "the only expectation supported is 100-continue"));
        }
        Ok(Meaning {
            content_length,
            chunked: self.transfer_encoding,
            keep_alive: !self.close && (http_1_1 || self.keep_alive),
            expect_continue: http_1_1 && self.expectations,
            websocket,
        })
    }

    /// RFC 9112 §3.2: MUST answer 400 to a request without Host (1.1), with several, or with an invalid one.
    fn check_host(&self, http_1_1: bool) -> Result<(), HeadError> {
        let message = match self.host {
            _ if self.several_hosts => "several Host headers",
            None if http_1_1 => "no Host header",
            Some(host) if !is_host(host) => "invalid Host header",
            _ => return Ok(()),
        };
        Err(HeadError::bad_request(message))
    }

    /// Return the body's length, 0 where it is chunked (RFC 9112 §6.3).
    fn content_length(&self, http_1_1: bool) -> Result<u64, HeadError> {
        if self.transfer_encoding {
            let message = if !http_1_1 {
                "Transfer-Encoding in an HTTP/1.0 request"
            } else if self.length.is_some() {
                "Content-Length beside Transfer-Encoding"
            } else if !self.last_is_chunked {
                // The end of such a body cannot be told, so this MUST be 400.
                "the last transfer coding is not chunked"
            } else if self.chunked_before {
                "chunked twice in Transfer-Encoding"
            } else if self.codings > 1 {
                return Err(HeadError::new(501, "the only transfer coding supported is chunked"));
            } else {
                return Ok(0);
            };
            return Err(HeadError::bad_request(message));
        }
        let Some(length) = self.length else { return Ok(0) };
        // §6.3 lets a list of equal values pass; a client that sends one has been tampered with, so we do not.
        if self.several_lengths {
            return Err(HeadError::bad_request("several Content-Length headers"));
        }
        if length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
            return Err(HeadError::bad_request("invalid Content-Length"));
        }
        let digits = &length[length.iter().position(|&digit| digit != b'0').unwrap_or(length.len())..];
        if digits.len() > 18 {
            // More than the parser can count is beyond every limit too; it needs no exact number.
            return Ok(10_u64.pow(18));
        }
        Ok(digits.iter().fold(0, |value, &digit| value * 10 + u64::from(digit - b'0')))
    }
}
