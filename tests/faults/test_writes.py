"""Writes and reads that fail, or move less than they were asked to: nothing is lost, or one connection ends."""

from __future__ import annotations

import contextlib
import errno
import random
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from ferrows._codec import PURE_PYTHON
from tests.hostile.client import BINARY, Client, frame

from .conftest import Struck
from .serving import running
from .shim import DIRECT, RECEIVING, SENDING, Faults

SIZES = [1, 2, 125, 126, 127, 4096, 65535, 65536, 100_000, 2**20]

PEERS = 24
"""More than the number from which on the extension sends past the transport."""

Set = Callable[[Faults, int], None]


def cut_to_one(faults: Faults, kind: int) -> None:
    faults.cut(kind, 1)


def cut(faults: Faults, kind: int) -> None:
    faults.cut(kind, 4093, every=2)


def again(faults: Faults, kind: int) -> None:
    faults.fail(kind, errno.EAGAIN, every=2)


def cut_and_again(faults: Faults, kind: int) -> None:
    faults.cut(kind, 4093)
    faults.fail(kind, errno.EAGAIN, every=3)


def interrupted(faults: Faults, kind: int) -> None:
    faults.fail(kind, errno.EINTR, every=2)


HARMLESS = [cut_to_one, cut, again, cut_and_again, interrupted]


def strikes(faults: Faults, kind: int) -> int:
    found = faults.struck(kind)
    return found.errors + found.shorts


@pytest.mark.parametrize("kind", [SENDING, RECEIVING], ids=["sending", "receiving"])
@pytest.mark.parametrize("fault", HARMLESS)
def test_every_byte_arrives_in_order(struck: Struck, fault: Set, kind: int) -> None:
    server, faults, _ = struck
    source = random.Random(fault.__name__)
    sizes = [size for size in SIZES if fault is not cut_to_one or size <= 4096]
    sizes += [source.randrange(sizes[-1]) for _ in range(3)]
    before = strikes(faults, kind)
    with Client(server.port) as client:
        fault(faults, kind)
        for size in sizes:
            message = source.randbytes(size)
            assert client.echo(message) == message
    assert strikes(faults, kind) > before


@pytest.mark.parametrize("fault", [cut, cut_and_again])
def test_every_byte_of_many_messages_that_come_at_once_arrives(struck: Struck, fault: Set) -> None:
    server, faults, _ = struck
    messages = [random.Random(number).randbytes(number * 7) for number in range(200)]
    with Client(server.port) as client:
        fault(faults, SENDING)
        fault(faults, RECEIVING)
        client.send(b"".join(frame(BINARY, message) for message in messages))
        received = client.frames()
        assert [next(received)[1] for _ in messages] == messages


@pytest.mark.parametrize("fault", [cut, cut_and_again])
def test_every_byte_of_a_response_arrives(struck: Struck, fault: Set) -> None:
    server, faults, _ = struck
    fault(faults, SENDING)
    with Client(server.port, None) as client:
        client.send(b"GET /large?size=3000000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        client.read_head()
        body = bytearray(client.received)
        while data := client.sock.recv(65536):
            body += data
    assert body == b"x" * 3_000_000


def join(server: Any, count: int) -> list[Client]:
    clients = [Client(server.port, "/group") for _ in range(count)]
    for client in clients:
        next(client.frames())
    return clients


# What goes past the transport is sent once, and the rest of it by the transport.
@pytest.mark.parametrize("fault", HARMLESS)
def test_broadcast_reaches_everybody_in_order(struck: Struck, fault: Set) -> None:
    server, faults, _ = struck
    source = random.Random(fault.__name__)
    sizes = [1, 126, 3000] if fault is cut_to_one else [1, 126, 10_000, 65536, 300_000]
    before = strikes(faults, DIRECT)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client) for client in join(server, PEERS)]
        fault(faults, DIRECT)
        fault(faults, SENDING)
        for size in sizes * 2:
            message = source.randbytes(size)
            clients[0].send(frame(BINARY, message))
            for client in clients:
                assert next(client.frames())[1] == message
    assert PURE_PYTHON or strikes(faults, DIRECT) > before


def test_broadcast_without_room_in_the_kernel_reaches_everybody(struck: Struck) -> None:
    server, faults, _ = struck
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client) for client in join(server, PEERS)]
        faults.fail(DIRECT, errno.ENOBUFS)
        for number in range(5):
            message = bytes([number]) * 1000
            clients[0].send(frame(BINARY, message))
            assert [next(client.frames())[1] for client in clients] == [message] * PEERS
    assert PURE_PYTHON or faults.struck(DIRECT).errors


def test_every_byte_arrives_over_tls(
    loop: str, faults: Faults, certificate: dict[str, str], trust: ssl.SSLContext
) -> None:
    with running(loop, faults=faults, ssl=certificate, trust=trust) as server, server.client("/echo") as client:
        for fault in (cut, cut_and_again, interrupted):
            for kind in (SENDING, RECEIVING):
                faults.stop()
                fault(faults, kind)
                for size in (1, 4096, 100_000, 2**20):
                    message = random.Random(size).randbytes(size)
                    assert client.echo(message) == message
        assert strikes(faults, SENDING) and strikes(faults, RECEIVING)


ERRORS = [
    errno.ENOBUFS,
    errno.ENOMEM,
    errno.ECONNRESET,
    errno.EPIPE,
    errno.ETIMEDOUT,
    errno.EHOSTUNREACH,
    errno.EIO,
]


@pytest.mark.parametrize("kind", [SENDING, RECEIVING], ids=["sending", "receiving"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda number: errno.errorcode[number])
def test_error_ends_at_most_its_connection(struck: Struck, error: int, kind: int) -> None:
    server, faults, _ = struck
    errors, lines, accesses = faults.struck(kind).errors, len(server.lines()), len(server.accesses())
    with Client(server.port) as victim, Client(server.port) as beside:
        assert victim.echo() == beside.echo() == b"here"
        faults.only(victim.sock.getsockname()[1])
        faults.fail(kind, error, times=1)
        ended = False
        try:
            assert victim.echo(b"again") == b"again"
        except (ConnectionError, AssertionError):
            ended = True
        assert faults.struck(kind).errors == errors + 1
        assert beside.echo() == b"here"
    if ended:
        server.until_freed(struck.before)
        assert any(" closed 1006 " in line for line in server.accesses()[accesses:])
    assert len(server.lines()) - lines <= 1


def test_error_in_a_broadcast_ends_at_most_one_connection(struck: Struck) -> None:
    server, faults, _ = struck
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client) for client in join(server, PEERS)]
        victim = clients.pop()
        faults.only(victim.sock.getsockname()[1])
        faults.fail(DIRECT, errno.ECONNRESET)
        faults.fail(SENDING, errno.ECONNRESET)
        for number in range(5):
            message = bytes([number]) * 1000
            clients[0].send(frame(BINARY, message))
            assert [next(client.frames())[1] for client in clients] == [message] * (PEERS - 1)
        assert faults.struck(SENDING).errors
        assert server.state()["group"] == PEERS - 1
