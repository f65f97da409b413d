"""Attacks with frames, on open connections."""

from __future__ import annotations

import contextlib
import select
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Final

from .client import BINARY, CONTINUATION, PING, TEXT, Client, frame, header
from .serving import Server, honest
from .stimulus import Finding, Stimulus, size

SLACK: Final = 2 * 2**20
"""Bytes that a process may take for reasons of its own while it is measured: an arena, a page of code."""

BASE: Final = 4 * 1024
"""Bytes that a connection may pin beside what was accepted."""

MAX_SIZE: Final = 2**20
"""WEBSOCKET_MAX_SIZE."""

WRITE_LIMIT: Final = 64 * 1024
"""What a transport buffers before it says that the peer does not read."""


def pinned(server: Server, count: int, accepted: int, send: Callable[[Sequence[Client]], None]) -> Finding:
    """Open connections, send something that never becomes a message, and see how much the server keeps of it."""
    finding = Finding()
    clients = [Client(server.port) for _ in range(count)]
    for client in clients:
        client.echo()
    server.settle()
    before, cpu = server.memory, server.cpu
    with honest(server) as seen:
        send(clients)
        server.settle()
    grown, used = server.memory - before, server.cpu - cpu
    ended = [client for client in clients if select.select([client.sock], [], [], 0)[0]]
    codes = sorted({client.close_code() for client in ended})
    refused = len(ended) == count and {*codes} <= {1008, 1009}
    permitted = 2 * accepted + BASE
    finding.note(
        f"{size(max(0, grown) / count)} pinned per connection of {size(accepted)} accepted",
        holds=refused or grown <= count * permitted + SLACK // 2,
    )
    if ended:
        finding.note(f"{len(ended)} of {count} closed with {', '.join(map(str, codes))}", holds=refused)
    for client in clients:
        client.close()
    finding.note(f"{used / count:.2f} s of CPU per connection")
    finding.note(f"echo beside it p99 {seen[0].echo:.0f} ms")
    return finding


def send_all(data: bytes) -> Callable[[Sequence[Client]], None]:
    def send(clients: Sequence[Client]) -> None:
        for client in clients:
            with contextlib.suppress(ConnectionError):
                client.send(data)

    return send


def one_byte_fragments(server: Server, full: bool) -> Finding:
    fragments = 100_000
    data = frame(TEXT, b"x", fin=False) + frame(CONTINUATION, b"x", fin=False) * (fragments - 1)
    return pinned(server, 20, fragments, send_all(data))


def empty_fragments(server: Server, full: bool) -> Finding:
    data = frame(BINARY, b"", fin=False) + frame(CONTINUATION, b"", fin=False) * 300_000
    return pinned(server, 20 if full else 10, 0, send_all(data))


def one_byte_writes(server: Server, full: bool) -> Finding:
    data = frame(BINARY, bytes(60_000))[:-1]

    def send(clients: Sequence[Client]) -> None:
        for at in range(len(data)):
            for client in clients:
                client.sock.send(data[at : at + 1])

    return pinned(server, 10 if full else 3, 60_000, send)


def flood(server: Server, full: bool, data: bytes, message: int) -> Finding:
    """Offer much and read nothing."""
    finding = Finding()
    total = (200 if full else 20) * 2**20
    with Client(server.port) as client:
        client.echo()
        server.settle()
        server.forget_peak()
        before, files = server.memory, server.files
        with honest(server) as seen:
            taken = client.offer(data, total, 60)
            stopped = time.monotonic()
        grown = server.peak - before
        finding.note(f"{size(taken)} taken")
        finding.note(f"{size(max(0, grown))} pinned", holds=grown <= WRITE_LIMIT + MAX_SIZE + message + SLACK)
        patience = 40 if full else 15
        with server.waiting():
            while server.files >= files and time.monotonic() - stopped < patience:
                time.sleep(0.5 if full else 0.05)
            seconds = time.monotonic() - stopped
        closed = server.files < files
        finding.note(
            f"closed after {seconds:.0f} s" if closed else f"still open after {seconds:.0f} s",
            holds=closed and (not full or seconds <= 32),
        )
    finding.note(f"echo beside it p99 {seen[0].echo:.0f} ms")
    return finding


def ping_flood(server: Server, full: bool) -> Finding:
    return flood(server, full, frame(PING, bytes(125)) * 500, 0)


def echo_flood(server: Server, full: bool) -> Finding:
    return flood(server, full, frame(BINARY, bytes(16 * 1024)) * 4, 16 * 1024)


def announced_sizes(server: Server, full: bool) -> Finding:
    finding = Finding()
    server.settle()
    server.forget_peak()
    before = server.memory
    for exponent, expected in ((40, 1009), (63, 1002)):
        codes = set()
        for _ in range(200 if full else 20):
            with Client(server.port) as client:
                client.send(header(BINARY, 2**exponent))
                codes.add(client.close_code())
        finding.note(f"2^{exponent}: {', '.join(map(str, sorted(codes)))}", holds=codes == {expected})
    grown = server.peak - before
    finding.note(f"{size(max(0, grown))} more memory", holds=grown <= SLACK)
    return finding


def deflate_bombs(server: Server, full: bool) -> Finding:
    finding = Finding()
    target = "/deflate" if server.peer == "ferrows" else "/echo"
    extension = "Sec-WebSocket-Extensions: permessage-deflate"
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = (deflate.compress(bytes((256 if full else 64) * 2**20)) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    piece = max(1, len(bomb) // 64)
    first, *rest = [bomb[at : at + piece] for at in range(0, len(bomb), piece)]
    fragments = frame(BINARY, first, fin=False, rsv1=True)
    fragments += b"".join(frame(CONTINUATION, each, fin=False) for each in rest) + frame(CONTINUATION)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    small = [
        (deflate.compress(bytes(2**19)) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4] for _ in range(64 if full else 16)
    ]
    shapes = {
        "single": frame(BINARY, bomb, rsv1=True),
        "fragmented": fragments,
        "with takeover": b"".join(frame(BINARY, each, rsv1=True) for each in small) + frame(BINARY, bomb, rsv1=True),
    }
    with Client(server.port, target, extension) as client:
        client.send(frame(BINARY, small[0], rsv1=True) * 2)
        next(client.frames())
    server.settle()
    for name, data in shapes.items():
        server.settle()
        server.forget_peak()
        before = server.memory
        with Client(server.port, target, extension) as client:
            with contextlib.suppress(ConnectionError):
                client.send(data)
            code = client.close_code()
        grown = server.peak - before
        # One message that waits, one that is being inflated, and the answers that are on their way.
        messages = 1 if name != "with takeover" else 3
        finding.note(
            f"{name}: {code}, peak {size(max(0, grown))}",
            holds=code == 1009 and grown <= messages * MAX_SIZE + 64 * 1024 + SLACK,
        )
    return finding


MESSAGES: Final = [
    Stimulus(
        "one_byte_fragments",
        "100,000 fragments of one byte",
        "at most 2 x the accepted bytes + 4 KiB are pinned, or 1008 or 1009",
        one_byte_fragments,
    ),
    Stimulus(
        "empty_fragments",
        "300,000 empty fragments",
        "at most 4 KiB are pinned, or 1008 or 1009",
        empty_fragments,
    ),
    Stimulus(
        "one_byte_writes",
        "a frame of 60 kB in writes of one byte",
        "at most 2 x the accepted bytes + 4 KiB are pinned",
        one_byte_writes,
    ),
    Stimulus(
        "ping_flood",
        "200 MB of pings from a client that never reads",
        "at most the write limit and one message are pinned; closed within 30 s without progress",
        ping_flood,
        options=("--stall", "1"),
    ),
    Stimulus(
        "echo_flood",
        "200 MB of messages to an echo from a client that never reads",
        "at most the write limit and one message are pinned; closed within 30 s without progress",
        echo_flood,
        options=("--stall", "1"),
    ),
    Stimulus(
        "announced_sizes",
        "frame headers that announce 2^40 and 2^63 bytes",
        "1009 and 1002, and no memory for a payload",
        announced_sizes,
    ),
    Stimulus(
        "deflate_bombs",
        "deflate bombs, 1000:1, in one frame, in fragments, and with context takeover",
        "1009; peak at most the size limit + 64 KiB",
        deflate_bombs,
    ),
]
