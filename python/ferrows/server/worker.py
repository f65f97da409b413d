"""A worker process: what it inherits from its supervisor, and how the two talk.

They share a socket pair. A line each: the supervisor says ``stop``, ``restart`` or ``force``; the worker says
``ready <loop>`` once its listeners of the start have run, and ``stop`` where ``App.stop`` was called in it. The end of
the stream means that the other one is gone.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import stat
import struct
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..exceptions import ServerError
from ..log import error_logger, logger
from .importing import import_app
from .interrupts import acting_on
from .loop import loop_name

if TYPE_CHECKING:
    from .async_server import AsyncioServer

__all__ = ["LEFT_TO_THE_SUPERVISOR", "Worker", "is_worker", "send_import"]

_VARIABLE: Final = "FERROWS_WORKER"
"""Says which file descriptors a worker inherited: the pair's, with its inode, and those of the listening sockets."""

LEFT_TO_THE_SUPERVISOR: Final = tuple(number for number in signal.Signals if number.name in ("SIGINT", "SIGHUP"))
"""Ctrl-C and a terminal's hangup reach the whole group of processes; what they mean is the supervisor's to say."""


def is_worker() -> bool:
    """Whether this process was started as a worker that has not begun to serve yet.

    A program that binds its sockets itself can leave that to the supervisor then.
    """
    return _inherited() is not None


class Worker:
    """This process as one of a supervisor's, with the listening sockets that all of them share."""

    def __init__(self, control: socket.socket, sockets: Sequence[socket.socket]) -> None:
        self.control = control
        self.sockets = sockets
        self.ready = False
        self._received = b""
        control.setblocking(False)

    @classmethod
    def inherited(cls, name: str) -> Worker | None:
        """Take what this process has inherited as a worker of the app ``name``; None where it is no worker.

        ServerError where it is one of another app: it would never serve that.
        """
        found = _inherited()
        # Processes that the worker starts are none.
        os.environ.pop(_VARIABLE, None)
        if found is None:
            return None
        control, sockets, app = found
        if app != name:
            raise ServerError(f"this process is a worker of app {app!r}, and it was to run {name!r}")
        for number in (control, *sockets):
            os.set_inheritable(number, False)
        _be_deaf()
        return cls(socket.socket(fileno=control), [socket.socket(fileno=number) for number in sockets])

    @staticmethod
    def environment(control: socket.socket, sockets: Sequence[socket.socket], name: str) -> dict[str, str]:
        """What the environment of a worker says; the descriptors must reach it under the same numbers."""
        listening = ",".join(str(sock.fileno()) for sock in sockets)
        return {_VARIABLE: f"{control.fileno()}:{os.fstat(control.fileno()).st_ino}:{listening}:{name}"}

    @contextlib.contextmanager
    def attached(self, server: AsyncioServer) -> Iterator[None]:
        """Let the supervisor, and SIGTERM, stop the server."""
        loop = server.loop
        actions = dict.fromkeys(LEFT_TO_THE_SUPERVISOR, _leave_to_the_supervisor)
        actions[signal.SIGTERM] = lambda: self._stop(server, restart=False)
        # Until the process ends, what a signal does by default would kill it.
        with acting_on(loop, actions, afterwards=signal.SIG_IGN):
            loop.add_reader(self.control, self._receive, server)
            server.ask_supervisor = self._ask_to_stop
            try:
                yield
            finally:
                server.ask_supervisor = None
                loop.remove_reader(self.control)

    def report_ready(self, server: AsyncioServer) -> None:
        """Tell the supervisor that connections are accepted."""
        self.ready = True
        self._send(f"ready {loop_name(server.loop)}\n")

    def close(self) -> None:
        """Let go of the sockets."""
        for sock in (self.control, *self.sockets):
            sock.close()

    def _ask_to_stop(self) -> bool:
        return self._send("stop\n")

    def _send(self, line: str) -> bool:
        try:
            self.control.sendall(line.encode())
        except OSError:
            # The supervisor is gone, which `_receive` will see as well.
            return False
        return True

    def _receive(self, server: AsyncioServer) -> None:
        try:
            data = self.control.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            server.loop.remove_reader(self.control)
            if not server.stop_requested:
                logger.warning("the supervisor is gone: this worker stops")
            self._stop(server, restart=False)
            return
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            if line == b"force":
                self._stop(server, restart=False)
                server.request_stop()
            else:
                self._stop(server, restart=line == b"restart")

    def _stop(self, server: AsyncioServer, *, restart: bool) -> None:
        # A second word, or a signal to every process of a service, does not take the grace away.
        if not server.stop_requested:
            server.request_stop(restart=restart)


def _leave_to_the_supervisor() -> None: ...


def _be_deaf() -> None:
    """Ignore what the supervisor has kept from this process while it started; what came meanwhile is forgotten."""
    if threading.current_thread() is threading.main_thread():
        for number in LEFT_TO_THE_SUPERVISOR:
            signal.signal(number, signal.SIG_IGN)
        # Processes that the worker starts are to get them.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, LEFT_TO_THE_SUPERVISOR)


def _inherited() -> tuple[int, list[int], str] | None:
    """The descriptors of the pair and of the listening sockets, and the app's name."""
    try:
        control, inode, listening, name = os.environ[_VARIABLE].split(":", 3)
        # A process that a worker has started may have the variable, and something else under the number.
        status = os.fstat(int(control))
        if not stat.S_ISSOCK(status.st_mode) or status.st_ino != int(inode):
            return None
        return int(control), [int(number) for number in listening.split(",")], name
    except (KeyError, ValueError, OSError):
        return None


# --------------------------------------------------------------------------------------------------------------------
# A worker that imports its app


_LENGTH: Final = struct.Struct("!Q")


def send_import(control: socket.socket, message: Mapping[str, Any]) -> None:
    """Send a process that runs :func:`main` what it is to import and how to run it.

    ValueError for settings that no other process can be given.
    """
    try:
        data = pickle.dumps(dict(message))
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ValueError(f"a setting cannot be passed on to a worker that imports its app: {error}") from None
    control.sendall(_LENGTH.pack(len(data)) + data)


def main() -> None:
    """Import an app as the supervisor says, and run it; the whole program of such a worker."""
    found = _inherited()
    if found is None:
        raise SystemExit("this is what a supervisor starts, it is no program for people")
    with socket.socket(fileno=os.dup(found[0])) as control:
        control.setblocking(True)
        (length,) = _LENGTH.unpack(_read(control, _LENGTH.size))
        data = _read(control, length)
    message = pickle.loads(data)
    sys.path[:] = message["path"]
    try:
        app = import_app(message["app"])
    except Exception as error:
        error_logger.error("%s cannot be imported: %r", message["app"], error, exc_info=True)
        raise SystemExit(3) from None
    app.config.update(message["config"])
    app.run(**message["settings"])


def _read(control: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        received = control.recv(size - len(data))
        if not received:
            raise SystemExit(0)  # The supervisor is gone.
        data += received
    return data
