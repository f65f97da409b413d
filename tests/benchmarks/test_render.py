from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.render import by_size, detail, extents, failures, number, one_line, report
from benchmarks.results import CPU, RSS, WIRE, Run
from benchmarks.scenarios import DEFLATE_ONE, ECHO_ONE, FIXED_RATE, IDLE, KIB, MATRIX_SERVERS, quick

if TYPE_CHECKING:
    from tests.benchmarks.conftest import MadeUpRun


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (0.01667, "0.017"),
        (0.4567, "0.457"),
        (0.99949, "0.999"),
        (0.9996, "1.00"),
        (7.456, "7.46"),
        (9.996, "10.0"),
        (23.45, "23.4"),
        (99.96, "100"),
        (123_456.7, "123,457"),
    ],
)
def test_number_has_three_digits_that_count(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("text", "line"),
    [("a\nb: c\n\n", "b: c"), ("", "no reason was given"), ("x" * 400, "x" * 300)],
)
def test_one_line_is_the_last_that_says_something(text: str, line: str) -> None:
    assert one_line(text) == line


def rows(markdown: str) -> list[list[str]]:
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_rows_are_in_the_order_of_their_cost_and_none_is_left_out(made_up: MadeUpRun) -> None:
    made_up.add(ECHO_ONE.name, "ferrows", 8.0, 9.0, 7.0)
    made_up.add(ECHO_ONE.name, "aiohttp", 16.0, 18.0, 7.0)
    made_up.add(ECHO_ONE.name, "picows, callback", 4.0, 4.0, 4.0)  # we lose
    found = rows(detail(Run(made_up.document), ECHO_ONE))
    assert [row[0] for row in found[2:]] == ["picows, callback", "**ferrows**", "aiohttp"]
    assert found[3] == ["**ferrows**", "8.00", "7.00-9.00", "1.00 x", "125,000", "16.0", "24.0", "32.0"]
    assert found[4][:4] == ["aiohttp", "16.0", "7.00-18.0", "2.00 x"]


def test_failed_rounds_do_not_count(made_up: MadeUpRun) -> None:
    made_up.add(ECHO_ONE.name, "ferrows", 8.0)
    made_up.add(ECHO_ONE.name, "Sanic", 30.0)
    made_up.fail(ECHO_ONE.name, "Sanic", "Traceback\nOSError: gone", number=1)
    run = Run(made_up.document)
    assert run.values(ECHO_ONE.name, "Sanic", CPU) == {0: 30.0}
    assert failures(run) == f"- Sanic, {ECHO_ONE.name}, 1 of 2 rounds: OSError: gone"


def test_a_missing_peer_is_named_with_its_reason(made_up: MadeUpRun) -> None:
    next(server for server in made_up.document["servers"] if server["name"] == "socketify")["missing"] = "no wheel"
    assert "- socketify is missing: no wheel" in report(Run(made_up.document))


def test_without_failures_the_section_says_so(made_up: MadeUpRun) -> None:
    assert failures(Run(made_up.document)) == "Nothing."


def test_idle_table_shows_bytes(made_up: MadeUpRun) -> None:
    made_up.add(IDLE.name, "ferrows", 1.0, rss_bytes={"before": 1, "after": 2, "per_connection": 2500})
    made_up.add(IDLE.name, "aiohttp", 1.0, rss_bytes={"before": 1, "after": 2, "per_connection": 15_000})
    run = Run(made_up.document)
    assert run.values(IDLE.name, "ferrows", RSS) == {0: 2500}
    assert rows(detail(run, IDLE))[3] == ["aiohttp", "15,000", "15,000-15,000", "6.00 x"]


def test_compressed_table_shows_bytes_on_the_wire_and_what_was_negotiated(made_up: MadeUpRun) -> None:
    made_up.add(DEFLATE_ONE.name, "ferrows", 9.0, bytes_in=612_000, negotiated_extensions="permessage-deflate; x")
    run = Run(made_up.document)
    assert run.values(DEFLATE_ONE.name, "ferrows", WIRE) == {0: 612.0}
    assert rows(detail(run, DEFLATE_ONE))[2][-2:] == ["612", "deflate; x"]


def test_fixed_rate_table_is_about_latency(made_up: MadeUpRun) -> None:
    made_up.add(FIXED_RATE.name, "ferrows", 9.0)
    assert rows(detail(Run(made_up.document), FIXED_RATE))[0][1] == "p99 us"


def test_sizes_of_a_group_are_the_columns(made_up: MadeUpRun) -> None:
    run = Run(made_up.document)
    group = [run.scenarios[f"echo-{size}-text-50x1"] for size in ("8B", "4KiB", "1MiB")]
    made_up.add(group[0].name, "ferrows", 2.0)
    made_up.add(group[0].name, "aiohttp", 3.0)
    made_up.add(group[2].name, "aiohttp", 700.0)
    found = rows(by_size(Run(made_up.document), group, CPU))
    assert found[0] == ["", "8 B", "4 KiB", "1 MiB"]
    assert found[2:] == [["**ferrows**", "2.00 (1.00)", "-", "-"], ["aiohttp", "3.00 (1.50)", "-", "700"]]


def test_report_says_where_and_when_by_the_run_alone(made_up: MadeUpRun) -> None:
    text = report(
        Run(made_up.document), sources={made_up.document["started"]: "results/x.json"}, plots=["plots/a-b.svg"]
    )
    for expected in (
        "2031-02-03 04:05 UTC, 11 minutes",
        "A Processor, 2 cores, 8 GiB, Linux 9.8.7",
        "5.6.7, commit 0123456789ab, rustc 9.9.9",
        "CPython 3.99.1",
        "on core 6",
        "on core 7",
        "aiohttp 8.8.8",
        "uvloop 7.7.7",
        "[x.json](results/x.json)",
        "![a b](plots/a-b.svg)",
    ):
        assert expected in text


def test_stopped_run_and_changed_code_are_named(made_up: MadeUpRun) -> None:
    made_up.document["complete"] = False
    made_up.document["ferrows"]["modified"] = True
    text = report(Run(made_up.document))
    assert "The run was stopped before its end." in text
    assert "commit 0123456789ab, with changes" in text


def test_report_of_a_run_without_measurements_has_no_figures(made_up: MadeUpRun) -> None:
    text = report(Run(made_up.document))
    aims = text.partition("## Aims")[2].partition("## Echo")[0]
    assert aims.count("not measured |") == len(rows(aims)) - 2
    figures = text.partition("## Echo")[2].partition("## Servers")[0]
    assert not [row for row in rows(figures) if row[1:] != [""] and re.search(r"\d x", " ".join(row))]


def test_quick_report_has_the_main_table(made_up_quick: MadeUpRun) -> None:
    for scenario in quick():
        made_up_quick.add(scenario.name, "ferrows", 8.0, rss_bytes={"per_connection": 3 * KIB})
    text = report(Run(made_up_quick.document))
    for scenario in quick():
        assert f"### {scenario.title[0].upper()}{scenario.title[1:]}" in text
    assert "## Broadcast" not in text


def test_report_says_what_was_measured_how_often(made_up: MadeUpRun) -> None:
    made_up.add(ECHO_ONE.name, "ferrows", 8.0, 8.0, 8.0)
    made_up.add(ECHO_ONE.name, "aiohttp", 8.0, 8.0)
    made_up.add("echo-8B-text-1x1", "ferrows", 8.0)
    found = {row[0]: row[1:] for row in rows(extents(Run(made_up.document)))}
    assert found["echo"] == ["6", "3", "0.8 s after 0.2 s", "all that have it, 2"]
    # It has a process of its own.
    assert found["opening a connection"][0] == "1"
    assert found["text on 1"] == ["12", "1", "0.4 s after 0.1 s", ", ".join(MATRIX_SERVERS)]
    assert found["10,000 idle connections"][0] == "1"


def test_plots_are_the_same_for_the_same_run(made_up: MadeUpRun, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.plots import draw

    for size in ("32B", "4KiB"):
        made_up.add(f"echo-{size}-text-50x1", "ferrows", 8.0, 9.0)
        made_up.add(f"echo-{size}-text-50x1", "aiohttp", 16.0)
    run = Run(made_up.document)
    first, second = draw(run, tmp_path / "one"), draw(run, tmp_path / "two")
    assert [file.name for file in first] == [f"{ECHO_ONE.name}.svg", "echo-by-size-1-in-flight.svg"]
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]
    assert "aiohttp" in first[0].read_text("utf-8")


def test_later_run_gives_what_it_measured_anew_as_a_whole(made_up: MadeUpRun) -> None:
    later = type(made_up)([ECHO_ONE])
    later.document.update(started="2031-03-04T05:06:07+00:00", seconds=60.0, versions={"aiohttp": "9.0.0"})
    for run, cpu in ((made_up, 8.0), (later, 6.0)):
        run.add(ECHO_ONE.name, "ferrows", cpu)
    made_up.add(ECHO_ONE.name, "aiohttp", 16.0)  # the later run does not have it
    made_up.add(IDLE.name, "ferrows", 1.0, rss_bytes={"per_connection": 3000})
    run = Run(made_up.document).renewed(Run(later.document))
    assert list(run.scenarios) == list(Run(made_up.document).scenarios)
    assert run.values(ECHO_ONE.name, "ferrows", CPU) == {0: 6.0}
    assert not run.values(ECHO_ONE.name, "aiohttp", CPU)
    assert run.values(IDLE.name, "ferrows", RSS) == {0: 3000.0}
    sources = {made_up.document["started"]: "results/a.json", later.document["started"]: "results/b.json"}
    text = report(run, sources=sources)
    total = len(made_up.document["scenarios"])
    assert "[a.json](results/a.json)" in text and f"| Scenarios of it | {total - 1} of {total} |" in text
    assert "[b.json](results/b.json)" in text and "| Scenarios of it | all: " + ECHO_ONE.name + " |" in text


def test_run_of_which_nothing_is_left_is_not_named(made_up: MadeUpRun) -> None:
    earlier = type(made_up)([ECHO_ONE])
    earlier.document["started"] = "2030-01-01T00:00:00+00:00"
    assert [part.document["started"] for part in Run(earlier.document).renewed(Run(made_up.document)).parts] == [
        made_up.document["started"]
    ]
