"""Compare the extension with its twin: ``python -m tests.differential --streams 1000000 --seed 7``."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from random import SystemRandom
from types import ModuleType
from typing import Any

from .compare import compare, shrink
from .streams import make_stream


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--streams", type=int, default=100_000, help="how many streams to try (%(default)s)")
    parser.add_argument("--seed", type=int, help="what the streams follow from (a random number)")
    parser.add_argument("--start", type=int, default=0, help="the first stream's index (%(default)s)")
    parser.add_argument(
        "--codecs",
        nargs=2,
        default=["ferrows._core", "ferrows._pycore"],
        metavar="MODULE",
        help="what to compare (%(default)s)",
    )
    arguments = parser.parse_args()
    seed = SystemRandom().getrandbits(32) if arguments.seed is None else arguments.seed
    first, second = (importlib.import_module(name) for name in arguments.codecs)
    started = time.perf_counter()
    for index in range(arguments.start, arguments.start + arguments.streams):
        if not check(seed, index, first, second):
            return 1
    took = time.perf_counter() - started
    print(f"{arguments.streams} streams of seed {seed}: no difference in {took:.1f} s")
    return 0


def check(seed: int, index: int, first: ModuleType, second: ModuleType) -> bool:
    """Compare on one stream and print how it can be seen again if there is a difference."""
    stream: Any = None
    try:
        stream = make_stream(seed, index)
        difference = compare(stream, first, second)
    except BaseException:
        # Also a panic of the extension, which is no Exception.
        print(
            f"reproduce with: python -m tests.differential --seed {seed} --start {index} --streams 1", file=sys.stderr
        )
        print(stream, file=sys.stderr)
        raise
    if difference is None:
        return True
    print(shrink(difference, first, second))
    print(f"first is {first.__name__}, second is {second.__name__}")
    print(f"reproduce with: python -m tests.differential --seed {seed} --start {index} --streams 1")
    return False


if __name__ == "__main__":
    sys.exit(main())
