"""A session's end is its connection's, whatever the handler is at: on both loops, every engine and over ASGI."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from app.harness import on_both_loops

from ferrows import App, Request, Websocket
from ferrows.auth import Session, authenticated
from ferrows.exceptions import ConnectionClosedError, WebsocketClosed
from ferrows.server.protocols.websocket_protocol import WebSocketProtocol

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer good\r\n\r\n"
)
ENGINES = ["ferrows", "wsproto", "websockets"]
SOON = 0.15
"""Seconds until a session expires that a test waits for."""


def text(message: str) -> bytes:
    """Build a client's frame, masked with a key of zeros."""
    return bytes((0x81, 0x80 | len(message))) + bytes(4) + message.encode()


def closing(code: int, reason: str) -> bytes:
    """Build a server's Close."""
    return bytes((0x88, len(reason) + 2)) + code.to_bytes(2, "big") + reason.encode()


class Sessions:
    """Makes sessions and keeps them; and what handlers have to say."""

    def __init__(self, lifetime: float | None) -> None:
        self.lifetime = lifetime
        self.made: list[Session] = []
        self.opened: asyncio.Queue[Websocket] = asyncio.Queue()
        self.ended: asyncio.Queue[Any] = asyncio.Queue()

    def verify(self, token: str, request: Request) -> Session:
        self.made.append(Session(token, None if self.lifetime is None else time.time() + self.lifetime))
        return self.made[-1]


Work = Callable[[Websocket], Any]


def make_app(sessions: Sessions, work: Work, *, options: dict[str, Any] | None = None, **route: Any) -> App:
    app = App("expiring", {"ACCESS_LOG": False, "WEBSOCKET_PING_INTERVAL": None}, env_prefix=None)

    @app.websocket("/ws", apply=authenticated(sessions.verify, **(options or {})), **route)
    async def handler(request: Request, ws: Websocket) -> None:
        sessions.opened.put_nowait(ws)
        try:
            await work(ws)
        except WebsocketClosed as closed:
            sessions.ended.put_nowait((closed.code, closed.reason))
            raise
        sessions.ended.put_nowait(None)

    return app


@contextlib.asynccontextmanager
async def connected(
    app: App, early: bytes = b"", **options: Any
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with (
        asyncio.timeout(60),
        await app.create_server(port=0, access_log=app.config.ACCESS_LOG, **options) as server,
    ):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), limit=2**14)
        writer.write(HANDSHAKE + early)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in head
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def receiving(ws: Websocket) -> None:
    await ws.recv()


async def iterating(ws: Websocket) -> None:
    async for _ in ws:
        pass


async def waiting_for_the_end(ws: Websocket) -> None:
    await ws.wait_closed()
    await ws.recv()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("work", [receiving, iterating, waiting_for_the_end])
@on_both_loops
async def test_it_ends_while_the_handler_waits(engine: str, work: Work) -> None:
    sessions = Sessions(SOON)
    async with connected(make_app(sessions, work, engine=engine)) as (reader, writer):
        assert await reader.read() == closing(1008, "session expired")
        writer.close()
        assert await sessions.ended.get() == (1008, "session expired")
    assert sessions.made[0]._timer is None


@on_both_loops
async def test_it_ends_while_the_handler_sends_to_a_client_that_does_not_read() -> None:
    async def sending(ws: Websocket) -> None:
        while True:
            await ws.send(bytes(2**20))

    sessions = Sessions(SOON)
    app = make_app(sessions, sending, timeout=0.2)
    async with connected(app):
        assert await sessions.ended.get() == (1008, "session expired")
        ws = sessions.opened.get_nowait()
        # It does not read, so that its Close cannot come: it is dropped after the closing timeout.
        await ws.wait_closed()
        assert (ws.close_code, ws.closed_by) == (1008, "server")


@pytest.mark.parametrize("engine", ENGINES)
@on_both_loops
async def test_it_ends_while_the_handler_is_at_something_else_and_takes_no_message_after_it(engine: str) -> None:
    go_on = asyncio.Event()
    received: list[Any] = []

    async def busy(ws: Websocket) -> None:
        await go_on.wait()
        async for message in ws:
            received.append(message)

    sessions = Sessions(None)
    async with connected(make_app(sessions, busy, engine=engine)) as (reader, writer):
        ws = await sessions.opened.get()
        writer.write(text("before"))
        while not ws.queued:
            await asyncio.sleep(0.01)
        sessions.made[0].renew(time.time())
        assert await reader.read() == closing(1008, "session expired")
        with contextlib.suppress(ConnectionError):
            writer.write(text("after"))
            await writer.drain()
            await asyncio.sleep(0.05)  # it has to get there
        go_on.set()
        assert await sessions.ended.get() == (1008, "session expired")
    assert received == ["before"]


@pytest.mark.parametrize("code", [3000, 4001, 1000])
@on_both_loops
async def test_the_code_is_a_choice(code: int) -> None:
    sessions = Sessions(SOON)
    async with connected(make_app(sessions, receiving, options={"code": code})) as (reader, _):
        assert await reader.read() == closing(code, "session expired")


@on_both_loops
async def test_a_handler_can_renew_its_session() -> None:
    async def renewing(ws: Websocket) -> None:
        async for message in ws:
            assert sessions.made[0].renew(time.time() + float(message))
            await ws.send(message)

    sessions = Sessions(3600)
    async with connected(make_app(sessions, renewing)) as (reader, writer):
        first = sessions.made[0].expires or 0
        writer.write(text("7200"))
        assert await reader.readexactly(6) == b"\x81\x047200"
        assert (sessions.made[0].expires or 0) > first + 3000
        writer.write(text("0.05"))
        assert await reader.readexactly(6) == b"\x81\x040.05"
        assert await reader.read() == closing(1008, "session expired")
        assert await sessions.ended.get() == (1008, "session expired")


@on_both_loops
async def test_a_session_can_be_ended_from_elsewhere() -> None:
    sessions = Sessions(3600)
    async with connected(make_app(sessions, receiving)) as (reader, _):
        await sessions.opened.get()
        sessions.made[0].end(4000, "logged out")
        assert await reader.read() == closing(4000, "logged out")
        assert await sessions.ended.get() == (4000, "logged out")


@pytest.mark.parametrize("early", [b"", text("early")], ids=["", "with a message"])
@on_both_loops
async def test_one_that_is_over_before_the_upgrade_is_done_is_closed_at_once(early: bytes) -> None:
    class Slow(WebSocketProtocol):
        async def websocket_handshake(self, request: Request, subprotocols: Any = None) -> Any:
            sessions.made[0].end()
            return await super().websocket_handshake(request, subprotocols)

    sessions = Sessions(None)
    async with connected(make_app(sessions, receiving), early, protocol=Slow) as (reader, _):
        assert await reader.read() == closing(1008, "session expired")
        assert await sessions.ended.get() == (1008, "session expired")


@on_both_loops
async def test_several_connections_of_one_session_end_together() -> None:
    shared = Session("ada")
    sessions = Sessions(None)
    sessions.verify = lambda token, request: shared  # type: ignore[method-assign]
    async with asyncio.timeout(60), await make_app(sessions, receiving).create_server(port=0) as server:
        streams = [await asyncio.open_connection(*server.sockets[0].getsockname()) for _ in range(3)]
        for reader, writer in streams:
            writer.write(HANDSHAKE)
            await reader.readuntil(b"\r\n\r\n")
        for _ in streams:
            await sessions.opened.get()
        shared.end()
        for reader, writer in streams:
            assert await reader.read() == closing(1008, "session ended")
            writer.close()


@pytest.mark.parametrize("end", ["client", "handler", "failure"])
@on_both_loops
async def test_a_connection_that_ends_first_leaves_nothing_behind(end: str, caplog: pytest.LogCaptureFixture) -> None:
    async def work(ws: Websocket) -> None:
        if end == "client":
            await ws.recv()
        elif end == "failure":
            raise ZeroDivisionError

    caplog.set_level(logging.CRITICAL, "ferrows.error")  # a record that is kept holds on to the traceback's frames
    sessions = Sessions(3600)
    app = make_app(sessions, work)
    async with connected(app) as (_, writer):
        ws = weakref.ref(await sessions.opened.get())
        session = sessions.made.pop()
        timer = session._timer
        writer.close()
        if end == "client":
            assert (await sessions.ended.get())[0] == 1006
    for _ in range(100):
        gc.collect()
        if ws() is None:
            break
        await asyncio.sleep(0.01)
    assert timer is None or timer.cancelled()
    assert session._timer is None
    assert session._connections == {}
    assert ws() is None
    known = weakref.ref(session)
    del session
    gc.collect()
    assert known() is None


@on_both_loops
async def test_its_end_is_one_line_of_the_access_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "ferrows")
    sessions = Sessions(SOON)
    app = make_app(sessions, receiving)
    app.config.ACCESS_LOG = True
    async with connected(app) as (reader, writer):
        assert await reader.read() == closing(1008, "session expired")
        writer.close()
        await sessions.ended.get()
        ws = sessions.opened.get_nowait()
        await ws.wait_closed()
    lines = [record.getMessage() for record in caplog.records if "WebSocket" in record.getMessage()]
    assert len(lines) == 1
    assert "closed 1008 by server ('session expired')" in lines[0]
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


@on_both_loops
async def test_below_the_route_it_refuses_with_a_close_and_ends_with_the_session_too() -> None:
    sessions = Sessions(SOON)
    app = App("below", {"ACCESS_LOG": False}, env_prefix=None)

    @app.websocket("/ws")
    @authenticated(sessions.verify)
    async def handler(request: Request, ws: Websocket) -> None:
        await ws.recv()

    async with connected(app) as (reader, _):
        assert await reader.read() == closing(1008, "session expired")
    app = App("below_refusing", {"ACCESS_LOG": False}, env_prefix=None)
    app.add_websocket_route(authenticated(lambda token, request: None)(handler), "/ws", name="x")
    async with connected(app) as (reader, _):
        refusal = closing(1008, "the token is not valid")
        assert await reader.readexactly(len(refusal)) == refusal


@on_both_loops
async def test_an_object_of_another_implementation_is_closed_by_its_close() -> None:
    class Own(WebSocketProtocol):
        async def websocket_handshake(self, request: Request, subprotocols: Any = None) -> Any:
            ws = await super().websocket_handshake(request, subprotocols)

            class Foreign:
                async def close(self, code: int, reason: str) -> None:
                    await ws.close(code, f"{reason}, says another")

                async def recv(self) -> Any:
                    return await ws.recv()

            return Foreign()

    sessions = Sessions(SOON)
    async with connected(make_app(sessions, receiving), protocol=Own) as (reader, _):
        own = closing(1008, "session expired, says another")
        assert await reader.readexactly(len(own)) == own


@pytest.mark.parametrize("header", [[(b"sec-websocket-protocol", b"bearer, good")], []], ids=["", "without the header"])
async def test_under_an_asgi_server_it_sends_the_close_and_the_handler_learns_of_it(header: Any) -> None:
    sessions = Sessions(SOON)
    app = make_app(sessions, receiving, options={"subprotocol": "bearer"})
    sent: list[dict[str, Any]] = []
    incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    incoming.put_nowait({"type": "websocket.connect"})

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)
        if event["type"] == "websocket.close":
            incoming.put_nowait({"type": "websocket.disconnect", "code": event["code"]})

    scope = {
        "type": "websocket",
        "path": "/ws",
        "headers": [(b"host", b"a"), *header],
        "subprotocols": ["bearer", "good"],
    }
    async with asyncio.timeout(60):
        await app(scope, incoming.get, send)
    assert [(event["type"], event.get("subprotocol"), event.get("code"), event.get("reason")) for event in sent] == [
        ("websocket.accept", "bearer", None, None),
        ("websocket.close", None, 1008, "session expired"),
    ]
    assert sessions.ended.get_nowait() == (1008, "session expired")


async def test_a_client_of_ours_sees_code_and_reason() -> None:
    from ferrows.testing import AsyncTestClient

    sessions = Sessions(SOON)
    async with AsyncTestClient(make_app(sessions, receiving), headers={"Authorization": "Bearer a"}) as client:
        ws = await client.websocket("/ws")
        with pytest.raises(ConnectionClosedError) as closed:
            await ws.recv()
        assert (closed.value.code, closed.value.reason) == (1008, "session expired")
