"""The small parts around a server: calling listeners, choosing a loop, saying goodbye; and signals to a process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from ferrows import App
from ferrows.server import get_goodbye, trigger_events, try_use_uvloop, try_windows_loop
from ferrows.server.loop import loop_name, new_event_loop


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


# ---- events


def test_events_are_called_with_the_app_and_the_loop_if_they_take_it(app: App, loop: asyncio.AbstractEventLoop) -> None:
    seen: list[Any] = []

    async def both(app: App, loop: Any) -> None:
        seen.append((app, loop))

    trigger_events([lambda app: seen.append(app), both], loop, app)
    assert seen == [app, (app, loop)]


def test_events_without_an_app_get_the_loop_or_nothing(loop: asyncio.AbstractEventLoop) -> None:
    seen: list[Any] = []

    def with_keyword(*, key: str) -> None:
        seen.append(key)

    def with_loop(loop: Any, key: str) -> None:
        seen.append((loop, key))

    trigger_events([with_keyword, with_loop], loop, key="k")
    trigger_events(None, loop)
    assert seen == ["k", (loop, "k")]


def test_builtin_that_does_not_tell_its_parameters_gets_the_app(
    app: App, loop: asyncio.AbstractEventLoop, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TypeError, match="'App' object is not iterable"):
        trigger_events([max], loop, app)


def test_type_error_of_an_event_is_its_own(app: App, loop: asyncio.AbstractEventLoop) -> None:
    def fail(app: App) -> None:
        raise TypeError("inside")

    with pytest.raises(TypeError, match="inside"):
        trigger_events([fail], loop, app)


# ---- loops


@pytest.fixture
def policy() -> Iterator[None]:
    before = asyncio.get_event_loop_policy()
    yield
    asyncio.set_event_loop_policy(before)


@pytest.mark.usefixtures("policy")
def test_uvloop_becomes_the_default() -> None:
    try_use_uvloop()
    try_use_uvloop()
    loop = asyncio.new_event_loop()
    assert isinstance(loop, uvloop.Loop)
    loop.close()


@pytest.mark.usefixtures("policy")
def test_uvloop_can_be_turned_off(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    before = asyncio.get_event_loop_policy()
    monkeypatch.setenv("FERROWS_NO_UVLOOP", "1")
    try_use_uvloop()
    assert asyncio.get_event_loop_policy() is before
    assert "uvloop is not used" in caplog.text
    loop = new_event_loop()
    assert loop_name(loop) == "asyncio"
    loop.close()


def test_uvloop_that_is_not_installed_leaves_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    loop = new_event_loop()
    assert loop_name(loop) == "asyncio"
    loop.close()


@pytest.mark.parametrize(("use_uvloop", "name"), [(True, "uvloop"), (False, "asyncio")])
def test_new_loop_is_uvloops_unless_told_otherwise(use_uvloop: bool, name: str) -> None:
    loop = new_event_loop(use_uvloop=use_uvloop)
    assert loop_name(loop) == name
    loop.close()


@pytest.mark.skipif(sys.platform == "win32", reason="where it is not Windows")
def test_windows_loop_elsewhere_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    try_windows_loop()
    assert "Windows event loop is not used" in caplog.text


@pytest.mark.usefixtures("policy")
def test_windows_loop_on_windows_becomes_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    class Policy(asyncio.DefaultEventLoopPolicy):
        """Stands in for the one that is there on Windows only."""

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(asyncio, "WindowsSelectorEventLoopPolicy", Policy, raising=False)
    try_windows_loop()
    assert isinstance(asyncio.get_event_loop_policy(), Policy)


# ---- goodbye


@pytest.mark.parametrize(
    ("variables", "goodbye"),
    [
        ({}, "Goodbye"),
        ({"LANG": "C.UTF-8"}, "Goodbye"),
        ({"LANG": "de_AT.UTF-8"}, "Auf Wiedersehen"),
        ({"LANG": "de_DE", "LC_ALL": "fr_FR"}, "Au revoir"),
    ],
)
def test_goodbye_is_said_in_the_language_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], goodbye: str
) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert get_goodbye() == goodbye


# ---- a process of its own

PROGRAM = textwrap.dedent(
    """
    import asyncio, sys, time
    from ferrows import App, text

    app = App("process")
    hang = "hang" in sys.argv

    @app.get("/")
    async def index(request):
        return text("hello")

    @app.after_server_start
    async def started(app, loop):
        print("port", app.servers[0].sockets[0].getsockname()[1], flush=True)

    @app.before_server_stop
    async def stopping(app):
        print("stopping", flush=True)
        if hang:
            await asyncio.Event().wait()

    @app.after_server_stop
    async def stopped(app):
        print("stopped", flush=True)

    def work():
        time.sleep(0.3)  # Until nothing but this thread is left to end.
        print("working", flush=True)
        sys.stdin.readline()

    @app.main_process_stop
    async def ended(app):
        if "thread" in sys.argv:
            asyncio.get_running_loop().run_in_executor(None, work)
        print("ended", flush=True)

    @app.websocket("/ws")
    async def leave(request, ws):
        await ws.recv()
        raise {"exit": SystemExit(3), "interrupt": KeyboardInterrupt()}[sys.argv[1]]

    @app.get("/exit")
    async def leave_too(request):
        raise SystemExit(3)

    app.run(port=0, access_log=False)
    print("returned", flush=True)
    """
)


def started(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return started_on_port(tmp_path, *arguments, **environment)[0]


def started_on_port(tmp_path: Path, *arguments: str, **environment: str) -> tuple[subprocess.Popen[str], int]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, str(program), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.stdout is not None
    word, port = process.stdout.readline().split()
    assert word == "port"
    return process, int(port)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("no_uvloop", ["0", "1"])
def test_signal_stops_the_process_with_exit_code_0(tmp_path: Path, number: signal.Signals, no_uvloop: str) -> None:
    process = started(tmp_path, FERROWS_NO_UVLOOP=no_uvloop)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out.split()) == (0, ["stopping", "stopped", "ended", "returned"])
    assert "http://127.0.0.1:" in err and "Traceback" not in err
    assert ("(asyncio, " if no_uvloop == "1" else "(uvloop, ") in err


def test_second_signal_stops_a_process_that_hangs(tmp_path: Path) -> None:
    process = started(tmp_path, "hang")
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "stopping\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out.split()[-1]) == (0, "returned")
    assert "Traceback" not in err


@pytest.mark.parametrize(("kind", "code"), [("exit", 3), ("interrupt", 0)])
@pytest.mark.parametrize("no_uvloop", ["0", "1"])
def test_exit_of_a_handler_stops_the_process_like_a_signal(
    tmp_path: Path, kind: str, code: int, no_uvloop: str
) -> None:
    process, port = started_on_port(tmp_path, kind, FERROWS_NO_UVLOOP=no_uvloop)
    with connect(f"ws://127.0.0.1:{port}/ws") as ws, connect(f"ws://127.0.0.1:{port}/ws") as other:
        ws.send("go")
        for each, expected in ((ws, 1011), (other, 1001)):
            with pytest.raises(ConnectionClosed) as raised:
                each.recv(timeout=60)
            assert raised.value.rcvd is not None and raised.value.rcvd.code == expected
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert out.split()[:3] == ["stopping", "stopped", "ended"]
    assert err.count("handler of websocket /ws from 127.0.0.1 raised ") == 1
    assert "Traceback" not in err and "never retrieved" not in err and "Fatal" not in err


@pytest.mark.parametrize("no_uvloop", ["0", "1"])
def test_exit_of_an_http_handler_stops_the_process_like_a_signal(tmp_path: Path, no_uvloop: str) -> None:
    process, port = started_on_port(tmp_path, FERROWS_NO_UVLOOP=no_uvloop)
    with pytest.raises(urllib.error.HTTPError, match="500"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/exit", timeout=60)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out.split()) == (3, ["stopping", "stopped", "ended"])
    assert "GET /exit raised SystemExit(3)" in err and "Traceback" not in err


@pytest.mark.parametrize("no_uvloop", ["0", "1"])
def test_second_signal_while_a_thread_ends_does_not_kill(tmp_path: Path, no_uvloop: str) -> None:
    process = started(tmp_path, "thread", FERROWS_NO_UVLOOP=no_uvloop)
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(4)] == ["stopping\n", "stopped\n", "ended\n", "working\n"]
    process.send_signal(signal.SIGTERM)
    # The thread ends when it has read a line, and the signal has come before that.
    out, err = process.communicate("\n", timeout=60)
    assert (process.returncode, out) == (0, "returned\n")
    assert "Traceback" not in err


def test_wrong_environment_variable_ends_the_start_with_its_name(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        env={**os.environ, "FERROWS_WEBSOCKET_MAX_QUEUE": "many"},
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "FERROWS_WEBSOCKET_MAX_QUEUE must be an integer >= 1, not 'many'" in done.stderr


@pytest.mark.parametrize("use_uvloop", [True, False])
async def test_running_an_app_on_a_running_loop_names_the_other_way(app: App, use_uvloop: bool) -> None:
    app.config.USE_UVLOOP = use_uvloop
    with pytest.raises(RuntimeError, match=r"await app\.create_server"):
        app.run(port=0)
