"""The end of a server step by step: readiness, Closes spread over time, and hooks that take too long."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import websockets

from ferrows import App, Websocket, text
from ferrows.exceptions import Forbidden
from ferrows.server import AsyncioServer

from .harness import Ask, connect, on_both_loops


@pytest.fixture
def app() -> App:
    app = App("draining", {"GRACEFUL_SHUTDOWN_TIMEOUT": 5, "READY_PATH": "/ready"}, env_prefix=None)

    @app.websocket("/ws")
    async def wait(request: Any, ws: Websocket) -> None:
        async for _ in ws:
            pass

    return app


async def open_websockets(server: AsyncioServer, count: int) -> list[websockets.ClientConnection]:
    host, port = server.sockets[0].getsockname()[:2]
    return [await websockets.connect(f"ws://{host}:{port}/ws") for _ in range(count)]


async def ended(ws: websockets.ClientConnection) -> tuple[int, float]:
    """Wait for the end of a connection and return its close code and when that was."""
    with pytest.raises(websockets.ConnectionClosed) as raised:
        await ws.recv()
    assert raised.value.rcvd is not None
    return raised.value.rcvd.code, time.monotonic()


# ---- readiness


@on_both_loops
async def test_server_is_ready_until_a_stop_is_asked_for(app: App) -> None:
    app.config.DRAIN_DELAY = 60
    assert not app.is_ready
    server = await app.create_server(port=0)
    serving = asyncio.create_task(server.serve_forever())
    balancer, other = await connect(server), await connect(server)
    answer = await balancer.ask("/ready")
    assert (answer.status, answer.body, answer.headers.get("connection")) == (200, b"ready", None)
    assert answer.headers["cache-control"] == "no-store"
    assert app.is_ready
    server.request_stop()
    answer = await balancer.ask("/ready")
    assert (answer.status, answer.body, answer.headers["connection"]) == (503, b"draining", "close")
    # Connections are accepted for as long as `DRAIN_DELAY` lasts.
    late = await connect(server)
    assert (await late.ask("/ready")).status == (await other.ask("/ready")).status == 503
    assert not app.is_ready and app.is_running
    server.request_stop()
    await asyncio.wait_for(serving, 30)
    for client in (balancer, other, late):
        await client.close()


@on_both_loops
async def test_delay_of_the_drain_ends_by_itself_and_comes_before_the_listeners(app: App) -> None:
    app.config.DRAIN_DELAY = 0.1
    stopped: list[float] = []
    app.before_server_stop(lambda app: stopped.append(time.monotonic()))
    async with await app.create_server(port=0):
        began = time.monotonic()
    assert stopped[0] - began >= 0.1


@on_both_loops
async def test_restart_does_not_wait_and_stays_ready_for_others(app: App) -> None:
    app.config.DRAIN_DELAY = 60
    async with await app.create_server(port=0) as server:
        [ws] = await open_websockets(server, 1)
        server.request_stop(restart=True)
        assert app.is_ready
        began = time.monotonic()
    assert (await ended(ws))[0] == 1012
    assert time.monotonic() - began < 30


@on_both_loops
async def test_middleware_does_not_run_for_readiness(app: App) -> None:
    @app.on_request
    async def refuse(request: Any) -> None:
        raise Forbidden("members only")

    async with await app.create_server(port=0) as server:
        client = await connect(server)
        assert (await client.ask("/ready")).status == 200
        assert (await client.ask("/ready", "HEAD")).status == 200
        assert (await client.ask("/other")).status == 403
        await client.close()


async def test_whoever_answers_without_a_server_is_ready(app: App, ask: Ask) -> None:
    response = await ask(app, "/ready")
    assert response is not None and response.status == 200
    assert not app.is_ready


def test_readiness_has_its_route_once_and_its_path_for_itself(app: App) -> None:
    app.finalize()
    app.finalize()
    assert [route.path for route in app.routes] == ["/ws", "/ready"]
    other = App("other", {"READY_PATH": "/"}, env_prefix=None)
    other.add_route(lambda request: text("mine"), "/")
    with pytest.raises(ValueError, match=r"GET / of 'other\.ready' conflicts"):
        other.finalize()


@pytest.mark.parametrize("path", ["ready", "", 3])
def test_path_of_readiness_must_be_one(path: Any) -> None:
    with pytest.raises(ValueError, match="READY_PATH must be a path that begins with a slash, or None"):
        App("other", {"READY_PATH": path}, env_prefix=None).finalize()


# ---- spreading


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the WebSockets are to get their Closes, in seconds from then on, as soon as a server has planned that."""
    found: list[float] = []
    plan = AsyncioServer._spread_closes

    def spread_closes(self: AsyncioServer, timeout: float) -> Any:
        now = self.loop.time()
        made = plan(self, timeout)
        found.extend(when - now for when, _ in made)
        return made

    monkeypatch.setattr(AsyncioServer, "_spread_closes", spread_closes)
    return found


@on_both_loops
async def test_closes_are_spread_over_the_time_to_drain(
    app: App, monkeypatch: pytest.MonkeyPatch, planned: list[float]
) -> None:
    monkeypatch.setattr("ferrows.server.async_server._SPREAD", 1.0)
    app.config.update(DRAIN_TIMEOUT=1, GRACEFUL_SHUTDOWN_TIMEOUT=60)
    server = await app.create_server(port=0)
    clients = await open_websockets(server, 20)
    ends = asyncio.gather(*(ended(ws) for ws in clients))
    began = time.monotonic()
    await server.close()
    assert planned == sorted(planned)
    assert planned[0] < 0.4
    codes, times = zip(*await ends, strict=True)
    assert set(codes) == {1001}
    ordered = sorted(each - began for each in times)
    # Nobody is told before it is time; how long after that is the machine's to say.
    assert ordered[10] > 0.3 and ordered[-1] > 0.8
    # At random: not in the order in which they came.
    assert list(times) != sorted(times)


@on_both_loops
async def test_few_connections_are_told_at_once(app: App) -> None:
    app.config.update(DRAIN_TIMEOUT=120, GRACEFUL_SHUTDOWN_TIMEOUT=120)
    server = await app.create_server(port=0)
    clients = await open_websockets(server, 3)
    ends = asyncio.gather(*(ended(ws) for ws in clients))
    began = time.monotonic()
    await server.close()
    assert time.monotonic() - began < 30
    assert [code for code, _ in await ends] == [1001] * 3


@on_both_loops
async def test_closes_leave_half_of_the_grace_for_the_clients(
    app: App, monkeypatch: pytest.MonkeyPatch, planned: list[float]
) -> None:
    monkeypatch.setattr("ferrows.server.async_server._SPREAD", 60.0)
    app.config.update(DRAIN_TIMEOUT=60, GRACEFUL_SHUTDOWN_TIMEOUT=8)
    server = await app.create_server(port=0)
    clients = await open_websockets(server, 5)
    ends = asyncio.gather(*(ended(ws) for ws in clients))
    await server.close()
    assert [code for code, _ in await ends] == [1001] * 5
    # The last of five is told in the last fifth of the time; the clocks of a loop are not that exact.
    assert 3 < planned[-1] < 4.1


@on_both_loops
async def test_second_request_to_stop_tells_all_at_once(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ferrows.server.async_server._SPREAD", 60.0)
    app.config.update(DRAIN_TIMEOUT=60, GRACEFUL_SHUTDOWN_TIMEOUT=120)
    server = await app.create_server(port=0)
    clients = await open_websockets(server, 5)
    ends = asyncio.gather(*(ended(ws) for ws in clients))
    server.request_stop()
    stopping = asyncio.create_task(server.stop())
    await asyncio.sleep(0.05)
    server.request_stop()
    await asyncio.wait_for(stopping, 60)
    assert [code for code, _ in await ends] == [1001] * 5


@on_both_loops
async def test_websocket_that_opens_while_the_server_stops_is_told_too(app: App) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    @app.on_request
    async def hold(request: Any) -> None:
        entered.set()
        await leave.wait()

    server = await app.create_server(port=0)
    host, port = server.sockets[0].getsockname()[:2]
    opening = asyncio.create_task(websockets.connect(f"ws://{host}:{port}/ws").__aenter__())
    await entered.wait()
    closing = server.close()
    await asyncio.sleep(0.05)
    leave.set()
    ws = await opening
    assert (await ended(ws))[0] == 1001
    await asyncio.wait_for(closing, 30)


@on_both_loops
async def test_request_of_a_connection_that_was_just_made_is_answered(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ferrows.server.protocols.http_protocol.NEW_GRACE", 2.0)
    app.config.GRACEFUL_SHUTDOWN_TIMEOUT = 120
    app.add_route(lambda request: text("hello"), "/")
    server = await app.create_server(port=0)
    new, silent = await connect(server), await connect(server)
    while len(server.connections) < 2:
        await asyncio.sleep(0)
    began = time.monotonic()
    closing = server.close()
    await asyncio.sleep(0.05)
    answer = await new.ask("/")
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    await new.close()
    # Who has nothing to ask does not hold the end up for long.
    assert await silent.reader.read() == b""
    await closing
    assert time.monotonic() - began < 30
    await silent.close()


@on_both_loops
async def test_connection_that_has_been_silent_is_closed_at_once(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ferrows.server.protocols.http_protocol.NEW_GRACE", 0.0)
    app.config.GRACEFUL_SHUTDOWN_TIMEOUT = app.config.REQUEST_HEAD_TIMEOUT = 120
    server = await app.create_server(port=0)
    silent = await connect(server)
    began = time.monotonic()
    await server.close()
    assert time.monotonic() - began < 30
    assert await silent.reader.read() == b""
    await silent.close()


# ---- the hard deadline


@on_both_loops
async def test_listener_that_takes_too_long_is_cancelled(
    app: App, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ferrows.server.async_server._CANCEL_TIMEOUT", 0.1)
    app.config.GRACEFUL_SHUTDOWN_TIMEOUT = 0.2
    order: list[str] = []

    @app.before_server_stop
    async def hang(app: App) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            order.append("cancelled")

    app.after_server_stop(lambda app: order.append("after"))
    async with await app.create_server(port=0):
        began = time.monotonic()
    assert time.monotonic() - began < 30
    assert order == ["cancelled", "after"]
    assert [record.getMessage() for record in caplog.records if record.name == "ferrows.error"] == [
        "listeners of before_server_stop took too long and were cancelled"
    ]
