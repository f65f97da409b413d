"""The protocol under a Websocket on real loopback sockets: the edges of a connection's life, on both loops."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trustme

from ferrows import App, Request, Websocket
from ferrows.exceptions import ConnectionClosedError
from ferrows.server.protocols import http_protocol

from .harness import on_both_loops

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def text(message: str) -> bytes:
    """Build a client's frame, masked with a key of zeros."""
    return bytes((0x81, 0x80 | len(message))) + bytes(4) + message.encode()


async def record(ws: Websocket, received: list[Any]) -> None:
    """Receive until the connection ends; what it ended with comes last."""
    try:
        async for message in ws:
            received.append(message)
    except ConnectionClosedError as error:
        received.append(error.code)


@contextlib.asynccontextmanager
async def connected(
    app: App, security: tuple[ssl.SSLContext, ssl.SSLContext] | None = None, **options: Any
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, Any]]:
    if security is not None:
        options |= {"ssl": security[1], "server_hostname": "localhost"}
    context = None if security is None else security[0]
    async with await app.create_server(port=0, access_log=False, ssl=context) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), **options)
        try:
            yield reader, writer, server
        finally:
            writer.close()
            # asyncio's TLS complains of what is still on its way when the client closes.
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


@pytest.fixture(params=["tcp", "tls"])
def security(request: pytest.FixtureRequest) -> tuple[ssl.SSLContext, ssl.SSLContext] | None:
    """The contexts of the server and of the client, or None."""
    if request.param == "tcp":
        return None
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


@on_both_loops
async def test_frames_and_a_fin_in_the_segment_of_the_handshake_are_not_lost(app: App) -> None:
    received: list[Any] = []
    ended = asyncio.Event()

    @app.websocket("/ws")
    async def handler(request: Request, ws: Websocket) -> None:
        await record(ws, received)
        ended.set()

    async with connected(app) as (_, writer, _server):
        writer.write(HANDSHAKE + text("a") + text("b"))
        writer.write_eof()
        await asyncio.wait_for(ended.wait(), 30)
    assert received == ["a", "b", 1006]


@on_both_loops
async def test_a_client_that_leaves_before_its_handshake_is_answered_leaves_nothing_behind(app: App) -> None:
    received: list[Any] = []
    arrived, gone, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @app.on_request
    async def slow(request: Request) -> None:
        arrived.set()
        await gone.wait()

    @app.websocket("/ws", ping_interval=None)
    async def handler(request: Request, ws: Websocket) -> None:
        await record(ws, received)
        ended.set()

    async with connected(app) as (_, writer, server):
        writer.write(HANDSHAKE + text("a"))
        await asyncio.wait_for(arrived.wait(), 30)
        writer.write_eof()
        await asyncio.sleep(0.05)  # the FIN has to get there
        gone.set()
        await asyncio.wait_for(ended.wait(), 30)
        while server.connections:
            await asyncio.sleep(0.01)
    assert received == ["a", 1006]


@pytest.mark.parametrize("reads", [False, True], ids=["reads nothing", "reads slowly"])
@on_both_loops
async def test_a_peer_that_reads_nothing_is_dropped_and_one_that_reads_slowly_is_not(
    app: App, reads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "STALL_TIMEOUT", 1.0)
    size = 16 * 2**20
    outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    @app.websocket("/ws", ping_interval=None)
    async def handler(request: Request, ws: Websocket) -> None:
        try:
            await ws.send(bytes(size))
            await ws.send("waits for the peer to read")
            outcome.set_result("sent")
        except ConnectionClosedError as error:
            outcome.set_result(error.code)

    async with connected(app, limit=2**14) as (reader, writer, _):
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        output = b""
        while reads and not outcome.done():
            output += await reader.read(2**19)
            await asyncio.sleep(0.02)
        assert await asyncio.wait_for(outcome, 60) == ("sent" if reads else 1006)
        if reads:
            while len(output) < size + 10:
                output += await reader.read(2**19)
            assert output[: size + 10] == b"\x82\x7f" + size.to_bytes(8, "big") + bytes(size)


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@on_both_loops
async def test_messages_come_back_in_order_however_they_are_cut(app: App, security: Any, debug: bool) -> None:
    asyncio.get_running_loop().set_debug(debug)

    @app.websocket("/ws")
    async def handler(request: Request, ws: Websocket) -> None:
        async for message in ws:
            await ws.send(message)

    messages = [str(number) for number in range(1000)]
    data = b"".join(text(message) for message in messages)
    expected = b"".join(bytes((0x81, len(message))) + message.encode() for message in messages)
    async with asyncio.timeout(60), connected(app, security) as (reader, writer, _):
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        assert await reader.readexactly(len(expected)) == expected
        for start in range(0, len(data), 701):
            writer.write(data[start : start + 701])
            await asyncio.sleep(0)
        assert await reader.readexactly(len(expected)) == expected


@on_both_loops
async def test_a_flood_on_one_connection_leaves_the_others_their_turns(app: App, security: Any) -> None:
    turns_between: list[int] = []
    answered_in_a_turn: list[int] = []
    flooding, ticks, answered = True, 0, 0

    @app.websocket("/ws")
    async def handler(request: Request, ws: Websocket) -> None:
        nonlocal answered
        async for message in ws:
            await ws.send(message)
            answered += 1

    def tick() -> None:
        nonlocal ticks, answered
        # Turns in which the kernel has nothing for anybody are no injustice.
        ticks += answered > 0
        answered_in_a_turn.append(answered)
        answered = 0
        if flooding:
            loop.call_soon(tick)

    loop = asyncio.get_running_loop()
    async with asyncio.timeout(60), connected(app, security) as (reader, writer, server):
        options = {} if security is None else {"ssl": security[1], "server_hostname": "localhost"}
        other_reader, other_writer = await asyncio.open_connection(*server.sockets[0].getsockname(), **options)
        for each_reader, each_writer in ((reader, writer), (other_reader, other_writer)):
            each_writer.write(HANDSHAKE)
            await each_reader.readuntil(b"\r\n\r\n")
        batch = text("flood") * 3000

        async def flood() -> None:
            while flooding:
                writer.write(batch)
                await writer.drain()
                await asyncio.sleep(0)

        async def swallow() -> None:
            while flooding:
                await reader.read(2**16)

        tasks = [asyncio.ensure_future(flood()), asyncio.ensure_future(swallow())]
        loop.call_soon(tick)
        for number in range(20):
            before = ticks
            other_writer.write(text(str(number)))
            size = 2 + len(str(number))
            assert await other_reader.readexactly(size) == bytes((0x81, size - 2)) + str(number).encode()
            turns_between.append(ticks - before)
        flooding = False
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        other_writer.close()
    # 256 for a read and 256 for what it left over, twice where the loop reads a socket twice in one turn.
    assert 200 < max(answered_in_a_turn) <= 1024
    # There and back: turns for writing, TLS, reading and waking on both sides.
    assert max(turns_between) <= 40, turns_between


@on_both_loops
async def test_a_peer_that_stops_reading_suspends_the_handler_and_gets_everything_later(
    app: App, security: Any
) -> None:
    sent = 0
    done = asyncio.Event()
    count, size = 400, 60_000

    @app.websocket("/ws", ping_interval=None)
    async def handler(request: Request, ws: Websocket) -> None:
        nonlocal sent
        async for _ in ws:
            for number in range(count):
                await ws.send(number.to_bytes(2, "big") * (size // 2))
                sent += 1
            done.set()

    async with asyncio.timeout(60), connected(app, security, limit=2**14) as (reader, writer, _):
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(text("go"))
        before = -1
        while sent != before or not sent:  # until the buffers of both sides are full
            before = sent
            await asyncio.sleep(0.1)
        assert sent < count
        assert not done.is_set()
        for number in range(count):
            message = await reader.readexactly(size + 4)
            assert message == b"\x82\x7e" + size.to_bytes(2, "big") + number.to_bytes(2, "big") * (size // 2)
        await done.wait()
    assert sent == count


@on_both_loops
async def test_a_close_while_corked_comes_last_and_ends_the_connection(app: App, security: Any) -> None:
    codes: list[Any] = []
    ended = asyncio.Event()

    @app.websocket("/ws")
    async def handler(request: Request, ws: Websocket) -> None:
        for _ in range(3):
            await ws.send(await ws.recv())
        await ws.close(4000, "enough")
        codes.append(ws.close_code)
        ended.set()

    async with asyncio.timeout(60), connected(app, security) as (reader, writer, _):
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(text("a") + text("b") + text("c") + text("d"))
        expected = b"\x81\x01a\x81\x01b\x81\x01c\x88\x08\x0f\xa0enough"
        assert await reader.readexactly(len(expected)) == expected
        writer.write(b"\x88\x82" + bytes(4) + b"\x0f\xa0")
        assert await reader.read() == b""
        writer.close()
        await ended.wait()
    assert codes == [4000]


@on_both_loops
async def test_handler_without_a_connection_is_cancelled_in_the_end(app: App, caplog: pytest.LogCaptureFixture) -> None:
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @app.websocket("/ws", handler_timeout=1)
    async def handler(request: Request, ws: Websocket) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set_result("cleaned up")

    async with connected(app) as (reader, writer, server):
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        while server.connections:
            await asyncio.sleep(0.01)
        assert not ended.done()
        assert await asyncio.wait_for(ended, 30) == "cleaned up"
        while app.websocket_tasks:
            await asyncio.sleep(0.01)
    lines = [record.getMessage() for record in caplog.records if record.name == "ferrows.error"]
    assert lines == [
        "handler of websocket /ws from 127.0.0.1 was cancelled: "
        "its connection has ended long ago (WEBSOCKET_HANDLER_TIMEOUT)"
    ]


@on_both_loops
async def test_handler_that_returns_in_time_is_not_waited_for(app: App) -> None:
    outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @app.websocket("/ws", handler_timeout=60)
    async def handler(request: Request, ws: Websocket) -> None:
        async for _ in ws:
            pass
        await asyncio.sleep(0.1)
        outcome.set_result("done")

    async with connected(app) as (reader, writer, server):
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        protocol = next(iter(server.connections))
        writer.write(b"\x88\x82\0\0\0\0\x03\xe8")
        assert await asyncio.wait_for(outcome, 30) == "done"
        while protocol.task is not None:
            await asyncio.sleep(0.01)
        assert protocol._deadlines is None
