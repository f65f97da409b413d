"""The list of rules has no gap: each number from 1 to 66 has a test that is named for it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent

RULES = range(1, 67)


def rules_of(path: Path) -> set[int]:
    """Return the numbers in the names of a file's tests."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    matches = (re.match(r"test_rule_(\d+)_\w+", function.name) for function in functions)
    return {int(match[1]) for match in matches if match}


def test_every_rule_has_a_test_named_for_it() -> None:
    found = set().union(*(rules_of(path) for path in HERE.glob("test_*.py")))
    assert sorted(set(RULES) - found) == [], "rules without a test"
    assert sorted(found - set(RULES)) == [], "tests for rules that there are not"
