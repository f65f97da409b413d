"""``request.upgrade``: a foreign asyncio protocol gets the connection, and the server still knows of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
import trustme
from app.harness import make_request

from ferrows import App, HTTPResponse, Request
from ferrows.exceptions import RequestCancelled, ServerError
from ferrows.response import text

TIMEOUT = 60


class Recorder(asyncio.Protocol):
    """Keeps what it is told, and answers nothing but what was asked of it."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.received = b""
        self.changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.note("made")

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.note("data")

    def eof_received(self) -> bool | None:
        self.note("eof")
        return None

    def connection_lost(self, exc: BaseException | None) -> None:
        self.note("lost")

    def note(self, call: Any) -> None:
        if self.calls[-1:] != [call]:
            self.calls.append(call)
        self.changed.set()

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT):
            while not done():
                self.changed.clear()
                await self.changed.wait()


class BufferedRecorder(Recorder, asyncio.BufferedProtocol):  # type: ignore[misc]  # asyncio prefers the buffer
    """The same with a small buffer of its own."""

    def get_buffer(self, sizehint: int) -> bytearray:
        self.buffer = bytearray(3)
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        super().data_received(bytes(self.buffer[:nbytes]))


def make_app(factory: Callable[[], Any], *, replay: bool = False, **config: Any) -> App:
    app = App("takeover", config, env_prefix=None)
    app.ctx.foreign = asyncio.get_running_loop().create_future()

    @app.route("/up", methods=["GET", "POST"])
    async def up(request: Request) -> None:
        app.ctx.foreign.set_result(await request.upgrade(factory, replay=replay))

    @app.get("/rest")
    async def rest(request: Request) -> HTTPResponse:
        return text("rest")

    return app


@contextlib.asynccontextmanager
async def connected(
    app: App, tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, Any]]:
    options: dict[str, Any] = {} if tls is None else {"ssl": tls[1], "server_hostname": "localhost"}
    async with await app.create_server(port=0, ssl=None if tls is None else tls[0]) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2], **options)
        try:
            yield reader, writer, server
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


@pytest.fixture(params=["tcp", "tls"])
def tls(request: pytest.FixtureRequest) -> tuple[ssl.SSLContext, ssl.SSLContext] | None:
    if request.param == "tcp":
        return None
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    return server, client


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
async def test_the_foreign_protocol_gets_every_byte_behind_the_request(
    kind: type[Recorder], tls: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ferrows.access")
    app = make_app(kind)
    async with connected(app, tls) as (reader, writer, _):
        writer.write(b"GET /rest HTTP/1.1\r\nHost: x\r\n\r\nGET /up HTTP/1.1\r\nHost: x\r\n\r\nearly ")
        foreign = await asyncio.wait_for(app.ctx.foreign, TIMEOUT)
        writer.write(b"and late")
        await foreign.until(lambda: len(foreign.received) == 14)
        assert foreign.received == b"early and late"
        assert b"\r\n\r\nrest" in await reader.readuntil(b"rest")
        foreign.transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\nanything")
        assert (await reader.readuntil(b"anything")).endswith(b"\r\n\r\nanything")
        foreign.transport.close()
        await foreign.until(lambda: foreign.calls[-1] == "lost")
        assert foreign.calls[:2] == ["made", "data"]
    lines = [record.getMessage() for record in caplog.records if record.name == "ferrows.access"]
    assert [line.split('"')[2].split()[0] for line in lines] == ["200", "101"]


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_replay_gives_the_request_again(framing: str) -> None:
    app = make_app(Recorder, replay=True)
    head = b"POST /up?a=%20b HTTP/1.1\r\nHost: x\r\nX-Mixed-Case: one\r\nx-mixed-case: two\r\n"
    async with connected(app) as (_, writer, _server):
        if framing == "length":
            writer.write(head + b"Content-Length: 4\r\n\r\nbodyrest")
        else:
            writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\nrest")
        foreign = await asyncio.wait_for(app.ctx.foreign, TIMEOUT)
        await foreign.until(lambda: foreign.received.endswith(b"rest"))
    assert foreign.received == head + b"Content-Length: 4\r\n\r\nbodyrest"


async def test_the_end_of_the_client_is_passed_on_and_the_server_forgets_the_connection() -> None:
    app = make_app(Recorder)
    async with connected(app) as (_, writer, server):
        writer.write(b"GET /up HTTP/1.1\r\nHost: x\r\n\r\n")
        foreign = await asyncio.wait_for(app.ctx.foreign, TIMEOUT)
        assert len(server.connections) == 1
        writer.write_eof()
        await foreign.until(lambda: "lost" in foreign.calls)
        assert foreign.calls == ["made", "eof", "lost"]
        assert server.connections == set()


class Closing(Recorder):
    """Ends when it is asked to."""

    def close(self) -> None:
        self.transport.write(b"bye")
        self.transport.close()


class ClosingSlowly(Recorder):
    """Ends in its time."""

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.transport.write(b"bye")
        self.transport.close()


@pytest.mark.parametrize(("kind", "last"), [(Recorder, b""), (Closing, b"bye"), (ClosingSlowly, b"bye")])
async def test_a_server_that_stops_ends_what_was_taken_over(kind: type[Recorder], last: bytes) -> None:
    app = make_app(kind)
    async with connected(app) as (reader, writer, server):
        writer.write(b"GET /up HTTP/1.1\r\nHost: x\r\n\r\n")
        foreign = await asyncio.wait_for(app.ctx.foreign, TIMEOUT)
        await asyncio.wait_for(server.stop(), TIMEOUT)
        assert await reader.read() == last
        assert foreign.calls == ["made", "lost"]
        assert server.connections == set()


class Staying(Recorder):
    """Does not end when it is asked to."""

    def close(self) -> None:
        self.note("asked")


async def test_what_does_not_end_in_time_is_aborted() -> None:
    app = make_app(Staying, GRACEFUL_SHUTDOWN_TIMEOUT=0.05)
    async with connected(app) as (_, writer, server):
        writer.write(b"GET /up HTTP/1.1\r\nHost: x\r\n\r\n")
        foreign = await asyncio.wait_for(app.ctx.foreign, TIMEOUT)
        await asyncio.wait_for(server.stop(), TIMEOUT)
        assert foreign.calls == ["made", "asked", "lost"]


async def test_a_peer_that_does_not_read_is_told_to_the_foreign_protocol() -> None:
    paused, resumed = asyncio.Event(), asyncio.Event()

    class Writer(Recorder):
        def pause_writing(self) -> None:
            paused.set()

        def resume_writing(self) -> None:
            resumed.set()

    app = make_app(Writer)
    async with connected(app) as (reader, writer, _):
        writer.write(b"GET /up HTTP/1.1\r\nHost: x\r\n\r\n")
        foreign = await asyncio.wait_for(app.ctx.foreign, TIMEOUT)
        foreign.transport.write(bytes(2**24))
        await asyncio.wait_for(paused.wait(), TIMEOUT)
        await reader.readexactly(2**24)
        await asyncio.wait_for(resumed.wait(), TIMEOUT)


async def test_a_handler_that_fails_after_its_takeover_is_logged_once_and_ends_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = App("takeover", env_prefix=None)

    @app.get("/up")
    async def up(request: Request) -> None:
        await request.upgrade(Recorder)
        raise RuntimeError("after that")

    async with connected(app) as (reader, writer, _):
        writer.write(b"GET /up HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), TIMEOUT) == b""
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in errors] == ["GET /up failed after its upgrade"]


async def test_a_request_is_upgraded_once_and_not_after_its_response() -> None:
    app = App("takeover", env_prefix=None)
    errors: list[str] = []

    @app.get("/twice")
    async def twice(request: Request) -> None:
        foreign = await request.upgrade(Recorder)
        try:
            await request.upgrade(Recorder)
        except ServerError as error:
            errors.append(str(error))
        foreign.transport.close()  # type: ignore[attr-defined]

    @app.get("/streamed")
    async def streamed(request: Request) -> None:
        response = await request.respond()
        await response.send("begun")
        try:
            await request.upgrade(Recorder)
        except ServerError as error:
            errors.append(str(error))
        await response.eof()

    for path in ("/twice", "/streamed"):
        async with connected(app) as (reader, writer, _):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            await asyncio.wait_for(reader.read(), TIMEOUT)
    assert errors == ["only a request that has no response yet can be upgraded"] * 2


async def test_a_connection_of_another_server_cannot_be_handed_over() -> None:
    app = App("takeover", env_prefix=None)
    with pytest.raises(ServerError, match="another server's"):
        await make_request(app, "/", protocol=object()).upgrade(Recorder)


class LosesAtOnce(Recorder):
    """Ends the connection as soon as it has it, with bytes that have yet to be read."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.abort()


async def test_a_client_that_sends_no_more_before_the_takeover_is_told() -> None:
    app = App("takeover", env_prefix=None)
    arrived, gone = asyncio.Event(), asyncio.Event()
    app.ctx.foreign = asyncio.get_running_loop().create_future()

    @app.get("/up")
    async def up(request: Request) -> None:
        arrived.set()
        await gone.wait()
        app.ctx.foreign.set_result(await request.upgrade(Recorder))

    async with connected(app) as (_, writer, _server):
        writer.write(b"GET /up HTTP/1.1\r\nHost: x\r\n\r\nlast words")
        await asyncio.wait_for(arrived.wait(), TIMEOUT)
        writer.write_eof()
        # Reading is paused while the handler runs, so that the end of the stream waits behind the words.
        gone.set()
        foreign = await asyncio.wait_for(app.ctx.foreign, TIMEOUT)
        await foreign.until(lambda: "lost" in foreign.calls)
    assert foreign.received == b"last words"
    assert foreign.calls == ["made", "data", "eof", "lost"]


async def test_a_protocol_that_drops_the_connection_at_once_is_called_no_more_than_asyncio_would() -> None:
    app = make_app(LosesAtOnce)
    async with connected(app) as (reader, writer, server):
        writer.write(b"GET /up HTTP/1.1\r\nHost: x\r\n\r\nearly")
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        foreign = await asyncio.wait_for(app.ctx.foreign, TIMEOUT)
        await foreign.until(lambda: "lost" in foreign.calls)
        assert foreign.calls == ["made", "lost"]
        assert server.connections == set()


class FailingClose(Recorder):
    """Cannot be closed."""

    async def close(self) -> None:
        raise RuntimeError("cannot close")


async def test_a_close_that_fails_is_logged_and_the_connection_dropped(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(FailingClose, GRACEFUL_SHUTDOWN_TIMEOUT=0.05)
    async with connected(app) as (_, writer, server):
        writer.write(b"GET /up HTTP/1.1\r\nHost: x\r\n\r\n")
        foreign = await asyncio.wait_for(app.ctx.foreign, TIMEOUT)
        await asyncio.wait_for(server.stop(), TIMEOUT)
        assert foreign.calls == ["made", "lost"]
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert errors == ["what took a connection over could not be closed"]


async def test_a_connection_that_is_closing_is_not_handed_over() -> None:
    app = App("takeover", env_prefix=None)
    errors: list[str] = []

    @app.get("/up")
    async def up(request: Request) -> HTTPResponse:
        assert request.transport is not None
        request.transport.close()
        try:
            await request.upgrade(Recorder)
        except RequestCancelled as error:
            errors.append(str(error))
        return text("to nobody")

    async with connected(app) as (reader, writer, _):
        writer.write(b"GET /up HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await asyncio.wait_for(reader.read(), TIMEOUT) == b""
    assert errors == ["the client has left"]
