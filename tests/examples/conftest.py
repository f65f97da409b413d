"""Run the examples as a reader of the README does: each in a process of its own, on a free port of the loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path
from typing import IO

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
START_TIMEOUT = 60.0
STOP_TIMEOUT = 60.0


@dataclass
class Example:
    """A running example."""

    process: subprocess.Popen[bytes]
    port: int
    log: IO[bytes]

    def ws(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.port}{path}"

    def get(self, path: str, **headers: str) -> tuple[int, HTTPMessage, str]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read().decode()
        finally:
            connection.close()

    def output(self) -> str:
        """All that the process has written."""
        # The file's position is shared with the process and not to be moved.
        return os.pread(self.log.fileno(), os.fstat(self.log.fileno()).st_size, 0).decode()

    def stop(self) -> int:
        """Ask it to end as a service manager does, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def launch(name: str, port: int | None = None) -> Example:
    """Start `python examples/NAME.py`, on a free port by default, and return once it accepts connections."""
    if port is None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
    log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the example
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / f"{name}.py")],
        env={**os.environ, "HOST": "127.0.0.1", "PORT": str(port), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    example = Example(process, port, log)
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return example
        except OSError:
            if process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            example.stop()
            pytest.fail(f"{name} did not listen: {example.output()}")


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[[str], Example]]:
    """Start an example, once a session; at the end each must exit with 0 when it is asked to."""
    running: dict[str, Example] = {}

    def start(name: str) -> Example:
        if name not in running:
            running[name] = launch(name)
        return running[name]

    yield start
    statuses = {name: example.stop() for name, example in running.items()}
    logs = {name: example.output() for name, example in running.items()}
    for example in running.values():
        example.log.close()
    assert statuses == dict.fromkeys(statuses, 0)
    assert [name for name, log in logs.items() if "Traceback" in log] == [], logs


@pytest.fixture
def launched() -> Iterator[Callable[..., Example]]:
    """Start an example for one test, which may stop it itself."""
    running: list[Example] = []

    def start(name: str, port: int | None = None) -> Example:
        running.append(launch(name, port))
        return running[-1]

    yield start
    for example in running:
        example.stop()
        example.log.close()
