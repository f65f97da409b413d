//! How a whole message is encoded, where several connections share that.

use crate::deflate::Parameters;
use crate::frame::{FrameHeader, MAX_HEADER, Opcode};
use crate::kind::Kind;
use crate::scratch::Scratch;

/// How a connection encodes a whole message that needs nothing of what was sent on it before: two connections with
/// equal encodings send the same bytes for it.
///
/// [`Connection::encoding`](crate::Connection::encoding) makes it, for one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// How it is compressed, if it is.
    pub(crate) compressed: Option<Parameters>,
}

impl Encoding {
    /// Append the message as one frame, without a mask, to `out`.
    ///
    /// A text has to be UTF-8: it is not validated.
    pub fn encode(self, kind: Kind, payload: &[u8], out: &mut Vec<u8>) {
        let Some(parameters) = self.compressed else {
            self.append(kind, payload, out);
            return;
        };
        let mut compressed = Scratch::Payload.take();
        parameters.compress(payload, &mut compressed);
        self.append(kind, &compressed, out);
        Scratch::Payload.put(compressed);
    }

    fn append(self, kind: Kind, payload: &[u8], out: &mut Vec<u8>) {
        out.reserve(MAX_HEADER + payload.len());
        FrameHeader {
            opcode: Opcode::from(kind),
            fin: true,
            // RFC 7692 §6: RSV1 on the first frame of a compressed message.
            compressed: self.compressed.is_some(),
            mask: None,
            length: payload.len() as u64,
        }
        .encode(out);
        out.extend_from_slice(payload);
    }
}
