//! The opening handshake (RFC 6455 §4), on the client's side and as much of the server's as the floors need.

use std::collections::BTreeMap;

use ferrows_core::DeflateConfig;

use crate::error::Error;
use crate::payload::Random;

/// What a browser offers (RFC 7692 §7.1).
pub const DEFLATE_OFFER: &str = "permessage-deflate; client_max_window_bits";
/// What is appended to the key before hashing (RFC 6455 §1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes that an answer's head may have.
const MAX_HEAD: usize = 16 * 1024;

/// A request to open a connection, and the answer that it must have.
#[derive(Clone, Debug)]
pub struct Request {
    bytes: Vec<u8>,
    accept: String,
    offered: bool,
}

impl Request {
    /// Build a request with a fresh key; `offer` is the value of `Sec-WebSocket-Extensions`.
    pub fn new(host: &str, path: &str, offer: Option<&str>, random: &mut Random) -> Self {
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&random.next().to_le_bytes());
        nonce[8..].copy_from_slice(&random.next().to_le_bytes());
        let key = base64(&nonce);
        let extensions = offer.map(|offer| format!("Sec-WebSocket-Extensions: {offer}\r\n")).unwrap_or_default();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{extensions}\r\n"
        );
        Self { bytes: request.into_bytes(), accept: accept(&key), offered: offer.is_some() }
    }

    /// The request as it goes on the wire.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Check what has arrived of the answer (§4.1). Returns what was agreed on and the size of the answer's head, or
    /// `None` if it is not all there yet.
    ///
    /// # Errors
    /// [`Error::Peer`] if the answer is not the one that §4.1 asks for.
    pub fn check(&self, answer: &[u8]) -> Result<Option<(Extensions, usize)>, Error> {
        let Some(head) = Head::parse(answer)? else { return Ok(None) };
        if head.start.split(' ').nth(1) != Some("101") {
            return Err(Error::Peer(format!("the handshake was answered with {:?}, not with 101", head.start)));
        }
        if !head.has_token("upgrade", "websocket") || !head.has_token("connection", "upgrade") {
            return Err(Error::Peer("the handshake's answer lacks Upgrade: websocket or Connection: Upgrade".into()));
        }
        let found = head.value("sec-websocket-accept").unwrap_or_default();
        if found != self.accept {
            return Err(Error::Peer(format!("Sec-WebSocket-Accept is {found:?}, expected {:?}", self.accept)));
        }
        let extensions = head.value("sec-websocket-extensions").unwrap_or_default();
        if !self.offered && !extensions.is_empty() {
            return Err(Error::Peer(format!("the server chose {extensions:?}, which was not offered")));
        }
        Ok(Some((Extensions::parse(extensions)?, head.size)))
    }
}

/// What was agreed on beside the bare protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// The value of the answer's `Sec-WebSocket-Extensions`; empty if there is none.
    pub header: String,
    /// permessage-deflate, in the role of the client.
    pub deflate: Option<DeflateConfig>,
}

impl Extensions {
    fn parse(header: &str) -> Result<Self, Error> {
        let unknown = |what: &str| Error::Peer(format!("unknown {what:?} in Sec-WebSocket-Extensions: {header}"));
        if header.is_empty() {
            return Ok(Self::default());
        }
        let mut parts = header.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        if name != "permessage-deflate" {
            return Err(unknown(name));
        }
        let mut deflate = DeflateConfig {
            compress_window_bits: 15,
            decompress_window_bits: 15,
            compress_takeover: true,
            decompress_takeover: true,
            level: 6,
            mem_level: 8,
            threshold: 0,
        };
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let bits = || {
                let bits = value.trim().trim_matches('"').parse().ok();
                bits.filter(|bits| (8..=15).contains(bits)).ok_or_else(|| unknown(part))
            };
            match name.trim() {
                "server_no_context_takeover" => deflate.decompress_takeover = false,
                "client_no_context_takeover" => deflate.compress_takeover = false,
                "server_max_window_bits" => deflate.decompress_window_bits = bits()?,
                "client_max_window_bits" => deflate.compress_window_bits = bits()?,
                _ => return Err(unknown(part)),
            }
        }
        Ok(Self { header: header.to_owned(), deflate: Some(deflate) })
    }
}

/// The start line and the headers of a request or of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// The request line or the status line.
    pub start: &'a str,
    /// Bytes of the head, with the empty line.
    pub size: usize,
    /// Values by lowercase name; of a name that comes again, joined with commas.
    headers: BTreeMap<String, String>,
}

impl<'a> Head<'a> {
    /// Read a head from the beginning of `input`; `None` if it is not all there yet.
    ///
    /// # Errors
    /// [`Error::Peer`] if it is none.
    pub fn parse(input: &'a [u8]) -> Result<Option<Self>, Error> {
        let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") else {
            if input.len() > MAX_HEAD {
                return Err(Error::Peer(format!("a head of more than {MAX_HEAD} bytes")));
            }
            return Ok(None);
        };
        let head = str::from_utf8(&input[..end]).map_err(|_| Error::Peer("a head that is not UTF-8".into()))?;
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap_or_default();
        let mut headers = BTreeMap::<String, String>::new();
        for line in lines {
            let (name, value) = line.split_once(':').ok_or_else(|| Error::Peer(format!("{line:?} is not a header")))?;
            let value = value.trim();
            headers
                .entry(name.to_ascii_lowercase())
                .and_modify(|known| {
                    known.push_str(", ");
                    known.push_str(value);
                })
                .or_insert_with(|| value.to_owned());
        }
        Ok(Some(Self { start, size: end + 4, headers }))
    }

    /// The value of a header, by its lowercase name.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Whether a token is among the values of a header, whatever its case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.value(name).is_some_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    }

    /// The path of a request, without its query.
    pub fn path(&self) -> &'a str {
        let target = self.start.split(' ').nth(1).unwrap_or_default();
        target.split_once('?').map_or(target, |(path, _)| path)
    }

    /// The answer of a server that agrees to a WebSocket, without extensions; `None` if the request is for none.
    pub fn upgrade(&self) -> Option<Vec<u8>> {
        let key = self.value("sec-websocket-key").filter(|_| self.has_token("upgrade", "websocket"))?;
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            accept(key)
        );
        Some(answer.into_bytes())
    }
}

/// The value of `Sec-WebSocket-Accept` that answers a key (§4.2.2).
pub fn accept(key: &str) -> String {
    let mut sha1 = sha1_smol::Sha1::new();
    sha1.update(key.as_bytes());
    sha1.update(GUID.as_bytes());
    base64(&sha1.digest().bytes())
}

/// Encode bytes as RFC 4648 §4 says.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4_usize {
            let sextet = (group >> (18 - 6 * i)) & 63;
            text.push(if i <= chunk.len() { char::from(ALPHABET[sextet as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn accept_is_that_of_1_3() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn an_answer_of_ours_is_accepted_and_not_before_it_is_whole() {
        let request = Request::new("127.0.0.1:1", "/ws", None, &mut Random::new(1));
        let head = Head::parse(request.bytes()).expect("a head").expect("it is whole");
        assert_eq!(head.path(), "/ws");
        let mut answer = head.upgrade().expect("it asks for a websocket");
        let size = answer.len();
        for end in 0..size {
            assert_eq!(request.check(&answer[..end]).expect("nothing is wrong yet"), None);
        }
        answer.extend_from_slice(b"\x81\x00");
        assert_eq!(request.check(&answer).expect("it is right"), Some((Extensions::default(), size)));
    }

    #[test]
    fn wrong_answers_are_refused() {
        let request = Request::new("127.0.0.1:1", "/ws", None, &mut Random::new(1));
        let right = String::from_utf8(
            Head::parse(request.bytes()).expect("a head").expect("whole").upgrade().expect("an upgrade"),
        )
        .expect("ASCII");
        for (part, other) in [
            ("101 Switching Protocols", "200 OK"),
            ("websocket", "h2c"),
            ("Connection: Upgrade", "Connection: close"),
            ("Sec-WebSocket-Accept: ", "Sec-WebSocket-Accept: x"),
            ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
            ("Upgrade: websocket", "Upgrade"),
        ] {
            let answer = right.replacen(part, other, 1);
            assert_ne!(answer, right);
            assert!(matches!(request.check(answer.as_bytes()), Err(Error::Peer(_))), "{answer}");
        }
    }

    #[test]
    fn keys_differ() {
        let mut random = Random::new(1);
        let requests = [(); 2].map(|()| Request::new("h", "/", None, &mut random));
        assert_ne!(requests[0].bytes(), requests[1].bytes());
    }

    #[test]
    fn deflate_parameters_are_seen_from_the_client() {
        let header = "permessage-deflate; server_no_context_takeover; client_max_window_bits=12";
        let deflate = Extensions::parse(header).expect("it is known").deflate.expect("deflate was agreed on");
        assert_eq!((deflate.compress_window_bits, deflate.decompress_window_bits), (12, 15));
        assert_eq!((deflate.compress_takeover, deflate.decompress_takeover), (true, false));
        for wrong in
            ["x-webkit-deflate-frame", "permessage-deflate; a=1", "permessage-deflate; client_max_window_bits=7"]
        {
            assert!(Extensions::parse(wrong).is_err(), "{wrong}");
        }
    }
}
