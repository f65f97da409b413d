"""How a whole message is encoded, where several connections share that; the twin of ``encoding.rs``."""

from __future__ import annotations

from typing import NamedTuple

from .deflate import Parameters, compress_message
from .frame import FIN, RSV1, encode_frame

__all__ = ["Encoding"]


class Encoding(NamedTuple):
    """How a connection encodes a whole message that needs nothing of what was sent on it before.

    Two connections with equal encodings send the same bytes for it.
    """

    compressed: Parameters | None
    """How it is compressed, if it is."""

    def encode(self, opcode: int, payload: bytes) -> bytes:
        """Return the message as one frame, without a mask."""
        if self.compressed is None:
            return encode_frame(FIN | opcode, payload, masked=False)
        # RFC 7692 §6: RSV1 on the first frame of a compressed message.
        return encode_frame(FIN | RSV1 | opcode, compress_message(payload, self.compressed), masked=False)
