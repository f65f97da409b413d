"""The lifespan of an ASGI application, and the host that a server runs it by."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from ferrows.asgi import ASGIHost, ASGIProtocol, LifespanError
from ferrows.exceptions import ServerError
from ferrows.server import WebSocketProtocol
from ferrows.testing import TestClient

from .harness import HANDSHAKE, Receive, Scope, Send, http_only, reply, serving


class Lifespan:
    """An application whose lifespan is a list of events to send; None waits for the next received one."""

    def __init__(self, *events: Any, error: BaseException | None = None) -> None:
        self.events = events
        self.error = error
        self.received: list[str] = []
        self.scope: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await reply(send, repr(scope["state"]).encode())
            return
        self.scope = scope
        for event in self.events:
            if event is None:
                self.received.append((await receive())["type"])
            else:
                await send(event)
        if self.error is not None:
            raise self.error


def complete(which: str) -> Any:
    return {"type": f"lifespan.{which}.complete"}


def failed(which: str, message: str | None = None) -> Any:
    return {"type": f"lifespan.{which}.failed"} | ({} if message is None else {"message": message})


def messages(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


async def test_startup_and_shutdown_frame_the_server_s_life() -> None:
    application = Lifespan(None, complete("startup"), None, complete("shutdown"))
    async with serving(application) as served:
        assert application.received == ["lifespan.startup"]
        assert (await served.get()).status == 200
    assert application.received == ["lifespan.startup", "lifespan.shutdown"]
    assert application.scope == {
        "type": "lifespan",
        "asgi": {"version": "3.0", "spec_version": "2.0"},
        "state": {},
    }


async def test_listeners_go_around_the_lifespan() -> None:
    order: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for which in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{which}"
            order.append(which)
            await send(complete(which))

    host = ASGIHost(application, env_prefix=None)
    for event in ("before_server_start", "after_server_start", "before_server_stop", "after_server_stop"):
        host.register_listener(lambda _, event=event: order.append(event), event)
    async with await host.create_server(port=0):
        pass
    assert order == [
        "before_server_start",
        "startup",
        "after_server_start",
        "before_server_stop",
        "shutdown",
        "after_server_stop",
    ]


async def test_startup_that_is_broken_off_is_cancelled_and_gets_no_shutdown() -> None:
    order: list[str] = []
    begun = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        order.append((await receive())["type"])
        begun.set()
        try:
            await receive()
        finally:
            order.append("cancelled")

    host = ASGIHost(application, env_prefix=None)
    for event in ("before_server_stop", "after_server_stop"):
        host.register_listener(lambda _, event=event: order.append(event), event)
    serving = asyncio.create_task((await host.create_server(port=0)).serve_forever())
    await begun.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert order == ["lifespan.startup", "cancelled", "after_server_stop"]


async def test_state_is_copied_into_every_scope() -> None:
    shared: list[int] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            scope["state"]["shared"] = shared
            await receive()
            await send(complete("startup"))
            await receive()
            await send(complete("shutdown"))
            return
        state = scope["state"]
        assert state["shared"] is shared
        assert "own" not in state
        state["own"] = True
        shared.append(1)
        await reply(send)

    async with serving(application) as served:
        for _ in range(2):
            assert (await served.get()).status == 200
    assert shared == [1, 1]


async def test_lifespan_runs_in_one_task() -> None:
    variable: ContextVar[str] = ContextVar("variable")
    seen = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        await receive()
        token = variable.set("set")
        async with asyncio.timeout(60):
            await send(complete("startup"))
            await receive()
        seen.append((variable.get(), asyncio.current_task() is task))
        # ValueError where it is another context.
        variable.reset(token)
        await send(complete("shutdown"))

    async with serving(application):
        pass
    assert seen == [("set", True)]


@pytest.mark.parametrize(
    "application",
    [Lifespan(error=KeyError("no such scope")), Lifespan(None, error=KeyError("no such scope")), Lifespan()],
    ids=["at once", "after the event", "returned"],
)
async def test_application_without_a_lifespan_is_served(
    application: Lifespan, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ferrows.root")
    async with serving(application) as served:
        assert (await served.get()).body == b"{}"
    (line,) = [line for line in messages(caplog, logging.INFO) if "lifespan" in line]
    assert line.startswith("the application takes no part in the lifespan protocol (")
    assert messages(caplog, logging.ERROR) == []


async def test_lifespan_on_makes_that_an_error() -> None:
    with pytest.raises(LifespanError, match="no such scope"):
        async with serving(Lifespan(error=KeyError("no such scope")), lifespan="on"):
            raise AssertionError("it started")


async def test_lifespan_off_does_not_ask() -> None:
    application = Lifespan(None, complete("startup"))
    async with serving(application, lifespan="off") as served:
        assert (await served.get()).status == 200
    assert application.scope is None


@pytest.mark.parametrize("error", [None, RuntimeError("no database")], ids=["returned", "raised"])
async def test_failed_startup_starts_no_server(error: Exception | None, caplog: pytest.LogCaptureFixture) -> None:
    application = Lifespan(None, failed("startup", "Traceback\n  ...\nno database"), error=error)
    with pytest.raises(LifespanError, match=r"^application startup failed: no database$"):
        async with serving(application):
            raise AssertionError("it started")
    assert messages(caplog, logging.ERROR) == ["application startup failed: Traceback\n  ...\nno database"]


async def test_failed_startup_without_a_message() -> None:
    with pytest.raises(LifespanError, match=r"^application startup failed$"):
        async with serving(Lifespan(failed("startup"))):
            raise AssertionError("it started")


async def test_failed_shutdown_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(Lifespan(None, complete("startup"), None, failed("shutdown", "lost it"))):
        pass
    assert messages(caplog, logging.ERROR) == ["application shutdown failed: lost it"]


async def test_exception_while_serving_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(Lifespan(None, complete("startup"), error=LookupError("gone"))) as served:
        assert (await served.get()).status == 200
    assert messages(caplog, logging.ERROR) == ["the application's lifespan failed"]


@pytest.mark.parametrize(
    "events",
    [
        [complete("shutdown")],
        [complete("startup"), complete("startup")],
        [complete("startup"), complete("shutdown"), failed("shutdown")],
        [complete("startup"), {"type": "http.response.start"}],
    ],
)
async def test_event_out_of_order_raises_in_the_application(events: list[Any]) -> None:
    got = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            for event in events:
                await send(event)
        except RuntimeError as error:
            got.append(str(error))
            raise

    async with serving(application):
        pass
    assert len(got) == 1 and events[-1]["type"] in got[0]


async def test_servers_of_one_host_share_its_lifespan() -> None:
    application = Lifespan(None, complete("startup"), None, complete("shutdown"))
    host = ASGIHost(application, env_prefix=None)
    async with await host.create_server(port=0):
        async with await host.create_server(port=0):
            assert application.received == ["lifespan.startup"]
        assert application.received == ["lifespan.startup"]
    assert application.received == ["lifespan.startup", "lifespan.shutdown"]


# ---- the host


@http_only
async def empty(scope: Scope, receive: Receive, send: Send) -> None:
    await reply(send)


async def test_request_under_way_is_finished_when_the_server_stops() -> None:
    started, go = asyncio.Event(), asyncio.Event()
    ended = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        started.set()
        await go.wait()
        await reply(send, b"done")
        await asyncio.sleep(0.05)
        ended.set()

    async with serving(http_only(application)) as served:
        client = await served.connect()
        client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await started.wait()
        closing = served.server.close()
        await asyncio.sleep(0.02)
        go.set()
        answer = await client.answer()
        assert (answer.body, answer.headers["connection"]) == (b"done", "close")
        await client.close()
        await closing
        # What the application does after its response is waited for too.
        assert ended.is_set()


async def test_connection_ends_with_a_stream_that_began_before_the_stop() -> None:
    go = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, b"a", more=True)
        await go.wait()
        await send({"type": "http.response.body", "body": b"b"})

    async with serving(http_only(application)) as served:
        client = await served.connect()
        client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await client.chunk_after_head() == b"a"
        closing = served.server.close()
        await asyncio.sleep(0.02)
        go.set()
        assert (await client.chunk(), await client.chunk()) == (b"b", b"")
        # Long before the grace is over.
        async with asyncio.timeout(10):
            assert await client.at_end()
            await client.close()
            await closing


async def test_server_stops_while_it_reads_over_a_body_that_nobody_wanted() -> None:
    async with serving(empty) as served:
        client = await served.connect()
        client.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
        assert (await client.answer()).status == 200
        closing = served.server.close()
        await asyncio.sleep(0.02)
        client.write(b"abcGET / HTTP/1.1\r\nHost: a\r\n\r\n")
        # Long before the grace is over.
        async with asyncio.timeout(10):
            assert await client.at_end()
            await client.close()
            await closing


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_exit_in_the_application_stops_the_server(kind: str) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == kind
        raise SystemExit(7)

    host = ASGIHost(http_only(application), env_prefix=None)
    server = await host.create_server(port=0)
    raised: list[SystemExit] = []

    async def serve() -> None:
        try:
            await server.serve_forever()
        except SystemExit as error:
            raised.append(error)

    serving = asyncio.ensure_future(serve())
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(HANDSHAKE if kind == "websocket" else b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 500 ")
    writer.close()
    await serving
    assert [error.code for error in raised] == [7]


async def test_request_that_does_not_end_is_cancelled_after_the_grace() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        started.set()
        try:
            await asyncio.sleep(3600)
        finally:
            cancelled.set()

    async with serving(http_only(application), config={"GRACEFUL_SHUTDOWN_TIMEOUT": 0.05}) as served:
        client = await served.connect()
        client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await started.wait()
        await served.server.close()
        assert cancelled.is_set()
        assert await client.at_end()


def test_routes_belong_to_the_application() -> None:
    host = ASGIHost(empty, "hosted")
    with pytest.raises(ServerError, match="routes belong to the ASGI application 'hosted'"):
        host.add_route(lambda request: None, "/")
    with pytest.raises(ServerError, match="middleware belong"):
        host.register_middleware(lambda request: None)
    with pytest.raises(ServerError, match="exception handlers belong"):
        host.exception(ValueError)(lambda request, error: None)


async def test_host_is_the_application_under_another_server() -> None:
    seen = []

    async def application(*arguments: Any) -> None:
        seen.append(arguments)

    await ASGIHost(application)({"type": "http"}, None, None)
    assert seen == [({"type": "http"}, None, None)]


@pytest.mark.parametrize("name", ["__main__", "module"])
@pytest.mark.parametrize("call", ["serve_asgi(application, port=0)", "ASGIHost(application).run(port=0)"])
def test_workers_run_the_program_that_serves(name: str, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    launched = []
    monkeypatch.setattr("ferrows.app.launch", lambda app, *_, **options: launched.append((app, options["from_main"])))
    exec(f"from ferrows.asgi import ASGIHost, serve_asgi\n{call}", {"__name__": name, "application": empty})
    ((app, from_main),) = launched
    assert isinstance(app, ASGIHost) and app.application is empty
    assert from_main is (name == "__main__")


def test_name_is_the_application_s() -> None:
    class Service:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    assert ASGIHost(Service()).name == "Service"
    assert ASGIHost(empty).name == "application"
    assert repr(ASGIHost(empty, "given")) == "<ASGIHost given>"


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"lifespan": "maybe"}, ValueError, "lifespan is 'maybe', permitted: auto, on, off"),
        ({"root_path": "api"}, ValueError, "root_path is 'api'"),
        ({"application": 3}, TypeError, "int is not"),
    ],
)
def test_options_are_checked(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        ASGIHost(**{"application": empty, **options})


def test_protocol_must_be_one_for_asgi() -> None:
    with pytest.raises(ServerError, match="protocol is WebSocketProtocol, permitted for an ASGI application"):
        ASGIHost(empty).run(protocol=WebSocketProtocol)


async def test_protocol_may_be_a_subclass() -> None:
    class Own(ASGIProtocol):
        made = 0

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            Own.made += 1
            super().connection_made(transport)

    host = ASGIHost(empty, env_prefix=None)
    async with await host.create_server(port=0, protocol=Own) as server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        while not Own.made:
            await asyncio.sleep(0)
        writer.close()
        await writer.wait_closed()


# ---- in a process of its own

PROGRAM = """
import sys
from ferrows.asgi import serve_asgi

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        print((await receive())["type"], flush=True)
        if "fail" in sys.argv:
            await send({"type": "lifespan.startup.failed", "message": "no database"})
            return
        await send({"type": "lifespan.startup.complete"})
        print((await receive())["type"], flush=True)
        await send({"type": "lifespan.shutdown.complete"})

serve_asgi(application, port=0, name="program")
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def test_serve_asgi_runs_until_it_is_told_to_stop(program: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        assert process.stdout.readline() == "lifespan.startup\n"
        assert "program: ferrows" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert (output, process.returncode) == ("lifespan.shutdown\n", 0)


def test_serve_asgi_raises_where_the_application_does_not_start(program: Path) -> None:
    done = subprocess.run([sys.executable, str(program), "fail"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert (
        done.stderr.splitlines()[-1] == "ferrows.asgi.lifespan.LifespanError: application startup failed: no database"
    )
    assert "application startup failed: no database" in done.stderr.splitlines()[0]


@pytest.mark.parametrize("over", ["memory", "socket"])
def test_test_client_reaches_the_application(over: Any) -> None:
    application = Lifespan(None, {"type": "lifespan.startup.complete"}, None, {"type": "lifespan.shutdown.complete"})
    with TestClient(ASGIHost(application), over=over) as client:
        assert client.get("/anywhere").text == "{}"
    assert application.received == ["lifespan.startup", "lifespan.shutdown"]
