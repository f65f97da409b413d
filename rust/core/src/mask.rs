//! Masking (RFC 6455 §5.3).

use std::mem::MaybeUninit;

/// Bytes that one step of the kernel works on: two registers of SSE2 or NEON, one of AVX2.
const STEP: usize = 32;
/// Bytes that are copied and then unmasked while they are still in the first-level cache.
const BLOCK: usize = 8 * 1024;

/// Mask or unmask the payload of a frame, or a piece of it that begins at a multiple of four bytes, in place.
///
/// Masking twice with the same key gives the input back.
pub fn apply_mask(data: &mut [u8], mask: [u8; 4]) {
    // In plain words:
    //     for i in 0..data.len() { data[i] ^= mask[i % 4] }
    // A step of fixed length against a key repeated to that length is what the compiler turns into vector code;
    // `cargo bench -p ferrows-core` compares it with the plain loop.
    let pattern: [u8; STEP] = std::array::from_fn(|i| mask[i % 4]);
    let (steps, rest) = data.as_chunks_mut::<STEP>();
    for step in steps {
        for (byte, key) in step.iter_mut().zip(pattern) {
            *byte ^= key;
        }
    }
    let word = u64::from_ne_bytes(std::array::from_fn(|i| mask[i % 4]));
    let (words, rest) = rest.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(pattern) {
        *byte ^= key;
    }
}

/// A payload as it arrived: masked, where a client sent it.
#[derive(Clone, Copy, Debug)]
pub struct Masked<'a> {
    bytes: &'a [u8],
    /// All zero if there is no mask.
    key: [u8; 4],
}

impl<'a> Masked<'a> {
    /// `bytes` begin at byte `offset` of the frame's payload.
    #[inline]
    pub(crate) fn new(bytes: &'a [u8], mask: Option<[u8; 4]>, offset: usize) -> Self {
        Self { bytes, key: key_at(mask.unwrap_or_default(), offset) }
    }

    /// A payload that is not masked, or not any more.
    #[inline]
    pub fn plain(bytes: &'a [u8]) -> Self {
        Self { bytes, key: [0; 4] }
    }

    /// Its size in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Tell whether it has no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Unmask it into memory of exactly its size, all of which is initialized then. Tells whether it is ASCII.
    ///
    /// # Panics
    /// If the sizes differ.
    #[inline]
    pub fn unmask_into(&self, out: &mut [MaybeUninit<u8>]) -> bool {
        assert_eq!(out.len(), self.bytes.len(), "memory for an unmasked payload");
        // The way through memory is what large payloads cost, so one pass unmasks, copies and looks for ASCII. It has
        // the shape of `apply_mask`, with the bytes of all steps gathered in `seen`.
        let pattern: [u8; STEP] = std::array::from_fn(|i| self.key[i % 4]);
        let mut seen = [0; STEP];
        let (steps, rest) = self.bytes.as_chunks::<STEP>();
        let (out_steps, out_rest) = out.as_chunks_mut::<STEP>();
        for (out, step) in out_steps.iter_mut().zip(steps) {
            for i in 0..STEP {
                let byte = step[i] ^ pattern[i];
                seen[i] |= byte;
                out[i].write(byte);
            }
        }
        let word = u64::from_ne_bytes(std::array::from_fn(|i| self.key[i % 4]));
        let (words, rest) = rest.as_chunks::<8>();
        let (out_words, out_rest) = out_rest.as_chunks_mut::<8>();
        let mut high = 0;
        for (out, bytes) in out_words.iter_mut().zip(words) {
            let bytes = u64::from_ne_bytes(*bytes) ^ word;
            high |= bytes;
            *out = bytes.to_ne_bytes().map(MaybeUninit::new);
        }
        let mut all = seen.iter().fold(0, |all, byte| all | byte);
        for ((out, byte), key) in out_rest.iter_mut().zip(rest).zip(pattern) {
            let byte = byte ^ key;
            all |= byte;
            out.write(byte);
        }
        all < 0x80 && high & 0x8080_8080_8080_8080 == 0
    }

    /// Append it to `out`, unmasked.
    #[inline]
    pub(crate) fn append_to(&self, out: &mut Vec<u8>) {
        append_unmasked(out, self.bytes, Some(self.key), 0);
    }
}

/// Append `data` to `out`, unmasked if there is a mask: its first byte is byte `offset` of the frame's payload.
#[inline]
pub(crate) fn append_unmasked(out: &mut Vec<u8>, data: &[u8], mask: Option<[u8; 4]>, offset: usize) {
    let Some(mask) = mask else {
        out.extend_from_slice(data);
        return;
    };
    let key = key_at(mask, offset);
    // BLOCK is a multiple of four, so every block begins at the same byte of the key.
    for block in data.chunks(BLOCK) {
        let start = out.len();
        out.extend_from_slice(block);
        apply_mask(&mut out[start..], key);
    }
}

/// Rotate the key so that it begins at byte `offset` of the payload.
#[inline]
fn key_at(mask: [u8; 4], offset: usize) -> [u8; 4] {
    std::array::from_fn(|i| mask[(i + offset) % 4])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(data: &mut [u8], mask: [u8; 4], offset: usize) {
        for (i, byte) in data.iter_mut().enumerate() {
            *byte ^= mask[(i + offset) % 4];
        }
    }

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|i| u8::try_from(i * 7 % 251).expect("below 251")).collect()
    }

    #[test]
    fn equals_the_naive_loop_at_every_length_and_alignment() {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        for length in 0..200 {
            for start in 0..33 {
                let mut expected = bytes(start + length);
                let mut actual = expected.clone();
                naive(&mut expected[start..], mask, 0);
                apply_mask(&mut actual[start..], mask);
                assert_eq!(actual, expected, "length {length} start {start}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "memory for an unmasked payload")]
    fn unmask_into_memory_of_another_size_panics() {
        Masked::plain(b"abc").unmask_into(&mut [MaybeUninit::uninit(); 4]);
    }

    #[test]
    fn append_unmasked_equals_the_naive_loop_across_blocks() {
        let mask = [1, 2, 3, 4];
        for length in [0, 1, 31, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5] {
            for offset in 0..4 {
                let data = bytes(length);
                let mut expected = data.clone();
                naive(&mut expected, mask, offset);
                let mut out = b"before".to_vec();
                append_unmasked(&mut out, &data, Some(mask), offset);
                assert_eq!(&out[..6], b"before");
                assert!(out[6..] == expected[..], "length {length} offset {offset}");
                let mut out = Vec::new();
                append_unmasked(&mut out, &data, None, offset);
                assert!(out == data, "no mask, length {length}");
            }
        }
    }
}
