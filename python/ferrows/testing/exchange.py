"""``exchange``: one request and its response, on a connection of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any, cast

from ..client.connection import Dial
from ..client.response import ResponseReader
from ..exceptions import HandshakeError
from .request import Outgoing
from .response import Response

__all__ = ["exchange"]


async def exchange(dial: Dial, outgoing: Outgoing) -> tuple[Response, Any]:
    """Send a request on a connection of its own; return the response, and the address that it was sent from.

    ConnectionError where the connection ends before the response is whole.
    """
    protocol = _Exchange(outgoing)
    await dial(lambda: protocol)
    # The response may come before the end of the request.
    sending = asyncio.ensure_future(protocol.send())
    try:
        await asyncio.wait((sending, protocol.done), return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            sending.result()
        await protocol.done
    finally:
        sending.cancel()
        if not protocol.done.cancel() and not protocol.done.cancelled():
            protocol.done.exception()  # seen
        protocol.close()
    response = protocol.reader.response
    assert response is not None
    return Response(response), protocol.address


class _Exchange(asyncio.Protocol):
    """One request and its response, on a connection of their own."""

    def __init__(self, outgoing: Outgoing) -> None:
        self.reader = ResponseReader(outgoing.method)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.address: Any = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._outgoing = outgoing
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.address = transport.get_extra_info("sockname")

    def data_received(self, data: bytes) -> None:
        try:
            self.reader.receive_data(data)
            if self.reader.complete:
                self._finish(None)
        except HandshakeError as error:
            self._finish(error)

    def eof_received(self) -> None:
        try:
            self.reader.receive_eof()
            self._finish(None)
        except HandshakeError as error:
            self._finish(error)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._writable.set()
        if not self.done.done():
            self._finish(HandshakeError(str(exc or "the connection ended")))

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def send(self) -> None:
        """Write the request, as fast as it is read."""
        assert self._transport is not None
        self._transport.write(self._outgoing.head)
        body = self._outgoing.body
        if isinstance(body, bytes):
            self._transport.write(body)
            return
        async for piece in _each(body):
            if piece:
                self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await self._writable.wait()
        self._transport.write(b"0\r\n\r\n")

    def close(self) -> None:
        if self._transport is not None:
            # What is not read of a response that was given up would hold the app back.
            self._transport.close() if self.reader.complete else self._transport.abort()

    def _finish(self, error: HandshakeError | None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            what = f"no response to {self._outgoing.method} {self._outgoing.target}"
            self.done.set_exception(ConnectionError(f"{what}: {error.message}"))


async def _each(pieces: Iterable[bytes] | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(pieces, AsyncIterable):
        async for piece in pieces:
            yield piece
    else:
        for piece in pieces:
            yield piece
