"""A signal that comes at the worst moment still ends what it is to end."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

import ferrows
from tests.workers.harness import Server

from .shim import Faults


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_just_before_the_waiting_for_code_begins(faults: Faults, tmp_path: Path, number: signal.Signals) -> None:
    pytest.importorskip("watchfiles")
    (tmp_path / "one.py").write_text(f"{faults.hesitating(0.2)}import no_such_module\n")
    server = Server(
        [sys.executable, "-P", "-m", "ferrows", "run", "one:app", "--reload", "--port", "0"],
        env={**os.environ, **faults.environment, "PYTHONPATH": str(Path(ferrows.__file__).parents[1])},
        cwd=tmp_path,
    )
    try:
        server.wait_for("ferrows: waiting for a change of the code")
        time.sleep(0.05)
        server.send(number)
        assert server.ended() == 0
    finally:
        server.clean_up()
