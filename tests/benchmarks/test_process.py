from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.process import ProcessError, descendants, free_port, run_to_end, running, stop

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"])
time.sleep(60)
"""
IGNORES_SIGTERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(60)
"""


def start(program: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    return process


def test_stop_ends_what_the_process_started() -> None:
    with start(PARENT) as process:
        tree = descendants(process.pid)
        assert len(tree) == 1
        stop(process)
        assert process.returncode is not None
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in tree) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(alive(pid) for pid in tree)


def test_stop_ends_what_does_not_listen_to_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.process.STOP_LIMIT", 0.05)
    with start(IGNORES_SIGTERM) as process:
        stop(process)
        assert process.returncode == -9


def test_server_that_ends_at_once_is_an_error_with_its_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such port')"]
    with (
        pytest.raises(ProcessError, match="ended with 1 before it listened: no such port"),
        running(command, core=None, host="127.0.0.1", port=free_port("127.0.0.1"), environment={}, folder=tmp_path),
    ):
        pytest.fail("it never listened")


def test_program_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match="took longer than 0 s"):
        run_to_end([sys.executable, "-c", "import time; time.sleep(60)"], core=None, limit=0.1, folder=tmp_path)


def test_output_and_errors_are_kept_apart(tmp_path: Path) -> None:
    program = "import sys; print('{}'); sys.exit('wrong byte')"
    assert run_to_end([sys.executable, "-c", program], core=None, limit=30, folder=tmp_path) == (
        1,
        b"{}\n",
        "wrong byte\n",
    )


def test_free_port_can_be_bound() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", free_port("127.0.0.1")))


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
