"""Keepalive: pings for all connections of a worker, by one timer."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import weakref
from typing import Final

from ..exceptions import WebsocketClosed
from ..websocket import Websocket

__all__ = ["Keepalive"]

_LATE: Final = 0.1
"""Seconds by which the timer may be late before the delay is held to be the worker's own."""


class Keepalive:
    """Pings every connection once an interval and ends those that answer nothing within their timeout.

    Any byte that arrived counts as a sign of life. The first ping comes after half an interval to a whole one, at
    random, so that clients that connected together are not pinged together. A connection that is not being read from,
    because its handler is slow, cannot give a sign of life and is left alone, and time in which the loop itself was
    late is given back.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: list[tuple[float, int, weakref.ref[Websocket], bool]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Keepalive:
        """Return the one that serves this loop's connections."""
        keepalive = _BY_LOOP.get(loop)
        if keepalive is None:
            keepalive = _BY_LOOP[loop] = cls(loop)
        return keepalive

    def add(self, ws: Websocket) -> None:
        """Keep a connection alive until it ends; does nothing where its ``ping_interval`` is off."""
        if ws.ping_interval:
            self._push(ws, self._loop.time() + ws.ping_interval * random.uniform(0.5, 1), False)
            self._arm()

    def _push(self, ws: Websocket, due: float, checking: bool) -> None:
        heapq.heappush(self._queue, (due, next(self._order), weakref.ref(ws), checking))

    def _arm(self) -> None:
        """Let the timer fire when the first entry is due."""
        if not self._queue:
            return
        due = self._queue[0][0]
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        # Not the timer's own `when`: for a time that is past, uvloop gives a handle that has none.
        self._due = due
        self._timer = self._loop.call_at(due, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._queue and self._queue[0][0] <= now:
            due, _, reference, checking = heapq.heappop(self._queue)
            ws = reference()
            if ws is None or not ws.open:
                continue
            if checking:
                self._check(ws, now, now - due)
            else:
                self._ping(ws, now)
        self._arm()

    def _ping(self, ws: Websocket, now: float) -> None:
        ws.take_heard()
        try:
            ws._ping_for_keepalive()
        except WebsocketClosed:
            return
        interval = ws.ping_interval or 0
        if ws.ping_timeout:
            self._push(ws, now + ws.ping_timeout, True)
        else:
            self._push(ws, now + interval, False)

    def _check(self, ws: Websocket, now: float, late: float) -> None:
        interval, timeout = ws.ping_interval or 0, ws.ping_timeout or 0
        if ws.take_heard() or ws.read_paused:
            self._push(ws, now + max(interval - timeout, 0), False)
        elif late > _LATE:
            # What arrived meanwhile has not been read yet.
            self._push(ws, now + min(late, timeout), True)
        else:
            ws.fail_connection(1011, "keepalive ping timeout")


_BY_LOOP: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Keepalive]] = weakref.WeakKeyDictionary()
