"""Lifespan: the startup and the shutdown of an application, in one task that lasts as long as the server."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Any, Final, Literal, TypeAlias

from ..exceptions import FerrowsException
from ..log import error_logger, logger
from .scope import ASGIApplication, Event

__all__ = ["LIFESPANS", "Lifespan", "LifespanError", "LifespanMode"]

LifespanMode: TypeAlias = Literal["auto", "on", "off"]
LIFESPANS: Final = ("auto", "on", "off")
"""``auto`` goes on without, where the application raises instead of taking part; ``on`` makes that an error."""


class LifespanError(FerrowsException):
    """The application refused to start; the server does not start then."""


class Lifespan:
    """One run of an application's lifespan. ``state`` is the dictionary that every request gets a copy of.

    The application runs in one task from beginning to end, so that what it enters at the start (a context variable,
    a cancel scope) it can leave at the end.
    """

    def __init__(self, application: ASGIApplication, state: dict[str, Any], mode: LifespanMode = "auto") -> None:
        self._application = application
        self._state = state
        self._mode = mode
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._started: asyncio.Future[None] | None = None
        self._stopped: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    async def startup(self, context: Context | None = None) -> None:
        """Run the application up to the end of its startup; LifespanError where it says that it failed."""
        if self._mode == "off":
            return
        loop = asyncio.get_running_loop()
        self._started, self._stopped = loop.create_future(), loop.create_future()
        self._task = loop.create_task(self._run(), name="ferrows lifespan", context=context)
        self._events.put_nowait({"type": "lifespan.startup"})
        try:
            await asyncio.wait((self._task, self._started), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        if self._started.done():
            self._started.result()
            return
        error = None if self._task.cancelled() else self._task.exception()
        if self._mode == "on":
            raise LifespanError(f"application startup failed: {error!r}") from error
        logger.info("the application takes no part in the lifespan protocol (%r)", error)

    async def shutdown(self) -> None:
        """Let the application end what it has started; what goes wrong is logged."""
        task, stopped = self._task, self._stopped
        if task is None or stopped is None:
            return
        if task.done():
            # Where it raised, it takes no part, or that is in the log already.
            return
        self._events.put_nowait({"type": "lifespan.shutdown"})
        try:
            await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
            # Its last lines after shutdown.complete.
            await asyncio.wait((task,), timeout=_END_TIMEOUT)
        finally:
            task.cancel()

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self._state,
        }
        try:
            await self._application(scope, self._events.get, self._send)
        except Exception as error:
            started, stopped = self._started, self._stopped
            assert started is not None and stopped is not None
            if not started.done():
                raise
            # After startup.failed or shutdown.failed it has said what was wrong; Starlette raises it as well.
            failed = started.exception() is not None or (stopped.done() and stopped.exception() is not None)
            if not failed:
                error_logger.error("the application's lifespan failed", exc_info=error)

    async def _send(self, event: Event) -> None:
        kind = event["type"]
        started, stopped = self._started, self._stopped
        assert started is not None and stopped is not None
        if kind in ("lifespan.startup.complete", "lifespan.startup.failed"):
            _expect(kind, not started.done())
        elif kind in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
            _expect(kind, started.done() and not stopped.done())
        else:
            raise RuntimeError(f"lifespan event {kind!r}, permitted: complete or failed of startup or shutdown")
        message = str(event.get("message") or "").strip()
        if kind == "lifespan.startup.complete":
            started.set_result(None)
        elif kind == "lifespan.shutdown.complete":
            stopped.set_result(None)
        else:
            # The whole message, a traceback with Starlette, into the log; its last line into the exception.
            error_logger.error("application %s failed: %s", kind.split(".")[1], message or "it does not say why")
            failed = started if kind == "lifespan.startup.failed" else stopped
            lines = message.splitlines()
            failed.set_exception(LifespanError(f"application startup failed{f': {lines[-1]}' if lines else ''}"))
            failed.exception()  # Seen: it is raised where somebody waits for it.


def _expect(kind: str, in_order: bool) -> None:
    if not in_order:
        raise RuntimeError(f"lifespan event {kind!r} out of order")


_END_TIMEOUT: Final = 2.0
"""Seconds that an application has to return after its last event."""
