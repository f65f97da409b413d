"""A pair of asyncio transports in memory: what a TCP connection does, without a socket."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

__all__ = ["MemoryTransport", "connect_in_memory"]

CAPACITY: Final = 64 * 1024
"""Bytes of one direction that are on their way, as in the buffers of two kernels."""

READ_SIZE: Final = 64 * 1024
"""Bytes that a protocol gets at a time."""

HIGH_WATER: Final = 64 * 1024
"""Bytes that wait for room before the protocol that wrote them is told to pause."""


class _Pipe:
    """One direction: what was sent and not read."""

    def __init__(self) -> None:
        self.pieces: deque[bytes] = deque()
        self.size = 0
        self.ended = False
        """The writer sends no more."""
        self.broken = False
        """The reader is gone."""

    @property
    def room(self) -> int:
        return CAPACITY - self.size

    def put(self, data: bytes) -> None:
        self.pieces.append(data)
        self.size += len(data)

    def take(self) -> bytes:
        data = b"".join(self.pieces)
        self.pieces.clear()
        data, rest = data[:READ_SIZE], data[READ_SIZE:]
        if rest:
            self.pieces.append(rest)
        self.size = len(rest)
        return data


class MemoryTransport(asyncio.Transport):
    """One end of a connection in memory; :func:`connect_in_memory` makes both.

    It behaves as a socket's: what is written arrives in a later turn of the loop, several writes may arrive as one. A
    protocol that pauses reading stops the peer's writing once the buffers are full. After ``close`` what is written
    still arrives, after ``abort`` what had found room. To write to a peer that is gone is a ConnectionResetError.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, extra: dict[str, Any]) -> None:
        super().__init__(extra)
        self._loop = loop
        self._protocol: Any = None
        self._peer: MemoryTransport = self
        self._incoming = _Pipe()
        self._outgoing = _Pipe()
        # Written, and without room in the pipe.
        self._buffer = bytearray()
        self._limits = (HIGH_WATER // 4, HIGH_WATER)
        self._writing_paused = False
        self._reading_paused = False
        self._read_scheduled = False
        self._eof_written = False
        self._eof_read = False
        self._closing = False
        self._lost = False

    def __repr__(self) -> str:
        return f"<MemoryTransport {'closing' if self._closing else 'open'} {self.get_extra_info('sockname')}>"

    # ---- the base's

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Read no more, and end the connection once everything is written."""
        if not self._closing:
            self._closing = True
            self._end_writing()

    def abort(self) -> None:
        """End the connection now; what has no room on the way is lost."""
        self._closing = True
        self._buffer.clear()
        self._lose(None)

    # ---- reading

    def is_reading(self) -> bool:
        return not self._reading_paused and not self._closing

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        self._reading_paused = False
        self._schedule_read()

    def _schedule_read(self) -> None:
        if not self._read_scheduled:
            self._read_scheduled = True
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        self._read_scheduled = False
        pipe = self._incoming
        if not self.is_reading() or self._eof_read:
            return
        try:
            if pipe.size:
                data = pipe.take()
                self._peer._fill()
                self._schedule_read()
                self._deliver(data)
            elif pipe.ended:
                self._eof_read = True
                if not self._protocol.eof_received():
                    self.close()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fail(error)

    def _deliver(self, data: bytes) -> None:
        if not isinstance(self._protocol, asyncio.BufferedProtocol):
            self._protocol.data_received(data)
            return
        while data:
            with memoryview(self._protocol.get_buffer(len(data))) as buffer:
                size = min(len(buffer), len(data))
                buffer[:size] = data[:size]
            data = data[size:]
            self._protocol.buffer_updated(size)

    # ---- writing

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"cannot write {type(data).__name__}, permitted: bytes-like")
        if self._eof_written:
            raise RuntimeError("write after write_eof")
        if self._closing or not data:
            return
        self._buffer += data
        self._fill()
        if len(self._buffer) > self._limits[1] and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._eof_written and not self._closing:
            self._eof_written = True
            self._end_writing()

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._limits

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high is {high} and low is {low}, permitted: high >= low >= 0")
        self._limits = (low, high)

    def _fill(self) -> None:
        """Let as much as there is room for go on its way."""
        pipe = self._outgoing
        if self._buffer and pipe.broken:
            self._loop.call_soon(self._fail, ConnectionResetError("the peer has closed the connection"))
            return
        room = pipe.room
        if self._buffer and room > 0:
            pipe.put(bytes(self._buffer[:room]))
            del self._buffer[:room]
            self._peer._schedule_read()
        if not self._buffer and (self._eof_written or self._closing):
            self._end_writing()
        if self._writing_paused and len(self._buffer) <= self._limits[0]:
            self._writing_paused = False
            self._loop.call_soon(self._resume_writing)

    def _resume_writing(self) -> None:
        if not self._lost:
            self._protocol.resume_writing()

    def _end_writing(self) -> None:
        if not self._buffer:
            self._outgoing.ended = True
            self._peer._schedule_read()
            if self._closing:
                self._lose(None)

    # ---- the end

    def _fail(self, error: BaseException) -> None:
        if self._lost:
            return
        if not isinstance(error, OSError):
            self._loop.call_exception_handler(
                {
                    "message": "a protocol on a connection in memory failed",
                    "exception": error,
                    "transport": self,
                    "protocol": self._protocol,
                }
            )
        self._closing = True
        self._buffer.clear()
        self._lose(error)

    def _lose(self, error: BaseException | None) -> None:
        if self._lost:
            return
        self._lost = True
        self._outgoing.ended = True
        self._peer._schedule_read()
        self._incoming.broken = True
        self._loop.call_soon(self._peer._fill)
        self._loop.call_soon(self._protocol.connection_lost, error)


def connect_in_memory(
    make_client: Callable[[], asyncio.BaseProtocol],
    make_server: Callable[[], asyncio.BaseProtocol],
    *,
    client_address: tuple[str, int] = ("127.0.0.1", 50000),
    server_address: tuple[str, int] = ("127.0.0.1", 80),
    server_extra: dict[str, Any] | None = None,
) -> tuple[MemoryTransport, MemoryTransport]:
    """Connect two protocols on the running loop and return their transports, the client's first.

    ``server_extra`` goes into what the server's ``get_extra_info`` knows, as an ``sslcontext`` would.
    """
    loop = asyncio.get_running_loop()
    client = MemoryTransport(loop, {"sockname": client_address, "peername": server_address})
    server = MemoryTransport(loop, {"sockname": server_address, "peername": client_address, **(server_extra or {})})
    client._peer, server._peer = server, client
    client._incoming = server._outgoing
    server._incoming = client._outgoing
    client.set_protocol(make_client())
    server.set_protocol(make_server())
    server._protocol.connection_made(server)
    client._protocol.connection_made(client)
    return client, server
