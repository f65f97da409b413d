"""The client of `websockets` against the server."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate

from .conftest import Server
from .messages import BINARY, CLOSES, MESSAGES, MIB, TEXT


def client(url: str, **options: Any) -> connect:
    return connect(url, **{"compression": None, "proxy": None, "max_size": 2**22, **options})


def deflate_of(ws: ClientConnection) -> PerMessageDeflate | None:
    """Return the extension, if it was negotiated."""
    for extension in ws.protocol.extensions:
        if isinstance(extension, PerMessageDeflate):
            return extension
    return None


@pytest.mark.parametrize("message", MESSAGES)
async def test_echo(server: Server, message: str | bytes) -> None:
    async with client(server.url("/echo")) as ws:
        await ws.send(message)
        assert await ws.recv() == message


async def test_many_messages_come_back_in_order(server: Server) -> None:
    sent = [str(n) if n % 2 else str(n).encode() for n in range(2000)]
    async with client(server.url("/echo")) as ws:

        async def send_all() -> None:
            for message in sent:
                await ws.send(message)

        sending = asyncio.create_task(send_all())
        received = [await ws.recv() for _ in sent]
        await sending
    assert received == sent


@pytest.mark.parametrize("parts", [["one", "", "¡three!"], [b"one", b"", b"three"]], ids=["text", "binary"])
async def test_fragments_sent_by_the_client_make_one_message(server: Server, parts: list[Any]) -> None:
    async with client(server.url("/echo")) as ws:
        await ws.send(parts)
        assert await ws.recv() == type(parts[0])().join(parts)


async def test_fragments_sent_by_the_client_are_streamed_to_the_handler(server: Server) -> None:
    async with client(server.url("/streamed")) as ws:
        await ws.send(["one", "two", "¡three!"])
        parts = json.loads(await ws.recv())["parts"]
        assert [part for part in parts if part] == ["one", "two", "¡three!"]
        await ws.send([b"\x01", b"\x02\x03"])
        parts = json.loads(await ws.recv())["parts"]
        assert [part for part in parts if part] == ["01", "0203"]


@pytest.mark.parametrize("message", ["abcdefgh", b"abcdefgh"], ids=["text", "binary"])
async def test_fragments_sent_by_the_server_arrive_as_sent(server: Server, message: Any) -> None:
    async with client(server.url("/fragmented")) as ws:
        for _ in ("iterable", "async iterable"):
            await ws.send(message)
            parts = [part async for part in ws.recv_streaming()]
            assert [part for part in parts if part] == [message[:3], message[3:6], message[6:]]


async def test_deflate_is_not_negotiated_where_the_route_does_not_compress(server: Server) -> None:
    async with client(server.url("/echo"), compression="deflate") as ws:
        assert deflate_of(ws) is None
        await ws.send(TEXT)
        assert await ws.recv() == TEXT


@pytest.mark.parametrize("message", MESSAGES)
async def test_deflate_echo(server: Server, message: str | bytes) -> None:
    async with client(server.url("/deflate"), compression="deflate") as ws:
        assert deflate_of(ws) is not None
        await ws.send(message)
        assert await ws.recv() == message


async def test_deflate_fragments(server: Server) -> None:
    async with client(server.url("/deflate"), compression="deflate") as ws:
        assert deflate_of(ws) is not None
        await ws.send(["fragment " * 100, "", "of compressed text"])
        assert await ws.recv() == "fragment " * 100 + "of compressed text"


@pytest.mark.parametrize("path", ["/deflate", "/takeover"])
@pytest.mark.parametrize(
    "offer",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"client_max_window_bits": True}, id="client-window-left-open"),
        pytest.param({"client_max_window_bits": 9, "server_max_window_bits": 9}, id="smallest-windows"),
        pytest.param({"client_max_window_bits": 12, "server_max_window_bits": 11}, id="small-windows"),
        pytest.param({"server_no_context_takeover": True}, id="server-without-takeover"),
        pytest.param({"client_no_context_takeover": True}, id="client-without-takeover"),
    ],
)
async def test_deflate_with_each_parameter(server: Server, path: str, offer: dict[str, Any]) -> None:
    """The same long texts again and again: an error in what a window keeps would show."""
    texts = [f"{n}: " + " ".join(f"word{n * k % 97}" for k in range(400)) for n in range(8)] * 3
    async with client(server.url(path), extensions=[ClientPerMessageDeflateFactory(**offer)]) as ws:
        deflate = deflate_of(ws)
        assert deflate is not None
        if "server_max_window_bits" in offer:
            assert deflate.remote_max_window_bits <= offer["server_max_window_bits"]
        if offer.get("server_no_context_takeover"):
            assert deflate.remote_no_context_takeover
        for text in texts:
            await ws.send(text)
            assert await ws.recv() == text


async def test_server_window_of_8_bits_is_declined_and_the_connection_goes_on(server: Server) -> None:
    """zlib emits 9 bits where it is asked for 8."""
    offer = ClientPerMessageDeflateFactory(server_max_window_bits=8)
    async with client(server.url("/deflate"), extensions=[offer]) as ws:
        assert deflate_of(ws) is None
        await ws.send(TEXT)
        assert await ws.recv() == TEXT


async def test_pings_of_the_client_are_answered(server: Server) -> None:
    async with client(server.url("/echo"), ping_interval=None) as ws:
        for payload in (b"", b"payload", bytes(125)):
            pong = await ws.ping(payload)
            assert await asyncio.wait_for(pong, 10) >= 0


async def test_a_ping_between_the_fragments_of_a_message_is_answered(server: Server) -> None:
    async with client(server.url("/echo"), ping_interval=None) as ws:

        async def parts() -> Any:
            yield "before "
            assert await asyncio.wait_for(await ws.ping(b"inside"), 10) >= 0
            yield "after"

        await ws.send(parts())
        assert await ws.recv() == "before after"


async def test_pings_of_the_server_are_answered(server: Server) -> None:
    async with client(server.url("/ping"), ping_interval=None) as ws:
        for payload in (b"payload", b"x" * 125):
            await ws.send(payload)
            assert 0 < json.loads(await ws.recv())["seconds"] < 10


@pytest.mark.parametrize(("code", "reason"), CLOSES)
async def test_close_by_the_server(server: Server, code: int, reason: str) -> None:
    async with client(server.close_url(code, reason)) as ws:
        with pytest.raises(ConnectionClosed) as closed:
            await ws.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, reason)
    assert closed.value.rcvd_then_sent
    assert ws.close_code == code


@pytest.mark.parametrize(("code", "reason"), CLOSES)
async def test_close_by_the_client(server: Server, code: int, reason: str) -> None:
    key = f"websockets-{code}-{len(reason)}"
    async with client(server.url(f"/watched/{key}")) as ws:
        await ws.close(code, reason)
    assert await server.end_of(key) == (code, reason)
    assert ws.protocol.close_rcvd is not None
    assert ws.protocol.close_rcvd.code == code


async def test_a_message_over_the_limit_closes_with_1009(server: Server) -> None:
    async with client(server.url("/watched/websockets-too-big")) as ws:
        with pytest.raises(ConnectionClosedError) as closed:
            await ws.send(bytes(MIB + 1))
            await ws.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["chat.v1", "chat.v2"], "chat.v2"),
        (["chat.v1", "other"], "chat.v1"),
        (["other"], None),
        (None, None),
    ],
    ids=["the-server's-order", "one-in-common", "none-in-common", "none-offered"],
)
async def test_subprotocol(server: Server, offered: Any, chosen: str | None) -> None:
    async with client(server.url("/subprotocol"), subprotocols=offered) as ws:
        assert ws.subprotocol == chosen
        assert await ws.recv() == f"subprotocol {chosen}"


async def test_broadcast_reaches_every_client(server: Server) -> None:
    async with client(server.url("/room")) as ada, client(server.url("/room")) as bob:
        assert (await ada.recv(), await bob.recv()) == ("1 here", "2 here")
        await ada.send("hello")
        assert (await ada.recv(), await bob.recv()) == ("hello", "hello")
        await bob.send(BINARY)
        assert (await ada.recv(), await bob.recv()) == (BINARY, BINARY)


async def test_a_server_that_stops_closes_with_1001(own_server: Server) -> None:
    async with client(own_server.url("/echo")) as ws:
        await ws.send(TEXT)
        assert await ws.recv() == TEXT
        own_server.stop()
        await ws.wait_closed()
        assert ws.close_code == 1001


@pytest.mark.parametrize("message", MESSAGES)
async def test_tls_echo(tls_server: Server, client_tls: ssl.SSLContext, message: str | bytes) -> None:
    async with client(tls_server.url("/echo"), ssl=client_tls) as ws:
        await ws.send(message)
        assert await ws.recv() == message


async def test_tls_deflate_and_close(tls_server: Server, client_tls: ssl.SSLContext) -> None:
    async with client(tls_server.url("/deflate"), ssl=client_tls, compression="deflate") as ws:
        assert deflate_of(ws) is not None
        await ws.send(TEXT * 1000)
        assert await ws.recv() == TEXT * 1000
        await ws.close(4000, "enough")
        assert ws.protocol.close_rcvd is not None
        assert ws.protocol.close_rcvd.code == 4000
    async with client(tls_server.close_url(4001, "by the server"), ssl=client_tls) as ws:
        await ws.wait_closed()
        assert (ws.close_code, ws.close_reason) == (4001, "by the server")
