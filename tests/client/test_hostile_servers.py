"""``connect`` against servers that break the rules, on raw sockets."""

from __future__ import annotations

import asyncio
import gc

import pytest
from app.harness import on_both_loops

from ferrows import connect
from ferrows.exceptions import ConnectionClosedError, ConnectionClosedOK, HandshakeError

from .conftest import accept, read_key, talking

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


def says(answer: bytes) -> object:
    async def talk(reader: Reader, writer: Writer) -> None:
        await read_key(reader)
        writer.write(answer)
        await reader.read()

    return talk


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "refused the upgrade with 200 OK"),
        (b"HTTP/1.1 301 Moved\r\nLocation: wss://b.example/\r\nContent-Length: 0\r\n\r\n", 301, "not followed"),
        (
            b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
            101,
            "Sec-WebSocket-Accept is 'AAAA'",
        ),
        (b"HTTP/1.1 101 S\r\n\r\n\x81\x00", 101, "upgrades to ''"),
        (b"HTTP/1.1 101 S\r\nX: " + b"x" * 70_000, None, "head of more than 65536 bytes"),
        (b"hello\r\n", None, "no HTTP response"),
    ],
    ids=["200", "redirect", "accept", "no-upgrade", "huge-head", "no-http"],
)
@on_both_loops
async def test_4_1_answer_that_is_no_upgrade(answer: bytes, status: int | None, message: str) -> None:
    async with talking(says(answer)) as url:  # type: ignore[arg-type]
        with pytest.raises(HandshakeError) as raised:
            await connect(url)
    assert message in str(raised.value)
    assert raised.value.status == status


@on_both_loops
async def test_9_1_unknown_extension_fails() -> None:
    async def talk(reader: Reader, writer: Writer) -> None:
        writer.write(await accept(reader, "Sec-WebSocket-Extensions: x-webkit-deflate-frame"))
        assert await reader.read() == b""

    async with talking(talk) as url:
        with pytest.raises(HandshakeError, match="uses the extension 'x-webkit-deflate-frame'"):
            await connect(url)


@on_both_loops
async def test_endless_body_of_a_refusal_is_cut() -> None:
    async def talk(reader: Reader, writer: Writer) -> None:
        await read_key(reader)
        writer.write(b"HTTP/1.1 500 Broken\r\n\r\n")
        while True:
            writer.write(b"x" * 4096)
            await writer.drain()

    async with talking(talk) as url:
        with pytest.raises(HandshakeError) as raised:
            await connect(url)
    assert (raised.value.status, len(raised.value.body)) == (500, 65536)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 101 Switching"], ids=["nothing", "a-beginning"])
@on_both_loops
async def test_no_answer_is_a_timeout(answer: bytes) -> None:
    gone = asyncio.Event()

    async def talk(reader: Reader, writer: Writer) -> None:
        writer.write(answer)
        await reader.read()
        gone.set()

    async with talking(talk) as url:
        with pytest.raises(TimeoutError, match=r"handshake with ws://127.0.0.1:\d+/ took more than 0.1 seconds"):
            await connect(url, open_timeout=0.1)
        await asyncio.wait_for(gone.wait(), 30)


@on_both_loops
async def test_refusal_whose_body_does_not_end_is_still_told() -> None:
    answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\nnot you"
    async with talking(says(answer)) as url:  # type: ignore[arg-type]
        with pytest.raises(HandshakeError) as raised:
            await connect(url, open_timeout=0.1)
    assert (raised.value.status, raised.value.body) == (403, b"not you")


@on_both_loops
async def test_end_without_an_answer() -> None:
    async def talk(reader: Reader, writer: Writer) -> None:
        await read_key(reader)

    async with talking(talk) as url:
        with pytest.raises(HandshakeError, match="without an answer"):
            await connect(url)


@on_both_loops
async def test_connecting_that_is_cancelled_leaves_no_connection() -> None:
    came, gone = asyncio.Event(), asyncio.Event()

    async def talk(reader: Reader, writer: Writer) -> None:
        await read_key(reader)
        came.set()
        await reader.read()
        gone.set()

    async with talking(talk) as url:
        opening = asyncio.ensure_future(connect(url))
        await asyncio.wait_for(came.wait(), 30)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await asyncio.wait_for(gone.wait(), 30)


@on_both_loops
async def test_frames_in_the_segment_of_the_answer_are_not_lost() -> None:
    answered = asyncio.get_running_loop().create_future()

    async def talk(reader: Reader, writer: Writer) -> None:
        writer.write(await accept(reader) + b"\x81\x05hello\x82\x01\x00\x88\x02\x03\xe9")
        answered.set_result(await reader.readexactly(6 + 2 + 8))

    async with talking(talk) as url, connect(url, close_timeout=5) as ws:
        # The Close among them is answered behind what is sent in answer to the messages.
        assert await ws.recv() == "hello"
        await ws.send("ab")
        assert await ws.recv() == b"\x00"
        with pytest.raises(ConnectionClosedOK):
            await ws.recv()
        assert ws.close_code == 1001
        frames = await asyncio.wait_for(answered, 30)
    # §5.1, §5.3: a client masks what it sends; first the text, then the Close.
    assert (frames[0], frames[1]) == (0x81, 0x80 | 2)
    assert (frames[8], frames[9]) == (0x88, 0x80 | 2)


@on_both_loops
async def test_5_1_masked_frame_from_a_server_fails_with_1002() -> None:
    closed = asyncio.get_running_loop().create_future()

    async def talk(reader: Reader, writer: Writer) -> None:
        writer.write(await accept(reader) + b"\x81\x81\x00\x00\x00\x00a")
        closed.set_result(await reader.read())

    async with talking(talk) as url:
        ws = await connect(url)
        with pytest.raises(ConnectionClosedError, match="1002: masked frame from a server"):
            await ws.recv()
        frame = await asyncio.wait_for(closed, 30)
        assert frame[0] == 0x88
        assert bytes(byte ^ mask for byte, mask in zip(frame[6:8], frame[2:4], strict=True)) == b"\x03\xea"
        await ws.wait_closed()


@on_both_loops
async def test_7_1_1_server_that_does_not_end_tcp_is_dropped() -> None:
    async def talk(reader: Reader, writer: Writer) -> None:
        writer.write(await accept(reader) + b"\x88\x02\x03\xe8")
        await reader.read()

    async with talking(talk) as url:
        ws = await connect(url, close_timeout=0.05)
        with pytest.raises(ConnectionClosedOK):
            await ws.recv()
        await asyncio.wait_for(ws.wait_closed(), 9)


@on_both_loops
async def test_server_that_does_not_answer_a_close_is_dropped() -> None:
    async def talk(reader: Reader, writer: Writer) -> None:
        writer.write(await accept(reader))
        await reader.read()

    async with talking(talk) as url:
        ws = await connect(url, close_timeout=0.05)
        await asyncio.wait_for(ws.close(), 9)
        assert ws.close_code == 1006


@on_both_loops
async def test_server_that_answers_no_ping_is_left() -> None:
    async def talk(reader: Reader, writer: Writer) -> None:
        writer.write(await accept(reader))
        await reader.read()

    async with talking(talk) as url:
        ws = await connect(url, ping_interval=0.05, ping_timeout=0.05, close_timeout=0.05)
        with pytest.raises(ConnectionClosedError, match="1011: keepalive ping timeout"):
            await asyncio.wait_for(ws.recv(), 9)
        await asyncio.wait_for(ws.wait_closed(), 9)


@on_both_loops
async def test_reset_is_1006_by_the_network() -> None:
    async def talk(reader: Reader, writer: Writer) -> None:
        writer.write(await accept(reader))
        await writer.drain()
        await reader.readexactly(1)
        writer.transport.abort()

    async with talking(talk) as url:
        ws = await connect(url)
        await ws.send("a")
        with pytest.raises(ConnectionClosedError):
            await asyncio.wait_for(ws.recv(), 30)
        assert (ws.close_code, ws.closed_by) == (1006, "network")


@on_both_loops
async def test_nothing_is_kept_of_a_connection_that_ended() -> None:
    async def talk(reader: Reader, writer: Writer) -> None:
        writer.write(await accept(reader) + b"\x88\x00")

    import weakref

    async with talking(talk) as url:
        ws = await connect(url)
        with pytest.raises(ConnectionClosedOK):
            await ws.recv()
        await ws.wait_closed()
        reference = weakref.ref(ws)
        del ws
        for _ in range(3):
            await asyncio.sleep(0)
        gc.collect()
        assert reference() is None
