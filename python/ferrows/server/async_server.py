"""``AsyncioServer``: a listening server and the steps of its life."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..log import error_logger
from .socket import remove_unix_socket

if TYPE_CHECKING:
    from types import TracebackType

    from ..app import App

__all__ = ["AsyncioServer"]

GOING_AWAY: Final = 1001
"""The close code that WebSockets get when the server stops (RFC 6455 §7.4.1)."""

_POLL: Final = 0.01
"""Seconds between two looks at whether the last connection is gone."""

_ACCEPT_TURNS: Final = 3
"""Turns of the loop after which a connection that was just accepted has its protocol."""

_CANCEL_TIMEOUT: Final = 2.0
"""Seconds that a cancelled handler has for its ``finally`` blocks."""


class AsyncioServer:
    """A server whose life the caller leads; awaiting it makes it listen.

    Either step by step: ``startup``, ``before_start``, ``start_serving``, ``after_start``, and at the end
    ``before_stop``, ``close``, ``wait_closed``, ``after_stop``. Or as a whole, with :meth:`serve_forever` or
    ``async with``, which do what has not been done. Each step is done once.
    """

    def __init__(
        self,
        app: App,
        loop: asyncio.AbstractEventLoop,
        serve_coro: Awaitable[asyncio.AbstractServer],
        connections: set[Any],
        *,
        unix: str | None = None,
        signal: Any = None,
    ) -> None:
        self.app = app
        self.loop = loop
        self.serve_coro = serve_coro
        self.connections = connections
        self.server: asyncio.AbstractServer | None = None
        self.unix = unix
        self.signal = signal
        self._done: set[str] = set()
        self._stopping = False
        self._closing: asyncio.Task[None] | None = None
        self._stop_requested = asyncio.Event()
        self._forced = asyncio.Event()
        self._exit: SystemExit | None = None
        self._stopping_since: float | None = None

    def __await__(self) -> Generator[Any, None, AsyncioServer]:
        """Bind and listen."""
        return self._listen().__await__()

    async def _listen(self) -> AsyncioServer:
        if self.server is None:
            self.server = await self.serve_coro
            self.app.servers.append(self)
        return self

    async def __aenter__(self) -> AsyncioServer:
        await self._start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.stop()

    # ---- the steps

    async def startup(self) -> None:
        """Trigger "startup" operations on the app: check its configuration and compile its routes."""
        if self._first("startup"):
            self.app.finalize()

    async def before_start(self) -> None:
        """Trigger "before_server_start" listeners, then begin the app's background tasks."""
        if self._first("before_start"):
            await self.app.trigger_listeners("before_server_start")
            await self.app.signal_router.notify("server.init.before", {"app": self.app, "loop": self.loop})
            self.app.start_tasks()

    async def start_serving(self) -> None:
        """Start accepting connections; does nothing where they are accepted already."""
        await self
        assert self.server is not None
        if not self.server.is_serving():
            await self.server.start_serving()

    async def after_start(self) -> None:
        """Trigger "after_server_start" listeners."""
        if self._first("after_start"):
            await self.app.trigger_listeners("after_server_start")
            await self.app.signal_router.notify("server.init.after", {"app": self.app, "loop": self.loop})

    async def before_stop(self) -> None:
        """Trigger "before_server_stop" listeners."""
        if self._first("before_stop"):
            await self.app.signal_router.notify("server.shutdown.before", {"app": self.app, "loop": self.loop})
            await self.app.trigger_listeners("before_server_stop")

    def close(self) -> asyncio.Task[None]:
        """Stop accepting and begin the orderly end of every connection; the task that is returned waits for the last.

        Responses under way are finished, WebSockets get a Close with 1001. What is left after
        ``GRACEFUL_SHUTDOWN_TIMEOUT`` seconds is cancelled and dropped.
        """
        self._stop_requested.set()
        return self._begin_to_close()

    async def wait_closed(self) -> None:
        """Wait until the server is closed, which is for :meth:`close` to begin."""
        await self._stop_requested.wait()
        await asyncio.shield(self.close())

    async def after_stop(self) -> None:
        """Cancel the app's background tasks, then trigger "after_server_stop" listeners."""
        if self._first("after_stop"):
            await self.app.shutdown_tasks(_CANCEL_TIMEOUT)
            await self.app.trigger_listeners("after_server_stop")
            await self.app.signal_router.notify("server.shutdown.after", {"app": self.app, "loop": self.loop})

    # ---- the whole

    async def serve_forever(self) -> None:
        """Serve requests until the server is stopped: by :meth:`close`, ``App.stop``, or a cancellation of this.

        The SystemExit of a handler stops it too and is raised at the end.
        """
        try:
            await self._start()
            await self._stop_requested.wait()
        finally:
            await self._stop()
        self.raise_exit()

    async def _start(self) -> None:
        try:
            await self
            await self.startup()
            await self.before_start()
            await self.start_serving()
            await self.after_start()
        except BaseException:
            # A server that could not start has nothing to stop gracefully, but it must not keep its port.
            self._forced.set()
            self._done.update(("before_stop", "after_stop"))
            await self._stop()
            await self.app.shutdown_tasks(_CANCEL_TIMEOUT)
            raise

    async def stop(self) -> None:
        """Do what remains of the end: accept no more, ``before_stop``, ``close``, ``after_stop``.

        What a second :meth:`request_stop` finds undone is cancelled.
        """
        self._stop_requested.set()
        await self._stop()

    def request_stop(self) -> None:
        """Ask :meth:`serve_forever` to end; asked again, it ends without grace."""
        if self._stop_requested.is_set():
            self._forced.set()
        self._stop_requested.set()

    def request_exit(self, error: SystemExit | KeyboardInterrupt) -> None:
        """Ask for a graceful end because of what a handler raised; several of them do not make it graceless."""
        if isinstance(error, SystemExit) and self._exit is None:
            # Without what its traceback would keep alive.
            self._exit = error.with_traceback(None)
        self._stop_requested.set()

    def raise_exit(self) -> None:
        """Raise the SystemExit that a handler raised, if one did."""
        error, self._exit = self._exit, None
        if error is not None:
            raise error

    @property
    def stop_requested(self) -> bool:
        return self._stop_requested.is_set()

    @property
    def grace(self) -> float:
        """Seconds that are left of ``GRACEFUL_SHUTDOWN_TIMEOUT``."""
        since = self.loop.time() if self._stopping_since is None else self._stopping_since
        return max(0.0, float(since + self.app.config.GRACEFUL_SHUTDOWN_TIMEOUT - self.loop.time()))

    async def wait_for_force(self) -> None:
        """Wait until the end is to come without grace."""
        await self._forced.wait()

    @property
    def forced(self) -> bool:
        """Whether the end is to come without grace."""
        return self._forced.is_set()

    async def wait_for_stop(self) -> None:
        """Wait for :meth:`request_stop`."""
        await self._stop_requested.wait()

    def is_serving(self) -> bool:
        """Returns True if connections are accepted."""
        return self.server is not None and not self._stopping and self.server.is_serving()

    @property
    def sockets(self) -> Sequence[socket.socket]:
        """The listening sockets; none once the server is closed."""
        return () if self.server is None else tuple(getattr(self.server, "sockets", None) or ())

    @property
    def refusals(self) -> Mapping[str, int]:
        """How many connections were refused, by reason: ``connections``, ``address``, ``handshakes``."""
        admission = getattr(self.signal, "admission", None)
        return {} if admission is None else dict(admission.refusals)

    # ---- the end

    def _first(self, step: str) -> bool:
        if step in self._done:
            return False
        self._done.add(step)
        return True

    async def _stop(self) -> None:
        await self._stop_accepting()
        await self._unless_forced(self.before_stop())
        await self._begin_to_close()
        await self._unless_forced(self.after_stop())

    def _begin_to_close(self) -> asyncio.Task[None]:
        if self._closing is None:
            self._begin_to_stop()
            self._closing = self.loop.create_task(self._close_connections())
        return self._closing

    def _begin_to_stop(self) -> None:
        self._stopping = True
        if self._stopping_since is None:
            self._stopping_since = self.loop.time()
        if self.signal is not None:
            self.signal.stopped = True
        for sock in self.sockets:
            # asyncio loses a connection that it has accepted in the very turn in which the listening socket is closed
            # (Server._attach). So it stops to accept first. uvloop has no such reader and does not need it.
            with contextlib.suppress(NotImplementedError):
                self.loop.remove_reader(sock.fileno())

    async def _stop_accepting(self) -> None:
        self._begin_to_stop()
        for _ in range(_ACCEPT_TURNS):
            await asyncio.sleep(0)
        if self.server is not None:
            self.server.close()

    async def _unless_forced(self, step: Awaitable[None]) -> None:
        task = asyncio.ensure_future(step)
        forced = asyncio.ensure_future(self._forced.wait())
        try:
            await asyncio.wait((task, forced), return_when=asyncio.FIRST_COMPLETED)
        finally:
            forced.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait((task,), timeout=_CANCEL_TIMEOUT)
        if task.done() and not task.cancelled():
            task.result()

    async def _close_connections(self) -> None:
        await self._stop_accepting()
        await self._drain(self.app.config.GRACEFUL_SHUTDOWN_TIMEOUT)
        handlers = self._handlers()
        for connection in list(self.connections):
            task = getattr(connection, "task", None)
            if task is not None:
                handlers.add(task)
        if handlers:
            for task in handlers:
                task.cancel()
            await asyncio.wait(handlers, timeout=_CANCEL_TIMEOUT)
        for connection in list(self.connections):
            connection.abort()
        if self.server is not None:
            # Some versions wait here for every connection, and an aborted one is gone only in the next turn.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CANCEL_TIMEOUT):
                    await self.server.wait_closed()
        remove_unix_socket(self.unix)
        if self in self.app.servers:
            self.app.servers.remove(self)

    def _handlers(self) -> set[asyncio.Task[Any]]:
        """The handlers of this server's WebSockets, also of those whose connection is gone; the app may have more."""
        return {
            task
            for task, protocol in self.app.websocket_tasks.items()
            if getattr(protocol, "connections", self.connections) is self.connections
        }

    async def _drain(self, timeout: float) -> None:
        """Tell every connection that the server goes away and wait for the last one, and for the last handler."""
        told: set[Any] = set()
        deadline = self.loop.time() + timeout
        while True:
            # One that was still in its TLS handshake comes later.
            for connection in list(self.connections - told):
                told.add(connection)
                try:
                    connection.shutdown(GOING_AWAY)
                except Exception:
                    error_logger.exception("connection could not be ended")
                    connection.abort()
            if not self.connections and not self._handlers():
                return
            if self._forced.is_set() or self.loop.time() >= deadline:
                return
            await asyncio.sleep(_POLL)
