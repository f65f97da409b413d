"""Lifespan: the steps of an app's life where another server has the connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from ..log import error_logger
from .async_server import AsyncioServer

if TYPE_CHECKING:
    from ..app import App

__all__ = ["OuterServer", "answer_lifespan", "lifespan"]

Event = Mapping[str, Any]


_CANCEL_TIMEOUT: Final = 2.0
"""Seconds that the tasks of an app that could not start have for their ``finally`` blocks."""


class OuterServer(AsyncioServer):
    """Stands for the server that an app runs under: it has the steps of a life, and no connections."""

    def __init__(self, app: App) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(app, loop, loop.create_future(), set())
        self._serving = False

    async def begin(self) -> None:
        """Do what comes before the first request; when it fails, nothing of it is left running."""
        self.app.servers.append(self)
        try:
            await self.startup()
            await self.before_start()
            await self.after_start()
        except BaseException:
            self.app.servers.remove(self)
            await self.app.shutdown_tasks(_CANCEL_TIMEOUT)
            raise
        self._serving = True

    async def end(self) -> None:
        """Do what comes after the last request."""
        self._serving = False
        try:
            await self.before_stop()
            await self.after_stop()
        finally:
            self.app.servers.remove(self)

    def is_serving(self) -> bool:
        """Whether the app has started and has not stopped."""
        return self._serving

    def request_stop(self, why: str = "", *, restart: bool = False) -> None:
        """Say that an application cannot stop its server."""
        error_logger.warning("app %s was told to stop, but the server that it runs under is not its own", self.app.name)

    def request_exit(self, error: SystemExit | KeyboardInterrupt) -> None:
        """Do as :meth:`request_stop`."""
        self.request_stop()


@asynccontextmanager
async def lifespan(app: App) -> AsyncIterator[None]:
    """Run an app's start when the context is entered and its stop when it is left."""
    server = OuterServer(app)
    await server.begin()
    try:
        yield
    finally:
        await server.end()


async def answer_lifespan(
    app: App, receive: Callable[[], Awaitable[Event]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """Do what the server's lifespan events ask for; a listener's failure is logged and becomes ``startup.failed``."""
    server = OuterServer(app)
    await _expect(receive, "lifespan.startup")
    try:
        await server.begin()
    except Exception as error:
        error_logger.exception("app %s could not start", app.name)
        await send({"type": "lifespan.startup.failed", "message": _described(error)})
        return
    await send({"type": "lifespan.startup.complete"})
    try:
        await _expect(receive, "lifespan.shutdown")
    finally:
        failure = await _end(server)
    if failure is None:
        await send({"type": "lifespan.shutdown.complete"})
    else:
        await send({"type": "lifespan.shutdown.failed", "message": _described(failure)})


async def _expect(receive: Callable[[], Awaitable[Event]], kind: str) -> None:
    event = await receive()
    if event["type"] != kind:
        raise RuntimeError(f"lifespan event {event['type']!r}, expected {kind!r}")


async def _end(server: OuterServer) -> Exception | None:
    try:
        await server.end()
    except Exception as error:
        error_logger.exception("app %s could not stop", server.app.name)
        return error
    return None


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
