//! The Close frame and its codes (RFC 6455 §5.5.1 and §7.4).

use crate::error::Error;

/// Bytes of a close reason that fit into a control frame beside the code (RFC 6455 §5.5).
pub(crate) const MAX_REASON: usize = 123;

/// 1005: the Close frame had no body. Never on the wire (RFC 6455 §7.4.1).
pub(crate) const NO_STATUS: u16 = 1005;

/// Tell whether a Close frame may carry this code: 1000-1003, 1007-1014, 3000-4999 (RFC 6455 §7.4.2).
pub(crate) const fn is_permitted(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The content of a Close frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    /// The close code (RFC 6455 §7.4); 1005 stands for an empty body.
    pub code: u16,
    /// The reason, at most 123 bytes of UTF-8; empty if there is none.
    pub reason: String,
}

impl CloseFrame {
    /// Read the unmasked payload of a Close frame.
    ///
    /// # Errors
    /// [`Error::CloseBodyTooShort`], [`Error::CloseCode`] or [`Error::InvalidCloseReason`], checked in this order.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, Error> {
        let (code, reason) = match payload {
            [] => (NO_STATUS, &[][..]),
            // §5.5.1: if there is a body, its first two bytes MUST be the code.
            [_] => return Err(Error::CloseBodyTooShort),
            [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        };
        if !payload.is_empty() && !is_permitted(code) {
            return Err(Error::CloseCode(code));
        }
        // §5.5.1: the rest of the body is UTF-8; §8.1 makes anything else a failure with 1007.
        let reason = std::str::from_utf8(reason).map_err(|_| Error::InvalidCloseReason)?;
        Ok(Self { code, reason: reason.to_owned() })
    }

    /// Check what a caller wants to send; no code stands for an empty body.
    ///
    /// # Errors
    /// [`Error::ReasonWithoutCode`], [`Error::CloseCodeNotSendable`] or [`Error::ReasonTooLong`].
    pub(crate) fn checked(code: Option<u16>, reason: &str) -> Result<Self, Error> {
        let code = match code {
            None if reason.is_empty() => NO_STATUS,
            None => return Err(Error::ReasonWithoutCode),
            Some(code) if is_permitted(code) => code,
            Some(code) => return Err(Error::CloseCodeNotSendable(code)),
        };
        if reason.len() > MAX_REASON {
            return Err(Error::ReasonTooLong(reason.len()));
        }
        Ok(Self { code, reason: reason.to_owned() })
    }

    /// Make a frame of a permitted code and as much of the reason as fits.
    pub(crate) fn truncated(code: u16, reason: &str) -> Self {
        let mut end = reason.len().min(MAX_REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        Self { code, reason: reason[..end].to_owned() }
    }

    /// Return the body as it goes on the wire.
    pub(crate) fn body(&self) -> Vec<u8> {
        if self.code == NO_STATUS {
            // §7.4.1: 1005 MUST NOT be set by an endpoint; it means that there was no body.
            return Vec::new();
        }
        let mut body = Vec::with_capacity(2 + self.reason.len());
        body.extend_from_slice(&self.code.to_be_bytes());
        body.extend_from_slice(self.reason.as_bytes());
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permitted_codes_are_exactly_those_of_7_4() {
        for code in 0..=u16::MAX {
            let expected = matches!(code, 1000..=1003 | 3000..=4999) || (1007..=1014).contains(&code);
            assert_eq!(is_permitted(code), expected, "{code}");
        }
    }

    #[test]
    fn what_is_sent_parses_back() {
        for (code, reason) in [(None, ""), (Some(1000), ""), (Some(4999), "gr\u{fc}\u{df} dich")] {
            let frame = CloseFrame::checked(code, reason).expect("permitted");
            assert_eq!(CloseFrame::parse(&frame.body()), Ok(frame));
        }
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let frame = CloseFrame::truncated(1011, &"\u{20ac}".repeat(42));
        assert_eq!(frame.reason, "\u{20ac}".repeat(41));
        let frame = CloseFrame::truncated(1011, &format!("a{}", "\u{20ac}".repeat(42)));
        assert_eq!(frame.reason.len(), 121);
    }
}
