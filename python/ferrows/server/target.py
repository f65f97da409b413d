"""Targets: the ways in which a supervisor makes a worker process, and so where the worker's app comes from.

=============  =======================================================  =================
target         the worker                                               sees new code
=============  =======================================================  =================
``Program()``  is the program, run again until it comes to ``app.run``  yes
``Import(…)``  imports ``module:app``                                   yes
``Fork()``     is a copy of the supervisor                              no
=============  =======================================================  =================

``Program`` is what ``app.run`` in a script does. Nothing has to be found by name or pickled: an app made in a function,
a configuration set under ``if __name__ == "__main__":``, arguments of the command line and an ``ssl.SSLContext`` are in
the worker what they are in the program, for it is the same program. A module that is imported again under another name,
as :mod:`multiprocessing` does it, would have none of that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

from ..exceptions import ServerError
from .interrupts import held
from .worker import LEFT_TO_THE_SUPERVISOR, Worker, send_import

__all__ = ["Child", "Fork", "Import", "Post", "Program", "Target"]


class Child(Protocol):
    """A process that was started."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while the process lives."""
        ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


@dataclass(frozen=True)
class Post:
    """What a worker needs to take up its post. ``control`` is its own end of the pair, ``supervisor`` the other one."""

    app_name: str
    control: socket.socket
    supervisor: socket.socket
    sockets: Sequence[socket.socket]
    settings: Mapping[str, Any]
    """The arguments of ``App.run``."""
    work: Callable[[Worker], NoReturn]
    """Serves in a process that has the app already."""
    leave: Callable[[], None]
    """Lets a copy of the supervisor forget what is the supervisor's."""


class Target(Protocol):
    """A way to make a worker."""

    fresh: bool
    """Whether a worker sees code that has changed."""

    def start(self, post: Post) -> Child:
        """Start a worker; OSError where that is impossible."""
        ...

    @property
    def folder(self) -> Path | None:
        """Where the program's own code is."""
        ...


def _working_folder() -> str | None:
    """The folder that the program was started in, by the name that it was given.

    A deployment may point a symbolic link elsewhere before it asks for a restart.
    """
    try:
        named, real = os.environ.get("PWD"), os.getcwd()
    except OSError:
        return None
    try:
        return named if named and os.path.samefile(named, real) else real
    except OSError:
        return real


# Before the program can change it: relative paths on its command line mean this one.
_FOLDER: Final = _working_folder()


@dataclass(frozen=True)
class Program:
    """Run the program again as it was started; its ``app.run`` serves then, and ends the process."""

    fresh = True

    @staticmethod
    def possible() -> bool:
        """Whether the program can be run again: not what was typed, nor what was read from standard input."""
        main = sys.modules.get("__main__")
        known = getattr(main, "__spec__", None) is not None or Path(getattr(main, "__file__", None) or "").is_file()
        return bool(sys.executable) and not hasattr(sys, "ps1") and (known or "-c" in sys.orig_argv)

    def start(self, post: Post) -> Child:
        if not self.possible():
            raise ServerError("this program cannot be run again: it is no file, permitted: target=Import('module:app')")
        return _started([sys.executable, *sys.orig_argv[1:]], post)

    @property
    def folder(self) -> Path | None:
        main = sys.modules.get("__main__")
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        if spec is not None and "." in spec.name:
            return _folder_of(spec.name)
        return Path(file).resolve().parent if file else Path.cwd()


@dataclass(frozen=True)
class Import:
    """Import ``module:app`` in a new interpreter, and call its ``run`` with the supervisor's settings.

    ``config`` goes over the configuration that the app then has. The settings must be such that can be pickled: paths
    for ``ssl``, for example, and no context.
    """

    app: str
    config: Mapping[str, Any] = field(default_factory=dict)
    fresh = True

    def start(self, post: Post) -> Child:
        message = {"app": self.app, "config": dict(self.config), "settings": dict(post.settings), "path": sys.path}
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        child = _started([sys.executable, *flags, "-c", "from ferrows.server.worker import main; main()"], post)
        try:
            send_import(post.supervisor, message)
        except BaseException:
            child.kill()
            child.wait()
            raise
        return child

    @property
    def folder(self) -> Path | None:
        return _folder_of(self.app.partition(":")[0])


@dataclass(frozen=True)
class Fork:
    """Copy the supervisor's process: quick, and it needs nothing, but it keeps the code that the supervisor has."""

    fresh = False

    def start(self, post: Post) -> Child:
        _flush()
        # As long as the copy has the supervisor's handlers, a signal to it would be lost.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        pid = os.fork()
        if pid:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return _Forked(pid)
        code = 1
        try:
            for number in LEFT_TO_THE_SUPERVISOR:
                signal.signal(number, signal.SIG_IGN)
            post.leave()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            post.supervisor.close()
            post.work(Worker(post.control, post.sockets))
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        except BaseException:
            traceback.print_exc()
        finally:
            # What the supervisor wants done at its exit is not this process's to do.
            _flush()
            os._exit(code)

    @property
    def folder(self) -> Path | None:
        return None


def _flush() -> None:
    """Write what was printed, so that no process writes it twice; a full disk keeps none from starting or ending."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


class _Forked:
    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        # Once it is waited for, the number may be another's.
        if self.poll() is None:
            os.kill(self.pid, number)


def _started(command: list[str], post: Post) -> subprocess.Popen[bytes]:
    descriptors = [post.control.fileno(), *(sock.fileno() for sock in post.sockets)]
    environment = {**os.environ, **Worker.environment(post.control, post.sockets, post.app_name)}
    # To ignore them instead while the process starts, so that it inherits that, would lose what this one is told.
    with held(LEFT_TO_THE_SUPERVISOR):
        return subprocess.Popen(command, pass_fds=descriptors, env=environment, cwd=_FOLDER)


def _folder_of(module: str) -> Path | None:
    """The folder of a module's outermost package, or the one that the module lies in."""
    found = sys.modules.get(module.partition(".")[0])
    file = getattr(found, "__file__", None)
    return Path(file).resolve().parent if file else None
