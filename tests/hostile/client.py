"""A client on a raw socket, which keeps no rule that it was not told to keep."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

KEY = "dGhlIHNhbXBsZSBub25jZQ=="

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

MASK = bytes(4)
"""A masking key that changes nothing, so that what is sent needs no work (RFC 6455 §5.3 does not forbid it)."""


def handshake(target: str = "/echo", *lines: str) -> bytes:
    """Encode an opening handshake; ``lines`` are further header lines."""
    head = [
        f"GET {target} HTTP/1.1",
        "Host: 127.0.0.1",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        *lines,
    ]
    return "\r\n".join([*head, "", ""]).encode("latin-1")


def header(opcode: int, size: int, *, fin: bool = True, rsv1: bool = False) -> bytes:
    """Encode the header of a client's frame, which may announce anything."""
    first = bytes([fin << 7 | rsv1 << 6 | opcode])
    if size < 126:
        return first + bytes([0x80 | size]) + MASK
    if size < 2**16:
        return first + b"\xfe" + size.to_bytes(2, "big") + MASK
    return first + b"\xff" + size.to_bytes(8, "big") + MASK


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv1: bool = False) -> bytes:
    return header(opcode, len(payload), fin=fin, rsv1=rsv1) + payload


class Client:
    """One connection; ``target`` None leaves the opening handshake out."""

    def __init__(self, port: int, target: str | None = "/echo", *lines: str, timeout: float = 30) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        if target is not None:
            try:
                self.sock.sendall(handshake(target, *lines))
                head = self.read_head()
                assert head.startswith(b"HTTP/1.1 101 "), head
            except BaseException:
                self.sock.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    def read_head(self) -> bytes:
        """Return the head of a response, as much as came of it before the end."""
        while b"\r\n\r\n" not in self.received:
            data = self.sock.recv(65536)
            if not data:
                break
            self.received += data
        head, _, self.received = self.received.partition(b"\r\n\r\n")
        return head

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def offer(self, data: bytes, total: int, seconds: float) -> int:
        """Send ``data`` again and again without reading, until the server takes no more; return the bytes it took."""
        self.sock.setblocking(False)
        poll = select.poll()
        poll.register(self.sock, select.POLLOUT)
        sent, view, at, deadline = 0, memoryview(data), 0, time.monotonic() + seconds
        try:
            while sent < total and time.monotonic() < deadline:
                try:
                    count = self.sock.send(view[at:])
                except BlockingIOError:
                    if not poll.poll(500):
                        break
                    continue
                sent += count
                at = (at + count) % len(data)
        except OSError:
            pass  # The server ended it.
        finally:
            self.sock.setblocking(True)
            self.sock.settimeout(30)
        return sent

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Yield opcode and payload of what the server sends, until it ends the connection; ConnectionResetError."""
        buffer, self.received = bytearray(self.received), b""
        while True:
            while len(buffer) >= 2:
                size, at = buffer[1] & 0x7F, 2
                if size >= 126:
                    at = 4 if size == 126 else 10
                    size = int.from_bytes(buffer[2:at], "big")
                if len(buffer) < at + size:
                    break
                opcode, payload = buffer[0] & 0xF, bytes(buffer[at : at + size])
                del buffer[: at + size]
                self.received = bytes(buffer)
                yield opcode, payload
            data = self.sock.recv(65536)
            if not data:
                return
            buffer += data

    def echo(self, payload: bytes = b"here") -> bytes:
        """Send a message and return the answer to it."""
        self.send(frame(BINARY, payload))
        for opcode, answer in self.frames():
            if opcode in (TEXT, BINARY):
                return answer
            if opcode == PING:
                self.send(frame(PONG, answer))
        raise AssertionError("the connection ended before the answer")

    def close_code(self) -> int:
        """Read to the end, answer the server's Close and return its code: 1005 without one, 1006 without a Close."""
        code = 1006
        with contextlib.suppress(ConnectionError):
            for opcode, payload in self.frames():
                if opcode == CLOSE:
                    code = int.from_bytes(payload[:2], "big") if payload else 1005
                    self.send(frame(CLOSE, payload[:2]))
        return code

    def close(self) -> None:
        self.sock.close()


def ask(port: int, path: str, timeout: float = 30) -> bytes:
    """GET a path and return the body of the answer."""
    with Client(port, None, timeout=timeout) as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        client.read_head()
        received = [client.received]
        while data := client.sock.recv(65536):
            received.append(data)
        return b"".join(received)


def ended(sockets: Iterable[socket.socket], seconds: float) -> int:
    """Wait until the server has ended the connections, at most so long; return how many it has."""
    waiting = {sock.fileno(): sock for sock in sockets}
    total, deadline = len(waiting), time.monotonic() + seconds
    poll = select.poll()
    for number in waiting:
        poll.register(number, select.POLLIN)
    while waiting and (left := deadline - time.monotonic()) > 0:
        for number, _ in poll.poll(left * 1000):
            try:
                data = waiting[number].recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                poll.unregister(number)
                del waiting[number]
    return total - len(waiting)
