"""A server's process with faults, and what is asked of it afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ferrows._codec import PURE_PYTHON
from tests.hostile import serving
from tests.hostile.client import Client, ask, handshake

from .shim import Faults

LOOPS = ["uvloop"] if PURE_PYTHON else ["asyncio", "uvloop"]
"""The twin differs from the extension in nothing that a loop could make a difference to."""


class Server(serving.Server):
    """A process that serves as ``App.run`` does. Its access log goes to a file of its own, unless told otherwise.

    ``trust`` is for clients of a server with TLS, ``preamble`` what they send before anything else.
    """

    def __init__(
        self,
        loop: str,
        *,
        environment: Mapping[str, str] | None = None,
        faults: Faults | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        trust: ssl.SSLContext | None = None,
        preamble: bytes = b"",
        **settings: Any,
    ) -> None:
        self.loop = loop
        self.trust, self.preamble = trust, preamble
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.access = tempfile.TemporaryFile("w+")  # noqa: SIM115
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
            self.port = listening.getsockname()[1]
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.server", str(listening.fileno()), json.dumps(settings)],
                stdin=subprocess.DEVNULL,
                stdout=self.access if stdout is None else stdout,
                stderr=self.log if stderr is None else stderr,
                text=True,
                pass_fds=[listening.fileno()],
                cwd=serving.ROOT,
                env={
                    **_environment(),
                    **({"FERROWS_NO_UVLOOP": "1"} if loop == "asyncio" else {}),
                    **(faults.environment if faults is not None else {}),
                    **(environment or {}),
                },
            )

    def client(self, target: str | None = None) -> Client:
        """Connect as the server wants it; ``target`` opens a WebSocket."""
        client = Client(self.port, None)
        try:
            client.send(self.preamble)
            if self.trust is not None:
                client.sock = self.trust.wrap_socket(client.sock, server_hostname="127.0.0.1")
            if target is not None:
                client.send(handshake(target))
                head = client.read_head()
                assert head.startswith(b"HTTP/1.1 101 "), head
        except BaseException:
            client.close()
            raise
        return client

    def state(self) -> dict[str, Any]:
        with self.client() as client:
            client.send(b"GET /state HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            client.read_head()
            while data := client.sock.recv(65536):
                client.received += data
        found: dict[str, Any] = json.loads(client.received)
        return found

    def wait_until_ready(self) -> None:
        # Clients wait in the backlog until it accepts.
        assert self.state()["loop"] == self.loop

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        self.log.close()
        self.access.close()

    def terminate(self, timeout: float = 60) -> int:
        """Let it end as an operator would, and return its exit code."""
        self.process.terminate()
        return self.process.wait(timeout)

    def accesses(self) -> list[str]:
        """The lines of the access log so far, without those of ``/state``."""
        lines = os.pread(self.access.fileno(), 2**24, 0).decode().splitlines()
        return [line for line in lines if " /state " not in line]

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the process for the length of a block, as a debugger or a machine that sleeps would."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            until(lambda: _is_stopped(self.process.pid))
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def used(self) -> dict[str, int]:
        """What must not grow."""
        found = self.state()
        return {key: found[key] for key in ("tasks", "connections", "group", "websockets")} | {"files": self.files}

    def until_freed(self, before: Mapping[str, int], seconds: float = 60) -> None:
        """Wait until it uses no more than it did; AssertionError where it goes on to."""
        deadline = time.monotonic() + seconds
        while True:
            used = self.used()
            if all(count <= before[key] for key, count in used.items()):
                return
            assert time.monotonic() < deadline, f"{used}, before {dict(before)}"
            time.sleep(0.05)


@contextlib.contextmanager
def running(loop: str, **options: Any) -> Iterator[Server]:
    """Run a server for the length of a block, and wait until it serves."""
    server = Server(loop, **options)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for what only looking can tell."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def serves(server: Server) -> bool:
    """Whether a new client gets an answer."""
    with contextlib.suppress(OSError, AssertionError), server.client("/echo") as client:
        return client.echo() == b"here"
    return False


def head_of(port: int, path: str, *lines: str) -> tuple[int, dict[str, str]]:
    """GET a path; the status and the header of the answer."""
    with Client(port, None) as client:
        request = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *lines, "", ""]
        client.send("\r\n".join(request).encode())
        status, *fields = client.read_head().decode().split("\r\n")
    parts = [field.partition(":") for field in fields]
    return int(status.split()[1]), {name.lower(): value.strip() for name, _, value in parts}


def _environment() -> dict[str, str]:
    """The environment without settings of ferrows, and with buffers behind standard streams, as there are elsewhere."""
    left_out = ("FERROWS_", "COVERAGE_", "PYTHONUNBUFFERED")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(left_out)}
    return kept | {key: os.environ[key] for key in ("FERROWS_NO_EXTENSIONS",) if key in os.environ}


def _is_stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "T"


__all__ = ["LOOPS", "Client", "Server", "ask", "head_of", "running", "serves", "until"]
