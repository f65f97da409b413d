"""Applications behind a server of this process, and a client that is in no way clever."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from ferrows.asgi import ASGIHost
from ferrows.server.async_server import AsyncioServer

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def peer(name: str) -> ModuleType:
    """Import an optional package; without it the test fails in CI and is skipped elsewhere."""
    try:
        return importlib.import_module(name)
    except ImportError:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed", allow_module_level=True)


@dataclass
class Served:
    """A running server and the host of its application."""

    host: ASGIHost
    server: AsyncioServer
    port: int
    clients: list[Client] = field(default_factory=list)

    def url(self, path: str, scheme: str = "ws") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    async def get(self, path: str = "/", **options: Any) -> Answer:
        client = await self.connect()
        try:
            return await client.ask(path, **options)
        finally:
            await client.close()


@asynccontextmanager
async def serving(
    application: Any, *, config: Mapping[str, Any] | None = None, **options: Any
) -> AsyncIterator[Served]:
    settings = {"GRACEFUL_SHUTDOWN_TIMEOUT": 5, **(config or {})}
    host = ASGIHost(application, config=settings, env_prefix=None, **options)
    server = await host.create_server(port=0)
    # A signal's handler, which pytest-timeout uses, does not get through to uvloop.
    async with asyncio.timeout(60), server:
        served = Served(host, server, server.sockets[0].getsockname()[1])
        try:
            yield served
        finally:
            for client in served.clients:
                client.reset()


def http_only(handler: Application) -> Application:
    """Let an application be one without a lifespan."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await handler(scope, receive, send)

    return application


async def reply(send: Send, body: bytes = b"", status: int = 200, headers: Any = (), *, more: bool = False) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body, "more_body": more})


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One connection that speaks HTTP/1.1, or whatever bytes it is given."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def ask(self, path: str = "/", method: str = "GET", body: bytes = b"", headers: bytes = b"") -> Answer:
        length = b"Content-Length: %d\r\n" % len(body) if body else b""
        self.write(b"%b %b HTTP/1.1\r\nHost: a\r\n%b%b\r\n%b" % (method.encode(), path.encode(), headers, length, body))
        return await self.answer(method)

    async def head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
        return int(lines[0].split()[1]), fields

    async def answer(self, method: str = "GET") -> Answer:
        status, headers = await self.head()
        body = b""
        chunks = []
        if method == "HEAD" or status in (204, 304):
            pass
        elif "chunked" in headers.get("transfer-encoding", ""):
            while chunk := await self.chunk():
                chunks.append(chunk)
            body = b"".join(chunks)
        elif "content-length" in headers:
            body = await self.reader.readexactly(int(headers["content-length"]))
        else:
            body = await self.reader.read()
        return Answer(status, headers, body)

    async def chunk(self) -> bytes:
        size = int(await self.reader.readline(), 16)
        data = await self.reader.readexactly(size)
        assert await self.reader.readexactly(2) == b"\r\n"
        return data

    async def at_end(self) -> bool:
        """Whether the server ends the connection without another byte; a reset is an end too."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionResetError:
            return True

    async def chunk_after_head(self) -> bytes:
        await self.head()
        return await self.chunk()

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return

    def reset(self) -> None:
        """Leave without a word."""
        self.writer.transport.abort()


def frame(opcode: int, payload: bytes = b"") -> bytes:
    """Build a client's short frame, with the mask of zeros."""
    assert len(payload) < 126
    return bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload
