"""Requests without a network, and a client for tests with one."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import uvloop

from ferrows import App, HTTPResponse, Request, text
from ferrows._codec import Head, HeadReader
from ferrows.server import AsyncioServer
from ferrows.upgrade import Upgrade


class StandInWebsocket:
    """Records how it is closed."""

    def __init__(self) -> None:
        self.closed_with: tuple[Any, ...] | None = None

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed_with = (code, reason)


class StandInProtocol:
    """Upgrades to whatever it was given."""

    def __init__(self, ws: Any = None) -> None:
        self.ws = ws
        self.handshakes: list[tuple[str, ...]] = []
        self.transport = SimpleNamespace(closed=False)
        self.transport.close = lambda: setattr(self.transport, "closed", True)
        self.conn_info = SimpleNamespace(client_ip="192.0.2.7", client_port=5, ssl=False)

    async def websocket_handshake(self, request: Request, subprotocols: Any = None) -> Any:
        self.handshakes.append(tuple(subprotocols or ()))
        return self.ws


Ask = Callable[..., Awaitable[HTTPResponse | None]]


def make_request(
    app: App,
    path: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    *,
    protocol: Any = None,
) -> Request:
    fields = {"host": "example.com", **(headers or {})}
    return Request(make_head(method, path, fields), protocol or StandInProtocol(StandInWebsocket()), app)


def make_head(method: str, target: str, headers: Mapping[str, str]) -> Head:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    found = HeadReader(8190, 8192, 100).receive_data("\r\n".join(lines).encode("latin-1"))
    assert found is not None
    return found[0]


async def answer(app: App, request: Request) -> HTTPResponse | None:
    """Do what a connection does with a request: a websocket's handler has returned when this does."""
    response = await app.handle_request(request)
    return await response.serve() if isinstance(response, Upgrade) else response


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One connection that speaks HTTP/1.1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
        fields = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "example.com", **(headers or {})}.items())
        self.writer.write(f"{method} {path} HTTP/1.1\r\n{fields}\r\n".encode())
        return await self.answer(method)

    async def answer(self, method: str = "GET") -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        found = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        size = 0 if method == "HEAD" else int(found.get("content-length", 0))
        return Answer(int(head[0].split()[1]), found, await self.reader.readexactly(size))

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


async def connect(server: Any, **options: Any) -> Client:
    """Connect to a server of this process."""
    host, port = server.sockets[0].getsockname()[:2]
    return Client(*await asyncio.open_connection(host, port, **options))


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a coroutine function a test that runs once on asyncio's own loop and once on uvloop."""

    def run(new_loop: Callable[[], asyncio.AbstractEventLoop], **fixtures: Any) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(test(**fixtures))

    functools.update_wrapper(run, test)
    parameters = inspect.signature(test).parameters.values()
    new_loop = inspect.Parameter("new_loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = inspect.Signature([new_loop, *parameters])  # type: ignore[attr-defined]
    loops = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    marked: Callable[..., None] = pytest.mark.parametrize("new_loop", loops.values(), ids=loops)(run)
    return marked


def served_app() -> App:
    """Make an app that says hello, for tests of the server around it."""
    app = App("served", env_prefix=None)
    app.config.GRACEFUL_SHUTDOWN_TIMEOUT = 5
    app.add_route(lambda request: text("hello"), "/")
    return app


@contextlib.asynccontextmanager
async def running(app: App, **options: Any) -> AsyncIterator[AsyncioServer]:
    async with await app.create_server(port=0, **options) as server:
        yield server


def address(server: AsyncioServer) -> tuple[str, int]:
    host, port = server.sockets[0].getsockname()[:2]
    return host, port
