"""``TestClient``: requests and WebSockets of tests that are plain functions."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest

from ferrows import App, HTTPResponse, Request, Websocket, text
from ferrows.exceptions import ConnectionClosedError, ConnectionClosedOK, HandshakeError, ServerError
from ferrows.testing import TestClient
from ferrows.testing.portal import Portal

from .conftest import make_app


@pytest.fixture(params=["uvloop", "asyncio"])
def client(app: App, over: Any, request: pytest.FixtureRequest) -> Iterator[TestClient]:
    app.config.USE_UVLOOP = request.param == "uvloop"
    with TestClient(app, over=over) as client:
        yield client


# --------------------------------------------------------------------------------------------------------------------
# HTTP


def test_response(client: TestClient) -> None:
    response = client.get("/echo")
    assert (response.status, response.status_code, response.reason) == (200, 200, "OK")
    assert response.headers["content-type"] == "application/json"
    assert json.loads(response.text) == response.json() == json.loads(response.content)
    assert response.body == response.content
    assert repr(response) == f"<Response 200 OK, {len(response.body)} bytes>"


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "options", "head"])
def test_every_method(client: TestClient, method: str) -> None:
    response = getattr(client, method)("/echo")
    assert response.headers["x-method"] == method.upper()
    assert bool(response.content) is (method != "head")


def test_params_are_added_to_the_query(client: TestClient) -> None:
    said = client.get("/echo?a=1", params={"b": ["2", "3"], "c": "ü &", "d": None}).json()
    assert said["args"] == {"a": ["1"], "b": ["2", "3"], "c": ["ü &"]}


def test_path_is_escaped_once(client: TestClient) -> None:
    assert client.get("/e%63ho").status == 200
    assert client.get("/nowhere/ü b").status == 404


@pytest.mark.parametrize(
    ("options", "content_type", "body"),
    [
        ({"json": {"a": ["ü", None]}}, "application/json", '{"a":["ü",null]}'),
        ({"json": None}, "application/json", "null"),
        ({"content": "plain"}, "text/plain; charset=utf-8", "plain"),
        ({"content": b"bytes"}, None, "bytes"),
        ({"content": [b"in ", b"", b"pieces"]}, None, "in pieces"),
        ({"data": {"a": "1", "b": ["2", "3 4"]}}, "application/x-www-form-urlencoded", "a=1&b=2&b=3+4"),
        ({"json": 1, "headers": {"Content-Type": "application/x-mine"}}, "application/x-mine", "1"),
        ({}, None, ""),
    ],
)
def test_bodies(client: TestClient, options: Any, content_type: str | None, body: str) -> None:
    said = client.post("/echo", **options).json()
    assert said["body"].encode("latin-1").decode() == body
    assert said["headers"].get("content-type") == content_type


def test_large_body_in_pieces(client: TestClient) -> None:
    said = client.post("/echo", content=(b"x" * 50_000 for _ in range(20))).json()
    assert len(said["body"]) == 1_000_000


def test_files(client: TestClient) -> None:
    said = client.post(
        "/form",
        data={"a": ["1", "2"], 'q"': "ü"},
        files={"one": b"12345", "two": ("two.txt", BytesIO(b"123")), "three": ("t", "ü", "text/x-mine")},
    ).json()
    assert said["form"] == {"a": ["1", "2"], 'q"': ["ü"]} or said["form"]["a"] == ["1", "2"]
    assert said["files"] == {
        "one": ["one", "application/octet-stream", 5],
        "two": ["two.txt", "text/plain", 3],
        "three": ["t", "text/x-mine", 2],
    }


def test_streamed_response_is_whole_and_decoded_by_its_charset(client: TestClient) -> None:
    response = client.get("/stream")
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.text == "".join(f"{n} ä " for n in range(100))


def test_cookies_are_kept_for_their_path_until_they_are_deleted(client: TestClient) -> None:
    assert client.get("/echo").json()["cookies"] == {}
    client.get("/login")
    assert dict(client.cookies) == {"session": "a b", "deep": "1"}
    assert client.get("/echo").json()["cookies"] == {"session": "a b"}
    client.cookies["mine"] = "2"
    only = client.get("/echo", cookies={"only": "here"}).json()["cookies"]
    assert only == {"only": "here", "session": "a b", "mine": "2"}
    client.get("/logout")
    del client.cookies["mine"]
    assert client.get("/echo").json()["cookies"] == {}
    with client.websocket("/headers") as ws:
        assert "cookie" not in json.loads(ws.recv())
    client.get("/login")
    with client.websocket("/headers") as ws:
        assert json.loads(ws.recv())["cookie"] == 'session="a b"'


def test_headers_of_the_client_and_of_the_request(app: App, over: Any) -> None:
    with TestClient(app, over=over, headers={"X-A": "1", "X-B": "1"}, cookies={"c": "d"}) as client:
        client.headers["X-C"] = "1"
        said = client.get("/echo", headers={"X-B": "2", "Host": "other.example"}).json()
        assert {name: said["headers"][name] for name in ("x-a", "x-b", "x-c", "host")} == {
            "x-a": "1",
            "x-b": "2",
            "x-c": "1",
            "host": "other.example",
        }
        assert said["cookies"] == {"c": "d"}
        with client.websocket("/headers", headers={"X-B": "3"}) as ws:
            headers = json.loads(ws.recv())
        assert (headers["x-a"], headers["x-b"], headers["cookie"]) == ("1", "3", "c=d")


def test_app_sees_a_local_peer(client: TestClient) -> None:
    said = client.get("/echo").json()
    assert (said["ip"], said["headers"]["host"]) == ("127.0.0.1", "localhost")


def test_base_url_is_what_the_app_sees(app: App) -> None:
    with TestClient(app, base_url="https://shop.example:8443") as client:
        assert client.get("/echo").json()["url"] == "https://shop.example:8443/echo"
        with client.websocket("/headers") as ws:
            headers = json.loads(ws.recv())
        assert (headers["scheme"], headers["host"]) == ("wss", "shop.example:8443")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"json": 1, "content": b""}, "exclude each other"),
        ({"data": {}, "content": b""}, "exclude each other"),
        ({"headers": {"A": "x\r\ny"}}, "control character"),
    ],
)
def test_options_that_do_not_go_together(client: TestClient, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        client.post("/echo", **options)


def test_wrong_options(client: TestClient) -> None:
    with pytest.raises(TypeError, match="option 'jsn' is unknown, permitted: params"):
        client.post("/echo", jsn=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="data is str"):
        client.post("/echo", data="a=1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a path that begins with a slash"):
        client.get("http://example.com/")


def test_body_that_is_no_json_says_so(client: TestClient) -> None:
    with pytest.raises(ValueError, match="<Response 200 OK, 2 bytes> is no JSON"):
        client.get("/login").json()


# --------------------------------------------------------------------------------------------------------------------
# WebSocket


def test_websocket(client: TestClient) -> None:
    with client.websocket("/ws", subprotocols=["v0", "v1"]) as ws:
        assert (ws.subprotocol, ws.response.status, ws.open) == ("v1", 101, True)
        for message in ("text", "", b"\x00\xff", "x" * 200_000):
            ws.send(message)
            assert ws.recv() == message
        ws.send({"a": 1}, encoding="json")
        assert ws.recv() == '{"a":1}'
        ws.send(["a", "b"])
        assert ws.recv() == "ab"
        assert 0 < ws.ping() < 10
        ws.pong(b"x")
    assert (ws.close_code, ws.close_reason, ws.closed) == (1000, "", True)
    with pytest.raises(ConnectionClosedOK):
        ws.recv()


def test_several_websockets_at_once(client: TestClient) -> None:
    sockets = [client.websocket("/ws") for _ in range(5)]
    for n, ws in enumerate(sockets):
        ws.send(str(n))
    assert [ws.recv() for ws in reversed(sockets)] == ["4", "3", "2", "1", "0"]
    sockets[0].close(3000, "enough")
    assert (sockets[0].close_code, sockets[0].close_reason, sockets[1].close_code) == (3000, "enough", None)


def test_compression_is_real(client: TestClient) -> None:
    with client.websocket("/ws", compression={"threshold": 0}) as ws:
        assert ws.response.headers["sec-websocket-extensions"].startswith("permessage-deflate")
        ws.send("hello " * 10_000)
        assert ws.recv() == "hello " * 10_000


def test_flood_is_held_back_and_comes_whole(client: TestClient) -> None:
    with client.websocket("/flood", max_queue=2) as ws:
        received = list(ws)
    assert [message[0] for message in received] == [n % 256 for n in range(500)]


def test_iteration_ends_with_the_connection_and_tells_a_bad_end(client: TestClient) -> None:
    with client.websocket("/fails") as ws:
        ws.send("go")
        with pytest.raises(ConnectionClosedError, match="1011"):
            list(ws)


def test_refused_upgrade(client: TestClient) -> None:
    with pytest.raises(HandshakeError) as raised:
        client.websocket("/refused")
    assert (raised.value.status, raised.value.body) == (401, b"no")
    assert client.cookies["why"] == "not"
    with pytest.raises(HandshakeError, match="404 Not Found"):
        client.websocket("/nowhere")


def test_upgrade_of_an_http_route_is_refused(client: TestClient) -> None:
    with pytest.raises(HandshakeError, match="200 OK"):
        client.websocket("/echo")


# --------------------------------------------------------------------------------------------------------------------
# Time


def test_what_takes_too_long_is_named(client: TestClient) -> None:
    with pytest.raises(TimeoutError, match=r"the response to GET /never\?a=1 took more than 0\.05 seconds"):
        client.get("/never", params={"a": 1}, timeout=0.05)
    with client.websocket("/ws") as ws:
        with pytest.raises(TimeoutError, match=r"a message on /ws took more than 0\.05 seconds"):
            ws.recv(timeout=0.05)
        ws.send("still there")
        assert ws.recv() == "still there"


def test_what_takes_longer_than_the_client_waits_is_named(app: App, over: Any) -> None:
    with TestClient(app, over=over, timeout=1) as client:
        with pytest.raises(TimeoutError, match="the response to GET /never took more than 1 seconds"):
            client.get("/never")
        with client.websocket("/ws") as ws, pytest.raises(TimeoutError, match="a message on /ws took more than 1"):
            ws.recv()
        with client.websocket("/waits", timeout=0.5) as ws, pytest.raises(TimeoutError, match=r"/waits .* 0\.5"):
            next(iter(ws))


def test_handler_that_blocks_the_loop_is_named(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()

    @app.get("/blocks")
    def blocks(request: Request) -> HTTPResponse:
        done.wait(60)
        return text("")

    with TestClient(app) as client:
        with monkeypatch.context() as patched, pytest.raises(TimeoutError, match="a handler blocks the event loop"):
            patched.setattr("ferrows.testing.portal._GRACE", 0.1)
            client.get("/blocks", timeout=0.1)
        done.set()
        client.request("GET", "/echo", timeout=60)


# --------------------------------------------------------------------------------------------------------------------
# Failures


def test_exception_is_a_500_by_default(client: TestClient) -> None:
    assert client.get("/boom").status == 500


def test_exception_can_be_raised(app: App, over: Any) -> None:
    handler = app.error_handler
    with TestClient(app, over=over, raise_exceptions=True) as client:
        with pytest.raises(ZeroDivisionError, match="boom"):
            client.get("/boom")
        # How an application answers is no failure.
        assert client.get("/forbidden").status == 403
        assert client.get("/nowhere").status == 404
        with pytest.raises(ZeroDivisionError, match="in a websocket"), client.websocket("/fails") as ws:
            ws.send("go")
            ws.recv()
        assert client.get("/echo").status == 200
    assert app.error_handler is handler
    assert "websocket.handler.exception" not in app.signal_router


def test_exception_of_a_websocket_that_nobody_looks_at_is_raised_at_the_end(app: App) -> None:
    with (
        pytest.raises(ZeroDivisionError, match="in a websocket"),
        TestClient(app, raise_exceptions=True) as client,
    ):
        client.websocket("/fails").send("go")


def test_exception_that_the_app_handles_is_its_answer(app: App) -> None:
    @app.exception(ZeroDivisionError)
    async def handle(request: Request, exception: Exception) -> HTTPResponse:
        return text("handled", 400)

    with TestClient(app, raise_exceptions=True) as client:
        assert client.get("/boom").text == "handled"


def test_response_that_breaks_off_is_a_connection_error(app: App, over: Any) -> None:
    @app.get("/breaks")
    async def breaks(request: Request) -> None:
        response = await request.respond()
        assert response is not None
        await response.send("beginning")
        raise ZeroDivisionError

    with (
        TestClient(app, over=over) as client,
        pytest.raises(ConnectionError, match="no response to GET /breaks: the connection ended within the response"),
    ):
        client.get("/breaks")


def test_handler_that_exits_does_not_hang_the_client(app: App) -> None:
    @app.get("/exit")
    async def leave(request: Request) -> HTTPResponse:
        raise SystemExit(1)

    with TestClient(app, timeout=5) as client:
        assert client.get("/exit").status == 500
        assert client.get("/echo").status == 200


# --------------------------------------------------------------------------------------------------------------------
# The life of the app


def test_listeners_run_when_the_client_is_entered(app: App, over: Any) -> None:
    with TestClient(app, over=over) as client:
        assert app.ctx.events == ["before_server_start", "after_server_start"]
        assert app.is_running
        client.get("/echo")
    assert app.ctx.events[2:] == ["before_server_stop", "after_server_stop"]
    assert not app.is_running


def test_client_can_be_entered_again(app: App, over: Any) -> None:
    client = TestClient(app, over=over)
    for _ in range(2):
        with client:
            assert client.get("/echo").status == 200
            with client.websocket("/ws") as ws:
                ws.send("a")
                assert ws.recv() == "a"
    assert len(app.ctx.events) == 8


def test_without_entering_no_listener_runs(app: App) -> None:
    client = TestClient(app)
    assert client.get("/echo").status == 200

    @app.get("/later")
    async def later(request: Request) -> HTTPResponse:
        return text("later")

    assert client.get("/later").text == "later"
    with client.websocket("/ws") as ws:
        ws.send("a")
        assert ws.recv() == "a"
    client.close()
    client.close()
    assert app.ctx.events == []


def test_over_a_socket_it_must_be_entered(app: App) -> None:
    client = TestClient(app, over="socket")
    with pytest.raises(RuntimeError, match="must be entered first"):
        client.get("/echo")
    client.close()


def test_forgotten_client_ends_its_thread(app: App) -> None:
    def threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "ferrows test client"]

    before = len(threads())
    client = TestClient(app)
    client.get("/echo")
    assert len(threads()) == before + 1
    del client
    gc.collect()
    assert len(threads()) == before


def test_open_websockets_are_closed_with_1001_at_the_end(app: App, over: Any) -> None:
    with TestClient(app, over=over) as client:
        client.websocket("/waits")
    assert 1001 in app.ctx.events


def test_handler_that_does_not_end_is_cancelled_when_the_time_is_over(app: App) -> None:
    @app.websocket("/stays")
    async def stays(request: Request, ws: Websocket) -> None:
        try:
            await app.ctx.never.wait()
        finally:
            app.ctx.events.append("cancelled")

    @app.before_server_start
    async def prepare(app: App) -> None:
        import asyncio

        app.ctx.never = asyncio.Event()

    began = time.monotonic()
    with TestClient(app, timeout=0.5) as client:
        client.websocket("/stays")
    assert "cancelled" in app.ctx.events
    assert time.monotonic() - began < 10


def test_listener_of_the_start_that_fails_is_raised_and_leaves_nothing(over: Any) -> None:
    app = make_app()

    @app.before_server_start
    async def fail(app: App) -> None:
        raise ZeroDivisionError("at the start")

    before = threading.active_count()
    client = TestClient(app, over=over)
    with pytest.raises(ZeroDivisionError, match="at the start"), client:
        raise AssertionError
    assert not app.is_running
    assert threading.active_count() == before


def test_app_has_a_client() -> None:
    app = make_app()
    with app.test_client as client:
        assert client is app.test_client
        assert client.get("/echo").status == 200
    assert app.test_client.get("/echo").status == 200
    app.test_client.close()


def test_closed_client_and_its_websockets_say_so(app: App) -> None:
    with TestClient(app) as client:
        ws = client.websocket("/ws")
    with pytest.raises(RuntimeError, match="the test client is closed"):
        ws.send("x")


def test_client_on_its_own_loop_is_refused(app: App) -> None:
    client = TestClient(app)

    @app.get("/inner")
    async def inner(request: Request) -> HTTPResponse:
        try:
            client.get("/echo")
        except RuntimeError as error:
            return text(str(error))
        raise AssertionError

    assert "would wait for itself" in client.get("/inner").text
    client.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"over": "air"}, "permitted: 'memory', 'socket'"),
        ({"over": "socket", "base_url": "https://localhost"}, "permitted: base_url with http"),
        ({"base_url": "http://localhost/path"}, "has a path"),
    ],
)
def test_wrong_client_options(app: App, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TestClient(app, **options)


def test_routes_come_too_late_while_it_runs(app: App) -> None:
    with TestClient(app), pytest.raises(ServerError, match="too late"):
        app.add_route(lambda request: text(""), "/late")


def test_asgi_application_without_a_host_is_refused_by_name() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        raise NotImplementedError

    with pytest.raises(TypeError, match=r"permitted: App; an ASGI application goes into ferrows\.asgi\.ASGIHost first"):
        TestClient(application)  # type: ignore[arg-type]


def test_loop_that_an_exit_has_just_left_ends_in_order() -> None:
    loop = asyncio.new_event_loop()
    asked_to_end = threading.Event()
    run, call_soon = loop.run_forever, loop.call_soon_threadsafe

    def run_once_into_an_exit() -> None:
        loop.run_forever = run  # type: ignore[method-assign]
        assert asked_to_end.wait(60)
        raise SystemExit

    def ask(*arguments: Any, **options: Any) -> Any:
        handle = call_soon(*arguments, **options)
        asked_to_end.set()
        return handle

    async def linger() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            ended.append(True)

    ended: list[bool] = []
    lingering = loop.create_task(linger())
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_forever = run_once_into_an_exit  # type: ignore[method-assign]
    loop.call_soon_threadsafe = ask  # type: ignore[method-assign, assignment]
    portal = Portal(lambda: loop)
    portal.close()
    assert loop.is_closed()
    assert lingering.cancelled() and ended == [True]
