"""Crowds of connections on uvloop: several handles accept, and all of them are let go of."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from ferrows import App, HTTPResponse, Request, text
from ferrows.server import AsyncioServer, accepting
from ferrows.server.accepting import CROWD, HANDLES, BatchAccepting
from ferrows.server.loop import new_event_loop

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uvloop is not there on Windows")

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def on_uvloop(test: Callable[[], Awaitable[None]]) -> None:
    loop = new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(asyncio.wait_for(test(), 60))
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@contextlib.asynccontextmanager
async def serving(**address: object) -> AsyncIterator[tuple[AsyncioServer, BatchAccepting]]:
    app = App("crowd", env_prefix=None)
    app.config.ACCESS_LOG = False

    @app.get("/")
    async def answer(request: Request) -> HTTPResponse:
        return text("here")

    async with await app.create_server(**(address or {"port": 0})) as server:  # type: ignore[arg-type]
        assert isinstance(server.server, BatchAccepting)
        yield server, server.server


def connect(server: AsyncioServer, count: int) -> list[socket.socket]:
    """Open connections that nobody has accepted yet: the loop does not turn meanwhile."""
    address = server.unix or server.sockets[0].getsockname()
    clients = []
    for _ in range(count):
        client = socket.socket(socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX)
        clients.append(client)
        client.connect(address)
        client.setblocking(False)
        client.send(REQUEST)
    return clients


async def answers(clients: list[socket.socket]) -> list[bytes]:
    async def read(client: socket.socket) -> bytes:
        loop, received = asyncio.get_running_loop(), b""
        while data := await loop.sock_recv(client, 4096):
            received += data
        client.close()
        return received

    return await asyncio.gather(*map(read, clients))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes next is one of a crowd, however slow the machine is, and the crowd is over when nobody is left."""
    monkeypatch.setattr(accepting, "GAP", 60)
    monkeypatch.setattr(accepting, "PERIOD", 60)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.usefixtures("crowded")
def test_crowd_is_served_by_several_handles_until_it_is_over(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "PERIOD", 0.05)
    address = {"port": 0} if kind == "tcp" else {"unix": tmp_path / "socket"}

    async def test() -> None:
        async with serving(**address) as (server, batch):
            widths: list[int] = []
            narrow = batch._narrow

            def narrowing() -> None:
                widths.append(len(batch._further))
                narrow()

            batch._narrow = narrowing  # type: ignore[method-assign]
            before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
            clients = connect(server, 4 * CROWD)
            received = await answers(clients)
            assert len(received) == 4 * CROWD and all(data.endswith(b"here") for data in received)
            assert len(server.sockets) == 1
            await until(lambda: any(widths))
            await until(lambda: not batch.is_wide)
            assert (await answers(connect(server, 1)))[0].endswith(b"here")
            if sys.platform == "linux":
                await until(lambda: len(os.listdir("/proc/self/fd")) <= before)

    on_uvloop(test)


@pytest.mark.usefixtures("crowded")
def test_connections_one_after_the_other_are_no_crowd() -> None:
    async def test() -> None:
        async with serving() as (server, batch):
            for _ in range(3 * CROWD):
                assert (await answers(connect(server, 1)))[0].endswith(b"here")
                assert not batch.is_wide

    on_uvloop(test)


@pytest.mark.usefixtures("crowded")
def test_stop_in_a_crowd_closes_every_handle() -> None:
    async def test() -> None:
        async with serving() as (server, batch):
            address = server.sockets[0].getsockname()
            clients = connect(server, 4 * CROWD)
            await until(lambda: batch.is_wide)
            await server.stop()
            assert not batch.is_wide
            with pytest.raises(ConnectionRefusedError), socket.socket() as late:
                late.connect(address)
            for client in clients:
                client.close()

    on_uvloop(test)


@pytest.mark.usefixtures("crowded")
def test_stop_while_the_handles_are_made_closes_them() -> None:
    async def test() -> None:
        async with serving() as (server, batch):
            made: list[asyncio.AbstractServer] = []
            listen, begun, go_on = batch._listen, asyncio.Event(), asyncio.Event()

            async def slow(
                make_protocol: Callable[[], asyncio.BaseProtocol], sock: socket.socket
            ) -> asyncio.AbstractServer:
                begun.set()
                await go_on.wait()
                made.append(await listen(make_protocol, sock))
                return made[-1]

            batch._listen = slow
            clients = connect(server, 4 * CROWD)
            await begun.wait()
            await server.stop()
            go_on.set()
            await until(lambda: bool(made) and not made[0].is_serving())
            assert len(made) == 1 and not batch.is_wide
            for client in clients:
                client.close()

    on_uvloop(test)


@pytest.mark.usefixtures("crowded")
def test_handles_that_cannot_be_made_are_done_without() -> None:
    async def test() -> None:
        async with serving() as (server, batch):
            listen, asked = batch._listen, 0

            async def failing(
                make_protocol: Callable[[], asyncio.BaseProtocol], sock: socket.socket
            ) -> asyncio.AbstractServer:
                nonlocal asked
                asked += 1
                if asked == 3:
                    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
                return await listen(make_protocol, sock)

            batch._listen = failing
            received = await answers(connect(server, 4 * CROWD))
            assert len(received) == 4 * CROWD and all(data.endswith(b"here") for data in received)
            assert asked == 3 < HANDLES

    on_uvloop(test)


async def test_asyncio_has_a_plain_server() -> None:
    app = App("plain", env_prefix=None)
    app.add_route(lambda request: text("here"), "/")
    async with await app.create_server(port=0) as server:
        assert not isinstance(server.server, BatchAccepting)
