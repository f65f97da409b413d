"""WebSocket handlers of one app, the same under every server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from .conftest import Server


async def ended(server: Server, key: str) -> Any:
    return json.loads((await asyncio.to_thread(server.ask, f"/ends/{key}")).body)


@pytest.mark.parametrize("path", ["/echo", "/v1/nested/echo"])
async def test_messages_come_back(server: Server, path: str) -> None:
    async with server.connect(path) as ws:
        for message in ("text", "ß€😀", "", b"\x00\xff", b"", "x" * 200000, bytes(200000)):
            await ws.send(message)
            assert await ws.recv() == message


async def test_many_messages_at_once_keep_their_order(server: Server) -> None:
    async with server.connect("/echo") as ws:
        sending = asyncio.create_task(_send_numbers(ws))
        assert [await ws.recv() for _ in range(1000)] == [str(number) for number in range(1000)]
        await sending


async def _send_numbers(ws: Any) -> None:
    for number in range(1000):
        await ws.send(str(number))


async def test_handler_knows_its_request(server: Server) -> None:
    async with server.connect("/about/17?a=b") as ws:
        assert json.loads(await ws.recv()) == {
            "number": 17,
            "scheme": "ws",
            "url": f"ws://{server.origin}{server.prefix}/about/17?a=b",
            "args": {"a": ["b"]},
            "noted": True,
            "ip": "127.0.0.1",
            "method": "GET",
            "open": True,
            "latency": 0.0,
            "state": [1, 1],
            "close": [None, None],
        }


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("text", "text ß"),
        ("bytes", b"\x00\xff"),
        ("bytearray", b"array"),
        ("memoryview", b"view"),
        ("list", "abc"),
        ("bytes-list", b"ab"),
        ("async", "aßc"),
        ("empty", ""),
    ],
)
async def test_everything_that_can_be_sent(server: Server, kind: str, message: str | bytes) -> None:
    async with server.connect(f"/send/{kind}") as ws:
        assert await ws.recv() == message


async def test_fragments_of_a_client_are_one_message(server: Server) -> None:
    async with server.connect("/streaming") as ws:
        await ws.send(["frag", "ment", "ed"])
        assert await ws.recv() == "fragmented"
        await ws.send("whole")
        assert await ws.recv() == "whole"


@pytest.mark.parametrize(("offered", "chosen"), [(["v1", "v2"], "v2"), (["v1"], "v1"), (["other"], None), (None, None)])
async def test_subprotocol(server: Server, offered: list[Any] | None, chosen: str | None) -> None:
    async with server.connect("/subprotocol", subprotocols=offered) as ws:
        assert (ws.subprotocol, await ws.recv()) == (chosen, str(chosen))


# ---- receiving


async def test_timeout_and_cancellation_lose_no_message(server: Server) -> None:
    async with server.connect("/timeouts") as ws:
        assert [await ws.recv(), await ws.recv()] == ["timeout", "timeout"]
        await ws.send("first")
        assert await ws.recv() == "first"
        assert await ws.recv() == "two receivers"
        await ws.send("second")
        assert await ws.recv() == "second"


async def test_burst(server: Server) -> None:
    async with server.connect("/burst") as ws:
        for number in range(100):
            await ws.send(str(number % 10))
        assert await ws.recv() == "0123456789" * 10
        await ws.send("on")
        assert await ws.recv() == "on"


async def test_message_over_the_routes_limit_ends_with_1009(server: Server) -> None:
    async with server.connect("/small") as ws:
        await ws.send("€€€")
        assert await ws.recv() == "€€€"
        await ws.send("€€€€")
        with pytest.raises(ConnectionClosed) as closed:
            await ws.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


# ---- the end


@pytest.mark.parametrize(
    ("kind", "code", "reason"),
    [
        ("return", 1000, ""),
        ("raise", 1011, "internal error"),
        ("forbidden", 1008, "members only"),
        ("close", 4321, "as agreed"),
    ],
)
async def test_end_of_the_handler_is_a_close(server: Server, kind: str, code: int, reason: str) -> None:
    async with server.connect(f"/end/{kind}") as ws:
        with pytest.raises(ConnectionClosed) as closed:
            await ws.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, reason)


async def test_failing_handler_is_logged_once(server: Server) -> None:
    before = server.log.read_text().count("ValueError: raised on purpose")
    async with server.connect("/end/raise") as ws:
        await ws.wait_closed()
    assert server.log.read_text().count("ValueError: raised on purpose") == before + 1


async def test_messages_before_the_close_come_first(server: Server, key: str) -> None:
    async with server.connect(f"/watched/{key}") as ws:
        assert await ws.recv() == "go"
        for number in range(5):
            await ws.send(str(number))
        await ws.close(4002, "enough")
    # Hypercorn does not pass the client's code on.
    code, reason = (1006, "") if server.name == "hypercorn" else (4002, "enough")
    assert await ended(server, key) == {
        "code": code,
        "reason": reason,
        "open": False,
        "closed": True,
        "sent": True,
        "received": ["0", "1", "2", "3", "4"],
    }


async def test_loop_ends_quietly_and_the_handler_goes_on(server: Server, key: str) -> None:
    async with server.connect(f"/loop/{key}") as ws:
        await ws.send("one")
        await ws.send("two")
    assert await ended(server, key) == {"received": ["one", "two"], "open": False}


async def test_send_to_a_client_that_is_gone_raises(server: Server, key: str) -> None:
    async with server.connect(f"/flood/{key}", max_queue=1) as ws:
        await ws.recv()
        ws.transport.abort()
    assert await ended(server, key) == "ended"
    assert (await asyncio.to_thread(server.ask, "/text")).status == 200


async def test_broadcast_reaches_everyone(server: Server) -> None:
    async with server.connect("/room") as first, server.connect("/room") as second:
        assert [await first.recv(), await second.recv()] == ["joined", "joined"]
        await first.send("hello")
        assert [await first.recv(), await second.recv()] == ["hello", "hello"]


async def test_ping_is_refused_plainly_where_there_is_none(server: Server) -> None:
    async with server.connect("/ping") as ws:
        answer = await ws.recv()
    if server.is_asgi:
        assert answer == "an ASGI application cannot ping: its server sends the pings that keep a connection alive"
    else:
        assert answer == "True"


async def test_signals_frame_the_handler(server: Server, key: str) -> None:
    async with server.connect("/end/return") as ws:
        await ws.wait_closed()
    signals = json.loads((await asyncio.to_thread(server.ask, "/signals")).body)
    assert signals.count("before /end/return") == signals.count("after /end/return") > 0


# ---- refusals


@pytest.mark.parametrize(
    ("path", "headers", "status", "body"),
    [
        ("/echo", {"X-Stop": "1"}, 418, b"stopped by middleware"),
        ("/echo", {"X-Token": "wrong"}, 401, b"wrong token"),
        ("/paid", {}, 402, b"pay first"),
        ("/same-origin", {"Origin": "http://elsewhere.example"}, 403, b"origin is not allowed"),
        ("/nowhere", {}, 404, b"404"),
    ],
)
async def test_refusal_has_its_status_and_body(
    server: Server, path: str, headers: dict[str, str], status: int, body: bytes
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with server.connect(path, additional_headers=headers):
            pass
    response = refused.value.response
    assert response.status_code == status
    assert response.headers["X-Marked"] == "yes"
    assert response.body is not None
    assert body in response.body


async def test_what_is_permitted_is_not_refused(server: Server) -> None:
    async with server.connect("/paid?paid=yes") as ws:
        assert await ws.recv() == "thank you"
    async with server.connect("/same-origin", origin=f"http://{server.origin}") as ws:
        assert await ws.recv() == "welcome"
