"""The page of the command line is the command line's."""

from __future__ import annotations

import re
from pathlib import Path

from ferrows.cli.options import GROUPS, Option

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def row(option: Option) -> str:
    names = (*option.names, *option.negatives)
    return f"| {', '.join(f'`{name}`' for name in names)} | `{option.variable}` | {option.help} |"


def test_page_names_every_option_and_its_variable() -> None:
    text = PAGE.read_text("utf-8")
    documented = {
        title: re.findall(r"^\| `-.*$", section, re.MULTILINE)
        for title, _, section in (part.partition("\n") for part in re.split(r"^#+ ", text, flags=re.MULTILINE))
        if re.search(r"^\| option \|", section, re.MULTILINE)
    }
    assert documented == {
        title[0].upper() + title[1:]: [row(each) for each in group] for title, group in GROUPS.items()
    }
