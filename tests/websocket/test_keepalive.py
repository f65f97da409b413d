"""One timer pings all connections; in virtual time."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from ferrows.server.keepalive import Keepalive

from .harness import Peer, close, frame, text


class VirtualLoop:
    """A clock that the test sets, and the one timer that is armed on it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[VirtualTimer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> VirtualTimer:
        timer = VirtualTimer(when, callback)
        self.timers.append(timer)
        return timer

    def advance(self, seconds: float, *, late: bool = False) -> None:
        """Let time pass: timer by timer, or (``late``) all at once as after a loop that was blocked."""
        end = self.now + seconds
        while True:
            due = sorted((t for t in self.timers if not t.is_cancelled and t.deadline <= end), key=lambda t: t.deadline)
            if not due:
                break
            self.now = end if late else max(self.now, due[0].deadline)
            self.timers.remove(due[0])
            due[0].callback()
        self.now = end


class VirtualTimer:
    def __init__(self, deadline: float, callback: Callable[[], None]) -> None:
        self.deadline, self.callback, self.is_cancelled = deadline, callback, False

    def when(self) -> float:
        return self.deadline

    def cancel(self) -> None:
        self.is_cancelled = True


@pytest.fixture
def loop() -> VirtualLoop:
    return VirtualLoop()


@pytest.fixture
def keepalive(loop: VirtualLoop) -> Keepalive:
    return Keepalive(loop)  # type: ignore[arg-type]


def advance_to_first_ping(loop: VirtualLoop, peer: Peer) -> None:
    while not peer.sent:
        loop.advance(0.25)


def opcodes(peer: Peer) -> list[int]:
    return [opcode for opcode, _ in peer.sent]


async def test_a_silent_peer_is_pinged_and_ended_with_1011(loop: VirtualLoop, keepalive: Keepalive) -> None:
    peer = Peer(ping_interval=20, ping_timeout=5)
    keepalive.add(peer.ws)
    advance_to_first_ping(loop, peer)
    assert opcodes(peer) == [9]
    loop.advance(5)
    assert opcodes(peer) == [9, 8]
    assert (peer.ws.close_code, peer.ws.close_reason) == (1011, "keepalive ping timeout")


@pytest.mark.parametrize("sign", [frame(10, b"wrong payload"), text("a"), b"\x81"], ids=["pong", "message", "one byte"])
async def test_any_byte_is_a_sign_of_life(loop: VirtualLoop, keepalive: Keepalive, sign: bytes) -> None:
    peer = Peer(ping_interval=20, ping_timeout=5)
    keepalive.add(peer.ws)
    advance_to_first_ping(loop, peer)
    await peer.feed(sign)
    loop.advance(19.5)
    assert opcodes(peer) == [9]
    loop.advance(0.5)
    assert opcodes(peer) == [9, 9]


async def test_pings_of_many_connections_are_spread_and_served_by_one_timer(
    loop: VirtualLoop, keepalive: Keepalive
) -> None:
    peers = [Peer(ping_interval=20) for _ in range(200)]
    for peer in peers:
        keepalive.add(peer.ws)
    assert sum(not timer.is_cancelled for timer in loop.timers) == 1
    loop.advance(9.9)
    assert not any(peer.sent for peer in peers)
    loop.advance(5.1)
    assert 50 < sum(bool(peer.sent) for peer in peers) < 150
    loop.advance(5)
    assert all(opcodes(peer) == [9] for peer in peers)


async def test_a_connection_that_is_not_read_from_is_left_alone(loop: VirtualLoop, keepalive: Keepalive) -> None:
    peer = Peer(ping_interval=20, ping_timeout=5, max_queue=1)
    keepalive.add(peer.ws)
    await peer.feed(text("waits for a slow handler"))
    loop.advance(100)
    assert set(opcodes(peer)) == {9}


async def test_time_in_which_the_loop_was_late_does_not_count(loop: VirtualLoop, keepalive: Keepalive) -> None:
    peer = Peer(ping_interval=20, ping_timeout=5)
    keepalive.add(peer.ws)
    advance_to_first_ping(loop, peer)
    loop.advance(60, late=True)  # a handler blocked the loop; the pong lies in the socket
    assert opcodes(peer) == [9]
    await peer.feed(frame(10, b""))
    loop.advance(5)
    assert 8 not in opcodes(peer)


async def test_the_next_ping_comes_an_interval_after_the_last(loop: VirtualLoop, keepalive: Keepalive) -> None:
    peer = Peer(ping_interval=10, ping_timeout=None)
    keepalive.add(peer.ws)
    loop.advance(10)
    for expected in (2, 3, 4):
        loop.advance(10)
        assert len(peer.sent) == expected
    assert peer.ws._pings is not None
    assert len(peer.ws._pings) == 1


async def test_a_connection_that_ended_or_has_no_interval_is_not_pinged(
    loop: VirtualLoop, keepalive: Keepalive
) -> None:
    ended, off, gone = Peer(ping_interval=20), Peer(ping_interval=0), Peer(ping_interval=20)
    for peer in (ended, off, gone):
        keepalive.add(peer.ws)
    await ended.feed(close())
    gone.ws = None  # type: ignore[assignment]
    gc.collect()
    loop.advance(100)
    assert (opcodes(ended), opcodes(off), opcodes(gone)) == ([8], [], [])
    assert keepalive._queue == []


async def test_an_earlier_deadline_moves_the_timer(loop: VirtualLoop, keepalive: Keepalive) -> None:
    slow, fast = Peer(ping_interval=100), Peer(ping_interval=1)
    keepalive.add(slow.ws)
    keepalive.add(fast.ws)
    loop.advance(1)
    assert (opcodes(slow), opcodes(fast)) == ([], [9])


async def test_a_connection_that_makes_trouble_is_dropped_and_the_others_are_pinged(
    loop: VirtualLoop, keepalive: Keepalive, caplog: pytest.LogCaptureFixture
) -> None:
    trouble, other = Peer(ping_interval=20, ping_timeout=5), Peer(ping_interval=20, ping_timeout=5)

    def write(data: bytes) -> None:
        raise OSError("no more")

    trouble.transport.on_write = write
    keepalive.add(trouble.ws)
    keepalive.add(other.ws)
    loop.advance(20)
    assert trouble.transport.calls == ["abort"]
    assert 9 in opcodes(other)
    assert len(caplog.records) == 1


async def test_entries_of_connections_that_are_gone_do_not_pile_up(loop: VirtualLoop, keepalive: Keepalive) -> None:
    kept = Peer(ping_interval=3600)
    keepalive.add(kept.ws)
    for _ in range(1000):
        keepalive.add(Peer(ping_interval=3600).ws)
    gc.collect()
    assert len(keepalive._queue) < 200
    loop.advance(3600)
    assert opcodes(kept)[0] == 9


async def test_a_peer_that_reads_slowly_is_left_to_the_protocol(loop: VirtualLoop, keepalive: Keepalive) -> None:
    peer = Peer(ping_interval=20, ping_timeout=5)
    keepalive.add(peer.ws)
    peer.ws.pause_writing()
    loop.advance(100)
    assert 8 not in opcodes(peer)
