//! Prebuilt frames, one after the other.

use ferrows_core::{Config, Connection, DeflateConfig, Kind, Role};

use crate::error::Error;
use crate::frame;
use crate::payload::{Payloads, Random};

/// The frames of all messages in one piece, so that any run of them is one slice; after the last comes the first.
#[derive(Clone, Debug)]
pub struct Cycle {
    bytes: Vec<u8>,
    /// Where each frame ends.
    ends: Vec<usize>,
}

impl Cycle {
    /// Put frames, or whatever else is sent in turn, one after the other. There must be one at least.
    pub fn new(frames: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut cycle = Self { bytes: Vec::new(), ends: Vec::new() };
        for frame in frames {
            cycle.bytes.extend(frame);
            cycle.ends.push(cycle.bytes.len());
        }
        cycle
    }

    /// Build what a client sends: each message in one frame, with a masking key of its own.
    pub fn sent(payloads: &Payloads) -> Self {
        let mut random = Random::new(1);
        let first = frame::first_byte(payloads.kind());
        Self::collect(payloads, |payload, out| frame::append(first, payload, Some(random.mask()), out))
    }

    /// Build what a server answers: each message in one frame, as it is.
    pub fn answered(payloads: &Payloads) -> Self {
        let first = frame::first_byte(payloads.kind());
        Self::collect(payloads, |payload, out| frame::append(first, payload, None, out))
    }

    /// Build what a client sends compressed (RFC 7692).
    ///
    /// No message refers to one before it, which is permitted whatever was agreed on about context takeover: only so
    /// can it be sent again and again.
    ///
    /// # Errors
    /// [`Error::Usage`] if a message cannot be sent as its kind.
    pub fn compressed(payloads: &Payloads, deflate: &DeflateConfig) -> Result<Self, Error> {
        let deflate = DeflateConfig { compress_takeover: false, ..deflate.clone() };
        let mut connection = Connection::new(Config { role: Role::Client, max_size: None, deflate: Some(deflate) });
        let mut problem = None;
        let cycle = Self::collect(payloads, |payload, out| {
            let sent = match (payloads.kind(), str::from_utf8(payload)) {
                (Kind::Binary, _) => connection.send_binary(payload, true, Some(true)),
                (Kind::Text, Ok(text)) => connection.send_text(text, true, Some(true)),
                (Kind::Text, Err(error)) => {
                    problem = Some(Error::Usage(error.to_string()));
                    return;
                }
            };
            if let Err(error) = sent {
                problem = Some(Error::Usage(error.to_string()));
            }
            connection.take_output_before_close(out);
        });
        problem.map_or(Ok(cycle), Err)
    }

    fn collect(payloads: &Payloads, mut append: impl FnMut(&[u8], &mut Vec<u8>)) -> Self {
        let mut cycle = Self { bytes: Vec::new(), ends: Vec::new() };
        for payload in payloads.messages() {
            append(payload, &mut cycle.bytes);
            cycle.ends.push(cycle.bytes.len());
        }
        cycle
    }

    /// All frames, one after the other.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many frames there are.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// Where frame `index` begins.
    #[inline]
    pub fn start(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.ends[index - 1] }
    }

    /// Where frame `index` ends.
    #[inline]
    pub fn end(&self, index: usize) -> usize {
        self.ends[index]
    }

    /// Where the frame ends of which the byte at `offset` is part, or `offset` itself if a frame begins there.
    pub fn boundary(&self, offset: usize) -> usize {
        match self.ends.binary_search(&offset) {
            _ if offset == 0 => 0,
            Ok(_) => offset,
            Err(index) => self.ends.get(index).copied().unwrap_or(offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Header;

    #[test]
    fn frames_follow_each_other() {
        let payloads = Payloads::generate(Kind::Text, 126);
        for (cycle, header) in [(Cycle::sent(&payloads), 8), (Cycle::answered(&payloads), 4)] {
            assert_eq!(cycle.count(), payloads.messages().len());
            assert_eq!(cycle.bytes().len(), cycle.count() * (126 + header));
            for index in 0..cycle.count() {
                let frame = &cycle.bytes()[cycle.start(index)..cycle.end(index)];
                let header = Header::parse(frame).expect("a whole frame");
                let key = header.mask.unwrap_or_default();
                let payload: Vec<u8> =
                    frame[header.size..].iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
                assert_eq!(payload, payloads.messages()[index]);
            }
        }
    }

    #[test]
    fn boundaries_are_the_ends_of_frames() {
        let cycle = Cycle::answered(&Payloads::generate(Kind::Text, 8));
        for (offset, boundary) in [(0, 0), (1, 10), (9, 10), (10, 10), (11, 20)] {
            assert_eq!(cycle.boundary(offset), boundary, "offset {offset}");
        }
    }

    #[test]
    fn compressed_frames_have_rsv1() {
        let payloads = Payloads::generate(Kind::Text, 2048);
        let deflate = DeflateConfig {
            compress_window_bits: 15,
            decompress_window_bits: 15,
            compress_takeover: true,
            decompress_takeover: true,
            level: 6,
            mem_level: 8,
            threshold: 0,
        };
        let cycle = Cycle::compressed(&payloads, &deflate).expect("ASCII is sent as text");
        assert_eq!(cycle.count(), payloads.messages().len());
        for index in 0..cycle.count() {
            assert_eq!(cycle.bytes()[cycle.start(index)], 0xC1);
        }
        assert!(cycle.bytes().len() < Cycle::sent(&payloads).bytes().len());
    }
}
