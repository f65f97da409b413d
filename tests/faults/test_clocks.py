"""Clocks that jump and processes that were stopped: no client pays for it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.hostile.client import BINARY, PING, PONG, Client, frame

from .serving import Server, head_of, running, until
from .shim import Faults

# Short, but not so short that a client who has to wait for a processor is taken for one who is gone.
HURRIED = {
    "FERROWS_WEBSOCKET_PING_INTERVAL": "1",
    "FERROWS_WEBSOCKET_PING_TIMEOUT": "3",
    "FERROWS_KEEP_ALIVE_TIMEOUT": "3",
    "FERROWS_REQUEST_HEAD_TIMEOUT": "3",
    "FERROWS_REQUEST_TIMEOUT": "3",
    "FAULTS_STALL": "4",
}

HOUR = 3600
YEAR = 365 * 24 * HOUR

GET = b"GET /large?size=10 HTTP/1.1\r\nHost: x\r\n\r\n"


class Healthy:
    """A client that answers pings and asks for nothing."""

    def __init__(self, server: Server) -> None:
        self.client = Client(server.port)
        self.pings = 0
        self.ended = False
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def _answer(self) -> None:
        with contextlib.suppress(OSError):
            for opcode, payload in self.client.frames():
                if opcode == PING:
                    self.pings += 1
                    self.client.send(frame(PONG, payload))
        self.ended = True

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.client.sock.shutdown(2)
        self._thread.join(20)
        self.client.close()


@contextlib.contextmanager
def healthy(server: Server, count: int) -> Iterator[list[Healthy]]:
    clients = [Healthy(server) for _ in range(count)]
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


def pinged_again(clients: list[Healthy], times: int = 2) -> None:
    """Wait until each has had so many more pings: two, and it has passed a check in between; none may have ended."""
    before = [client.pings for client in clients]
    until(
        lambda: all(
            client.ended or client.pings >= count + times for client, count in zip(clients, before, strict=True)
        ),
    )
    assert not any(client.ended for client in clients)


def test_jumps_of_the_wall_clock_reach_dates_and_nothing_else(loop: str, faults: Faults, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("content")
    settings = {**HURRIED, "FAULTS_STATIC": str(tmp_path)}
    with running(loop, faults=faults, environment=settings) as server, healthy(server, 3) as clients:
        _, first = head_of(server.port, "/static/file.txt")
        for jump in (10 * YEAR, -20 * YEAR):
            faults.set_clocks(realtime=jump)
            pinged_again(clients, 1)
            with Client(server.port, None) as kept:
                for _ in range(2):
                    kept.send(GET)
                    assert kept.read_head().startswith(b"HTTP/1.1 200 ")
                    kept.received = b""
                    time.sleep(0.1)
            now = time.time() + jump
            status, fields = head_of(server.port, "/cookie")
            assert status == 200
            assert abs(parsedate_to_datetime(fields["date"]).timestamp() - now) < 10
            assert "Max-Age=60" in fields["set-cookie"]
            since = f"If-Modified-Since: {first['last-modified']}"
            status, fields = head_of(server.port, "/static/file.txt", since)
            assert (status, fields["etag"]) == (304, first["etag"])
            # Of access log lines the latest is the one of this request, or of the cookie's.
            until(lambda: any(" 304 " in line for line in server.accesses()[-2:]))
            assert server.accesses()[-1].startswith(time.strftime("%Y-%m-%d %H", time.localtime(now)))
        pinged_again(clients)
        assert [line for line in server.accesses() if "WebSocket" in line] == []
        assert len(server.lines()) == 1  # The banner.


Leave = Callable[[Server, Faults], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def stopped(server: Server, faults: Faults) -> Iterator[None]:
    with server.paused():
        yield
        # Longer than every timeout, so that all of them have passed when it goes on.
        time.sleep(4.5)


@contextlib.contextmanager
def leaping(server: Server, faults: Faults) -> Iterator[None]:
    """Let an hour pass at once: as a machine that slept, where its monotonic clock does not stop for that."""
    with server.paused():
        yield
        faults.set_clocks(monotonic=HOUR)


@pytest.mark.parametrize("absent", [stopped, leaping])
def test_time_in_which_the_process_did_not_run_counts_against_nobody(loop: str, faults: Faults, absent: Leave) -> None:
    with (
        running(loop, faults=faults, environment=HURRIED) as server,
        contextlib.ExitStack() as stack,
        healthy(server, 5) as clients,
    ):

        def client(data: bytes, target: str | None = None) -> Client:
            opened: Client = stack.enter_context(Client(server.port, target))
            opened.send(data)
            return opened

        pinged_again(clients, 1)
        # Much more than the kernel takes, so that the rest waits in the server for this client to read.
        reader = client(frame(BINARY, b"33554432"), "/pour")
        until(lambda: server.state()["websockets"] == 6)
        server.settle(0.1)
        idle, head = client(GET), client(GET[:20])
        body = client(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
        assert idle.read_head()
        idle.received = b""
        with absent(server, faults):
            idle.send(GET)
            head.send(GET[20:])
            body.send(b"cde")
            reader.sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(1000):
                    reader.received += reader.sock.recv(65536)
            reader.sock.setblocking(True)
            reader.sock.settimeout(30)
        for each in (idle, head, body):
            answer = each.read_head()
            assert answer.startswith(b"HTTP/1.1 200 "), answer
        size = 0
        for opcode, payload in reader.frames():
            size += len(payload) if opcode == BINARY else 0
            if size == 33554432:
                break
        assert size == 33554432
        pinged_again(clients)
        assert [line for line in server.accesses() if "WebSocket" in line] == []
        assert len(server.lines()) == 1  # The banner.
