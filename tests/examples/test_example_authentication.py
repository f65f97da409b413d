from __future__ import annotations

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def test_valid_token_is_let_in(serve):
    headers = {"Authorization": "Bearer valid_token"}
    async with connect(serve("authentication").ws("/ws/authenticated"), additional_headers=headers) as ws:
        assert await ws.recv() == "Welcome, testuser"
        await ws.send("hello")
        assert await ws.recv() == "testuser: hello"


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        pytest.param({}, "Authentication required", id="no-header"),
        pytest.param({"Authorization": "Bearer wrong"}, "Invalid authentication", id="wrong-token"),
    ],
)
async def test_everyone_else_is_closed_with_1008(serve, headers, reason):
    async with connect(serve("authentication").ws("/ws/authenticated"), additional_headers=headers) as ws:
        with pytest.raises(ConnectionClosed):
            await ws.recv()
    assert (ws.close_code, ws.close_reason) == (1008, reason)
