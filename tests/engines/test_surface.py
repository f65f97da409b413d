"""What a handler holds, on every engine: the tests of ``tests/websocket`` with an engine in the codec's place."""

from __future__ import annotations

from typing import Any

import pytest
import websocket.harness
from app.harness import make_request
from rules.wire import HANDSHAKE
from websocket.test_batches import *  # noqa: F403
from websocket.test_keepalive import *  # noqa: F403
from websocket.test_large import *  # noqa: F403
from websocket.test_receiving import *  # noqa: F403
from websocket.test_sending import *  # noqa: F403

from ferrows import App, Websocket, broadcast
from ferrows.engines import ENGINES, EngineWebsocket, FerrowsEngine


@pytest.fixture(autouse=True, params=["ferrows", *ENGINES])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have the harness make websockets with an engine."""
    name: str = request.param
    factory = FerrowsEngine if name == "ferrows" else ENGINES[name]()
    app = App("surface", env_prefix=None)

    def make(loop: Any, transport: Any, **options: Any) -> EngineWebsocket:
        options.pop("deflate", None)  # the engine negotiates
        options.setdefault("max_size", 2**20)
        settings = app.config.websocket_settings(max_size=options["max_size"])
        engine = factory(settings)
        engine.handshake(make_request(app, "/", headers=HANDSHAKE), None)
        return EngineWebsocket(loop, transport, engine=engine, **options)

    monkeypatch.setattr(websocket.harness, "Websocket", make)
    return name


async def test_broadcast_reaches_websockets_of_every_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    on_engine, slow = websocket.harness.Peer(), websocket.harness.Peer()
    monkeypatch.setattr(websocket.harness, "Websocket", Websocket)
    ours, closed = websocket.harness.Peer(), websocket.harness.Peer()
    slow.ws.pause_writing()
    await closed.lose()
    everyone = [slow, ours, on_engine, closed]
    assert broadcast((peer.ws for peer in everyone), "news") == [slow.ws, closed.ws]
    assert [peer.sent for peer in everyone] == [[], [(1, b"news")], [(1, b"news")], []]
    with pytest.raises(TypeError, match="permitted: str or bytes-like"):
        broadcast([on_engine.ws, ours.ws], 1)
    with pytest.raises(TypeError, match="permitted: Websocket"):
        broadcast([on_engine.ws, ours.ws, object()], "x")  # type: ignore[list-item]
    assert len(on_engine.sent) == len(ours.sent) == 1
