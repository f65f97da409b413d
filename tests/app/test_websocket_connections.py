"""The protocol under a Websocket on real loopback sockets: the edges of a connection's life, on both loops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ferrows import App, Request, Websocket
from ferrows.exceptions import ConnectionClosedError
from ferrows.server.protocols import http_protocol

from .harness import on_both_loops

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def text(message: str) -> bytes:
    """Build a client's frame, masked with a key of zeros."""
    return bytes((0x81, 0x80 | len(message))) + bytes(4) + message.encode()


async def record(ws: Websocket, received: list[Any]) -> None:
    """Receive until the connection ends; what it ended with comes last."""
    try:
        async for message in ws:
            received.append(message)
    except ConnectionClosedError as error:
        received.append(error.code)


@contextlib.asynccontextmanager
async def connected(app: App, **options: Any) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, Any]]:
    async with await app.create_server(port=0, access_log=False) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), **options)
        try:
            yield reader, writer, server
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@on_both_loops
async def test_frames_and_a_fin_in_the_segment_of_the_handshake_are_not_lost(app: App) -> None:
    received: list[Any] = []
    ended = asyncio.Event()

    @app.websocket("/ws")
    async def handler(request: Request, ws: Websocket) -> None:
        await record(ws, received)
        ended.set()

    async with connected(app) as (_, writer, _server):
        writer.write(HANDSHAKE + text("a") + text("b"))
        writer.write_eof()
        await asyncio.wait_for(ended.wait(), 5)
    assert received == ["a", "b", 1006]


@on_both_loops
async def test_a_client_that_leaves_before_its_handshake_is_answered_leaves_nothing_behind(app: App) -> None:
    received: list[Any] = []
    arrived, gone, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @app.on_request
    async def slow(request: Request) -> None:
        arrived.set()
        await gone.wait()

    @app.websocket("/ws", ping_interval=None)
    async def handler(request: Request, ws: Websocket) -> None:
        await record(ws, received)
        ended.set()

    async with connected(app) as (_, writer, server):
        writer.write(HANDSHAKE + text("a"))
        await asyncio.wait_for(arrived.wait(), 5)
        writer.write_eof()
        await asyncio.sleep(0.05)  # the FIN has to get there
        gone.set()
        await asyncio.wait_for(ended.wait(), 5)
        while server.connections:
            await asyncio.sleep(0.01)
    assert received == ["a", 1006]


@pytest.mark.parametrize("reads", [False, True], ids=["reads nothing", "reads slowly"])
@on_both_loops
async def test_a_peer_that_reads_nothing_is_dropped_and_one_that_reads_slowly_is_not(
    app: App, reads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "STALL_TIMEOUT", 0.3)
    size = 16 * 2**20
    outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    @app.websocket("/ws", ping_interval=None)
    async def handler(request: Request, ws: Websocket) -> None:
        try:
            await ws.send(bytes(size))
            await ws.send("waits for the peer to read")
            outcome.set_result("sent")
        except ConnectionClosedError as error:
            outcome.set_result(error.code)

    async with connected(app, limit=2**14) as (reader, writer, _):
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        output = b""
        while reads and not outcome.done():
            output += await reader.read(2**19)
            await asyncio.sleep(0.02)
        assert await asyncio.wait_for(outcome, 10) == ("sent" if reads else 1006)
        if reads:
            while len(output) < size + 10:
                output += await reader.read(2**19)
            assert output[: size + 10] == b"\x82\x7f" + size.to_bytes(8, "big") + bytes(size)
