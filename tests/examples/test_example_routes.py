from __future__ import annotations

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedOK, InvalidStatus


async def test_decorated_route_greets_receives_and_ends_with_1000(serve):
    example = serve("routes")
    async with connect(example.ws("/ws")) as ws:
        assert await ws.recv() == "Hello WebSocket!"
        await ws.send("over here")
        with pytest.raises(ConnectionClosedOK) as closed:
            await ws.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1000
    assert "Received: over here" in example.output()


async def test_added_route_passes_the_parameter_of_the_path(serve):
    async with connect(serve("routes").ws("/ws/greet/ada")) as ws:
        assert await ws.recv() == "Hello ada!"


async def test_path_without_a_route_is_answered_with_404(serve):
    with pytest.raises(InvalidStatus) as refused:
        await connect(serve("routes").ws("/nowhere"))
    assert refused.value.response.status_code == 404
