"""Logging: set up by a run, never by an import, and never over what the program has."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ferrows.log import LineHandler, configure_logging

NAMES = ("ferrows", "ferrows.access")


@contextmanager
def bare() -> Iterator[None]:
    """Loggers as in a program that has set up nothing; pytest's own handlers are back afterwards."""
    root = logging.getLogger()
    kept, root.handlers = root.handlers, []
    try:
        yield
    finally:
        root.handlers = kept
        for name in NAMES:
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [], True
            logger.setLevel(logging.NOTSET)


def test_defaults_write_access_to_stdout_and_the_rest_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with bare():
        assert configure_logging() is True
        logging.getLogger("ferrows.access").info("GET / 200")
        logging.getLogger("ferrows.error").error("broken")
        logging.getLogger("ferrows.websocket").debug("frame")
    out, err = capsys.readouterr()
    assert "GET / 200" in out and "GET / 200" not in err
    assert "ERROR   ferrows.error" in err and "broken" in err
    assert "frame" not in err
    assert "\x1b" not in out + err


def test_debug_shows_more(capsys: pytest.CaptureFixture[str]) -> None:
    with bare():
        configure_logging(debug=True)
        logging.getLogger("ferrows.websocket").debug("frame")
    assert "frame" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", "ferrows"])
def test_what_the_program_has_set_up_is_left_alone(name: str) -> None:
    with bare():
        logging.getLogger(name).addHandler(logging.NullHandler())
        assert configure_logging() is False
        assert logging.getLogger("ferrows.access").handlers == []


def test_a_configuration_given_is_applied() -> None:
    given = {"version": 1, "disable_existing_loggers": False, "loggers": {"ferrows": {"level": "ERROR"}}}
    with bare():
        assert configure_logging(given) is True
        assert logging.getLogger("ferrows").level == logging.ERROR


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "utf-16"])
@pytest.mark.parametrize("is_file", [True, False])
def test_character_that_the_stream_does_not_have_is_escaped(encoding: str, is_file: bool, tmp_path: Path) -> None:
    path = tmp_path / "log"
    raw = io.BytesIO()
    with path.open("wb") as opened, io.TextIOWrapper(opened if is_file else raw, encoding) as stream:
        LineHandler(stream).handle(logging.makeLogRecord({"msg": "closed ('b\u00fcro \u2603 \udcff')"}))
        stream.flush()
        written = (path.read_bytes() if is_file else raw.getvalue()).decode(encoding)
    assert written.strip() in (
        "closed ('b\u00fcro \u2603 \\udcff')",
        "closed ('b\u00fcro \\u2603 \\udcff')",
        "closed ('b\\xfcro \\u2603 \\udcff')",
    )


def test_importing_ferrows_configures_nothing() -> None:
    code = (
        "import logging, ferrows.server\n"
        "loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]\n"
        "assert not any(logger.handlers for logger in loggers)\n"
        "print('nothing')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("nothing\n", "")
