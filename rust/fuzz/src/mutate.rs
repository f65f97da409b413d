//! Mutations that a number draws: what is left of fuzzing where there is no libFuzzer.

/// Numbers that look random and are the same at every run.
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// Begin with this number.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Draw a number below `limit`, which is not zero.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % limit
    }

    /// Draw a byte.
    pub fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).expect("8 bits")
    }
}

/// Bytes at which grammars and limits turn.
const TELLING: [u8; 24] = *b"\x00\x01\x02\x7d\x7e\x7f\x80\x81\x82\x88\x89\x8a\xc0\xc1\xed\xf4\xfe\xff\r\n\t :,";
/// Bytes that an input may have.
const LONGEST: usize = 8192;

/// Make another input of one of the seeds, and sometimes of a second.
pub fn mutated(draw: &mut Draw, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[draw.below(seeds.len())].clone();
    for _ in 0..=draw.below(4) {
        let at = draw.below(bytes.len() + 1);
        let end = (at + draw.below(40)).min(bytes.len());
        match draw.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << draw.below(8),
            1 if at < bytes.len() => bytes[at] = TELLING[draw.below(TELLING.len())],
            2 => drop(bytes.drain(at..end)),
            3 => bytes.insert(at, draw.byte()),
            4 => {
                let copied = bytes[at..end].repeat(1 + draw.below(3));
                bytes.splice(at..at, copied);
            }
            5 => {
                let other = &seeds[draw.below(seeds.len())];
                bytes.extend_from_slice(&other[draw.below(other.len() + 1)..]);
            }
            _ => {
                let number = [0_u64, 1, 125, 126, 127, 1000, 65_535, 65_536][draw.below(8)];
                let width = [1, 2, 8][draw.below(3)];
                bytes.splice(at..end, number.to_be_bytes()[8 - width..].iter().copied());
            }
        }
    }
    bytes.truncate(LONGEST);
    bytes
}
