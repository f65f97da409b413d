"""Deadlines: one timer for all that wait equally long, in place of one for each connection."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, Protocol

__all__ = ["Deadlines", "deadlines"]

logger = logging.getLogger("ferrows.error")


A_TURN: Final = 50
"""Deadlines that pass in one turn of the loop, at most: thousands at once would keep everybody else waiting."""


LATE: Final = 0.1
"""Seconds by which the timer may be late before the delay is held to be the process's own."""


class Watched(Protocol):
    """What can have a deadline."""

    def deadline_passed(self) -> Any:
        """Called once, by the loop."""


class Deadlines:
    """Everything of one loop that has the same number of seconds.

    So the first that was added is the first that is due, and adding or discarding one costs an entry of a dictionary:
    a quarter of what a timer of asyncio's costs and half of one of uvloop's, and most deadlines never pass.

    Where the timer is late, since the loop was blocked or the process stopped, everybody who waits gets that time back:
    what they sent meanwhile has not been read. That is done once in ``seconds``, for a loop that is always late.
    """

    __slots__ = ("_due", "_given_back", "_loop", "_seconds", "_timer", "_timer_due")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._due: dict[Watched, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        # Not the timer's own `when`: for a time that is past, uvloop gives a handle that has none.
        self._timer_due = 0.0
        self._given_back = float("-inf")

    def __len__(self) -> int:
        return len(self._due)

    def add(self, watched: Watched) -> float:
        """Begin to wait, anew if it waits already; return the loop's time at which ``deadline_passed`` is called."""
        self._due.pop(watched, None)
        self._due[watched] = when = self._loop.time() + self._seconds
        if self._timer is None:
            self._arm(when)
        return when

    def discard(self, watched: Watched) -> None:
        """Stop waiting; does nothing for what does not wait. The timer is left to fire, and goes by who waits then."""
        self._due.pop(watched, None)

    def _arm(self, when: float) -> None:
        self._timer_due = when
        self._timer = self._loop.call_at(when, self._fire)

    def _give_back(self, now: float) -> None:
        """Put every deadline off by what the timer is late, and those that are due at once by as much again."""
        late = now - self._timer_due
        if late <= LATE or now - self._given_back < self._seconds:
            return
        self._given_back = now
        # Who was added since then is not to wait longer than one who is added now: the order stays.
        earliest, latest = now + min(late, self._seconds), now + self._seconds
        for watched, when in self._due.items():
            self._due[watched] = min(max(when + late, earliest), latest)

    def _fire(self) -> None:
        now = self._loop.time()
        self._give_back(now)
        fired = 0
        # As long as there is a timer, also this one, `add` makes none: what it adds comes after what waits already.
        while self._due:
            watched, when = next(iter(self._due.items()))
            if when > now or fired == A_TURN:
                # In the latter case, that is in the next turn of the loop, and not late.
                self._arm(max(when, now))
                return
            fired += 1
            del self._due[watched]
            try:
                watched.deadline_passed()
            except Exception:
                logger.exception("deadline of %r", watched)
        self._timer = None
        _ALL.pop((self._loop, self._seconds), None)


# While somebody waits, and no longer.
_ALL: Final[dict[tuple[asyncio.AbstractEventLoop, float], Deadlines]] = {}


def deadlines(loop: asyncio.AbstractEventLoop, seconds: float) -> Deadlines:
    """Return what watches over everything that waits for ``seconds`` on a loop."""
    found = _ALL.get((loop, seconds))
    if found is None:
        # Loops that were closed with deadlines open.
        for key in [key for key in _ALL if key[0].is_closed()]:
            del _ALL[key]
        found = _ALL[loop, seconds] = Deadlines(loop, seconds)
    return found
