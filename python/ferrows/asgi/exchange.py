"""Exchange: what a request and a WebSocket of an application have in common: waiting, and how they fail."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Any

from ..exceptions import WebsocketClosed
from ..log import error_logger

if TYPE_CHECKING:
    from .protocol import ASGIProtocol

__all__ = ["ClientDisconnected", "Exchange", "repeats_disconnect"]


class ClientDisconnected(WebsocketClosed, OSError):
    """What ``send`` raises once the client has left, as the specification wants it since 2.4: an OSError.

    ``code`` and ``reason`` are a WebSocket's; 1006 for HTTP.
    """

    def __init__(self, code: int = 1006, reason: str = "") -> None:
        super().__init__(code, reason)
        self.errno = errno.EPIPE


class Exchange:
    """Lets the application wait for what arrives, and ends what it leaves open by raising."""

    # Of two bases one alone may have slots that are not empty: the subclasses have those of this one.
    __slots__ = ()

    protocol: ASGIProtocol
    _waiters: list[asyncio.Future[None]] | None

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = self.protocol.loop.create_future()
        if self._waiters is None:
            self._waiters = []  # type: ignore[misc]
        self._waiters.append(waiter)
        await waiter

    def _wake(self) -> None:
        if self._waiters is not None:
            waiters, self._waiters = self._waiters, None  # type: ignore[misc]
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def _failed(self, error: BaseException, scope: dict[str, Any]) -> None:
        """The application raised: say so once in the log, and end what is open."""
        if isinstance(error, GeneratorExit):
            raise error
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # The server stops, and the application has not ended within the time that it had.
                self._break_off(stopping=True)
                raise error
        if isinstance(error, SystemExit | KeyboardInterrupt):
            error_logger.warning("%s raised %r", self._describe(scope), error)
            self._break_off(stopping=False)
            if not self.protocol.app.stop_for(error):
                raise error
            return
        if not self._excuses(error):
            error_logger.error("%s failed", self._describe(scope), exc_info=error)
        self._break_off(stopping=False)

    def _describe(self, scope: dict[str, Any]) -> str:
        """What the log calls it."""
        raise NotImplementedError

    def _excuses(self, error: BaseException) -> bool:
        """Whether an exception says nothing but that the client has left, as it has."""
        raise NotImplementedError

    def _break_off(self, *, stopping: bool) -> None:
        """End what is still open, with an answer or a close code that says why."""
        raise NotImplementedError


def repeats_disconnect(error: BaseException | None, end: tuple[int, str] | None = None) -> bool:
    """Whether an exception says nothing but that the client has left.

    It does if it is ours or is raised from it. So does what Starlette makes of the disconnect that it has received,
    where its application lets it through: ClientDisconnect, and WebSocketDisconnect with the same code as ``end``.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, BaseExceptionGroup):
            return all(repeats_disconnect(each, end) for each in error.exceptions)
        if isinstance(error, ClientDisconnected):
            return True
        if type(error).__name__ == "WebSocketDisconnect" and end is not None:
            return getattr(error, "code", None) == end[0]
        if type(error).__name__ == "ClientDisconnect" and end is None:
            return True
        error = error.__cause__
    return False
