"""A worker process as its supervisor sees it."""

from __future__ import annotations

import enum
import signal
import socket
from dataclasses import dataclass, field

from .target import Child

__all__ = ["Member", "State", "how_it_ended"]


class State(enum.Enum):
    """How far a worker is."""

    STARTING = enum.auto()
    READY = enum.auto()
    DRAINING = enum.auto()


@dataclass(eq=False)
class Member:
    """One worker process and the line to it. Times are those of :func:`time.monotonic`."""

    number: int
    child: Child
    control: socket.socket
    started: float
    state: State = State.STARTING
    loop: str = ""
    ready_at: float | None = None
    # When it is killed.
    deadline: float = float("inf")
    killed: bool = False
    warned: bool = False
    _received: bytes = field(default=b"", repr=False)

    def __str__(self) -> str:
        return f"worker {self.number} (process {self.child.pid})"

    def receive(self) -> list[str]:
        """The lines that the worker has sent; none also where it is gone."""
        try:
            while data := self.control.recv(4096):
                self._received += data
        except OSError:
            # BlockingIOError: that was all. ConnectionError: its process has ended, which is for `poll` to tell.
            pass
        *lines, self._received = self._received.split(b"\n")
        return [line.decode("ascii", "replace") for line in lines]

    def tell(self, word: str) -> None:
        """Say ``stop``, ``restart`` or ``force``; one that is gone need not hear it."""
        try:
            self.control.sendall(f"{word}\n".encode())
        except OSError:
            self.child.terminate()

    def kill(self) -> None:
        """End the process without further ado."""
        self.killed = True
        self.child.kill()


def how_it_ended(code: int) -> str:
    """Say what an exit code means."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
