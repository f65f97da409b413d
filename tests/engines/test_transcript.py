"""One transcript on every way to bring a WebSocket implementation: one app, one port, REST beside it, both loops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from rules.wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    close,
    close_body,
    frame,
    handshake,
)
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import PerMessageDeflate

from ferrows import App, HTTPResponse, Request
from ferrows.response import json
from ferrows.server.protocols.websocket_protocol import WebSocketProtocol

from .foreign import MAX_SIZE, ForeignProtocol, ForeignWebsocket

ENGINES = ("ours", "wsproto", "websockets")
WAYS = (*ENGINES, "takeover", "subclass")
COMPRESSED = (*ENGINES, "takeover")
"""Those whose implementation has permessage-deflate turned on here."""

TIMEOUT = 60


class OwnProtocol(WebSocketProtocol):
    """Answers the handshake of one path with an implementation of its own."""

    own: ForeignWebsocket | None = None

    async def websocket_handshake(self, request: Request, subprotocols: Any = None) -> Any:
        if request.path != "/subclass":
            return await super().websocket_handshake(request, subprotocols)
        early = self.detach()
        assert self.transport is not None
        self.own = ForeignWebsocket(request, self.transport)
        self.data_received = self.own.receive_data
        self.transport.set_protocol(self)
        if early:
            self.own.receive_data(early)
        return self.own

    def connection_lost(self, exc: BaseException | None) -> None:
        if self.own is not None:
            self.own.connection_lost()
        super().connection_lost(exc)


def make_app() -> App:
    app = App("transcript", env_prefix=None)
    app.config.update({"ACCESS_LOG": False, "WEBSOCKET_MAX_SIZE": MAX_SIZE, "WEBSOCKET_COMPRESSION": "deflate"})
    app.ctx.ends = asyncio.Queue()

    @app.get("/rest")
    async def rest(request: Request) -> HTTPResponse:
        return json({"rest": True})

    async def converse(request: Request, ws: Any) -> None:
        """The handler of every way but the takeover: it does not know which it has."""
        try:
            async for message in ws:
                if isinstance(message, str) and message.startswith("close "):
                    _, code, reason = message.split(" ", 2)
                    await ws.close(int(code), reason)
                else:
                    await ws.send(message)
        finally:
            app.ctx.ends.put_nowait(request.path)

    app.add_websocket_route(converse, "/ours", name="ours")
    app.add_websocket_route(converse, "/wsproto", name="wsproto", engine="wsproto")
    app.add_websocket_route(converse, "/websockets", name="websockets", engine="websockets")
    app.add_websocket_route(converse, "/subclass", name="subclass")

    @app.get("/takeover")
    async def takeover(request: Request) -> None:
        foreign = await request.upgrade(ForeignProtocol, replay=True)
        assert isinstance(foreign, ForeignProtocol)
        foreign.ended.add_done_callback(lambda _: app.ctx.ends.put_nowait(request.path))

    return app


@pytest.fixture
def app() -> App:
    return make_app()


@contextlib.asynccontextmanager
async def serving(app: App) -> AsyncIterator[tuple[str, int]]:
    async with await app.create_server(port=0, protocol=OwnProtocol) as server:
        yield server.sockets[0].getsockname()[:2]


class Raw:
    """A client that sends octets and reads frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def frame(self) -> tuple[int, bytes]:
        """Read one frame, not masked and with its length in the shortest form."""
        first, length = await self.reader.readexactly(2)
        assert first & 0x80, "no answer here is fragmented"
        if length == 126:
            length = int.from_bytes(await self.reader.readexactly(2), "big")
        elif length == 127:
            length = int.from_bytes(await self.reader.readexactly(8), "big")
        return first & 0x7F, await self.reader.readexactly(length)

    async def close_code(self) -> int:
        opcode, payload = await self.frame()
        assert opcode == CLOSE
        return int.from_bytes(payload[:2], "big") if payload else 1005

    async def ended(self) -> bool:
        """Whether nothing but the end of the stream follows."""
        with contextlib.suppress(ConnectionError):
            return await self.reader.read() == b""
        return True


@contextlib.asynccontextmanager
async def opened(address: tuple[str, int], way: str, early: bytes = b"") -> AsyncIterator[Raw]:
    """Do the opening handshake; ``early`` goes in the same segment."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        async with asyncio.timeout(TIMEOUT):
            writer.write(handshake(f"/{way}") + early)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
            yield Raw(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


ECHOES = {
    "text": (frame(TEXT, "grüße".encode()), (TEXT, "grüße".encode())),
    "empty text": (frame(TEXT), (TEXT, b"")),
    "binary": (frame(BINARY, bytes(range(256))), (BINARY, bytes(range(256)))),
    "16-bit length": (frame(BINARY, b"x" * 200), (BINARY, b"x" * 200)),
    "64-bit length": (frame(BINARY, b"x" * MAX_SIZE), (BINARY, b"x" * MAX_SIZE)),
    "fragments": (
        # A character is cut in two, and a ping comes between.
        frame(TEXT, b"gr\xc3", fin=False) + frame(CONTINUATION, b"\xbc", fin=False) + frame(CONTINUATION, b"n"),
        (TEXT, "grün".encode()),
    ),
    "ping": (frame(PING, b"are you there"), (PONG, b"are you there")),
    "unasked pong": (frame(PONG, b"p") + frame(TEXT, b"after"), (TEXT, b"after")),
}


@pytest.mark.parametrize("way", WAYS)
async def test_messages_come_back_and_pings_are_answered(app: App, way: str) -> None:
    async with serving(app) as address, opened(address, way) as raw:
        for name, (sent, answer) in ECHOES.items():
            raw.writer.write(sent)
            assert await raw.frame() == answer, name
        for sent, _ in ECHOES.values():
            for at in range(0, min(len(sent), 300)):
                raw.writer.write(sent[at : at + 1])
                await asyncio.sleep(0)
            raw.writer.write(sent[300:])
        for name, (_, answer) in ECHOES.items():
            assert await raw.frame() == answer, f"{name} in pieces"


@pytest.mark.parametrize("way", WAYS)
async def test_a_ping_within_a_message_is_answered_at_once(app: App, way: str) -> None:
    async with serving(app) as address, opened(address, way) as raw:
        raw.writer.write(frame(TEXT, b"a", fin=False) + frame(PING, b"p"))
        assert await raw.frame() == (PONG, b"p")
        raw.writer.write(frame(CONTINUATION, b"b"))
        assert await raw.frame() == (TEXT, b"ab")


@pytest.mark.parametrize("way", WAYS)
async def test_frames_in_the_segment_of_the_handshake_are_answered(app: App, way: str) -> None:
    async with serving(app) as address, opened(address, way, frame(TEXT, b"1") + frame(TEXT, b"2")) as raw:
        assert [await raw.frame(), await raw.frame()] == [(TEXT, b"1"), (TEXT, b"2")]


@pytest.mark.parametrize("way", ENGINES)
async def test_messages_before_a_close_are_answered_before_it(app: App, way: str) -> None:
    async with serving(app) as address, opened(address, way) as raw:
        raw.writer.write(frame(TEXT, b"1") + frame(BINARY, b"2") + close(1000))
        assert [await raw.frame(), await raw.frame(), await raw.frame()] == [
            (TEXT, b"1"),
            (BINARY, b"2"),
            (CLOSE, close_body(1000)),
        ]
        assert await raw.ended()


@pytest.mark.parametrize("code", [1000, 1001, 3001, 4999, None], ids=str)
@pytest.mark.parametrize("way", WAYS)
async def test_a_close_is_answered_with_its_code(app: App, way: str, code: int | None) -> None:
    async with serving(app) as address, opened(address, way) as raw:
        raw.writer.write(close(code, "" if code is None else "why"))
        assert await raw.close_code() == (code or 1005)
        assert await raw.ended()
        assert await app.ctx.ends.get() == f"/{way}"


@pytest.mark.parametrize("way", WAYS)
async def test_a_close_of_the_server_has_its_code_and_reason(app: App, way: str) -> None:
    async with serving(app) as address, opened(address, way) as raw:
        raw.writer.write(frame(TEXT, b"close 4002 that is why"))
        assert await raw.frame() == (CLOSE, close_body(4002, "that is why"))
        raw.writer.write(close(4002))
        assert await raw.ended()


INVALID = {
    "unmasked": (frame(TEXT, b"a", masked=False), 1002),
    "reserved bit": (frame(TEXT, b"a", rsv=0b010), 1002),
    "reserved opcode": (frame(0x3, b"a"), 1002),
    "fragmented ping": (frame(PING, b"a", fin=False), 1002),
    "continuation of nothing": (frame(CONTINUATION, b"a"), 1002),
    "message within a message": (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002),
    "no UTF-8": (frame(TEXT, b"\xff"), 1007),
    "UTF-8 that is cut off": (frame(TEXT, b"\xc3"), 1007),
    "close with one byte": (frame(CLOSE, b"\x03"), 1002),
    "close with a code that is not sent": (close(1005), 1002),
    "close whose reason is no UTF-8": (close(1000, b"\xff"), 1007),
    "too long": (frame(BINARY, bytes(MAX_SIZE + 1)), 1009),
    "too long in fragments": (
        frame(BINARY, bytes(MAX_SIZE), fin=False) + frame(CONTINUATION, b"a"),
        1009,
    ),
}


@pytest.mark.parametrize("case", INVALID)
@pytest.mark.parametrize("way", WAYS)
async def test_an_invalid_frame_ends_the_connection_with_its_code(app: App, way: str, case: str) -> None:
    data, code = INVALID[case]
    async with serving(app) as address, opened(address, way) as raw:
        raw.writer.write(data)
        assert await raw.close_code() == code
        assert await raw.ended()


@pytest.mark.parametrize("way", WAYS)
async def test_a_client_that_is_lost_ends_its_handler(app: App, way: str, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(app) as address, opened(address, way) as raw:
        raw.writer.write(frame(TEXT, b"whole") + frame(TEXT, b"half")[:-1])
        assert await raw.frame() == (TEXT, b"whole")
        raw.writer.transport.abort()
        assert await app.ctx.ends.get() == f"/{way}"
    assert [record for record in caplog.records if record.name.startswith("ferrows") and record.exc_info] == []


@pytest.mark.parametrize("way", WAYS)
async def test_a_client_library_talks_to_it(app: App, way: str) -> None:
    async with serving(app) as (host, port), connect(f"ws://{host}:{port}/{way}", max_size=None) as ws:
        extensions = [type(extension) for extension in ws.protocol.extensions]
        assert extensions == ([PerMessageDeflate] if way in COMPRESSED else [])
        for message in ("text", b"binary", "compressible " * 4000, bytes(50_000), ""):
            await ws.send(message)
            assert await ws.recv() == message
        await ws.send(["in ", "three ", "fragments"])
        assert await ws.recv() == "in three fragments"
        await asyncio.wait_for(await ws.ping(), TIMEOUT)
        await ws.close(4005, "done")
        assert ws.close_code == 4005


async def test_many_connections_of_all_ways_and_rest_at_once(app: App) -> None:
    async def talk(address: tuple[str, int], way: str, number: int) -> list[Any]:
        host, port = address
        async with connect(f"ws://{host}:{port}/{way}") as ws:
            received = []
            for turn in range(10):
                await ws.send(f"{way} {number} {turn}")
                received.append(await ws.recv())
            return received

    async def ask(address: tuple[str, int]) -> bytes:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET /rest HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        try:
            return await reader.read()
        finally:
            writer.close()

    async with serving(app) as address, asyncio.timeout(60):
        conversations = [(way, number) for number in range(10) for way in WAYS]
        results = await asyncio.gather(
            *(talk(address, way, number) for way, number in conversations), *(ask(address) for _ in range(10))
        )
    for (way, number), received in zip(conversations, results, strict=False):
        assert received == [f"{way} {number} {turn}" for turn in range(10)]
    for response in results[len(conversations) :]:
        assert response.startswith(b"HTTP/1.1 200 ") and response.endswith(b'{"rest":true}')


@pytest.mark.parametrize("way", WAYS)
async def test_rest_before_the_upgrade_on_the_same_connection(app: App, way: str) -> None:
    async with serving(app) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET /rest HTTP/1.1\r\nHost: x\r\n\r\n" + handshake(f"/{way}") + frame(TEXT, b"a"))
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(13) == b'{"rest":true}'
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(3) == b"\x81\x01a"
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("way", (*ENGINES, "takeover"))
async def test_a_server_that_stops_says_going_away(app: App, way: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with serving(app) as address:
            raw = await stack.enter_async_context(opened(address, way))
            raw.writer.write(frame(TEXT, b"a"))
            assert await raw.frame() == (TEXT, b"a")
            closing = asyncio.create_task(raw.close_code())

            async def answer() -> None:
                assert await closing == 1001
                raw.writer.write(close(1001))
                assert await raw.ended()
                raw.writer.close()

            answering = asyncio.create_task(answer())
        await answering
