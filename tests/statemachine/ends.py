"""Both ends of a connection, joined by a network that does nothing unless it is told to."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

from ferrows import _pycore
from ferrows.websocket import Websocket
from tests.conftest import extension
from tests.differential.playback import websocket_on

__all__ = ["CODECS", "End", "joined", "websocket"]

CODECS = ["python"] if os.environ.get("FERROWS_NO_EXTENSIONS") else ["rust", "python"]


@cache
def websocket(codec: str) -> type[Websocket]:
    """Return ``Websocket`` over a codec."""
    module: ModuleType = extension() if codec == "rust" else _pycore
    return websocket_on(module, f"websocket_on_{codec}_end")


class Wire(asyncio.Transport):
    """An end's transport. What is written waits here until it is delivered to the other end."""

    def __init__(self, end: End, high_water: int) -> None:
        super().__init__()
        self.end = end
        self.high_water = high_water
        self.waiting = bytearray()
        self.paused = False
        self.reading = True
        self.eof = False
        self.closing = False
        self.lost = False

    def get_write_buffer_size(self) -> int:
        return len(self.waiting)

    def write(self, data: Any) -> None:
        if self.eof or self.closing:
            self.end.faults.append("written after the end")
        self.waiting += data
        if len(self.waiting) > self.high_water and not self.paused:
            self.paused = True
            self.end.ws.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        """End once everything is written."""
        self.eof = self.closing = True

    def abort(self) -> None:
        self.end.aborted = True
        self.lose()

    def lose(self) -> None:
        """End at once; what waits is lost."""
        if not self.lost:
            self.closing = self.lost = True
            self.waiting.clear()
            self.end.loop.call_soon(self.end.ws.lose_transport)


class End:
    """A websocket, its transport, and what is known of it."""

    other: End

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop, codec: str, high_water: int, **options: Any) -> None:
        self.name = name
        self.loop = loop
        self.faults: list[str] = []
        self.wire = Wire(self, high_water)
        self.ws = websocket(codec)(loop, self.wire, **options)
        self.aborted = False
        self.eof_received = False
        #: Messages whose ``send`` returned, in this order, and those that were received.
        self.sent: list[str | bytes] = []
        self.received: list[str | bytes] = []
        self.receiver: asyncio.Task[None] | None = None
        self.pings: list[asyncio.Future[float]] = []
        self.tasks: list[asyncio.Task[Any]] = []
        #: Whether it asked for a Close before it knew of the other's.
        self.closed_first = False

    def start(self, work: Callable[[], Any]) -> asyncio.Task[Any]:
        task = self.loop.create_task(work())
        self.tasks.append(task)
        return task

    def deliver(self, size: int) -> None:
        """Let up to so many bytes reach the other end, and then the end of them."""
        wire, other = self.wire, self.other
        if other.wire.lost or not other.wire.reading:
            return
        if wire.waiting:
            data = bytes(wire.waiting[:size])
            del wire.waiting[:size]
            self.loop.call_soon(other.ws.receive_data, data)
            if wire.paused and len(wire.waiting) <= wire.high_water // 4:
                wire.paused = False
                self.loop.call_soon(self.ws.resume_writing)
        elif (wire.eof or wire.lost) and not other.eof_received:
            other.eof_received = True
            self.loop.call_soon(other._receive_eof)

    def _receive_eof(self) -> None:
        self.ws.receive_eof()
        self.wire.close()  # as a transport does by itself

    def end_if_done(self) -> None:
        """Lose a transport that has written everything, and has nothing to read any more."""
        if self.wire.closing and not self.wire.waiting:
            self.wire.lose()


def joined(
    loop: asyncio.AbstractEventLoop, codecs: tuple[str, str], high_water: int, **options: Any
) -> tuple[End, End]:
    """Make a server's end and a client's."""
    server = End("server", loop, codecs[0], high_water, **options)
    client = End("client", loop, codecs[1], high_water, client=True, **options)
    server.other, client.other = client, server
    return server, client
