from __future__ import annotations

import importlib.util
import json
import os

import pytest
from websockets.asyncio.client import connect


@pytest.fixture(autouse=True, scope="module")
def fastapi():
    if importlib.util.find_spec("fastapi") is None and os.environ.get("CI", "").lower() not in ("1", "true"):
        pytest.skip("fastapi is not installed")


def members(serve):
    return json.loads(serve("fastapi_app").get("/members")[2])["members"]


def test_page_connects_to_where_it_came_from(serve):
    status, headers, body = serve("fastapi_app").get("/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "new WebSocket(`ws://${location.host}/chat/${name}`)" in body


async def test_what_one_says_goes_to_all(serve):
    example = serve("fastapi_app")
    async with connect(example.ws("/chat/ann")) as ann:
        async with connect(example.ws("/chat/ben")) as ben:
            await ben.send("hi")
            assert await ann.recv() == await ben.recv() == "ben: hi"
            assert members(serve) == 2
        assert await ann.recv() == "ben has left"
        assert members(serve) == 1
