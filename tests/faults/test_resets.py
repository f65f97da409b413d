"""Clients that reset the connection, at each stage of it: nothing leaks, no traceback, nobody else is disturbed."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.hostile import serving
from tests.hostile.client import BINARY, CLOSE, PING, Client, frame, handshake, header
from tests.hostile.serving import honest

from .conftest import Struck
from .serving import Server, running, serves

ROUNDS = 3


def reset(client: Client) -> None:
    """Close without an orderly end: the kernel sends a reset."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sock.close()


class Stage(NamedTuple):
    """What has happened when the client resets the connection."""

    name: str
    target: str | None = None
    """Where a WebSocket was opened, with its handshake answered."""
    data: bytes = b""
    """What was sent then."""
    awaited: bool = False
    """Whether some answer to it has come."""
    delay: float = 0
    """Seconds since then."""


POST = b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
GET = b"GET /large?size=10 HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = b"GET /large?size=10000000 HTTP/1.1\r\nHost: x\r\n\r\n"

STAGES = [
    Stage("accepted"),
    Stage("accepted_and_served", delay=0.05),
    Stage("in_the_head", None, handshake()[:40], delay=0.05),
    Stage("in_the_body", None, POST + b"x" * 5000, delay=0.05),
    Stage("request_sent", None, GET),
    Stage("request_being_answered", None, GET.replace(b"/large?size=10", b"/slow_answer"), delay=0.1),
    Stage("response_being_sent", None, LARGE, awaited=True),
    Stage("many_requests_sent", None, GET * 500, awaited=True),
    Stage("between_requests", None, GET, awaited=True),
    Stage("handshake_sent", None, handshake()),
    Stage("handshake_answered", "/echo"),
    Stage("handshake_sent_with_frames", None, handshake() + frame(BINARY, b"x" * 100) * 50),
    Stage("in_the_header_of_a_frame", "/echo", header(BINARY, 70_000)[:5], delay=0.02),
    Stage("in_a_frame", "/echo", header(BINARY, 70_000) + b"x" * 5000, delay=0.02),
    Stage("in_a_message", "/echo", frame(BINARY, b"x", fin=False), delay=0.02),
    Stage("message_sent", "/echo", frame(BINARY, b"x" * 1000)),
    Stage("messages_being_answered", "/echo", frame(BINARY, b"x" * 1000) * 200, awaited=True),
    Stage("handler_busy", "/slow", frame(BINARY, b"x"), delay=0.1),
    Stage("much_being_sent", "/pour", frame(BINARY, b"20000000"), awaited=True),
    Stage("in_a_group", "/group", frame(BINARY, b"x" * 1000) * 20),
    Stage("pinged", "/echo", frame(PING, b"x")),
    Stage("close_sent", "/echo", frame(CLOSE, b"\x03\xe8")),
    Stage("close_answered", "/echo", frame(CLOSE, b"\x03\xe8"), awaited=True),
    Stage("close_of_ours_not_answered", "/bye", awaited=True),
    Stage("close_of_ours_not_read", "/bye"),
    Stage("close_of_ours_half_answered", "/bye", frame(CLOSE, b"\x03\xe8")[:3]),
    Stage("rule_broken", "/echo", b"\xff\xff\xff\xff"),
]


def reach(server: Server, stage: Stage) -> None:
    client = Client(server.port, stage.target)
    try:
        # A server that has ended the connection may reset it as well.
        with contextlib.suppress(ConnectionError):
            client.send(stage.data)
            # What came with the head of the answer is here already.
            if stage.awaited and not client.received:
                client.sock.recv(1000)
        time.sleep(stage.delay)
    finally:
        reset(client)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_reset_leaves_nothing_behind(struck: Struck, stage: Stage) -> None:
    server, _, before = struck
    lines, accesses = len(server.lines()), len(server.accesses())
    with Client(server.port) as beside:
        for _ in range(ROUNDS):
            reach(server, stage)
            assert beside.echo() == b"here"
    server.until_freed(before)
    # `rule_broken` is a line of log for each, and of the access log.
    assert len(server.lines()) - lines <= ROUNDS
    requests = 501 if stage.name == "many_requests_sent" else 1
    assert len(server.accesses()) - accesses <= ROUNDS * requests + 1


def test_honest_client_does_not_notice_resets(struck: Struck) -> None:
    server = struck.server
    with honest(server) as seen:
        for stage in STAGES:
            reach(server, stage)
    assert seen[0].failed == 0


@pytest.mark.parametrize("stage", ["in_a_message", "much_being_sent", "handshake_answered"])
def test_client_that_is_killed_leaves_nothing_behind(struck: Struck, stage: str) -> None:
    server, _, before = struck
    found = next(each for each in STAGES if each.name == stage)
    program = (
        "import sys, time; from tests.hostile.client import Client; "
        "client = Client(int(sys.argv[1]), sys.argv[2]); client.send(bytes.fromhex(sys.argv[3])); "
        "print(flush=True); time.sleep(60)"
    )
    arguments = [str(server.port), str(found.target), found.data.hex()]
    process = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, cwd=serving.ROOT)
    try:
        assert process.stdout is not None
        assert process.stdout.readline()
        assert server.used()["connections"] > before["connections"]
    finally:
        process.kill()
        process.communicate()
    server.until_freed(before)


# --------------------------------------------------------------------------------------------------------------------
# Before the request begins


def leave(server: Server, data: bytes, delay: float) -> None:
    with Client(server.port, None) as client:
        client.send(data)
        time.sleep(delay)
        reset(client)


V1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n"
V2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes([192, 0, 2, 1, 192, 0, 2, 2, 0, 99, 0, 80])


@pytest.mark.parametrize("delay", [0, 0.05], ids=["at once", "a moment later"])
def test_reset_in_a_proxy_header_leaves_nothing_behind(loop: str, delay: float) -> None:
    with running(loop, environment={"FERROWS_PROXY_PROTOCOL": "127.0.0.1"}, preamble=V1) as server:
        server.used()
        before, lines = server.used(), len(server.lines())
        for part in (b"", V1[:3], V1[:20], V1, V1 + b"GET / H", V2[:7], V2[:14], V2[:-1], V2):
            leave(server, part, delay)
        server.until_freed(before)
        assert "Traceback" not in "\n".join(server.lines()[lines:])
        assert len(server.lines()) - lines <= 9


def client_hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    context = ssl.create_default_context()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def no_tls(client: Client, trust: ssl.SSLContext) -> None: ...


def half_a_hello(client: Client, trust: ssl.SSLContext) -> None:
    client.send(client_hello()[:50])


def a_hello(client: Client, trust: ssl.SSLContext) -> None:
    client.send(client_hello())


def a_hello_answered(client: Client, trust: ssl.SSLContext) -> None:
    client.send(client_hello())
    client.sock.recv(100)


def no_hello(client: Client, trust: ssl.SSLContext) -> None:
    client.send(b"GET / HTTP/1.1\r\n\r\n")


def secure(client: Client, trust: ssl.SSLContext) -> None:
    client.sock = trust.wrap_socket(client.sock, server_hostname="127.0.0.1")


def secure_with_half_a_head(client: Client, trust: ssl.SSLContext) -> None:
    secure(client, trust)
    client.send(handshake()[:50])


def secure_websocket(client: Client, trust: ssl.SSLContext) -> None:
    secure(client, trust)
    client.send(handshake())
    assert client.read_head().startswith(b"HTTP/1.1 101 ")
    client.send(frame(BINARY, b"x" * 100))


TLS: list[Callable[[Client, ssl.SSLContext], None]] = [
    no_tls,
    half_a_hello,
    a_hello,
    a_hello_answered,
    no_hello,
    secure,
    secure_with_half_a_head,
    secure_websocket,
]


def test_reset_in_the_tls_handshake_leaves_nothing_behind(
    loop: str, trust: ssl.SSLContext, certificate: dict[str, str]
) -> None:
    with running(loop, ssl=certificate, trust=trust) as server:
        server.used()
        before, lines = server.used(), len(server.lines())
        for stage in TLS * 3:
            client = Client(server.port, None)
            stage(client, trust)
            reset(client)
        server.until_freed(before)
        logged = server.lines()[lines:]
        assert "Traceback" not in "\n".join(logged)
        assert len(logged) <= len(TLS) * 3
        assert serves(server)
