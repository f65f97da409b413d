from __future__ import annotations

import json

import pytest
from websockets.asyncio.client import connect


@pytest.mark.parametrize("path", ["/ws", "/ws/wsproto", "/ws/websockets"])
async def test_every_engine_echoes(serve, path):
    async with connect(serve("engines").ws(path)) as ws:
        for message in ("text", b"binary", "long " * 10_000):
            await ws.send(message)
            assert await ws.recv() == message


def test_rest_is_beside_them(serve):
    status, _, body = serve("engines").get("/")
    assert (status, json.loads(body)) == (200, ["/ws", "/ws/wsproto", "/ws/websockets"])
