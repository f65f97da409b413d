"""The lifespan events of a server, and `App.lifespan` where another application keeps them to itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ferrows import App, HTTPResponse, Request
from ferrows.response import text

from .channels import Channels, body, http_scope, turns

SCOPE = {"type": "lifespan", "asgi": {"version": "3.0"}}
STARTUP, SHUTDOWN = {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}


@pytest.fixture
def app() -> App:
    return App("life", env_prefix=None)


@pytest.fixture
def events(app: App) -> list[str]:
    """What runs, in its order."""
    events: list[str] = []

    async def work() -> None:
        events.append("task")
        try:
            await asyncio.Event().wait()
        finally:
            events.append("task ends")

    app.add_task(work, name="work")
    for name in ("before_server_start", "after_server_start", "before_server_stop", "after_server_stop"):

        async def listener(app: App, name: str = name) -> None:
            await turns()
            events.append(name)

        app.register_listener(listener, name)
    return events


ORDER = ["before_server_start", "task", "after_server_start", "before_server_stop", "task ends", "after_server_stop"]


async def test_listeners_and_tasks_run_in_their_order(app: App, events: list[str]) -> None:
    channels = Channels(STARTUP)
    life = asyncio.create_task(app(SCOPE, channels.receive, channels.send))
    while not channels.sent:
        await asyncio.sleep(0)
    assert channels.types == ["lifespan.startup.complete"]
    assert (events, app.is_running, app.loop) == (ORDER[:3], True, asyncio.get_running_loop())
    assert app.get_task("work") is not None
    channels.put(SHUTDOWN)
    await asyncio.wait_for(life, 10)
    assert channels.types == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert (events, app.is_running, app.servers) == (ORDER, False, [])


async def test_mounted_app_is_started_by_hand(app: App, events: list[str]) -> None:
    @app.get("/")
    async def handler(request: Request) -> HTTPResponse:
        return text("here")

    async with app.lifespan():
        assert (events, app.is_running) == (ORDER[:3], True)
        channels = Channels(body())
        await app(http_scope(), channels.receive, channels.send)
        assert channels.body == b"here"
    assert (events, app.is_running) == (ORDER, False)


async def test_body_of_the_context_that_fails_stops_the_app(app: App, events: list[str]) -> None:
    with pytest.raises(LookupError):
        async with app.lifespan():
            raise LookupError
    assert events == ORDER


@pytest.mark.parametrize("name", ["before_server_start", "after_server_start"])
async def test_failing_start_is_said_and_leaves_nothing(
    app: App, events: list[str], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(app: App) -> None:
        await asyncio.sleep(0)
        raise LookupError("no database")

    app.register_listener(fail, name)
    before = asyncio.all_tasks()
    channels = Channels(STARTUP)
    await app(SCOPE, channels.receive, channels.send)
    assert channels.sent == [{"type": "lifespan.startup.failed", "message": "LookupError: no database"}]
    assert caplog.text.count("Traceback") == 1
    assert (asyncio.all_tasks(), app.servers) == (before, [])
    assert "before_server_stop" not in events


async def test_wrong_configuration_fails_the_start(app: App) -> None:
    app.config.REQUEST_MAX_SIZE = -1
    channels = Channels(STARTUP)
    await app(SCOPE, channels.receive, channels.send)
    assert channels.types == ["lifespan.startup.failed"]
    assert "REQUEST_MAX_SIZE" in channels.sent[0]["message"]


async def test_failing_stop_listener_is_logged_and_the_others_run(
    app: App, events: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(app: App) -> None:
        raise LookupError("no goodbye")

    app.before_server_stop(fail)
    channels = Channels(STARTUP, SHUTDOWN)
    await app(SCOPE, channels.receive, channels.send)
    assert channels.types == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert events == ORDER
    assert caplog.text.count("LookupError: no goodbye") == 1


async def test_failing_stop_signal_fails_the_shutdown(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*args: Any) -> None:
        raise LookupError("no end")

    channels = Channels(STARTUP, SHUTDOWN)
    monkeypatch.setattr(app, "shutdown_tasks", fail)
    await app(SCOPE, channels.receive, channels.send)
    assert channels.sent[-1] == {"type": "lifespan.shutdown.failed", "message": "LookupError: no end"}
    assert app.servers == []


async def test_cancelled_lifespan_stops_the_app(app: App, events: list[str]) -> None:
    channels = Channels(STARTUP)
    life = asyncio.create_task(app(SCOPE, channels.receive, channels.send))
    while not channels.sent:
        await asyncio.sleep(0)
    life.cancel()
    with pytest.raises(asyncio.CancelledError):
        await life
    assert (events, app.servers) == (ORDER, [])


async def test_listener_may_still_add_routes_and_nobody_afterwards(app: App) -> None:
    async def handler(request: Request) -> HTTPResponse:
        return text("added")

    app.before_server_start(lambda app: app.add_route(handler, "/added") and None)
    async with app.lifespan():
        channels = Channels(body())
        await app(http_scope("/added"), channels.receive, channels.send)
        assert channels.body == b"added"
        with pytest.raises(Exception, match="too late"):
            app.add_route(handler, "/late", name="late")


async def test_app_that_is_told_to_stop_says_that_it_cannot(app: App, caplog: pytest.LogCaptureFixture) -> None:
    async with app.lifespan():
        app.stop()
        assert app.stop_for(SystemExit(1))
        await turns()
        assert caplog.text.count("told to stop") == 2
        assert app.is_running


async def test_unexpected_event_is_an_error(app: App) -> None:
    with pytest.raises(RuntimeError, match=r"'lifespan\.shutdown', expected 'lifespan\.startup'"):
        channels = Channels(SHUTDOWN)
        await app(SCOPE, channels.receive, channels.send)
