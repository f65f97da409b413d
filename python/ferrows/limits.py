"""What a peer may send on one connection, beyond the size of a message."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["InboundLimits", "Rate"]


class Rate(NamedTuple):
    """A token bucket: so many a second (> 0), and so many at once (>= 1) after a while of fewer."""

    per_second: float
    burst: float


class InboundLimits(NamedTuple):
    """Limits whose breach fails the connection with 1008; None is no limit.

    ``bytes`` are those on the wire, frame headers included, and where a message inflates to more, that much. ``pings``
    are also the pongs that are more than the pings that we sent. ``fragments`` are the frames of one message.
    """

    messages: Rate | None = None
    bytes: Rate | None = None
    pings: Rate | None = None
    fragments: int | None = None
