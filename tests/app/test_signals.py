"""Signals: which handlers an event reaches and with what."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ferrows import App


async def test_dispatch_runs_handlers_in_a_task_with_the_context(app: App) -> None:
    seen: list[Any] = []

    @app.signal("foo.bar.baz")
    async def handler(**context: Any) -> None:
        seen.append(context)

    task = await app.dispatch("foo.bar.baz", context={"a": 1})
    assert seen == []
    await task
    assert seen == [{"a": 1}]


async def test_inline_dispatch_returns_the_first_result(app: App) -> None:
    called: list[int] = []

    async def second(**context: Any) -> str:
        called.append(2)
        return "second"

    app.add_signal(lambda **context: called.append(1), "foo.bar.baz")
    app.add_signal(second, "foo.bar.baz")
    app.add_signal(lambda **context: called.append(3), "foo.bar.baz")
    assert await app.dispatch("foo.bar.baz", inline=True) == "second"
    assert called == [1, 2]
    assert await app.dispatch("foo.bar.other", inline=True) is None


async def test_last_part_may_be_a_parameter(app: App) -> None:
    seen: list[Any] = []

    @app.signal("foo.bar.<thing>")
    def handler(thing: str, **context: Any) -> None:
        seen.append((thing, context))

    await app.dispatch("foo.bar.ring", context={"a": 1}, inline=True)
    await app.dispatch("foo.other.ring", inline=True)
    assert seen == [("ring", {"a": 1})]


async def test_condition_limits_a_handler(app: App) -> None:
    seen: list[Any] = []
    app.signal("foo.bar.baz", condition={"kind": 1})(lambda **context: seen.append("one"))
    app.signal("foo.bar.baz")(lambda **context: seen.append("all"))
    for condition in (None, {"kind": 2}, {"kind": 1, "more": 2}):
        await app.dispatch("foo.bar.baz", condition=condition, inline=True)
    assert seen == ["all", "all", "one", "all"]


async def test_what_a_handler_raises_is_logged_and_stops_no_other(app: App, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    @app.signal("foo.bar.baz")
    async def fail(**context: Any) -> None:
        raise RuntimeError("handler")

    app.signal("foo.bar.baz")(lambda **context: seen.append("other"))
    await (await app.dispatch("foo.bar.baz"))
    assert seen == ["other"]
    assert [record.getMessage() for record in caplog.records] == ["handler of the signal foo.bar.baz failed"]
    with pytest.raises(RuntimeError, match="handler"):
        await app.dispatch("foo.bar.baz", inline=True)


async def test_event_waits_for_the_next_dispatch(app: App) -> None:
    waiting = [asyncio.create_task(app.event(event)) for event in ("foo.bar.baz", "foo.bar.<thing>")]
    conditional = asyncio.create_task(app.event("foo.bar.baz", condition={"kind": 1}))
    await asyncio.sleep(0)
    await app.dispatch("foo.bar.baz", context={"a": 1}, inline=True)
    await app.dispatch("foo.bar.baz", context={"a": 2}, inline=True)
    assert await asyncio.gather(*waiting) == [{"a": 1}, {"a": 1, "thing": "baz"}]
    await app.dispatch("foo.bar.baz", context={"a": 3}, condition={"kind": 1}, inline=True)
    assert await conditional == {"a": 3}
    assert "foo.bar.baz" not in app.signal_router


async def test_event_that_does_not_come_in_time_is_a_timeout(app: App) -> None:
    with pytest.raises(TimeoutError):
        await app.event("foo.bar.baz", timeout=0.001)
    assert "foo.bar.baz" not in app.signal_router


async def test_event_that_nobody_listens_to_is_an_error_where_asked(app: App) -> None:
    with pytest.raises(LookupError, match=r"nobody listens to the event 'foo.bar.baz'"):
        await app.dispatch("foo.bar.baz", fail_not_found=True)


@pytest.mark.parametrize("event", ["", "foo", "foo.bar", "foo.bar.baz.qux", "foo..baz", "foo.<bar>.baz", "foo.bar.<1>"])
def test_event_must_have_three_parts(app: App, event: str) -> None:
    with pytest.raises(ValueError, match="must have three parts"):
        app.signal(event)(lambda **context: None)


@pytest.mark.parametrize("event", ["websocket.handler.start", "server.foo.bar", "http.routing.before", "server.x.<y>"])
def test_event_that_is_never_sent_is_an_error(app: App, event: str) -> None:
    with pytest.raises(ValueError, match=r"never sent, permitted: server\.init\.after"):
        app.signal(event)(lambda **context: None)


@pytest.mark.parametrize("event", ["websocket.handler.before", "websocket.handler.<when>", "server.init.after"])
def test_event_that_the_server_sends_can_be_listened_to(app: App, event: str) -> None:
    app.signal(event)(lambda **context: None)
    assert event.replace("<when>", "after") in app.signal_router
