"""``AsyncTestClient``: what differs from the one for plain functions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from app.harness import on_both_loops

import ferrows
from ferrows import App, Request, Websocket
from ferrows.exceptions import HandshakeError
from ferrows.server.protocols.websocket_protocol import WebSocketProtocol
from ferrows.testing import AsyncTestClient

from .conftest import make_app


@on_both_loops
async def test_requests_at_the_same_time(over: Any) -> None:
    async with AsyncTestClient(make_app(), over=over) as client:
        responses = await asyncio.gather(*(client.get("/echo", params={"n": n}) for n in range(20)))
    assert [response.json()["args"]["n"] for response in responses] == [[str(n)] for n in range(20)]


@on_both_loops
async def test_websocket_is_a_real_one(over: Any) -> None:
    app = make_app()
    async with AsyncTestClient(app, over=over) as client:
        async with client.websocket("/ws", subprotocols=["v1"]) as ws:
            assert isinstance(ws, ferrows.Websocket) and ws.subprotocol == "v1"
            await ws.send(["a", "b"])
            assert [fragment async for fragment in ws.recv_streaming()] == ["ab"]
            await ws.send("x")
            async for message in ws:
                assert message == "x"
                break
            assert await (await ws.ping()) > 0
            with pytest.raises(TimeoutError, match=r"a message on /ws took more than 0\.01 seconds"):
                await ws.recv(timeout=0.01)
        assert ws.close_code == 1000
        awaited = await client.websocket("/waits")
        assert awaited.open
    assert 1001 in app.ctx.events


@on_both_loops
async def test_app_and_test_share_the_loop(over: Any) -> None:
    app, arrived = make_app(), asyncio.Event()

    @app.websocket("/tells")
    async def tells(request: Request, ws: Websocket) -> None:
        app.ctx.message = await ws.recv()
        arrived.set()

    async with AsyncTestClient(app, over=over) as client, client.websocket("/tells") as ws:
        await ws.send("hello")
        await asyncio.wait_for(arrived.wait(), 30)
        assert app.ctx.message == "hello"


@on_both_loops
async def test_sender_waits_for_a_slow_handler() -> None:
    app, held = make_app(), asyncio.get_running_loop().create_future()

    @app.websocket("/slow", max_queue=1)
    async def slow(request: Request, ws: Websocket) -> None:
        await held
        total = sum([len(message) async for message in ws])
        app.ctx.events.append(total)

    async with AsyncTestClient(app) as client, client.websocket("/slow") as ws:

        async def send() -> None:
            for _ in range(100):
                await ws.send(b"x" * 65536)

        sending = asyncio.create_task(send())
        while not ws.write_paused:
            await asyncio.sleep(0)
        assert not sending.done()
        held.set_result(None)
        await sending
    assert 100 * 65536 in app.ctx.events


@on_both_loops
async def test_content_may_be_an_async_iterable(over: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for n in range(10):
            await asyncio.sleep(0)
            yield str(n).encode() * 20_000

    async with AsyncTestClient(make_app(), over=over) as client:
        said = (await client.post("/echo", content=pieces())).json()
    assert len(said["body"]) == 200_000 and said["headers"]["transfer-encoding"] == "chunked"


@on_both_loops
async def test_content_that_fails_is_the_callers_error(over: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        raise ZeroDivisionError

    async with AsyncTestClient(make_app(), over=over) as client:
        with pytest.raises(ZeroDivisionError):
            await client.post("/echo", content=pieces())
        assert (await client.get("/echo")).status == 200


@on_both_loops
async def test_response_may_come_before_the_end_of_the_request(over: Any) -> None:
    endless = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x" * 2000
        await endless.wait()

    async with AsyncTestClient(make_app(REQUEST_MAX_SIZE=1000), over=over) as client:
        assert (await client.post("/echo", content=pieces())).status == 413


@on_both_loops
async def test_without_entering_no_listener_runs() -> None:
    app = make_app()
    client = AsyncTestClient(app)
    assert (await client.get("/echo")).status == 200
    async with client.websocket("/ws") as ws:
        await ws.send("a")
        assert await ws.recv() == "a"
    await client.aclose()
    await client.aclose()
    assert app.ctx.events == [] and not app.is_running


@on_both_loops
async def test_entering_twice_is_refused() -> None:
    async with make_app().async_test_client as client:
        with pytest.raises(RuntimeError, match="entered already"):
            await client.__aenter__()


@on_both_loops
async def test_start_that_takes_too_long_is_named(over: Any) -> None:
    app = App("slow_start", env_prefix=None)

    @app.before_server_start
    async def wait(app: App) -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError, match=r"the start of the app took more than 0\.05 seconds"):
        async with AsyncTestClient(app, over=over, timeout=0.05):
            raise AssertionError
    assert not app.is_running


@on_both_loops
async def test_exceptions_go_to_the_request_that_they_are_of(over: Any) -> None:
    async with AsyncTestClient(make_app(), over=over, raise_exceptions=True) as client:
        results = await asyncio.gather(
            client.get("/echo"), client.get("/boom"), client.get("/echo"), return_exceptions=True
        )
        assert [type(result).__name__ for result in results] == ["Response", "ZeroDivisionError", "Response"]


@on_both_loops
async def test_exception_of_the_test_is_not_hidden_by_one_of_a_handler() -> None:
    with pytest.raises(KeyError):
        async with AsyncTestClient(make_app(), raise_exceptions=True) as client:
            ws = await client.websocket("/fails")
            await ws.send("go")
            await ws.wait_closed()
            raise KeyError


@on_both_loops
async def test_exception_before_the_upgrade_can_be_raised(over: Any) -> None:
    app = make_app()

    @app.on_request
    async def fail(request: Request) -> None:
        raise ZeroDivisionError("in a middleware")

    async with AsyncTestClient(app, over=over, raise_exceptions=True) as client:
        with pytest.raises(ZeroDivisionError, match="in a middleware"):
            await client.websocket("/ws")
    async with AsyncTestClient(app, over=over) as client:
        with pytest.raises(HandshakeError, match="500"):
            await client.websocket("/ws")


@on_both_loops
async def test_protocol_of_the_callers(over: Any) -> None:
    class Counting(WebSocketProtocol):
        requests = 0

        async def websocket_handshake(self, request: Any, subprotocols: Any = None) -> Any:
            Counting.requests += 1
            return await super().websocket_handshake(request, subprotocols)

    async with AsyncTestClient(make_app(), over=over, protocol=Counting) as client, client.websocket("/headers") as ws:
        assert json.loads(await ws.recv())["scheme"] == "ws"
    assert Counting.requests == 1


@on_both_loops
async def test_takeover_of_the_connection() -> None:
    """A handler that aborts the connection is seen as that."""
    app = make_app()

    @app.websocket("/aborts")
    async def aborts(request: Request, ws: Websocket) -> None:
        await ws.send("before")
        request.transport.abort()

    async with AsyncTestClient(app) as client, client.websocket("/aborts") as ws:
        assert await ws.recv() == "before"
        with pytest.raises(ferrows.ConnectionClosedError):
            await ws.recv()
        assert (ws.close_code, ws.closed_by) == (1006, "network")
