from __future__ import annotations

import pytest
from websockets.asyncio.client import connect


@pytest.mark.parametrize(
    "message", ["hello", "", "grüße, 世界 👋", "x" * 100_000], ids=["short", "empty", "wide", "long"]
)
async def test_text_comes_back(serve, message):
    async with connect(serve("echo").ws("/ws")) as ws:
        assert await ws.recv() == "Welcome to WebSocket echo server!"
        await ws.send(message)
        assert await ws.recv() == f"Echo: {message}"


async def test_order_is_kept(serve):
    async with connect(serve("echo").ws("/ws")) as ws:
        await ws.recv()
        for number in range(200):
            await ws.send(str(number))
        assert [await ws.recv() for _ in range(200)] == [f"Echo: {number}" for number in range(200)]


def test_page_is_html_and_connects_to_where_it_came_from(serve):
    status, headers, body = serve("echo").get("/")
    assert status == 200
    assert headers["Content-Type"].startswith("text/html")
    assert "new WebSocket('ws://' + location.host + '/ws')" in body
