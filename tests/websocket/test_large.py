"""Large messages, which take ways of their own through the codec: in one read or several, in order, without room."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from ferrows.exceptions import ConnectionClosedError
from ferrows.websocket import Websocket

from .harness import Peer, echo, frame, text, turns

# Around 32 KiB, from where a payload is sent without a copy, and 64 KiB, where the header grows and the cork is full.
SIZES = [32 * 1024 - 1, 32 * 1024, 64 * 1024 - 1, 64 * 1024, 100_000]

PAYLOADS = {
    "ascii": lambda size: (1, b"a" * (size - 1) + b"z"),
    "latin-first": lambda size: (1, "ä".encode() + b"a" * (size - 2)),
    "latin-last": lambda size: (1, b"a" * (size - 2) + "ä".encode()),
    "astral-last": lambda size: (1, b"a" * (size - 4) + "😀".encode()),
    "binary": lambda size: (2, bytes(range(251)) * (size // 251) + bytes(size % 251)),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PAYLOADS)
async def test_a_large_message_is_echoed_however_it_is_cut(name: str, size: int) -> None:
    opcode, payload = PAYLOADS[name](size)
    data = frame(opcode, payload)
    last = len(data)
    peer = Peer()
    await peer.handle(echo)
    cuts = [[], [1], [5], [14], [15], [last // 2], [last - 1], [last - 3], [7, 1000, last // 3, last - 2]]
    for places in cuts:
        edges = [0, *places, last]
        await peer.feed(*(data[start:end] for start, end in itertools.pairwise(edges)))
    # An assertion on the list would print all of it.
    assert [reply == (opcode, payload) for reply in peer.sent] == [True] * len(cuts)


@pytest.mark.parametrize("size", [1, 2, 31, 32, 33, 70_000])
@pytest.mark.parametrize("place", ["first", "middle", "last"])
async def test_8_1_one_wrong_byte_in_a_text_fails_the_connection(size: int, place: str) -> None:
    payload = bytearray(b"a" * size)
    payload[{"first": 0, "middle": size // 2, "last": -1}[place]] = 0xFF
    peer = Peer()
    task = await peer.handle(lambda ws: ws.recv())
    await peer.feed(text("good") + frame(1, bytes(payload)))
    assert await task == "good"
    assert peer.sent == [(8, (1007).to_bytes(2, "big") + b"invalid UTF-8 in a text message")]
    with pytest.raises(ConnectionClosedError):
        await peer.ws.recv()
    assert peer.ws.messages_received == 1


async def test_a_large_message_stays_between_the_small_ones_before_and_behind_it() -> None:
    large = "x" * 50_000

    async def handler(ws: Websocket) -> None:
        for _ in range(2):
            await ws.send("before")
            await ws.send(large)
            await ws.send(large.encode())
            await ws.pong(b"pong")
            await ws.send("behind")
            await ws.recv()

    peer = Peer()
    await peer.handle(handler)  # outside a turn, where everything leaves at once, then inside of one
    await peer.feed(text("go"))
    expected = [(1, b"before"), (1, large.encode()), (2, large.encode()), (10, b"pong"), (1, b"behind")]
    assert [sent == wanted for sent, wanted in zip(peer.sent, expected * 2, strict=True)] == [True] * 10
    assert peer.ws.messages_sent == 8
    assert peer.ws.bytes_sent == 2 * (len("beforebehind") + 2 * len(large))


async def test_a_large_message_leaves_before_a_close_that_is_pending() -> None:
    peer = Peer()

    async def handler(ws: Websocket) -> None:
        await ws.recv()
        await ws.send(bytes(50_000))

    await peer.handle(handler)
    await peer.feed(text("last") + frame(8, b"\x03\xe8"))
    assert [(opcode, len(payload)) for opcode, payload in peer.sent] == [(2, 50_000), (8, 2)]


async def test_large_messages_wait_for_a_peer_that_does_not_read() -> None:
    peer = Peer()
    peer.transport.on_write = lambda data: peer.ws.pause_writing()
    sent: list[int] = []

    async def handler(ws: Websocket) -> None:
        for number in range(4):
            await ws.send(bytes([number]) * 50_000)
            sent.append(number)

    task = await peer.handle(handler)
    for number in range(4):
        # Each send pauses writing: the one behind it waits, and the one that paused was not torn apart.
        assert [payload[0] for _, payload in peer.sent] == sent == list(range(number + 1))
        peer.ws.resume_writing()
        await turns()
    await task
    assert [len(payload) for _, payload in peer.sent] == [50_000] * 4


async def test_a_large_buffer_that_the_caller_changes_was_sent_as_it_was() -> None:
    peer = Peer()
    data = bytearray(50_000)

    async def handler(ws: Websocket) -> None:
        await ws.recv()
        await ws.send(data)
        await ws.send(memoryview(data))
        data[:] = b"\xff" * len(data)

    await peer.handle(handler)
    await peer.feed(text("go"))
    assert [payload == bytes(50_000) for _, payload in peer.sent] == [True, True]


async def test_a_large_message_in_the_middle_of_a_fragmented_one_waits_for_its_end() -> None:
    peer = Peer()
    gate = asyncio.Event()

    async def pieces() -> object:
        yield b"a"
        await gate.wait()
        yield b"b"

    fragmented = await peer.handle(lambda ws: ws.send(pieces()))  # type: ignore[arg-type, return-value]
    large = await peer.handle(lambda ws: ws.send(bytes(50_000)))  # type: ignore[arg-type, return-value]
    gate.set()
    await asyncio.gather(fragmented, large)
    assert [(opcode, len(payload)) for opcode, payload in peer.sent] == [(0x12, 1), (0x10, 1), (0, 0), (2, 50_000)]


@pytest.mark.parametrize("opcode", [1, 2])
@pytest.mark.parametrize("begun", [0, 10, 20_000])
async def test_streaming_begins_in_the_middle_of_a_large_frame(opcode: int, begun: int) -> None:
    payload = ("a" * 20_000 + "€" * 20_000).encode()
    data = frame(opcode, payload)
    peer = Peer()
    await peer.feed(data[:begun])

    async def handler(ws: Websocket) -> list[bytes]:
        pieces = [piece async for piece in ws.recv_streaming()]
        return [piece.encode() if isinstance(piece, str) else piece for piece in pieces]

    task = await peer.handle(handler)
    await peer.feed(data[begun:30_000], data[30_000:])
    assert [piece == payload for piece in await task] == [True]


async def test_a_large_message_that_is_cut_off_was_none() -> None:
    peer = Peer()
    await peer.feed(frame(2, bytes(50_000))[:-1])
    await peer.lose()
    with pytest.raises(ConnectionClosedError):
        await peer.ws.recv()
    assert (peer.ws.messages_received, peer.ws.bytes_received) == (0, 0)
