"""Connections in memory behave as a socket's do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from app.harness import on_both_loops

from ferrows.testing import MemoryTransport, connect_in_memory


class Recorder(asyncio.Protocol):
    """Notes what the transport calls."""

    def __init__(self, *, keep_open: bool = False, fail: bool = False) -> None:
        self.transport: Any = None
        self.data = bytearray()
        self.calls: list[str] = []
        self.error: BaseException | None = None
        self.changed = asyncio.Event()
        self._keep_open = keep_open
        self._fail = fail

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self._fail:
            raise ZeroDivisionError
        self.data += data
        self.changed.set()

    def eof_received(self) -> bool:
        self._note("eof")
        return self._keep_open

    def pause_writing(self) -> None:
        self._note("pause")

    def resume_writing(self) -> None:
        self._note("resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.error = exc
        self._note("lost")

    def _note(self, what: str) -> None:
        self.calls.append(what)
        self.changed.set()

    async def until(self, what: str | int) -> None:
        """Wait for a call, or for so many bytes."""
        while not (what in self.calls if isinstance(what, str) else len(self.data) >= what):
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 30)


def pair(**options: Any) -> tuple[Recorder, Recorder, MemoryTransport, MemoryTransport]:
    client, server = Recorder(), Recorder(**options)
    return client, server, *connect_in_memory(lambda: client, lambda: server)


async def turns() -> None:
    """Let everything that is scheduled happen."""
    for _ in range(20):
        await asyncio.sleep(0)


@on_both_loops
async def test_what_is_written_arrives_later_and_together() -> None:
    client, server, transport, _ = pair()
    transport.write(b"a")
    transport.write(bytearray(b"b"))
    transport.writelines([b"c", memoryview(b"d")])
    assert server.data == b""
    await server.until(4)
    assert server.data == b"abcd"
    server.transport.write(b"back")
    await client.until(4)
    assert client.data == b"back"


@on_both_loops
async def test_written_data_may_be_changed_afterwards() -> None:
    _, server, transport, _ = pair()
    data = bytearray(b"before")
    transport.write(data)
    data[:] = b"after!"
    await server.until(6)
    assert server.data == b"before"


@on_both_loops
async def test_peer_that_does_not_read_stops_the_writer() -> None:
    client, server, transport, theirs = pair()
    theirs.pause_reading()
    written = 0
    while "pause" not in client.calls:
        transport.write(b"x" * 10_000)
        written += 10_000
        assert written < 2**20
    assert 128 * 1024 < written < 256 * 1024
    assert transport.get_write_buffer_size() > transport.get_write_buffer_limits()[1]
    await turns()
    assert (server.data, client.calls) == (b"", ["pause"])
    theirs.resume_reading()
    await server.until(written)
    await client.until("resume")
    assert client.calls == ["pause", "resume"]
    assert transport.get_write_buffer_size() == 0


@on_both_loops
async def test_close_delivers_what_was_written_also_to_a_slow_reader() -> None:
    client, server, transport, theirs = pair()
    theirs.pause_reading()
    transport.write(b"x" * 300_000)
    transport.close()
    transport.write(b"too late")
    await turns()
    assert transport.is_closing() and "lost" not in client.calls
    theirs.resume_reading()
    await server.until("lost")
    assert (len(server.data), server.calls, server.error) == (300_000, ["eof", "lost"], None)
    assert client.calls[-1] == "lost" and client.error is None


@on_both_loops
async def test_abort_drops_what_had_no_room() -> None:
    client, server, transport, _ = pair()
    transport.write(b"x" * 300_000)
    transport.abort()
    await server.until("lost")
    assert len(server.data) == 64 * 1024
    assert (client.calls[-1], client.error) == ("lost", None)


@on_both_loops
async def test_write_eof_ends_one_direction() -> None:
    client, server, transport, theirs = pair(keep_open=True)
    transport.write(b"question")
    assert transport.can_write_eof()
    transport.write_eof()
    with pytest.raises(RuntimeError, match="write after write_eof"):
        transport.write(b"x")
    await server.until("eof")
    assert (server.data, server.calls) == (b"question", ["eof"])
    theirs.write(b"answer")
    theirs.close()
    await client.until("lost")
    assert (client.data, client.calls) == (b"answer", ["eof", "lost"])


@on_both_loops
async def test_writing_to_a_peer_that_is_gone_is_a_reset() -> None:
    _, server, transport, theirs = pair(keep_open=True)
    transport.close()
    await server.until("eof")
    theirs.write(b"x")
    await server.until("lost")
    assert isinstance(server.error, ConnectionResetError)


@on_both_loops
async def test_protocol_that_fails_loses_its_connection_and_is_told_to_the_loop() -> None:
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
    client, server, transport, _ = pair(fail=True)
    transport.write(b"x")
    await client.until("lost")
    assert isinstance(server.error, ZeroDivisionError) and told == [server.error]


@on_both_loops
async def test_protocol_can_be_replaced() -> None:
    _, server, transport, theirs = pair()
    other = Recorder()
    theirs.set_protocol(other)
    assert theirs.get_protocol() is other
    transport.write(b"x")
    await other.until(1)
    assert server.data == b""


class Buffered(asyncio.BufferedProtocol):
    """Reads into a small buffer of its own."""

    def __init__(self) -> None:
        self.buffer = bytearray(7)
        self.data = b""
        self.ended = asyncio.Event()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data += self.buffer[:nbytes]

    def eof_received(self) -> None:
        self.ended.set()


@on_both_loops
async def test_buffered_protocol() -> None:
    reader = Buffered()
    transport, _ = connect_in_memory(Recorder, lambda: reader)
    transport.write(b"more than seven bytes")
    transport.close()
    await asyncio.wait_for(reader.ended.wait(), 30)
    assert reader.data == b"more than seven bytes"


@on_both_loops
async def test_addresses() -> None:
    ours, theirs = connect_in_memory(
        Recorder, Recorder, client_address=("192.0.2.1", 5), server_extra={"sslcontext": "a context"}
    )
    assert ours.get_extra_info("peername") == theirs.get_extra_info("sockname") == ("127.0.0.1", 80)
    assert ours.get_extra_info("sockname") == theirs.get_extra_info("peername") == ("192.0.2.1", 5)
    assert (ours.get_extra_info("sslcontext"), theirs.get_extra_info("sslcontext")) == (None, "a context")
    assert ours.get_extra_info("socket") is None


@on_both_loops
async def test_wrong_use() -> None:
    _, _, transport, _ = pair()
    with pytest.raises(TypeError, match="cannot write str"):
        transport.write("x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="high >= low >= 0"):
        transport.set_write_buffer_limits(1, 2)
    transport.set_write_buffer_limits(low=10)
    assert transport.get_write_buffer_limits() == (10, 40)
