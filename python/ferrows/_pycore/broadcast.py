"""``broadcast``: one message to many websockets, encoded once; the twin of ``broadcast.rs``."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from . import batch
from .frame import BINARY, TEXT
from .mask import as_bytes
from .stream import MessageStream

if TYPE_CHECKING:
    from .encoding import Encoding
    from .mask import Buffer

__all__ = ["Broadcast", "broadcast"]

_Stream = TypeVar("_Stream", bound=MessageStream)


class Broadcast:
    """A message on its way to many streams."""

    __slots__ = ("_frames", "compress", "data", "payload")

    def __init__(self, data: str | Buffer, compress: bool | None) -> None:
        self.compress = compress
        self.payload = str.encode(data) if isinstance(data, str) else _bytes(data)
        self.data: str | bytes = data if isinstance(data, str) else self.payload
        self._frames: dict[Encoding, bytes] = {}

    def frame(self, encoding: Encoding) -> bytes:
        """Return the frame of this encoding."""
        frame = self._frames.get(encoding)
        if frame is None:
            opcode = TEXT if isinstance(self.data, str) else BINARY
            frame = self._frames[encoding] = encoding.encode(opcode, self.payload)
        return frame


def broadcast(websockets: Iterable[_Stream], data: str | Buffer, *, compress: bool | None = None) -> list[_Stream]:
    # All are looked at before anything is sent: what iterates runs code that may raise, and close some of them.
    streams = list(websockets)
    for stream in streams:
        if not isinstance(stream, MessageStream):
            raise TypeError(f"cannot broadcast to {type(stream).__name__}, permitted: Websocket")
    message = Broadcast(data, compress)
    left_out: list[_Stream] = []

    def send(stream: _Stream) -> None:
        if not stream.send_broadcast(message):
            left_out.append(stream)

    raised: BaseException | None = None
    # Outside of a turn as well: all have the message before the first transport is called.
    owner = batch.open_batch()
    try:
        for stream in streams:
            raised = batch.guarded(stream, partial(send, stream)) or raised
    finally:
        if owner:
            batch.end()
    if raised is not None:
        raise raised
    return left_out


def _bytes(data: Buffer) -> bytes:
    try:
        return as_bytes(data)
    except TypeError:
        raise TypeError(f"cannot broadcast {type(data).__name__}, permitted: str or bytes-like") from None
