"""Compare the extension with its twin: ``python -m tests.differential --streams 1000000 --seed 7``."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable
from random import SystemRandom
from types import ModuleType
from typing import Any, TypeAlias

from .compare import compare, shrink
from .playback import compare_sessions, websocket_on
from .sessions import make_session
from .streams import make_stream

#: Compares on what belongs to a seed and an index, and tells the difference.
Check: TypeAlias = Callable[[int, int], str | None]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--streams", type=int, default=100_000, help="how many streams to try (%(default)s)")
    what.add_argument("--sessions", type=int, help="how many sessions of a Websocket to try instead of streams")
    parser.add_argument("--seed", type=int, help="what the streams or sessions follow from (a random number)")
    parser.add_argument("--start", type=int, default=0, help="the first one's index (%(default)s)")
    parser.add_argument(
        "--codecs",
        nargs=2,
        default=["ferrows._core", "ferrows._pycore"],
        metavar="MODULE",
        help="what to compare (%(default)s)",
    )
    arguments = parser.parse_args()
    seed = SystemRandom().getrandbits(32) if arguments.seed is None else arguments.seed
    codecs = [importlib.import_module(name) for name in arguments.codecs]
    kind, count, check = (
        ("streams", arguments.streams, stream_check(*codecs))
        if arguments.sessions is None
        else ("sessions", arguments.sessions, session_check(*codecs))
    )
    started = time.perf_counter()
    for index in range(arguments.start, arguments.start + count):
        reproduction = f"reproduce with: python -m tests.differential --seed {seed} --start {index} --{kind} 1"
        try:
            difference = check(seed, index)
        except BaseException:
            # Also a panic of the extension, which is no Exception.
            print(reproduction, file=sys.stderr)
            raise
        if difference is not None:
            print(difference)
            print(f"first is {codecs[0].__name__}, second is {codecs[1].__name__}")
            print(reproduction)
            return 1
    took = time.perf_counter() - started
    print(f"{count} {kind} of seed {seed}: no difference in {took:.1f} s")
    return 0


def stream_check(first: ModuleType, second: ModuleType) -> Check:
    """Return what compares the codecs on a stream."""

    def check(seed: int, index: int) -> str | None:
        stream: Any = None
        try:
            stream = make_stream(seed, index)
            difference = compare(stream, first, second)
        except BaseException:
            print(stream, file=sys.stderr)
            raise
        return None if difference is None else str(shrink(difference, first, second))

    return check


def session_check(first: ModuleType, second: ModuleType) -> Check:
    """Return what compares ``Websocket`` over the codecs on a session."""
    one, other = websocket_on(first, "websocket_on_first"), websocket_on(second, "websocket_on_second")

    def check(seed: int, index: int) -> str | None:
        return compare_sessions(make_session(seed, index), one, other)

    return check


if __name__ == "__main__":
    sys.exit(main())
