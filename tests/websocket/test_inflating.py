"""Reads that become much more than what was read: the rest of one waits until there is room."""

from __future__ import annotations

import asyncio
import zlib

import pytest

from ferrows.exceptions import WebsocketClosed
from ferrows.extensions import DeflateParameters
from ferrows.websocket import Websocket

from .harness import Peer, close, frame, turns

SIZE = 64 * 1024
"""Bytes of a message and of the limit, so that one message is all that may wait."""

PIECE = 1024
"""What is parsed at a time."""


def compressed(payload: bytes) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return frame(2, (deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4], rsv=4)


def peer() -> Peer:
    return Peer(max_size=SIZE, deflate=DeflateParameters(), ping_interval=None)


MESSAGES = [bytes([number]) * SIZE for number in range(200)]
READ = b"".join(map(compressed, MESSAGES))


async def test_one_read_inflates_no_further_than_the_limit_and_a_piece() -> None:
    connection = peer()
    await connection.feed(READ)
    assert connection.ws.queued * SIZE <= SIZE + PIECE * 1032
    assert connection.transport.calls == ["pause_reading"]


async def test_messages_come_whole_and_in_order_as_the_handler_makes_room() -> None:
    connection = peer()
    received = []

    async def slow(ws: Websocket) -> None:
        async for message in ws:
            received.append(message)
            await turns(2)

    task = await connection.handle(slow)
    await connection.feed(READ[: len(READ) // 3], READ[len(READ) // 3 :])
    while len(received) < len(MESSAGES):
        assert connection.ws.queued * SIZE <= SIZE + PIECE * 1032
        await turns(1)
    assert received == MESSAGES
    await turns()
    assert connection.transport.calls[-1] == "resume_reading"
    await connection.feed(close())
    await task


async def test_close_behind_what_is_held_back_is_answered_when_its_turn_comes() -> None:
    connection = peer()
    await connection.feed(READ, close(1000))
    assert connection.sent == []
    received = 0

    async def count(ws: Websocket) -> None:
        nonlocal received
        async for _ in ws:
            received += 1

    await (await connection.handle(count))
    assert received == len(MESSAGES)
    assert connection.sent == [(8, b"\x03\xe8")]


async def test_lost_connection_forgets_what_is_held_back() -> None:
    connection = peer()
    await connection.feed(READ)
    waiting = connection.ws.queued
    await connection.lose()
    received = 0
    with pytest.raises(WebsocketClosed):
        while True:
            await connection.ws.recv()
            received += 1
    assert received == waiting


async def test_our_close_lets_the_rest_be_read_for_the_peers() -> None:
    connection = peer()
    await connection.feed(READ + close(1000))
    connection.ws.end_connection(1000)
    await turns(10)
    assert connection.ws.close_received == (1000, "")
    assert connection.ws.queued * SIZE <= SIZE + PIECE * 1032
    assert connection.transport.calls[0] == "pause_reading"
    assert connection.ws.closed


SMALL = frame(2, b"ab")
PLAIN_PIECE = 32 * 1024


async def test_one_read_of_small_messages_becomes_no_more_than_a_piece_of_them() -> None:
    connection = Peer(ping_interval=None)
    read = SMALL * (8 * PLAIN_PIECE // len(SMALL))
    await connection.feed(read)
    assert connection.ws.queued <= PLAIN_PIECE // len(SMALL) + 1
    assert connection.transport.calls == ["pause_reading"]
    received = 0

    async def count(ws: Websocket) -> None:
        nonlocal received
        async for message in ws:
            assert message == b"ab"
            received += 1

    task = await connection.handle(count)
    async with asyncio.timeout(10):
        while received < len(read) // len(SMALL):
            assert connection.ws.queued <= PLAIN_PIECE // len(SMALL) + 1
            await asyncio.sleep(0)
    await turns()
    assert connection.transport.calls == ["pause_reading", "resume_reading"]
    await connection.feed(close())
    await task


async def test_view_that_is_read_may_change_afterwards() -> None:
    connection = peer()
    data = bytearray(READ)
    await connection.feed(memoryview(data))
    data[:] = bytes(len(data))
    received = [await connection.ws.recv() for _ in MESSAGES]
    assert received == MESSAGES
