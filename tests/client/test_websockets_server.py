"""``connect`` against the server of `websockets`."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from app.harness import on_both_loops

from ferrows import connect
from ferrows.exceptions import ConnectionClosedError, ConnectionClosedOK, HandshakeError

from .conftest import peer

peer("websockets")

from websockets.asyncio.server import ServerConnection, serve  # noqa: E402
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory  # noqa: E402


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


def url_of(server: Any) -> str:
    return f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


MESSAGES = ["", "hello", "¡" * 3000, b"", os.urandom(70_000), b"\x00" * 200_000, "hello", "x" * 126]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({}, "deflate"),
        ({}, {"server_no_context_takeover": True, "client_no_context_takeover": True, "threshold": 0}),
        ({}, {"server_max_window_bits": 9, "client_max_window_bits": 9, "threshold": 0}),
        ({"server_max_window_bits": 10, "client_max_window_bits": 10}, {"threshold": 0}),
        ({"server_no_context_takeover": True, "client_no_context_takeover": True}, {"threshold": 0}),
    ],
)
@on_both_loops
async def test_compressed_messages(theirs: Any, ours: Any) -> None:
    factory = ServerPerMessageDeflateFactory(**theirs)
    async with serve(echo, "127.0.0.1", 0, compression=None, extensions=[factory]) as server:
        async with connect(url_of(server), compression=ours) as ws:
            assert "permessage-deflate" in ws.response.headers["sec-websocket-extensions"]
            for message in MESSAGES:
                await ws.send(message)
            assert [await ws.recv() for _ in MESSAGES] == MESSAGES
        assert ws.close_code == 1000


@on_both_loops
async def test_messages_without_compression() -> None:
    async with serve(echo, "127.0.0.1", 0, compression=None) as server, connect(url_of(server)) as ws:
        assert "sec-websocket-extensions" not in ws.response.headers
        for message in MESSAGES:
            await ws.send(message)
        assert [await ws.recv() for _ in MESSAGES] == MESSAGES
        assert await (await ws.ping(b"payload")) > 0


@on_both_loops
async def test_fragments_ping_and_close_of_theirs() -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.send(["a", "b", "c"])
        await (await connection.ping())
        await connection.close(4001, "enough")

    async with serve(handler, "127.0.0.1", 0) as server:
        ws = await connect(url_of(server))
        assert [fragment async for fragment in ws.recv_streaming()] == ["a", "b", "c"]
        with pytest.raises(ConnectionClosedError, match="closed with 4001: enough"):
            await ws.recv()
        await ws.wait_closed()


@on_both_loops
async def test_close_of_ours_reaches_them() -> None:
    seen = asyncio.get_running_loop().create_future()

    async def handler(connection: ServerConnection) -> None:
        await connection.wait_closed()
        seen.set_result((connection.close_code, connection.close_reason))

    async with serve(handler, "127.0.0.1", 0) as server:
        ws = await connect(url_of(server))
        await ws.close(3001, "bye ¡")
        assert await asyncio.wait_for(seen, 5) == (3001, "bye ¡")


@on_both_loops
async def test_going_away_and_subprotocol() -> None:
    async with serve(echo, "127.0.0.1", 0, subprotocols=["b"]) as server:
        ws = await connect(url_of(server), subprotocols=["a", "b"])
        assert ws.subprotocol == "b"
        server.close()
        with pytest.raises(ConnectionClosedOK):
            await ws.recv()
        assert ws.close_code == 1001


@on_both_loops
async def test_refusal_of_theirs() -> None:
    def refuse(connection: Any, request: Any) -> Any:
        return connection.respond(401, "who are you?\n")

    async with serve(echo, "127.0.0.1", 0, process_request=refuse) as server:
        with pytest.raises(HandshakeError, match="401 Unauthorized") as raised:
            await connect(url_of(server))
    assert raised.value.body == b"who are you?\n"
