"""Markdown that is generated: tables, and parts of a page between markers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [_row(head), "|" + "|".join(" --- " for _ in head) + "|"]
    lines += [_row(row) for row in rows]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def markers(target: str) -> tuple[str, str]:
    """Return what stands before and after the part of a page that a target of make writes."""
    return f"<!-- make {target}: begin -->", f"<!-- make {target}: end -->"


def inserted(page: str, text: str, target: str) -> str:
    """Return the page with ``text`` between a target's markers; ValueError if they are not there."""
    first, last = markers(target)
    before, begin, rest = page.partition(first)
    _, end, after = rest.partition(last)
    if not (begin and end):
        raise ValueError(f"the page has no {first!r} with {last!r} after it")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"
