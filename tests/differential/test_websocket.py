"""A ``Websocket`` does the same on the extension and on the twin: random peers, transports and handlers.

``FERROWS_DIFFERENTIAL_STREAMS`` says how many, one session for a hundred streams, ``FERROWS_DIFFERENTIAL_SEED`` which.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ferrows import _pycore
from ferrows._pycore.receive import Mode
from ferrows.websocket import Websocket

from .__main__ import main
from .playback import compare_sessions, copy_of, play, websocket_on
from .sessions import make_session

ROOT = Path(__file__).parents[2]

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
STREAMS = int(os.environ.get("FERROWS_DIFFERENTIAL_STREAMS") or (3_000_000 if LONG else 100_000))
SESSIONS = max(1, STREAMS // 100)
SEED = int(os.environ.get("FERROWS_DIFFERENTIAL_SEED") or 20_251_121)


@pytest.mark.timeout(max(120, SESSIONS / 5))
@pytest.mark.skipif(bool(os.environ.get("FERROWS_NO_EXTENSIONS")), reason="compared when the extension is chosen")
def test_a_websocket_does_the_same_on_both_codecs(extension_and_twin: tuple[ModuleType, ModuleType]) -> None:
    # In a process of its own, where coverage does not slow the twin down.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-m", "tests.differential", "--sessions", str(SESSIONS), "--seed", str(SEED)]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
    assert f"{SESSIONS} sessions of seed {SEED}: no difference" in run.stdout


def test_a_session_follows_from_its_seed_and_index() -> None:
    assert make_session(1, 2) == make_session(1, 2)
    assert make_session(1, 2) != make_session(1, 3)
    assert make_session(1, 2) != make_session(2, 2)


def test_the_twin_plays_a_session_twice_alike() -> None:
    twin = websocket_on(_pycore, "websocket_on_twin")
    for index in range(30):
        assert compare_sessions(make_session(1, index), twin, twin) is None


def test_sessions_reach_what_they_are_to_compare() -> None:
    twin = websocket_on(_pycore, "websocket_on_twin")
    seen = set()
    for index in range(100):
        for entry in play(make_session(1, index), twin).entries:
            seen.add(entry[1] if entry[0].startswith("handler") else entry[0])
    assert seen >= {"receive", "iterate", "burst", "stream", "sent", "sent fragments", "pinged", "closed"}
    assert seen >= {"write", "pause_reading", "resume_reading", "write_eof", "abort"}


class Drops(_pycore.MessageStream):
    """Loses a message when three wait."""

    __slots__ = ()

    def take(self, mode: Mode) -> Any:
        if len(self._queue) == 3:
            self._pop(mode)
        return super().take(mode)


class Repeats(_pycore.MessageStream):
    """Leaves a message in the queue that ``recv_burst`` returns."""

    __slots__ = ()

    def take_messages(self, limit: int) -> list[str | bytes]:
        last = self._queue[-1] if self._queue else None
        messages = super().take_messages(limit)
        if len(messages) > 1 and last is not None:
            self._append(last)
        return messages


class StaysPaused(_pycore.MessageStream):
    """Does not read on once the queue is empty again."""

    __slots__ = ()

    def _adjust_reading(self) -> None:
        if not self.read_paused or self._queue or self._frames_paused:
            super()._adjust_reading()


class SendsAfterClose(_pycore.MessageStream):
    """Writes what was gathered in a turn after the Close."""

    __slots__ = ()

    def _settle(self) -> None:
        closing = self.close_sent is not None and self.state == _pycore.CLOSING
        super()._settle()
        if closing and self.transport is not None:
            self.transport.write(b"\x8a\x00")


FAULTY = [Drops, Repeats, StaysPaused, SendsAfterClose]


@pytest.mark.parametrize("flawed", FAULTY, ids=lambda flawed: flawed.__name__)
def test_what_is_wrong_on_both_codecs_is_found(flawed: type[_pycore.MessageStream]) -> None:
    websocket = over(flawed)
    for index in range(300):
        if play(make_session(7, index), websocket).faults:
            return
    pytest.fail("the flaw was not found")


def one_message_less_in_a_turn() -> type[_pycore.MessageStream]:
    stream = copy_of("ferrows._pycore.stream", "stream_of_shorter_turns")
    stream.TURN_MESSAGES -= 1
    return stream.MessageStream  # type: ignore[no-any-return]


class WritesEachAnswer(_pycore.MessageStream):
    """Does not gather what is sent in a turn into one write."""

    __slots__ = ()

    def _leave_or_wait(self) -> None:
        self._flush(before_close=True)
        super()._leave_or_wait()


class CountsCharacters(_pycore.MessageStream):
    """Takes the length of a text for its bytes."""

    __slots__ = ()

    def _count_sent(self, data: Any, fin: bool) -> None:
        self.messages_sent += fin
        self.bytes_sent += len(data)


DIFFERENT = [one_message_less_in_a_turn, WritesEachAnswer, CountsCharacters]


@pytest.mark.parametrize("different", DIFFERENT, ids=lambda different: different.__name__)
def test_a_difference_is_found(different: Callable[..., Any]) -> None:
    twin = websocket_on(_pycore, "websocket_on_twin")
    other = over(different if isinstance(different, type) else different())
    for index in range(300):
        difference = compare_sessions(make_session(7, index), other, twin)
        if difference is not None:
            assert "first:" in difference and "second:" in difference
            return
    pytest.fail("the difference was not found")


def test_a_difference_comes_with_what_reproduces_it(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["differential", "--sessions", "300", "--seed", "7", "--codecs", "ferrows._pycore", __name__]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", command)
        assert main() == 1
    printed = capsys.readouterr().out
    found = re.search(r"reproduce with: python -m tests.differential --seed 7 --start (\d+) --sessions 1", printed)
    assert found is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [*command, "--start", found[1], "--sessions", "1"])
        assert main() == 1
    assert capsys.readouterr().out == printed


def over(stream: type[_pycore.MessageStream]) -> type[Websocket]:
    codec = SimpleNamespace(MessageStream=stream, OPEN=_pycore.OPEN, CLOSED=_pycore.CLOSED)
    return websocket_on(codec, f"websocket_on_{stream.__name__}")


# What the command line takes for a codec when it is given this module's name.
MessageStream, OPEN, CLOSED = Drops, _pycore.OPEN, _pycore.CLOSED
