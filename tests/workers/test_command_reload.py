"""``--reload`` and code with errors, in a process of its own."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ferrows

from .harness import Server

GOOD = "from ferrows import App\napp = App('one')\n"
BROKEN = "from ferrows import App\napp = App(\n"

Start = Callable[..., Server]


@pytest.fixture(autouse=True)
def needs_watchfiles() -> None:
    if os.environ.get("CI", "").lower() not in ("1", "true"):
        pytest.importorskip("watchfiles")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the command where its module is; what still runs at the end of the test is ended."""
    started: list[Server] = []

    def start(*argv: str) -> Server:
        environment = {**os.environ, "PYTHONPATH": str(Path(ferrows.__file__).parents[1])}
        command = [sys.executable, "-P", "-m", "ferrows", "run", *argv]
        started.append(Server(command, env=environment, cwd=tmp_path))
        return started[-1]

    yield start
    for server in started:
        server.clean_up()


@pytest.mark.parametrize("source", [BROKEN, "import no_such_module\n", "raise SystemExit(1)\n", "other = 1\n"])
def test_code_that_cannot_be_loaded_is_waited_for(start: Start, tmp_path: Path, source: str) -> None:
    (tmp_path / "one.py").write_text(source)
    server = start("one:app", "--reload", "--port", "0")
    pid = server.pid
    server.wait_for("ferrows: waiting for a change of the code")
    (tmp_path / "one.py").write_text(GOOD)
    server.wait_for(r"one\.py changed: starting again")
    server.wait_until_ready()
    assert server.pid == pid
    (tmp_path / "one.py").write_text(BROKEN)
    server.wait_for("waiting for the next change")
    assert any("SyntaxError: '(' was never closed" in line for line in server.lines)
    (tmp_path / "one.py").write_text(GOOD)
    server.wait_for("restarted: 1 worker new")
    assert server.stop() == 0


def test_code_that_changes_while_it_is_loaded_is_not_waited_for(start: Start, tmp_path: Path) -> None:
    """An editor may write a file in several pieces, and version control many files."""
    source = f"import pathlib\npathlib.Path(__file__).write_text({GOOD!r})\nimport no_such_module\n"
    (tmp_path / "one.py").write_text(source)
    server = start("one:app", "--reload", "--port", "0")
    server.wait_for(r"one\.py changed: starting again")
    server.wait_until_ready()
    assert server.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_waiting_like_a_server(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "one.py").write_text(BROKEN)
    server = start("one:app", "--reload", "--port", "0")
    server.wait_for("ferrows: waiting for a change of the code")
    server.send(number)
    assert server.ended() == 0
    assert server.lines[-1] == "ferrows: waiting for a change of the code"


@pytest.mark.parametrize(
    ("argv", "source", "line"),
    [
        (["one:app"], BROKEN, "one cannot be imported: SyntaxError: '(' was never closed"),
        (["two:app", "--reload"], BROKEN, "there is no module 'two' in "),
        (["one app", "--reload"], BROKEN, "'one app' must look like "),
    ],
)
def test_what_no_change_of_the_code_mends_ends_the_command(
    start: Start, tmp_path: Path, argv: list[str], source: str, line: str
) -> None:
    (tmp_path / "one.py").write_text(source)
    server = start(*argv, "--port", "0")
    assert server.ended() == 3
    assert server.lines[-1].startswith(f"ferrows: {line}")
