"""``FerrowsProtocol``: what every connection of a server has, whatever is spoken on it."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from ..admission import Admission

__all__ = ["ConnInfo", "FerrowsProtocol", "SanicProtocol"]


class ConnInfo:
    """Who is connected to whom. Addresses are as the socket gives them; a Unix socket's are strings."""

    begun: float | None = None
    """The loop's time at which the connection was let in, where TLS or a proxy's header came before the protocol."""

    __slots__ = ("_ctx", "_transport", "_unix", "lost", "peername", "ssl")

    def __init__(self, transport: asyncio.BaseTransport, unix: str | None = None) -> None:
        # Asked for now, as the log names the peer when the socket is closed already; the rest costs system calls.
        self.peername: Any = transport.get_extra_info("peername")
        self.ssl = transport.get_extra_info("sslcontext") is not None
        self.lost = False
        self._transport = transport
        self._unix = unix
        self._ctx: SimpleNamespace | None = None

    @property
    def sockname(self) -> Any:
        return self._transport.get_extra_info("sockname") or self._unix

    @property
    def ctx(self) -> SimpleNamespace:
        """The application's own, for as long as the connection lasts."""
        if self._ctx is None:
            self._ctx = SimpleNamespace()
        return self._ctx

    @property
    def client_ip(self) -> str:
        """The peer's address; empty on a Unix socket."""
        return str(self.peername[0]) if isinstance(self.peername, tuple) else ""

    @property
    def client_port(self) -> int:
        return int(self.peername[1]) if isinstance(self.peername, tuple) else 0

    @property
    def client(self) -> str:
        """The peer's address as a URL writes it."""
        return f"[{self.client_ip}]" if ":" in self.client_ip else self.client_ip

    @property
    def server(self) -> str:
        """Our address, with its port; the path of a Unix socket."""
        sockname = self.sockname
        if not isinstance(sockname, tuple):
            return str(sockname or "")
        host, port = sockname[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def server_port(self) -> int:
        sockname = self.sockname
        return int(sockname[1]) if isinstance(sockname, tuple) else 0

    @property
    def cert(self) -> dict[str, Any]:
        """The client's certificate; empty without one."""
        certificate: dict[str, Any] | None = self._transport.get_extra_info("peercert")
        return certificate or {}


class FerrowsProtocol(asyncio.Protocol):
    """Keeps the transport, holds writers back while the peer does not read, and knows the server's connections.

    ``connections`` is the server's set of live protocols; ``signal`` an object whose ``stopped`` tells that the server
    stops; ``unix`` the path of its socket, if it listens on one. Further keyword arguments are ignored, so that a
    server may pass the same ones to every protocol.
    """

    # There is one for each connection, and with more than 30 attributes a __dict__ alone takes 2 KiB. It is there for
    # what subclasses and applications add, and for what few connections need: these attributes have a default here.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "_paused",
        "_unix",
        "app",
        "conn_info",
        "connections",
        "loop",
        "signal",
        "task",
        "transport",
    )

    recv_buffer: bytes | bytearray = b""
    _drain_waiters: list[asyncio.Future[None]] | None = None
    _more: asyncio.Future[None] | None = None
    _abort_timer: asyncio.TimerHandle | None = None
    # Where connections are counted by more than the server's set.
    admission: Admission | None = None

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        app: Any,
        signal: Any = None,
        connections: set[Any] | None = None,
        unix: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.loop = loop
        self.app = app
        self.signal = signal
        self.connections: set[Any] = connections if connections is not None else set()
        self.transport: asyncio.Transport | None = None
        self.conn_info: ConnInfo | None = None
        self.task: asyncio.Task[None] | None = None
        self._unix = unix
        self._paused = False

    @property
    def ctx(self) -> SimpleNamespace | None:
        """The connection's own namespace; None before there is a connection."""
        return None if self.conn_info is None else self.conn_info.ctx

    @property
    def lost(self) -> bool:
        """Whether the connection is gone."""
        return self.conn_info is None or self.conn_info.lost

    # ----------------------------------------------------------------------------------------------------------------
    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport, unless the server has too many. TCP_NODELAY is set where the loop has not done it."""
        self.transport = cast(asyncio.Transport, transport)
        if self.conn_info is None:
            self.conn_info = ConnInfo(transport, self._unix)
        self.connections.add(self)
        admission = getattr(self.signal, "admission", None) if self.conn_info.begun is None else None
        if admission is not None and not (
            # Most servers have one limit, and it is not reached.
            (len(self.connections) <= admission.most and not admission.counts) or admission.admit(self, transport)
        ):
            self.connections.discard(self)
            self.conn_info.lost = True
            return
        # The loops' own have it: uvloop's from the loop, asyncio's from the loop or from the listening socket.
        if not type(transport).__module__.startswith(("asyncio.", "uvloop.")):
            connection = transport.get_extra_info("socket")
            if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let go of everything that waits for the connection."""
        self.connections.discard(self)
        if self.admission is not None:
            self.admission.lost(self)
        if self.conn_info is not None:
            self.conn_info.lost = True
        if self._abort_timer is not None:
            self._abort_timer.cancel()
            self._abort_timer = None
        self._paused = False
        self._wake_writers()
        self._wake_reader()

    def data_received(self, data: bytes) -> None:
        """Keep what arrived, for :meth:`receive_more`."""
        if isinstance(self.recv_buffer, bytes):
            self.recv_buffer = bytearray(self.recv_buffer)
        self.recv_buffer += data
        self._wake_reader()

    def eof_received(self) -> bool | None:
        """Take note that the peer sends no more; the transport closes itself."""
        return None

    def pause_writing(self) -> None:
        """Hold writers back: the transport's buffer is full."""
        self._paused = True

    def resume_writing(self) -> None:
        """Let writers go on."""
        self._paused = False
        self._wake_writers()

    # ----------------------------------------------------------------------------------------------------------------
    # What others call

    async def send(self, data: bytes) -> None:
        """Write, and wait while the peer does not read. Does nothing once the connection is gone."""
        if self.transport is not None and not self.lost:
            self.transport.write(data)
            await self.drain()

    async def drain(self) -> None:
        """Wait while the transport's buffer is full."""
        while self._paused:
            waiter = self.loop.create_future()
            if self._drain_waiters is None:
                self._drain_waiters = []
            self._drain_waiters.append(waiter)
            await waiter

    async def receive_more(self) -> None:
        """Wait until more data has arrived, or the connection is gone."""
        if self.lost:
            return
        if self._more is None:
            self._more = self.loop.create_future()
        # Shielded: several may wait, and one that gives up must not take the others with it.
        await asyncio.shield(self._more)

    def close(self, timeout: float | None = None) -> None:
        """Close once everything is written, at the latest after ``timeout`` seconds (GRACEFUL_SHUTDOWN_TIMEOUT)."""
        if self.transport is None or self.lost:
            return
        self.transport.close()
        if timeout is None:
            timeout = self.app.config.GRACEFUL_SHUTDOWN_TIMEOUT
        if self._abort_timer is None:
            self._abort_timer = self.loop.call_later(timeout, self.abort)

    def abort(self) -> None:
        """Close at once; what is not written yet is dropped."""
        if self.transport is not None and not self.lost:
            self.transport.abort()

    def shutdown(self, code: int = 1001) -> None:
        """Begin an orderly end; ``code`` is a WebSocket's close code."""
        self.close()

    def _wake_writers(self) -> None:
        if self._drain_waiters:
            waiters, self._drain_waiters = self._drain_waiters, None
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def _wake_reader(self) -> None:
        if self._more is not None:
            waiter, self._more = self._more, None
            if not waiter.done():
                waiter.set_result(None)


SanicProtocol = FerrowsProtocol
"""The name that code written for Sanic knows it by."""
