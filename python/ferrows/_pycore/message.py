"""The message under assembly: its fragments, its limits, and its text validated as it arrives (RFC 6455 §5.4, §8.1)."""

from __future__ import annotations

from typing import Final

from .deflate import Inflater, Overflow
from .error import PeerError
from .utf8 import Utf8Validator

__all__ = ["Assembler", "inflate_message"]

#: Ends of fragments that are recorded for one message; the fragments after them merge.
MAX_ENDS: Final = 512


class Assembler:
    """A message of which the first frame has begun."""

    __slots__ = (
        "_buffer",
        "_ends",
        "_framed",
        "_handed",
        "_inflater",
        "_max_size",
        "_validator",
        "frames",
        "text",
        "wire",
    )

    def __init__(self, text: bool, inflater: Inflater | None, max_size: int | None) -> None:
        self.text = text
        #: Bytes on the wire of the message's frames, those of the frame that is arriving included.
        self.wire = 0
        #: Frames that have begun.
        self.frames = 0
        self._inflater = inflater
        self._max_size = max_size
        self._validator = Utf8Validator() if text else None
        # What was not handed over, inflated. Of text, up to three bytes at its end may begin a character.
        self._buffer = bytearray()
        # Bytes that were handed over as fragments.
        self._handed = 0
        # Bytes of the buffer that belong to whole frames, in whole characters.
        self._framed = 0
        self._ends: list[int] = []

    @property
    def compressed(self) -> bool:
        """Whether the message came with RSV1 (RFC 7692 §6)."""
        return self._inflater is not None

    @property
    def size(self) -> int:
        """Bytes of the message, inflated, that came so far."""
        return self._handed + len(self._buffer)

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of payload: inflate, check the limit, validate."""
        buffer = self._buffer
        if self._inflater is not None:
            start = len(buffer)
            try:
                self._inflater.inflate(piece, buffer, self._room())
            except Overflow:
                raise _too_big(self._max_size) from None
            if self._validator is not None:
                self._validator.feed(bytes(memoryview(buffer)[start:]))
        else:
            buffer += piece
            if self._validator is not None:
                self._validator.feed(piece)

    def finish(self) -> None:
        """Check the message's end, after its last frame."""
        buffer = self._buffer
        if self._inflater is not None:
            start = len(buffer)
            try:
                self._inflater.finish(buffer, self._room())
            except Overflow:
                raise _too_big(self._max_size) from None
            if self._validator is not None:
                self._validator.feed(bytes(memoryview(buffer)[start:]))
        if self._validator is not None:
            self._validator.finish()

    def end_frame(self) -> None:
        """Record where a frame ended that is not the last, unless nothing came with it."""
        end = self._checked()
        if end > self._framed and len(self._ends) < MAX_ENDS:
            self._ends.append(end)
        self._framed = end

    def take_message(self) -> tuple[str | bytes, list[int]]:
        """Return the finished message and the offsets at which its fragments ended, the last one's left out."""
        buffer, ends = self._buffer, self._ends
        if ends and ends[-1] == len(buffer):
            ends.pop()
        if not ends or not self.text:
            return self._payload(0, len(buffer)), ends
        # Offsets count characters from here on.
        pieces = [str(buffer[start:end], "utf-8") for start, end in zip([0, *ends], [*ends, len(buffer)], strict=True)]
        total = 0
        for index, piece in enumerate(pieces[:-1]):
            total += len(piece)
            ends[index] = total
        return "".join(pieces), ends

    def take_fragment(self) -> str | bytes:
        """Return what is there of whole characters, to be called when a frame is complete."""
        return self._take([self._checked()])[0]

    def take_fragments(self) -> list[str | bytes]:
        """Return what is there of whole frames, in pieces that end where fragments ended."""
        ends, self._ends = self._ends, []
        if self._framed > (ends[-1] if ends else 0):
            ends.append(self._framed)
        return self._take(ends) if ends else []

    def _take(self, ends: list[int]) -> list[str | bytes]:
        taken = [self._payload(start, end) for start, end in zip([0, *ends], ends, strict=False)]
        size = ends[-1]
        del self._buffer[:size]
        self._handed += size
        self._framed = 0
        return taken

    def _payload(self, start: int, end: int) -> str | bytes:
        piece = self._buffer[start:end] if end - start < len(self._buffer) else self._buffer
        return str(piece, "utf-8") if self.text else bytes(piece)

    def _checked(self) -> int:
        """Return how many bytes of the buffer are whole characters, or just bytes."""
        return len(self._buffer) - (len(self._validator.tail) if self._validator is not None else 0)

    def _room(self) -> int | None:
        return None if self._max_size is None else self._max_size - self._handed - len(self._buffer)


def inflate_message(payload: bytes, inflater: Inflater, max_size: int | None) -> bytes:
    """Inflate the payload of a message that is all there."""
    buffer = bytearray()
    try:
        inflater.inflate(payload, buffer, max_size)
        inflater.finish(buffer, None if max_size is None else max_size - len(buffer))
    except Overflow:
        raise _too_big(max_size) from None
    return bytes(buffer)


def _too_big(max_size: int | None) -> PeerError:
    return PeerError(1009, f"inflated message over {max_size} bytes")
