"""Accepting that fails, and files that cannot be opened: the server goes on, and says so once."""

from __future__ import annotations

import contextlib
import errno
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.client import Client, ask

from .conftest import Struck
from .serving import Server, running, serves, until
from .shim import ACCEPTING, Faults

PASSING = [errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.EHOSTUNREACH, errno.EPERM, errno.EINTR]
"""What accept(2) says of one connection, or of a signal."""

USED_UP = [errno.ENFILE, errno.ENOBUFS, errno.ENOMEM]
"""EMFILE is in tests/hostile, where it is the process's own limit."""


@pytest.mark.parametrize("error", PASSING, ids=lambda number: errno.errorcode[number])
def test_connection_that_failed_before_it_was_accepted_is_passed_over(struck: Struck, error: int) -> None:
    server, faults, _ = struck
    lines, errors, began = len(server.lines()), faults.struck(ACCEPTING).errors, time.monotonic()
    with Client(server.port) as beside:
        faults.fail(ACCEPTING, error, times=5)
        assert serves(server)
        assert beside.echo() == b"here"
        # Each is a line of its own at most, and there is at most one in a second.
        assert len(server.lines()) - lines <= 2 + time.monotonic() - began
    assert faults.struck(ACCEPTING).errors == errors + 5


@pytest.mark.parametrize("error", USED_UP, ids=lambda number: errno.errorcode[number])
def test_server_goes_on_when_the_machine_has_room_again(loop: str, faults: Faults, error: int) -> None:
    with running(loop, faults=faults) as server, Client(server.port) as beside:
        lines, began = len(server.lines()), time.monotonic()
        faults.fail(ACCEPTING, error)
        waiting = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(5)]
        until(lambda: faults.struck(ACCEPTING).errors > 0)
        assert beside.echo() == b"here"
        faults.stop()
        # Some were cut off, perhaps, and nobody who comes now is.
        assert serves(server)
        reports = [line for line in server.lines()[lines:] if "out of system resource" in line or "cut off" in line]
        # There is at most one in a second.
        assert len(reports) <= 2 + time.monotonic() - began
        for sock in waiting:
            sock.close()


@contextlib.contextmanager
def no_descriptors(server: Server) -> Iterator[None]:
    """Let the process open nothing any more; what is open goes on."""
    _, hard = limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (1, hard))
    try:
        yield
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("size", [100, 2**20 + 1], ids=["read whole", "streamed"])
def test_file_without_a_descriptor_for_it_is_503(loop: str, tmp_path: Path, size: int) -> None:
    (tmp_path / "file.txt").write_bytes(b"x" * size)
    with running(loop, environment={"FAULTS_STATIC": str(tmp_path)}) as server, Client(server.port, None) as client:
        # Once it is answered it has been accepted.
        client.send(b"GET /large?size=0 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.read_head().startswith(b"HTTP/1.1 200 ")
        lines = len(server.lines())
        with no_descriptors(server):
            client.send(b"GET /static/file.txt HTTP/1.1\r\nHost: x\r\n\r\n")
            head = client.read_head()
            assert head.startswith(b"HTTP/1.1 503 "), head
        assert [line.rpartition("] ")[2] for line in server.lines()[lines:]] == [
            f"file {tmp_path / 'file.txt'} cannot be sent: Too many open files"
        ]
        assert len(ask(server.port, "/static/file.txt")) == size
