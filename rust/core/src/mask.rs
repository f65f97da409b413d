//! Masking (RFC 6455 §5.3).

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
