from __future__ import annotations

import pytest

from benchmarks.page import inserted, markers, table


def test_table_escapes_what_would_end_a_cell() -> None:
    assert table(("a", "b"), [("1|2", "3")]) == "| a | b |\n| --- | --- |\n| 1\\|2 | 3 |"


def test_only_what_is_between_the_markers_is_replaced() -> None:
    begin, end = markers("bench-x")
    other = "\n".join(markers("bench-y"))
    page = f"before\n{begin}\nold\n{end}\nafter\n{other}"
    assert inserted(page, "new", "bench-x") == f"before\n{begin}\n\nnew\n\n{end}\nafter\n{other}"
    assert inserted(inserted(page, "new", "bench-x"), "new", "bench-x") == inserted(page, "new", "bench-x")
    with pytest.raises(ValueError, match="begin"):
        inserted("no markers", "new", "bench-x")
