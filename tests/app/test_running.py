"""`serve` and `App.run`: a server's whole life in this process, with its signals, threads, log and banner."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ferrows import App, text
from ferrows.exceptions import ServerError
from ferrows.server import AsyncioServer, Signal, bind_socket, serve

from .harness import address, connect, on_both_loops, served_app
from .test_sockets import needs_ipv6


@pytest.fixture
def app() -> App:
    return served_app()


@on_both_loops
async def test_serve_asynchronously_gives_a_server_to_await(app: App) -> None:
    connections: set[Any] = set()
    signal = Signal()
    server = serve("127.0.0.1", 0, app, run_async=True, connections=connections, signal=signal)
    assert server is not None
    async with await server:
        client = await connect(server)
        await client.ask("/")
        assert len(connections) == 1
        assert not signal.stopped
        await client.close()
    assert signal.stopped


@pytest.mark.parametrize("version", [2, 3, "3"])
def test_other_versions_of_http_are_refused(app: App, version: Any) -> None:
    with pytest.raises(ServerError, match=f"HTTP version {version} is not spoken, permitted: 1"):
        serve("127.0.0.1", 0, app, version=version)


@pytest.fixture(params=["asyncio", "uvloop"])
def loops(request: pytest.FixtureRequest, app: App) -> Iterator[None]:
    app.config.USE_UVLOOP = request.param == "uvloop"
    yield


def ask_and_stop(app: App, answers: list[bytes]) -> None:
    """From another thread, ask the server that starts in this one, and stop it."""

    @app.after_server_start
    async def started(app: App) -> None:
        port = address(app.servers[0])[1]

        def ask() -> None:
            with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                answers.append(b"".join(iter(lambda: client.recv(65536), b"")))
            app.stop()

        threading.Thread(target=ask).start()


@pytest.mark.usefixtures("loops")
def test_run_serves_until_the_app_is_stopped(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ferrows.root")
    order: list[str] = []
    for event in app._listeners:
        app.listener(event)(lambda app, event=event: order.append(event))
    answers: list[bytes] = []
    ask_and_stop(app, answers)
    app.run(port=0)
    assert answers[0].endswith(b"hello")
    assert order == [
        "main_process_start",
        "before_server_start",
        "after_server_start",
        "before_server_stop",
        "after_server_stop",
        "main_process_stop",
    ]
    banner = caplog.records[0].getMessage()
    assert "served: ferrows " in banner and " on http://127.0.0.1:" in banner
    assert ("uvloop" if app.config.USE_UVLOOP else "asyncio") in banner
    assert len(caplog.records) == 3


def test_run_without_a_banner_on_a_loop_that_is_given(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ferrows.root")
    loop = asyncio.new_event_loop()
    answers: list[bytes] = []
    ask_and_stop(app, answers)
    app.run(port=0, motd=False, loop=loop, register_sys_signals=False, debug=True)
    assert len(answers) == 1
    assert not any("ferrows " in record.getMessage() for record in caplog.records)
    assert loop.get_debug() and not loop.is_closed()
    loop.close()


def test_run_can_be_repeated_with_more_routes(app: App) -> None:
    answers: list[bytes] = []
    ask_and_stop(app, answers)
    app.run(port=0)
    app.get("/more")(lambda request: text("more"))
    app.run(port=0)
    assert len(answers) == 2
    assert [route.path for route in app.routes] == ["/", "/more"]


def test_run_that_cannot_start_raises_and_cleans_up(app: App) -> None:
    order: list[str] = []

    async def fail(app: App) -> None:
        raise RuntimeError("no database")

    app.before_server_start(fail)
    app.main_process_stop(lambda app: order.append("main stop"))
    with pytest.raises(RuntimeError, match="no database"):
        app.run(port=0)
    assert order == ["main stop"]
    assert app.servers == []


def test_run_whose_process_listener_fails_raises(app: App) -> None:
    def fail(app: App) -> None:
        raise RuntimeError("main")

    app.main_process_start(fail)
    with pytest.raises(RuntimeError, match="main"):
        app.run(port=0)


EVENTS = ("before_server_start", "after_server_start", "before_server_stop", "after_server_stop")


@pytest.mark.parametrize(
    ("hanging", "order"),
    [
        ("before_server_start", ["before_server_start", "cancelled", "after_server_stop"]),
        (
            "after_server_start",
            ["before_server_start", "after_server_start", "cancelled", "before_server_stop", "after_server_stop"],
        ),
    ],
)
@pytest.mark.parametrize("use_uvloop", [False, True], ids=["asyncio", "uvloop"])
def test_stop_during_the_start_breaks_it_off_and_ends_what_had_begun(
    app: App, hanging: str, order: list[str], use_uvloop: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="ferrows.root")
    app.config.USE_UVLOOP = use_uvloop
    found: list[str] = []

    async def hang(app: App) -> None:
        app.stop()
        try:
            await asyncio.Event().wait()
        finally:
            found.append("cancelled")

    for event in EVENTS:
        app.register_listener(lambda app, event=event: found.append(event), event)
    app.register_listener(hang, hanging)
    # Behind the one that is cancelled.
    app.register_listener(lambda app: found.append("too late"), hanging)
    app.run(port=0)
    assert found == order
    assert caplog.messages[-2] == "App.stop: the start is broken off"
    assert caplog.messages[-1].startswith("stopped after 0.")


def test_listener_that_misses_what_the_start_would_have_made_is_logged(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    @app.before_server_start
    async def hang(app: App) -> None:
        app.stop()
        await asyncio.Event().wait()

    app.after_server_stop(lambda app: app.ctx.database.close())
    app.run(port=0)
    assert "listener of after_server_stop failed" in caplog.messages


def test_stop_is_logged_when_it_begins_and_when_it_is_over(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="ferrows.root")
    app.config.update(GRACEFUL_SHUTDOWN_TIMEOUT=3, DRAIN_DELAY=0.01)
    app.after_server_start(lambda app: os.kill(os.getpid(), signal.SIGTERM))
    app.run(port=0)
    assert caplog.messages[-2] == (
        "SIGTERM: stopping, no new connections after 0.01 s, 0 connections with up to 3 s to end"
    )
    assert re.fullmatch(r"stopped after 0\.\d s\. .+", caplog.messages[-1])


def test_stop_that_is_asked_for_twice_says_so(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="ferrows.root")

    @app.before_server_stop
    async def again(app: App) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    app.after_server_start(lambda app: os.kill(os.getpid(), signal.SIGTERM))
    app.run(port=0)
    lines = [line.partition(":")[0] for line in caplog.messages[-3:-1]]
    assert lines in (["SIGTERM", "SIGINT again"], ["SIGTERM", "SIGTERM again"])


def test_keyboard_interrupt_from_the_loop_stops_gracefully(app: App) -> None:
    order: list[str] = []

    @app.after_server_start
    async def interrupt(app: App) -> None:
        def raise_interrupt() -> None:
            raise KeyboardInterrupt

        asyncio.get_running_loop().call_soon(raise_interrupt)

    app.before_server_stop(lambda app: order.append("stop"))
    app.config.USE_UVLOOP = False
    app.run(port=0, register_sys_signals=False)
    assert order == ["stop"]


@pytest.mark.usefixtures("loops")
def test_exit_of_a_task_stops_gracefully_and_comes_out_of_run(app: App) -> None:
    order: list[str] = []

    async def leave() -> None:
        raise SystemExit(4)

    app.add_task(leave())
    app.before_server_stop(lambda app: order.append("stop"))
    with pytest.raises(SystemExit) as raised:
        app.run(port=0)
    assert (raised.value.code, order) == (4, ["stop"])


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.usefixtures("loops")
def test_exit_of_a_listener_comes_out_of_run(app: App, error: type[BaseException]) -> None:
    @app.before_server_start
    async def leave(app: App) -> None:
        raise error

    with pytest.raises(error):
        app.run(port=0)
    assert app.servers == []


@pytest.mark.usefixtures("loops")
def test_thread_that_still_runs_holds_the_end_up_no_longer_than_the_grace(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    app.config.GRACEFUL_SHUTDOWN_TIMEOUT = 0.2
    release = threading.Event()

    @app.after_server_start
    async def work(app: App) -> None:
        asyncio.get_running_loop().run_in_executor(None, release.wait, 20)
        app.stop()

    began = time.monotonic()
    try:
        app.run(port=0)
        assert time.monotonic() - began < 15
    finally:
        release.set()
    assert [record.getMessage() for record in caplog.records if record.name == "ferrows.error"] == [
        "a thread of the executor still runs: nothing can end it, and Python waits for it"
    ]


@pytest.mark.usefixtures("loops")
def test_thread_that_ends_in_time_is_waited_for(app: App, caplog: pytest.LogCaptureFixture) -> None:
    ended: list[bool] = []
    release = threading.Event()

    @app.after_server_start
    async def work(app: App) -> None:
        asyncio.get_running_loop().run_in_executor(None, lambda: ended.append(release.wait(20)))
        app.stop()

    @app.main_process_stop
    async def last(app: App) -> None:
        threading.Timer(0.1, release.set).start()

    app.run(port=0)
    assert ended == [True]
    assert [record for record in caplog.records if record.name == "ferrows.error"] == []


def test_run_in_a_thread_cannot_take_signals_and_serves_all_the_same(app: App) -> None:
    answers: list[bytes] = []
    ask_and_stop(app, answers)
    thread = threading.Thread(target=app.run, kwargs={"port": 0})
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert answers[0].endswith(b"hello")


def test_tasks_that_nobody_minds_are_cancelled_at_the_end_of_a_run(app: App) -> None:
    cancelled: list[bool] = []
    kept: list[asyncio.Task[None]] = []

    async def forgotten() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    @app.after_server_start
    async def started(app: App) -> None:
        kept.append(asyncio.get_running_loop().create_task(forgotten()))
        app.stop()

    app.run(port=0)
    assert cancelled == [True]


def test_start_that_fails_while_it_is_being_stopped_raises(app: App) -> None:
    @app.before_server_start
    async def fail(app: App) -> None:
        app.stop()
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError("on the way out")

    with pytest.raises(RuntimeError, match="on the way out"):
        app.run(port=0)


def test_run_refuses_workers_that_it_cannot_have(app: App) -> None:
    with pytest.raises(ValueError, match="workers must be an integer >= 1 or 'auto', not 0"):
        app.run(workers=0)
    with pytest.raises(ServerError, match="auto_reload needs workers that load the code anew"):
        app.run(auto_reload=True)
    with asyncio.Runner() as runner, pytest.raises(ServerError, match="loop is not for workers"):
        app.run(workers=2, loop=runner.get_loop())


def test_run_in_use_port_raises(app: App) -> None:
    with bind_socket("127.0.0.1", 0) as sock, pytest.raises(OSError):
        app.run(port=sock.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("0.0.0.0", "http://localhost:{port} (all interfaces)"),
        ("*", " on http://localhost:{port} (all interfaces) ("),
        ("127.0.0.1", "http://127.0.0.1:{port}"),
        pytest.param("::", "http://[::1]:{port} (all interfaces, IPv6 alone)", marks=needs_ipv6),
    ],
)
def test_banner_shows_an_address_to_click_on(app: App, caplog: pytest.LogCaptureFixture, host: str, shown: str) -> None:
    caplog.set_level(logging.INFO, "ferrows.root")
    ports: list[int] = []

    @app.after_server_start
    async def started(app: App) -> None:
        ports.append(address(app.servers[0])[1])
        app.stop()

    app.run(host, 0, debug=True)
    # In debug mode the loop has something to say as well, if the machine is slow.
    banner = next(record.getMessage() for record in caplog.records if record.name == "ferrows.root")
    assert shown.format(port=ports[0]) in banner
    assert ", debug" in banner


def test_banner_shows_a_unix_socket(app: App, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.INFO, "ferrows.root")

    @app.after_server_start
    async def started(app: App) -> None:
        app.stop()

    app.run(unix=tmp_path / "s", register_sys_signals=False)
    assert f"unix:{tmp_path / 's'}" in caplog.records[0].getMessage()


def test_stop_from_a_thread_while_a_run_ends_is_no_error(app: App) -> None:
    ended = asyncio.new_event_loop()
    ended.close()
    app.servers.append(AsyncioServer(app, ended, asyncio.sleep, set()))  # type: ignore[arg-type]
    app.stop()
