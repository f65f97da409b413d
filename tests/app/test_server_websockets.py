"""``ferrows.server.websockets``: messages of frames, and a websocket around somebody else's connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close as CloseBody
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from ferrows import App, Request
from ferrows._codec import Connection
from ferrows.engines import FerrowsEngine
from ferrows.events import Close, Fragment, Message, Ping, Pong
from ferrows.exceptions import ConnectionClosedError, ConnectionClosedOK, ServerError
from ferrows.handshake import accept
from ferrows.server import WebSocketProtocol
from ferrows.server.websockets.frame import WebsocketFrameAssembler
from ferrows.server.websockets.impl import WebsocketImplProtocol

from .harness import on_both_loops

# ---- WebsocketFrameAssembler


class Pausable:
    """What an assembler may ask of its protocol."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause_frames(self) -> None:
        self.calls.append("pause")

    def resume_frames(self) -> None:
        self.calls.append("resume")


@pytest.fixture
async def assembler() -> WebsocketFrameAssembler:
    return WebsocketFrameAssembler(Pausable())


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([Frame(Opcode.TEXT, b"a")], "a"),
        ([Frame(Opcode.BINARY, b"\xff")], b"\xff"),
        ([Frame(Opcode.TEXT, b"")], ""),
        ([Frame(Opcode.TEXT, b"gr\xc3", fin=False), Frame(Opcode.CONT, b"\xbcn")], "grün"),
        ([Frame(Opcode.BINARY, b"a", fin=False), Frame(Opcode.PING, b""), Frame(Opcode.CONT, b"b")], b"ab"),
        ([Fragment("a", False), Fragment("b", True)], "ab"),
        ([Message(b"a")], b"a"),
    ],
)
async def test_frames_become_a_message(
    assembler: WebsocketFrameAssembler, frames: list[Any], message: str | bytes
) -> None:
    getting = asyncio.create_task(assembler.get())
    for frame in frames:
        await asyncio.wait_for(assembler.put(frame), 30)
    assert await getting == message


async def test_put_of_a_final_frame_waits_until_the_message_is_fetched(assembler: WebsocketFrameAssembler) -> None:
    await assembler.put(Frame(Opcode.TEXT, b"a", fin=False))
    putting = asyncio.create_task(assembler.put(Frame(Opcode.CONT, b"b")))
    following = asyncio.create_task(assembler.put(Frame(Opcode.TEXT, b"c")))
    await settled()
    assert (putting.done(), assembler.paused, assembler.protocol.calls) == (False, True, ["pause"])
    assert await assembler.get() == "ab"
    await asyncio.wait_for(putting, 30)
    assert not following.done()
    assert await assembler.get(timeout=30) == "c"
    await asyncio.wait_for(following, 30)
    assert assembler.protocol.calls == ["pause", "resume", "pause", "resume"]


@pytest.mark.parametrize("timeout", [0, 0.01])
async def test_get_gives_none_after_its_timeout_and_loses_nothing(
    assembler: WebsocketFrameAssembler, timeout: float
) -> None:
    await assembler.put(Frame(Opcode.TEXT, b"a", fin=False))
    assert await assembler.get(timeout) is None
    putting = asyncio.create_task(assembler.put(Frame(Opcode.CONT, b"b")))
    await settled()
    assert await assembler.get(timeout) == "ab"
    await asyncio.wait_for(putting, 30)


async def test_a_get_that_is_cancelled_loses_nothing(assembler: WebsocketFrameAssembler) -> None:
    getting = asyncio.create_task(assembler.get())
    await settled()
    putting = asyncio.create_task(assembler.put(Frame(Opcode.TEXT, b"a")))
    getting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await getting
    assert await assembler.get() == "a"
    await asyncio.wait_for(putting, 30)


async def test_two_that_read_at_once_are_an_error(assembler: WebsocketFrameAssembler) -> None:
    getting = asyncio.create_task(assembler.get())
    await settled()
    with pytest.raises(ServerError, match=r"get\(\) of a frame assembler while get\(\) is under way"):
        await assembler.get()
    with pytest.raises(ServerError, match=r"get_iter\(\) .* while get\(\)"):
        await anext(aiter(assembler.get_iter()))
    await assembler.put(Frame(Opcode.TEXT, b"a"))
    assert await getting == "a"


async def test_get_iter_gives_each_frame_as_it_comes(assembler: WebsocketFrameAssembler) -> None:
    frames = assembler.get_iter()
    await assembler.put(Frame(Opcode.TEXT, b"gr\xc3", fin=False))
    assert await anext(frames) == "gr"
    putting = asyncio.create_task(assembler.put(Frame(Opcode.CONT, b"\xbcn")))
    assert [piece async for piece in frames] == ["ün"]
    await asyncio.wait_for(putting, 30)


@pytest.mark.parametrize(
    ("frames", "error"),
    [
        ([Frame(Opcode.CONT, b"a")], ServerError),
        ([Frame(Opcode.TEXT, b"a", fin=False), Frame(Opcode.TEXT, b"b")], ServerError),
        ([Frame(Opcode.TEXT, b"\xff")], UnicodeDecodeError),
    ],
)
async def test_frames_that_make_no_message_are_an_error(
    assembler: WebsocketFrameAssembler, frames: list[Frame], error: type[Exception]
) -> None:
    with pytest.raises(error):
        for frame in frames:
            await assembler.put(frame)


# ---- WebsocketImplProtocol


def open_protocol() -> ServerProtocol:
    return ServerProtocol(state=OPEN)


CONNECTIONS: dict[str, Callable[[], Any]] = {
    "codec": Connection,
    "websockets": open_protocol,
    "engine": FerrowsEngine,
}


class OwnHandshake(WebSocketProtocol):
    """Does the opening handshake by itself, as a subclass written for the reference does."""

    make: Callable[[], Any]

    async def websocket_handshake(self, request: Request, subprotocols: Any = None) -> Any:
        handshake = accept(request, subprotocols, request.route.websocket_settings)
        assert self.transport is not None
        early = self.detach()
        self.transport.write(handshake.response)
        ws = WebsocketImplProtocol(type(self).make(), max_queue=8, ping_interval=None, close_timeout=2, loop=self.loop)
        self.websocket = ws
        await ws.connection_made(self, self.loop)
        if early:
            ws.data_received(early)
        return ws


@contextlib.asynccontextmanager
async def serving(name: str, app: App) -> AsyncIterator[str]:
    protocol = type("Own", (OwnHandshake,), {"make": staticmethod(CONNECTIONS[name])})
    async with await app.create_server(port=0, protocol=protocol, access_log=False) as server:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"ws://{host}:{port}/ws"


@pytest.mark.parametrize("name", CONNECTIONS)
@on_both_loops
async def test_a_subclass_of_the_protocol_converses_by_it(name: str) -> None:
    app = App("impl", env_prefix=None)
    ends: list[Any] = []

    @app.websocket("/ws")
    async def handler(request: Request, ws: WebsocketImplProtocol) -> None:
        assert ws.subprotocol is None
        rtt = await ws.ping("are you there")
        await ws.send(f"{await rtt < 5}")
        await ws.pong(b"unasked")
        try:
            async for message in ws:
                await ws.send(message)
        finally:
            ends.append((ws.close_code, ws.close_reason))

    async with serving(name, app) as url, connect(url) as client, asyncio.timeout(60):
        assert await client.recv() == "True"
        for message in ("text", b"binary", "long " * 50_000):
            await client.send(message)
            assert await client.recv() == message
        await client.send(["frag", "ments"])
        assert await client.recv() == "fragments"
        await (await client.ping())
        await client.close(4001, "done")
        assert client.close_code == 4001
    assert ends == [(4001, "done")]


@pytest.mark.parametrize("name", CONNECTIONS)
async def test_its_handler_may_close_and_a_wrong_frame_fails(name: str) -> None:
    app = App("impl", env_prefix=None)

    @app.websocket("/ws")
    async def handler(request: Request, ws: WebsocketImplProtocol) -> None:
        match await ws.recv(timeout=30):
            case "close":
                await ws.close(4002, "why")
            case "fail":
                assert ws.fail_connection(1008, "because")
            case "end":
                ws.end_connection(4003)
            case _:
                raise AssertionError("not to be received")

    async with serving(name, app) as url, asyncio.timeout(20):
        for message, code in (("close", 4002), ("fail", 1008), ("end", 4003)):
            async with connect(url) as client:
                await client.send(message)
                with pytest.raises(ConnectionClosed) as raised:
                    await client.recv()
                assert raised.value.rcvd is not None
                assert raised.value.rcvd.code == code
        async with connect(url) as client:
            client.transport.write(b"\x81\x81\0\0\0\0\xff")
            with pytest.raises(ConnectionClosed) as raised:
                await client.recv()
            assert raised.value.rcvd is not None
            assert raised.value.rcvd.code == 1007


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.output = b""
        self.ended = False

    def write(self, data: Any) -> None:
        self.output += bytes(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.ended

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def made(ws_proto: Any, **options: Any) -> tuple[WebsocketImplProtocol, Transport]:
    """Make one on a transport without a network."""
    transport = Transport()

    async def send(data: bytes) -> None:
        transport.write(data)

    ws = WebsocketImplProtocol(ws_proto, **{"ping_interval": None, **options})
    await ws.connection_made(SimpleNamespace(transport=transport, send=send))
    return ws, transport


async def lost(ws: WebsocketImplProtocol) -> None:
    """Lose the transport, and see that no task stays."""
    ws.connection_lost(None)
    assert ws.auto_closer_task is not None
    await asyncio.wait_for(ws.auto_closer_task, 30)
    await settled()
    assert ws.keepalive_ping_task is None or ws.keepalive_ping_task.done()


async def test_before_its_connection_is_made_nothing_can_be_sent() -> None:
    ws = WebsocketImplProtocol(Connection())
    assert not ws.open
    with pytest.raises(ConnectionClosedError):
        await ws.send("a")


def test_what_is_no_connection_is_an_error_that_names_those_that_are() -> None:
    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(TypeError, match="ws_proto is dict, permitted: an engine"):
            WebsocketImplProtocol({}, loop=loop)
    finally:
        loop.close()


async def test_events_of_one_who_parses_by_himself_are_processed() -> None:
    ws, transport = await made(Connection())
    pong = await ws.ping(b"mine")
    transport.output = b""
    await ws.process_events([Message("a"), Fragment(b"b", False), Ping(b"p"), Fragment(b"c", True), Pong(b"mine")])
    assert await ws.recv_burst() == ["a", b"bc"]
    assert pong.done()
    assert transport.output == b"\x8a\x01p"
    await ws.process_events([Close(4000, "why")])
    assert (ws.close_code, ws.close_reason) == (4000, "why")
    assert transport.output[3:] == b"\x88\x02\x0f\xa0"
    assert transport.ended
    await lost(ws)


async def test_frames_of_one_who_drives_websockets_are_processed() -> None:
    protocol = open_protocol()
    ws, transport = await made(protocol)
    client = [
        Frame(Opcode.TEXT, b"a", fin=False),
        Frame(Opcode.PING, b"p"),
        Frame(Opcode.CONT, b"b"),
        Frame(Opcode.CLOSE, CloseBody(4000, "why").serialize()),
    ]
    protocol.receive_data(b"".join(frame.serialize(mask=True) for frame in client))
    await ws.async_data_received(protocol.data_to_send(), protocol.events_received())
    assert await ws.recv() == "ab"
    with pytest.raises(ConnectionClosedError) as raised:
        await ws.recv()
    assert (raised.value.code, raised.value.reason) == (4000, "why")
    # The pong and the answer to the Close are websockets' own, and are sent once.
    assert transport.output == b"\x8a\x01p\x88\x05\x0f\xa0why"
    assert transport.ended
    await lost(ws)


async def test_the_end_of_one_who_drives_the_connection_is_processed() -> None:
    ws, transport = await made(Connection())
    await ws.async_eof_received(b"last", [Message("a")])
    assert transport.output == b"last"
    assert await ws.recv() == "a"
    with pytest.raises(ConnectionClosedError) as raised:
        await ws.recv()
    assert raised.value.code == 1006
    await lost(ws)


async def test_frames_for_another_engine_are_an_error() -> None:
    ws, _ = await made(Connection())
    with pytest.raises(TypeError, match="frames are taken where ws_proto is a ServerProtocol"):
        await ws.process_events([Frame(Opcode.TEXT, b"a")])
    await lost(ws)


async def test_eof_and_loss_end_it() -> None:
    ws, _ = await made(Connection())
    ping = await ws.ping()
    receiving = asyncio.create_task(ws.recv())
    await settled()
    ws.eof_received()
    with pytest.raises(ConnectionClosedError):
        await receiving
    assert not await ws.wait_for_connection_lost(0.01)
    await lost(ws)
    assert await ws.wait_for_connection_lost()
    with pytest.raises(ConnectionClosedError):
        await ping
    assert not ws.fail_connection()


async def test_it_is_kept_alive_by_a_task_of_its_own() -> None:
    ws, transport = await made(Connection(), ping_interval=0.01, ping_timeout=0.01)
    assert ws.keepalive_ping_task is not None
    await asyncio.wait_for(ws.keepalive_ping_task, 30)
    assert transport.output[:2] == b"\x89\x04"
    assert (ws.close_code, ws.close_reason) == (1011, "keepalive ping timeout")
    await lost(ws)


async def test_it_pauses_and_resumes_on_demand() -> None:
    ws, transport = await made(Connection())
    calls: list[str] = []
    transport.pause_reading = lambda: calls.append("pause")  # type: ignore[method-assign]
    transport.resume_reading = lambda: calls.append("resume")  # type: ignore[method-assign]
    ws.pause_frames()
    ws.resume_frames()
    assert calls == ["pause", "resume"]
    ws.data_received(b"\x88\x82\0\0\0\0\x03\xe8")
    with pytest.raises(ConnectionClosedOK):
        await ws.recv()
    await lost(ws)
