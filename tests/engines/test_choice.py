"""Which engine a route has, and what becomes of an engine that fails."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from rules.wire import TEXT, close, frame, handshake

from ferrows import App, Request, Websocket
from ferrows.engines import EngineWebsocket, FerrowsEngine
from ferrows.engines.websockets import WebsocketsEngine
from ferrows.engines.wsproto import WsprotoEngine
from ferrows.server import WebSocketProtocol


async def handler(request: Request, ws: Any) -> None:
    await ws.send(type(ws).__name__)
    async for message in ws:
        await ws.send(message)


def engine_of(app: App) -> Any:
    app.finalize()
    return app.router.routes[0].websocket_settings.engine


def test_the_codec_is_the_default_and_has_a_name() -> None:
    app = App("choice", env_prefix=None)
    app.add_websocket_route(handler, "/", engine="ferrows")
    assert app.config.WEBSOCKET_ENGINE == "ferrows"
    assert engine_of(app) is None


@pytest.mark.parametrize(
    ("name", "engine"), [("wsproto", WsprotoEngine), ("websockets", WebsocketsEngine), ("ferrows", None)]
)
def test_configuration_names_the_engine(name: str, engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERROWS_WEBSOCKET_ENGINE", name.upper())
    app = App("choice")
    app.add_websocket_route(handler, "/")
    assert engine_of(app) is engine


def test_a_route_goes_over_the_configuration() -> None:
    app = App("choice", {"WEBSOCKET_ENGINE": "wsproto"}, env_prefix=None)
    app.add_websocket_route(handler, "/", engine=FerrowsEngine)
    assert engine_of(app) is FerrowsEngine


@pytest.mark.parametrize("given", ["tornado", None, 1])
def test_an_unknown_engine_is_an_error_that_names_those_that_are_known(given: Any) -> None:
    app = App("choice", env_prefix=None)
    app.add_websocket_route(handler, "/chat", engine=given)
    with pytest.raises(ValueError, match=r"'/chat': engine must be one of ferrows, websockets, wsproto, or a factory"):
        app.finalize()


@pytest.mark.parametrize("name", ["wsproto", "websockets"])
async def test_a_missing_package_is_an_error_at_start_that_names_the_extra(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"ferrows.engines.{name}")
    app = App("choice", env_prefix=None)
    app.add_websocket_route(handler, "/chat", engine=name)
    with pytest.raises(ValueError, match=rf"'/chat': engine '{name}' needs .*pip install 'ferrows\[{name}\]'"):
        await app.create_server(port=0)


def test_no_engine_is_imported_unless_it_is_asked_for() -> None:
    import subprocess

    script = (
        "import sys; from ferrows import App\n"
        "app = App('lazy')\n"
        "@app.websocket('/')\n"
        "async def handler(request, ws): ...\n"
        "app.finalize()\n"
        "print(sorted({'wsproto', 'websockets'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert output == "[]\n"


async def ask(app: App, path: str, data: bytes, count: int = 1) -> bytes:
    """Open a websocket, send, and return what came before the end."""
    async with await app.create_server(port=0, access_log=False) as server, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        writer.write(handshake(path) + data)
        try:
            return await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()


@pytest.mark.parametrize(("engine", "kind"), [("ferrows", Websocket), ("wsproto", EngineWebsocket)])
async def test_the_handler_holds_the_websocket_of_its_route(engine: str, kind: type) -> None:
    app = App("choice", env_prefix=None)
    app.add_websocket_route(handler, "/", engine=engine)
    output = await ask(app, "/", frame(TEXT, b"x") + close(1000))
    name = kind.__name__.encode()
    assert output.partition(b"\r\n\r\n")[2] == b"\x81%c%b\x81\x01x\x88\x02\x03\xe8" % (len(name), name)


@pytest.mark.parametrize("extra", [b"Sec-WebSocket-Version: 12\r\n", b"Origin: https://elsewhere.example\r\n"])
async def test_an_engine_refuses_a_handshake_with_a_status(extra: bytes) -> None:
    app = App("choice", env_prefix=None)
    app.add_websocket_route(handler, "/", engine="wsproto", origins=["https://here.example"])
    request = handshake("/", sec_websocket_version=None if b"Version" in extra else "13")
    request = request.replace(b"\r\n\r\n", b"\r\n" + extra + b"Connection: close\r\n\r\n")
    async with await app.create_server(port=0, access_log=False) as server, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
    assert int(head.split()[1]) == (426 if b"Version" in extra else 403)


class FailingEngine(FerrowsEngine):
    """Raises where an event would be right."""

    def receive_data(self, data: bytes) -> None:
        raise RuntimeError("cannot parse")


async def test_an_engine_that_raises_ends_its_connection_with_1011_and_one_log_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = App("choice", env_prefix=None)

    @app.websocket("/", engine=FailingEngine)
    async def wait(request: Request, ws: Any) -> None:
        async for _ in ws:
            raise AssertionError("there is no message")

    output = await ask(app, "/", frame(TEXT, b"x"))
    assert output.partition(b"\r\n\r\n")[2][2:4] == (1011).to_bytes(2, "big")
    errors = [record for record in caplog.records if record.name == "ferrows.websocket"]
    assert [record.getMessage() for record in errors] == ["engine FailingEngine failed, the connection ends with 1011"]


async def test_keepalive_and_shutdown_reach_a_connection_with_an_engine() -> None:
    app = App("choice", env_prefix=None)

    @app.websocket("/", engine="websockets", ping_interval=0.05, ping_timeout=0.05, timeout=0.05)
    async def wait(request: Request, ws: EngineWebsocket) -> None:
        assert isinstance(request.protocol, WebSocketProtocol)
        await ws.wait_closed()

    output = await ask(app, "/", b"")
    frames = output.partition(b"\r\n\r\n")[2]
    assert frames[:2] == b"\x89\x04"
    assert frames[6:] == b"\x88\x18\x03\xf3keepalive ping timeout"


async def test_the_access_log_has_a_line_for_a_connection_with_an_engine(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ferrows.access")
    app = App("choice", env_prefix=None)
    app.add_websocket_route(handler, "/logged", engine="wsproto")
    async with await app.create_server(port=0) as server, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        writer.write(handshake("/logged") + frame(TEXT, b"xyz") + close(4000, "why"))
        await reader.read()
        writer.close()
        await writer.wait_closed()
    (line,) = [record.getMessage() for record in caplog.records if record.name == "ferrows.access"]
    assert "WebSocket /logged closed 4000 by client ('why')" in line
    assert line.endswith("in 1 messages 3 bytes, out 2 messages 18 bytes")


@pytest.mark.parametrize("engine", ["ferrows", "wsproto", "websockets", FerrowsEngine])
@pytest.mark.parametrize(("offered", "chosen"), [("b, a", b"a"), ("c", None)])
async def test_the_servers_order_of_subprotocols_decides_on_every_engine(
    engine: Any, offered: str, chosen: bytes | None
) -> None:
    app = App("choice", env_prefix=None)

    @app.websocket("/", engine=engine, subprotocols=["a", "b"])
    async def tell(request: Request, ws: Any) -> None:
        await ws.send(str(ws.subprotocol))

    async with await app.create_server(port=0, access_log=False) as server, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        writer.write(handshake("/", f"Sec-WebSocket-Protocol: {offered}") + close(1000))
        head, _, frames = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
    assert (b"Sec-WebSocket-Protocol: a" in head) is (chosen is not None)
    assert frames.startswith(b"\x81\x01a" if chosen else b"\x81\x04None")
