"""Deadlines that share a timer; in virtual time."""

from __future__ import annotations

import asyncio
import logging

import pytest
from http_harness import VirtualLoop, run

from ferrows.deadlines import A_TURN, Deadlines, deadlines


class Watched:
    """Notes when it was told; ``again`` is what it adds itself to then."""

    def __init__(self, loop: asyncio.AbstractEventLoop, again: Deadlines | None = None) -> None:
        self.loop = loop
        self.again = again
        self.told: list[float] = []

    def deadline_passed(self) -> None:
        self.told.append(self.loop.time())
        if self.again is not None:
            self.again.add(self)


class Failing(Watched):
    def deadline_passed(self) -> None:
        super().deadline_passed()
        raise ValueError("no")


def timers(loop: asyncio.AbstractEventLoop) -> int:
    return len([timer for timer in loop._scheduled if not timer.cancelled()])  # type: ignore[attr-defined]


def test_each_is_told_in_time_by_one_timer() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        start, before = loop.time(), timers(loop)
        ten = deadlines(loop, 10)
        watched = []
        for _ in range(5):
            watched.append(Watched(loop))
            assert ten.add(watched[-1]) == loop.time() + 10
            await asyncio.sleep(1)
        assert timers(loop) == before + 1
        assert len(ten) == 5
        await asyncio.sleep(20)
        assert [one.told for one in watched] == [[start + 10 + number] for number in range(5)]
        assert timers(loop) == before

    run(main())


def test_many_at_once_are_told_over_several_turns_and_none_is_forgotten() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        start, before = loop.time(), timers(loop)
        ten = deadlines(loop, 10)
        watched = [Watched(loop) for _ in range(3 * A_TURN + 1)]
        for one in watched:
            ten.add(one)
        told: list[int] = []
        while not told or told[-1] < len(watched):
            await asyncio.sleep(0 if told else 10)
            told.append(sum(len(one.told) for one in watched))
        assert max(after - earlier for earlier, after in zip([0, *told], told, strict=False)) <= A_TURN
        assert all(one.told == [start + 10] for one in watched)
        assert timers(loop) == before

    run(main())


def test_what_is_discarded_is_not_told_and_the_rest_is_not_late() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        start, ten, first, second = loop.time(), deadlines(loop, 10), Watched(loop), Watched(loop)
        ten.add(first)
        await asyncio.sleep(3)
        ten.add(second)
        ten.discard(first)
        ten.discard(first)
        await asyncio.sleep(30)
        assert (first.told, second.told) == ([], [start + 13])

    run(main())


def test_added_again_it_begins_anew() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        start, ten, first, second = loop.time(), deadlines(loop, 10), Watched(loop), Watched(loop)
        ten.add(first)
        ten.add(second)
        await asyncio.sleep(5)
        ten.add(first)
        await asyncio.sleep(30)
        assert (first.told, second.told) == ([start + 15], [start + 10])

    run(main())


def test_one_that_waits_again_from_within_makes_no_other_late() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        start, before = loop.time(), timers(loop)
        ten = deadlines(loop, 10)
        repeated, other = Watched(loop, ten), Watched(loop)
        ten.add(repeated)
        await asyncio.sleep(4)
        ten.add(other)
        await asyncio.sleep(17)
        assert other.told == [start + 14]
        assert repeated.told == [start + 10, start + 20]
        assert timers(loop) == before + 1
        ten.discard(repeated)

    run(main())


def test_one_that_fails_is_logged_and_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        failing, other = Failing(loop), Watched(loop)
        deadlines(loop, 10).add(failing)
        deadlines(loop, 10).add(other)
        with caplog.at_level(logging.ERROR):
            await asyncio.sleep(11)
        assert len(failing.told) == len(other.told) == 1
        assert [record.name for record in caplog.records] == ["ferrows.error"]

    run(main())


def test_time_that_the_loop_was_late_is_given_back() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        ten = deadlines(loop, 10)
        first, second, third = Watched(loop), Watched(loop), Watched(loop)
        ten.add(first)
        await asyncio.sleep(4)
        ten.add(second)
        start = loop.now
        # What blocks the loop, or stops the process: the first is due after 6 of these seconds, 3 late.
        loop.now += 9
        await asyncio.sleep(0.5)
        assert (first.told, second.told) == ([], [])
        ten.add(third)
        await asyncio.sleep(20)
        assert first.told == [start + 9 + 3]
        assert second.told == [start + 10 + 3]
        assert third.told == [start + 9.5 + 10]

    run(main())


def test_an_hour_gives_nobody_more_than_the_time_that_there_is() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        first, second = Watched(loop), Watched(loop)
        deadlines(loop, 10).add(first)
        deadlines(loop, 10).add(second)
        loop.now += 3600
        again = loop.now
        await asyncio.sleep(11)
        assert first.told == second.told == [again + 10]

    run(main())


def test_loop_that_is_always_late_keeps_nobody_for_ever() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        watched = Watched(loop)
        start = loop.now
        deadlines(loop, 10).add(watched)
        while not watched.told:
            loop.now += 3
            await asyncio.sleep(0)
        assert watched.told[0] - start <= 2 * (10 + 3)

    run(main())


def test_durations_that_nobody_waits_for_are_forgotten() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        first = deadlines(loop, 10)
        assert deadlines(loop, 10) is first
        first.add(Watched(loop))
        await asyncio.sleep(11)
        assert deadlines(loop, 10) is not first

    run(main())


def test_loops_have_their_own() -> None:
    one, other = VirtualLoop(), VirtualLoop()
    try:
        assert deadlines(one, 1) is not deadlines(other, 1)
    finally:
        one.close()
        other.close()
