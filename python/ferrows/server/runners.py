"""``serve``: run an app on a loop, from the first listener to the last, with signals and the start banner."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal as signal_module
import socket
import ssl as ssl_module
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Any, Final

from .._codec import CODEC
from ..exceptions import ServerError
from ..log import logger
from .async_server import AsyncioServer
from .goodbye import get_goodbye
from .loop import loop_name, new_event_loop
from .protocols.http_protocol import HttpProtocol
from .socket import bind_unix_socket

if TYPE_CHECKING:
    from ..app import App

__all__ = ["Signal", "serve"]


@dataclass(slots=True)
class Signal:
    """Tells the connections of a server that it stops."""

    stopped: bool = False


def serve(
    host: str | None,
    port: int | None,
    app: App,
    ssl: ssl_module.SSLContext | None = None,
    sock: socket.socket | None = None,
    unix: str | None = None,
    reuse_port: bool = False,
    loop: asyncio.AbstractEventLoop | None = None,
    protocol: type[asyncio.Protocol] = HttpProtocol,
    backlog: int = 100,
    register_sys_signals: bool = True,
    run_multiple: bool = False,
    run_async: bool = False,
    connections: set[Any] | None = None,
    signal: Signal | None = None,
    state: dict[str, Any] | None = None,
    asyncio_server_kwargs: Mapping[str, Any] | None = None,
    version: int | str = 1,
) -> AsyncioServer | None:
    """Serve an app on one address in this process, until it is stopped.

    With ``run_async`` it returns an :class:`AsyncioServer` to await instead, on ``loop`` or the running one. Else it
    runs on ``loop``, or on one of its own that it closes, and returns None when SIGINT, SIGTERM or ``App.stop`` has
    ended the server. ``ssl`` is a context. ``asyncio_server_kwargs`` go to the loop's ``create_server``.
    ``run_multiple`` says that the process is one of several; it changes nothing here.

    Raises OSError where the address cannot be bound, ValueError for configuration that is wrong, ServerError for
    HTTP/3, and what a listener of the start raises.
    """
    if str(version) not in ("1", "1.1"):
        raise ServerError(f"HTTP version {version} is not supported (HTTP/3 needs the package aioquic), permitted: 1")
    app.finalize()
    connections = set() if connections is None else connections
    signal = Signal() if signal is None else signal
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
    listen = _Listener(
        make_protocol, host, port, sock, unix, ssl, reuse_port, backlog, dict(asyncio_server_kwargs or {})
    )
    if run_async:
        loop = asyncio.get_running_loop() if loop is None else loop
        return AsyncioServer(app, loop, listen.on(loop), connections, unix=unix, signal=signal)
    owned = loop is None
    loop = new_event_loop(use_uvloop=app.config.USE_UVLOOP) if loop is None else loop
    loop.set_debug(app.debug)
    listening = listen.on(loop, start_serving=False)
    server = AsyncioServer(app, loop, listening, connections, unix=unix, signal=signal)
    try:
        asyncio.set_event_loop(loop)
        _run(server, register_sys_signals, secure=ssl is not None)
    finally:
        if server.server is None:
            listening.close()  # A coroutine that nobody got to await.
        if owned:
            _close_loop(loop, server)
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

    make_protocol: Callable[..., asyncio.Protocol]
    host: str | None
    port: int | None
    sock: socket.socket | None
    unix: str | None
    ssl: ssl_module.SSLContext | None
    reuse_port: bool
    backlog: int
    options: dict[str, Any]

    async def on(self, loop: asyncio.AbstractEventLoop, *, start_serving: bool = True) -> asyncio.AbstractServer:
        make_protocol = functools.partial(self.make_protocol, loop=loop)
        options: dict[str, Any] = {"ssl": self.ssl, "backlog": self.backlog, "start_serving": start_serving}
        options.update(self.options)
        sock = bind_unix_socket(self.unix, backlog=self.backlog) if self.unix else self.sock
        if sock is None:
            return await loop.create_server(
                make_protocol, self.host, self.port, reuse_port=self.reuse_port or None, **options
            )
        if sock.family == getattr(socket, "AF_UNIX", None):
            return await loop.create_unix_server(make_protocol, sock=sock, **options)
        return await loop.create_server(make_protocol, sock=sock, **options)


# --------------------------------------------------------------------------------------------------------------------
# The life of a blocking server


def _run(server: AsyncioServer, register_sys_signals: bool, *, secure: bool) -> None:
    loop = server.loop
    main = loop.create_task(_live(server, secure=secure))
    with _signals(server) if register_sys_signals else contextlib.nullcontext():
        while True:
            try:
                loop.run_until_complete(main)
            except KeyboardInterrupt:
                # Where signals cannot be handled by the loop: not in the main thread's, or on Windows.
                server.request_stop()
                continue
            return


async def _live(server: AsyncioServer, *, secure: bool) -> None:
    app = server.app
    await app.trigger_listeners("main_process_start")
    try:
        starting = asyncio.ensure_future(server._start())
        stopping = asyncio.ensure_future(server.wait_for_stop())
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            # Stopped by a signal while a listener of the start still runs.
            starting.cancel()
            await asyncio.wait((starting,))
            if not starting.cancelled():
                starting.result()
            return
        try:
            starting.result()
            if app.config.MOTD:
                _log_banner(server, secure=secure)
            await stopping
        finally:
            stopping.cancel()
            await server.stop()
            logger.info(get_goodbye())
    finally:
        await app.trigger_listeners("main_process_stop")


@contextlib.contextmanager
def _signals(server: AsyncioServer) -> Iterator[None]:
    """Let SIGINT and SIGTERM stop the server, and a second one stop it at once; as before at the end."""
    handled = []
    for number in (signal_module.SIGINT, signal_module.SIGTERM):
        try:
            server.loop.add_signal_handler(number, server.request_stop)
        except (NotImplementedError, RuntimeError, ValueError):
            logger.debug("signal %s cannot be handled by the event loop here", number)
        else:
            handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            server.loop.remove_signal_handler(number)


def _close_loop(loop: asyncio.AbstractEventLoop, server: AsyncioServer) -> None:
    """Cancel what still runs and close the loop."""
    try:
        remaining = asyncio.all_tasks(loop)
        for task in remaining:
            task.cancel()
        if remaining:
            loop.run_until_complete(asyncio.wait(remaining, timeout=_CANCEL_TIMEOUT))
        loop.run_until_complete(loop.shutdown_asyncgens())
        if not server.forced:
            loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


_CANCEL_TIMEOUT: Final = 2.0


def _log_banner(server: AsyncioServer, *, secure: bool) -> None:
    where = " ".join(_addresses(server, secure=secure))
    logger.info(
        "%s: ferrows %s on %s (%s, %s)%s, Ctrl-C stops",
        server.app.name,
        installed_version("ferrows"),
        where,
        loop_name(server.loop),
        CODEC,
        ", debug" if server.app.debug else "",
    )


def _addresses(server: AsyncioServer, *, secure: bool) -> list[str]:
    """The addresses that a person can click on."""
    scheme = "https" if secure else "http"
    addresses = []
    for sock in server.sockets:
        address = sock.getsockname()
        if not isinstance(address, tuple):
            addresses.append(f"unix:{server.unix or address}")
            continue
        host, port = address[:2]
        if host in ("0.0.0.0", "::"):
            addresses.append(f"{scheme}://localhost:{port} (all interfaces)")
        else:
            addresses.append(f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}")
    return addresses
