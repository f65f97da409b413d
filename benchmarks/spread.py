"""The statistics of a report: medians with their spread, and ratios within a round."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and the smallest and largest value beside it."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """Return the spread of the values, None if there are none."""
        found = sorted(values)
        if not found:
            return None
        return cls(statistics.median(found), found[0], found[-1], len(found))


def ratios(values: Mapping[int, float], base: Mapping[int, float]) -> Spread | None:
    """Return the spread of ``values / base``, each taken within one round.

    The servers of one round were measured one after the other, so what the machine did at the time hits both and
    falls out. Rounds that only one of the two has do not count; None if there is none left.
    """
    return Spread.of(values[number] / base[number] for number in values if base.get(number))
