"""One app under five servers, each in a process of its own."""

from __future__ import annotations

import http.client
import importlib.util
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
from websockets.asyncio.client import ClientConnection, connect

ROOT = Path(__file__).parents[2]
START_TIMEOUT = STOP_TIMEOUT = 60  # seconds

NEEDS = {
    "ferrows": (),
    "uvicorn": ("uvicorn", "websockets"),
    "uvicorn-wsproto": ("uvicorn", "wsproto"),
    "hypercorn": ("hypercorn",),
    "mounted": ("uvicorn", "starlette"),
}

_keys = itertools.count()


@dataclass(frozen=True)
class Answer:
    """A response that has been read."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass(frozen=True)
class Server:
    """A server that runs, with the app's prefix in it."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    prefix: str = ""

    @property
    def is_asgi(self) -> bool:
        """Whether it is another one than ferrows' own."""
        return self.name != "ferrows"

    @property
    def origin(self) -> str:
        return f"127.0.0.1:{self.port}"

    def connect(self, path: str, **options: Any) -> connect:
        """Connect a WebSocket client that sends no pings of its own."""
        return connect(f"ws://{self.origin}{self.prefix}{path}", proxy=None, ping_interval=None, **options)

    def open(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(
        self, path: str, method: str = "GET", body: Any = None, headers: Mapping[str, str] | None = None, **options: Any
    ) -> Answer:
        """Send one request on a connection of its own."""
        connection = self.open()
        try:
            connection.request(method, self.prefix + path, body, headers or {}, **options)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def stop(self) -> str:
        """Stop it as an operator would; return what it printed."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stdout is not None
        printed = self.process.stdout.read().decode()
        # Uvicorn, when all is done, raises the signal again.
        assert self.process.wait(STOP_TIMEOUT) in (0, -signal.SIGTERM), self.log.read_text()
        return printed


@pytest.fixture(scope="session", params=NEEDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Each of the servers, shared by all tests."""
    with serving(request.param, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(params=NEEDS)
def own_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """Each of the servers for one test, which may stop it."""
    with serving(request.param, tmp_path) as server:
        yield server


@pytest.fixture
def key() -> str:
    """A name that no other test uses."""
    return f"key{next(_keys)}"


@contextmanager
def serving(name: str, folder: Path) -> Iterator[Server]:
    """Run serve.py."""
    for module in NEEDS[name]:
        if importlib.util.find_spec(module) is None:
            missing(f"{module} is not installed")
    log = folder / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.asgi_outward.serve", name], cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr
        )
    try:
        yield Server(name, _announced_port(process, log), process, log, "/mounted" if name == "mounted" else "")
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _announced_port(process: subprocess.Popen[bytes], log: Path) -> int:
    assert process.stdout is not None
    overdue = threading.Timer(START_TIMEOUT, process.kill)
    overdue.start()
    try:
        line = process.stdout.readline()
    finally:
        overdue.cancel()
    assert line.strip().isdigit(), f"the server did not start:\n{log.read_text()}"
    return int(line)


def missing(reason: str) -> NoReturn:
    """Skip where a developer has not installed a server; CI has to have them all."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and CI=true", pytrace=False)
    pytest.skip(reason)


__all__ = ["Answer", "ClientConnection", "Server"]
