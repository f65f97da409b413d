"""Peers that are gone without a word: the server notices within its timeouts, and frees everything."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator

from tests.hostile import serving
from tests.hostile.client import BINARY, Client, frame, handshake, header

from .serving import Server, running, until

# Not so quick that a client who has to wait for a processor is taken for one who is gone.
QUICK = {
    "FERROWS_WEBSOCKET_PING_INTERVAL": "1",
    "FERROWS_WEBSOCKET_PING_TIMEOUT": "3",
    "FERROWS_WEBSOCKET_TIMEOUT": "3",
    "FERROWS_KEEP_ALIVE_TIMEOUT": "3",
    "FERROWS_REQUEST_HEAD_TIMEOUT": "3",
    "FERROWS_REQUEST_TIMEOUT": "3",
    "FAULTS_STALL": "3",
}


def vanish(client: Client) -> None:
    """Let the kernel drop every packet that comes to a socket: nothing is answered any more, nor acknowledged.

    It is what a cable that was pulled looks like from the other end, without the right to touch the network.
    """
    # One instruction of the classic packet filter: return 0, which keeps no byte of the packet.
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    program = struct.pack("HP", 1, ctypes.addressof(instruction))
    client.sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


SO_ATTACH_FILTER = 26

GET = b"GET /large?size=10 HTTP/1.1\r\nHost: x\r\n\r\n"

GONE: dict[str, tuple[str | None, bytes, str]] = {
    "idle websocket": ("/echo", b"", "closed 1011 by server"),
    "in a frame": ("/echo", header(BINARY, 70_000)[:6], "closed 1011 by server"),
    "100 KiB wait for it": ("/pour", frame(BINARY, b"102400"), "closed 1011 by server"),
    "more waits for it than the kernel takes": ("/pour", frame(BINARY, b"33554432"), "closed 1006 by network"),
    "a broadcast waits for it": ("/group", b"", "closed 1011 by server"),
    "no request": (None, b"", ""),
    "in a head": (None, handshake()[:50], '" 408 '),
    "in a body": (None, b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nx", '" 408 '),
    "between requests": (None, GET, '" 200 '),
    "in a response": (None, GET.replace(b"=10", b"=33554432"), ", aborted"),
}


@contextlib.contextmanager
def hurried(loop: str) -> Iterator[Server]:
    with running(loop, environment=QUICK) as server:
        yield server


def test_peer_that_vanished_is_noticed_and_freed(loop: str) -> None:
    """All of them at once: each takes the server some seconds to notice."""
    with hurried(loop) as server, contextlib.ExitStack() as stack:
        before = server.used()
        for target, data, _ in GONE.values():
            client = stack.enter_context(Client(server.port, target))
            # What is large is on its way, or what is small has been answered.
            if b"33554432" in data:
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.send(data)
            if data.startswith(b"GET") or target == "/pour" or target == "/group":
                client.sock.recv(1)
            vanish(client)
        gone = server.used()["connections"] - before["connections"]
        assert gone >= 5
        with Client(server.port, "/group") as member:
            # The broadcast goes to a member that is gone, and to one that is not.
            next(member.frames())
            member.send(frame(BINARY, b"x" * 1000))
            assert next(frame for frame in member.frames() if frame[0] == BINARY)[1] == b"x" * 1000
        server.until_freed(before)
        assert "Traceback" not in "\n".join(server.lines())
        accesses = "\n".join(server.accesses())
        for name, (_, _, expected) in GONE.items():
            assert expected in accesses, (name, accesses)


PEER = """
import sys
from tests.hostile.client import Client
with Client(int(sys.argv[1])) as client:
    print("ready", flush=True)
    for _ in client.frames():
        pass
"""


def test_peer_that_is_stopped_is_let_go_of_and_its_neighbour_is_not(loop: str) -> None:
    with hurried(loop) as server:
        before = server.used()
        command = [sys.executable, "-c", PEER, str(server.port)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=serving.ROOT)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            with Client(server.port) as neighbour:
                process.send_signal(signal.SIGSTOP)
                until(lambda: bool(neighbour.echo()) and any(" closed 1011 " in line for line in server.accesses()))
                assert neighbour.echo() == b"here"
        finally:
            process.kill()
            process.communicate()
        server.until_freed(before)


def test_websocket_peer_that_sends_no_more_is_answered_and_let_go_of(loop: str) -> None:
    """§7.1.1 knows no half-closed connection: what had arrived is answered, then it ends, as by the network."""
    with hurried(loop) as server, Client(server.port) as client:
        client.send(frame(BINARY, b"last"))
        client.sock.shutdown(socket.SHUT_WR)
        received = list(client.frames())
        assert received[:1] == [(BINARY, b"last")]
        until(lambda: any(" closed 1006 " in line for line in server.accesses()))


def test_http_client_that_sends_no_more_gets_its_answers(loop: str) -> None:
    with hurried(loop) as server, Client(server.port, None) as client:
        client.send(GET * 3)
        client.sock.shutdown(socket.SHUT_WR)
        answers = b""
        while data := client.sock.recv(65536):
            answers += data
        assert answers.count(b"HTTP/1.1 200 OK") == 3
        assert answers.endswith(b"x" * 10)
