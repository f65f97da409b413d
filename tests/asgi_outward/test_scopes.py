"""What an app makes of scopes that servers may give it; no network."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from ferrows import App, HTTPResponse, Request, Websocket
from ferrows.exceptions import ServerError, WebsocketClosed
from ferrows.response import ResponseStream, empty, json, raw, text
from ferrows.server.scope import ScopeRequest, conn_info

from .channels import CONNECT, GONE, Channels, body, disconnect, http_scope, message, turns, websocket_scope


@pytest.fixture
def app() -> App:
    return App("scopes", {"REQUEST_MAX_SIZE": 10}, env_prefix=None)


async def ask(app: App, scope: Any, *events: Any) -> Channels:
    """Call an app with a scope until it has answered."""
    channels = Channels(*events)
    await asyncio.wait_for(app(scope, channels.receive, channels.send), 10)
    return channels


# ---- a scope as a request


@pytest.mark.parametrize(
    ("changes", "path", "url"),
    [
        ({}, "/a", "http://example.com/a"),
        ({"query_string": b"x=1"}, "/a", "http://example.com/a?x=1"),
        ({"path": "/ß b", "raw_path": b"/%C3%9F%20b"}, "/%C3%9F%20b", "http://example.com/%C3%9F%20b"),
        ({"path": "/ß b"}, "/%C3%9F%20b", "http://example.com/%C3%9F%20b"),
        ({"path": "/ß b", "raw_path": None}, "/%C3%9F%20b", "http://example.com/%C3%9F%20b"),
        ({"path": "/a/b", "raw_path": b"/a%2Fb"}, "/a%2Fb", "http://example.com/a%2Fb"),
        ({"path": "/a", "raw_path": b"/a?x=1", "query_string": b"x=1"}, "/a", "http://example.com/a?x=1"),
        # What middleware rewrote counts, not what came.
        ({"path": "/new", "raw_path": b"/old"}, "/new", "http://example.com/new"),
        ({"path": "/x/a", "root_path": "/x"}, "/a", "http://example.com/x/a"),
        ({"path": "/x/a", "raw_path": b"/x/a", "root_path": "/x"}, "/a", "http://example.com/x/a"),
        ({"path": "/x", "root_path": "/x"}, "/", "http://example.com/x/"),
        ({"path": "/xa", "root_path": "/x"}, "/xa", "http://example.com/x/xa"),
        # A proxy has cut the prefix off already.
        ({"path": "/a", "root_path": "/x"}, "/a", "http://example.com/x/a"),
        ({"path": "/ß/a%2F", "raw_path": b"/%c3%9f/a%252F", "root_path": "/ß"}, "/a%252F", "http://example.com/%C3%9F/a%252F"),
        ({"path": "*", "method": "OPTIONS"}, "*", "http://example.com"),
        ({"scheme": "https"}, "/a", "https://example.com/a"),
    ],
)  # fmt: skip
def test_path_and_url(changes: dict[str, Any], path: str, url: str) -> None:
    request = ScopeRequest({**http_scope("/a"), **changes})
    assert (request.path, request.url) == (path, url)


def test_request_keeps_the_scope() -> None:
    scope = http_scope(state={"pool": 1}, http_version="2")
    request = ScopeRequest(scope)
    assert request.scope is scope
    assert (request.method, request.version) == ("GET", "2")


def test_scheme_of_a_websocket_needs_no_upgrade_header() -> None:
    assert ScopeRequest(websocket_scope(http_version="2")).scheme == "ws"
    assert ScopeRequest(websocket_scope(scheme=None)).scheme == "ws"
    assert ScopeRequest(http_scope(scheme=None)).scheme == "http"


def test_headers_in_any_case() -> None:
    headers = [(b"Host", b"h"), (b"X-A", b"1"), (b"x-a", b"\xc3\x9f")]
    request = ScopeRequest(http_scope(headers=headers))
    assert request.header_lines("host", "x-a", "none") == [["h"], ["1", "ß"], []]
    assert request.headers.getall("X-A") == ["1", "ß"]
    assert request.raw_headers == headers
    assert list(request.headers) == ["Host", "X-A"]


def test_who_is_connected_to_whom() -> None:
    info = conn_info(http_scope(scheme="https", client=["2001:db8::1", 5], server=["192.0.2.1", 443]))
    assert (info.client_ip, info.client_port, info.client) == ("2001:db8::1", 5, "[2001:db8::1]")
    assert (info.server, info.server_port, info.ssl, info.cert) == ("192.0.2.1:443", 443, True, {})


def test_unix_socket_has_a_path_and_no_peer() -> None:
    info = conn_info(http_scope(client=None, server=["/run/app.sock", None]))
    assert (info.client_ip, info.client_port, info.server, info.ssl) == ("", 0, "/run/app.sock", False)
    assert conn_info(http_scope(client=None, server=None)).server == ""


async def test_unknown_scope_is_refused(app: App) -> None:
    with pytest.raises(ServerError, match="'smtp', permitted: http, websocket, lifespan"):
        await ask(app, {"type": "smtp"})


# ---- requests


async def test_body_comes_in_pieces(app: App) -> None:
    @app.post("/")
    async def handler(request: Request) -> HTTPResponse:
        return raw(request.body)

    channels = await ask(app, http_scope(method="POST"), body(b"a", True), body(b"", True), body(b"b"))
    assert (channels.status, channels.body) == (200, b"ab")


@pytest.mark.parametrize(
    ("headers", "events"),
    [
        ([(b"content-length", b"11")], []),
        ([(b"content-length", b"9" * 5000)], []),
        ([], [body(b"x" * 11)]),
        ([], [body(b"x" * 6, True), body(b"x" * 6, True)]),
    ],
)
async def test_longer_body_is_413(app: App, headers: list[Any], events: list[Any]) -> None:
    channels = await ask(app, http_scope(method="POST", headers=headers), *events)
    assert (channels.status, channels.body) == (413, b"body over 10 bytes\n")


async def test_client_that_leaves_with_half_a_body_has_no_handler(app: App) -> None:
    seen = []

    @app.post("/")
    async def handler(request: Request) -> HTTPResponse:
        seen.append(request)
        return empty()

    assert (await ask(app, http_scope(method="POST"), body(b"a", True), GONE)).sent == []
    assert seen == []


@pytest.mark.parametrize("goes_on", [False, True])
async def test_handler_is_cancelled_when_the_client_leaves(app: App, goes_on: bool) -> None:
    begun, ends = asyncio.Event(), []

    @app.get("/")
    async def handler(request: Request) -> HTTPResponse:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            ends.append(request.conn_info.lost)
            if not goes_on:
                raise
        return text("too late")

    channels = Channels(body())

    async def call() -> int:
        await app(http_scope(), channels.receive, channels.send)
        # The cancellation ends with the request: whoever called the app goes on.
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    calling = asyncio.create_task(call())
    await begun.wait()
    await turns()
    channels.put(GONE)
    assert await asyncio.wait_for(calling, 10) == 0
    assert ends == [True]


async def test_cancellation_from_outside_comes_through(app: App) -> None:
    begun = asyncio.Event()

    @app.get("/")
    async def handler(request: Request) -> HTTPResponse:
        begun.set()
        await asyncio.sleep(60)
        return empty()

    before = asyncio.all_tasks()
    channels = Channels(body())
    calling = asyncio.create_task(app(http_scope(), channels.receive, channels.send))
    await begun.wait()
    await turns()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await turns()
    assert asyncio.all_tasks() == before


async def test_receive_that_does_not_wait_is_asked_once(app: App) -> None:
    received = 0

    async def receive() -> Any:
        nonlocal received
        received += 1
        return body()

    @app.get("/")
    async def handler(request: Request) -> HTTPResponse:
        await turns(20)
        return text("answered")

    channels = Channels()
    await app(http_scope(), receive, channels.send)
    assert (channels.status, received) == (200, 2)


async def test_receive_that_fails_is_logged_and_the_handler_goes_on(app: App, caplog: pytest.LogCaptureFixture) -> None:
    events = iter([body()])

    async def receive() -> Any:
        for event in events:
            return event
        raise RuntimeError("nothing more")

    @app.get("/")
    async def handler(request: Request) -> HTTPResponse:
        await turns(20)
        return text("answered")

    channels = Channels()
    await app(http_scope(), receive, channels.send)
    assert channels.status == 200
    assert "nothing more" in caplog.text


async def test_client_that_left_while_it_is_answered_is_no_error(app: App) -> None:
    ends = []

    @app.get("/")
    async def handler(request: Request) -> None:
        response = await request.respond()
        try:
            while True:
                await response.send("x")
        finally:
            ends.append(request.protocol.lost)

    channels = Channels(body())
    channels.fail(OSError("gone"), after=3)
    await app(http_scope(), channels.receive, channels.send)
    assert (len(channels.sent), ends) == (3, [True])


# ---- responses


@pytest.mark.parametrize(
    ("method", "response", "headers", "content"),
    [
        ("GET", text("four"), [(b"content-length", b"4")], b"four"),
        ("HEAD", text("four"), [(b"content-length", b"4")], b""),
        ("HEAD", HTTPResponse(headers={"Content-Length": "9"}), [(b"content-length", b"9")], b""),
        ("GET", HTTPResponse("four", headers={"Content-Length": "9"}), [(b"content-length", b"4")], b"four"),
        ("GET", empty(), [], b""),
        ("GET", HTTPResponse("x", 205), [(b"content-length", b"0")], b""),
        ("GET", HTTPResponse("x", 304), [], b""),
    ],
)
async def test_framing(app: App, method: str, response: HTTPResponse, headers: Any, content: bytes) -> None:
    @app.route("/", methods=["GET", "HEAD"])
    async def handler(request: Request) -> HTTPResponse:
        return response

    channels = await ask(app, http_scope(method=method), body())
    assert [each for each in channels.headers if each[0] == b"content-length"] == headers
    assert channels.body == content
    assert channels.types == ["http.response.start", "http.response.body"]


@pytest.mark.parametrize(
    ("status", "declared", "pieces", "sent"),
    [
        (200, None, ["a", "b"], (None, b"ab")),
        (200, None, ["a"], (None, b"a")),
        (200, "2", ["a", "b"], (b"2", b"ab")),
        (200, None, [], (b"0", b"")),
        (204, None, ["a"], (None, b"")),
        (205, None, ["a"], (b"0", b"")),
    ],
)
async def test_stream(app: App, status: int, declared: str | None, pieces: list[str], sent: Any) -> None:
    @app.get("/")
    async def handler(request: Request) -> HTTPResponse:
        async def write(response: HTTPResponse) -> None:
            for piece in pieces:
                await response.send(piece)

        return ResponseStream(write, status, {} if declared is None else {"Content-Length": declared})

    channels = await ask(app, http_scope(), body())
    assert (dict(channels.headers).get(b"content-length"), channels.body) == sent
    assert [event["more_body"] for event in channels.sent[1:]] == [True] * len(pieces) + [False]


@pytest.mark.parametrize(
    ("pieces", "error"), [(["abcd"], "1 bytes over"), (["ab", "cd"], "1 bytes over"), (["ab"], "1 bytes missing")]
)
async def test_stream_that_breaks_its_length_is_the_servers_to_end(app: App, pieces: list[str], error: str) -> None:
    @app.get("/")
    async def handler(request: Request) -> None:
        response = await request.respond(headers={"Content-Length": "3"})
        for piece in pieces:
            await response.send(piece)
        await response.eof()

    with pytest.raises(ServerError, match=error):
        await ask(app, http_scope(), body())


async def test_error_before_the_stream_began_has_its_page(app: App) -> None:
    @app.get("/")
    async def handler(request: Request) -> HTTPResponse:
        await request.respond()
        return text("changed my mind", 202)

    channels = await ask(app, http_scope(), body())
    assert (channels.status, channels.body) == (202, b"changed my mind")


async def test_second_response_is_refused(app: App) -> None:
    @app.get("/<when>")
    async def handler(request: Request, when: str) -> HTTPResponse:
        response = await request.respond()
        if when == "late":
            await response.send("begun")
            return text("another")
        await request.respond()
        return response

    for when in ("early", "late"):
        with pytest.raises(ServerError, match="second response"):
            await ask(app, http_scope(f"/{when}"), body())


@pytest.mark.parametrize(
    ("version", "left"),
    [("1.1", {b"connection": b"close, Upgrade", b"upgrade": b"h2c"}), ("1.0", None), ("2", {}), ("3", {})],
)
async def test_fields_of_one_connection(app: App, version: str, left: dict[bytes, bytes] | None) -> None:
    @app.get("/")
    async def handler(request: Request) -> HTTPResponse:
        names = ("Connection", "Keep-Alive", "Transfer-Encoding", "Proxy-Connection", "Upgrade", "X-End")
        values = ("close", "timeout=5", "chunked", "x", "h2c", "yes")
        return HTTPResponse("x", headers=dict(zip(names, values, strict=True)))

    channels = await ask(app, http_scope(http_version=version), body())
    expected = {b"connection": b"close, Upgrade", b"upgrade": b"h2c"} if left is None else left
    assert dict(channels.headers) == {**expected, b"x-end": b"yes", b"content-length": b"1"}


# ---- WebSockets


async def test_websocket_over_http_2(app: App) -> None:
    @app.websocket("/<name>", subprotocols=["b", "a"])
    async def handler(request: Request, ws: Websocket, name: str) -> None:
        await ws.send(f"{name} {ws.subprotocol} {request.url}")
        async for each in ws:
            await ws.send(each)

    scope = websocket_scope("/n", http_version="2", subprotocols=["a", "b"])
    channels = Channels(CONNECT, message("echo"))
    calling = asyncio.create_task(app(scope, channels.receive, channels.send))
    await turns(20)
    channels.put(disconnect(1000))
    await asyncio.wait_for(calling, 10)
    assert channels.sent == [
        {"type": "websocket.accept", "subprotocol": "b", "headers": []},
        {"type": "websocket.send", "text": "n b ws://example.com/n"},
        {"type": "websocket.send", "text": "echo"},
    ]


async def test_scope_says_which_route_of_a_path_is_meant(app: App) -> None:
    app.add_route(lambda request: text("page"), "/x", name="page")
    app.add_websocket_route(lambda request, ws: ws.send("chat"), "/x", name="chat")
    assert (await ask(app, http_scope("/x"), body())).sent[-1]["body"] == b"page"
    channels = await ask(app, websocket_scope("/x"), CONNECT, disconnect(1000))
    assert channels.sent[1] == {"type": "websocket.send", "text": "chat"}


async def test_client_that_left_before_its_connection_has_no_handler(app: App) -> None:
    assert (await ask(app, websocket_scope(), disconnect(1006))).sent == []


async def test_client_that_left_before_the_accept(app: App) -> None:
    @app.websocket("/")
    async def handler(request: Request, ws: Websocket) -> None:
        raise AssertionError

    channels = Channels(CONNECT)
    channels.fail(OSError("gone"))
    await app(websocket_scope(), channels.receive, channels.send)
    assert channels.sent == []


@pytest.mark.parametrize(
    ("scope", "types"),
    [
        ({}, ["websocket.http.response.start", "websocket.http.response.body"]),
        ({"extensions": {}}, ["websocket.close"]),
        ({"extensions": None}, ["websocket.close"]),
        ({"http_version": "2"}, ["websocket.http.response.start", "websocket.http.response.body"]),
        # Over HTTP/2 the page would accept the connection.
        ({"path": "/page", "http_version": "2"}, ["websocket.close"]),
        ({"path": "/page"}, ["websocket.http.response.start", "websocket.http.response.body"]),
        ({"path": "/page", "extensions": {}}, ["websocket.close"]),
    ],
)
async def test_refusal(app: App, scope: dict[str, Any], types: list[str]) -> None:
    @app.get("/page")
    async def page(request: Request) -> HTTPResponse:
        return text("a page")

    channels = await ask(app, websocket_scope(**{"path": "/nowhere", **scope}), CONNECT)
    assert channels.types == types
    if "websocket.close" not in types:
        assert channels.status == (200 if scope.get("path") else 404)


async def test_refusal_may_be_streamed(app: App) -> None:
    @app.on_request
    async def refuse(request: Request) -> HTTPResponse:
        async def write(response: HTTPResponse) -> None:
            await response.send("not ")
            await response.send("here")

        return ResponseStream(write, 403)

    channels = await ask(app, websocket_scope(), CONNECT)
    assert (channels.status, channels.body) == (403, b"not here")
    assert (await ask(app, websocket_scope(extensions={}), CONNECT)).types == ["websocket.close"]


async def test_malformed_subprotocols_are_400(app: App) -> None:
    @app.websocket("/")
    async def handler(request: Request, ws: Websocket) -> None:
        raise AssertionError

    assert (await ask(app, websocket_scope(subprotocols=["a b"]), CONNECT)).status == 400


async def test_upgrade_that_the_server_does_not_know_is_501(app: App) -> None:
    @app.websocket("/")
    async def handler(request: Request, ws: Websocket) -> None:
        raise AssertionError

    scope = http_scope(headers=[(b"host", b"a"), (b"upgrade", b"WebSocket"), (b"connection", b"upgrade")])
    channels = await ask(app, scope, body())
    assert channels.status == 501
    assert b"speaks no WebSocket" in channels.body


async def test_cancelled_handler_closes_with_1001_and_lets_it_be_known(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    begun = asyncio.Event()

    @app.websocket("/")
    async def handler(request: Request, ws: Websocket) -> None:
        begun.set()
        await ws.recv()

    before = asyncio.all_tasks()
    channels = Channels(CONNECT)
    calling = asyncio.create_task(app(websocket_scope(), channels.receive, channels.send))
    await begun.wait()
    await turns()
    assert list(app.websocket_tasks) == [calling]
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert channels.sent[-1] == {"type": "websocket.close", "code": 1001, "reason": ""}
    assert asyncio.all_tasks() == before
    assert caplog.text.count("was cancelled") == 1
    assert app.websocket_tasks == {}


async def test_closure_that_passes_the_handler_is_no_error(app: App, caplog: pytest.LogCaptureFixture) -> None:
    @app.websocket("/")
    async def handler(request: Request, ws: Websocket) -> None:
        await ws.recv()

    channels = await ask(app, websocket_scope(), CONNECT, disconnect(1006))
    assert channels.types == ["websocket.accept"]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_exit_of_a_handler_is_the_servers_to_follow(app: App) -> None:
    @app.websocket("/")
    async def handler(request: Request, ws: Websocket) -> None:
        raise SystemExit(3)

    channels = Channels(CONNECT)
    with pytest.raises(SystemExit):
        await app(websocket_scope(), channels.receive, channels.send)
    assert channels.sent[-1] == {"type": "websocket.close", "code": 1011, "reason": ""}


async def test_tasks_of_a_handler_find_the_connection_closed(app: App) -> None:
    errors: list[WebsocketClosed] = []
    late: list[asyncio.Task[None]] = []

    @app.websocket("/")
    async def handler(request: Request, ws: Websocket) -> None:
        async def send_late() -> None:
            await ws.wait_closed()
            try:
                await ws.send("late")
            except WebsocketClosed as error:
                errors.append(error)

        late.append(asyncio.create_task(send_late()))

    await ask(app, websocket_scope(), CONNECT)
    await asyncio.wait_for(late[0], 5)
    assert [error.code for error in errors] == [1000]


# ---- without lifespan


@pytest.fixture(params=["task", "listener"])
def started(request: pytest.FixtureRequest, app: App) -> list[str]:
    """What a start would run; registered before there is a loop, as a program does."""
    started: list[str] = []

    async def start(app: App) -> None:
        started.append(request.param)

    if request.param == "task":
        app.add_task(start)
    else:
        app.before_server_start(start)
    return started


async def test_app_that_was_not_started_says_so_once(
    app: App, started: list[str], caplog: pytest.LogCaptureFixture
) -> None:

    @app.get("/")
    async def handler(request: Request) -> HTTPResponse:
        return json({"running": app.is_running, "loop": app.loop is asyncio.get_running_loop()})

    for _ in range(2):
        assert (await ask(app, http_scope(), body())).body == b'{"running":false,"loop":true}'
    assert caplog.text.count("was not started") == 1
    assert started == []


async def test_app_without_anything_to_start_says_nothing(app: App, caplog: pytest.LogCaptureFixture) -> None:
    assert (await ask(app, http_scope(), body())).status == 404
    assert caplog.text == ""


async def test_url_for_with_the_prefix_of_a_mount(app: App) -> None:
    app.config.SERVER_NAME = "https://example.com/live"

    @app.websocket("/rooms/<room>")
    async def visit(request: Request, ws: Websocket, room: str) -> None: ...

    assert app.url_for("visit", room="a") == "/rooms/a"
    assert app.url_for("visit", room="a", _external=True) == "wss://example.com/live/rooms/a"
