"""HTTP over real sockets, on asyncio's own loop and on uvloop, plain and with TLS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from http_harness import App, describe, parse_replies, run, statuses

from ferrows.request import Request
from ferrows.response import HTTPResponse, raw, text
from ferrows.server.protocols import http_protocol
from ferrows.server.protocols.http_protocol import HttpProtocol

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

Runner = Callable[[Awaitable[Any]], Any]


@pytest.fixture(params=["asyncio", "uvloop"])
def on_loop(request: pytest.FixtureRequest) -> Runner:
    if request.param == "asyncio":
        return lambda main: run(main, asyncio.SelectorEventLoop)
    uvloop = pytest.importorskip("uvloop")
    return lambda main: run(main, uvloop.new_event_loop)


@contextlib.asynccontextmanager
async def serving(app: App, **options: Any) -> AsyncIterator[tuple[int, set[Any]]]:
    """Serve on a free port of the loopback; gives the port and the set of live connections."""
    loop = asyncio.get_running_loop()
    connections: set[Any] = set()
    server = await loop.create_server(
        lambda: HttpProtocol(loop, app, connections=connections), "127.0.0.1", 0, **options
    )
    try:
        yield server.sockets[0].getsockname()[1], connections
    finally:
        server.close()
        for protocol in list(connections):
            protocol.abort()
        await until(lambda: not connections)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


async def talk(port: int, *chunks: bytes, half_close: bool = False, **options: Any) -> bytes:
    """Send, then read to the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **options)
    try:
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
        if half_close:
            writer.write_eof()
        async with asyncio.timeout(60):
            return await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def test_requests_are_answered_and_the_connection_ends(on_loop: Runner) -> None:
    async def main() -> None:
        async with serving(App()) as (port, connections):
            output = await talk(port, GET, GET + CLOSE)
            assert statuses(output) == [200, 200, 200]
            await until(lambda: not connections)

    on_loop(main())


def test_nodelay_is_set_and_the_peer_is_known(on_loop: Runner) -> None:
    seen: list[Any] = []

    async def handler(request: Request) -> HTTPResponse:
        connection = request.transport.get_extra_info("socket")  # type: ignore[union-attr]
        seen.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        seen.append((request.ip, request.conn_info.server_port))
        return text("")

    async def main() -> None:
        async with serving(App(handler)) as (port, _):
            await talk(port, CLOSE)
            assert seen[0]
            assert seen[1] == ("127.0.0.1", port)

    on_loop(main())


def test_refusal_reaches_a_client_that_is_still_sending(on_loop: Runner) -> None:
    """Without the lingering close the unread body would reset the connection and take the 413 with it."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n"

    async def main() -> None:
        async with serving(App()) as (port, _):
            for _ in range(5):
                output = await talk(port, head, b"x" * 2_000_000, half_close=True)
                assert statuses(output) == [413]

    on_loop(main())


def test_client_that_half_closes_gets_its_answers(on_loop: Runner) -> None:
    async def handler(request: Request) -> HTTPResponse:
        await asyncio.sleep(0.05)
        return await describe(request)

    async def main() -> None:
        async with serving(App(handler)) as (port, _):
            assert statuses(await talk(port, GET + GET, half_close=True)) == [200, 200]

    on_loop(main())


def test_handler_of_a_client_that_left_is_cancelled(on_loop: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HALF_CLOSE_GRACE", 0.05)
    seen: list[str] = []

    async def handler(request: Request) -> HTTPResponse:
        seen.append("begun")
        try:
            await asyncio.sleep(1000)
        finally:
            seen.append("ended")
        return text("")

    async def main() -> None:
        async with serving(App(handler)) as (port, connections):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GET)
            await until(lambda: seen == ["begun"])
            writer.close()
            await until(lambda: seen == ["begun", "ended"] and not connections)

    on_loop(main())


def test_large_response_to_a_slow_reader_waits(on_loop: Runner) -> None:
    progress: list[int] = []

    async def handler(request: Request) -> None:
        response = await request.respond()
        for number in range(200):
            await response.send(b"x" * 100_000)
            progress.append(number)

    async def main() -> None:
        async with serving(App(handler)) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writer.write(CLOSE)
            await until(lambda: len(progress) > 2)
            while True:
                before = len(progress)
                await asyncio.sleep(0.1)
                if len(progress) == before:
                    break
            assert len(progress) < 200
            async with asyncio.timeout(60):
                output = await reader.read()
            assert len(progress) == 200
            [reply] = parse_replies(output)
            assert len(reply.body) == 200 * 100_000
            writer.close()
            await writer.wait_closed()

    on_loop(main())


def test_stream_that_never_waits_learns_that_its_client_reset_the_connection(on_loop: Runner) -> None:
    ends: list[str] = []
    clients: list[socket.socket] = []

    async def handler(request: Request) -> None:
        response = await request.respond()
        await response.send(b"x")
        # All of it in one turn of the loop, so that nothing has told the server yet.
        clients[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        clients[0].close()
        try:
            for _ in range(1000):
                await response.send(b"x")
            ends.append("sent all")
        except BaseException as error:
            ends.append(type(error).__name__)
            raise

    async def main() -> None:
        async with serving(App(handler)) as (port, connections):
            clients.append(socket.create_connection(("127.0.0.1", port)))
            clients[0].sendall(GET)
            await until(lambda: ends != [] and not connections)
        assert ends in (["CancelledError"], ["RequestCancelled"])

    on_loop(main())


def test_large_body_both_ways(on_loop: Runner) -> None:
    body = bytes(range(256)) * 20_000

    async def handler(request: Request) -> HTTPResponse:
        return raw(request.body)

    async def main() -> None:
        async with serving(App(handler, REQUEST_MAX_SIZE=10**7)) as (port, _):
            head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
            chunked = b"".join(
                b"%x\r\n%b\r\n" % (len(piece), piece)
                for at in range(0, len(body), 99_999)
                if (piece := body[at : at + 99_999])
            )
            for request in (
                head + b"Content-Length: %d\r\n\r\n" % len(body) + body,
                head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked + b"0\r\n\r\n",
            ):
                [reply] = parse_replies(await talk(port, request))
                assert reply.body == body

    on_loop(main())


def test_silent_client_is_closed(on_loop: Runner) -> None:
    async def main() -> None:
        async with serving(App(REQUEST_HEAD_TIMEOUT=0.05)) as (port, _):
            assert await talk(port) == b""
            assert statuses(await talk(port, GET[:10])) == [408]

    on_loop(main())


def test_tls(on_loop: Runner) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    seen: list[str] = []

    async def handler(request: Request) -> HTTPResponse:
        seen.append(request.url)
        return await describe(request)

    async def main() -> None:
        async with serving(App(handler), ssl=server_context) as (port, _):
            options: dict[str, Any] = {"ssl": client_context, "server_hostname": "localhost"}
            assert statuses(await talk(port, GET, CLOSE, **options)) == [200, 200]
            assert statuses(await talk(port, b"GET / HTTP/1.1\r\n\r\n", **options)) == [400]

    on_loop(main())
    assert seen == ["https://a/"] * 2
