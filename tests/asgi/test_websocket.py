"""WebSockets through ASGI: the handshake that waits for the application, messages, close codes, and what goes wrong."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from ferrows.asgi import ClientDisconnected

from .harness import HANDSHAKE, Receive, Scope, Send, Served, frame, http_only, serving

ACCEPT: Any = {"type": "websocket.accept"}
CLOSE: Any = {"type": "websocket.close"}
CONNECT: Any = {"type": "websocket.connect"}


def text(data: str) -> Any:
    return {"type": "websocket.send", "text": data}


def disconnect(code: int, reason: str = "") -> Any:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


def ws_app(handler: Callable[[Scope, Receive, Send], Any]) -> Any:
    """Let a handler begin with the connection accepted."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        assert await receive() == CONNECT
        await send(ACCEPT)
        await handler(scope, receive, send)

    return http_only(application)


@ws_app
async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


class Recorder:
    """An application that accepts, keeps what it receives and lets a test wait for the end."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.ended = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await receive()
        await send(ACCEPT)
        while True:
            self.events.append(await receive())
            if self.events[-1]["type"] == "websocket.disconnect":
                break
        self.ended.set()


@asynccontextmanager
async def raw(served: Served, more: bytes = b"") -> Any:
    """Open a connection by hand; ``more`` leaves in the same segment as the handshake."""
    client = await served.connect()
    client.write(HANDSHAKE + more)
    yield client
    await client.close()


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


async def closed(client: ClientConnection) -> tuple[int, str]:
    """Wait for the end of a connection and return how it ended."""
    with pytest.raises(ConnectionClosed):
        while True:
            await client.recv()
    assert client.close_code is not None and client.close_reason is not None
    return client.close_code, client.close_reason


# ---- the handshake


async def test_scope_says_what_the_client_asked_for() -> None:
    scopes = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await send(CLOSE)

    async with serving(http_only(application), root_path="/api") as served:
        client = await served.connect()
        client.write(HANDSHAKE.replace(b"/ws", b"/w%20s?x=1").replace(b"Host: a", b"Host: a\r\nX-A: B"))
        await client.answer()
    (scope,) = scopes
    client_address, server_address = scope.pop("client"), scope.pop("server")
    assert scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/api/w s",
        "raw_path": b"/api/w%20s",
        "query_string": b"x=1",
        "root_path": "/api",
        "headers": [
            (b"host", b"a"),
            (b"x-a", b"B"),
            (b"upgrade", b"websocket"),
            (b"connection", b"Upgrade"),
            (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
            (b"sec-websocket-version", b"13"),
        ],
        "subprotocols": [],
        "state": {},
        "extensions": {"websocket.http.response": {}},
    }
    assert client_address[0] == server_address[0] == "127.0.0.1"


async def test_messages_come_back() -> None:
    async with serving(echo) as served, connect(served.url("/ws")) as client:
        for message in ("a", b"b", "", b"", "grüße 👋", "x" * 100_000):
            await client.send(message)
            assert await client.recv() == message


async def test_event_has_one_of_text_and_bytes() -> None:
    application = Recorder()
    async with serving(application) as served:
        async with connect(served.url("/ws")) as client:
            await client.send("a")
            await client.send(b"b")
        await application.ended.wait()
    assert application.events == [
        {"type": "websocket.receive", "text": "a"},
        {"type": "websocket.receive", "bytes": b"b"},
        disconnect(1000),
    ]


async def test_nothing_is_answered_before_the_application_accepts() -> None:
    go = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await go.wait()
        await send(ACCEPT)
        await receive()

    async with serving(http_only(application)) as served, raw(served) as client:
        waiting = asyncio.ensure_future(client.head())
        done, _ = await asyncio.wait((waiting,), timeout=0.1)
        assert not done
        go.set()
        status, headers = await waiting
        assert (status, headers["sec-websocket-accept"]) == (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")


async def test_frames_that_come_with_the_handshake_are_not_lost() -> None:
    application = Recorder()
    async with serving(application) as served:
        close = frame(8, struct.pack("!H", 3000) + b"bye")
        async with raw(served, frame(1, b"one") + frame(2, b"two") + close) as client:
            assert (await client.head())[0] == 101
            assert await client.reader.readexactly(4) == b"\x88\x02" + struct.pack("!H", 3000)
            await application.ended.wait()
    assert application.events == [
        {"type": "websocket.receive", "text": "one"},
        {"type": "websocket.receive", "bytes": b"two"},
        disconnect(3000, "bye"),
    ]


async def test_subprotocol_and_headers_of_the_application_are_in_the_answer() -> None:
    scopes = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await receive()
        await send({**ACCEPT, "subprotocol": scope["subprotocols"][1], "headers": [(b"Set-Cookie", b"a=b")]})
        await receive()

    offered: Any = ["v1", "v2", "v3"]
    async with serving(http_only(application)) as served, connect(served.url("/ws"), subprotocols=offered) as client:
        assert client.subprotocol == "v2"
        assert client.response is not None
        assert client.response.headers["Set-Cookie"] == "a=b"
    assert scopes[0]["subprotocols"] == ["v1", "v2", "v3"]


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({**ACCEPT, "headers": [(b"a", b"b\r\nc: d")]}, "permitted: a token"),
        ({**ACCEPT, "headers": [(b"Sec-WebSocket-Protocol", b"v1")]}, "for the handshake to say"),
        ({**ACCEPT, "headers": [(b"Connection", b"close")]}, "for the handshake to say"),
        ({**ACCEPT, "subprotocol": "a\r\nb: c"}, "permitted: a token"),
    ],
)
async def test_answer_that_cannot_be_sent_raises_and_is_500(event: Any, message: str) -> None:
    got = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send(event)
        except ValueError as error:
            got.append(str(error))
            raise

    async with serving(http_only(application)) as served, raw(served) as client:
        assert (await client.answer()).status == 500
    assert len(got) == 1 and message in got[0]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((b"Version: 13", b"Version: 12"), 426),
        ((b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""), 400),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", b"short"), 400),
    ],
)
async def test_handshake_that_is_none_does_not_reach_the_application(change: tuple[bytes, bytes], status: int) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("it was called")

    async with serving(http_only(application)) as served:
        client = await served.connect()
        client.write(HANDSHAKE.replace(*change))
        assert (await client.answer()).status == status


async def test_origins_of_the_configuration_are_checked_before_the_application() -> None:
    async with serving(echo, config={"WEBSOCKET_ORIGINS": ["https://example.com"]}) as served:
        async with connect(served.url("/ws"), origin="https://example.com"):  # type: ignore[arg-type]
            pass
        with pytest.raises(InvalidStatus) as caught:
            async with connect(served.url("/ws"), origin="https://example.org"):  # type: ignore[arg-type]
                raise AssertionError("it was let in")
    assert caught.value.response.status_code == 403


async def test_compression_of_the_configuration_is_agreed_on() -> None:
    config = {"WEBSOCKET_COMPRESSION": "deflate"}
    async with serving(echo, config=config) as served, connect(served.url("/ws")) as client:
        assert [type(extension).__name__ for extension in client.protocol.extensions] == ["PerMessageDeflate"]
        await client.send("a" * 1000)
        assert await client.recv() == "a" * 1000


# ---- refusing


async def test_close_before_accept_is_403() -> None:
    received = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        received.append(await receive())
        await send(CLOSE)
        received.append(await receive())

    async with serving(http_only(application)) as served, raw(served) as client:
        status, headers, body = await client.answer()
        assert (status, headers["connection"], body) == (403, "close", b"")
        assert await client.at_end()
    assert received == [CONNECT, disconnect(1006)]


async def test_denial_is_the_application_s_own_response() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        headers = [(b"www-authenticate", b"Bearer")]
        await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"who", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b" are you"})

    async with serving(http_only(application)) as served, raw(served) as client:
        status, headers, body = await client.answer()
        assert (status, headers["www-authenticate"], body) == (401, "Bearer", b"who are you")
        assert await client.at_end()


@pytest.mark.parametrize("begun", [False, True], ids=["not begun", "begun"])
async def test_denial_that_is_not_completed(begun: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.http.response.start", "status": 401})
        if begun:
            await send({"type": "websocket.http.response.body", "body": b"who", "more_body": True})

    async with serving(http_only(application)) as served, raw(served) as client:
        if begun:
            await client.head()
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError, ValueError)):
                while True:
                    await client.chunk()
        else:
            assert (await client.answer()).status == 500
    assert errors(caplog) == ["websocket /ws: the application returned without an answer"]


async def test_exception_before_accept_is_500(caplog: pytest.LogCaptureFixture) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("no such thing")

    async with serving(http_only(application)) as served, raw(served) as client:
        assert (await client.answer()).status == 500
    assert errors(caplog) == ["websocket /ws failed"]


async def test_return_before_accept_is_500(caplog: pytest.LogCaptureFixture) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    async with serving(http_only(application)) as served, raw(served) as client:
        assert (await client.answer()).status == 500
    assert errors(caplog) == ["websocket /ws: the application returned without an answer"]


async def test_client_that_leaves_before_accept_is_a_disconnect(caplog: pytest.LogCaptureFixture) -> None:
    events: list[Any] = []
    started, ended = asyncio.Event(), asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        events.append(await receive())
        started.set()
        events.append(await receive())
        try:
            await send(ACCEPT)
        except OSError as error:
            events.append(type(error))
        ended.set()

    async with serving(http_only(application)) as served:
        client = await served.connect()
        client.write(HANDSHAKE)
        await started.wait()
        client.reset()
        await ended.wait()
    assert events == [CONNECT, disconnect(1006), ClientDisconnected]
    assert errors(caplog) == []


async def test_receive_that_began_before_accept_gets_the_first_message() -> None:
    """What Channels does: it listens in a task of its own while the consumer makes up its mind."""
    got = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        early = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        await send(ACCEPT)
        got.append(await early)

    async with serving(http_only(application)) as served, connect(served.url("/ws")) as client:
        await client.send("first")
        assert await closed(client) == (1000, "")
    assert got == [{"type": "websocket.receive", "text": "first"}]


# ---- closing


@pytest.mark.parametrize(
    ("event", "code", "reason"),
    [
        (CLOSE, 1000, ""),
        ({**CLOSE, "code": None, "reason": None}, 1000, ""),
        ({**CLOSE, "code": 3001, "reason": "grüße"}, 3001, "grüße"),
    ],
)
async def test_application_closes(event: Any, code: int, reason: str) -> None:
    got = asyncio.get_running_loop().create_future()

    @ws_app
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(text("last"))
        await send(event)
        got.set_result(await receive())

    async with serving(application) as served, connect(served.url("/ws")) as client:
        assert await client.recv() == "last"
        assert await closed(client) == (code, reason)
        assert await got == disconnect(code, reason)


@pytest.mark.parametrize(
    ("close", "event"),
    [
        (struct.pack("!H", 4000) + b"why", disconnect(4000, "why")),
        (struct.pack("!H", 1001), disconnect(1001)),
        (b"", disconnect(1005)),
        (None, disconnect(1006)),
    ],
    ids=["4000", "1001", "no code", "no Close"],
)
async def test_client_closes(close: bytes | None, event: Any) -> None:
    application = Recorder()
    async with serving(application) as served, raw(served) as client:
        await client.head()
        if close is None:
            client.reset()
        else:
            client.write(frame(8, close))
            # The code comes back, the reason does not.
            assert await client.reader.read(10) == bytes([0x88, len(close[:2])]) + close[:2]
        await application.ended.wait()
    assert application.events == [event]


async def test_receive_after_the_end_says_so_again() -> None:
    got = []
    ended = asyncio.Event()

    @ws_app
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        got.extend([await receive() for _ in range(3)])
        ended.set()

    async with serving(application) as served:
        async with connect(served.url("/ws")) as client:
            await client.close(3000, "bye")
        await ended.wait()
    assert got == [disconnect(3000, "bye")] * 3


async def test_messages_before_the_close_are_received_first() -> None:
    application = Recorder()
    async with serving(application) as served, raw(served) as client:
        await client.head()
        client.write(b"".join(frame(1, b"%d" % number) for number in range(40)) + frame(8, struct.pack("!H", 1000)))
        await application.ended.wait()
    assert [event.get("text") for event in application.events] == [*map(str, range(40)), None]


async def test_send_after_the_client_has_left_raises_oserror(caplog: pytest.LogCaptureFixture) -> None:
    got = asyncio.get_running_loop().create_future()

    @ws_app
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await send(text("too late"))
        except OSError as error:
            got.set_result(error)
            raise

    async with serving(application) as served:
        async with connect(served.url("/ws")) as client:
            await client.close(3000, "bye")
        error = await got
    assert isinstance(error, ClientDisconnected)
    assert (error.code, error.reason) == (3000, "bye")
    # The exception says what the access log says, so it is not in the error log.
    assert errors(caplog) == []


async def test_close_after_the_client_has_left_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    ended = asyncio.Event()

    @ws_app
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(CLOSE)
        ended.set()

    async with serving(application) as served:
        async with connect(served.url("/ws")):
            pass
        await ended.wait()
    assert errors(caplog) == []


async def test_return_closes_with_1000() -> None:
    @ws_app
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(text("last"))

    async with serving(application) as served, connect(served.url("/ws")) as client:
        assert await client.recv() == "last"
        assert await closed(client) == (1000, "")


async def test_exception_closes_with_1011(caplog: pytest.LogCaptureFixture) -> None:
    @ws_app
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("no such thing")

    async with serving(application) as served, connect(served.url("/ws")) as client:
        assert await closed(client) == (1011, "internal error")
    assert errors(caplog) == ["websocket /ws failed"]


async def test_exception_after_the_end_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    ended = asyncio.Event()

    @ws_app
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        ended.set()
        raise LookupError("while cleaning up")

    async with serving(application) as served:
        async with connect(served.url("/ws")):
            pass
        await ended.wait()
    assert errors(caplog) == ["websocket /ws failed"]


# ---- events out of order, and wrong ones


@pytest.mark.parametrize(
    ("events", "kind", "message"),
    [
        ([text("a")], RuntimeError, "'websocket.send', permitted now: 'websocket.accept'"),
        ([{"type": "http.response.start", "status": 200}], RuntimeError, "'http.response.start', permitted now"),
        ([CLOSE, text("a")], RuntimeError, "after the application has closed"),
        ([CLOSE, CLOSE], RuntimeError, "after the application has closed"),
        (
            [{"type": "websocket.http.response.start", "status": 401}, ACCEPT],
            RuntimeError,
            "'websocket.accept', permitted now: 'websocket.http.response.body'",
        ),
        ([ACCEPT, ACCEPT], RuntimeError, "'websocket.accept', permitted now: 'websocket.send', 'websocket.close'"),
        ([ACCEPT, CLOSE, text("a")], RuntimeError, "after the application has closed"),
        ([ACCEPT, CLOSE, CLOSE], RuntimeError, "after the application has closed"),
        ([ACCEPT, {"type": "websocket.send"}], TypeError, "NoneType text and NoneType bytes"),
        ([ACCEPT, {"type": "websocket.send", "text": b"a"}], TypeError, "bytes text and NoneType bytes"),
        ([ACCEPT, {"type": "websocket.send", "bytes": "a"}], TypeError, "NoneType text and str bytes"),
        ([ACCEPT, {"type": "websocket.send", "text": ["a", "b"]}], TypeError, "list text"),
        ([ACCEPT, {**CLOSE, "code": 1006}], ValueError, "close code 1006 may not be sent"),
        ([ACCEPT, {**CLOSE, "reason": "x" * 124}], ValueError, "124 bytes"),
    ],
)
async def test_event_that_cannot_be_sent_raises(events: list[Any], kind: type[Exception], message: str) -> None:
    got = asyncio.get_running_loop().create_future()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            for event in events:
                await send(event)
        except Exception as error:
            got.set_result(error)

    async with serving(http_only(application)) as served, raw(served):
        error = await got
    assert type(error) is kind
    assert message in str(error)


@pytest.mark.parametrize("data", [bytearray(b"ab"), memoryview(b"ab")])
async def test_bytes_may_be_any_buffer(data: Any) -> None:
    @ws_app
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.send", "bytes": data, "text": None})

    async with serving(application) as served, connect(served.url("/ws")) as client:
        assert await client.recv() == b"ab"


@pytest.mark.parametrize(
    ("data", "code"), [(frame(1, b"\xff"), 1007), (frame(3, b""), 1002), (frame(1, b"x" * 100), 1009)]
)
async def test_what_the_peer_does_wrong_is_the_code_of_the_disconnect(data: bytes, code: int) -> None:
    application = Recorder()
    async with serving(application, config={"WEBSOCKET_MAX_SIZE": 99}) as served, raw(served) as client:
        await client.head()
        client.write(data)
        answer = await client.reader.readexactly(4)
        assert (answer[0], struct.unpack("!H", answer[2:])[0]) == (0x88, code)
        await application.ended.wait()
    assert [event["code"] for event in application.events] == [code]


# ---- who does not read


async def test_client_is_held_back_while_the_application_does_not_receive() -> None:
    go, ended = asyncio.Event(), asyncio.Event()
    got = 0

    @ws_app
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal got
        await go.wait()
        while (await receive())["type"] == "websocket.receive":
            got += 1
        ended.set()

    async with serving(application) as served:
        async with connect(served.url("/ws"), compression=None) as client:
            sent = 0

            async def feed() -> None:
                nonlocal sent
                while sent < 2000:
                    await client.send(bytes(50_000))
                    sent += 1

            feeding = asyncio.ensure_future(feed())
            before = -1
            while sent != before:
                before = sent
                await asyncio.sleep(0.2)
            assert sent < 1000
            go.set()
            await feeding
        await ended.wait()
    assert got == 2000


async def test_sending_waits_for_a_client_that_does_not_read() -> None:
    sent = 0
    done = asyncio.Event()

    @ws_app
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        while sent < 1000:
            await send({"type": "websocket.send", "bytes": bytes(100_000)})
            sent += 1
        done.set()
        await receive()

    async with serving(application) as served, raw(served) as client:
        await client.head()
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.2)
        assert sent < 500
        await client.reader.readexactly(1000 * (10 + 100_000))
        await done.wait()


# ---- the server's stop


async def test_stop_closes_with_1001_and_tells_the_application() -> None:
    application = Recorder()
    async with serving(application) as served, connect(served.url("/ws")) as client:
        await client.send("a")
        while not application.events:
            await asyncio.sleep(0)
        served.server.close()
        assert await closed(client) == (1001, "")
        await application.ended.wait()
    assert application.events[-1] == disconnect(1001)


async def test_stop_refuses_a_handshake_that_is_not_answered_yet() -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        started.set()
        assert await receive() == disconnect(1006)
        ended.set()

    async with serving(http_only(application)) as served, raw(served) as client:
        await started.wait()
        served.server.close()
        assert (await client.answer()).status == 503
        await ended.wait()


async def test_application_that_does_not_end_is_cancelled_after_the_grace() -> None:
    ended = asyncio.get_running_loop().create_future()

    @ws_app
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ended.set_result(True)
            raise

    config = {"GRACEFUL_SHUTDOWN_TIMEOUT": 0.05}
    async with serving(application, config=config) as served, connect(served.url("/ws")) as client:
        await served.server.close()
        assert await closed(client) == (1001, "")
    assert await ended


async def test_access_log_has_a_line_for_each_connection(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ferrows.access")
    async with serving(echo) as served, connect(served.url("/ws")) as client:
        await client.send("abc")
        await client.recv()
    (line,) = [record.getMessage() for record in caplog.records if record.name == "ferrows.access"]
    assert "WebSocket /ws closed 1000 by client" in line
    assert "in 1 messages 3 bytes, out 1 messages 3 bytes" in line


async def test_refusal_is_in_the_access_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ferrows.access")

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(CLOSE)

    async with serving(http_only(application)) as served, raw(served) as client:
        await client.answer()
    (line,) = [record.getMessage() for record in caplog.records if record.name == "ferrows.access"]
    assert '"GET /ws HTTP/1.1" 403 0 ' in line


async def test_send_is_done_when_it_is_called_and_may_be_awaited_anywhere() -> None:
    """Frameworks wrap ``send`` in tasks and in timeouts."""

    @ws_app
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.gather(send(text("a")), send(text("b")))
        await asyncio.wait_for(send(text("c")), 10)
        await asyncio.get_running_loop().create_task(send(text("d")))  # type: ignore[arg-type]

    async with serving(application) as served, connect(served.url("/ws")) as client:
        assert [await client.recv() for _ in range(4)] == ["a", "b", "c", "d"]


def test_client_disconnected_is_an_oserror_with_a_code() -> None:
    error = ClientDisconnected(3000, "bye")
    assert isinstance(error, OSError)
    assert (error.code, error.reason, str(error)) == (3000, "bye", "closed with 3000: bye")
