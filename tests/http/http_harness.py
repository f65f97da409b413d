"""What the HTTP tests share: a transport without a socket, a loop whose clock is virtual, and ways to cut bytes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar

from ferrows.request import Request
from ferrows.response import HTTPResponse, text
from ferrows.server.protocols.http_protocol import HttpProtocol

T = TypeVar("T")

Handler = Callable[[Request], Awaitable[Any]]


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that does not wait: where it would sleep until a timer is due, its clock goes there instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self._real_select = self._selector.select  # type: ignore[attr-defined]
        self._selector.select = self._jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now

    def _jump(self, timeout: float | None = None) -> Any:
        if timeout is not None and timeout > 0:
            self.now += timeout
            timeout = 0
        return self._real_select(timeout)


def run(main: Awaitable[T], loop_factory: Callable[[], asyncio.AbstractEventLoop] = VirtualLoop) -> T:
    async def wrapper() -> T:
        return await main

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(wrapper())


def config(**values: Any) -> SimpleNamespace:
    """The settings that the protocol reads, small where a test would have to be long otherwise."""
    defaults = {
        "FORWARDED_ALLOW_IPS": None,
        "ACCESS_LOG": True,
        "REQUEST_TIMEOUT": 60,
        "REQUEST_HEAD_TIMEOUT": 10,
        "KEEP_ALIVE": True,
        "KEEP_ALIVE_TIMEOUT": 75,
        "RESPONSE_TIMEOUT": 60,
        "REQUEST_MAX_SIZE": 1000,
        "REQUEST_MAX_HEADER_SIZE": 8192,
        "REQUEST_MAX_TARGET_SIZE": 8190,
        "REQUEST_MAX_HEADERS": 100,
        "GRACEFUL_SHUTDOWN_TIMEOUT": 15,
    }
    return SimpleNamespace(**(defaults | values))


async def describe(request: Request) -> HTTPResponse:
    """Answer with what was understood."""
    return text(f"{request.method} {request.path} {request.body.decode('latin-1')}")


class StandInHead(NamedTuple):
    """What a request needs of its head, also where no client could send such a one."""

    method: str
    target: bytes
    version: str
    headers: list[tuple[bytes, bytes]]

    def getall(self, name: str) -> list[str]:
        values = (value for key, value in self.headers if key.decode("latin-1").lower() == name)
        return [value.decode("utf-8", "surrogateescape") for value in values]

    def select(self, names: Sequence[str]) -> list[list[str]]:
        return [self.getall(name) for name in names]


class App:
    """An app without routes: one handler for everything. ``requests`` are those that it got."""

    def __init__(self, handler: Handler = describe, **values: Any) -> None:
        self.config = config(**values)
        self.handler = handler
        self.requests: list[Request] = []
        self.exits: list[BaseException] = []

    async def handle_request(self, request: Request) -> Any:
        self.requests.append(request)
        return await self.handler(request)

    def stop_for(self, error: BaseException) -> bool:
        self.exits.append(error)
        return True

    async def finish_response(self, request: Request, response: HTTPResponse) -> HTTPResponse:
        return response


class FakeTransport(asyncio.Transport):
    """Records what is written. ``buffered`` bytes are those that the peer does not read.

    Where it is ``full``, the next write pauses the protocol.
    """

    def __init__(self, protocol: Any = None, **extra: Any) -> None:
        super().__init__(extra={"peername": ("192.0.2.1", 5000), "sockname": ("192.0.2.2", 80)} | extra)
        self.protocol: Any = protocol
        self.written: list[bytes] = []
        self.closed = False
        self.aborted = False
        self.eof_written = False
        self.reading = True
        self.buffered = 0
        self.full = False
        self.lost = False
        self.eof_possible = True

    @property
    def output(self) -> bytes:
        return b"".join(self.written)

    def write(self, data: Any) -> None:
        assert not self.eof_written, "write after EOF"
        self.written.append(bytes(data))
        if self.full:
            self.full = False
            self.protocol.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        for data in list_of_data:
            self.write(data)

    def write_eof(self) -> None:
        self.eof_written = True

    def can_write_eof(self) -> bool:
        return self.eof_possible

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            if not self.buffered:
                self._lose()

    def abort(self) -> None:
        self.aborted = True
        self.closed = True
        self._lose()

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        assert self.reading, "paused twice"
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading, "resumed twice"
        self.reading = True

    def is_reading(self) -> bool:
        return self.reading

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self.protocol
        return protocol

    def _lose(self) -> None:
        if not self.lost:
            self.lost = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)


@dataclass
class Peer:
    """A client on a :class:`FakeTransport`. To be made within a running loop."""

    app: App = field(default_factory=App)
    factory: Callable[..., Any] = HttpProtocol
    options: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.connections: set[Any] = set()
        self.protocol = self.factory(self.loop, self.app, connections=self.connections, **self.options)
        self.transport = FakeTransport(self.protocol, **self.extra)
        self.protocol.connection_made(self.transport)

    async def send(self, *chunks: bytes) -> bytes:
        """Send the chunks one by one, as far as they are read, let everything happen, and return what is new."""
        before = len(self.transport.output)
        for chunk in chunks:
            for _ in range(100):
                if self.transport.reading:
                    break
                await asyncio.sleep(0)
            if self.transport.closed or not self.transport.reading:
                break
            self.protocol.data_received(chunk)
        await self.settle()
        return self.transport.output[before:]

    async def settle(self, turns: int = 20) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.settle()

    def end(self) -> bool | None:
        """Send no more; as a transport does, close where the protocol does not want to keep it open."""
        keep_open: bool | None = self.protocol.eof_received()
        if not keep_open:
            self.transport.close()
        return keep_open

    def lose(self) -> None:
        self.transport.abort()


def cuts(data: bytes) -> Iterator[tuple[str, Sequence[bytes]]]:
    """Every way of arriving that matters: whole, byte by byte, and in two pieces cut everywhere."""
    yield "whole", [data]
    yield "bytes", [data[at : at + 1] for at in range(len(data))]
    step = max(1, len(data) // 400)
    for at in range(1, len(data), step):
        yield f"cut at {at}", [data[:at], data[at:]]


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


def parse_replies(data: bytes, methods: Sequence[str] = ()) -> list[Reply]:
    """Parse responses strictly; ``methods`` are those of the requests, GET for what is not given."""
    replies: list[Reply] = []
    answered = 0
    while data:
        head, separator, data = data.partition(b"\r\n\r\n")
        assert separator, f"cut-off head: {head!r}"
        line, *lines = head.decode("latin-1").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.1 (\d{3}) .*", line)
        assert match, line
        status = int(match[1])
        headers: dict[str, str] = {}
        for header in lines:
            name, colon, value = header.partition(": ")
            assert colon, header
            key = name.lower()
            assert key not in headers or key == "set-cookie", f"repeated {name}"
            headers[key] = value
        method = methods[answered] if answered < len(methods) else "GET"
        if status >= 200:
            answered += 1
        body = b""
        if status < 200 or status in (204, 304) or method == "HEAD":
            pass
        elif "transfer-encoding" in headers:
            assert "content-length" not in headers
            body, data = _dechunk(data)
        elif "content-length" in headers:
            length = int(headers["content-length"])
            assert len(data) >= length, "cut-off body"
            body, data = data[:length], data[length:]
        else:
            body, data = data, b""
        replies.append(Reply(status, headers, body))
    return replies


def _dechunk(data: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        line, separator, data = data.partition(b"\r\n")
        assert separator, "cut-off chunk"
        size = int(line, 16)
        chunk, end, data = data[:size], data[size : size + 2], data[size + 2 :]
        assert len(chunk) == size and end == b"\r\n", "cut-off chunk"
        if not size:
            return body, data
        body += chunk


def statuses(data: bytes, methods: Sequence[str] = ()) -> list[int]:
    return [reply.status for reply in parse_replies(data, methods)]


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def post(body: bytes, *lines: bytes, target: bytes = b"/") -> bytes:
    headers = b"".join(line + b"\r\n" for line in lines)
    return b"POST %b HTTP/1.1\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n%b" % (target, headers, len(body), body)


def exchange(*chunks: bytes, app: App | None = None, methods: tuple[str, ...] = ()) -> tuple[list[Reply], Peer]:
    """Send the chunks, and return the answers and the client."""

    async def main() -> tuple[list[Reply], Peer]:
        peer = Peer(app or App())
        output = await peer.send(*chunks)
        peer.closed_before_end = peer.transport.closed or peer.transport.eof_written  # type: ignore[attr-defined]
        return parse_replies(output, methods), peer

    return run(main())


def is_over(peer: Peer) -> bool:
    """Whether the server had said that it sends no more before the loop ended."""
    over: bool = peer.closed_before_end  # type: ignore[attr-defined]
    return over


def answer(response: Any, method: str = "GET", version: str = "1.1", **values: Any) -> tuple[Reply, Peer]:
    async def handler(request: Request) -> Any:
        return response

    data = f"{method} / HTTP/{version}\r\nHost: a\r\n\r\n".encode()
    [reply], peer = exchange(data, app=App(handler, **values), methods=(method,))
    return reply, peer


async def three_pieces(request: Request) -> None:
    response = await request.respond(content_type="text/plain", headers={"X-A": "b"})
    assert request.responded
    await response.send("one ")
    await response.send("")
    await response.send(b"two ")
    await response.send("three")
