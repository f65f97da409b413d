"""What a sans-I/O connection tells its owner: one named tuple per event.

The extension and the pure-Python twin build the same tuples, so a test may compare their lists directly.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

__all__ = ["Close", "Event", "Failure", "Fragment", "Message", "Ping", "Pong"]


class Message(NamedTuple):
    """A whole message (RFC 6455 §5.4): ``str`` for text, ``bytes`` for binary."""

    data: str | bytes


class Fragment(NamedTuple):
    """One fragment of a message that the owner asked to have streamed; ``fin`` marks the last."""

    data: str | bytes
    fin: bool


class Ping(NamedTuple):
    """A Ping of at most 125 bytes (§5.5.2); its Pong is already in the output."""

    data: bytes


class Pong(NamedTuple):
    """A Pong of at most 125 bytes, asked for or not (§5.5.3)."""

    data: bytes


class Close(NamedTuple):
    """The peer's Close frame (§5.5.1); ``code`` is 1005 where the frame had no body."""

    code: int
    reason: str


class Failure(NamedTuple):
    """The connection was failed (§7.1.7) with the code and reason that our Close carries; always the last event."""

    code: int
    reason: str


Event: TypeAlias = Message | Fragment | Ping | Pong | Close | Failure
