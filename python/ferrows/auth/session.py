"""``Session``: who is at the other end, until when, and the connections that end with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any, Final

from ..websocket import check_close
from .closings import close_soon

__all__ = ["EXPIRED", "Session"]

EXPIRED: Final = 1008
"""The close code of a session that is over: "policy violation" (RFC 6455 §7.4.1)."""

_LATEST: Final = 1e11
"""Unix seconds, some 3,000 years from now: more is a time in milliseconds, which would never come."""

_A_DAY: Final = 86_400.0
"""Seconds that one timer waits, at most: what is further away than a selector can wait is reached in steps."""


class Session:
    """Who is at the other end of one or more connections, until when, and what else is known of them.

    ``expires`` is in Unix seconds, None for never. What is left until then is taken from ``clock`` once, when the
    session is made or renewed, and counted on the monotonic clock: a wall clock that is set forward ends no session
    early, and one that is set back keeps none for longer. What the wall clock counts while the machine sleeps is not
    counted.

    At that time the connections that are attached are closed, by one timer for all of them, and fifty in each turn of
    the loop. Messages that have arrived before are still delivered, later ones are not. Not to be used from another
    thread than the event loop's.
    """

    __slots__ = (
        "__weakref__",
        "_clock",
        "_connections",
        "_deadline",
        "_ended",
        "_expires",
        "_timer",
        "data",
        "subject",
    )

    def __init__(
        self,
        subject: str,
        expires: float | None = None,
        data: Mapping[str, Any] | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if subject is None:
            # What a lookup gives for a wrong token; with a session it would be let in.
            raise TypeError("subject is None, permitted: str; where there is nobody, verify returns None")
        self.subject = subject
        self.data: dict[str, Any] = dict(data or {})
        self._clock = clock
        self._ended = False
        self._timer: asyncio.TimerHandle | None = None
        # The code and the reason that each is to be closed with when the time has come.
        self._connections: dict[Any, tuple[int, str]] = {}
        self._take_expiry(expires)

    def __repr__(self) -> str:
        # Without the data, which may hold what no log should.
        state = "ended" if self.ended else f"until {self._expires}" if self._expires is not None else "without end"
        return f"<{type(self).__name__} of {self.subject!r} {state}>"

    @property
    def expires(self) -> float | None:
        """When the session ends, in Unix seconds; None for never."""
        return self._expires

    @property
    def ended(self) -> bool:
        """Whether the session has expired or was ended."""
        return self._ended or (self._deadline is not None and time.monotonic() >= self._deadline)

    def renew(self, expires: float | None) -> bool:
        """Have the session end at another time, earlier or later; False where it has ended already."""
        if self.ended:
            return False
        self._check_thread()
        self._take_expiry(expires)
        self._arm()
        return True

    def end(self, code: int = EXPIRED, reason: str = "session ended") -> None:
        """End the session and its connections now; does nothing where it has ended.

        ValueError: a code that may not be sent (RFC 6455 §7.4), a reason of more than 123 bytes.
        """
        check_close(code, reason)
        if not self._ended:
            self._check_thread()
            self._connections = dict.fromkeys(self._connections, (code, reason))
            self._end()

    def attach(self, ws: Any, code: int = EXPIRED, reason: str = "session expired") -> None:
        """End a connection with the session: at once where that is over, otherwise with ``code`` when it expires.

        ``ws`` is a :class:`ferrows.Websocket`, or whatever has ``fail_connection`` or ``close``, sync or async, that
        take a code and a reason. :meth:`detach` it when its handler returns, as
        :func:`ferrows.auth.authenticated` does.
        """
        check_close(code, reason)
        _check_loop()
        self._connections[ws] = (code, reason)
        if self.ended:
            self._end()
        elif self._timer is None:
            self._arm()

    def detach(self, ws: Any) -> None:
        """Leave a connection to itself; does nothing for one that is not attached."""
        self._connections.pop(ws, None)
        if not self._connections:
            self._disarm()

    def _check_thread(self) -> None:
        """Refuse a change while nothing has changed: one that stops halfway would leave connections open for ever."""
        if self._connections:
            _check_loop()

    def _take_expiry(self, expires: float | None) -> None:
        if expires is None:
            deadline = None
        elif isinstance(expires, bool) or not isinstance(expires, int | float):
            raise TypeError(f"expires is {type(expires).__name__}, permitted: Unix seconds or None")
        elif not _is_time(expires):
            raise ValueError(f"expires {expires}, permitted: Unix seconds up to {_LATEST:.0e}, or None")
        else:
            deadline = time.monotonic() + expires - self._clock()
        self._expires = expires
        self._deadline: float | None = deadline

    def _arm(self) -> None:
        self._disarm()
        if self._deadline is not None and self._connections:
            delay = min(max(self._deadline - time.monotonic(), 0), _A_DAY)
            # In a context of its own: asyncio keeps a timer that was cancelled until its time, and with it the context,
            # and in a handler's there is the whole connection.
            self._timer = asyncio.get_running_loop().call_later(delay, self._fire, context=Context())

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        # A loop's clock may be coarser, and late or early by that much.
        if self.ended:
            self._end()
        else:
            self._arm()

    def _end(self) -> None:
        self._ended = True
        self._disarm()
        connections, self._connections = self._connections, {}
        for ws, (code, reason) in connections.items():
            close_soon(ws, code, reason)


def _check_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "no running event loop: a session with connections belongs to the loop's thread, "
            "from another one use loop.call_soon_threadsafe"
        ) from None


def _is_time(expires: float) -> bool:
    # An int may be one that no float can be, so it is not converted.
    return -_LATEST <= expires <= _LATEST
