"""The server's own protocol object on a transport without a socket and a clock without time."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ferrows import App, Request, Websocket
from ferrows.response import HTTPResponse, raw, text
from ferrows.server.protocols.websocket_protocol import WebSocketProtocol

from .wire import Frame, Response, parse_frames, parse_responses, splits

NAMES = itertools.count()

TURNS = 5000
"""A protocol that is not quiet after so many turns of the loop never will be."""

TIMEOUT = 10.0
"""WEBSOCKET_TIMEOUT of the app, in seconds."""

MAX_BODY = 1000
"""REQUEST_MAX_SIZE of the app, in bytes."""


SLOW = 2.0
"""Seconds that the app thinks about a handshake at /slow before it accepts it."""


def make_app(**config: Any) -> App:
    """Make an app with a route of each sort that the rules speak of."""
    app = App(f"rules_{next(NAMES)}")
    app.config.update(
        {
            "WEBSOCKET_TIMEOUT": TIMEOUT,
            "WEBSOCKET_PING_INTERVAL": 0,
            "REQUEST_MAX_SIZE": MAX_BODY,
            "ACCESS_LOG": False,
            **config,
        }
    )

    @app.get("/")
    async def index(request: Request) -> HTTPResponse:
        return text("index")

    @app.post("/echo")
    async def echo(request: Request) -> HTTPResponse:
        return raw(request.body)

    async def echo_messages(request: Request, ws: Websocket) -> None:
        async for message in ws:
            await ws.send(message)

    async def leave(request: Request, ws: Websocket) -> None:
        await ws.recv()

    async def offers(request: Request, ws: Websocket) -> None:
        await ws.send(str(ws.subprotocol))

    @app.on_request
    async def slow(request: Request) -> None:
        if request.path == "/slow":
            await asyncio.sleep(SLOW)

    app.add_websocket_route(echo_messages, "/ws", name="ws")
    app.add_websocket_route(echo_messages, "/slow", name="slow")
    app.add_websocket_route(leave, "/leave", name="leave")
    app.add_websocket_route(offers, "/chat", name="chat", subprotocols=["chat", "superchat"])
    app.add_websocket_route(echo_messages, "/deflate", name="deflate", compression="deflate")
    for name, options in COMPRESSIONS.items():
        app.add_websocket_route(echo_messages, f"/deflate/{name}", name=f"deflate_{name}", compression=options)
    app.add_websocket_route(echo_messages, "/origin", name="origin", origins=["https://example.com"])
    app.add_websocket_route(echo_messages, "/same", name="same", origins=["same"])
    return app


COMPRESSIONS: dict[str, dict[str, Any]] = {
    "takeover": {"server_no_context_takeover": False, "client_no_context_takeover": False, "threshold": 0},
    "small": {"server_max_window_bits": 10, "client_max_window_bits": 11, "threshold": 0},
}


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still unless it is put forward: how slow the machine is makes no difference."""

    now = 1000.0

    def time(self) -> float:
        return self.now

    async def settle(self) -> None:
        """Let callbacks run until none is ready."""
        ready = self._ready  # type: ignore[attr-defined]
        for _ in range(TURNS):
            await asyncio.sleep(0)
            if not ready:
                return
        raise AssertionError(f"not quiet after {TURNS} turns of the loop")

    async def advance(self, seconds: float) -> None:
        """Put the clock forward in small steps, as timers may be set anew by timers."""
        step = seconds / 64
        for _ in range(64):
            self.now += step
            # One empty turn moves what is due to the ready queue.
            await asyncio.sleep(0)
            await self.settle()


class FakeTransport(asyncio.Transport):
    """A transport that keeps what is written, and tells the protocol of the end as asyncio's transports do."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            {
                "peername": ("127.0.0.1", 50000),
                "sockname": ("127.0.0.1", 80),
                "socket": FakeSocket(),
                "sslcontext": None,
            }
        )
        self.loop = loop
        self.protocol: Any = None
        self.output = bytearray()
        self.closing = False
        self.aborted = False
        self.eof_written = False
        self.lost = False
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.eof_written, "write after write_eof"
        if not self.closing:
            self.output += data

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        for data in list_of_data:
            self.write(data)

    def write_eof(self) -> None:
        self.eof_written = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self.loop.call_soon(self._lose)

    def abort(self) -> None:
        self.aborted = True
        self.close()

    def _lose(self) -> None:
        if not self.lost:
            self.lost = True
            self.protocol.connection_lost(None)

    def is_closing(self) -> bool:
        return self.closing

    def is_reading(self) -> bool:
        return self.reading and not self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_protocol(self) -> Any:
        return self.protocol

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_write_buffer_size(self) -> int:
        return 0

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return (16384, 65536)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


class FakeSocket:
    """As much of a TCP socket as a protocol may ask of it."""

    family = socket.AF_INET
    type = socket.SOCK_STREAM
    proto = socket.IPPROTO_TCP

    def setsockopt(self, *args: Any) -> None:
        pass

    def fileno(self) -> int:
        return -1


@dataclass
class Exchange:
    """What the server sent and how it left the connection."""

    output: bytes
    closed: bool
    eof_written: bool = False
    unread: bytes = b""
    head: bool = False
    responses: list[Response] = field(init=False)
    rest: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.responses, self.rest = parse_responses(self.output, head=self.head)

    @property
    def statuses(self) -> list[int]:
        return [response.status for response in self.responses]

    @property
    def ended(self) -> bool:
        """The server gave the connection up: nothing more will be sent on it."""
        return self.closed or self.eof_written

    @property
    def frames(self) -> list[Frame]:
        """The frames after the 101."""
        assert self.statuses[-1:] == [101], self.statuses
        return parse_frames(self.rest)


class Peer:
    """The client's end of one connection."""

    def __init__(self, loop: Loop, app: App, connections: set[Any]) -> None:
        self.loop = loop
        self.transport = FakeTransport(loop)
        self.protocol = WebSocketProtocol(loop=loop, app=app, connections=connections)
        self.transport.protocol = self.protocol
        self.protocol.connection_made(self.transport)
        self.unread = b""

    async def send(self, *pieces: bytes) -> None:
        """Deliver pieces, each in a turn of the loop of its own, while the server reads."""
        for piece in pieces:
            if self.transport.closing:
                return
            self.unread += piece
            await self._deliver()
        await self.loop.settle()
        await self._deliver()
        await self.loop.settle()

    async def _deliver(self) -> None:
        if not self.transport.reading:
            await self.loop.settle()
        if self.unread and self.transport.is_reading():
            data, self.unread = self.unread, b""
            # Outside any task, as a transport calls it.
            self.loop.call_soon(self._receive, data)
            await asyncio.sleep(0)

    def _receive(self, data: bytes) -> None:
        # Looked up at each call, as a transport does: the protocol may have bound another method meanwhile.
        self.transport.protocol.data_received(data)

    async def eof(self) -> None:
        """End the client's side of the stream."""
        if not self.transport.closing and not self.transport.protocol.eof_received():
            self.transport.close()
        await self.loop.settle()

    def take(self, *, head: bool = False) -> Exchange:
        """What the server sent since the beginning."""
        transport = self.transport
        return Exchange(bytes(transport.output), transport.closing, transport.eof_written, self.unread, head)

    @property
    def ended(self) -> bool:
        return self.transport.closing or self.transport.eof_written

    async def drop(self) -> None:
        """Lose the connection, so that no test leaves a task or a timer."""
        self.transport.close()
        await self.loop.settle()


class Server:
    """An app, ready to serve, and the loop that it runs on; tests drive it synchronously."""

    def __init__(self, **config: Any) -> None:
        self.loop = Loop()
        self.app = make_app(**config)
        self.connections: set[Any] = set()
        self.app.finalize()

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    def peer(self) -> Peer:
        return Peer(self.loop, self.app, self.connections)

    def exchange(self, *pieces: bytes, head: bool = False) -> Exchange:
        """Send the pieces on a new connection and return what came back once the server is quiet."""

        async def conversation() -> Exchange:
            peer = self.peer()
            try:
                await peer.send(*pieces)
                return peer.take(head=head)
            finally:
                await peer.drop()

        result: Exchange = self.run(conversation())
        assert not self.connections, "a lost connection is forgotten"
        return result

    def every_split(self, data: bytes, then: bytes = b"", *, head: bool = False) -> Iterator[tuple[str, Exchange]]:
        """Replay an input whole, in two pieces at each position and byte by byte, ``then`` behind each of them."""
        for pieces in splits(data):
            sizes = [len(piece) for piece in pieces][:4]
            yield f"in pieces of {sizes}", self.exchange(*pieces, *([then] if then else []), head=head)
        if then:
            yield "coalesced with what follows", self.exchange(data + then, head=head)

    def close(self) -> None:
        async def cancel(tasks: set[asyncio.Task[Any]]) -> None:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        try:
            self.run(cancel(asyncio.all_tasks(self.loop)))
        finally:
            self.loop.close()
