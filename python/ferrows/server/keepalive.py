"""Keepalive: pings for all connections of a worker, by one timer."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
import weakref
from typing import TypeAlias

from ..deadlines import LATE
from ..websocket import WebsocketMethods

__all__ = ["Keepalive"]

logger = logging.getLogger("ferrows.websocket")

_Entry: TypeAlias = tuple[float, int, weakref.ref[WebsocketMethods], bool]
"""When it is due, its place among equals, the connection, and whether a ping was sent already."""


class Keepalive:
    """Pings every connection once an interval and ends those that answer nothing within their timeout.

    Any byte that arrived counts as a sign of life. The first ping comes after half an interval to a whole one, at
    random, so that clients that connected together are not pinged together; where the timeout is longer than the
    interval, the next one waits for it. A connection that is not read from because its handler is slow, or whose peer
    reads slowly so that the ping waits behind data, is left alone: the protocol watches such peers. Time in which the
    loop itself was late is given back.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: list[_Entry] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        # Entries of connections that are gone; they are thrown out once they are the most.
        self._dead = 0

    def add(self, ws: WebsocketMethods) -> None:
        """Keep a connection alive until it ends; does nothing where its ``ping_interval`` is off."""
        if ws.ping_interval:
            reference = weakref.ref(ws, self._count_dead)
            self._push(reference, self._loop.time() + ws.ping_interval * random.uniform(0.5, 1), False)
            self._arm()

    def _push(self, reference: weakref.ref[WebsocketMethods], due: float, checking: bool) -> None:
        heapq.heappush(self._queue, (due, next(self._order), reference, checking))

    def _count_dead(self, reference: weakref.ref[WebsocketMethods]) -> None:
        self._dead += 1
        if self._dead > 64 and self._dead > len(self._queue) // 2:
            self._queue = [entry for entry in self._queue if entry[2]() is not None]
            heapq.heapify(self._queue)
            self._dead = 0

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
            if ws is None:
                self._dead -= 1
            elif ws.open:
                try:
                    if checking:
                        self._check(ws, reference, now, now - due)
                    else:
                        self._ping(ws, reference, now)
                except Exception:
                    logger.exception("keepalive of one connection failed, it is dropped")
                    ws.fail_connection(1006)
        self._arm()

    def _ping(self, ws: WebsocketMethods, reference: weakref.ref[WebsocketMethods], now: float) -> None:
        ws.take_heard()
        ws._ping_for_keepalive()
        if ws.ping_timeout:
            self._push(reference, now + ws.ping_timeout, True)
        else:
            self._push(reference, now + (ws.ping_interval or 0), False)

    def _check(self, ws: WebsocketMethods, reference: weakref.ref[WebsocketMethods], now: float, late: float) -> None:
        interval, timeout = ws.ping_interval or 0, ws.ping_timeout or 0
        if ws.take_heard() or ws.read_paused or ws.write_paused:
            self._push(reference, now + max(interval - timeout, 0), False)
        elif late > LATE:
            # What arrived meanwhile has not been read yet.
            self._push(reference, now + min(late, timeout), True)
        else:
            ws.fail_connection(1011, "keepalive ping timeout")
