"""``AsyncioServer``: a listening server and the steps of its life."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..log import error_logger
from .socket import remove_unix_socket

if TYPE_CHECKING:
    from types import TracebackType

    from ..app import App

__all__ = ["AsyncioServer"]

GOING_AWAY: Final = 1001
"""The close code that WebSockets get when the server stops (RFC 6455 §7.4.1)."""

SERVICE_RESTART: Final = 1012
"""The one that they get when another worker takes over: come back."""

_SPREAD: Final = 0.001
"""Seconds that each WebSocket adds to the time over which their Closes are spread."""

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
        self._restarts = False
        self.stop_reason = ""
        # A worker's: asks its supervisor to stop all of them.
        self.ask_supervisor: Callable[[], bool] | None = None

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

        Responses under way are finished, WebSockets get a Close with 1001, spread over up to ``DRAIN_TIMEOUT`` seconds.
        What is left after ``GRACEFUL_SHUTDOWN_TIMEOUT`` seconds is cancelled and dropped.
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
        except asyncio.CancelledError:
            # Not a failure: somebody does not want it any more.
            await self._take_back()
            raise
        except BaseException:
            # A server that could not start has nothing to stop gracefully, but it must not keep its port.
            self._forced.set()
            self._done.update(("before_stop", "after_stop"))
            await self._stop()
            await self.app.shutdown_tasks(_CANCEL_TIMEOUT)
            raise

    async def _take_back(self) -> None:
        """End what a start had begun when it was broken off: for each step the one that belongs to it."""
        for step, opposite in (("after_start", "before_stop"), ("before_start", "after_stop")):
            if step not in self._done:
                self._done.add(opposite)
        await self.stop()
        await self.app.shutdown_tasks(_CANCEL_TIMEOUT)

    async def stop(self) -> None:
        """Do what remains of the end: wait ``DRAIN_DELAY``, accept no more, ``before_stop``, ``close``, ``after_stop``.

        What a second :meth:`request_stop` finds undone is cancelled, and so are listeners that are not done within
        ``GRACEFUL_SHUTDOWN_TIMEOUT``.
        """
        self._stop_requested.set()
        await self._stop()

    def request_stop(self, why: str = "", *, restart: bool = False) -> None:
        """Ask :meth:`serve_forever` to end; asked again, it ends without grace.

        ``why`` is for the log of who runs the server. ``restart`` says that another process goes on accepting on the
        same socket: WebSockets then get 1012, and ``DRAIN_DELAY`` is not waited for.
        """
        if self._stop_requested.is_set():
            self._forced.set()
        else:
            self._restarts = restart
            self.stop_reason = why
        self._stop_requested.set()

    def stop_app(self) -> None:
        """What ``App.stop`` does: end this server, or have the supervisor end all workers."""
        if self.ask_supervisor is None or not self.ask_supervisor():
            self.request_stop("App.stop")

    def request_exit(self, error: SystemExit | KeyboardInterrupt) -> None:
        """Ask for a graceful end because of what a handler raised; several of them do not make it graceless."""
        if not self._stop_requested.is_set():
            self.stop_reason = f"{type(error).__name__} in a handler"
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
    def is_ready(self) -> bool:
        """Whether new clients may be sent here: connections are accepted, and nobody has asked the service to stop."""
        return self.is_serving() and (self._restarts or not self.stop_requested)

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
        await self._delay()
        await self._stop_accepting()
        await self._unless_forced(self.before_stop(), "before_server_stop")
        await self._begin_to_close()
        await self._unless_forced(self.after_stop(), "after_server_stop")

    async def _delay(self) -> None:
        """Go on accepting for ``DRAIN_DELAY`` seconds, so that balancers see that the server is not ready any more."""
        delay = self.app.config.DRAIN_DELAY
        if delay and self.is_serving() and not self._restarts:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._forced.wait()

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

    async def _unless_forced(self, step: Awaitable[None], listeners: str) -> None:
        task = asyncio.ensure_future(step)
        forced = asyncio.ensure_future(self._forced.wait())
        # What is left of the grace; but listeners that come last are not to pay for those before them.
        timeout = max(self.grace, _CANCEL_TIMEOUT)
        try:
            await asyncio.wait((task, forced), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and not forced.done():
                error_logger.error("listeners of %s took too long and were cancelled", listeners)
        finally:
            forced.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait((task,), timeout=_CANCEL_TIMEOUT)
        if task.done() and not task.cancelled():
            task.result()

    async def _close_connections(self) -> None:
        await self._stop_accepting()
        await self._drain(self.grace)
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
        told: set[tuple[Any, bool]] = set()
        waiting = self._spread_closes(timeout)
        deadline = self.loop.time() + timeout
        while True:
            later = {connection for _, connection in waiting}
            # One that was still in its TLS handshake comes later, and a request may have become a WebSocket.
            for connection in self.connections - later:
                key = (connection, _is_websocket(connection))
                if key not in told:
                    told.add(key)
                    self._end_connection(connection)
            if not self.connections and not self._handlers():
                return
            if self._forced.is_set() or self.loop.time() >= deadline:
                for connection in later:
                    self._end_connection(connection)
                return
            await asyncio.sleep(_POLL)
            while waiting and waiting[0][0] <= self.loop.time():
                waiting.popleft()

    def _spread_closes(self, timeout: float) -> deque[tuple[float, Any]]:
        """Choose when each WebSocket gets its Close: ten thousand clients must not come back in the same instant.

        A few are told within milliseconds, the more there are the longer it takes, and never longer than
        ``DRAIN_TIMEOUT`` or half of what is left of the grace: the other half is for the closing handshakes.
        """
        websockets = [connection for connection in self.connections if _is_websocket(connection)]
        spread = min(self.app.config.DRAIN_TIMEOUT, len(websockets) * _SPREAD, timeout / 2)
        random.shuffle(websockets)
        slot = spread / max(1, len(websockets))
        now = self.loop.time()
        return deque((now + (place + random.random()) * slot, each) for place, each in enumerate(websockets))

    def _end_connection(self, connection: Any) -> None:
        try:
            connection.shutdown(SERVICE_RESTART if self._restarts else GOING_AWAY)
        except Exception:
            error_logger.exception("connection could not be ended")
            connection.abort()


def _is_websocket(connection: Any) -> bool:
    return getattr(connection, "websocket", None) is not None
