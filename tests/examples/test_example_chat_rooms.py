from __future__ import annotations

import json

from websockets.asyncio.client import connect


async def receive(ws):
    return json.loads(await ws.recv())


def rooms(example):
    status, headers, body = example.get("/api/rooms")
    assert status == 200
    assert headers["Content-Type"].startswith("application/json")
    return json.loads(body)


async def test_a_room_hears_who_joins_what_is_said_and_who_leaves(serve):
    example = serve("chat_rooms")
    async with connect(example.ws("/ws/chat/red")) as ada:
        assert await receive(ada) == {"type": "system", "message": "Welcome to chat room red", "room": "red"}
        async with connect(example.ws("/ws/chat/red")) as bob, connect(example.ws("/ws/chat/blue")) as eve:
            assert (await receive(bob))["type"] == "system"
            assert (await receive(eve))["room"] == "blue"
            assert (await receive(ada))["type"] == "user_joined"
            assert sorted(rooms(example)["rooms"]) == ["blue", "red"]
            assert rooms(example)["total_clients"] == 3

            await bob.send(json.dumps({"type": "chat", "message": "hello", "user": "bob"}))
            said = {"type": "chat", "message": "hello", "user": "bob", "room": "red"}
            assert await receive(ada) == said
            assert await receive(bob) == said

            await eve.send(json.dumps({"type": "chat", "message": "anyone?"}))
            assert (await receive(eve))["user"] == "Anonymous"  # and it is the first that eve hears
        assert (await receive(ada))["type"] == "user_left"
        assert rooms(example) == {"rooms": ["red"], "total_clients": 1}


async def test_what_is_not_json_is_answered_and_the_connection_goes_on(serve):
    async with connect(serve("chat_rooms").ws("/ws/chat/errors")) as ws:
        await receive(ws)
        await ws.send("{")
        assert await receive(ws) == {"type": "error", "message": "Invalid JSON format"}
        await ws.send(json.dumps({"type": "chat", "message": "still here"}))
        assert (await receive(ws))["message"] == "still here"
