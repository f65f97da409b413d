"""What a handler sends on other connections during a turn leaves together, on the codec that is in use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ferrows.exceptions import ConnectionClosedOK, WebsocketClosed
from ferrows.websocket import Websocket

from .harness import Peer, close, echo, text, turns

Reports = list[dict[str, Any]]


@pytest.fixture
async def reports() -> Reports:
    """What was reported to the event loop."""
    reported: Reports = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    return reported


def to_all(peers: list[Peer]) -> Callable[[Websocket], Coroutine[Any, Any, None]]:
    """Make a handler that passes every message on to all."""

    async def broadcast(ws: Websocket) -> None:
        async for message in ws:
            for peer in peers:
                await peer.ws.send(message)

    return broadcast


async def test_messages_to_others_are_one_write_each_in_order() -> None:
    peers = [Peer() for _ in range(4)]
    await peers[0].handle(to_all(peers))
    await peers[0].feed(text("a") + text("b") + text("c"))
    for peer in peers:
        assert peer.sent == [(1, b"a"), (1, b"b"), (1, b"c")]
        assert len(peer.transport.writes) == 1


async def test_nothing_is_left_behind_by_a_batch() -> None:
    source, sink = Peer(), Peer()
    await source.handle(to_all([sink]))
    await source.feed(text("a"), text("b"))
    assert len(sink.transport.writes) == 2
    # Outside of a turn, every message leaves at once.
    await sink.ws.send("c")
    await sink.ws.send("d")
    assert [len(write) for write in sink.transport.writes] == [3, 3, 3, 3]
    assert sink.sent == [(1, b"a"), (1, b"b"), (1, b"c"), (1, b"d")]


async def test_a_peer_whose_transport_raises_keeps_nothing_from_the_others(reports: Reports) -> None:
    source, broken, whole = Peer(), Peer(), Peer()

    def fail(data: bytes) -> None:
        raise OSError("no route")

    broken.transport.on_write = fail
    await source.handle(to_all([broken, whole, source]))
    await source.feed(text("a") + text("b"))
    assert whole.sent == source.sent == [(1, b"a"), (1, b"b")]
    assert [(type(report["exception"]), report["websocket"]) for report in reports] == [(OSError, broken.ws)]


async def test_the_others_get_theirs_where_the_handler_raises() -> None:
    source, sink = Peer(), Peer()

    async def handler(ws: Websocket) -> None:
        async for message in ws:
            await sink.ws.send(message)
            raise LookupError

    task = await source.handle(handler)
    await source.feed(text("a"))
    assert sink.sent == [(1, b"a")]
    with pytest.raises(LookupError):
        await task
    await sink.ws.send("b")
    assert sink.sent == [(1, b"a"), (1, b"b")]


async def test_the_others_get_theirs_where_the_own_transport_raises() -> None:
    source, sink = Peer(), Peer()

    def fail(data: bytes) -> None:
        raise OSError("no route")

    source.transport.on_write = fail
    await source.handle(to_all([source, sink]))
    with pytest.raises(OSError, match="no route"):
        await source.feed(text("a"))
    assert sink.sent == [(1, b"a")]
    await sink.ws.send("b")
    assert sink.sent == [(1, b"a"), (1, b"b")]


async def test_an_exit_is_raised_after_the_last(reports: Reports) -> None:
    source, leaving, sink = Peer(), Peer(), Peer()

    def leave(data: bytes) -> None:
        raise asyncio.CancelledError("enough")

    leaving.transport.on_write = leave
    await source.handle(to_all([leaving, sink]))
    with pytest.raises(asyncio.CancelledError):
        await source.feed(text("a"))
    assert sink.sent == [(1, b"a")]
    assert reports == []


async def test_a_close_in_a_batch_comes_after_what_was_sent_before() -> None:
    source, sink = Peer(), Peer()
    waiting = await sink.handle(echo)

    async def handler(ws: Websocket) -> None:
        async for message in ws:
            await sink.ws.send(message)
            sink.ws.end_connection(1001, "bye")
            with pytest.raises(WebsocketClosed):
                await sink.ws.send("late")

    await source.handle(handler)
    await source.feed(text("a"))
    assert sink.sent == [(1, b"a"), (8, b"\x03\xe9bye")]
    assert len(sink.transport.writes) == 1
    await sink.feed(close(1001))
    assert sink.transport.calls == ["write_eof"]
    await sink.lose()
    assert waiting.done()
    await source.lose()


async def test_a_peer_that_closes_within_the_batch_gets_what_was_sent_before() -> None:
    source, sink = Peer(), Peer()

    async def handler(ws: Websocket) -> None:
        async for message in ws:
            await sink.ws.send(message)
            sink.ws.receive_data(close(1000))
            with pytest.raises(ConnectionClosedOK):
                await sink.ws.send("late")

    await source.handle(handler)
    await source.feed(text("a"))
    assert sink.sent == [(1, b"a"), (8, b"\x03\xe8")]
    assert sink.transport.calls == ["write_eof"]
    await sink.lose()


async def test_a_peer_whose_transport_is_lost_within_the_batch() -> None:
    source, sink = Peer(), Peer()

    async def handler(ws: Websocket) -> None:
        async for message in ws:
            await sink.ws.send(message)
            sink.ws.lose_transport()
            await ws.send("lost")

    await source.handle(handler)
    await source.feed(text("a"))
    assert (source.sent, sink.sent) == ([(1, b"lost")], [])


async def test_the_failure_of_a_peer_in_a_batch_is_told_once_and_last() -> None:
    source, sink = Peer(), Peer()

    async def handler(ws: Websocket) -> None:
        async for message in ws:
            await sink.ws.send(message)
            sink.ws.fail_connection(1011, "broken")

    await source.handle(handler)
    await source.feed(text("a"))
    assert sink.sent == [(1, b"a"), (8, b"\x03\xf3broken")]
    assert sink.transport.calls == ["write_eof"]
    await sink.lose()


async def test_turns_of_two_connections_within_each_other() -> None:
    outer, inner, sink = Peer(), Peer(), Peer()
    order: list[str] = []

    async def pass_on(ws: Websocket) -> None:
        async for message in ws:
            order.append(f"inner {message}")
            for peer in (outer, inner, sink):
                await peer.ws.send(message)

    async def feed(ws: Websocket) -> None:
        async for message in ws:
            order.append(f"outer {message}")
            await sink.ws.send(f"before {message}")
            inner.ws.receive_data(text(str(message)))
            await sink.ws.send(f"after {message}")

    await inner.handle(pass_on)
    await outer.handle(feed)
    await outer.feed(text("a") + text("b"))
    await turns()
    assert sorted(order) == ["inner a", "inner b", "outer a", "outer b"]
    # A task cannot be left half-way for another one: the inner handler runs in the next turn of the loop.
    expected = [(1, b"before a"), (1, b"after a"), (1, b"before b"), (1, b"after b")]
    assert sink.sent[:4] == expected
    assert sink.sent[4:] == outer.sent == inner.sent == [(1, b"a"), (1, b"b")]
    await sink.ws.send("end")
    assert sink.sent[-1] == (1, b"end")


async def test_a_slow_peer_is_felt_within_the_batch() -> None:
    source, slow = Peer(), Peer()
    slow.transport.on_write = lambda data: slow.ws.pause_writing()
    steps: list[int] = []

    async def handler(ws: Websocket) -> None:
        async for _ in ws:
            for step in range(8):
                await slow.ws.send(bytes(20_000))
                steps.append(step)

    await source.handle(handler)
    await source.feed(text("go"))
    assert steps == [0, 1, 2, 3]
    assert len(slow.transport.writes) == 1
    slow.ws.resume_writing()
    await turns()
    assert steps == [0, 1, 2, 3, 4]
    assert len(slow.sent) == 5
