"""Hypothesis drives both ends of a connection in virtual time: sends, pings, closes, cuts, delays and cancellations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ferrows import _pycore
from ferrows.exceptions import WebsocketClosed
from tests.differential.playback import VirtualLoop
from tests.differential.streams import Deflate
from tests.differential.test_websocket import Drops, StaysPaused, over

from . import ends
from .ends import CODECS, End, joined

CLOSE_TIMEOUT = 5
ENDS = st.sampled_from([0, 1])
#: Kilobytes cost the twin time; one large message is enough to be cut, and to be assembled in place.
MESSAGES = st.tuples(st.booleans(), st.sampled_from([0, 0, 1, 30, 300, 20_000]))
#: What ends a connection is not to end most of them before anything has happened.
SELDOM = st.sampled_from([False] * 7 + [True])
SIZES = st.sampled_from([1, 2, 3, 7, 100, 1 << 20])


class BothEnds(RuleBasedStateMachine):
    """A server's end and a client's, each on either codec."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.loop.set_exception_handler(lambda _, context: self.faults.append(repr(context)))
        self.faults: list[str] = []
        self.ends: tuple[End, End] | None = None
        self.cut_off = False
        self.made = 0

    @initialize(
        codecs=st.tuples(st.sampled_from(CODECS), st.sampled_from(CODECS)),
        high_water=st.sampled_from([0, 100, 1 << 30]),
        max_queue=st.sampled_from([1, 3, 32, None]),
        deflate=st.sampled_from([None, Deflate(), Deflate(False, False, threshold=0)]),
    )
    def connect(self, codecs: tuple[str, str], high_water: int, max_queue: int | None, deflate: Deflate | None) -> None:
        self.ends = joined(
            self.loop, codecs, high_water, max_queue=max_queue, deflate=deflate, close_timeout=CLOSE_TIMEOUT
        )

    def message(self, text: bool, size: int) -> str | bytes:
        """Make a message that is like no other, save for the empty ones."""
        self.made += 1
        message = f"{self.made}:" + "\u20ac" * size if size else ""
        return message if text else message.encode()

    def end(self, number: int) -> End:
        assert self.ends is not None
        return self.ends[number]

    # ---- what an end does

    @rule(number=ENDS, drawn=MESSAGES, compress=st.sampled_from([None, None, True, False]))
    def send(self, number: int, drawn: tuple[bool, int], compress: bool | None) -> None:
        end = self.end(number)
        message = self.message(*drawn)

        async def send() -> None:
            try:
                await end.ws.send(message, compress=compress)
            except WebsocketClosed:
                return
            end.sent.append(message)

        end.start(send)
        self.settle()

    @rule(number=ENDS, drawn=st.lists(MESSAGES, min_size=1, max_size=4), pause=st.sampled_from([None, 0, 0.5]))
    def send_fragments(self, number: int, drawn: list[tuple[bool, int]], pause: float | None) -> None:
        end = self.end(number)
        fragments = [str(self.message(True, size)) for _, size in drawn]

        async def slowly() -> AsyncIterator[str]:
            for fragment in fragments:
                if pause is not None:
                    await asyncio.sleep(pause)
                yield fragment

        async def send() -> None:
            try:
                await end.ws.send(slowly())
            except WebsocketClosed:
                return
            end.sent.append("".join(fragments))

        end.start(send)
        self.settle()

    @rule(number=ENDS)
    def ping(self, number: int) -> None:
        end = self.end(number)

        async def ping() -> None:
            try:
                end.pings.append(await end.ws.ping())
            except WebsocketClosed:
                return

        end.start(ping)
        self.settle()

    @precondition(lambda self: any(end.receiver is None or end.receiver.done() for end in self.ends))
    @rule(number=ENDS, count=st.sampled_from([1, 2, 10]), timeout=st.sampled_from([None, 0, 0.3]))
    def receive(self, number: int, count: int, timeout: float | None) -> None:
        end = self.end(number)
        if end.receiver is not None and not end.receiver.done():
            return

        async def receive() -> None:
            for _ in range(count):
                try:
                    end.received.append(await end.ws.recv(timeout))
                except TimeoutError:
                    continue
                except WebsocketClosed:
                    return

        end.receiver = end.start(receive)
        self.settle()

    @rule(number=ENDS, at_once=st.booleans())
    def cancel_receiving(self, number: int, at_once: bool) -> None:
        """Cancel a receive, perhaps in the same turn in which its message arrives."""
        end = self.end(number)
        if at_once:
            end.other.deliver(1 << 20)
        if end.receiver is not None:
            self.loop.call_soon(end.receiver.cancel)
        self.settle()

    @rule(number=ENDS, hold=st.booleans())
    def hold_frames(self, number: int, hold: bool) -> None:
        ws = self.end(number).ws
        self.loop.call_soon(ws.pause_frames if hold else ws.resume_frames)
        self.settle()

    @rule(number=ENDS, code=st.sampled_from([1000, 1001, 3000, 4999]), reason=st.text("aé€", max_size=4), really=SELDOM)
    def close(self, number: int, code: int, reason: str, really: bool) -> None:
        if not really:
            return
        end = self.end(number)
        end.closed_first |= end.ws.open and end.ws.close_received is None
        end.start(lambda: end.ws.close(code, reason))
        self.settle()

    @rule(number=ENDS, really=SELDOM)
    def fail(self, number: int, really: bool) -> None:
        if not really:
            return
        end = self.end(number)
        self.loop.call_soon(end.ws.fail_connection, 1011, "given up")
        self.settle()

    # ---- what the network does

    @rule(number=ENDS, size=SIZES, count=st.sampled_from([1, 5]))
    def deliver(self, number: int, size: int, count: int) -> None:
        for _ in range(count):
            self.end(number).deliver(size)
            self.settle()

    @rule(seconds=st.sampled_from([0.1, 1, CLOSE_TIMEOUT + 1]))
    def wait(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @rule(really=SELDOM)
    def cut(self, really: bool) -> None:
        """Cut the line: what was on it is lost."""
        if not really:
            return
        self.cut_off = True
        for number in (0, 1):
            self.end(number).wire.lose()
        self.settle()

    # ---- what must hold

    @invariant()
    def nothing_is_wrong(self) -> None:
        if self.ends is None:
            return
        assert not self.faults, self.faults
        for end in self.ends:
            assert not end.faults, end.faults
            # In order, none twice, none left out before the last that came.
            assert end.received == end.other.sent[: len(end.received)], end.name
            if end.wire.lost:
                assert end.ws.closed

    def teardown(self) -> None:
        try:
            if self.ends is not None:
                self.finish(*self.ends)
        finally:
            # Only where something failed is anything left.
            for task in (left := asyncio.all_tasks(self.loop)):
                task.cancel()
            if left:
                self.loop.go_on()
                self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self.loop.close()

    def finish(self, server: End, client: End) -> None:
        """Receive everything, close if nobody has, let the line work until both have ended, and judge."""
        for end in (server, client):
            if end.receiver is not None:
                end.receiver.cancel()
        self.settle()
        # Messages that one end may yet want when it closes were sent by now.
        for end in (server, client):
            end.ws.resume_frames()
            end.receiver = end.start(lambda end=end: self.receive_rest(end))
        self.settle()
        self.pump(until_quiet=True)
        if server.ws.open and client.ws.open:
            assert server.received == client.sent and client.received == server.sent
            server.closed_first = True
            server.start(server.ws.close)
        self.pump()
        # Fragments that are slow in coming; after that nobody may wait for anything.
        self.run(asyncio.sleep(3))
        self.nothing_is_wrong()
        for end in (server, client):
            assert end.wire.lost, f"{end.name} has not ended"
            assert [task for task in end.tasks if not task.done()] == [], f"tasks of {end.name} are left"
            assert all(ping.done() for ping in end.pings)
            for task in end.tasks:
                assert task.cancelled() or task.exception() is None, task
        assert asyncio.all_tasks(self.loop) == set()
        if not (self.cut_off or server.aborted or client.aborted or server.ws.failure or client.ws.failure):
            self.judge_clean_end(server, client)

    def judge_clean_end(self, server: End, client: End) -> None:
        """Whoever did not close first has received everything; both know the same of how it ended."""
        for end in (server, client):
            assert end.ws.close_received == end.other.ws.close_sent
            assert end.ws.close_received is not None
            if not end.closed_first:
                assert end.received == end.other.sent, f"{end.name} has missed something"
        if not (server.closed_first and client.closed_first):
            assert server.ws.close_code == client.ws.close_code
            assert server.ws.close_code in (1000, 1001, 3000, 4999)

    async def receive_rest(self, end: End) -> None:
        while True:
            try:
                end.received.append(await end.ws.recv())
            except WebsocketClosed:
                return

    # ---- the loop

    def pump(self, until_quiet: bool = False) -> None:
        """Let the line work until both ends are lost, or nobody waits for anything but messages."""
        assert self.ends is not None
        for _ in range(500):
            if all(end.wire.lost for end in self.ends) or (until_quiet and self.is_quiet()):
                return
            for end in self.ends:
                end.deliver(1 << 20)
                self.settle()
            self.run(asyncio.sleep(0.1))
        raise AssertionError("no end")

    def is_quiet(self) -> bool:
        assert self.ends is not None
        tasks = [task for end in self.ends for task in end.tasks if task is not end.receiver]
        return all(task.done() for task in tasks) and not any(end.wire.waiting for end in self.ends)

    def settle(self) -> None:
        """Let the loop turn until everything has happened that has a reason to."""
        self.run(_turns(6))

    def run(self, work: Any) -> None:
        self.loop.go_on()
        self.loop.run_until_complete(work)
        if self.ends is not None:
            for end in self.ends:
                end.end_if_done()
            self.loop.run_until_complete(_turns(3))


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


TestBothEnds = BothEnds.TestCase
TestBothEnds.settings = settings(stateful_step_count=30)


@pytest.mark.parametrize("flawed", [Drops, StaysPaused], ids=lambda flawed: flawed.__name__)
def test_a_flaw_of_one_end_is_found(flawed: type[_pycore.MessageStream], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "websocket", lambda codec: over(flawed))
    quick = settings(max_examples=300, stateful_step_count=30, phases=[Phase.generate], database=None, derandomize=True)
    with pytest.raises((AssertionError, BaseExceptionGroup)):
        run_state_machine_as_test(BothEnds, settings=quick)
