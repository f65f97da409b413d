from __future__ import annotations

import json

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def exchange(ws, text):
    await ws.send(text)
    return json.loads(await ws.recv())


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        pytest.param("/ws/secure?token=valid_token", {}, id="query"),
        pytest.param("/ws/secure", {"Authorization": "valid_token"}, id="header"),
    ],
)
async def test_ten_messages_a_minute_pass_and_the_eleventh_is_refused(serve, path, headers):
    async with connect(serve("rate_limit").ws(path), additional_headers=headers) as ws:
        assert json.loads(await ws.recv())["user"] == "testuser"
        assert (await exchange(ws, "{"))["message"] == "Invalid JSON format"  # counts as well
        for number in range(9):
            answer = await exchange(ws, json.dumps({"message": str(number)}))
            assert (answer["type"], answer["user"], answer["message"]) == ("message", "testuser", str(number))
        assert (await exchange(ws, "{}"))["message"] == "Rate limit exceeded. Please slow down."


@pytest.mark.parametrize(
    ("query", "reason"),
    [("", "Authentication token required"), ("?token=wrong", "Invalid authentication token")],
    ids=["none", "wrong"],
)
async def test_without_a_valid_token_closes_with_1008(serve, query, reason):
    async with connect(serve("rate_limit").ws(f"/ws/secure{query}")) as ws:
        with pytest.raises(ConnectionClosed):
            await ws.recv()
    assert (ws.close_code, ws.close_reason) == (1008, reason)
