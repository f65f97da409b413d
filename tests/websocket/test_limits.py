"""Limits of what a client may send, as a handler sees them: what came within them is delivered, then 1008."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ferrows.exceptions import ConnectionClosedError
from ferrows.limits import InboundLimits, Rate

from .harness import Peer, frame, text


def limited(**limits: Any) -> Peer:
    return Peer(limits=InboundLimits(**limits))


async def test_messages_within_the_limit_are_delivered_before_the_end() -> None:
    peer = limited(messages=Rate(0.001, 3))
    received: list[Any] = []

    async def handler(ws: Any) -> None:
        async for message in ws:
            await ws.send(message)
            received.append(message)

    task = await peer.handle(handler)
    await peer.feed(text("1") + text("2") + text("3") + text("4") + text("5"))
    with pytest.raises(ConnectionClosedError) as raised:
        await task
    reason = "more than 0.001 messages a second"
    assert received == ["1", "2", "3"]
    assert (raised.value.code, raised.value.reason) == (1008, reason)
    assert peer.ws.excess == "messages"
    assert peer.transport.sent == [(1, b"1"), (1, b"2"), (1, b"3"), (8, b"\x03\xf0" + reason.encode())]


@pytest.mark.parametrize(
    ("limits", "data", "excess"),
    [
        ({"bytes": Rate(0.001, 20)}, frame(2, bytes(100)), "bytes"),
        ({"pings": Rate(0.001, 1)}, frame(9) * 2, "pings"),
        ({"pings": Rate(0.001, 1)}, frame(10) * 2, "pings"),
        ({"fragments": 2}, frame(2, fin=False) + frame(0, fin=False) * 2, "fragments"),
    ],
)
async def test_excess_names_the_limit(limits: dict[str, Any], data: bytes, excess: str) -> None:
    peer = limited(**limits)
    await peer.feed(data)
    assert (peer.ws.excess, peer.ws.close_code) == (excess, 1008)


async def test_other_failures_are_no_excess() -> None:
    peer = limited(messages=Rate(1, 1))
    await peer.feed(b"\xff\xff")
    assert (peer.ws.excess, peer.ws.close_code) == (None, 1002)


async def test_bucket_fills_with_the_time() -> None:
    peer = limited(messages=Rate(1000, 2))
    await peer.feed(text("1") + text("2"))
    await asyncio.sleep(0.05)
    await peer.feed(text("3") + text("4"))
    assert peer.ws.excess is None
    await asyncio.sleep(0.05)
    # No more than the burst, however much time went by.
    await peer.feed(text("5") * 20)
    assert peer.ws.excess == "messages"


async def test_time_in_which_we_did_not_read_counts_for_the_client() -> None:
    peer = limited(messages=Rate(1000, 2))
    await peer.feed(text("1") + text("2"))
    peer.ws.hold_frames(True)
    await asyncio.sleep(0.05)
    peer.ws.hold_frames(False)
    assert peer.transport.calls == ["pause_reading", "resume_reading"]
    await peer.feed(text("3") * 40)
    assert peer.ws.excess is None
    assert peer.ws.messages_received == 42


async def test_answers_to_our_own_pings_are_free() -> None:
    peer = limited(pings=Rate(0.001, 1))
    pings = [await peer.ws.ping(str(number)) for number in range(10)]
    for number in range(10):
        await peer.feed(frame(10, str(number).encode()))
    assert all(ping.done() for ping in pings)
    assert peer.ws.excess is None


async def test_who_goes_on_sending_after_a_failure_is_read_no_further_than_64_mib() -> None:
    peer = limited(messages=Rate(0.001, 1))
    await peer.feed(text("1") + text("2"))
    assert peer.ws.close_code == 1008
    await peer.feed(*[bytes(2**20)] * 63)
    assert "pause_reading" not in peer.transport.calls
    await peer.feed(bytes(2**20))
    assert peer.transport.calls[-1] == "pause_reading"
    # The deadline of the closing handshake, which the end of our direction has set, is what ends it.
    assert "write_eof" in peer.transport.calls
