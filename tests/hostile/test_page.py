"""The page of what hostile clients did."""

from __future__ import annotations

from pathlib import Path

import pytest

from .attacks import ATTACKS
from .page import Result, render
from .stimulus import Finding, Stimulus, size

PAGE = Path(__file__).parents[2] / "docs" / "resilience.md"


def stimulus(name: str, title: str) -> Stimulus:
    return Stimulus(name, title, "it must hold", lambda server, full: Finding())


def test_page_has_an_overview_and_a_table_for_each_stimulus() -> None:
    first, second = stimulus("one", "one thing"), stimulus("two", "another")
    broken = Finding(["4 MiB pinned", "closed | late"], ["closed | late", "a log line too many"])
    results = [
        Result(first, "ferrows, uvloop", Finding(["nothing pinned"])),
        Result(first, "peer, asyncio", broken),
        Result(second, "ferrows, uvloop", Finding(["fine"])),
    ]
    page = render(results, "a machine", full=True)
    assert "Measured with a machine.\n" in page
    assert "| stimulus | ferrows, uvloop | peer, asyncio |\n| --- | --- | --- |\n" in page
    assert "| one thing | holds | no |\n| another | holds |  |\n" in page
    assert "## One thing\n\nMust hold: it must hold.\n" in page
    assert "| peer, asyncio | 4 MiB pinned; **closed / late**; **a log line too many** |" in page
    assert "short form" in render(results, "a machine", full=False)


def test_page_of_the_documentation_has_every_stimulus() -> None:
    page = PAGE.read_text("utf-8")
    assert [each.name for each in ATTACKS if f"\n## {each.title[0].upper()}{each.title[1:]}\n" not in page] == []
    assert "In the short form" not in page


def test_short_form_hurries_ferrows_alone() -> None:
    hurried = Stimulus("x", "x", "x", lambda server, full: Finding(), ("--stall", "1"), {"A": "1"}, {"B": "2"})
    assert hurried.settings("ferrows", full=False) == (("--stall", "1"), {"A": "1", "B": "2"})
    assert hurried.settings("ferrows", full=True) == ((), {"B": "2"})
    assert hurried.settings("aiohttp", full=False) == ((), {"B": "2"})


@pytest.mark.parametrize(("count", "shown"), [(0, "0 B"), (1023, "1023 B"), (2048, "2 KiB"), (3 * 2**20, "3.0 MiB")])
def test_sizes_are_written_for_people(count: int, shown: str) -> None:
    assert size(count) == shown
