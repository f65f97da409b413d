"""A websocket on a transport made of lists, and the client's frames to feed it with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from ferrows.websocket import Websocket

MASK = b"\x11\x22\x33\x44"


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """Build a client's frame."""
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if len(payload) < 126:
        head += bytes([0x80 | len(payload)])
    elif len(payload) < 65536:
        head += bytes([0x80 | 126]) + len(payload).to_bytes(2, "big")
    else:
        head += bytes([0x80 | 127]) + len(payload).to_bytes(8, "big")
    return head + MASK + bytes(byte ^ MASK[index % 4] for index, byte in enumerate(payload))


def text(message: str, *, fin: bool = True) -> bytes:
    return frame(1, message.encode(), fin=fin)


def close(code: int | None = 1000, reason: str = "") -> bytes:
    return frame(8, b"" if code is None else code.to_bytes(2, "big") + reason.encode())


def frames(output: bytes) -> list[tuple[int, bytes]]:
    """Parse a server's frames: the first byte's low nibble, plus 0x10 where fin is missing, and the payload."""
    parsed = []
    while output:
        opcode = output[0] & 0x0F | (0 if output[0] & 0x80 else 0x10)
        length, start = output[1], 2
        if length == 126:
            length, start = int.from_bytes(output[2:4], "big"), 4
        elif length == 127:
            length, start = int.from_bytes(output[2:10], "big"), 10
        parsed.append((opcode, output[start : start + length]))
        output = output[start + length :]
    return parsed


class FakeTransport(asyncio.Transport):
    """Keeps what is written; everything else is a note in :attr:`calls`."""

    def __init__(self, *, half_close: bool = True) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.calls: list[str] = []
        self.closing = False
        self.half_close = half_close
        self.on_write: Callable[[bytes], None] | None = None
        self.unsent = 0

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))
        if self.on_write is not None:
            self.on_write(bytes(data))

    def can_write_eof(self) -> bool:
        return self.half_close

    def write_eof(self) -> None:
        self.calls.append("write_eof")

    def pause_reading(self) -> None:
        self.calls.append("pause_reading")

    def resume_reading(self) -> None:
        self.calls.append("resume_reading")

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.calls.append("close")
        self.closing = True

    def abort(self) -> None:
        self.calls.append("abort")
        self.closing = True

    @property
    def sent(self) -> list[tuple[int, bytes]]:
        return frames(b"".join(self.writes))


class Peer:
    """A websocket under test and both of its ends."""

    def __init__(self, **options: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.transport = FakeTransport(half_close=options.pop("half_close", True))
        self.ws = Websocket(self.loop, self.transport, **options)
        self.tasks: list[asyncio.Task[Any]] = []

    async def handle(self, handler: Callable[[Websocket], Coroutine[Any, Any, Any]]) -> asyncio.Task[Any]:
        """Run a handler until it waits for something."""
        task = asyncio.ensure_future(handler(self.ws))
        self.tasks.append(task)
        await turns()
        return task

    async def feed(self, *data: bytes) -> None:
        """Feed each piece as one read of the transport would: from the event loop, where no task runs."""
        for piece in data:
            done = self.loop.create_future()

            def read(piece: bytes = piece, done: asyncio.Future[None] = done) -> None:
                try:
                    self.ws.receive_data(piece)
                except BaseException as error:
                    done.set_exception(error)
                else:
                    done.set_result(None)

            self.loop.call_soon(read)
            await done

    async def lose(self) -> None:
        self.loop.call_soon(self.ws.lose_transport)
        await turns()

    @property
    def sent(self) -> list[tuple[int, bytes]]:
        return self.transport.sent


async def turns(count: int = 5) -> None:
    """Let the loop turn a few times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def echo(ws: Websocket) -> None:
    async for message in ws:
        await ws.send(message)
