from __future__ import annotations

import json

from websockets.asyncio.client import connect


async def next_of(ws, kind):
    """The next message of this type, those of the stream left out."""
    while True:
        message = json.loads(await ws.recv())
        if message["type"] == kind:
            return message


async def test_data_flows_while_questions_are_answered(serve):
    async with connect(serve("data_stream").ws("/ws/data-stream")) as ws:
        assert json.loads(await ws.recv())["type"] == "connected"
        data = await next_of(ws, "data")
        assert data["sensor_id"] == "sensor_001"
        assert 1 <= data["value"] <= 100

        await ws.send(json.dumps({"type": "ping"}))
        assert "timestamp" in await next_of(ws, "pong")
        await ws.send(json.dumps({"type": "subscribe", "sensor_id": "sensor_002"}))
        assert (await next_of(ws, "subscribed"))["message"] == "Subscribed to sensor_002"
        await ws.send("{")
        assert (await next_of(ws, "error"))["message"] == "Invalid message format"
        assert (await next_of(ws, "data"))["timestamp"] > data["timestamp"]


async def test_the_client_may_leave_in_the_middle(serve):
    example = serve("data_stream")
    async with connect(example.ws("/ws/data-stream")) as ws:
        await next_of(ws, "data")
    assert ws.close_code == 1000
    assert "error" not in example.output()
