"""Random streams give the same on the extension and on the twin.

``FERROWS_DIFFERENTIAL_STREAMS`` says how many, ``FERROWS_DIFFERENTIAL_SEED`` which.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random
from types import ModuleType, SimpleNamespace

import pytest

from ferrows import _pycore

from .compare import compare, shrink
from .streams import make_stream

ROOT = Path(__file__).parents[2]

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
STREAMS = int(os.environ.get("FERROWS_DIFFERENTIAL_STREAMS") or (3_000_000 if LONG else 100_000))
SEED = int(os.environ.get("FERROWS_DIFFERENTIAL_SEED") or 20_251_121)


@pytest.mark.timeout(max(120, STREAMS / 200))
@pytest.mark.skipif(bool(os.environ.get("FERROWS_NO_EXTENSIONS")), reason="compared when the extension is chosen")
def test_extension_and_twin_do_the_same(extension_and_twin: tuple[ModuleType, ModuleType]) -> None:
    # In a process of its own, where coverage does not slow the twin down.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-m", "tests.differential", "--streams", str(STREAMS), "--seed", str(SEED)]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
    assert f"{STREAMS} streams of seed {SEED}: no difference" in run.stdout


def test_a_stream_follows_from_its_seed_and_index() -> None:
    assert make_stream(1, 2) == make_stream(1, 2)
    assert make_stream(1, 2) != make_stream(1, 3)
    assert make_stream(1, 2) != make_stream(2, 2)


def test_the_twin_does_the_same_twice() -> None:
    for index in range(300):
        difference = compare(make_stream(1, index), _pycore, _pycore)
        assert difference is None, str(difference)


class ForgetsPongs(_pycore.Connection):
    def hold_pongs(self, hold: bool) -> None:
        self._held_pong = None
        super().hold_pongs(hold)


class EchoesTheReason(_pycore.Connection):
    def data_to_send(self) -> bytes:
        if self._pending_close is not None and self.close_received is not None:
            self._pending_close = self.close_received
        return super().data_to_send()


class SplitsCharacters(_pycore.Connection):
    def _message(self, text: bool, payload: str | bytes, ends: object) -> None:
        super()._message(text, payload.encode()[:-1].decode() if isinstance(payload, str) and ends else payload, ())


class TakesTooMuch(_pycore.Connection):
    def _check_size(self, first: int, length: int) -> None:
        if length != 126:
            super()._check_size(first, length)


class SaysOtherWords(_pycore.Connection):
    def send_ping(self, data: object = b"") -> None:
        try:
            super().send_ping(data)  # type: ignore[arg-type]
        except ValueError:
            raise ValueError("too long") from None


class CountsNoFrames(_pycore.Connection):
    def _charge_frames(self, frames: int) -> None:
        pass


class ChargesTwice(_pycore.Connection):
    def _charge(self, counted: str, amount: int) -> None:
        super()._charge(counted, amount)
        super()._charge(counted, amount)


FLAWED = [ForgetsPongs, EchoesTheReason, SplitsCharacters, TakesTooMuch, SaysOtherWords, CountsNoFrames, ChargesTwice]


@pytest.mark.parametrize("flawed", FLAWED, ids=lambda flawed: flawed.__name__)
def test_a_flaw_is_found_and_its_stream_made_small(flawed: type[_pycore.Connection]) -> None:
    codec = SimpleNamespace(Connection=flawed)
    for index in range(5_000):
        difference = compare(make_stream(7, index), codec, _pycore)
        if difference is not None:
            break
    else:
        pytest.fail("the flaw was not found")
    small = shrink(difference, codec, _pycore)
    assert len(small.stream.steps) <= 6
    assert "first:" in str(small)


def test_masks_are_applied_alike(extension_and_twin: tuple[ModuleType, ModuleType]) -> None:
    extension, twin = extension_and_twin
    random = Random(5)
    for size in [*range(300), 766, 767, 768, 769, 4095, 65_537]:
        data, key = random.randbytes(size), random.randbytes(4)
        assert extension.apply_mask(data, key) == twin.apply_mask(data, key)
