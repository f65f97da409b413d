"""Servers of several processes, and clients that notice everything."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import websockets

PROGRAM = textwrap.dedent(
    """
    import asyncio, json, os, sys
    from ferrows import App, text

    app = App("served")

    def say(*words):
        # In one piece, for there are several processes.
        os.write(1, (" ".join(map(str, words)) + "\\n").encode())

    @app.get("/pid")
    async def pid(request):
        return text(str(os.getpid()))

    @app.get("/set")
    async def setting(request):
        return text(str(app.config.get("SET_BY_MAIN")))

    @app.websocket("/ws")
    async def echo(request, ws):
        await ws.send(str(os.getpid()))
        async for message in ws:
            await ws.send(message)
    #BODY#
    if __name__ == "__main__":
        app.config.SET_BY_MAIN = "yes"
        app.run(port=0, access_log=False, **json.loads(sys.argv[1]))
        say("returned")
    """
)
"""A program that serves; what a test adds stands before its end."""


OWN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""Makes standard input the terminal that controls the process, then runs a program."""


def program(body: str = "") -> str:
    """Make the text of a program, with ``body`` among its definitions."""
    return PROGRAM.replace("#BODY#", textwrap.dedent(body))


class Server:
    """A process that serves, in a group of its own as a terminal would have it, and the lines that it prints."""

    def __init__(self, command: list[str], *, stdin: int = subprocess.DEVNULL, **options: Any) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **options,
        )
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, count: int = 1, timeout: float = 60) -> re.Match[str]:
        """Wait until a line matches, the ``count``-th one that does."""
        expression = re.compile(pattern)

        def found() -> re.Match[str] | None:
            matches = [match for line in self.lines if (match := expression.search(line))]
            return matches[count - 1] if len(matches) >= count else None

        with self._changed:
            self._changed.wait_for(lambda: found() or not self._reader.is_alive(), timeout)
            match = found()
        assert match is not None, f"no line matched {pattern!r} {count} times:\n{self.output}"
        return match

    def wait_until_ready(self) -> int:
        """Wait for the banner and return the port."""
        return int(self.wait_for(r"ferrows \S+ on https?://[^ ]+:(\d+)")[1])

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def interrupt(self) -> None:
        """What Ctrl-C does: the whole group gets the signal."""
        os.killpg(self.pid, signal.SIGINT)

    def ended(self, timeout: float = 60) -> int:
        """Wait for the end and return the exit code."""
        code = self.process.wait(timeout)
        self._reader.join(timeout)
        return code

    def stop(self) -> int:
        self.send(signal.SIGTERM)
        return self.ended()

    def clean_up(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            # Its group is its own, and nobody else's as long as it has not been waited for or a worker lives.
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(20)
        self._reader.join(20)
        assert self.process.stdout is not None
        self.process.stdout.close()


Start = Callable[..., Server]


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[Start]:
    """Start programs, and leave none behind."""
    started: list[Server] = []

    def start(
        text: str | None = None,
        *arguments: str,
        environment: dict[str, str] | None = None,
        name: str = "served.py",
        terminal: int | None = None,
    ) -> Server:
        if text is not None:
            (folder / name).write_text(text)
        environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})}
        if terminal is None:
            server = Server([sys.executable, name, *arguments], cwd=folder, env=environ)
        else:
            command = [sys.executable, "-c", OWN_TERMINAL, name, *arguments]
            server = Server(command, stdin=terminal, cwd=folder, env=environ)
        started.append(server)
        return server

    try:
        yield start
    finally:
        for server in started:
            server.clean_up()


async def open_websockets(port: int, count: int) -> dict[websockets.ClientConnection, int]:
    """Open connections; the worker's process id of each."""
    opened = await asyncio.gather(
        *(websockets.connect(f"ws://127.0.0.1:{port}/ws", open_timeout=30) for _ in range(count))
    )
    return {ws: int(await ws.recv()) for ws in opened}


async def open_on_every_worker(port: int, workers: int, at_least: int = 1) -> dict[websockets.ClientConnection, int]:
    """Open connections until every worker has some."""
    opened: dict[websockets.ClientConnection, int] = {}
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        counts = [list(opened.values()).count(pid) for pid in set(opened.values())]
        if len(counts) == workers and min(counts) >= at_least:
            return opened
        opened.update(await open_websockets(port, 4))
        await asyncio.sleep(0.05)
    raise AssertionError(f"{len(opened)} connections went to {set(opened.values())}")


async def close_code(ws: websockets.ClientConnection) -> int:
    """Wait for the end of a connection; 1006 where no Close came."""
    try:
        while True:
            await asyncio.wait_for(ws.recv(), 60)
    except websockets.ConnectionClosed as error:
        return 1006 if error.rcvd is None else error.rcvd.code


async def get(port: int, path: str) -> tuple[int, str]:
    """Ask for a path on a new connection; the status and the body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await asyncio.wait_for(reader.read(), 60)).decode().partition("\r\n\r\n")
        return int(head.split()[1]), body
    finally:
        writer.close()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError):
        # What nobody has waited for is dead all the same.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return not os.path.isdir("/proc")


async def until(condition: Callable[[], bool], timeout: float = 60) -> None:
    """Wait for what only looking can tell."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.02)
