"""Extensions for wsproto's frames: a limit of a message's size, and permessage-deflate within it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

from .._pycore.deflate import Deflater, Inflater, Overflow
from .._pycore.error import PeerError

if TYPE_CHECKING:
    from ..extensions import DeflateParameters

__all__ = ["Deflate", "SizeLimit"]


class SizeLimit(Extension):
    """Refuses a message that is too long from the header of its frame, so that nothing of it is kept (§7.4.1, 1009)."""

    name = ""

    def __init__(self, max_size: int | None) -> None:
        self._max_size = max_size
        # Bytes on the wire of the message so far.
        self._size = 0
        self._limit = max_size
        self._data_frame = False

    def enabled(self) -> bool:
        """Always."""
        return True

    def offer(self) -> bool | str:
        """It is nothing that a peer knows of."""
        return False

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        """Judge a header; it may come again when there is more of it."""
        self._data_frame = not opcode.iscontrol()
        if self._max_size is None or not self._data_frame:
            return RsvBits(False, False, False)
        if opcode is not Opcode.CONTINUATION:
            # Deflate adds to what it cannot compress; what comes out is judged exactly.
            self._limit = self._max_size + (self._max_size // 256 + 64 if rsv.rsv1 else 0)
        if self._limit is not None and self._size + payload_length > self._limit:
            return CloseReason.MESSAGE_TOO_BIG
        return RsvBits(False, False, False)

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        """Count."""
        if self._data_frame:
            self._size += len(data)
        return data

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        """End a message's count with its last frame."""
        if fin and self._data_frame:
            self._size = 0
        return None


class Deflate(Extension):
    """permessage-deflate for wsproto, whose own inflates without a limit and has no threshold."""

    name = "permessage-deflate"

    def __init__(self, agreed: DeflateParameters, max_size: int | None) -> None:
        self._inflater = Inflater(agreed.client_max_window_bits, takeover=not agreed.client_no_context_takeover)
        self._deflater = Deflater(
            agreed.server_max_window_bits,
            takeover=not agreed.server_no_context_takeover,
            level=agreed.level,
            mem_level=agreed.mem_level,
            threshold=agreed.threshold,
        )
        self._max_size = max_size
        self._room: int | None = None
        # Whether the message that arrives is compressed, and whether the frame is one of its own.
        self._inflating = False
        self._data_frame = False
        self._deflating = False

    def enabled(self) -> bool:
        """It is made once it is agreed on."""
        return True

    def offer(self) -> bool | str:
        """A server offers nothing."""
        return False

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        """Note whether a message is compressed, which its first frame tells (RFC 7692 §6)."""
        self._data_frame = not opcode.iscontrol()
        if opcode in (Opcode.TEXT, Opcode.BINARY):
            self._inflating = rsv.rsv1
            self._room = self._max_size
            return RsvBits(True, False, False)
        # §6.1: RSV1 on any other frame is an error, as wsproto says where it is not used.
        return RsvBits(False, False, False)

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        """Inflate, within the limit of a message."""
        if not (self._data_frame and self._inflating):
            return data
        return self._inflated(lambda out: self._inflater.inflate(data, out, self._room))

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        """End a message."""
        if not (fin and self._data_frame and self._inflating):
            return None
        return self._inflated(lambda out: self._inflater.finish(out, self._room))

    def _inflated(self, inflate: Callable[[bytearray], None]) -> bytes | CloseReason:
        out = bytearray()
        try:
            inflate(out)
        except Overflow:
            return CloseReason.MESSAGE_TOO_BIG
        except PeerError as error:
            return CloseReason(error.code)
        if self._room is not None:
            self._room -= len(out)
        return bytes(out)

    def frame_outbound(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, data: bytes, fin: bool
    ) -> tuple[RsvBits, bytes]:
        """Compress a message from the threshold on, and those that come in fragments."""
        if opcode.iscontrol():
            return rsv, data
        first = opcode is not Opcode.CONTINUATION
        if first:
            self._deflating = not fin or len(data) >= self._deflater.threshold
        if not self._deflating:
            return rsv, data
        return RsvBits(first, rsv.rsv2, rsv.rsv3), self._deflater.compress(data, fin)
