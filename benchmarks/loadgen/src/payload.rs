//! The messages that are sent.

use std::fs;
use std::path::PathBuf;

use ferrows_core::Kind;

use crate::error::Error;

/// Bytes that the messages together have at the most, so that they stay in the cache.
const BUDGET: usize = 256 * 1024;
/// Messages that there are at the most.
const MOST: usize = 1024;

/// Different messages of one kind; they are sent in turn, so that a lost or a swapped one is noticed.
#[derive(Clone, Debug)]
pub struct Payloads {
    kind: Kind,
    messages: Vec<Vec<u8>>,
}

impl Payloads {
    /// Make messages of `size` bytes that are the same in every run: at random, or of printable ASCII.
    pub fn generate(kind: Kind, size: usize) -> Self {
        let mut random = Random::new(size as u64);
        let count = (BUDGET / size.max(1)).clamp(2, MOST);
        let messages = (0..count)
            .map(|_| {
                let mut message = Vec::with_capacity(size + 8);
                while message.len() < size {
                    message.extend_from_slice(&random.next().to_le_bytes());
                }
                message.truncate(size);
                if kind == Kind::Text {
                    for byte in &mut message {
                        *byte = b'0' + (*byte & 63);
                    }
                }
                message
            })
            .collect();
        Self { kind, messages }
    }

    /// Take each file as one message.
    ///
    /// # Errors
    /// [`Error::Usage`] if a file cannot be read or is to be text and is none.
    pub fn read(kind: Kind, files: &[PathBuf]) -> Result<Self, Error> {
        let messages = files
            .iter()
            .map(|file| {
                let message =
                    fs::read(file).map_err(|error| Error::Usage(format!("cannot read {}: {error}", file.display())))?;
                if kind == Kind::Text && str::from_utf8(&message).is_err() {
                    return Err(Error::Usage(format!("{} is not UTF-8, use --kind binary", file.display())));
                }
                Ok(message)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { kind, messages })
    }

    /// The kind of the messages.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The messages, in the order in which they are sent.
    pub fn messages(&self) -> &[Vec<u8>] {
        &self.messages
    }

    /// Bytes of a message, on average.
    pub fn mean_size(&self) -> usize {
        self.messages.iter().map(Vec::len).sum::<usize>() / self.messages.len().max(1)
    }
}

/// A generator of numbers that look random (`SplitMix64`), the same in every run.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// Begin the sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A masking key.
    pub fn mask(&mut self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.next().to_le_bytes();
        [a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_differ_and_have_their_size() {
        for (kind, size) in [(Kind::Text, 8), (Kind::Text, 32), (Kind::Binary, 4096), (Kind::Binary, 1 << 20)] {
            let payloads = Payloads::generate(kind, size);
            assert!(payloads.messages().len() >= 2);
            assert!(payloads.messages().iter().all(|message| message.len() == size));
            assert_eq!(payloads.mean_size(), size);
            for (i, message) in payloads.messages().iter().enumerate() {
                assert!(!payloads.messages()[..i].contains(message), "{kind} {size}: message {i} comes twice");
            }
        }
    }

    #[test]
    fn text_is_ascii_and_the_same_in_every_run() {
        let first = Payloads::generate(Kind::Text, 33);
        assert!(first.messages().iter().all(|message| message.is_ascii()));
        assert_eq!(first.messages(), Payloads::generate(Kind::Text, 33).messages());
    }

    #[test]
    fn empty_messages_are_made() {
        assert!(Payloads::generate(Kind::Binary, 0).messages().iter().all(Vec::is_empty));
    }
}
