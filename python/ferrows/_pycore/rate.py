"""How much a peer may send: token buckets, one each for messages, bytes and pings, and the fragments of a message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..limits import InboundLimits, Rate
from .error import PeerError

__all__ = ["Excess", "Meters"]

_UNITS: Final = {"messages": "a second", "bytes": "a second", "pings": "a second", "fragments": "of a message"}


class Excess(PeerError):
    """The peer sent more of what is ``counted`` than the limits permit (RFC 6455 §7.4.1, code 1008)."""

    def __init__(self, counted: str, permitted: float) -> None:
        shown = int(permitted) if permitted == int(permitted) else permitted
        super().__init__(1008, f"more than {shown} {counted} {_UNITS[counted]}")
        self.counted = counted


class _Bucket:
    """Fills at its rate, up to its burst, and is emptied by what arrives."""

    __slots__ = ("_at", "_level", "rate")

    def __init__(self, rate: Rate, now: float) -> None:
        self.rate = rate
        self._level = rate.burst
        self._at = now

    def _gain(self, now: float) -> float:
        """Return what it gained since. A clock that goes back gives nothing."""
        elapsed = max(0.0, now - self._at)
        self._at = now
        return elapsed * self.rate.per_second

    def take(self, amount: float, now: float) -> bool:
        # More than the burst is there only where it was granted, and stays.
        self._level = max(self._level, min(self._level + self._gain(now), self.rate.burst))
        enough = self._level >= amount
        if enough:
            self._level -= amount
        return enough

    def excuse(self, now: float) -> None:
        """Gain what a time brings in which nothing was read, also beyond the burst: we held up what comes then."""
        self._level += self._gain(now)


class Meters:
    """The buckets of a connection. ``clock`` gives seconds."""

    __slots__ = ("_buckets", "_clock")

    def __init__(self, limits: InboundLimits, clock: Callable[[], float]) -> None:
        self._clock = clock
        now = clock()
        rates = {"messages": limits.messages, "bytes": limits.bytes, "pings": limits.pings}
        self._buckets = {counted: _Bucket(rate, now) for counted, rate in rates.items() if rate is not None}

    def take(self, counted: str, amount: int) -> None:
        """Charge so much of something that arrived; :exc:`Excess` if there is too much of it."""
        bucket = self._buckets.get(counted)
        if bucket is not None and not bucket.take(amount, self._clock()):
            raise Excess(counted, bucket.rate.per_second)

    def set_reading(self, reading: bool) -> None:
        """Note that nothing is read from now on, or that nothing was until now."""
        now = self._clock()
        for bucket in self._buckets.values():
            if reading:
                bucket.excuse(now)
            else:
                bucket.take(0, now)
