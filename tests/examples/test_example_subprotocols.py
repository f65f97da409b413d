from __future__ import annotations

import json

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

CHAT, NOTIFICATION, OTHER = Subprotocol("chat"), Subprotocol("notification"), Subprotocol("other")


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        pytest.param([CHAT], "chat", id="only-chat"),
        pytest.param([OTHER, CHAT], "chat", id="an-unknown-one-first"),
        pytest.param([NOTIFICATION, CHAT], "chat", id="the-order-of-the-server-decides"),
    ],
)
async def test_chat_is_negotiated_and_answers(serve, offered, chosen):
    async with connect(serve("subprotocols").ws("/ws"), subprotocols=offered) as ws:
        assert ws.subprotocol == chosen
        await ws.send("hello")
        assert await ws.recv() == "chat: hello"


async def test_notification_sends_json_and_ends_with_1000(serve):
    async with connect(serve("subprotocols").ws("/ws"), subprotocols=[NOTIFICATION]) as ws:
        assert ws.subprotocol == "notification"
        assert json.loads(await ws.recv())["type"] == "notification"
        await ws.wait_closed()
    assert ws.close_code == 1000


@pytest.mark.parametrize("offered", [None, [OTHER]], ids=["none", "unknown"])
async def test_nothing_in_common_connects_without_a_subprotocol_and_is_closed_by_the_handler(serve, offered):
    async with connect(serve("subprotocols").ws("/ws"), subprotocols=offered) as ws:
        assert ws.subprotocol is None
        with pytest.raises(ConnectionClosed):
            await ws.recv()
    assert (ws.close_code, ws.close_reason) == (1002, "Unsupported subprotocol")
