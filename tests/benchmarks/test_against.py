from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.against import AFTER, BEFORE, report
from benchmarks.results import Run
from benchmarks.scenarios import ECHO_ONE

if TYPE_CHECKING:
    from tests.benchmarks.conftest import MadeUpRun


def test_table_has_both_and_their_ratio_within_a_round(made_up: MadeUpRun) -> None:
    made_up.add(ECHO_ONE.name, BEFORE, 10.0, 20.0, 40.0)
    made_up.add(ECHO_ONE.name, AFTER, 10.0, 21.0, 44.0)
    text = report(
        Run(made_up.document | {"servers": [{"name": name, "kind": "ours"} for name in (BEFORE, AFTER)]}), "abcdef"
    )
    assert f"| {ECHO_ONE.title} | CPU us | 20.0 | 21.0 | 1.05 | 1.00-1.10 | 1.00 |" in text
    assert "before, abcdef" in text
    assert "after, 0123456789ab" in text
    assert "3 rounds" in text


def test_what_was_not_measured_is_shown_as_such(made_up: MadeUpRun) -> None:
    run = Run(made_up.document)
    rows = [row for row in report(run, "abcdef").splitlines() if row.startswith("| ")]
    assert len(rows) == len(run.scenarios) + 2  # the head and the line below it
    assert all(row.count(" - ") == 5 for row in rows[2:])
