"""The supervisor's decisions, with processes that are none: the test plays the workers."""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ferrows import App
from ferrows.server.listeners import Listeners
from ferrows.server.supervisor import Supervisor
from ferrows.server.target import Post

WAIT = 60


class Played:
    """A worker that the test plays: its end of the line, and what is done to its process."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        self.pid = pid
        self.control = control
        self.control.settimeout(WAIT)
        self.code: int | None = None
        self.signals: list[str] = []

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.signals.append("terminate")

    def kill(self) -> None:
        self.signals.append("kill")
        self.code = -9
        # What it was told can still be read.
        self.control.shutdown(socket.SHUT_WR)

    def say(self, line: str) -> None:
        self.control.sendall(f"{line}\n".encode())

    def heard(self) -> str:
        """The next line from the supervisor."""
        line = b""
        while not line.endswith(b"\n"):
            line += self.control.recv(1)
        return line.decode().strip()

    def end(self, code: int) -> None:
        self.code = code
        self.control.close()

    def end_with(self, line: str, code: int) -> None:
        """Say something last, which is heard no sooner than the end is seen."""

        def poll() -> int:
            if self.code is None:
                self.say(line)
                self.code = code
            return code

        self.poll = poll  # type: ignore[method-assign]


class Stage:
    """The target of a supervisor that runs in a thread."""

    folder: Path | None = None

    def __init__(self, app: App, workers: int, **options: Any) -> None:
        self.fresh = True
        self.failures: list[OSError] = []
        self.played: queue.Queue[Played] = queue.Queue()
        self.all: list[Played] = []
        self.code: Any = None
        self._pids = iter(range(1001, 2000))
        self.listeners = listeners = Listeners.bound({"host": "127.0.0.1", "port": 0}, workers)
        self.supervisor = Supervisor(
            app, self, workers, listeners, settings={}, work=lambda worker: pytest.fail("not here"), **options
        )
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.supervisor.run()
            self.code = 0
        except SystemExit as error:
            self.code = error.code

    def start(self, post: Post) -> Played:
        if self.failures:
            raise self.failures.pop()
        played = Played(next(self._pids), post.control.dup())
        self.all.append(played)
        self.played.put(played)
        return played

    def next(self, *lines: str) -> Played:
        """The next worker that is started, which says something at once."""
        played = self.played.get(timeout=WAIT)
        for line in lines:
            played.say(line)
        return played

    def ended(self) -> Any:
        self._thread.join(WAIT)
        assert not self._thread.is_alive()
        self.listeners.remove()
        return self.code


@pytest.fixture
def app() -> App:
    return App("played", {"GRACEFUL_SHUTDOWN_TIMEOUT": 60}, env_prefix=None)


@pytest.fixture
def stage(app: App, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., Stage]]:
    caplog.set_level(logging.INFO)
    stages: list[Stage] = []

    def stage(workers: int, **options: Any) -> Stage:
        stages.append(Stage(app, workers, **options))
        return stages[-1]

    yield stage
    for each in stages:
        # Whatever a test has left: a stop that is forced ends it.
        for _ in range(2):
            each.supervisor._requests.append(("stop", "end of the test"))
            each.supervisor._wake()
        for member in list(each.supervisor._members):
            with contextlib.suppress(OSError):
                member.child.end(0)  # type: ignore[attr-defined]
        each.ended()
        for played in each.all:
            played.control.close()


def until(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Wait for a line of the log."""
    eventually(lambda: text in caplog.text, f"{text!r} is not in:\n", caplog)


def eventually(condition: Callable[[], bool], what: str = "", caplog: pytest.LogCaptureFixture | None = None) -> None:
    """Wait for what only looking can tell."""
    event = threading.Event()
    for _ in range(WAIT * 50):
        if condition():
            return
        event.wait(0.02)
    raise AssertionError(what + ("" if caplog is None else caplog.text))


def restart(stage: Stage) -> None:
    stage.supervisor.files_changed(["a.py", "b.py"])


def test_first_worker_must_be_ready_before_the_others_start(stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    played = stage(3)
    first = played.next()
    with pytest.raises(queue.Empty):
        played.played.get(timeout=0.1)
    first.say("ready loop")
    for _ in range(2):
        played.next("ready loop")
    until(caplog, "(3 workers, loop, ")


def test_process_that_cannot_be_started_is_tried_again(stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    played = stage(2)
    first = played.next()
    played.failures.append(OSError("no memory"))
    first.say("ready loop")
    played.next("ready loop")
    until(caplog, "worker 2 cannot be started: no memory")
    until(caplog, "(2 workers, ")


def test_worker_that_settled_is_replaced_at_once_again_and_again(
    stage: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ferrows.server.supervisor._SETTLED", 0.0)
    played = stage(1)
    for count in range(1, 5):
        worker = played.next("ready loop")
        until(caplog, "(1 worker, ")
        worker.end(-11)
        until(caplog, f"worker 1 (process {1000 + count}) was killed by SIGSEGV, another one starts at once")


def test_delay_grows_and_has_a_limit(
    stage: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ferrows.server.supervisor._BACKOFF", 0.01)
    monkeypatch.setattr("ferrows.server.supervisor._BACKOFF_LIMIT", 0.05)
    played = stage(2)
    played.next("ready loop")
    for delay in ("at once", "in 0.01 s", "in 0.02 s", "in 0.04 s", "in 0.05 s", "in 0.05 s"):
        worker = played.next()
        worker.end(1)
        until(
            caplog, f"(process {worker.pid}) ended with exit code 1 before it was ready, another one starts {delay}\n"
        )


def test_worker_that_takes_long_to_start_is_told_of(
    stage: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ferrows.server.supervisor._SLOW", 0.01)
    stage(1).next()
    until(caplog, "worker 1 (process 1001) is not ready after 0 s")
    assert caplog.text.count("is not ready") == 1


def test_worker_that_was_ready_just_before_its_end_counts_as_that(stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    played = stage(1)
    played.next().end_with("ready loop", 5)
    until(caplog, "ended with exit code 5, another one starts at once")


def test_stop_that_is_the_last_word_of_a_worker_is_heard(stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    played = stage(1)
    worker = played.next("ready loop")
    until(caplog, "(1 worker, ")
    worker.end_with("stop", 0)
    successor = played.next()
    assert successor.heard() == "stop"
    successor.end(0)
    assert played.ended() == 0
    assert "worker 1 (process 1001) asks for it: stopping" in caplog.text


def test_line_that_is_closed_is_no_end(stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    played = stage(1)
    worker = played.next("ready loop")
    until(caplog, "(1 worker, ")
    worker.control.close()
    # Who cannot be told is terminated.
    played.supervisor._requests.append(("stop", ""))
    played.supervisor._wake()
    eventually(lambda: worker.signals != [])
    worker.code = 0
    assert played.ended() == 0
    assert worker.signals == ["terminate"]


def test_restart_replaces_one_after_the_other(stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    played = stage(2)
    old = [played.next("ready loop"), played.next("ready loop")]
    until(caplog, "(2 workers, ")
    restart(played)
    for worker in old:
        successor = played.next()
        worker.control.settimeout(0.1)
        with pytest.raises(TimeoutError):
            worker.heard()
        worker.control.settimeout(WAIT)
        successor.say("ready loop")
        assert worker.heard() == "restart"
        worker.end(0)
    until(caplog, "a.py and 1 more changed: restarting 2 workers")
    until(caplog, "restarted: 2 workers new")
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_restarts_that_come_together_are_one(stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    played = stage(1)
    played.next("ready loop")
    until(caplog, " on http://")
    played.supervisor._requests.extend([("restart", "SIGHUP")] * 3)
    played.supervisor._wake()
    played.next("ready loop")
    until(caplog, "restarted: 1 worker new")
    assert [line for line in caplog.messages if "restarting" in line] == ["SIGHUP: restarting 1 worker"]


def test_restart_passes_over_a_place_that_was_filled_anew(stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    played = stage(2)
    first, second = played.next("ready loop"), played.next("ready loop")
    until(caplog, "(2 workers, ")
    restart(played)
    successor = played.next()
    second.end(-9)
    replaced = played.next("ready loop")
    until(caplog, f"(process {second.pid}) was killed by SIGKILL")
    successor.say("ready loop")
    assert first.heard() == "restart"
    # What is in the second place now is replaced all the same: it may have started before the change.
    played.next("ready loop")
    assert replaced.heard() == "restart"


def test_restart_without_a_process_is_given_up(stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    played = stage(1)
    played.next("ready loop")
    until(caplog, "(1 worker, ")
    played.failures.append(OSError("no memory"))
    restart(played)
    until(caplog, "restart given up, 1 worker old, 0 new: no process could be started")


def test_restart_ends_what_is_still_starting(stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    played = stage(1)
    first = played.next()
    restart(played)
    second = played.next("ready loop")
    assert first.heard() == "restart"
    assert first.signals == ["terminate"]
    first.end(-15)
    until(caplog, "(1 worker, ")
    assert second.signals == []
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_error_at_the_end_is_told_of(stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    played = stage(1)
    worker = played.next("ready loop", "stop")
    assert worker.heard() == "stop"
    worker.end(1)
    assert played.ended() == 0
    assert "worker 1 (process 1001) ended with exit code 1 while it stopped" in caplog.text


@pytest.mark.parametrize("forced", [False, True])
def test_worker_that_does_not_end_is_killed(
    stage: Any, app: App, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, forced: bool
) -> None:
    monkeypatch.setattr("ferrows.server.supervisor._MARGIN", 0.05)
    monkeypatch.setattr("ferrows.server.supervisor._FORCED", 0.05)
    app.config.update(GRACEFUL_SHUTDOWN_TIMEOUT=60 if forced else 0.05, DRAIN_DELAY=0.05)
    played = stage(1)
    worker = played.next("ready loop", "stop")
    assert worker.heard() == "stop"
    if forced:
        worker.say("stop")
        assert worker.heard() == "force"
    assert played.ended() == (0 if forced else 1)
    assert worker.signals == ["kill"]
    assert ("did not end in time and is killed" in caplog.text) == (not forced)


def test_worker_that_was_killed_after_a_restart_does_not_count_at_the_end(
    stage: Any, app: App, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ferrows.server.supervisor._MARGIN", 0.05)
    app.config.GRACEFUL_SHUTDOWN_TIMEOUT = 0.05
    played = stage(1)
    old = played.next("ready loop")
    until(caplog, "(1 worker, ")
    restart(played)
    new = played.next("ready loop")
    until(caplog, "did not end in time and is killed")
    # The line comes first.
    eventually(lambda: old.code is not None)
    assert old.signals == ["kill"]
    app.config.GRACEFUL_SHUTDOWN_TIMEOUT = 60
    new.say("stop")
    assert [old.code, new.heard()] == [-9, "stop"]
    new.end(0)
    assert played.ended() == 0


def test_first_worker_that_fails_ends_it_all(stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    played = stage(4)
    played.next().end(3)
    assert played.ended() == 3
    assert played.played.empty()
    until(caplog, "played: worker 1 (process 1001) ended with exit code 3 before it was ready, giving up")
