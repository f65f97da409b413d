from __future__ import annotations

import pytest

from benchmarks.spread import Spread, ratios


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        ([3.0], Spread(3.0, 3.0, 3.0, 1)),
        ([9.0, 1.0, 2.0], Spread(2.0, 1.0, 9.0, 3)),
        ([4.0, 1.0, 2.0, 3.0], Spread(2.5, 1.0, 4.0, 4)),
    ],
)
def test_spread_is_the_median_between_the_extremes(values: list[float], expected: Spread | None) -> None:
    assert Spread.of(values) == expected


def test_ratios_are_taken_within_a_round() -> None:
    # In the second round the machine was twice as slow, for both.
    assert ratios({0: 2.0, 1: 4.0}, {0: 1.0, 1: 2.0}) == Spread(2.0, 2.0, 2.0, 2)


def test_ratios_leave_out_rounds_that_one_side_lacks() -> None:
    assert ratios({0: 2.0, 1: 30.0, 2: 6.0}, {0: 1.0, 2: 2.0, 3: 9.0}) == Spread(2.5, 2.0, 3.0, 2)


def test_ratios_of_no_common_round_are_none() -> None:
    assert ratios({0: 2.0}, {1: 1.0}) is None


def test_ratios_do_not_divide_by_zero() -> None:
    assert ratios({0: 2.0, 1: 2.0}, {0: 0.0, 1: 4.0}) == Spread(0.5, 0.5, 0.5, 1)
