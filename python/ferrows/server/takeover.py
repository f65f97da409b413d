"""Takeover: a connection that goes on with a foreign asyncio protocol, and stays one of the server's."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from ..exceptions import RequestCancelled, ServerError
from ..log import error_logger

if TYPE_CHECKING:
    from ..request import Request
    from .protocols.http_protocol import HttpProtocol

__all__ = ["Takeover", "take_over"]


def take_over(
    http: HttpProtocol, request: Request, protocol_factory: Callable[[], asyncio.BaseProtocol], *, replay: bool
) -> asyncio.BaseProtocol:
    """Make the foreign protocol and give it the transport and every byte that it has yet to read.

    See :meth:`ferrows.Request.upgrade`.
    """
    transport = http.transport
    if request is not http.request or http.upgraded or request.responded:
        raise ServerError("only a request that has no response yet can be upgraded")
    if transport is None or http.lost or transport.is_closing():
        raise RequestCancelled("the client has left")
    foreign = protocol_factory()
    # Behind it nothing of HTTP can follow, whatever the foreign protocol answers.
    http._log_access(101, 0)
    ended = http._half_closed
    data = http.detach()
    request.responded = True
    takeover: BufferedTakeover | StreamTakeover
    if isinstance(foreign, asyncio.BufferedProtocol):
        takeover = BufferedTakeover(http, foreign)
    else:
        takeover = StreamTakeover(http, cast(asyncio.Protocol, foreign))
    http.connections.discard(http)
    http.connections.add(takeover)
    transport.set_protocol(takeover)
    foreign.connection_made(transport)
    if http._paused:
        foreign.pause_writing()
    if replay:
        data = _encoded(request) + data
    # As asyncio has it, a protocol that closes is told nothing but its end.
    if data and not transport.is_closing():
        takeover.feed(data)
    if ended and not transport.is_closing() and not takeover.eof_received():
        transport.close()
    return foreign


class Takeover(asyncio.BaseProtocol):
    """What the server knows of a connection that was taken over: how to end it, and when it has ended.

    It passes on what the transport calls. ``shutdown`` asks the foreign protocol to end by its ``close``, if it has one
    that can be called without arguments; else the transport is closed once everything is written.
    """

    def __init__(self, http: HttpProtocol, foreign: Any) -> None:
        self.foreign = foreign
        self._http = http
        self._closing: asyncio.Task[None] | None = None

    @property
    def transport(self) -> asyncio.Transport | None:
        return self._http.transport

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The task of the handler, which may go on after the takeover."""
        return self._http.task

    def feed(self, data: bytes) -> None:
        """Give the foreign protocol what was read before."""
        raise NotImplementedError

    def eof_received(self) -> bool | None:
        result: bool | None = self.foreign.eof_received()
        return result

    def pause_writing(self) -> None:
        self.foreign.pause_writing()

    def resume_writing(self) -> None:
        self.foreign.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the foreign protocol's connection and the server's."""
        try:
            self.foreign.connection_lost(exc)
        finally:
            self._http.connections.discard(self)
            self._http.connection_lost(exc)

    def close_if_idle(self) -> bool:
        """Nobody here knows whether it is."""
        return False

    def shutdown(self, code: int = 1001) -> None:
        """Begin an orderly end."""
        close = getattr(self.foreign, "close", None)
        if callable(close):
            result = close()
            if inspect.isawaitable(result):
                self._closing = self._http.loop.create_task(_finish(result))
        elif self.transport is not None:
            self.transport.close()

    def close(self, timeout: float | None = None) -> None:
        """Close the transport once everything is written, at the latest after ``timeout`` seconds."""
        self._http.close(timeout)

    def abort(self) -> None:
        """Close at once."""
        if self._closing is not None:
            self._closing.cancel()
        self._http.abort()


class StreamTakeover(Takeover, asyncio.Protocol):
    """For a foreign protocol that takes data."""

    def __init__(self, http: HttpProtocol, foreign: asyncio.Protocol) -> None:
        super().__init__(http, foreign)
        # The foreign method itself, without a call in between.
        self.data_received = foreign.data_received  # type: ignore[method-assign]

    def feed(self, data: bytes) -> None:
        self.foreign.data_received(data)


class BufferedTakeover(Takeover, asyncio.BufferedProtocol):
    """For a foreign protocol that has the transport read into its own buffer."""

    def __init__(self, http: HttpProtocol, foreign: asyncio.BufferedProtocol) -> None:
        super().__init__(http, foreign)
        self.get_buffer = foreign.get_buffer  # type: ignore[method-assign]
        self.buffer_updated = foreign.buffer_updated  # type: ignore[method-assign]

    def feed(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest and self.transport is not None and not self.transport.is_closing():
            buffer = memoryview(self.foreign.get_buffer(len(rest))).cast("B")
            if not buffer:
                raise ServerError("the protocol that took over has an empty buffer")
            size = min(len(buffer), len(rest))
            buffer[:size] = rest[:size]
            self.foreign.buffer_updated(size)
            rest = rest[size:]


async def _finish(closing: Any) -> None:
    try:
        await closing
    except Exception:
        error_logger.exception("what took a connection over could not be closed")


def _encoded(request: Request) -> bytes:
    """Return a request as octets again: its own, but for spaces around a value and for how its body was framed."""
    lines = [f"{request.method} ".encode() + request.target + f" HTTP/{request.version}".encode()]
    for name, value in request.raw_headers:
        if name.lower() == b"transfer-encoding":
            # The body is whole, so it has a length.
            name, value = b"Content-Length", str(len(request.body)).encode()
        lines.append(name + b": " + value)
    return b"\r\n".join(lines) + b"\r\n\r\n" + request.body
