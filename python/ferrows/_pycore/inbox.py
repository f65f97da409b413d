"""What arrives and waits for the handler: the items of a stream's queue, and the connection that puts them there.

The twin of ``inbox.rs``.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from .connection import Connection

if TYPE_CHECKING:
    from .mask import Buffer
    from .stream import MessageStream

__all__ = ["Fragment", "Inbox", "Item", "Message", "payload_size"]


class Message(NamedTuple):
    data: str | bytes
    size: int
    ends: Sequence[int]


class Fragment(NamedTuple):
    data: str | bytes
    size: int
    fin: bool


Item: TypeAlias = Message | Fragment


class Inbox(Connection):
    """A connection that puts what arrives into its stream's queue."""

    stream: MessageStream

    def _time(self) -> float:
        return monotonic()

    def _message(self, text: bool, payload: str | bytes, ends: Sequence[int]) -> None:
        self.stream.messages_received += 1
        self.stream._append(Message(payload, payload_size(payload), ends))

    def _fragment(self, text: bool, payload: str | bytes, fin: bool) -> None:
        self.stream.messages_received += fin
        self.stream._append(Fragment(payload, payload_size(payload), fin))

    def _ping(self, payload: bytes) -> None:
        """The answer is in the output already."""

    def _pong(self, payload: bytes) -> None:
        self.stream._pongs.append(payload)

    def _close(self, code: int, reason: str) -> None:
        """Seen by the state."""

    def _failure(self, code: int, reason: str) -> None:
        """Seen by the state."""


def payload_size(data: str | bytes | Buffer) -> int:
    """Return the payload bytes of a message: the length of its UTF-8 for text."""
    if isinstance(data, str):
        return len(data) if data.isascii() else len(data.encode("utf-8"))
    return data.nbytes if isinstance(data, memoryview) else len(data)  # type: ignore[arg-type]
