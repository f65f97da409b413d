"""What SECURITY.md says that a connection can pin, against connections that pin as much as they can."""

from __future__ import annotations

import contextlib
import sys
import zlib
from pathlib import Path
from typing import Final

import pytest

from ferrows._codec import PURE_PYTHON

from .client import BINARY, CONTINUATION, Client, frame
from .serving import running

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="what a process uses is read from /proc"),
    pytest.mark.skipif(PURE_PYTHON, reason="the twin is for tests of behaviour: nothing is promised of its cost"),
]

MIB: Final = 2**20
COUNT: Final = 16
SLACK: Final = 2 * MIB
"""What the process may take for reasons of its own, once."""

DEFLATE: Final = "Sec-WebSocket-Extensions: permessage-deflate"


def compressed(size: int) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return frame(BINARY, (deflate.compress(bytes(size)) + deflate.flush(zlib.Z_FULL_FLUSH))[:-4], rsv1=True)


def shapes(size: int) -> dict[str, tuple[str, bytes]]:
    """What pins much: the route, and what is sent to it."""
    almost = frame(BINARY, bytes(size - 1))
    unfinished = frame(BINARY, bytes(size))[:-1]
    return {
        "a message that does not end": ("/idle", unfinished),
        "a full queue, and a message that does not end": ("/idle", almost * 2 + unfinished),
        "fragments that do not end": (
            "/idle",
            frame(BINARY, b"x", fin=False) + frame(CONTINUATION, b"x", fin=False) * (size - 2),
        ),
        "small messages": ("/idle", frame(BINARY, b"ab") * 200_000),
        "empty messages": ("/idle", frame(BINARY) * 200_000),
        "compressed messages": ("/deflate_idle", compressed(size - 16) * 1000),
    }


@pytest.mark.parametrize(("size", "loop"), [(MIB // 4, "asyncio"), (MIB, "uvloop")], ids=["256 KiB", "1 MiB"])
@pytest.mark.parametrize("shape", shapes(MIB))
def test_connection_pins_no_more_than_the_sum_of_its_settings(shape: str, size: int, loop: str) -> None:
    target, data = shapes(size)[shape]
    permitted = 3 * size + MIB + (3 * MIB // 2 if target == "/deflate_idle" else 0)
    with running("ferrows", loop, environment={"FERROWS_WEBSOCKET_MAX_SIZE": str(size)}) as server:
        with Client(server.port) as client:
            client.echo()
        server.settle()
        before = server.memory
        clients = [Client(server.port, target, *([DEFLATE] if target == "/deflate_idle" else [])) for _ in range(COUNT)]
        for client in clients:
            client.sock.settimeout(0.3)
            with contextlib.suppress(TimeoutError):
                client.send(data)
        server.settle()
        grown = server.memory - before
        for client in clients:
            client.close()
    assert grown <= COUNT * permitted + SLACK
    if "does not end" in shape:
        # What is measured is there: each has sent so much that is kept.
        assert grown >= COUNT * size // 2


def test_security_md_says_what_is_measured() -> None:
    text = (Path(__file__).parents[2] / "SECURITY.md").read_text("utf-8")
    assert "**3 S + 1 MiB**, with compression **3 S + 2.5 MiB**" in text
