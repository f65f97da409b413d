"""Start and stop of an app, the same under every server."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest
from websockets.exceptions import ConnectionClosed

from .conftest import Server


def test_app_is_started_before_the_first_request(server: Server) -> None:
    life = json.loads(server.ask("/life").body)
    # The task begins with the loop's next turn.
    assert [event for event in life["events"] if event != "task"] == ["before_server_start", "after_server_start"]
    assert (life["running"], life["task"], life["events"].count("task")) == (True, True, 1)


async def test_stop_ends_connections_then_the_app(own_server: Server) -> None:
    if own_server.name == "hypercorn" and sys.version_info >= (3, 12):
        pytest.skip("from CPython 3.12 on hypercorn waits for open WebSockets for ever, whatever its application does")
    async with own_server.connect("/echo") as ws:
        await ws.send("x")
        assert await ws.recv() == "x"
        stopping = asyncio.create_task(asyncio.to_thread(own_server.stop))
        with pytest.raises(ConnectionClosed) as closed:
            await ws.recv()
        printed = await stopping
    assert closed.value.rcvd is not None
    # Hypercorn leaves the connections to the app and cancels its handlers; uvicorn has a code of its own.
    assert closed.value.rcvd.code == (1001 if own_server.name in ("ferrows", "hypercorn") else 1012)
    assert printed.split("\n") == ["before_server_stop", "task cancelled", "after_server_stop", ""]
    assert "ERROR ferrows" not in own_server.log.read_text()
