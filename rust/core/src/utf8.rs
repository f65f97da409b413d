//! Incremental UTF-8 validation (RFC 6455 §8.1, RFC 3629).

/// The bytes cannot begin, continue or end a valid sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidUtf8;

/// Validate the beginning of a text that may be cut off anywhere.
///
/// Returns how many of the bytes are whole characters; the at most three bytes after them begin a sequence that later
/// bytes can still make valid. A caller keeps those and passes them again, in front of what comes next.
///
/// # Errors
/// [`InvalidUtf8`] at the first byte that no continuation can make valid: surrogates, overlong forms and values above
/// U+10FFFF fail at their second byte, not at the end of the sequence.
pub(crate) fn valid_prefix(bytes: &[u8]) -> Result<usize, InvalidUtf8> {
    let whole = bytes.len() - cut_sequence(bytes);
    simdutf8::basic::from_utf8(&bytes[..whole]).map_err(|_| InvalidUtf8)?;
    match std::str::from_utf8(&bytes[whole..]) {
        Ok(_) => Ok(bytes.len()),
        // `error_len` is None exactly if more bytes could complete the sequence.
        Err(error) if error.error_len().is_none() => Ok(whole),
        Err(_) => Err(InvalidUtf8),
    }
}

/// Validate a text that is all there.
///
/// # Errors
/// [`InvalidUtf8`].
#[inline]
pub fn validate_utf8(bytes: &[u8]) -> Result<&str, InvalidUtf8> {
    simdutf8::basic::from_utf8(bytes).map_err(|_| InvalidUtf8)
}

/// Tell whether a text that is all there is valid.
#[inline]
pub(crate) fn is_valid(bytes: &[u8]) -> bool {
    simdutf8::basic::from_utf8(bytes).is_ok()
}

/// Return the length of the unfinished sequence at the end: from its lead byte on, 0 if there is none.
fn cut_sequence(bytes: &[u8]) -> usize {
    for (back, byte) in bytes.iter().rev().take(3).enumerate() {
        let needed = match byte {
            0x80..=0xBF => continue,
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xFF => 4,
            _ => 1,
        };
        return if needed > back + 1 { back + 1 } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the standard library says about a text that may go on.
    fn naive(bytes: &[u8]) -> Result<usize, InvalidUtf8> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.len()),
            Err(error) if error.error_len().is_none() => Ok(error.valid_up_to()),
            Err(_) => Err(InvalidUtf8),
        }
    }

    const TEXTS: &[&[u8]] = &[
        b"",
        b"plain ascii",
        "\u{7f}\u{80}\u{7ff}\u{800}\u{d7ff}\u{e000}\u{ffff}\u{10000}\u{10ffff}".as_bytes(),
        "na\u{ef}ve \u{20ac} \u{1f600} end".as_bytes(),
        b"\xc0\x80",
        b"\xc1\xbf",
        b"a\xe0\x9f\xbf",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xf0\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\x80",
        b"ok\xbf",
        b"\xe2\x82",
        b"\xe2\x82a",
        b"\xf0\x9f\x98",
        b"\xf0\x9f\x98\xc3",
        b"\xfe\xff",
    ];

    #[test]
    fn every_prefix_equals_the_standard_library() {
        for text in TEXTS {
            for end in 0..=text.len() {
                assert_eq!(valid_prefix(&text[..end]), naive(&text[..end]), "{:02x?}", &text[..end]);
            }
        }
    }

    #[test]
    fn long_texts_with_a_flaw_at_every_place_equal_the_standard_library() {
        let base = "gr\u{fc}n \u{20ac}\u{1f600}".repeat(12).into_bytes();
        for at in 0..base.len() {
            for flaw in [0x80, 0xc3, 0xed, 0xf4, 0xff] {
                let mut text = base.clone();
                text[at] = flaw;
                assert_eq!(valid_prefix(&text), naive(&text), "byte {at} is {flaw:02x}");
            }
        }
    }

    #[test]
    fn every_split_gives_the_answer_of_the_whole() {
        for text in TEXTS {
            let whole = valid_prefix(text);
            for first in 0..=text.len() {
                for second in first..=text.len() {
                    let mut done = Ok(0);
                    for end in [first, second, text.len()] {
                        done = done.and_then(|done| Ok(done + valid_prefix(&text[done..end])?));
                    }
                    assert_eq!(done, whole, "{text:02x?} at {first} and {second}");
                }
            }
        }
    }

    #[test]
    fn all_sequences_of_three_bytes_equal_the_standard_library() {
        for a in 0x7f..=0xff_u8 {
            for b in (0x7e..=0xc2_u8).chain([0, 0xff]) {
                for c in [0x00, 0x7f, 0x80, 0xbf, 0xc0, 0xff] {
                    let bytes = [a, b, c];
                    assert_eq!(valid_prefix(&bytes), naive(&bytes), "{bytes:02x?}");
                }
            }
        }
    }
}
