"""HTTP through ASGI: the scope, the body as it arrives, the response as it is made, and what either side does wrong."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from .harness import Receive, Scope, Send, http_only, reply, serving

Events = list[Any]


# ---- the scope


async def scope_of(target: str, headers: bytes = b"", **options: Any) -> dict[str, Any]:
    scopes = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await reply(send)

    async with serving(http_only(application), **options) as served:
        await served.get(target, headers=headers)
    (scope,) = scopes
    return dict(scope)


async def test_scope_says_what_the_client_asked_for() -> None:
    scope = await scope_of("/a%20b/%C3%BC?x=1&y=%20", b"X-Twice: 1\r\nx-twice: 2\r\n")
    client, server = scope.pop("client"), scope.pop("server")
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/a b/ü",
        "raw_path": b"/a%20b/%C3%BC",
        "query_string": b"x=1&y=%20",
        "root_path": "",
        "headers": [(b"host", b"a"), (b"x-twice", b"1"), (b"x-twice", b"2")],
        "state": {},
        "extensions": {},
    }
    assert client[0] == server[0] == "127.0.0.1"
    assert isinstance(client[1], int) and isinstance(server[1], int)


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query_string"),
    [
        ("/", "/", b"/", b""),
        ("/?", "/", b"/", b""),
        ("/a%2Fb", "/a/b", b"/a%2Fb", b""),
        ("/%FF", "/\ufffd", b"/%FF", b""),
        ("/a?b?c", "/a", b"/a", b"b?c"),
        ("http://a/b?c", "/b", b"/b", b"c"),
        ("http://a", "/", b"/", b""),
        ("http://a?c", "/", b"/", b"c"),
    ],
)
async def test_target_is_taken_apart(target: str, path: str, raw_path: bytes, query_string: bytes) -> None:
    scope = await scope_of(target)
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (path, raw_path, query_string)


@pytest.mark.parametrize("target", ["http://other:8/b", "http://other:8", "http://other:8?c"])
async def test_host_of_the_target_replaces_the_field(target: str) -> None:
    scope = await scope_of(target, b"X-Forwarded-Host: b\r\n")
    assert scope["headers"] == [(b"host", b"other:8"), (b"x-forwarded-host", b"b")]


async def test_root_path_is_part_of_the_path() -> None:
    scope = await scope_of("/users%20", root_path="/api/")
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/api", "/api/users ", b"/api/users%20")


@pytest.mark.parametrize(
    ("allowed", "client", "scheme"), [(None, "127.0.0.1", "http"), ("127.0.0.1", "192.0.2.1", "https")]
)
async def test_client_and_scheme_are_what_a_trusted_proxy_tells(allowed: str | None, client: str, scheme: str) -> None:
    headers = b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n"
    scope = await scope_of("/", headers, config={"FORWARDED_ALLOW_IPS": allowed})
    assert (scope["client"][0], scope["scheme"]) == (client, scheme)


async def test_a_scope_is_its_request_s_own() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["seen"] = scope["asgi"]["seen"] = scope["extensions"]["seen"] = True
        await reply(send)

    seen = []

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append([name for name in ("state", "asgi", "extensions") if "seen" in scope[name]])
        await application(scope, receive, send)

    async with serving(http_only(outer)) as served:
        await served.get()
        await served.get()
    assert seen == [[], []]


# ---- the request's body


async def collect(receive: Receive) -> tuple[bytes, int]:
    pieces = []
    while True:
        event = await receive()
        assert event["type"] == "http.request"
        pieces.append(event["body"])
        if not event["more_body"]:
            return b"".join(pieces), len(pieces)


@http_only
async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body, _ = await collect(receive)
    await reply(send, body)


async def test_request_without_a_body_has_one_empty_piece() -> None:
    events: Events = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        events.append(await receive())
        await reply(send)
        events.append(await receive())

    async with serving(http_only(application)) as served:
        await served.get()
    assert events == [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]


@pytest.mark.parametrize("size", [1, 70_000, 3_000_000])
async def test_body_arrives_whole(size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    async with serving(echo) as served:
        client = await served.connect()
        for _ in range(2):
            assert (await client.ask("/", "POST", body[:size])).body == body[:size]
        await client.close()


async def test_chunked_body_arrives_whole() -> None:
    async with serving(echo) as served:
        client = await served.connect()
        client.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        client.write(b"2\r\nde\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.answer()).body == b"abcde"
        assert (await client.answer()).body == b""
        await client.close()


async def test_body_is_received_as_it_arrives() -> None:
    """The client sends the next piece when the application has answered to the one before."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        while True:
            event = await receive()
            await send({"type": "http.response.body", "body": event["body"], "more_body": event["more_body"]})
            if not event["more_body"]:
                return

    async with serving(http_only(application)) as served:
        client = await served.connect()
        client.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n")
        for piece in (b"ab", b"cd"):
            client.write(piece)
            if piece == b"ab":
                await client.head()
            assert await client.chunk() == piece
        client.write(b"ef")
        assert (await client.chunk(), await client.chunk()) == (b"ef", b"")
        await client.close()


async def test_client_is_held_back_while_the_application_does_not_receive() -> None:
    total = 64 * 2**20
    go = asyncio.Event()
    got = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await go.wait()
        body, pieces = await collect(receive)
        got.append((len(body), pieces > 10))
        await reply(send)

    async with serving(http_only(application)) as served:
        client = await served.connect()
        client.writer.transport.set_write_buffer_limits(0)
        client.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % total)
        sent = 0

        async def upload() -> None:
            nonlocal sent
            while sent < total:
                client.write(bytes(2**20))
                await client.writer.drain()
                sent += 2**20

        uploading = asyncio.ensure_future(upload())
        before = -1
        while sent != before:
            # What the kernel's buffers take is far less than the body.
            before = sent
            await asyncio.sleep(0.2)
        assert sent < total // 2
        go.set()
        assert (await client.answer()).status == 200
        await uploading
        await client.close()
    assert got == [(total, True)]


async def test_body_of_any_size_is_the_application_s_to_refuse() -> None:
    async with serving(echo, config={"REQUEST_MAX_SIZE": 10}) as served:
        assert (await served.get("/", method="POST", body=b"x" * 1000)).body == b"x" * 1000


async def test_100_continue_is_sent_when_the_body_is_asked_for() -> None:
    asked = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await asked.wait()
        body, _ = await collect(receive)
        await reply(send, body)

    async with serving(http_only(application)) as served:
        client = await served.connect()
        client.write(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        waiting = asyncio.ensure_future(client.head())
        done, _ = await asyncio.wait((waiting,), timeout=0.1)
        assert not done
        asked.set()
        assert (await waiting)[0] == 100
        client.write(b"ok")
        assert (await client.answer()).body == b"ok"
        await client.close()


async def test_100_continue_is_not_sent_where_the_answer_comes_first() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, status=413)

    async with serving(http_only(application)) as served:
        client = await served.connect()
        client.write(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        status, headers, _ = await client.answer()
        # Whether the client sends its body now cannot be known.
        assert (status, headers["connection"]) == (413, "close")
        assert await client.at_end()
        await client.close()


@pytest.mark.parametrize("size", [10, 200_000])
async def test_rest_of_a_body_that_nobody_wanted_is_read_over(size: int) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, scope["path"].encode())

    async with serving(http_only(application)) as served:
        client = await served.connect()
        client.write(b"POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        assert (await client.answer()).body == b"/first"
        client.write(b"x" * size)
        assert (await client.ask("/second")).body == b"/second"
        await client.close()


async def test_rest_of_a_large_body_ends_the_connection() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, b"enough")

    async with serving(http_only(application)) as served:
        client = await served.connect()
        client.write(b"POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
        answer = await client.answer()
        assert (answer.body, answer.headers["connection"]) == (b"enough", "close")
        client.write(b"x" * 10000)
        assert await client.at_end()
        await client.close()


async def test_malformed_body_is_refused_and_the_application_told() -> None:
    started, told = asyncio.Event(), asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            started.set()
        told.set()

    async with serving(http_only(application)) as served:
        client = await served.connect()
        client.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await started.wait()
        client.write(b"not hexadecimal\r\n")
        assert (await client.answer()).status == 400
        await told.wait()
        await client.close()


# ---- who leaves


async def test_application_is_told_that_the_client_has_left_and_not_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    events: Events = []
    started, ended = asyncio.Event(), asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        events.append((await receive())["type"])
        started.set()
        events.append((await receive())["type"])
        events.append((await receive())["type"])
        await asyncio.sleep(0.01)
        try:
            await reply(send)
        except OSError as error:
            events.append(str(error))
        ended.set()

    async with serving(http_only(application)) as served:
        client = await served.connect()
        client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await started.wait()
        client.reset()
        await ended.wait()
    assert events == ["http.request", "http.disconnect", "http.disconnect", "closed with 1006"]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_client_that_leaves_in_its_body_is_gone() -> None:
    got = asyncio.get_running_loop().create_future()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        assert await receive() == {"type": "http.request", "body": b"ab", "more_body": True}
        got.set_result(await receive())

    async with serving(http_only(application)) as served:
        client = await served.connect()
        client.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nab")
        await client.writer.drain()
        await asyncio.sleep(0.05)
        client.writer.write_eof()
        assert await got == {"type": "http.disconnect"}
        await client.close()


async def test_exception_that_repeats_the_disconnect_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        started.set()
        await receive()
        await receive()
        ended.set()
        await reply(send)

    async with serving(http_only(application)) as served:
        client = await served.connect()
        client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await started.wait()
        client.reset()
        await ended.wait()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_half_closed_client_gets_its_answer() -> None:
    async with serving(echo) as served:
        client = await served.connect()
        client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.writer.write_eof()
        assert (await client.answer()).status == 200
        assert await client.at_end()
        await client.close()


async def test_waiting_for_a_disconnect_ends_with_the_response() -> None:
    """What Starlette's middleware does: one task listens while another sends."""
    events: Events = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        listening = [asyncio.ensure_future(receive()) for _ in range(2)]
        await asyncio.sleep(0)
        await reply(send, b"done")
        events.extend([await each for each in listening])

    async with serving(http_only(application)) as served:
        client = await served.connect()
        assert (await client.ask()).body == b"done"
        assert (await client.ask()).body == b"done"
        await client.close()
    assert events == [{"type": "http.disconnect"}] * 4


# ---- the response


async def respond(*events: Any, method: str = "GET", headers: bytes = b"") -> Any:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for event in events:
            await send(event)

    async with serving(http_only(application)) as served:
        return await served.get("/", method=method, headers=headers)


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> Any:
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(data: bytes = b"", more: bool = False) -> Any:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def test_response_in_one_piece_gets_its_length_and_a_date() -> None:
    status, headers, content = await respond(start(201, (b"X-A", b"1")), body(b"abc"))
    date = headers.pop("date")
    assert (status, headers, content) == (201, {"x-a": "1", "content-length": "3"}, b"abc")
    assert date.endswith(" GMT")


async def test_response_in_pieces_is_chunked() -> None:
    _, headers, content = await respond(start(), body(b"ab", True), body(b"", True), body(b"c", True), body())
    assert (headers["transfer-encoding"], content) == ("chunked", b"abc")
    assert "content-length" not in headers


async def test_declared_length_is_kept() -> None:
    _, headers, content = await respond(start(200, (b"content-length", b"3")), body(b"ab", True), body(b"c"))
    assert (headers["content-length"], content) == ("3", b"abc")
    assert "transfer-encoding" not in headers


async def test_defaults_of_the_events() -> None:
    status, headers, content = await respond(
        {"type": "http.response.start", "status": 200}, {"type": "http.response.body"}
    )
    assert (status, headers["content-length"], content) == (200, "0", b"")


@pytest.mark.parametrize("data", [bytearray(b"abc"), memoryview(b"abc")])
async def test_body_may_be_any_buffer(data: Any) -> None:
    assert (await respond(start(), body(data))).body == b"abc"


async def test_body_of_a_megabyte() -> None:
    assert (await respond(start(), body(b"x" * 2**20))).body == b"x" * 2**20


@pytest.mark.parametrize(
    ("method", "status", "given", "length"),
    [
        ("HEAD", 200, (), "3"),
        ("HEAD", 200, ((b"content-length", b"1000"),), "1000"),
        ("GET", 204, (), None),
        ("GET", 204, ((b"content-length", b"3"),), None),
        ("GET", 304, ((b"content-length", b"3"),), "3"),
    ],
)
async def test_response_without_content_sends_none(
    method: str, status: int, given: tuple[tuple[bytes, bytes], ...], length: str | None
) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(status, *given))
        await send(body(b"abc"))

    async with serving(http_only(application)) as served:
        client = await served.connect()
        for _ in range(2):
            answer = await client.ask("/", method)
            assert (answer.status, answer.headers.get("content-length")) == (status, length)
        await client.close()


async def test_head_of_a_stream_has_no_framing() -> None:
    _, headers, _ = await respond(start(), body(b"a", True), body(b"b"), method="HEAD")
    assert "content-length" not in headers and "transfer-encoding" not in headers


async def test_http_1_0_stream_ends_with_the_connection() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["http_version"] == "1.0"
        await send(start())
        await send(body(b"a", True))
        await send(body(b"b"))

    async with serving(http_only(application)) as served:
        client = await served.connect()
        client.write(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        status, headers, content = await client.answer()
        assert (status, content, headers["connection"]) == (200, b"ab", "close")
        await client.close()


async def test_application_may_end_the_connection() -> None:
    async with serving(echo_with(start(200, (b"Connection", b"close")), body(b"a"))) as served:
        client = await served.connect()
        _, headers, _ = await client.ask()
        assert headers["connection"] == "close"
        assert await client.at_end()
        await client.close()


async def test_transfer_encoding_and_connection_are_the_server_s() -> None:
    _, headers, content = await respond(
        start(200, (b"Transfer-Encoding", b"chunked"), (b"Connection", b"keep-alive")), body(b"abc")
    )
    assert (headers.get("transfer-encoding"), headers["content-length"], content) == (None, "3", b"abc")


async def test_date_may_be_the_application_s() -> None:
    _, headers, _ = await respond(start(200, (b"Date", b"Thu, 01 Jan 1970 00:00:00 GMT")), body())
    assert headers["date"] == "Thu, 01 Jan 1970 00:00:00 GMT"


def echo_with(*events: Any) -> Any:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for event in events:
            await send(event)

    return http_only(application)


async def test_nothing_is_written_before_the_first_piece_of_the_body() -> None:
    go = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await go.wait()
        raise RuntimeError("after the start")

    async with serving(http_only(application)) as served:
        client = await served.connect()
        client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.sleep(0.05)
        go.set()
        assert (await client.answer()).status == 500
        await client.close()


async def test_sending_waits_for_a_client_that_does_not_read() -> None:
    sent = 0
    done = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(start())
        for _ in range(64):
            await send(body(bytes(2**20), True))
            sent += 1
        await send(body())
        done.set()

    async with serving(http_only(application)) as served:
        client = await served.connect()
        client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.2)
        assert sent < 32
        assert len((await client.answer()).body) == 64 * 2**20
        await done.wait()
        await client.close()


async def test_sending_to_a_client_that_left_while_it_was_waited_for_raises() -> None:
    got = asyncio.get_running_loop().create_future()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        try:
            while True:
                await send(body(bytes(2**20), True))
        except OSError as error:
            got.set_result(error)
            raise

    async with serving(http_only(application)) as served:
        client = await served.connect()
        client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.head()
        client.reset()
        assert isinstance(await got, OSError)


# ---- one request after the other


async def test_client_that_leaves_before_its_next_request_has_its_turn_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/first":
            # Its end is told to the protocol in the turn in which the next request is to begin.
            (protocol,) = served.server.connections
            protocol.transport.abort()
        await reply(send)

    async with serving(http_only(application)) as served:
        client = await served.connect()
        client.write(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await client.at_end()
        await served.get("/other")
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_body_that_will_never_come_is_not_waited_for() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/first":
            (protocol,) = served.server.connections
            while not protocol._half_closed:
                await asyncio.sleep(0.001)
        await reply(send)

    async with serving(http_only(application)) as served:
        client = await served.connect()
        # The end arrives while the first request is answered, so that the second's body stays half.
        client.write(
            b"GET /first HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf"
        )
        client.writer.write_eof()
        async with asyncio.timeout(20):
            answers = await client.reader.read()
        assert answers.count(b"HTTP/1.1 200 OK") == 2


async def test_pipelined_requests_are_answered_in_order() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/0":
            await asyncio.sleep(0.02)
        await reply(send, scope["path"].encode())

    async with serving(http_only(application)) as served:
        client = await served.connect()
        client.write(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(300)))
        assert [(await client.answer()).body for _ in range(300)] == [b"/%d" % number for number in range(300)]
        await client.close()


async def test_what_comes_after_the_response_holds_nobody_up() -> None:
    go, ended = asyncio.Event(), asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, scope["path"].encode())
        if scope["path"] == "/slow":
            await go.wait()
            ended.set()

    async with serving(http_only(application)) as served:
        client = await served.connect()
        assert (await client.ask("/slow")).body == b"/slow"
        assert (await client.ask("/quick")).body == b"/quick"
        go.set()
        await ended.wait()
        await client.close()


async def test_context_variables_are_each_request_s_own() -> None:
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable", default="unset")
    seen = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(variable.get())
        variable.set("set")
        await collect(receive)
        await reply(send)

    async with serving(http_only(application)) as served:
        client = await served.connect()
        # Pipelined, and with a body that has the application let reading go on.
        client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        await client.answer()
        await client.answer()
        for _ in range(2):
            await client.ask("/", "POST", bytes(300_000))
        await client.close()
    assert seen == ["unset"] * 4


# ---- what goes wrong


async def refused(caplog: pytest.LogCaptureFixture, *events: Any) -> tuple[int, BaseException]:
    """Send events of which the last is refused; the status that the client got and the exception."""
    errors: list[BaseException] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            for event in events:
                await send(event)
        except Exception as error:
            errors.append(error)
            raise

    async with serving(http_only(application)) as served:
        status, headers, content = await served.get()
    assert (content, headers["connection"]) == (b"Internal Server Error\n", "close")
    (error,) = errors
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is not None and record.exc_info[1] is error
    return status, error


@pytest.mark.parametrize(
    ("events", "kind", "message"),
    [
        ([body()], RuntimeError, "'http.response.body', permitted now: 'http.response.start'"),
        ([start(), start()], RuntimeError, "'http.response.start', permitted now: 'http.response.body'"),
        ([start(), {"type": "websocket.send"}], RuntimeError, "'websocket.send'"),
        ([start(99)], ValueError, "status is 99"),
        ([start(101)], ValueError, "status is 101"),
        ([{"type": "http.response.start", "status": "200"}], ValueError, "status is '200'"),
        ([start(200, (b"a b", b"c"))], ValueError, "b'a b'"),
        ([start(200, (b"a", b"b\r\nx: y"))], ValueError, "x: y"),
        ([start(200, (b"a", b"b\nx"))], ValueError, r"b\\nx"),
        ([start(200, (b"a", b"\0"))], ValueError, "permitted: a token"),
        ([start(200, (b"", b"c"))], ValueError, "permitted: a token"),
        ([start(200, (b"connection", b"a\r\nb"))], ValueError, "connection"),
        ([start(200, ("a", "b"))], TypeError, "permitted: names and values of bytes"),  # type: ignore[arg-type]
        ([start(200, (b"content-length", b"3x"))], ValueError, "content-length is b'3x'"),
        ([start(200, (b"content-length", b"3"), (b"content-length", b"4"))], ValueError, "content-length is b'4'"),
        ([{**start(), "trailers": True}], ValueError, "trailers are not supported"),
        ([start(), {"type": "http.response.body", "body": "text"}], TypeError, "bytes-like"),
        ([start(200, (b"content-length", b"3")), body(b"abcd")], RuntimeError, "1 bytes longer"),
        ([start(200, (b"content-length", b"3")), body(b"ab")], RuntimeError, "1 bytes shorter"),
    ],
)
async def test_event_that_cannot_be_sent_raises_and_is_answered_with_500(
    caplog: pytest.LogCaptureFixture, events: list[Any], kind: type[Exception], message: str
) -> None:
    status, error = await refused(caplog, *events)
    assert status == 500
    assert type(error) is kind
    with pytest.raises(kind, match=message):
        raise error


@pytest.mark.parametrize("more", [b"abcd", b""], ids=["longer", "shorter"])
async def test_response_of_another_length_than_declared_ends_the_connection(more: bytes) -> None:
    errors = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(200, (b"content-length", b"4")))
        await send(body(b"a", True))
        try:
            await send(body(more))
        except RuntimeError as error:
            errors.append(str(error))
            raise

    async with serving(http_only(application)) as served:
        client = await served.connect()
        client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.head()
        assert await client.reader.readexactly(1) == b"a"
        assert await client.at_end()
        await client.close()
    assert len(errors) == 1 and "than its content-length" in errors[0]


async def test_event_after_the_response_raises() -> None:
    got = asyncio.get_running_loop().create_future()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send)
        try:
            await send(body())
        except RuntimeError as error:
            got.set_result(str(error))

    async with serving(http_only(application)) as served:
        assert (await served.get()).status == 200
        assert "after the response is complete" in await got


async def test_exception_before_the_response_is_500(caplog: pytest.LogCaptureFixture) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("no such thing")

    async with serving(http_only(application)) as served:
        assert (await served.get("/path")).status == 500
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage() == "GET /path failed"


async def test_exception_in_a_response_aborts_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"abc", True))
        raise LookupError("no such thing")

    async with serving(http_only(application)) as served:
        client = await served.connect()
        client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError, ValueError)):
            # What arrives must not look whole: the last chunk is missing.
            await client.answer()
        await client.close()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == ["GET / failed"]


async def test_exception_after_the_response_is_logged_only(caplog: pytest.LogCaptureFixture) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, b"done")
        raise LookupError("too late")

    async with serving(http_only(application)) as served:
        client = await served.connect()
        assert (await client.ask()).body == b"done"
        assert (await client.ask()).body == b"done"
        await client.close()
    failures = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert failures == ["GET / failed"] * 2


@pytest.mark.parametrize(
    ("events", "what"), [([], "starting"), ([start()], "completing")], ids=["nothing", "start alone"]
)
async def test_return_without_a_response_is_500(caplog: pytest.LogCaptureFixture, events: list[Any], what: str) -> None:
    assert (await respond(*events)).status == 500
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage() == f"GET /: the application returned without {what} its response"


async def test_return_in_a_response_aborts_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError, ValueError)):
        await respond(start(), body(b"abc", True))
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


async def test_request_that_is_none_does_not_reach_the_application() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("it was called")

    async with serving(http_only(application)) as served:
        client = await served.connect()
        client.write(b"GET / HTTP/1.1\r\n\r\n")
        assert (await client.answer()).status == 400
        await client.close()


# ---- the log


async def test_access_log_has_a_line_for_each_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ferrows.access")
    async with serving(echo) as served:
        await served.get("/a?b=c", method="POST", body=b"abc")
    (line,) = [record.getMessage() for record in caplog.records if record.name == "ferrows.access"]
    assert line.startswith('127.0.0.1 "POST /a?b=c HTTP/1.1" 200 3 ')


async def test_access_log_has_a_line_for_a_client_that_left(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ferrows.access")
    started, ended = asyncio.Event(), asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        started.set()
        await receive()
        await receive()
        ended.set()

    async with serving(http_only(application)) as served:
        client = await served.connect()
        client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await started.wait()
        client.reset()
        await ended.wait()
    (line,) = [record.getMessage() for record in caplog.records if record.name == "ferrows.access"]
    assert '"GET / HTTP/1.1" 499 0 ' in line
