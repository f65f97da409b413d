"""The server process under attack: what it uses, as the kernel counts it, and an honest client beside the attack."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .turn import Turn

ROOT = Path(__file__).parents[2]


class Latencies(NamedTuple):
    """Milliseconds that an honest client waited: for an echo, and for a connection with an echo."""

    echo: float
    """The 99th percentile."""
    open: float
    """The 99th percentile; 0 where none was opened."""
    failed: int
    """Connections that could not be opened."""


class Server:
    """A server's process."""

    def __init__(
        self,
        peer: str = "ferrows",
        loop: str = "uvloop",
        *options: str,
        environment: Mapping[str, str] | None = None,
        turn: Turn | None = None,
    ) -> None:
        self.peer, self.loop = peer, loop
        self.turn = turn
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.server", peer, "--loop", loop, *options],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            cwd=ROOT,
            env={**_environment(), **(environment or {})},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.lines()
        self.port = int(line)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.log.close()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Let other attacks begin for the length of a block, which must do no more than wait."""
        if self.turn is None:
            yield
        else:
            with self.turn.given_away():
                yield

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def lines(self) -> list[str]:
        """What it has logged so far."""
        self.log.flush()
        # The process writes through a descriptor that shares this position, so that it must not be moved.
        return os.pread(self.log.fileno(), 2**24, 0).decode().splitlines()

    @property
    def pids(self) -> list[int]:
        """The process and its descendants."""
        parents = {}
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        found = [self.process.pid]
        for parent in found:
            found += [pid for pid, each in parents.items() if each == parent]
        return found

    @property
    def cpu(self) -> float:
        """Seconds that its threads have run, to the nanosecond."""
        total = 0.0
        for pid in self.pids:
            for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                # A thread, or a worker, may have ended since.
                with contextlib.suppress(OSError):
                    total += int(path.read_text().split()[0]) / 1e9
        return total

    @property
    def memory(self) -> int:
        """Bytes that are resident."""
        return self._status("VmRSS")

    @property
    def peak(self) -> int:
        """The most bytes that were resident at once, since :meth:`forget_peak`."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        for pid in self.pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    @property
    def files(self) -> int:
        """Open file descriptors."""
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.pids)

    def _status(self, key: str) -> int:
        total = 0
        for pid in self.pids:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            total += next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))
        return total

    def state(self) -> dict[str, Any]:
        """What ferrows tells of itself: tasks, objects, connections, refusals."""
        from .client import ask

        found: dict[str, Any] = json.loads(ask(self.port, "/state"))
        return found

    def settle(self, seconds: float = 0.2) -> None:
        """Wait until it has nothing to do: until it has run for less than a twentieth of a moment."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            before = self.cpu
            time.sleep(seconds)
            if self.cpu - before < seconds / 20:
                return


@contextlib.contextmanager
def running(
    peer: str = "ferrows",
    loop: str = "uvloop",
    *options: str,
    environment: Mapping[str, str] | None = None,
    turn: Turn | None = None,
) -> Iterator[Server]:
    """Run a server for the length of a block, attacked by whoever has the ``turn``."""
    server = Server(peer, loop, *options, environment=environment, turn=turn)
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def honest(server: Server) -> Iterator[list[Latencies]]:
    """Run an honest client beside a block; the list holds what it saw when the block has ended."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.hostile.honest", str(server.port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    seen: list[Latencies] = []
    try:
        assert process.stdout.readline() == "ready\n"
        yield seen
        output, _ = process.communicate("", timeout=60)
        assert output, "an honest client beside it gave up after 30 s without an answer"
        found = json.loads(output)
        seen.append(Latencies(_percentile(found["echo"]), _percentile(found["open"]), found["failed"]))
    finally:
        process.kill()
        process.wait()


def _environment() -> dict[str, str]:
    """The environment without settings of ferrows, and without coverage: its cost would be taken for the server's."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("FERROWS_", "COVERAGE_"))}


def _percentile(seconds: list[float]) -> float:
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000 if ordered else 0.0
