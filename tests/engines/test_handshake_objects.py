"""A ``protocol=`` subclass whose handshake returns an object of its own: how its end is found."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from rules.wire import ACCEPT, handshake

from ferrows import App, Request
from ferrows.server import WebSocketProtocol


class Bare:
    """Has nothing that the server could call."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport


class WithClose(Bare):
    def close(self) -> None:
        self.transport.write(b"closed")
        self.transport.close()


class WithCode(Bare):
    def close(self, code: int, reason: str) -> None:
        self.transport.write(f"closed {code}".encode())
        self.transport.close()


class WithAsyncClose(Bare):
    async def close(self, code: int = 1000) -> None:
        await asyncio.sleep(0)
        self.transport.write(f"closed {code}".encode())
        self.transport.close()


class WithFailingClose(Bare):
    def close(self) -> None:
        self.transport.close()
        raise RuntimeError("cannot close")


def protocol_of(kind: type[Bare]) -> type[WebSocketProtocol]:
    class Own(WebSocketProtocol):
        async def websocket_handshake(self, request: Request, subprotocols: Any = None) -> Any:
            assert self.transport is not None
            self.detach()
            self.transport.write(b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: " + ACCEPT + b"\r\n\r\n")
            return kind(self.transport)

    return Own


async def talk(kind: type[Bare], fails: bool) -> bytes:
    app = App("objects", env_prefix=None)

    @app.websocket("/ws")
    async def handler(request: Request, ws: Bare) -> None:
        assert type(ws) is kind
        if fails:
            raise RuntimeError("the handler's")

    async with await app.create_server(port=0, access_log=False, protocol=protocol_of(kind)) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        writer.write(handshake("/ws"))
        async with asyncio.timeout(60):
            output = await reader.read()
        writer.close()
        await writer.wait_closed()
    return output.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("kind", "last", "failed"),
    [
        (Bare, b"", b""),
        (WithClose, b"closed", b"closed"),
        (WithCode, b"closed 1000", b"closed 1011"),
        (WithAsyncClose, b"closed 1000", b"closed 1011"),
    ],
)
async def test_the_end_of_an_object_is_its_close_or_its_transport(
    kind: type[Bare], last: bytes, failed: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert await talk(kind, fails=False) == last
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert await talk(kind, fails=True) == failed
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert errors == ["handler of websocket /ws from 127.0.0.1 failed"]


async def test_an_object_whose_close_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert await talk(WithFailingClose, fails=False) == b""
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert errors == ["websocket /ws from 127.0.0.1 could not be closed"]
