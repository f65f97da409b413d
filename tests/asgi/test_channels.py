"""Django Channels: the chat of its tutorial. Django's settings are a process's, so it has one of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from .harness import peer

peer("channels")
peer("django")

PROJECT = Path(__file__).parent / "channels_project.py"


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    log = tmp_path_factory.mktemp("channels") / "log"
    environment = {**os.environ, "FERROWS_USE_UVLOOP": str(request.param == "uvloop"), "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, str(PROJECT)], stdout=output, stderr=output, env=environment)
    try:
        yield listening(process, log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()


def listening(process: subprocess.Popen[bytes], log: Path) -> int:
    """Wait for the start banner and return the port that it names."""
    while True:
        banner = re.search(r"http://127\.0\.0\.1:(\d+) ", log.read_text())
        if banner is not None:
            return int(banner[1])
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(f"the project did not start: {log.read_text()}")


def join(port: int, room: str, origin: str = "http://127.0.0.1") -> connect:
    """Connect as a page of ``origin`` does; Django's validator refuses what names none."""
    return connect(f"ws://127.0.0.1:{port}/ws/{room}/", origin=Origin(origin))


async def say(client: ClientConnection, message: str) -> None:
    await client.send(json.dumps({"message": message}))


async def hear(client: ClientConnection) -> Any:
    return json.loads(await client.recv())["message"]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_chat(port: int, kind: str) -> None:
    # A room of its own: that somebody of the test before has left may be said late.
    room = f"{kind}/{uuid4().hex}"
    async with join(port, room) as one:
        async with join(port, room) as two:
            for speaker, message in ((one, "hello"), (two, "grüße")):
                await say(speaker, message)
                assert await hear(one) == await hear(two) == message
            await two.close(3000, "bye")
        assert await hear(one) == "left 3000"


async def test_bytes_and_database(port: int) -> None:
    async with join(port, "async/database") as client:
        await client.send(b"\0\1")
        assert await client.recv() == b"\0\1"
        await say(client, "users")
        assert await hear(client) == "username"


async def test_consumer_closes(port: int) -> None:
    async with join(port, "async/lobby") as client:
        await say(client, "bye")
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert (client.close_code, client.close_reason) == (4000, "as you wish")


@pytest.mark.parametrize(
    ("room", "origin"),
    [("async/closed", "http://127.0.0.1"), ("async/lobby", "http://elsewhere.example")],
    ids=["consumer", "origin"],
)
async def test_connection_is_refused(port: int, room: str, origin: str) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with join(port, room, origin):
            raise AssertionError("it was let in")
    assert caught.value.response.status_code == 403


@pytest.mark.parametrize(
    ("path", "data", "body"),
    [("/?q=1", None, b"GET 1 "), ("/", b"abc", b"POST None abc"), ("/stream", None, b"0;1;2;")],
)
def test_views(port: int, path: str, data: bytes | None, body: bytes) -> None:
    open_url = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
    with open_url(f"http://127.0.0.1:{port}{path}", data, 10) as answer:
        assert answer.read() == body
