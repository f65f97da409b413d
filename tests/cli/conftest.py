"""Fixtures of the command line's tests: modules to be named, and what ``App.run`` was told."""

from __future__ import annotations

import logging
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ferrows import App
from ferrows.cli.main import main

Write = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave no module, path or level behind, and let no variable of the environment in."""
    for name in [name for name in os.environ if name.startswith("FERROWS_") and "_NO_" not in name]:
        monkeypatch.delenv(name)
    modules, path = set(sys.modules), list(sys.path)
    levels = {name: logging.getLogger(name).level for name in ("ferrows", "ferrows.access")}
    yield
    for name in set(sys.modules) - modules:
        if not name.startswith(("ferrows", "uvloop")):
            del sys.modules[name]
    sys.path[:] = path
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a module into the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, source: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))
        return path

    return write


class Runs(list[tuple[App, dict[str, Any]]]):
    """The apps that were run, and the arguments of ``App.run``."""

    @property
    def only(self) -> tuple[App, dict[str, Any]]:
        [run] = self
        return run


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Record what would run."""
    found = Runs()
    monkeypatch.setattr(App, "run", lambda app, **options: found.append((app, options)))
    return found


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Carry a command line out that fails; return the last line of what it says, which is the only one of ferrows's."""

    def fails(*argv: str, code: int = 3) -> str:
        assert main(argv) == code
        out, err = capsys.readouterr()
        assert out == ""
        *trace, line = err.splitlines()
        assert line.startswith("ferrows: ")
        assert not any(each.startswith("ferrows: ") for each in trace)
        fails.trace = "\n".join(trace)  # type: ignore[attr-defined]
        return line.removeprefix("ferrows: ")

    return fails
