from __future__ import annotations

import json

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError


async def test_websocket_and_rest_are_on_one_port(serve):
    example = serve("wsproto_protocol")
    async with connect(example.ws("/ws")) as ws:
        for message in ("text", b"binary", "", "long " * 10_000):
            await ws.send(message)
            assert await ws.recv() == message
        await ws.send(["frag", "ments"])
        assert await ws.recv() == "fragments"
        await (await ws.ping())
        status, _, body = example.get("/")
        assert (status, json.loads(body)) == (200, {"message": "Hello, world!"})
        await ws.close(4000, "done")
        assert ws.close_code == 4000


async def test_what_is_too_long_ends_with_1009(serve):
    async with connect(serve("wsproto_protocol").ws("/ws")) as ws:
        with pytest.raises(ConnectionClosedError) as raised:
            await ws.send(bytes(2**20 + 1))
            await ws.recv()
        assert raised.value.rcvd is not None
        assert raised.value.rcvd.code == 1009


def test_a_request_that_is_no_handshake_gets_400(serve):
    assert serve("wsproto_protocol").get("/ws")[0] == 400


async def test_a_server_that_stops_says_going_away(launched):
    example = launched("wsproto_protocol")
    async with connect(example.ws("/ws")) as ws:
        await ws.send("a")
        assert await ws.recv() == "a"
        assert example.stop() == 0
        with pytest.raises(ConnectionClosed) as raised:
            await ws.recv()
        assert raised.value.rcvd is not None
        assert raised.value.rcvd.code == 1001
    assert "Traceback" not in example.output()
