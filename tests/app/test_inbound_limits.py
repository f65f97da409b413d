"""Limits of what a client may send on one connection: settings, routes, engines, counts and the log."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from ferrows import App, Request, Websocket, client
from ferrows.exceptions import ConnectionClosedError
from ferrows.limits import InboundLimits, Rate
from ferrows.server import AsyncioServer, flood

from .harness import on_both_loops

RATES = {
    "WEBSOCKET_MESSAGE_RATE": (0.001, 3),
    "WEBSOCKET_BYTE_RATE": (0.001, 1000),
    "WEBSOCKET_PING_RATE": (0.001, 2),
    "WEBSOCKET_MAX_FRAGMENTS": 4,
}


def make_app(engine: str = "ferrows") -> App:
    app = App("limits", env_prefix=None)
    app.config.update({"ACCESS_LOG": False, "WEBSOCKET_ENGINE": engine, **RATES})

    @app.websocket("/ws")
    async def echo(request: Request, ws: Websocket) -> None:
        async for message in ws:
            await ws.send(message)

    @app.websocket("/free", message_rate=None, byte_rate=None, ping_rate=None, max_fragments=None)
    async def free(request: Request, ws: Websocket) -> None:
        async for message in ws:
            await ws.send(message)

    return app


def address(server: AsyncioServer, path: str = "/ws") -> str:
    host, port = server.sockets[0].getsockname()[:2]
    return f"ws://{host}:{port}{path}"


async def send_messages(ws: Any) -> None:
    for number in range(5):
        await ws.send(str(number))


async def send_bytes(ws: Any) -> None:
    await ws.send(bytes(2000))


async def send_pings(ws: Any) -> None:
    for _ in range(5):
        await ws.ping()


async def send_fragments(ws: Any) -> None:
    await ws.send(iter(["a"] * 6))


async def end_of(ws: Any) -> ConnectionClosedError:
    """Receive until the connection ends, which is to be an error."""
    with pytest.raises(ConnectionClosedError) as raised:
        while True:
            await ws.recv()
    return raised.value


BREACHES = [("messages", send_messages), ("bytes", send_bytes), ("pings", send_pings), ("fragments", send_fragments)]


@on_both_loops
async def test_breach_closes_with_1008_is_counted_and_logged_once_in_a_while(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flood, "QUIET", 600)
    async with await make_app().create_server(port=0) as server:
        for counted, breach in BREACHES:
            async with client.connect(address(server)) as ws:
                await breach(ws)
                end = await end_of(ws)
                assert end.code == 1008
                assert counted in end.reason
        async with client.connect(address(server, "/free")) as ws:
            for _, breach in BREACHES:
                await breach(ws)
            assert [await ws.recv() for _ in range(7)] == [*"01234", bytes(2000), "aaaaaa"]
        while server.connections:
            await asyncio.sleep(0.005)
        assert server.refusals == {"messages": 1, "bytes": 1, "pings": 1, "fragments": 1}
    lines = [record for record in caplog.records if record.name == "ferrows.error"]
    assert lines[0].getMessage() == "WebSocket of 127.0.0.1 closed with 1008: WEBSOCKET_MESSAGE_RATE is exceeded"
    assert lines[0].levelno == logging.WARNING
    assert len(lines) == 1


@pytest.mark.parametrize("engine", ["wsproto", "websockets"])
@pytest.mark.parametrize(("counted", "breach"), BREACHES)
@on_both_loops
async def test_engines_keep_the_limits_too(engine: str, counted: str, breach: Any) -> None:
    async with await make_app(engine).create_server(port=0) as server:
        async with client.connect(address(server)) as ws:
            await breach(ws)
            assert (await end_of(ws)).code == 1008
        while server.connections:
            await asyncio.sleep(0.005)
        assert server.refusals == {counted: 1}


@pytest.mark.parametrize("engine", ["ferrows", "wsproto", "websockets"])
@pytest.mark.parametrize("fragmented", [False, True])
@on_both_loops
async def test_bytes_that_messages_inflate_to_count_on_every_engine(engine: str, fragmented: bool) -> None:
    app = App("inflated", env_prefix=None)
    app.config.update({"ACCESS_LOG": False, "WEBSOCKET_ENGINE": engine, "WEBSOCKET_COMPRESSION": "deflate"})

    @app.websocket("/ws", byte_rate=(0.001, 100_000))
    async def echo(request: Request, ws: Websocket) -> None:
        async for message in ws:
            await ws.send(str(len(message)))

    async with (
        await app.create_server(port=0) as server,
        client.connect(address(server), compression="deflate") as ws,
    ):
        await ws.send(bytes(60_000))
        assert await ws.recv() == "60000"
        await ws.send(iter([bytes(30_000)] * 2) if fragmented else bytes(60_000))
        with pytest.raises(ConnectionClosedError, match=r"more than 0\.001 bytes a second"):
            while True:
                await asyncio.wait_for(ws.recv(), 60)


@pytest.mark.parametrize("engine", ["wsproto", "websockets"])
@on_both_loops
async def test_bytes_are_counted_once_where_nothing_inflates(engine: str) -> None:
    app = App("plain", env_prefix=None)
    app.config.update({"ACCESS_LOG": False, "WEBSOCKET_ENGINE": engine})

    @app.websocket("/ws", byte_rate=(0.001, 500_000))
    async def echo(request: Request, ws: Websocket) -> None:
        async for message in ws:
            await ws.send(str(len(message)))

    async with await app.create_server(port=0) as server, client.connect(address(server)) as ws:
        for _ in range(4):
            await ws.send(bytes(120_000))
            assert await ws.recv() == "120000"


@pytest.mark.parametrize("engine", ["ferrows", "wsproto", "websockets"])
@on_both_loops
async def test_time_not_read_counts_for_the_client_from_the_first_message_on(engine: str) -> None:
    app = App("paused", env_prefix=None)
    app.config.update({"ACCESS_LOG": False, "WEBSOCKET_ENGINE": engine})

    @app.websocket("/ws", message_rate=(1000, 5), max_queue=1000)
    async def paused(request: Request, ws: Websocket) -> None:
        ws.pause_frames()
        await ws.send("paused")
        await asyncio.sleep(0.3)
        ws.resume_frames()
        async for message in ws:
            await ws.send(message)

    async with await app.create_server(port=0) as server, client.connect(address(server)) as ws:
        assert await ws.recv() == "paused"
        for number in range(100):
            await ws.send(str(number))
        assert [await ws.recv() for _ in range(100)] == [str(number) for number in range(100)]


def test_defaults_limit_what_only_an_attack_sends() -> None:
    limits = App("defaults", env_prefix=None).config.websocket_settings().limits
    assert limits == InboundLimits(messages=None, bytes=None, pings=Rate(1000, 100_000), fragments=2**17)


@pytest.mark.parametrize(
    ("value", "rate"),
    [
        (100, Rate(100, 1000)),
        (0.01, Rate(0.01, 1)),
        ((5, 5), Rate(5, 5)),
        ([0.5, 20], Rate(0.5, 20)),
        (None, None),
    ],
)
def test_rate_is_a_number_or_a_pair(value: Any, rate: Rate | None) -> None:
    limits = App("rates", env_prefix=None).config.websocket_settings(message_rate=value).limits
    assert limits is not None
    assert limits.messages == rate


@pytest.mark.parametrize(
    "value",
    [0, -1, float("nan"), float("inf"), True, "5", (5,), (5, 0), (5, 0.5), (5, None, 1), (5, "5"), {5: 5}, 1e13],
)
def test_bad_rate_is_named(value: Any) -> None:
    app = App("rates", env_prefix=None)
    app.config.WEBSOCKET_MESSAGE_RATE = value
    with pytest.raises(ValueError, match="WEBSOCKET_MESSAGE_RATE must"):
        app.config.validate()


@pytest.mark.parametrize(("text", "rate"), [("20", Rate(20, 200)), ("20, 40", Rate(20, 40)), ("none", None)])
def test_rate_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch, text: str, rate: Rate | None) -> None:
    monkeypatch.setenv("SHOP_WEBSOCKET_BYTE_RATE", text)
    limits = App("shop", env_prefix="SHOP_").config.websocket_settings().limits
    assert limits is not None
    assert limits.bytes == rate


@pytest.mark.parametrize("text", ["20,", ",20", "x", "20,x", "1,2,3", ""])
def test_bad_rate_of_the_environment_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SHOP_WEBSOCKET_BYTE_RATE", text)
    if not text:
        assert App("shop", env_prefix="SHOP_").config.WEBSOCKET_BYTE_RATE is None
        return
    with pytest.raises(ValueError, match="SHOP_WEBSOCKET_BYTE_RATE must"):
        App("shop", env_prefix="SHOP_")
