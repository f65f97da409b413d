"""What asyncio's loop does with connections for which there is no file descriptor."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Iterator

import pytest

from ferrows import App, text
from ferrows.server import descriptors

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the descriptors in use are read from /proc")


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Lower the limit to what is open, and fill what is free below."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    filling: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, before[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                filling.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in filling:
            os.close(descriptor)


def make_app() -> App:
    app = App("descriptors", env_prefix=None)
    app.config.update({"ACCESS_LOG": False, "MAX_CONNECTIONS": 10_000})
    app.add_route(lambda request: text("here"), "/")
    return app


async def ended(client: socket.socket) -> bytes:
    try:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 1000), 30)
    except ConnectionError:
        return b""


async def test_connections_are_cut_off_and_later_ones_served(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptors._SPARE, "logged", -10.0)
    async with await make_app().create_server(port=0) as server:
        address = server.sockets[0].getsockname()
        clients = [socket.socket() for _ in range(20)]
        with no_descriptors():
            for client in clients:
                client.connect(address)
                client.setblocking(False)
            assert await asyncio.gather(*map(ended, clients)) == [b""] * 20
        reader, writer = await asyncio.open_connection(*address[:2])
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b"here")
        writer.close()
        for client in clients:
            client.close()
    lines = [record for record in caplog.records if "Too many open files" in record.getMessage()]
    assert [(record.name, record.levelno) for record in lines] == [("ferrows.error", logging.WARNING)]


async def test_without_a_spare_descriptor_asyncio_is_told_once_and_pauses(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptors._SPARE, "raised", -10.0)
    async with await make_app().create_server(port=0) as server:
        address = server.sockets[0].getsockname()
        clients = [socket.socket() for _ in range(20)]
        monkeypatch.setattr(descriptors._Spare, "close", lambda self: False)
        with no_descriptors():
            for client in clients:
                client.connect(address)
                client.setblocking(False)
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            while not any("out of system resource" in record.getMessage() for record in caplog.records):
                await asyncio.sleep(0.01)
        # Those that waited are served when asyncio accepts again.
        answers = await asyncio.gather(*map(ended, clients))
        assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
        for client in clients:
            client.close()
    assert sum("out of system resource" in record.getMessage() for record in caplog.records) == 1
