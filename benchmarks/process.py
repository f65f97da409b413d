"""Processes that a run starts: pinned to a core, waited for, and ended by their ids."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

START_LIMIT: Final = 20.0
"""Seconds that a server may take until it accepts connections."""

STOP_LIMIT: Final = 2.0
"""Seconds from SIGTERM to SIGKILL."""


class ProcessError(Exception):
    """A process that did not do what it was started for; the text says what it wrote."""


def raise_file_limit(wanted: int) -> int:
    """Raise the limit of open files to ``wanted`` where that is permitted; return what it is now.

    Children inherit it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted or soft == resource.RLIM_INFINITY:
        return soft
    if hard != resource.RLIM_INFINITY and hard < wanted:
        with contextlib.suppress(ValueError, OSError):  # root may
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return wanted
        wanted = hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def free_port(host: str) -> int:
    """Return a port that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: Sequence[str], *, core: int | None, host: str, port: int, environment: Mapping[str, str], folder: Path
) -> Iterator[int]:
    """Run a server while the block lasts and give its process id; it accepts connections from the start of the block.

    ProcessError if it does not come up.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**os.environ, **environment},
            # A Ctrl-C at the terminal is the run's to handle.
            start_new_session=True,
            preexec_fn=_pinned(core),
        )
        try:
            _await_listening(process, host, port, lambda: _tail(log.fileno()))
            yield process.pid
        finally:
            stop(process)


def run_to_end(command: Sequence[str], *, core: int | None, limit: float, folder: Path) -> tuple[int, bytes, str]:
    """Run a program and return its exit code, its output, and the end of what it wrote to stderr.

    ProcessError if it takes longer than ``limit`` seconds.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        start_new_session=True,
        preexec_fn=_pinned(core),
    ) as process:
        try:
            output, errors = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            raise ProcessError(f"took longer than {limit:.0f} s") from None
        finally:
            stop(process)
        return process.returncode, output, errors.decode(errors="replace")[-2000:]


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started, gently at first."""
    tree = descendants(process.pid)
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pid, started in tree.items():
        # Not another one that was given the number since.
        if _started(pid) == started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def descendants(root: int) -> dict[int, int]:
    """Return the processes below ``root``, each with the clock tick in which it was started."""
    children: dict[int, list[tuple[int, int]]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append((int(entry.name), int(fields[19])))
    found: dict[int, int] = {}
    waiting = [root]
    while waiting:
        for pid, started in children.get(waiting.pop(), []):
            found[pid] = started
            waiting.append(pid)
    return found


def _started(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def _stat(pid: int) -> list[str] | None:
    # After the name, which may hold anything and ends with the last parenthesis: state, parent, …, start time.
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def _pinned(core: int | None) -> Callable[[], None] | None:
    if core is None:
        return None
    return lambda: os.sched_setaffinity(0, {core})


def _await_listening(process: subprocess.Popen[bytes], host: str, port: int, tail: Callable[[], str]) -> None:
    deadline = time.monotonic() + START_LIMIT
    while True:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((host, port)) == 0:
                return
        if process.poll() is not None:
            raise ProcessError(f"ended with {process.returncode} before it listened: {tail()}")
        if time.monotonic() > deadline:
            raise ProcessError(f"did not listen within {START_LIMIT:.0f} s: {tail()}")
        time.sleep(0.02)


def _tail(log: int) -> str:
    size = os.fstat(log).st_size
    return os.pread(log, 2000, max(0, size - 2000)).decode(errors="replace").strip()
