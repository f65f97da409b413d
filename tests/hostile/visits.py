"""Short connections of every kind, many of them."""

from __future__ import annotations

import collections
import itertools
import socket
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from .client import BINARY, CLOSE, CONTINUATION, PONG, TEXT, frame, handshake

AT_ONCE: Final = 32
"""Connections that are open at a time."""


class Visit(NamedTuple):
    """A connection: what is sent at once, what must come, what is sent then; it ends by a reset if it is ``cut``."""

    opening: bytes
    expected: bytes
    answer: bytes = b""
    cut: bool = False

    def begin(self, port: int) -> socket.socket:
        sock = socket.socket()
        try:
            sock.settimeout(30)
            sock.connect(("127.0.0.1", port))
            sock.sendall(self.opening)
        except BaseException:
            sock.close()
            raise
        return sock

    def finish(self, sock: socket.socket) -> None:
        """Go on to the end of the connection; AssertionError where something else comes."""
        with sock:
            received = b""
            while self.expected not in received:
                data = sock.recv(65536)
                received += data
                assert data, f"{self.opening!r} got {received!r}, expected {self.expected!r}"
            if self.answer:
                sock.sendall(self.answer)
            if self.cut:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                while sock.recv(65536):
                    pass


END: Final = frame(CLOSE, (1000).to_bytes(2, "big"))
HERE: Final = frame(BINARY, b"here")
OFFER: Final = "Sec-WebSocket-Extensions: permessage-deflate"


def deflated(payload: bytes) -> bytes:
    """Compress a message without reference to one before it."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]


def request(method: str, target: str, body: bytes = b"", *lines: str) -> bytes:
    """Encode a request without a WebSocket."""
    head = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}", *lines, "", ""]
    return "\r\n".join(head).encode() + body


def kinds() -> dict[str, tuple[int, Visit]]:
    """Every kind of visit, and how many there are of it in a hundred."""
    compressed = frame(BINARY, deflated(b"message " * 100), rsv1=True)
    fragments = frame(TEXT, b"one", fin=False) + frame(CONTINUATION, b"two", fin=False) + frame(CONTINUATION, b"three")
    # On the same connection: what refuses an upgrade need not end it.
    last = request("GET", "/", b"", "Connection: close")
    return {
        "echo": (25, Visit(handshake("/echo") + HERE + END, b"\x82\x04here")),
        "compressed": (10, Visit(handshake("/deflate", OFFER) + compressed + END, b"\x88\x02\x03\xe8")),
        "cut in a message": (8, Visit(handshake("/echo") + HERE[:-1], b"\r\n\r\n", cut=True)),
        "cut while compressing": (4, Visit(handshake("/deflate", OFFER) + compressed[:-1], b"\r\n\r\n", cut=True)),
        "cut with a full queue": (3, Visit(handshake("/idle") + HERE * 100, b"\r\n\r\n", cut=True)),
        "cut in a head": (3, Visit(handshake()[:-2], b"", cut=True)),
        "room": (5, Visit(handshake("/room") + HERE + END, b"\x82\x04here")),
        "requests": (7, Visit(request("GET", "/") + last, b"here")),
        "body": (5, Visit(request("POST", "/body", bytes(3000), "Connection: close"), b"3000")),
        "another origin": (3, Visit(handshake("/echo", "Origin: https://evil.example", "Cookie: a=b"), b" 403 ", last)),
        "no version": (3, Visit(handshake("/echo").replace(b"Version: 13", b"Version: 7"), b" 426 ", last)),
        "no route": (3, Visit(handshake("/nowhere"), b" 404 ", last)),
        "no request": (2, Visit(b"\x16\x03\x01\x00\x00\r\n\r\n", b" 400 ")),
        "broken frame": (3, Visit(handshake("/echo") + b"\x8f\x80" + bytes(4), b"\x03\xea", END)),
        "raises": (1, Visit(handshake("/raises") + HERE, b"\x03\xf3", END)),
        "cancelled": (1, Visit(handshake("/cancelled") + HERE, b"\x03\xe9", END)),
        "impatient": (4, Visit(handshake("/impatient"), b"late\x88", END)),
        "pings": (3, Visit(handshake("/pings"), b"\x89\x04ping", frame(PONG, b"ping") + END)),
        "no pong": (2, Visit(handshake("/pings"), b"\x89\x04ping", END)),
        "streams": (5, Visit(handshake("/streams") + fragments, b"\x00\x05three\x80\x00\x88", END)),
    }


def mixed() -> Iterator[Visit]:
    """A hundred visits, each kind as often as it is to be."""
    return itertools.chain.from_iterable(itertools.repeat(visit, count) for count, visit in kinds().values())


def visit(port: int, visits: Iterable[Visit]) -> None:
    """Make visits, so many at a time."""
    open_ones: collections.deque[tuple[Visit, socket.socket]] = collections.deque()
    try:
        for each in visits:
            open_ones.append((each, each.begin(port)))
            if len(open_ones) == AT_ONCE:
                first, sock = open_ones.popleft()
                first.finish(sock)
        while open_ones:
            first, sock = open_ones.popleft()
            first.finish(sock)
    finally:
        for _, sock in open_ones:
            sock.close()
