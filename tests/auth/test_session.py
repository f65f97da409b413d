"""A session's time, and the connections that end with it; on stand-ins, with clocks that jump."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
import weakref
from typing import Any

import pytest
from websocket.harness import Peer, text, turns

from ferrows.auth import Session, closings
from ferrows.auth import session as session_module

NOW = 1_800_000_000.0


class Clocks:
    """A wall clock, and the monotonic one that the module sees."""

    def __init__(self) -> None:
        self.wall = NOW
        self.since = 1000.0

    def monotonic(self) -> float:
        return self.since

    def run(self, seconds: float) -> None:
        self.wall += seconds
        self.since += seconds

    def __call__(self) -> float:
        return self.wall


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(session_module, "time", clocks)
    return clocks


class StandIn:
    """Records how it is ended."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, str]] = []
        self.ended = asyncio.Event()

    def fail_connection(self, code: int, reason: str) -> bool:
        self.ends.append((code, reason))
        self.ended.set()
        return True


def test_a_session_is_over_at_its_time_and_not_before(clocks: Clocks) -> None:
    session = Session("ada", NOW + 60, clock=clocks)
    clocks.run(59.999)
    assert not session.ended
    clocks.run(0.001)
    assert session.ended


def test_one_without_end_lasts(clocks: Clocks) -> None:
    session = Session("ada", clock=clocks)
    clocks.run(10**9)
    assert (session.ended, session.expires) == (False, None)


@pytest.mark.parametrize("jump", [3600, -3600, 10**9, -(10**9)])
def test_a_wall_clock_that_jumps_changes_nothing(clocks: Clocks, jump: float) -> None:
    session = Session("ada", NOW + 60, clock=clocks)
    clocks.run(10)
    clocks.wall += jump
    clocks.run(49)
    assert not session.ended
    clocks.run(1)
    assert session.ended


def test_what_is_left_is_taken_from_the_wall_clock_when_it_is_renewed(clocks: Clocks) -> None:
    session = Session("ada", NOW + 60, clock=clocks)
    clocks.wall += 3600  # corrected
    assert session.renew(clocks.wall + 10)
    clocks.run(9)
    assert not session.ended
    clocks.run(1)
    assert session.ended


def test_renewing_can_lengthen_shorten_and_lift_but_not_revive(clocks: Clocks) -> None:
    session = Session("ada", NOW + 60, clock=clocks)
    assert session.renew(NOW + 120)
    clocks.run(100)
    assert not session.ended
    assert session.renew(None)
    clocks.run(1000)
    assert not session.ended
    assert session.renew(clocks.wall + 1)
    clocks.run(1)
    assert session.ended
    assert not session.renew(clocks.wall + 100)
    assert session.ended
    assert not session.renew(None)


@pytest.mark.parametrize(
    ("expires", "error"),
    [(float("nan"), ValueError), (float("inf"), ValueError), ("1", TypeError), (True, TypeError), (b"", TypeError)],
)
def test_a_time_that_is_none_is_refused_and_changes_nothing(expires: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"expires .*permitted: Unix seconds"):
        Session("ada", expires)
    session = Session("ada", 2e9)
    with pytest.raises(error):
        session.renew(expires)
    assert session.expires == 2e9


def test_nobody_has_no_session() -> None:
    # As of `Session(USERS.get(token))`, which would let everybody in.
    with pytest.raises(TypeError, match="subject is None"):
        Session(None)  # type: ignore[arg-type]


def test_its_representation_shows_no_data() -> None:
    session = Session("ada", None, {"token": "secret"})
    assert repr(session) == "<Session of 'ada' without end>"
    session.end()
    assert repr(session) == "<Session of 'ada' ended>"
    assert repr(Session("ada", 2e9)) == "<Session of 'ada' until 2000000000.0>"


# ---- connections


async def test_connections_end_when_the_time_has_come_each_with_its_code() -> None:
    session = Session("ada", time.time() + 0.05)
    one, other = StandIn(), StandIn()
    session.attach(one)
    session.attach(other, 3000, "log in again")
    await asyncio.wait_for(asyncio.gather(one.ended.wait(), other.ended.wait()), 30)
    assert (one.ends, other.ends) == ([(1008, "session expired")], [(3000, "log in again")])
    assert session.ended


async def test_one_timer_serves_all_connections_and_none_is_left_behind() -> None:
    session = Session("ada", time.time() + 3600)
    first, second = StandIn(), StandIn()
    session.attach(first)
    timer = session._timer
    assert timer is not None
    session.attach(second)
    assert session._timer is timer
    session.detach(first)
    session.detach(first)
    assert not timer.cancelled()
    session.detach(second)
    assert timer.cancelled()
    assert session._timer is None
    assert (first.ends, second.ends) == ([], [])


async def test_one_without_end_has_no_timer_until_it_is_renewed() -> None:
    session, ws = Session("ada"), StandIn()
    session.attach(ws)
    assert session._timer is None
    session.renew(time.time() + 0.02)
    await asyncio.wait_for(ws.ended.wait(), 30)
    assert session._timer is None


async def test_renewing_replaces_the_timer() -> None:
    session, ws = Session("ada", time.time() + 3600), StandIn()
    session.attach(ws)
    first = session._timer
    session.renew(time.time() + 7200)
    second = session._timer
    assert first is not None and first.cancelled()
    assert second is not None and not second.cancelled()
    assert second.when() > first.when() + 3000
    session.renew(time.time() - 1)
    await asyncio.wait_for(ws.ended.wait(), 30)


async def test_a_timer_that_is_early_waits_for_the_rest(clocks: Clocks) -> None:
    session, ws = Session("ada", NOW + 60, clock=clocks), StandIn()
    session.attach(ws)
    session._fire()
    assert (ws.ends, session.ended, session._timer is None) == ([], False, False)
    clocks.run(60)
    session._fire()
    assert ws.ends == [(1008, "session expired")]


async def test_what_is_years_away_is_reached_in_steps(clocks: Clocks) -> None:
    session, ws = Session("ada", NOW + 9e10, clock=clocks), StandIn()
    session.attach(ws)
    timer = session._timer
    assert timer is not None
    assert timer.when() - asyncio.get_running_loop().time() <= 86_400
    session.detach(ws)


def test_time_in_milliseconds_is_refused() -> None:
    # It would never come.
    with pytest.raises(ValueError, match=r"permitted: Unix seconds up to 1e\+11"):
        Session("ada", time.time() * 1000)


async def test_ending_ends_all_at_once_and_is_said_once() -> None:
    session = Session("ada", time.time() + 3600)
    connections = [StandIn() for _ in range(3)]
    for ws in connections:
        session.attach(ws)
    session.end(4001, "logged out")
    session.end()
    assert [ws.ends for ws in connections] == [[(4001, "logged out")]] * 3
    assert (session.ended, session._timer) == (True, None)


@pytest.mark.parametrize("change", ["end", "renew", "attach"])
async def test_without_a_running_loop_nothing_changes(change: str) -> None:
    # From another thread, by mistake: what raises must not leave connections open that no session ends any more.
    session = Session("ada", time.time() + 3600)
    ws, late = StandIn(), StandIn()
    session.attach(ws)
    timer, expires = session._timer, session.expires
    calls = {
        "end": session.end,
        "renew": lambda: session.renew(time.time() + 60),
        "attach": lambda: session.attach(late, 4000),
    }
    with pytest.raises(RuntimeError, match="call_soon_threadsafe"):
        await asyncio.to_thread(calls[change])
    assert (session.ended, session.expires, session._timer) == (False, expires, timer)
    session.end(4001, "on the loop")
    assert (ws.ends, late.ends) == ([(4001, "on the loop")], [])


@pytest.mark.parametrize("change", ["end", "renew"])
def test_without_connections_no_loop_is_needed(change: str) -> None:
    session = Session("ada")
    session.end() if change == "end" else session.renew(time.time() - 1)
    assert session.ended


async def test_a_connection_that_comes_too_late_ends_at_once() -> None:
    ended, expired = Session("ada"), Session("ada", time.time() - 1)
    ended.end()
    for session in (ended, expired):
        ws = StandIn()
        session.attach(ws, 3000, "over")
        assert ws.ends == [(3000, "over")]


@pytest.mark.parametrize(("code", "reason"), [(1006, ""), (999, ""), (5000, ""), (1000, "x" * 124)])
async def test_a_close_that_may_not_be_sent_is_refused_and_ends_nothing(code: int, reason: str) -> None:
    session, ws = Session("ada"), StandIn()
    with pytest.raises(ValueError, match="close"):
        session.attach(ws, code, reason)
    session.attach(ws)
    with pytest.raises(ValueError, match="close"):
        session.end(code, reason)
    assert (session.ended, ws.ends) == (False, [])


async def test_a_connection_of_others_is_closed_by_what_it_has(caplog: pytest.LogCaptureFixture) -> None:
    closed: list[Any] = []
    done = asyncio.Event()

    class Sync:
        def close(self, code: int, reason: str) -> None:
            closed.append(("sync", code, reason))

    class Async:
        async def close(self, code: int, reason: str) -> None:
            await asyncio.sleep(0)
            closed.append(("async", code, reason))
            done.set()

    class Closed:
        open = False

    session = Session("ada")
    for ws in (Sync(), Async(), Closed()):
        session.attach(ws)
    session.end(4000, "x")
    await asyncio.wait_for(done.wait(), 30)
    assert closed == [("sync", 4000, "x"), ("async", 4000, "x")]
    assert caplog.records == []


async def test_one_that_cannot_be_closed_is_logged_and_the_others_end(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def close(self, code: int, reason: str) -> None:
            raise ZeroDivisionError

    class BrokenLater:
        async def close(self, code: int, reason: str) -> None:
            raise ZeroDivisionError

    session, ws = Session("ada"), StandIn()
    for each in (Broken(), BrokenLater(), object(), ws):
        session.attach(each)
    session.end()
    await turns()
    assert ws.ends == [(1008, "session ended")]
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(messages) == 3
    assert all(message.endswith("could not be closed with its session") for message in messages)


@pytest.mark.parametrize("shared", [True, False], ids=["of one session", "of many"])
async def test_thousands_that_end_together_leave_others_their_turns(shared: bool) -> None:
    sessions = [Session("ada")] if shared else [Session("ada") for _ in range(1000)]
    connections = [StandIn() for _ in range(1000)]
    for at, ws in enumerate(connections):
        sessions[at % len(sessions)].attach(ws)
    for session in sessions:
        session.end()
    ended, counts = 0, []
    while ended < 1000:
        before, ended = ended, sum(len(ws.ends) for ws in connections)
        counts.append(ended - before)
        await asyncio.sleep(0)
    assert counts == [50] * 20
    assert all(session.ended for session in sessions)
    await turns()
    assert closings._ALL == {}


def test_a_loop_that_was_closed_within_a_turn_is_forgotten() -> None:
    async def end() -> StandIn:
        session, ws = Session("ada"), StandIn()
        session.attach(ws)
        session.end()
        return ws

    loop = asyncio.new_event_loop()
    loop.run_until_complete(end())
    loop.close()
    assert list(closings._ALL) == [loop]
    assert asyncio.run(end()).ends == [(1008, "session ended")]
    assert loop not in closings._ALL


async def test_neither_a_session_nor_a_connection_lives_on_after_its_end() -> None:
    session, ws = Session("ada", time.time() + 3600), StandIn()
    session.attach(ws)
    known = [weakref.ref(session), weakref.ref(ws)]
    session.detach(ws)
    del session, ws
    await turns()
    gc.collect()
    assert [ref() for ref in known] == [None, None]


async def test_what_arrived_before_is_delivered_and_what_arrives_after_is_not() -> None:
    peer = Peer()
    received: list[Any] = []
    go_on = asyncio.Event()

    async def handler(ws: Any) -> None:
        await go_on.wait()
        try:
            async for message in ws:
                received.append(message)
        finally:
            received.append(ws.close_code)

    task = await peer.handle(handler)
    session = Session("ada")
    session.attach(peer.ws)
    await peer.feed(text("before"))
    session.end()
    assert peer.sent == [(8, (1008).to_bytes(2, "big") + b"session ended")]
    await peer.feed(text("after"))
    go_on.set()
    with pytest.raises(Exception, match="closed with 1008: session ended"):
        await task
    assert received == ["before", 1008]
    await peer.lose()


async def test_a_connection_that_is_closing_already_is_left_to_it() -> None:
    peer = Peer()
    session = Session("ada")
    session.attach(peer.ws)
    peer.ws.end_connection(1000)
    session.end()
    assert peer.sent == [(8, (1000).to_bytes(2, "big"))]
    await peer.lose()
