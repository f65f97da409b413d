"""The client of aiohttp against the server."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession, ClientTimeout, ClientWebSocketResponse, WSMessage, WSMsgType

from .conftest import Server
from .messages import CLOSES, MESSAGES, TEXT

TIMEOUT = 20  # seconds


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession(timeout=ClientTimeout(total=TIMEOUT)) as session:
        yield session


@asynccontextmanager
async def client(session: ClientSession, url: str, **options: Any) -> AsyncIterator[ClientWebSocketResponse]:
    async with session.ws_connect(url, **options) as ws:
        sock = ws.get_extra_info("socket")
        yield ws
    async with asyncio.timeout(TIMEOUT):
        while sock.fileno() != -1:  # aiohttp itself does not wait for the end of TLS
            await asyncio.sleep(0.005)


async def send(ws: ClientWebSocketResponse, message: str | bytes) -> None:
    if isinstance(message, str):
        await ws.send_str(message)
    else:
        await ws.send_bytes(message)


async def exchange(ws: ClientWebSocketResponse, message: str | bytes) -> None:
    """Send a message, and see it come back with its type."""
    await send(ws, message)
    answer: WSMessage = await ws.receive(TIMEOUT)
    assert answer.type is (WSMsgType.TEXT if isinstance(message, str) else WSMsgType.BINARY)
    assert answer.data == message


@pytest.mark.parametrize("message", MESSAGES)
async def test_echo(server: Server, session: ClientSession, message: str | bytes) -> None:
    async with client(session, server.url("/echo")) as ws:
        await exchange(ws, message)


@pytest.mark.parametrize("message", ["abcdefgh", b"abcdefgh"], ids=["text", "binary"])
async def test_fragments_sent_by_the_server_make_one_message(
    server: Server, session: ClientSession, message: str | bytes
) -> None:
    async with client(session, server.url("/fragmented")) as ws:
        await exchange(ws, message)
        await exchange(ws, message)


async def test_deflate_is_not_negotiated_where_the_route_does_not_compress(
    server: Server, session: ClientSession
) -> None:
    async with client(session, server.url("/echo"), compress=15) as ws:
        assert not ws.compress
        await exchange(ws, TEXT)


@pytest.mark.parametrize("message", MESSAGES)
async def test_deflate_echo(server: Server, session: ClientSession, message: str | bytes) -> None:
    async with client(session, server.url("/deflate"), compress=15) as ws:
        assert ws.compress
        await exchange(ws, message)


@pytest.mark.parametrize("path", ["/deflate", "/takeover"])
@pytest.mark.parametrize("window_bits", [9, 12, 15])
async def test_deflate_with_each_window(server: Server, session: ClientSession, path: str, window_bits: int) -> None:
    async with client(session, server.url(path), compress=window_bits) as ws:
        assert ws.compress
        for n in range(10):
            await exchange(ws, " ".join(f"word{n * k % 97}" for k in range(2000)))


async def test_pings_of_the_client_are_answered(server: Server, session: ClientSession) -> None:
    async with client(session, server.url("/echo"), autoping=False) as ws:
        for payload in (b"", b"payload", bytes(125)):
            await ws.ping(payload)
            pong = await ws.receive(TIMEOUT)
            assert (pong.type, bytes(pong.data)) == (WSMsgType.PONG, payload)


async def test_pings_of_the_server_are_answered(server: Server, session: ClientSession) -> None:
    async with client(session, server.url("/ping")) as ws:
        await ws.send_bytes(b"payload")
        assert 0 < json.loads(await ws.receive_str(timeout=TIMEOUT))["seconds"] < 10


async def test_the_payload_of_a_ping_of_the_server(server: Server, session: ClientSession) -> None:
    async with client(session, server.url("/ping"), autoping=False) as ws:
        await ws.send_bytes(b"payload")
        ping = await ws.receive(TIMEOUT)
        assert (ping.type, bytes(ping.data)) == (WSMsgType.PING, b"payload")
        await ws.pong(ping.data)
        assert "seconds" in json.loads(await ws.receive_str(timeout=TIMEOUT))


@pytest.mark.parametrize(("code", "reason"), CLOSES)
async def test_close_by_the_server(server: Server, session: ClientSession, code: int, reason: str) -> None:
    async with client(session, server.close_url(code, reason)) as ws:
        close = await ws.receive(TIMEOUT)
        assert close.type is WSMsgType.CLOSE
        assert (close.data, close.extra) == (code, reason)
    assert ws.close_code == code


@pytest.mark.parametrize(("code", "reason"), CLOSES)
async def test_close_by_the_client(server: Server, session: ClientSession, code: int, reason: str) -> None:
    key = f"aiohttp-{code}-{len(reason)}"
    async with client(session, server.url(f"/watched/{key}")) as ws:
        await ws.close(code=code, message=reason.encode())
        assert ws.close_code == code
    assert await server.end_of(key) == (code, reason)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(("chat.v1", "chat.v2"), "chat.v2"), (("other",), None)],
    ids=["the-server's-order", "none-in-common"],
)
async def test_subprotocol(
    server: Server, session: ClientSession, offered: tuple[str, ...], chosen: str | None
) -> None:
    async with client(session, server.url("/subprotocol"), protocols=offered) as ws:
        assert ws.protocol == chosen
        assert await ws.receive_str(timeout=TIMEOUT) == f"subprotocol {chosen}"


@pytest.mark.parametrize("message", MESSAGES)
async def test_tls_echo(
    tls_server: Server, session: ClientSession, client_tls: ssl.SSLContext, message: str | bytes
) -> None:
    async with client(session, tls_server.url("/echo"), ssl=client_tls) as ws:
        await exchange(ws, message)


async def test_tls_deflate_and_close(tls_server: Server, session: ClientSession, client_tls: ssl.SSLContext) -> None:
    async with client(session, tls_server.url("/deflate"), ssl=client_tls, compress=15) as ws:
        assert ws.compress
        await exchange(ws, TEXT * 1000)
        await ws.close(code=4000, message=b"enough")
        assert ws.close_code == 4000
    async with client(session, tls_server.close_url(4001, "by the server"), ssl=client_tls) as ws:
        close = await ws.receive(TIMEOUT)
        assert (close.data, close.extra) == (4001, "by the server")


async def test_a_page_and_a_connection_on_one_port(server: Server, session: ClientSession) -> None:
    async with session.get(server.url("/page", "http")) as response:
        assert response.status == 200
        assert "<title>interop</title>" in await response.text()
    async with client(session, server.url("/echo")) as ws:
        await exchange(ws, TEXT)
