"""A panic of the extension ends one connection, with 1011 and one line in the log, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from ferrows import App, Request, Websocket
from ferrows.exceptions import ConnectionClosedError, WebsocketClosed
from tests.app.harness import on_both_loops
from tests.websocket.harness import close, frame, frames, text

HANDSHAKE = (
    b"GET /%s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
BROKEN = (8, struct.pack("!H", 1011) + b"internal error")
SECONDS = 30

Panic = Callable[..., None]


class Client:
    """A client that keeps the bytes it reads."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def head(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), SECONDS)

    async def frame(self) -> tuple[int, bytes]:
        """Read a frame that is short."""
        head = await asyncio.wait_for(self.reader.readexactly(2), SECONDS)
        return head[0] & 0x0F, await asyncio.wait_for(self.reader.readexactly(head[1]), SECONDS)

    async def rest(self) -> list[tuple[int, bytes]]:
        """Read the frames up to the server's FIN."""
        return frames(await asyncio.wait_for(self.reader.read(), SECONDS))

    async def echoes(self) -> bool:
        self.writer.write(text("still here?"))
        return await self.frame() == (1, b"still here?")


@dataclass
class Stage:
    """A server, a client for the panic, and another one that has nothing to do with it."""

    app: App
    port: int
    bystander: Client
    records: list[logging.LogRecord]
    clients: list[Client] = field(default_factory=list)
    ends: list[BaseException | None] = field(default_factory=list)

    async def connect(self, path: str) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        client.writer.write(HANDSHAKE % path.encode())
        assert (await client.head()).startswith(b"HTTP/1.1 101")
        return client

    async def check(self, panicked: Client, lines: int = 1) -> None:
        """One line in the log; the bystander lives; connections can be opened; no handler is left."""
        panicked.writer.close()
        with contextlib.suppress(ConnectionError):
            await panicked.writer.wait_closed()
        assert await self.bystander.echoes()
        fresh = await self.connect("echo")
        assert await fresh.echoes()
        fresh.writer.write(close())
        assert await fresh.rest() == [(8, b"\x03\xe8")]
        async with asyncio.timeout(SECONDS):
            while len(self.app.websocket_tasks) > 1:
                await asyncio.sleep(0.01)
        assert len(self.records) == lines, [record.getMessage() for record in self.records]
        assert "panicked" in self.records[0].getMessage()


@contextlib.contextmanager
def logged() -> Iterator[list[logging.LogRecord]]:
    """Collect what is logged from warnings on."""
    records: list[logging.LogRecord] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record not in records:  # it may come to more than one of the loggers
                records.append(record)

    collector = Collector(logging.WARNING)
    # ferrows' loggers do not propagate once a server is configured.
    loggers = [logging.getLogger(name) for name in ("", "ferrows", "ferrows.websocket", "ferrows.error")]
    for logger in loggers:
        logger.addHandler(collector)
    try:
        yield records
    finally:
        for logger in loggers:
            logger.removeHandler(collector)


@contextlib.asynccontextmanager
async def stage(
    app: App, handler: Callable[[Websocket], Awaitable[Any]], ping_interval: float | None = None
) -> AsyncIterator[Stage]:
    ends: list[BaseException | None] = []

    @app.websocket("/echo")
    async def echo(request: Request, ws: Websocket) -> None:
        async for message in ws:
            await ws.send(message)

    @app.websocket("/ws", ping_interval=ping_interval)
    async def tested(request: Request, ws: Websocket) -> None:
        try:
            await handler(ws)
        except BaseException as error:
            ends.append(error)
            raise
        ends.append(None)

    with logged() as records:
        async with await app.create_server(port=0, access_log=False) as server:
            port = server.sockets[0].getsockname()[1]
            built = Stage(app, port, None, records, ends=ends)  # type: ignore[arg-type]
            built.bystander = await built.connect("echo")
            assert await built.bystander.echoes()
            try:
                yield built
            finally:
                for client in built.clients:
                    client.writer.close()


async def iterate(ws: Websocket) -> None:
    async for message in ws:
        await ws.send(message)


async def receive(ws: Websocket) -> None:
    while True:
        await ws.send(await ws.recv())


async def stream(ws: Websocket) -> None:
    while True:
        async for fragment in ws.recv_streaming():
            await ws.send(fragment)


async def burst(ws: Websocket) -> None:
    while True:
        for message in await ws.recv_burst():
            await ws.send(message)


async def elsewhere(ws: Websocket) -> None:
    """Be woken by something else than the stream, so that the queue is worked off in turns that are scheduled."""
    await ws.recv()
    await asyncio.sleep(0.05)
    for _ in range(3):
        await ws.recv()
        await asyncio.sleep(0)
    await iterate(ws)


def then(work: Callable[[Websocket], Awaitable[Any]]) -> Callable[[Websocket], Awaitable[None]]:
    """Receive a message, do something, go on."""

    async def handler(ws: Websocket) -> None:
        await ws.recv()
        await work(ws)
        await iterate(ws)

    return handler


async def hold(ws: Websocket) -> None:
    ws.pause_frames()


async def fail(ws: Websocket) -> None:
    ws.fail_connection(1008, "no")


FED = [
    ("receive_data", iterate),
    ("parse", iterate),
    ("run_turn", iterate),
    ("wake", iterate),
    ("flush", iterate),
    ("send", iterate),
    ("send_now", iterate),
    ("__anext__", iterate),
    ("advance", iterate),
    ("take", iterate),
    ("recv", receive),
    ("advance", receive),
    ("take_messages", burst),
    ("recv_fragment", stream),
    ("take", stream),
    ("run_scheduled_turn", elsewhere),
    ("send_data", then(lambda ws: ws.send(memoryview(b"x")))),
    ("send_data", then(lambda ws: ws.send(["a", "b"]))),
    ("send_ping", then(lambda ws: ws.ping())),
    ("send_pong", then(lambda ws: ws.pong())),
    ("send_close", then(lambda ws: ws.close())),
    ("hold_frames", then(hold)),
    ("fail", then(fail)),
]


@pytest.mark.parametrize(("point", "handler"), FED, ids=[f"{point}-{index}" for index, (point, _) in enumerate(FED)])
@on_both_loops
async def test_a_panic_on_what_arrives_ends_one_connection_with_1011(
    app: App, panic_at: Panic, point: str, handler: Callable[[Websocket], Awaitable[Any]]
) -> None:
    async with stage(app, handler) as on:
        client = await on.connect("ws")
        await asyncio.sleep(0)
        panic_at(point)
        client.writer.write(b"".join(text(str(number)) for number in range(400)))
        assert (await client.rest())[-1] == BROKEN
        await on.check(client)
        assert len(on.ends) == 1
        assert on.ends[0] is None or (isinstance(on.ends[0], ConnectionClosedError) and on.ends[0].code == 1011)


@on_both_loops
async def test_a_panic_at_the_end_of_what_arrives_is_answered_with_1011(app: App, panic_at: Panic) -> None:
    async with stage(app, iterate) as on:
        client = await on.connect("ws")
        panic_at("receive_eof")
        client.writer.write_eof()
        assert await client.rest() == [BROKEN]
        await on.check(client)


@pytest.mark.parametrize("points", [["lose_transport"], ["lose_transport", "run_turn"]], ids=len)
@on_both_loops
async def test_a_panic_when_the_transport_is_lost_leaves_no_task_waiting(
    app: App, panic_at: Panic, points: list[str]
) -> None:
    sockets: list[Websocket] = []

    async def listen(ws: Websocket) -> None:
        sockets.append(ws)
        await iterate(ws)

    async with stage(app, listen) as on:
        client = await on.connect("ws")
        for point in points:
            panic_at(point)
        client.writer.transport.abort()
        async with asyncio.timeout(SECONDS):
            while not on.ends:
                await asyncio.sleep(0.01)
        await on.check(client, lines=len(points))
        assert isinstance(on.ends[0], WebsocketClosed)
        assert sockets[0].transport is None


@on_both_loops
async def test_a_panic_while_a_panic_is_dealt_with_drops_the_connection(app: App, panic_at: Panic) -> None:
    async with stage(app, iterate) as on:
        client = await on.connect("ws")
        panic_at("receive_data")
        panic_at("break_off")
        client.writer.write(text("x"))
        with contextlib.suppress(ConnectionError):
            assert await client.rest() == []
        await on.check(client)


@pytest.mark.parametrize("point", ["send", "send_now", "advance", "take", "wake", "run_turn"])
@on_both_loops
async def test_a_handler_that_goes_on_after_a_panic_finds_its_connection_closed(
    app: App, panic_at: Panic, point: str
) -> None:
    seen: list[int | None] = []

    async def stubborn(ws: Websocket) -> None:
        for _ in range(3):
            try:
                await ws.send(await ws.recv())
            except WebsocketClosed as error:
                seen.append(error.code)

    async with stage(app, stubborn) as on:
        client = await on.connect("ws")
        panic_at(point)
        client.writer.write(text("x"))
        # The message itself may be echoed before.
        assert (await client.rest())[-1] == BROKEN
        await on.check(client)
    assert set(seen) == {1011} and len(seen) >= 2


@on_both_loops
async def test_what_arrived_before_a_panic_is_received(app: App, panic_at: Panic) -> None:
    received: list[Any] = []

    async def listen(ws: Websocket) -> None:
        received.append(await ws.recv())
        # Woken by something else than the stream: the queue is worked off in turns that are scheduled.
        await asyncio.sleep(0.05)
        async for message in ws:
            received.append(message)

    async with stage(app, listen) as on:
        client = await on.connect("ws")
        panic_at("run_scheduled_turn")
        client.writer.write(b"".join(text(str(number)) for number in range(800)))
        assert await client.rest() == [BROKEN]
        await on.check(client)
    assert received == [str(number) for number in range(800)]


@on_both_loops
async def test_a_panic_on_a_connection_that_is_sent_to_leaves_the_sender_alone(app: App, panic_at: Panic) -> None:
    members: list[Websocket] = []

    async def member(ws: Websocket) -> None:
        members.append(ws)
        async for message in ws:
            for each in members:
                with contextlib.suppress(WebsocketClosed):
                    await each.send(message)

    async with stage(app, member) as on:
        sender, first, second = [await on.connect("ws") for _ in range(3)]
        panic_at("leave_batch")
        sender.writer.write(text("a"))
        assert (await first.rest())[-1] == BROKEN
        assert await sender.frame() == (1, b"a")
        assert await second.frame() == (1, b"a")
        assert len(on.records) == 1
        for client in (sender, second):
            client.writer.write(close())
            assert await client.rest() == [(8, b"\x03\xe8")]
        await on.check(first)


@on_both_loops
async def test_a_panic_when_the_peer_reads_again_ends_one_connection(app: App, panic_at: Panic) -> None:
    async def flood(ws: Websocket) -> None:
        await ws.recv()
        for _ in range(500):
            await ws.send(b"x" * 50_000)

    async with stage(app, flood) as on:
        client = await on.connect("ws")
        panic_at("resume_writing")
        client.writer.write(text("go"))
        assert (await client.rest())[-1] == BROKEN
        await on.check(client)


@on_both_loops
async def test_a_panic_of_the_keepalive_ends_one_connection(app: App, panic_at: Panic) -> None:
    async with stage(app, iterate, ping_interval=0.2) as on:
        client = await on.connect("ws")
        panic_at("send_ping")
        assert await client.rest() == [BROKEN]
        await on.check(client)


@on_both_loops
async def test_a_panic_on_the_head_of_a_request_is_answered_with_500(app: App, panic_at: Panic) -> None:
    async with stage(app, iterate) as on:
        client = Client(*await asyncio.open_connection("127.0.0.1", on.port))
        panic_at("HeadReader.receive_data")
        client.writer.write(HANDSHAKE % b"ws")
        assert (await client.head()).startswith(b"HTTP/1.1 500 ")
        await asyncio.wait_for(client.reader.read(), SECONDS)
        await on.check(client)


@on_both_loops
async def test_panics_one_after_the_other_leave_nothing_behind(app: App, panic_at: Panic) -> None:
    points = ["receive_data", "send", "wake", "run_turn", "take", "flush"] * 5
    async with stage(app, iterate) as on:
        for point in points:
            client = await on.connect("ws")
            panic_at(point)
            client.writer.write(frame(2, b"x" * 300) * 10)
            assert (await client.rest())[-1] == BROKEN
            client.writer.close()
        await on.check(client, lines=len(points))
