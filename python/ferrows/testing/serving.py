"""An app that is served for a test: in memory, or on a socket of this machine."""

from __future__ import annotations

import asyncio
import functools
import itertools
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ..server.async_server import AsyncioServer
from ..server.runners import Signal, _websocket_arguments
from .transport import connect_in_memory

if TYPE_CHECKING:
    from ..app import App

__all__ = ["Serving"]

_PORTS: Final = itertools.cycle(range(49152, 65536))
"""Of clients in memory, so that each connection has its own."""


class Serving:
    """An app and what serves it.

    ``over`` is "memory" or "socket". In memory connections can be made before :meth:`start`, without the listeners of
    the server's life.
    """

    def __init__(self, app: App, over: str, protocol: type[asyncio.Protocol] | None, *, secure: bool) -> None:
        if over not in ("memory", "socket"):
            raise ValueError(f"over is {over!r}, permitted: 'memory', 'socket'")
        if secure and over == "socket":
            raise ValueError("a client over a socket has no TLS, permitted: base_url with http")
        self.app = app
        self.over = over
        self.started = False
        self._protocol = protocol or app.default_protocol()
        self._secure = secure
        self._server: AsyncioServer | None = None
        self._make_protocol: Callable[[], asyncio.BaseProtocol] | None = None

    async def start(self) -> None:
        """Run the server's start with its listeners, and accept connections."""
        loop = asyncio.get_running_loop()
        if self.over == "socket":
            self._server = await self.app.create_server("127.0.0.1", 0, protocol=self._protocol)
        elif self._server is None:
            self._serve_in_memory(loop)
        assert self._server is not None
        await self._server.__aenter__()
        self.started = True

    async def stop(self, timeout: float) -> None:
        """End every connection, and run the listeners of the stop if the start was run; graceful for ``timeout``."""
        server, self._server, self._make_protocol = self._server, None, None
        started, self.started = self.started, False
        if server is None:
            return
        # Asked a second time to stop, it cancels what is not done.
        hurry = server.loop.call_later(timeout, server.request_stop)
        try:
            if started:
                await server.stop()
            else:
                server.close()
                await server.wait_closed()
        finally:
            hurry.cancel()

    async def dial(self, make_client: Callable[[], asyncio.Protocol]) -> tuple[asyncio.BaseTransport, Any]:
        """Connect to the app, as ``loop.create_connection`` does."""
        loop = asyncio.get_running_loop()
        if self.over == "socket":
            if self._server is None:
                raise RuntimeError("a client over a socket must be entered first: with TestClient(app, over='socket')")
            host, port = self._server.sockets[0].getsockname()[:2]
            return await loop.create_connection(make_client, host, port)
        if self._make_protocol is None:
            self.app.finalize()
            self._serve_in_memory(loop)
        assert self._make_protocol is not None
        client, _ = connect_in_memory(
            make_client,
            self._make_protocol,
            client_address=("127.0.0.1", next(_PORTS)),
            server_address=("127.0.0.1", 443 if self._secure else 80),
            server_extra={"sslcontext": _context()} if self._secure else None,
        )
        return client, client.get_protocol()

    def _serve_in_memory(self, loop: asyncio.AbstractEventLoop) -> None:
        listening: asyncio.Future[asyncio.AbstractServer] = loop.create_future()
        listening.set_result(_MemoryServer(loop))
        connections: set[Any] = set()
        signal = Signal()
        self._server = AsyncioServer(self.app, loop, listening, connections, signal=signal)
        factory: Callable[..., asyncio.BaseProtocol] = self._protocol
        self._make_protocol = functools.partial(
            factory,
            loop=loop,
            app=self.app,
            signal=signal,
            connections=connections,
            state={},
            unix=None,
            **_websocket_arguments(self.app, self._protocol),
        )


@functools.lru_cache(maxsize=1)
def _context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


class _MemoryServer(asyncio.AbstractServer):
    """What listens in memory: nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._serving = True

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def is_serving(self) -> bool:
        return self._serving

    async def start_serving(self) -> None:
        self._serving = True

    async def serve_forever(self) -> None:
        await self._loop.create_future()

    def close(self) -> None:
        self._serving = False

    async def wait_closed(self) -> None:
        return
