"""Closings: the connections of sessions that are over, a few in each turn of the loop."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from contextvars import Context
from typing import Any, Final

from ..deadlines import A_TURN
from ..log import error_logger

__all__ = ["close_soon"]


class Closings:
    """What is to be closed on one loop: at once for as many as a turn may have, the others in the turns after it.

    Sessions of an event end together, and thousands of Close frames at once would keep everybody else waiting.
    """

    __slots__ = ("_left", "_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[tuple[Any, int, str]] = deque()
        self._left = A_TURN
        self._schedule()

    def add(self, ws: Any, code: int, reason: str) -> None:
        if self._left:
            self._left -= 1
            _close(ws, code, reason)
        else:
            self._waiting.append((ws, code, reason))

    def _schedule(self) -> None:
        self._loop.call_soon(self._turn, context=Context())

    def _turn(self) -> None:
        if self._left == A_TURN:
            # Nobody has ended in the turn before.
            del _ALL[self._loop]
            return
        self._left = A_TURN
        while self._waiting and self._left:
            self.add(*self._waiting.popleft())
        self._schedule()


# While there is something to close, and no longer.
_ALL: Final[dict[asyncio.AbstractEventLoop, Closings]] = {}

# Of objects whose `close` is a coroutine function. Nobody else would keep their tasks.
_tasks: Final[set[asyncio.Task[None]]] = set()


def close_soon(ws: Any, code: int, reason: str) -> None:
    """Close a connection of the running loop in this turn or one of the next; RuntimeError where no loop runs."""
    loop = asyncio.get_running_loop()
    closings = _ALL.get(loop)
    if closings is None:
        # Loops that were closed within a turn.
        for each in [each for each in _ALL if each.is_closed()]:
            del _ALL[each]
        closings = _ALL[loop] = Closings(loop)
    closings.add(ws, code, reason)


def _close(ws: Any, code: int, reason: str) -> None:
    """Close a connection so that nothing more is received from it: whose session is over may not go on sending."""
    if getattr(ws, "open", True) is False:
        return
    try:
        # Not by the closing handshake, in which a peer that does not answer could send for another WEBSOCKET_TIMEOUT.
        fail = getattr(ws, "fail_connection", None)
        result = ws.close(code, reason) if fail is None else fail(code, reason)
        if inspect.isawaitable(result):
            task = asyncio.get_running_loop().create_task(_awaited(ws, result))
            _tasks.add(task)
            task.add_done_callback(_tasks.discard)
    except Exception:
        # The others are to end all the same.
        error_logger.exception("%r could not be closed with its session", ws)


async def _awaited(ws: Any, result: Any) -> None:
    try:
        await result
    except Exception:
        error_logger.exception("%r could not be closed with its session", ws)
