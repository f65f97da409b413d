"""Signals of the operating system that a server's loop is to act on, whenever they come."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ferrows import App
from ferrows.server import runners
from ferrows.server.interrupts import acting_on
from ferrows.server.loop import new_event_loop


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    loop = new_event_loop(use_uvloop=request.param == "uvloop")
    yield loop
    loop.close()


def tell(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def turns(loop: asyncio.AbstractEventLoop) -> None:
    async def some() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    loop.run_until_complete(some())


def test_signal_wakes_a_loop_that_waits(loop: asyncio.AbstractEventLoop) -> None:
    called = asyncio.Event()

    async def wait() -> None:
        tell(signal.SIGUSR1)
        await asyncio.wait_for(called.wait(), 60)

    with acting_on(loop, {signal.SIGUSR1: called.set}):
        loop.run_until_complete(wait())


def test_signal_that_comes_while_the_loop_does_not_run_is_acted_on_when_it_does(
    loop: asyncio.AbstractEventLoop,
) -> None:
    called: list[str] = []
    actions = {signal.SIGUSR1: lambda: called.append("one"), signal.SIGUSR2: lambda: called.append("two")}
    with acting_on(loop, actions):
        tell(signal.SIGUSR1)
        assert called == []
        turns(loop)
        tell(signal.SIGUSR2)
        tell(signal.SIGUSR1)
        turns(loop)
    assert called == ["one", "two", "one"]


@pytest.mark.parametrize("afterwards", [None, signal.SIG_IGN])
@pytest.mark.parametrize("before", [signal.SIG_DFL, signal.SIG_IGN, lambda number, frame: None])
def test_signals_do_afterwards_what_they_did_or_what_was_asked_for(
    loop: asyncio.AbstractEventLoop, before: Any, afterwards: signal.Handlers | None
) -> None:
    original = signal.signal(signal.SIGUSR1, before)
    try:
        with acting_on(loop, {signal.SIGUSR1: lambda: None}, afterwards=afterwards):
            assert signal.getsignal(signal.SIGUSR1) is not before
            turns(loop)
        loop.close()
        assert signal.getsignal(signal.SIGUSR1) == (before if afterwards is None else afterwards)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    finally:
        signal.signal(signal.SIGUSR1, original)


def test_signal_after_the_loop_is_closed_does_nothing(loop: asyncio.AbstractEventLoop) -> None:
    original = signal.getsignal(signal.SIGUSR1)
    with acting_on(loop, {signal.SIGUSR1: lambda: pytest.fail("called")}):
        handler = signal.getsignal(signal.SIGUSR1)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) == original
    assert callable(handler)
    handler(signal.SIGUSR1, None)


@pytest.fixture(params=["asyncio", "uvloop"])
def app(request: pytest.FixtureRequest) -> App:
    app = App("signalled", env_prefix=None)
    app.config.USE_UVLOOP = request.param == "uvloop"

    @app.after_server_start
    async def never_for_ever(app: App) -> None:
        asyncio.get_running_loop().call_later(60, app.stop)

    return app


def test_signal_just_before_the_loop_runs_stops_the_server(
    app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ferrows.root")
    run: Callable[..., None] = runners._run

    def signalled(*arguments: Any) -> None:
        tell(signal.SIGTERM)
        run(*arguments)

    monkeypatch.setattr(runners, "_run", signalled)
    app.run(port=0)
    assert any(message.startswith("SIGTERM: ") for message in caplog.messages)


def test_run_leaves_signals_as_they_were(app: App) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    app.after_server_start(lambda app: app.stop())
    app.run(port=0)
    assert [signal.getsignal(number) for number in numbers] == before
