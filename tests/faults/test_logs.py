"""Logs that cannot be written: the server goes on to serve, says so once, and ends with the code that it should."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from .serving import Client, Server, ask, running, serves, until

REQUESTS = 50


@contextlib.contextmanager
def full_disk() -> Iterator[int]:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def no_reader() -> Iterator[int]:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        yield writing
    finally:
        os.close(writing)


BROKEN: dict[str, Callable[[], contextlib.AbstractContextManager[int]]] = {
    "full disk": full_disk,
    "pipe without a reader": no_reader,
}
REASONS = {"full disk": "No space left on device", "pipe without a reader": "Broken pipe"}


def use(server: Server) -> None:
    with Client(server.port) as client:
        for _ in range(REQUESTS):
            assert ask(server.port, "/nothing")
            assert client.echo() == b"here"
    assert serves(server)


@pytest.mark.parametrize("broken", BROKEN)
def test_access_log_that_cannot_be_written_is_one_line_of_the_other(loop: str, broken: str) -> None:
    with BROKEN[broken]() as stdout, running(loop, stdout=stdout) as server:
        use(server)
        assert server.terminate() == 0
        said = [line for line in server.lines() if "the log" in line or "Error" in line or "Traceback" in line]
        assert said == [f"the log cannot be written to <stdout>: {REASONS[broken]}"]
        assert server.lines()[-1].endswith("Goodbye")


@pytest.mark.parametrize(
    ("broken", "both"),
    [("full disk", True), ("pipe without a reader", False)],
    ids=["full disk", "no reader of stderr"],
)
def test_server_whose_logs_cannot_be_written_serves_and_ends_with_0(loop: str, broken: str, both: bool) -> None:
    with BROKEN[broken]() as out, running(loop, stdout=out if both else None, stderr=out) as server:
        use(server)
        assert both or len(server.accesses()) >= REQUESTS
        assert server.terminate() == 0


def test_workers_whose_logs_cannot_be_written_are_replaced_and_end_with_0(loop: str) -> None:
    with (
        full_disk() as full,
        running(loop, stdout=full, stderr=full, workers=1, target="tests.faults.server:app") as server,
    ):
        first = server.state()["pid"]
        assert first != server.process.pid
        os.kill(first, signal.SIGKILL)
        until(lambda: serves(server) and server.state()["pid"] != first)
        use(server)
        assert server.terminate() == 0


def test_worker_with_something_printed_that_cannot_be_written_ends_for_good(loop: str) -> None:
    """A copy of the supervisor must not go on as a second supervisor, nor must a copy be impossible to make."""
    with full_disk() as full, running(loop, stdout=full, workers=2) as server:
        assert len(server.pids) == 3
        for _ in range(2):
            worker = server.state()["pid"]
            with Client(server.port, None) as client:
                client.send(b"GET /print HTTP/1.1\r\nHost: x\r\n\r\n")
                assert client.read_head().startswith(b"HTTP/1.1 200 ")
            os.kill(worker, signal.SIGTERM)
            until(lambda gone=worker: gone not in server.pids and len(server.pids) == 3)  # type: ignore[misc]
            assert serves(server)
        assert server.terminate() == 0
        assert "Traceback" not in "\n".join(server.lines())


@contextlib.contextmanager
def quota(server: Server, size: int) -> Iterator[None]:
    """Let no file of the server's become larger: what is a full disk to it, and needs no rights."""
    limits = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limits)


def test_log_goes_on_where_it_broke_off(loop: str) -> None:
    with running(loop) as server:
        use(server)
        written = os.fstat(server.access.fileno()).st_size
        # The other log is shorter, so that it can be written.
        with quota(server, written + 40):
            use(server)
            assert os.fstat(server.access.fileno()).st_size <= written + 40
        use(server)
        until(lambda: len(server.accesses()) >= 2 * REQUESTS)
        gaps = [line for line in server.accesses() if "lines of the log could not be written" in line]
        assert len(gaps) == 1
        assert gaps[0].endswith(": File too large")
        lost = int(gaps[0].split("] ")[1].split()[0])
        assert REQUESTS <= lost <= REQUESTS + 10
        said = [line for line in server.lines() if "cannot be written" in line]
        assert said == ["the log cannot be written to <stdout>: File too large"]
        assert server.terminate() == 0


def test_log_that_nobody_reads_holds_the_worker_up_until_somebody_does(loop: str) -> None:
    """What docs/deployment.md says of pipes: nothing is lost, and nothing goes on meanwhile."""
    reading, writing = os.pipe()
    received = b""
    try:
        os.set_blocking(reading, False)
        with running(loop, stdout=writing) as server, Client(server.port, timeout=0.5) as beside:
            answers = 0
            for _ in range(5000):
                try:
                    with Client(server.port, None, timeout=0.5) as client:
                        client.send(b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                        client.read_head()
                        answers += 1
                except TimeoutError:
                    # Either the pipe is full, or the server had to wait for a processor.
                    try:
                        beside.echo()
                    except TimeoutError:
                        break
            else:
                pytest.fail("the pipe did not fill")
            deadline = time.monotonic() + 60
            answered = False
            while not answered and time.monotonic() < deadline:
                with contextlib.suppress(BlockingIOError):
                    received += os.read(reading, 2**20)
                with contextlib.suppress(TimeoutError):
                    answered = next(beside.frames())[1] == b"here"
            assert answered
            until(lambda: serves(server))
            with contextlib.suppress(BlockingIOError):
                received += os.read(reading, 2**20)
            assert received.count(b" 404 ") >= answers
    finally:
        os.close(reading)
        os.close(writing)
