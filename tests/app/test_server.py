"""The server through real sockets, on both loops: its steps, its end, and what it does to open connections."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop
import websockets

from ferrows import App, HTTPResponse, Websocket, text
from ferrows.exceptions import ServerError
from ferrows.server import AsyncioServer, HttpProtocol, Signal, bind_socket, serve
from ferrows.server.listeners import Listeners
from ferrows.server.protocols.websocket_protocol import WebSocketProtocol

from .harness import Client, connect, on_both_loops
from .test_sockets import has_ipv6, needs_ipv6


@pytest.fixture
def app() -> App:
    app = App("served", env_prefix=None)
    app.config.GRACEFUL_SHUTDOWN_TIMEOUT = 5
    app.add_route(lambda request: text("hello"), "/")
    return app


@contextlib.asynccontextmanager
async def running(app: App, **options: Any) -> AsyncIterator[AsyncioServer]:
    async with await app.create_server(port=0, **options) as server:
        yield server


def address(server: AsyncioServer) -> tuple[str, int]:
    host, port = server.sockets[0].getsockname()[:2]
    return host, port


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
    await asyncio.wait_for(serving, 5)
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
    await asyncio.wait_for(serving, 5)
    await asyncio.wait_for(waiting, 5)

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
    assert time.monotonic() - began < 2
    assert sorted(cancelled) == ["request", "websocket"]
    assert server.connections == set() and app.websocket_tasks == {}
    await ws.close()
    await client.close()


@on_both_loops
async def test_second_request_to_stop_waits_for_nothing(app: App) -> None:
    app.config.GRACEFUL_SHUTDOWN_TIMEOUT = 60
    stuck: list[str] = []

    @app.before_server_stop
    async def hang(app: App) -> None:
        stuck.append("before")
        await asyncio.Event().wait()

    server = await app.create_server(port=0)
    serving = asyncio.create_task(server.serve_forever())
    await asyncio.sleep(0.01)
    server.request_stop()
    await asyncio.sleep(0.01)
    assert stuck == ["before"] and not server.forced
    server.request_stop()
    await asyncio.wait_for(serving, 5)
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
            assert time.monotonic() - began < 2
        await ws.send("after")
        assert await ws.recv() == "after"
        await ws.close()


# ---- where it listens


@on_both_loops
async def test_unix_socket(app: App, tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with await app.create_server(unix=path):
        client = Client(*await asyncio.open_unix_connection(str(path)))
        assert (await client.ask("/")).body == b"hello"
        with pytest.raises(OSError, match="already"):
            await App("other").create_server(unix=path)
        await client.close()
    assert not path.exists()


@on_both_loops
async def test_hosts_and_the_addresses_that_they_listen_on(app: App) -> None:
    def families(server: AsyncioServer) -> set[str]:
        assert len({sock.getsockname()[1] for sock in server.sockets}) == 1
        return {sock.getsockname()[0] for sock in server.sockets}

    expected = {None: {"127.0.0.1"}, "": {"127.0.0.1"}, "0.0.0.0": {"0.0.0.0"}}
    if has_ipv6():
        expected |= {"*": {"0.0.0.0", "::"}, "::": {"::"}, "::1": {"::1"}}
    for host, addresses in expected.items():
        async with running(app, host=host) as server:
            assert families(server) == addresses
    async with running(app, host="localhost") as server:
        found = {entry[4][0] for entry in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
        assert families(server) == found


@on_both_loops
async def test_socket_that_is_given(app: App) -> None:
    sock = bind_socket("127.0.0.1", 0)
    port = sock.getsockname()[1]
    async with await app.create_server(sock=sock) as server:
        assert address(server) == ("127.0.0.1", port)
        client = await connect(server)
        assert (await client.ask("/")).body == b"hello"
        await client.close()


@on_both_loops
async def test_two_servers_share_a_port(app: App) -> None:
    async with (
        running(app, reuse_port=True) as first,
        await app.create_server("127.0.0.1", address(first)[1], reuse_port=True) as second,
    ):
        assert address(second) == address(first)
        assert app.servers == [first, second]


@on_both_loops
async def test_port_in_use_is_an_os_error(app: App) -> None:
    async with running(app) as server:
        with pytest.raises(OSError):
            await App("other").create_server("127.0.0.1", address(server)[1])


@pytest.mark.parametrize("port", [-1, 65536, 2**70])
@pytest.mark.parametrize("use_uvloop", [False, True])
def test_number_that_is_no_port_is_a_value_error(app: App, port: int, use_uvloop: bool) -> None:
    app.config.USE_UVLOOP = use_uvloop
    message = rf"^port must be in 0\.\.65535, not {port}$"
    with pytest.raises(ValueError, match=message):
        app.run(port=port)
    with pytest.raises(ValueError, match=message):
        bind_socket("127.0.0.1", port)

    async def create() -> None:
        with pytest.raises(ValueError, match=message):
            await app.create_server(port=port)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if use_uvloop else None) as runner:
        runner.run(create())


@on_both_loops
async def test_addresses_exclude_each_other(app: App, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exclude each other"):
        await app.create_server("127.0.0.1", unix=tmp_path / "s")


@on_both_loops
async def test_tls(app: App) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    @app.websocket("/ws")
    async def handler(request: Any, ws: Websocket) -> None:
        await ws.send(request.scheme)

    async with running(app, ssl=context) as server:
        client = await connect(server, ssl=trusting, server_hostname="localhost")
        assert (await client.ask("/")).body == b"hello"
        host, port = address(server)
        async with websockets.connect(f"wss://localhost:{port}/ws", ssl=trusting, host=host) as ws:
            assert await ws.recv() == "wss"
        await client.close()


@on_both_loops
@pytest.mark.parametrize("given", ["port", "socket"])
async def test_nagle_is_off_on_every_connection(app: App, given: str) -> None:
    # asyncio takes a socket that was made without the number of its protocol for one that is not TCP's.
    options: dict[str, Any] = {"port": 0} if given == "port" else {"sock": bind_socket("127.0.0.1", 0)}

    @app.get("/nodelay")
    async def nodelay(request: Any) -> HTTPResponse:
        sock = request.transport.get_extra_info("socket")
        return text(str(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0))

    async with await app.create_server(**options) as server:
        client = await connect(server)
        assert (await client.ask("/nodelay")).body == b"True"
        await client.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the length of the queue")
@on_both_loops
@pytest.mark.parametrize("given", [None, 5])
async def test_thousands_may_wait_to_be_accepted_unless_it_is_said_otherwise(app: App, given: int | None) -> None:
    options = {} if given is None else {"backlog": given}
    most = int(Path("/proc/sys/net/core/somaxconn").read_text())
    sizes = []
    async with running(app, **options) as server:
        sizes += map(queue_size, server.sockets)
    listeners = Listeners.bound({"host": "127.0.0.1", "port": 0, **options}, 2)
    sizes.append(queue_size(listeners.of(1)[0]))
    listeners.remove()
    assert sizes == [min(given or 2048, most)] * 2


def queue_size(sock: Any) -> int:
    """How many connections may wait on a listening socket: ``tcpi_sacked`` of tcp(7)'s TCP_INFO."""
    found: int = struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 28)[0]
    return found


@on_both_loops
async def test_access_log_and_debug_can_be_set_for_a_run(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with running(app, access_log=False, debug=True) as server:
        client = await connect(server)
        await client.ask("/")
        await client.close()
    assert [record for record in caplog.records if record.name == "ferrows.access"] == []
    assert app.debug


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


# ---- serve


@on_both_loops
async def test_serve_asynchronously_gives_a_server_to_await(app: App) -> None:
    connections: set[Any] = set()
    signal = Signal()
    server = serve("127.0.0.1", 0, app, run_async=True, connections=connections, signal=signal)
    assert server is not None
    async with await server:
        client = await connect(server)
        await client.ask("/")
        assert len(connections) == 1
        assert not signal.stopped
        await client.close()
    assert signal.stopped


@pytest.mark.parametrize("version", [2, 3, "3"])
def test_other_versions_of_http_are_refused(app: App, version: Any) -> None:
    with pytest.raises(ServerError, match="aioquic"):
        serve("127.0.0.1", 0, app, version=version)


@pytest.fixture(params=["asyncio", "uvloop"])
def loops(request: pytest.FixtureRequest, app: App) -> Iterator[None]:
    app.config.USE_UVLOOP = request.param == "uvloop"
    yield


def ask_and_stop(app: App, answers: list[bytes]) -> None:
    """From another thread, ask the server that starts in this one, and stop it."""

    @app.after_server_start
    async def started(app: App) -> None:
        port = address(app.servers[0])[1]

        def ask() -> None:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                answers.append(b"".join(iter(lambda: client.recv(65536), b"")))
            app.stop()

        threading.Thread(target=ask).start()


@pytest.mark.usefixtures("loops")
def test_run_serves_until_the_app_is_stopped(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ferrows.root")
    order: list[str] = []
    for event in app._listeners:
        app.listener(event)(lambda app, event=event: order.append(event))
    answers: list[bytes] = []
    ask_and_stop(app, answers)
    app.run(port=0)
    assert answers[0].endswith(b"hello")
    assert order == [
        "main_process_start",
        "before_server_start",
        "after_server_start",
        "before_server_stop",
        "after_server_stop",
        "main_process_stop",
    ]
    banner = caplog.records[0].getMessage()
    assert "served: ferrows " in banner and " on http://127.0.0.1:" in banner
    assert ("uvloop" if app.config.USE_UVLOOP else "asyncio") in banner
    assert len(caplog.records) == 3


def test_run_without_a_banner_on_a_loop_that_is_given(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ferrows.root")
    loop = asyncio.new_event_loop()
    answers: list[bytes] = []
    ask_and_stop(app, answers)
    app.run(port=0, motd=False, loop=loop, register_sys_signals=False, debug=True)
    assert len(answers) == 1
    assert not any("ferrows " in record.getMessage() for record in caplog.records)
    assert loop.get_debug() and not loop.is_closed()
    loop.close()


def test_run_can_be_repeated_with_more_routes(app: App) -> None:
    answers: list[bytes] = []
    ask_and_stop(app, answers)
    app.run(port=0)
    app.get("/more")(lambda request: text("more"))
    app.run(port=0)
    assert len(answers) == 2
    assert [route.path for route in app.routes] == ["/", "/more"]


def test_run_that_cannot_start_raises_and_cleans_up(app: App) -> None:
    order: list[str] = []

    async def fail(app: App) -> None:
        raise RuntimeError("no database")

    app.before_server_start(fail)
    app.main_process_stop(lambda app: order.append("main stop"))
    with pytest.raises(RuntimeError, match="no database"):
        app.run(port=0)
    assert order == ["main stop"]
    assert app.servers == []


def test_run_whose_process_listener_fails_raises(app: App) -> None:
    def fail(app: App) -> None:
        raise RuntimeError("main")

    app.main_process_start(fail)
    with pytest.raises(RuntimeError, match="main"):
        app.run(port=0)


EVENTS = ("before_server_start", "after_server_start", "before_server_stop", "after_server_stop")


@pytest.mark.parametrize(
    ("hanging", "order"),
    [
        ("before_server_start", ["before_server_start", "cancelled", "after_server_stop"]),
        (
            "after_server_start",
            ["before_server_start", "after_server_start", "cancelled", "before_server_stop", "after_server_stop"],
        ),
    ],
)
@pytest.mark.parametrize("use_uvloop", [False, True], ids=["asyncio", "uvloop"])
def test_stop_during_the_start_breaks_it_off_and_ends_what_had_begun(
    app: App, hanging: str, order: list[str], use_uvloop: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="ferrows.root")
    app.config.USE_UVLOOP = use_uvloop
    found: list[str] = []

    async def hang(app: App) -> None:
        app.stop()
        try:
            await asyncio.Event().wait()
        finally:
            found.append("cancelled")

    for event in EVENTS:
        app.register_listener(lambda app, event=event: found.append(event), event)
    app.register_listener(hang, hanging)
    # Behind the one that is cancelled.
    app.register_listener(lambda app: found.append("too late"), hanging)
    app.run(port=0)
    assert found == order
    assert caplog.messages[-2] == "App.stop: the start is broken off"
    assert caplog.messages[-1].startswith("stopped after 0.")


def test_listener_that_misses_what_the_start_would_have_made_is_logged(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    @app.before_server_start
    async def hang(app: App) -> None:
        app.stop()
        await asyncio.Event().wait()

    app.after_server_stop(lambda app: app.ctx.database.close())
    app.run(port=0)
    assert "listener of after_server_stop failed" in caplog.messages


def test_stop_is_logged_when_it_begins_and_when_it_is_over(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="ferrows.root")
    app.config.update(GRACEFUL_SHUTDOWN_TIMEOUT=3, DRAIN_DELAY=0.01)
    app.after_server_start(lambda app: os.kill(os.getpid(), signal.SIGTERM))
    app.run(port=0)
    assert caplog.messages[-2] == (
        "SIGTERM: stopping, no new connections after 0.01 s, 0 connections with up to 3 s to end"
    )
    assert re.fullmatch(r"stopped after 0\.\d s\. .+", caplog.messages[-1])


def test_stop_that_is_asked_for_twice_says_so(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="ferrows.root")

    @app.before_server_stop
    async def again(app: App) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    app.after_server_start(lambda app: os.kill(os.getpid(), signal.SIGTERM))
    app.run(port=0)
    lines = [line.partition(":")[0] for line in caplog.messages[-3:-1]]
    assert lines in (["SIGTERM", "SIGINT again"], ["SIGTERM", "SIGTERM again"])


def test_keyboard_interrupt_from_the_loop_stops_gracefully(app: App) -> None:
    order: list[str] = []

    @app.after_server_start
    async def interrupt(app: App) -> None:
        def raise_interrupt() -> None:
            raise KeyboardInterrupt

        asyncio.get_running_loop().call_soon(raise_interrupt)

    app.before_server_stop(lambda app: order.append("stop"))
    app.config.USE_UVLOOP = False
    app.run(port=0, register_sys_signals=False)
    assert order == ["stop"]


@pytest.mark.usefixtures("loops")
def test_exit_of_a_task_stops_gracefully_and_comes_out_of_run(app: App) -> None:
    order: list[str] = []

    async def leave() -> None:
        raise SystemExit(4)

    app.add_task(leave())
    app.before_server_stop(lambda app: order.append("stop"))
    with pytest.raises(SystemExit) as raised:
        app.run(port=0)
    assert (raised.value.code, order) == (4, ["stop"])


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.usefixtures("loops")
def test_exit_of_a_listener_comes_out_of_run(app: App, error: type[BaseException]) -> None:
    @app.before_server_start
    async def leave(app: App) -> None:
        raise error

    with pytest.raises(error):
        app.run(port=0)
    assert app.servers == []


@pytest.mark.usefixtures("loops")
def test_thread_that_still_runs_holds_the_end_up_no_longer_than_the_grace(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    app.config.GRACEFUL_SHUTDOWN_TIMEOUT = 0.2
    release = threading.Event()

    @app.after_server_start
    async def work(app: App) -> None:
        asyncio.get_running_loop().run_in_executor(None, release.wait, 20)
        app.stop()

    began = time.monotonic()
    try:
        app.run(port=0)
        assert time.monotonic() - began < 10
    finally:
        release.set()
    assert [record.getMessage() for record in caplog.records if record.name == "ferrows.error"] == [
        "a thread of the executor still runs: nothing can end it, and Python waits for it"
    ]


@pytest.mark.usefixtures("loops")
def test_thread_that_ends_in_time_is_waited_for(app: App, caplog: pytest.LogCaptureFixture) -> None:
    ended: list[bool] = []
    release = threading.Event()

    @app.after_server_start
    async def work(app: App) -> None:
        asyncio.get_running_loop().run_in_executor(None, lambda: ended.append(release.wait(20)))
        app.stop()

    @app.main_process_stop
    async def last(app: App) -> None:
        threading.Timer(0.1, release.set).start()

    app.run(port=0)
    assert ended == [True]
    assert [record for record in caplog.records if record.name == "ferrows.error"] == []


def test_run_in_a_thread_cannot_take_signals_and_serves_all_the_same(app: App) -> None:
    answers: list[bytes] = []
    ask_and_stop(app, answers)
    thread = threading.Thread(target=app.run, kwargs={"port": 0})
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert answers[0].endswith(b"hello")


def test_tasks_that_nobody_minds_are_cancelled_at_the_end_of_a_run(app: App) -> None:
    cancelled: list[bool] = []
    kept: list[asyncio.Task[None]] = []

    async def forgotten() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    @app.after_server_start
    async def started(app: App) -> None:
        kept.append(asyncio.get_running_loop().create_task(forgotten()))
        app.stop()

    app.run(port=0)
    assert cancelled == [True]


def test_start_that_fails_while_it_is_being_stopped_raises(app: App) -> None:
    @app.before_server_start
    async def fail(app: App) -> None:
        app.stop()
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError("on the way out")

    with pytest.raises(RuntimeError, match="on the way out"):
        app.run(port=0)


def test_run_refuses_workers_that_it_cannot_have(app: App) -> None:
    with pytest.raises(ValueError, match="workers must be an integer >= 1 or 'auto', not 0"):
        app.run(workers=0)
    with pytest.raises(ServerError, match="auto_reload needs workers that load the code anew"):
        app.run(auto_reload=True)
    with asyncio.Runner() as runner, pytest.raises(ServerError, match="loop is not for workers"):
        app.run(workers=2, loop=runner.get_loop())


def test_run_in_use_port_raises(app: App) -> None:
    with bind_socket("127.0.0.1", 0) as sock, pytest.raises(OSError):
        app.run(port=sock.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("0.0.0.0", "http://localhost:{port} (all interfaces)"),
        ("*", " on http://localhost:{port} (all interfaces) ("),
        ("127.0.0.1", "http://127.0.0.1:{port}"),
        pytest.param("::", "http://[::1]:{port} (all interfaces, IPv6 alone)", marks=needs_ipv6),
    ],
)
def test_banner_shows_an_address_to_click_on(app: App, caplog: pytest.LogCaptureFixture, host: str, shown: str) -> None:
    caplog.set_level(logging.INFO, "ferrows.root")
    ports: list[int] = []

    @app.after_server_start
    async def started(app: App) -> None:
        ports.append(address(app.servers[0])[1])
        app.stop()

    app.run(host, 0, debug=True)
    # In debug mode the loop has something to say as well, if the machine is slow.
    banner = next(record.getMessage() for record in caplog.records if record.name == "ferrows.root")
    assert shown.format(port=ports[0]) in banner
    assert ", debug" in banner


def test_banner_shows_a_unix_socket(app: App, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.INFO, "ferrows.root")

    @app.after_server_start
    async def started(app: App) -> None:
        app.stop()

    app.run(unix=tmp_path / "s", register_sys_signals=False)
    assert f"unix:{tmp_path / 's'}" in caplog.records[0].getMessage()
