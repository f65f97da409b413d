"""``connect`` against our own server."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from app.harness import on_both_loops

import ferrows
from ferrows import connect
from ferrows.client import ClientWebsocket
from ferrows.exceptions import ConnectionClosedError, ConnectionClosedOK, HandshakeError
from ferrows.websocket import State

from .conftest import make_app, peer


def url_of(server: Any, path: str = "/", scheme: str = "ws") -> str:
    return f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}{path}"


@on_both_loops
async def test_messages_go_and_come() -> None:
    async with await make_app().create_server(port=0) as server, connect(url_of(server, "/echo")) as ws:
        assert isinstance(ws, ferrows.Websocket) and isinstance(ws, ClientWebsocket)
        for message in ("", "hello ¡", b"", b"\x00\xff" * 70_000, "x" * 300):
            await ws.send(message)
            assert await ws.recv() == message
        await ws.send(["a", "b", "c"])
        assert await ws.recv() == "abc"
        assert await (await ws.ping()) == ws.latency > 0
        assert (ws.open, ws.subprotocol, ws.client_state, ws.server_state) == (True, None, State.OPEN, State.OPEN)
    assert (ws.close_code, ws.close_reason, ws.closed_by) == (1000, "", "client")
    assert (ws.closed, ws.client_state, ws.server_state) == (True, State.CLOSED, State.CLOSED)


@on_both_loops
async def test_connect_can_be_awaited_and_says_what_was_answered() -> None:
    async with await make_app().create_server(port=0) as server:
        ws = await connect(url_of(server, "/echo"), subprotocols=["v1", "v3", "v2"])
        assert (ws.response.status, ws.response.reason) == (101, "Switching Protocols")
        assert ws.response.headers["sec-websocket-protocol"] == ws.subprotocol == "v2"
        await ws.close(3000, "bye")
        assert (ws.close_code, ws.close_reason) == (3000, "bye")


@on_both_loops
async def test_request_says_what_was_asked_for() -> None:
    app = make_app()
    # A password from a page of another origin is refused otherwise.
    app.config.WEBSOCKET_ORIGINS = "*"
    async with await app.create_server(port=0) as server:
        authority = url_of(server).split("/")[2]
        url = f"http://me:secret@{authority}/headers?a=1&b=ü"
        async with connect(url, headers={"X-Mine": "grüße"}, origin="http://example.com") as ws:
            said = json.loads(await ws.recv())
    assert said["target"] == "/headers?a=1&b=%C3%BC"
    headers = {name.lower(): value for name, value in said["headers"].items()}
    assert headers["host"] == authority
    assert headers["authorization"] == "Basic bWU6c2VjcmV0"
    assert headers["origin"] == "http://example.com"
    assert headers["x-mine"] == "grüße"


@on_both_loops
async def test_5_5_1_close_by_the_server_comes_after_its_messages() -> None:
    async with await make_app().create_server(port=0) as server:
        ws = await connect(url_of(server, "/close/1001"))
        assert [message async for message in ws] == ["last words"]
        with pytest.raises(ConnectionClosedOK):
            await ws.recv()
        assert (ws.close_code, ws.close_reason, ws.closed_by) == (1001, "because", "server")
        # §7.1.1: the server ends TCP, at once.
        assert await ws.wait_for_connection_lost(5)
        ws = await connect(url_of(server, "/close/4000"))
        with pytest.raises(ConnectionClosedError, match="closed with 4000: because"):
            assert [message async for message in ws] == ["last words"]


@on_both_loops
async def test_exception_in_the_block_closes_with_1001() -> None:
    ended = asyncio.get_running_loop().create_future()
    app = make_app()

    @app.websocket("/end")
    async def end(request: ferrows.Request, ws: ferrows.Websocket) -> None:
        await ws.wait_closed()
        ended.set_result(ws.close_code)

    async with await app.create_server(port=0) as server:
        with pytest.raises(ZeroDivisionError):
            async with connect(url_of(server, "/end")):
                _ = 1 / 0
        assert await asyncio.wait_for(ended, 5) == 1001


@pytest.mark.parametrize("path", ["/deflate", "/takeover", "/small"])
@pytest.mark.parametrize(
    "compression",
    [
        "deflate",
        {"server_no_context_takeover": True, "client_no_context_takeover": True, "threshold": 0},
        {"server_max_window_bits": 9, "client_max_window_bits": 9, "threshold": 0},
        {"level": 9, "mem_level": 1, "threshold": 10},
    ],
    ids=["default", "no-takeover", "small", "level"],
)
@on_both_loops
async def test_7692_messages_are_compressed_both_ways(path: str, compression: Any) -> None:
    messages = ["hello " * 3000, b"\x00" * 100_000, "short", os.urandom(5000), "hello " * 3000, ""]
    async with (
        await make_app().create_server(port=0) as server,
        connect(url_of(server, path), compression=compression) as ws,
    ):
        assert ws.response.headers["sec-websocket-extensions"].startswith("permessage-deflate")
        for message in messages:
            await ws.send(message)
        assert [await ws.recv() for _ in messages] == messages
        await ws.send(["hello " * 500, "hello " * 500])
        assert await ws.recv() == "hello " * 1000


@on_both_loops
async def test_without_compression_none_is_offered() -> None:
    async with (
        await make_app().create_server(port=0) as server,
        connect(url_of(server, "/deflate"), compression=None) as ws,
    ):
        assert "sec-websocket-extensions" not in ws.response.headers


@on_both_loops
async def test_message_over_max_size_fails_the_connection_with_1009() -> None:
    async with await make_app().create_server(port=0) as server:
        ws = await connect(url_of(server, "/echo"), max_size=1000)
        await ws.send("x" * 1001)
        with pytest.raises(ConnectionClosedError) as raised:
            await ws.recv()
        assert raised.value.code == ws.close_code == 1009
        assert ws.closed_by == "client"
        await ws.wait_closed()


@on_both_loops
async def test_refusal_has_status_headers_and_body() -> None:
    async with await make_app().create_server(port=0) as server:
        url = url_of(server, "/nowhere")
        with pytest.raises(HandshakeError, match="refused the upgrade with 404 Not Found") as raised:
            await connect(url.replace("://", "://me:secret@") + "?token=secret")
    assert raised.value.url == url
    assert str(raised.value) == f"{url}: the server refused the upgrade with 404 Not Found"
    assert raised.value.status == 404
    assert raised.value.headers["content-type"] == "text/plain; charset=utf-8"
    assert b"/nowhere not found" in raised.value.body


@on_both_loops
async def test_senders_wait_while_the_server_does_not_read() -> None:
    async with await make_app().create_server(port=0) as server:
        app_side = asyncio.get_running_loop().create_future()

        async def hold(request: ferrows.Request, ws: ferrows.Websocket) -> int:
            ws.pause_frames()
            app_side.set_result(ws)
            return sum([len(message) async for message in ws])

        # The app runs already: take over the handler of a route.
        server.app.router.resolve("/wait", "GET", "")[0].handler = hold
        async with connect(url_of(server, "/wait")) as ws:
            sent = 0

            async def send() -> None:
                nonlocal sent
                while sent < 2000:
                    await ws.send(b"x" * 65536)
                    sent += 1

            sending = asyncio.create_task(send())
            handler = await asyncio.wait_for(app_side, 5)
            while not ws.write_paused:
                await asyncio.sleep(0)
            held = sent
            assert held < 2000
            handler.resume_frames()
            await sending
            assert sent == 2000


@on_both_loops
async def test_1001_when_the_server_stops() -> None:
    async with await make_app().create_server(port=0) as server:
        ws = await connect(url_of(server, "/wait"))
        asyncio.get_running_loop().call_soon(lambda: server.close())
        with pytest.raises(ConnectionClosedOK):
            await ws.recv()
        assert ws.close_code == 1001
        await ws.wait_closed()


@on_both_loops
async def test_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with await make_app().create_server(unix=path), connect("ws://localhost/echo", unix=path) as ws:
        await ws.send("over a unix socket")
        assert await ws.recv() == "over a unix socket"


@on_both_loops
async def test_socket_that_is_connected_already() -> None:
    async with await make_app().create_server(port=0) as server:
        sock = socket.create_connection(server.sockets[0].getsockname()[:2])
        sock.setblocking(False)
        async with connect("ws://elsewhere.example/echo", sock=sock) as ws:
            await ws.send("hello")
            assert await ws.recv() == "hello"


@on_both_loops
async def test_ipv6() -> None:
    try:
        server = await make_app().create_server("::1", 0)
    except OSError:
        pytest.skip("there is no IPv6 here")
    async with server, connect(f"ws://[::1]:{server.sockets[0].getsockname()[1]}/headers") as ws:
        headers = json.loads(await ws.recv())["headers"]
    assert headers["Host"].startswith("[::1]:")


@on_both_loops
async def test_tls_is_verified(tmp_path: Path) -> None:
    authority = peer("trustme").CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with await make_app().create_server(port=0, ssl=context) as server:
        async with connect(url_of(server, "/echo", "wss"), ssl=trusting) as ws:
            await ws.send("secret")
            assert await ws.recv() == "secret"
        assert ws.close_code == 1000
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(url_of(server, "/echo", "wss"))


@on_both_loops
async def test_nobody_there_is_an_os_error() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(OSError, match=r"refused|Connect call failed|111"):
            await connect(f"ws://127.0.0.1:{bound.getsockname()[1]}")


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("ws://example.com", {"ssl": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}, "permitted: with wss or https"),
        ("ws://example.com", {"unix": "/s", "sock": 1}, "exclude each other"),
        ("ws://example.com", {"max_size": 0}, "max_size must be an integer >= 1"),
        ("ws://example.com", {"ping_interval": -1}, "ping_interval must be"),
        ("ws://example.com", {"compression": "zip"}, "compression must be"),
        ("example.com", {}, "scheme ''"),
    ],
)
async def test_wrong_arguments_are_told_at_once(url: str, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        connect(url, **options)


async def test_connection_that_was_not_awaited_says_so() -> None:
    with pytest.raises(AttributeError, match=r"there is no 'send' before the connection is open: ws = await connect"):
        await connect("ws://example.com").send("hello")  # type: ignore[attr-defined]
