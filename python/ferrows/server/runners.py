"""``serve``: run an app on a loop, from the first listener to the last, with signals and the start banner."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal as signal_module
import socket
import ssl as ssl_module
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ..exceptions import ServerError
from ..log import error_logger, logger
from .accepting import BatchAccepting
from .admission import Admission
from .async_server import AsyncioServer
from .banner import log_banner
from .beginning import Entrance
from .descriptors import keep_a_spare
from .goodbye import stop_line, stopped_line
from .interrupts import acting_on
from .joined import JoinedServers
from .loop import loop_name, new_event_loop
from .protocols.http_protocol import HttpProtocol
from .proxy_protocol import behind_proxies
from .secure import TLSEntrance
from .socket import bind_unix_socket, check_port, shared_port

if TYPE_CHECKING:
    from ..app import App
    from .worker import Worker

__all__ = ["Signal", "serve"]


@dataclass(slots=True)
class Signal:
    """Tells the connections of a server that it stops, and whether there is room for another."""

    stopped: bool = False
    admission: Admission | None = None


_OWN_SIGNAL: Final = Signal()
"""Stands for one of the server's own; shared, the stop of one server would stop them all."""


def serve(
    host: str | None,
    port: int | None,
    app: App,
    ssl: ssl_module.SSLContext | None = None,
    sock: socket.socket | Sequence[socket.socket] | None = None,
    unix: str | None = None,
    reuse_port: bool = False,
    loop: asyncio.AbstractEventLoop | None = None,
    protocol: type[asyncio.Protocol] = HttpProtocol,
    backlog: int = 100,
    register_sys_signals: bool = True,
    run_multiple: bool = False,
    run_async: bool = False,
    connections: set[Any] | None = None,
    signal: Signal | None = _OWN_SIGNAL,
    state: dict[str, Any] | None = None,
    asyncio_server_kwargs: Mapping[str, Any] | None = None,
    version: int | str = 1,
    worker: Worker | None = None,
) -> AsyncioServer | None:
    """Serve an app on one address in this process, until it is stopped.

    With ``run_async`` it returns an :class:`AsyncioServer` to await instead, on ``loop`` or the running one. Else it
    runs on ``loop``, or on one of its own that it closes, and returns None when SIGINT, SIGTERM or ``App.stop`` has
    ended the server; a handler's SystemExit ends it as well and is raised then. ``ssl`` is a context.
    ``asyncio_server_kwargs`` go to the loop's ``create_server``. ``sock`` may be several listening sockets.
    ``run_multiple`` says that the process is one of several: ``main_process_*`` listeners and the banner are then
    another one's. ``worker`` is the process as a supervisor's, which then stops it in place of signals.

    Raises OSError where the address cannot be bound, ValueError for configuration that is wrong and for a port that is
    none, ServerError for HTTP/3, and what a listener of the start raises.
    """
    check_port(port)
    if str(version) not in ("1", "1.1"):
        raise ServerError(f"HTTP version {version} is not spoken, permitted: 1")
    app.finalize()
    connections = set() if connections is None else connections
    signal = Signal() if signal is None or signal is _OWN_SIGNAL else signal
    signal.admission = Admission(app.config)
    factory: Callable[..., asyncio.Protocol] = protocol
    make_protocol = functools.partial(
        factory,
        app=app,
        signal=signal,
        connections=connections,
        state={} if state is None else state,
        unix=unix,
        **_websocket_arguments(app, protocol),
    )
    options = dict(asyncio_server_kwargs or {})
    entrance = Entrance(make_protocol, app.config, connections, signal.admission, unix)
    tls = TLSEntrance.taken(entrance, ssl, options)
    make_first = behind_proxies(entrance, tls) or (make_protocol if tls is None else tls.make)
    listen = _Listener(make_first, host, port, sock, unix, reuse_port, backlog, options)
    if run_async:
        loop = asyncio.get_running_loop() if loop is None else loop
        return AsyncioServer(app, loop, listen.on(loop), connections, unix=unix, signal=signal)
    owned = loop is None
    multiple = run_multiple or worker is not None
    loop = new_event_loop(use_uvloop=app.config.USE_UVLOOP) if loop is None else loop
    loop.set_debug(app.debug)
    listening = listen.on(loop, start_serving=False)
    # What several processes listen on is not one's to remove.
    server = AsyncioServer(app, loop, listening, connections, unix=None if multiple else unix, signal=signal)
    stops: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if worker is not None:
        stops = worker.attached(server)
    elif register_sys_signals:
        stops = _signals(server)
    executor = ThreadPoolExecutor(thread_name_prefix="ferrows")
    try:
        asyncio.set_event_loop(loop)
        if owned:
            loop.set_default_executor(executor)
        with stops:
            try:
                _run(server, _live_as_one(server, worker) if multiple else _live(server, secure=ssl is not None))
            finally:
                if owned:
                    _clear_loop(loop, server, executor)
    finally:
        if server.server is None:
            listening.close()  # A coroutine that nobody got to await.
        if owned:
            asyncio.set_event_loop(None)
            loop.close()
    server.raise_exit()
    return None


def _websocket_arguments(app: App, protocol: Any) -> dict[str, Any]:
    """What the constructor of a protocol for WebSockets takes; other protocols need not know it."""
    if not hasattr(protocol, "websocket_handshake"):
        return {}
    settings = app.config.websocket_settings()
    return {
        "websocket_timeout": settings.timeout,
        "websocket_max_size": settings.max_size,
        "websocket_ping_interval": settings.ping_interval,
        "websocket_ping_timeout": settings.ping_timeout,
    }


@dataclass(slots=True)
class _Listener:
    """Where to listen and what speaks there."""

    make_protocol: Callable[..., asyncio.BaseProtocol]
    host: str | None
    port: int | None
    sock: socket.socket | Sequence[socket.socket] | None
    unix: str | None
    reuse_port: bool
    backlog: int
    options: dict[str, Any]

    async def on(self, loop: asyncio.AbstractEventLoop, *, start_serving: bool = True) -> Any:
        make_protocol = functools.partial(self.make_protocol, loop=loop)
        options: dict[str, Any] = {"backlog": self.backlog, **self.options}
        if loop_name(loop) != "uvloop":
            # asyncio's own loop accepts up to `backlog` connections in a turn.
            server = await self._begin(loop, make_protocol, {"start_serving": start_serving, **options})
            keep_a_spare(server)
            return server

        def listen(make_protocol: Callable[[], asyncio.BaseProtocol], sock: socket.socket) -> Any:
            return _listen_on(loop, make_protocol, sock, {**options, "start_serving": True})

        accepting = BatchAccepting(loop, make_protocol, listen)
        first = self._begin(loop, accepting.make_protocol, {"start_serving": start_serving, **options})
        return await accepting.begin(first)

    async def _begin(
        self,
        loop: asyncio.AbstractEventLoop,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        options: dict[str, Any],
    ) -> Any:
        if self.sock is None and self.unix:
            self.sock = bind_unix_socket(self.unix, backlog=self.backlog)
        if isinstance(self.sock, socket.socket):
            return await _listen_on(loop, make_protocol, self.sock, options)
        if self.sock is not None:
            return JoinedServers([await _listen_on(loop, make_protocol, sock, options) for sock in self.sock])
        port = self.port or shared_port(self.host)
        try:
            return await loop.create_server(
                make_protocol, self.host, port, reuse_port=self.reuse_port or None, **options
            )
        except socket.gaierror as error:
            # No loop says which name it was.
            raise socket.gaierror(error.errno, f"{error.strerror}: host {self.host!r}") from None


def _listen_on(
    loop: asyncio.AbstractEventLoop,
    make_protocol: Callable[[], asyncio.BaseProtocol],
    sock: socket.socket,
    options: dict[str, Any],
) -> Coroutine[Any, Any, asyncio.AbstractServer]:
    unix = sock.family == getattr(socket, "AF_UNIX", None)
    if not unix:
        # Connections have it from the socket that they come by. asyncio sets it only where the socket was made with the
        # number of its protocol, which most are not, and then a burst of answers waits for the client's delayed ACK.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if unix and sys.version_info >= (3, 13):
        # The path is `AsyncioServer`'s to remove, or is another's, such as systemd's: never one loop server's.
        options = {"cleanup_socket": False, **options}
    listen: Any = loop.create_unix_server if unix else loop.create_server
    listening: Coroutine[Any, Any, asyncio.AbstractServer] = listen(make_protocol, sock=sock, **options)
    return listening


# --------------------------------------------------------------------------------------------------------------------
# The life of a blocking server


def _run(server: AsyncioServer, life: Coroutine[Any, Any, None]) -> None:
    loop = server.loop
    main = loop.create_task(life)
    while True:
        try:
            loop.run_until_complete(main)
            return
        except KeyboardInterrupt:
            # Where signals cannot be handled by the loop: not in the main thread's, or on Windows.
            if main.done():
                raise
            _stop_for(server, signal_module.SIGINT)
        except SystemExit as error:
            # A task's, which the loop lets through.
            if main.done():
                raise
            server.request_exit(error)


async def _live(server: AsyncioServer, *, secure: bool) -> None:
    app = server.app

    def announce() -> None:
        if app.config.MOTD:
            log_banner(app, server.sockets, loop_name(server.loop), unix=server.unix, secure=secure)

    await app.trigger_listeners("main_process_start")
    try:
        await _serve(server, announce, log=logger.info)
    finally:
        await app.trigger_listeners("main_process_stop")


async def _live_as_one(server: AsyncioServer, worker: Worker | None) -> None:
    """Live as one of several processes: what there is once for all of them is another one's."""
    await _serve(server, lambda: None if worker is None else worker.report_ready(server))


async def _serve(
    server: AsyncioServer, announce: Callable[[], None], log: Callable[[str], None] = lambda _: None
) -> None:
    """Start, announce that, and stop when asked to, also where that comes before the start is over."""
    starting = asyncio.ensure_future(server._start())
    stopping = asyncio.ensure_future(server.wait_for_stop())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        # Stopped by a signal while a listener of the start still runs.
        log(f"{server.stop_reason}: the start is broken off")
        since = server.loop.time()
        starting.cancel()
        await asyncio.wait((starting,))
        if not starting.cancelled():
            starting.result()
        log(stopped_line(server.loop.time() - since))
        return
    begun: float | None = None
    try:
        starting.result()
        announce()
        await stopping
        begun = server.loop.time()
        count = len(server.connections)
        log(stop_line(server.app.config, server.stop_reason, f"{count} connection{'' if count == 1 else 's'}"))
    finally:
        stopping.cancel()
        await server.stop()
    log(stopped_line(server.loop.time() - begun))


def _signals(server: AsyncioServer) -> contextlib.AbstractContextManager[None]:
    """Let SIGINT and SIGTERM stop the server, and a second one stop it at once; as before at the end."""
    numbers = (signal_module.SIGINT, signal_module.SIGTERM)
    return acting_on(server.loop, {number: functools.partial(_stop_for, server, number) for number in numbers})


def _stop_for(server: AsyncioServer, number: signal_module.Signals) -> None:
    if server.stop_requested and not server.forced:
        logger.info("%s again: stopping at once", number.name)
    server.request_stop(number.name)


def _clear_loop(loop: asyncio.AbstractEventLoop, server: AsyncioServer, executor: ThreadPoolExecutor) -> None:
    """Cancel what still runs, and end the threads of the loop's executor as far as there is time."""
    try:
        remaining = asyncio.all_tasks(loop)
        for task in remaining:
            task.cancel()
        if remaining:
            loop.run_until_complete(asyncio.wait(remaining, timeout=_CANCEL_TIMEOUT))
        loop.run_until_complete(loop.shutdown_asyncgens())
        if not loop.run_until_complete(_executor_ends(executor, server)) and not server.forced:
            error_logger.warning("a thread of the executor still runs: nothing can end it, and Python waits for it")
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


async def _executor_ends(executor: ThreadPoolExecutor, server: AsyncioServer) -> bool:
    """Wait for an executor's threads, as long as there is grace; tell whether they have ended.

    The loop's own ``shutdown_default_executor`` takes a time only from Python 3.12 on, and not on every loop.
    """
    loop = server.loop
    ended = asyncio.Event()

    def wait() -> None:
        executor.shutdown(wait=True)
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits any more.
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait, name="ferrows-executor-end", daemon=True).start()
    waiting = [loop.create_task(ended.wait()), loop.create_task(server.wait_for_force())]
    try:
        # Even without grace a thread that has nothing to do needs a moment to end.
        timeout = max(server.grace, _THREAD_TIMEOUT)
        await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
    return ended.is_set()


_THREAD_TIMEOUT: Final = 0.1
_CANCEL_TIMEOUT: Final = 2.0
