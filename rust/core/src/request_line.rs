//! The request line (RFC 9112 §3), and what names a host in it and in `Host`.

use std::net::Ipv6Addr;

use crate::fields::TOKEN;
use crate::head::{HeadError, Limits};

/// The methods that the parser behind the guard knows, the most frequent first.
///
/// Without CONNECT: a server that is no proxy has nothing to tunnel to.
pub const METHODS: [&str; 33] = [
    "GET",
    "POST",
    "HEAD",
    "PUT",
    "DELETE",
    "OPTIONS",
    "PATCH",
    "ACL",
    "BIND",
    "CHECKOUT",
    "COPY",
    "LINK",
    "LOCK",
    "M-SEARCH",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MOVE",
    "NOTIFY",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SUBSCRIBE",
    "TRACE",
    "UNBIND",
    "UNLINK",
    "UNLOCK",
    "UNSUBSCRIBE",
];

pub(crate) const GET: u8 = 0;

/// Bytes from the target's end to the line's: the version with a space before it and CRLF behind it.
pub(crate) const VERSION_END: usize = b" HTTP/1.1\r\n".len();

/// What a request line says; the target lies between the method and `target_end`.
pub(crate) struct RequestLine {
    /// Index in [`METHODS`].
    pub(crate) method: u8,
    pub(crate) target_end: usize,
    pub(crate) http_1_1: bool,
}

/// Parse the line at the beginning of `data`; the first rule that it breaks decides which error is returned.
pub(crate) fn parse(data: &[u8], limits: &Limits) -> Result<RequestLine, HeadError> {
    const MALFORMED: HeadError = HeadError::bad_request("malformed request line");
    let method_end = data.iter().position(|&octet| !TOKEN[usize::from(octet)]).ok_or(MALFORMED)?;
    if method_end == 0 || data[method_end] != b' ' {
        return Err(MALFORMED);
    }
    let target = &data[method_end + 1..];
    let size = target.iter().position(|&octet| !octet.is_ascii_graphic()).ok_or(MALFORMED)?;
    let (target, version) = target.split_at(size);
    let Some(&[b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor, b'\r', b'\n']) = version.first_chunk() else {
        return Err(MALFORMED);
    };
    if target.is_empty() || !major.is_ascii_digit() || !minor.is_ascii_digit() {
        return Err(MALFORMED);
    }
    if major != b'1' || minor > b'1' {
        let version = format!("HTTP/{}.{}", char::from(major), char::from(minor));
        return Err(HeadError::new(505, format!("{version} is not supported, permitted: 1.0, 1.1")));
    }
    if target.len() > limits.target {
        return Err(limits.target_too_long());
    }
    let name = &data[..method_end];
    let Some((method, known)) = (0..).zip(METHODS).find(|(_, known)| known.as_bytes() == name) else {
        let shown = String::from_utf8_lossy(&name[..name.len().min(32)]);
        return Err(HeadError::new(501, format!("method {shown} is not supported")));
    };
    check_target(known, target)?;
    Ok(RequestLine { method, target_end: method_end + 1 + size, http_1_1: minor == b'1' })
}

/// RFC 9112 §3.2: origin-form, absolute-form, or the asterisk of OPTIONS; a fragment is never sent.
fn check_target(method: &str, target: &[u8]) -> Result<(), HeadError> {
    if target.contains(&b'#') {
        return Err(HeadError::bad_request("fragment in the request target"));
    }
    if target[0] == b'/' || (target == b"*" && method == "OPTIONS") {
        return Ok(());
    }
    let authority = ["http://", "https://", "ws://", "wss://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
    });
    let host = authority.and_then(|authority| authority.split(|&octet| matches!(octet, b'/' | b'?')).next());
    if host.is_some_and(is_host) { Ok(()) } else { Err(HeadError::bad_request("malformed request target")) }
}

/// Tell whether a value follows `uri-host [ ":" port ]` (RFC 9110 §7.2, RFC 3986 §3.2.2, §3.2.3).
///
/// A registered name may be empty there, but not in an http URI (RFC 9110 §4.2.1).
pub(crate) fn is_host(value: &[u8]) -> bool {
    let end = match value {
        [b'[', literal @ ..] => {
            let Some(size) = literal.iter().position(|&octet| octet == b']') else { return false };
            if !is_ip_literal(&literal[..size]) {
                return false;
            }
            size + 2
        }
        name => name.iter().position(|&octet| octet == b':').unwrap_or(name.len()),
    };
    let (name, port) = value.split_at(end);
    (name.starts_with(b"[") || is_registered_name(name)) && is_port(port)
}

fn is_ip_literal(literal: &[u8]) -> bool {
    if let [b'v' | b'V', future @ ..] = literal {
        let Some(dot) = future.iter().position(|&octet| octet == b'.') else { return false };
        let (version, address) = (&future[..dot], &future[dot + 1..]);
        return !version.is_empty()
            && version.iter().all(u8::is_ascii_hexdigit)
            && !address.is_empty()
            && address.iter().all(|&octet| is_name_octet(octet) || octet == b':');
    }
    std::str::from_utf8(literal).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

fn is_registered_name(name: &[u8]) -> bool {
    let mut at = 0;
    while let Some(&octet) = name.get(at) {
        at += match (octet, name.get(at + 1..at + 3)) {
            (b'%', Some(digits)) if digits.iter().all(u8::is_ascii_hexdigit) => 3,
            _ if is_name_octet(octet) => 1,
            _ => return false,
        };
    }
    !name.is_empty()
}

/// unreserved and sub-delims (RFC 3986 §2.2, §2.3).
fn is_name_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&octet)
}

/// Nothing, or a colon with at most five digits of a number that fits into 16 bits.
fn is_port(port: &[u8]) -> bool {
    let Some((b':', digits)) = port.split_first() else { return port.is_empty() };
    let value = |digits: &[u8]| digits.iter().fold(0, |value, &digit| value * 10 + u32::from(digit - b'0'));
    digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) && value(digits) <= 65535
}
