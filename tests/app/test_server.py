"""The server through real sockets, on both loops: its steps, its end, and what it does to open connections."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable
from typing import Any

import pytest
import websockets

from ferrows import App, HTTPResponse, Websocket, text
from ferrows.exceptions import ServerError
from ferrows.server import AsyncioServer, HttpProtocol
from ferrows.server.protocols.websocket_protocol import WebSocketProtocol

from .harness import address, connect, on_both_loops, running, served_app


@pytest.fixture
def app() -> App:
    return served_app()


@on_both_loops
async def test_http_and_websocket_share_a_port(app: App) -> None:
    @app.websocket("/ws/<room>", subprotocols=["chat"])
    async def echo(request: Any, ws: Websocket, room: str) -> None:
        async for message in ws:
            await ws.send(f"{room}: {message!r}")

    async with running(app) as server:
        host, port = address(server)
        client = await connect(server)
        assert (await client.ask("/")).body == b"hello"
        async with websockets.connect(f"ws://{host}:{port}/ws/r", subprotocols=["chat"]) as ws:  # type: ignore[list-item]
            assert ws.subprotocol == "chat"
            await ws.send("x")
            assert await ws.recv() == "r: 'x'"
            assert (await client.ask("/")).body == b"hello"
        upgrade = await client.ask("/ws/r")
        assert (upgrade.status, upgrade.headers["upgrade"]) == (426, "websocket")
        wrong = await client.ask("/ws/r", "POST")
        assert (wrong.status, wrong.headers["allow"]) == (405, "GET")
        await client.close()


@on_both_loops
async def test_route_options_reach_the_connection(app: App) -> None:
    @app.websocket("/small", max_size=10, compression="deflate")
    async def small(request: Any, ws: Websocket) -> None:
        await ws.recv()

    async with running(app) as server:
        host, port = address(server)
        async with websockets.connect(f"ws://{host}:{port}/small") as ws:
            assert ws.response is not None
            assert "permessage-deflate" in ws.response.headers["Sec-WebSocket-Extensions"]
            await ws.send(bytes(range(200)))
            with pytest.raises(websockets.ConnectionClosedError) as raised:
                await ws.recv()
            assert raised.value.rcvd is not None
            assert raised.value.rcvd.code == 1009


@on_both_loops
async def test_handlers_end_decides_the_close_code(app: App, caplog: pytest.LogCaptureFixture) -> None:
    from ferrows.exceptions import Forbidden

    @app.websocket("/<kind>")
    async def end(request: Any, ws: Websocket, kind: str) -> None:
        if kind == "boom":
            raise RuntimeError("x")
        if kind == "forbidden":
            raise Forbidden("members only")

    codes = {}
    async with running(app) as server:
        host, port = address(server)
        for kind in ("return", "boom", "forbidden"):
            async with websockets.connect(f"ws://{host}:{port}/{kind}") as ws:
                with pytest.raises(websockets.ConnectionClosed) as raised:
                    await ws.recv()
                assert raised.value.rcvd is not None
                codes[kind] = (raised.value.rcvd.code, raised.value.rcvd.reason)
    assert codes == {"return": (1000, ""), "boom": (1011, "internal error"), "forbidden": (1008, "members only")}
    assert [record.levelno for record in caplog.records if record.name == "ferrows.error"] == [
        logging.ERROR,
        logging.WARNING,
    ]


@on_both_loops
async def test_closure_of_another_connection_is_the_handlers_failure(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    others: list[Websocket] = []

    @app.websocket("/other")
    async def other(request: Any, ws: Websocket) -> None:
        others.append(ws)

    @app.websocket("/own")
    async def own(request: Any, ws: Websocket) -> None:
        async with asyncio.TaskGroup() as group:
            for each in (ws, ws):
                group.create_task(forward(each))

    async def forward(ws: Websocket) -> None:
        await ws.wait_closed()
        await ws.send("too late")

    @app.websocket("/forward")
    async def forwarding(request: Any, ws: Websocket) -> None:
        await others[0].send("hello")

    async with running(app) as server:
        host, port = address(server)
        async with websockets.connect(f"ws://{host}:{port}/own"):
            pass
        async with websockets.connect(f"ws://{host}:{port}/other") as ws:
            assert await code_of(ws) == 1000
        assert caplog.records == []
        async with websockets.connect(f"ws://{host}:{port}/forward") as ws:
            assert await code_of(ws) == 1011
    [record] = caplog.records
    assert record.getMessage() == "handler of websocket /forward from 127.0.0.1 failed"


# ---- the steps


@on_both_loops
async def test_steps_of_a_server_run_their_listeners_once_and_in_order(app: App) -> None:
    order: list[str] = []
    for event in ("before_server_start", "after_server_start", "before_server_stop", "after_server_stop"):
        app.listener(event)(lambda app, event=event: order.append(event))
    for event in ("server.init.before", "server.init.after", "server.shutdown.before", "server.shutdown.after"):
        app.signal(event)(lambda event=event, **context: order.append(event))

    server = await app.create_server(port=0)
    assert server.is_serving() and app.is_running
    assert app.loop is asyncio.get_running_loop()
    assert order == []
    for _ in range(2):
        await server.startup()
        await server.before_start()
        await server.start_serving()
        await server.after_start()
    assert order == ["before_server_start", "server.init.before", "after_server_start", "server.init.after"]
    order.clear()
    for _ in range(2):
        await server.before_stop()
        await server.close()
        await server.wait_closed()
        await server.after_stop()
    assert order == ["server.shutdown.before", "before_server_stop", "after_server_stop", "server.shutdown.after"]
    assert not server.is_serving() and not app.is_running
    assert server.sockets == () and app.servers == []


@on_both_loops
async def test_server_can_be_made_without_accepting_yet(app: App) -> None:
    server = await app.create_server(port=0, asyncio_server_kwargs={"start_serving": False})
    assert not server.is_serving()
    await server.start_serving()
    assert server.is_serving()
    await server.close()


@on_both_loops
async def test_server_that_was_not_awaited_does_not_listen(app: App) -> None:
    async def never() -> Any: ...

    coroutine = never()
    server = AsyncioServer(app, asyncio.get_running_loop(), coroutine, set())
    assert not server.is_serving()
    assert server.sockets == ()
    await server.close()
    coroutine.close()


@on_both_loops
async def test_serve_forever_does_the_steps_until_the_app_stops(app: App) -> None:
    order: list[str] = []
    app.after_server_start(lambda app: order.append("start"))
    app.before_server_stop(lambda app: order.append("stop"))
    server = await app.create_server(port=0)
    serving = asyncio.create_task(server.serve_forever())
    client = await connect(server)
    assert (await client.ask("/")).status == 200
    app.stop()
    await asyncio.wait_for(serving, 30)
    assert order == ["start", "stop"]
    assert await client.reader.read() == b""
    await client.close()


@on_both_loops
async def test_serve_forever_ends_with_the_exit_of_a_handler(app: App) -> None:
    @app.websocket("/ws")
    async def leave(request: Any, ws: Websocket) -> None:
        raise SystemExit(await ws.recv())

    server = await app.create_server(port=0)
    serving = asyncio.ensure_future(catch_exit(server.serve_forever()))
    host, port = address(server)
    async with websockets.connect(f"ws://{host}:{port}/ws") as one, websockets.connect(f"ws://{host}:{port}/ws") as two:
        await one.send("first")
        assert await code_of(one) == 1011
        # It would be forced with a second request to stop.
        assert (await code_of(two), server.forced) == (1001, False)
    assert await serving == "first"
    assert app.servers == []


async def catch_exit(work: Awaitable[None]) -> Any:
    try:
        await work
    except SystemExit as error:
        return error.code


async def code_of(ws: websockets.ClientConnection) -> int | None:
    with pytest.raises(websockets.ConnectionClosed) as raised:
        await ws.recv()
    return None if raised.value.rcvd is None else raised.value.rcvd.code


@on_both_loops
async def test_serve_forever_ends_when_the_server_is_closed_or_the_task_cancelled(app: App) -> None:
    server = await app.create_server(port=0)
    serving = asyncio.create_task(server.serve_forever())
    waiting = asyncio.create_task(server.wait_closed())
    await asyncio.sleep(0.01)
    server.close()
    await asyncio.wait_for(serving, 30)
    await asyncio.wait_for(waiting, 30)

    server = await app.create_server(port=0)
    serving = asyncio.create_task(server.serve_forever())
    await asyncio.sleep(0.01)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert not server.is_serving()


@on_both_loops
async def test_failing_start_frees_the_port_and_ends_the_tasks(app: App) -> None:
    async def fail(app: App) -> None:
        raise RuntimeError("no database")

    app.add_task(asyncio.Event().wait)
    app.after_server_start(fail)
    server = await app.create_server(port=0)
    port = address(server)[1]
    with pytest.raises(RuntimeError, match="no database"):
        await server.serve_forever()
    assert app.tasks == []
    with socket.socket() as sock, pytest.raises(OSError):
        sock.connect(("127.0.0.1", port))


@on_both_loops
async def test_nothing_can_be_registered_while_the_server_runs(app: App) -> None:
    async with running(app):
        with pytest.raises(ServerError, match="route '/late' comes too late"):
            app.get("/late")(lambda request: None)
        with pytest.raises(ServerError, match="middleware comes too late"):
            app.on_request(lambda request: None)
    app.get("/late")(lambda request: text("late"))
    async with running(app) as server:
        client = await connect(server)
        assert (await client.ask("/late")).body == b"late"
        await client.close()


@on_both_loops
async def test_wrong_configuration_is_an_error_before_anything_listens(app: App) -> None:
    app.config["WEBSOCKET_MAX_SIZE"] = "large"
    with pytest.raises(ValueError, match="WEBSOCKET_MAX_SIZE must"):
        await app.create_server(port=0)
    assert app.servers == []


@on_both_loops
async def test_background_tasks_begin_after_the_listeners_and_end_with_the_server(app: App) -> None:
    order: list[str] = []

    @app.before_server_start
    async def prepare(app: App) -> None:
        order.append("listener")

    async def work(app: App) -> None:
        order.append("task")
        try:
            await asyncio.Event().wait()
        finally:
            order.append("cancelled")

    app.after_server_stop(lambda app: order.append("after stop"))
    kept = work(app)
    app._tasks._pending.append((kept, None))  # As from outside of a loop.
    async with running(app):
        await asyncio.sleep(0)
        assert order == ["listener", "task"]
    assert order == ["listener", "task", "cancelled", "after stop"]


# ---- the end


@on_both_loops
async def test_stop_closes_websockets_with_1001_and_lets_their_handlers_finish(app: App) -> None:
    order: list[str] = []

    @app.websocket("/ws")
    async def handler(request: Any, ws: Websocket) -> None:
        try:
            await ws.send("ready")
            async for _ in ws:
                pass
        finally:
            await asyncio.sleep(0.05)
            order.append("handler")

    app.after_server_stop(lambda app: order.append("after stop"))
    async with running(app) as server:
        host, port = address(server)
        ws = await websockets.connect(f"ws://{host}:{port}/ws")
        await ws.recv()
    with pytest.raises(websockets.ConnectionClosed) as raised:
        await ws.recv()
    assert raised.value.rcvd is not None
    assert raised.value.rcvd.code == 1001
    assert order == ["handler", "after stop"]


@on_both_loops
async def test_stop_finishes_requests_and_closes_idle_connections(app: App) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    @app.get("/slow")
    async def slow(request: Any) -> HTTPResponse:
        entered.set()
        await leave.wait()
        return text("done")

    @app.before_server_stop
    async def hook(app: App) -> None:
        assert not app.is_running
        asyncio.get_running_loop().call_later(0.05, leave.set)

    async with running(app) as server:
        idle, busy = await connect(server), await connect(server)
        assert (await idle.ask("/")).status == 200
        busy.writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await entered.wait()
    answer = await busy.answer()
    assert (answer.status, answer.headers["connection"], answer.body) == (200, "close", b"done")
    assert await idle.reader.read() == b""
    for client in (idle, busy):
        await client.close()


@on_both_loops
async def test_what_is_not_done_in_time_is_cancelled(app: App) -> None:
    app.config.GRACEFUL_SHUTDOWN_TIMEOUT = 0.05
    cancelled: list[str] = []
    entered = asyncio.Event()

    async def hang(name: str) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(name)

    @app.get("/slow")
    async def slow(request: Any) -> None:
        await hang("request")

    @app.websocket("/ws")
    async def handler(request: Any, ws: Websocket) -> None:
        await ws.send("ready")
        await hang("websocket")

    server = await app.create_server(port=0)
    host, port = address(server)
    ws = await websockets.connect(f"ws://{host}:{port}/ws")
    await ws.recv()
    client = await connect(server)
    entered.clear()
    client.writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    await entered.wait()
    began = time.monotonic()
    await server.stop()
    assert time.monotonic() - began < 30
    assert sorted(cancelled) == ["request", "websocket"]
    assert server.connections == set() and app.websocket_tasks == {}
    await ws.close()
    await client.close()


@on_both_loops
async def test_second_request_to_stop_waits_for_nothing(app: App) -> None:
    app.config.GRACEFUL_SHUTDOWN_TIMEOUT = 60
    stuck = asyncio.Event()

    @app.before_server_stop
    async def hang(app: App) -> None:
        stuck.set()
        await asyncio.Event().wait()

    server = await app.create_server(port=0)
    serving = asyncio.create_task(server.serve_forever())
    await asyncio.sleep(0.01)
    server.request_stop()
    await stuck.wait()
    assert not server.forced
    server.request_stop()
    await asyncio.wait_for(serving, 30)
    assert server.forced and server.stop_requested


@on_both_loops
async def test_connection_that_cannot_be_ended_is_dropped(app: App, caplog: pytest.LogCaptureFixture) -> None:
    class Stubborn(HttpProtocol):
        def shutdown(self, code: int = 1001) -> None:
            raise RuntimeError("no")

    async with running(app, protocol=Stubborn) as server:
        client = await connect(server)
        await client.ask("/")
    assert [record.getMessage() for record in caplog.records if record.name == "ferrows.error"] == [
        "connection could not be ended"
    ]
    with contextlib.suppress(ConnectionError):
        assert await client.reader.read() == b""
    await client.close()


@on_both_loops
async def test_connection_that_stays_is_dropped_in_the_end(app: App) -> None:
    app.config.GRACEFUL_SHUTDOWN_TIMEOUT = 0

    class Deaf(HttpProtocol):
        def shutdown(self, code: int = 1001) -> None: ...

    async with running(app, protocol=Deaf) as server:
        client = await connect(server)
        await client.ask("/")
        assert len(server.connections) == 1
    assert server.connections == set()
    with contextlib.suppress(ConnectionError):
        assert await client.reader.read() == b""
    await client.close()


@on_both_loops
async def test_end_of_one_server_leaves_the_others_websockets_alone(app: App) -> None:
    @app.websocket("/ws")
    async def echo(request: Any, ws: Websocket) -> None:
        async for message in ws:
            await ws.send(message)

    async with running(app) as staying:
        async with running(app) as leaving:
            host, port = address(staying)
            ws = await websockets.connect(f"ws://{host}:{port}/ws")
            await ws.send("before")
            assert await ws.recv() == "before"
            began = time.monotonic()
            await leaving.stop()
            assert time.monotonic() - began < 30
        await ws.send("after")
        assert await ws.recv() == "after"
        await ws.close()


# ---- protocols


@on_both_loops
async def test_own_protocol_decides_what_a_handshake_returns(app: App) -> None:
    class Own(WebSocketProtocol):
        async def websocket_handshake(self, request: Any, subprotocols: Any = None) -> Any:
            ws = await super().websocket_handshake(request, subprotocols)
            await ws.send("from the protocol")
            return ws

    @app.websocket("/ws")
    async def handler(request: Any, ws: Websocket) -> None: ...

    async with running(app, protocol=Own) as server:
        host, port = address(server)
        async with websockets.connect(f"ws://{host}:{port}/ws") as ws:
            assert await ws.recv() == "from the protocol"


@on_both_loops
async def test_own_protocol_sees_what_arrives_until_the_codec_is_fed(app: App) -> None:
    seen: list[bytes] = []

    class Watching(WebSocketProtocol):
        def data_received(self, data: bytes) -> None:
            seen.append(data)
            super().data_received(data)

    @app.websocket("/ws")
    async def handler(request: Any, ws: Websocket) -> None:
        async for message in ws:
            await ws.send(message)

    async with running(app, protocol=Watching) as server:
        client = await connect(server)
        assert (await client.ask("/")).status == 200
        await client.close()
        host, port = address(server)
        async with websockets.connect(f"ws://{host}:{port}/ws") as ws:
            await ws.send("one")
            assert await ws.recv() == "one"
    assert [data.split(b" ")[:2] for data in seen] == [[b"GET", b"/"], [b"GET", b"/ws"]]


def test_protocol_has_settings_of_its_own(app: App) -> None:
    loop: Any = object()
    first, second = (WebSocketProtocol(loop, app, websocket_max_size=100, websocket_timeout=3) for _ in range(2))
    first.websocket_max_size = 5
    first.websocket_ping_interval = None
    for protocol, size, interval in ((first, 5, None), (second, 100, 20.0)):
        assert protocol.websocket_max_size == size
        assert protocol.websocket_ping_interval == interval
        assert (protocol.websocket_timeout, protocol.websocket_ping_timeout) == (3, 20.0)


@on_both_loops
async def test_protocol_without_websockets_gets_no_arguments_for_them(app: App) -> None:
    seen: list[dict[str, Any]] = []

    class Recording(HttpProtocol):
        def __init__(self, loop: Any, app: Any, *args: Any, **kwargs: Any) -> None:
            seen.append(kwargs)
            super().__init__(loop, app, *args, **kwargs)

    async with running(app, protocol=Recording) as server:
        client = await connect(server)
        assert (await client.ask("/")).status == 200
        await client.close()
    assert set(seen[0]) == {"signal", "connections", "state", "unix"}
