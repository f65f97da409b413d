"""FastAPI: WebSockets as its documentation teaches them: an echo page, dependencies that refuse, a chat of many."""

# No `from __future__ import annotations`: FastAPI reads the annotations of functions within functions.

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from .harness import peer, serving

peer("fastapi")

from fastapi import (  # noqa: E402
    BackgroundTasks,
    Cookie,
    Depends,
    FastAPI,
    HTTPException,
    Query,
    Request,
    WebSocket,
    WebSocketDisconnect,
    WebSocketException,
    status,
)
from fastapi.responses import HTMLResponse, StreamingResponse  # noqa: E402


async def cookie_or_token(
    websocket: WebSocket, session: Annotated[str | None, Cookie()] = None, token: Annotated[str | None, Query()] = None
) -> str:
    if session is None and token is None:
        raise WebSocketException(code=status.WS_1008_POLICY_VIOLATION)
    return session or token or ""


class Room:
    """Who is connected; what one says goes to all."""

    def __init__(self) -> None:
        self.members: list[WebSocket] = []

    async def enter(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.members.append(websocket)

    async def broadcast(self, message: str) -> None:
        for member in self.members:
            await member.send_text(message)


def application() -> FastAPI:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        yield {"room": Room(), "worked": []}

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def page() -> HTMLResponse:
        return HTMLResponse("<script>new WebSocket('ws://' + location.host + '/ws')</script>")

    @app.get("/items/{item}")
    async def item(item: int, q: str | None = None) -> dict[str, Any]:
        if item == 404:
            raise HTTPException(404, "no such item")
        return {"item": item, "q": q}

    @app.get("/in_a_thread")
    def in_a_thread() -> str:
        return "threads work"

    @app.post("/upload")
    async def upload(request: Request) -> int:
        return len(await request.body())

    @app.post("/later")
    async def later(request: Request, tasks: BackgroundTasks) -> list[str]:
        tasks.add_task(request.state.worked.append, "worked")
        return list(request.state.worked)

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            for number in range(3):
                yield f"{number}\n"

        return StreamingResponse(lines())

    @app.websocket("/ws")
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        while True:
            await websocket.send_text(f"Message text was: {await websocket.receive_text()}")

    @app.websocket("/items/{item_id}/ws")
    async def with_dependencies(
        *,
        websocket: WebSocket,
        item_id: str,
        q: int | None = None,
        known: Annotated[str, Depends(cookie_or_token)],
    ) -> None:
        await websocket.accept()
        while True:
            text = await websocket.receive_text()
            await websocket.send_text(f"{known} {q} {item_id}: {text}")

    @app.websocket("/rooms/{client_id}")
    async def chat(websocket: WebSocket, client_id: int) -> None:
        room: Room = websocket.state.room
        await room.enter(websocket)
        try:
            while True:
                text = await websocket.receive_text()
                await websocket.send_text(f"You wrote: {text}")
                await room.broadcast(f"Client #{client_id} says: {text}")
        except WebSocketDisconnect:
            room.members.remove(websocket)
            await room.broadcast(f"Client #{client_id} left the chat")

    return app


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname in ("WARNING", "ERROR", "CRITICAL")]


async def test_requests(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(application()) as served:
        client = await served.connect()
        assert b"new WebSocket(" in (await client.ask("/")).body
        assert json.loads((await client.ask("/items/3?q=x")).body) == {"item": 3, "q": "x"}
        assert (await client.ask("/items/404")).status == 404
        assert (await client.ask("/items/three")).status == 422
        assert (await client.ask("/in_a_thread")).body == b'"threads work"'
        assert (await client.ask("/stream")).body == b"0\n1\n2\n"
        assert (await client.ask("/openapi.json")).status == 200
        assert (await client.ask("/later", "POST")).body == b"[]"
        while (await client.ask("/later", "POST")).body == b"[]":
            await asyncio.sleep(0)
        answer = await client.ask("/upload", "POST", bytes(300_000))
        assert answer.body == b"300000"
    assert errors(caplog) == []


async def test_echo(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(application()) as served, connect(served.url("/ws")) as client:
        for text in ("hello", "grüße"):
            await client.send(text)
            assert await client.recv() == f"Message text was: {text}"
    assert errors(caplog) == []


async def test_dependencies_let_in_and_refuse(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(application()) as served:
        with pytest.raises(InvalidStatus) as caught:
            async with connect(served.url("/items/a/ws")):
                raise AssertionError("it was let in")
        assert caught.value.response.status_code == 403
        async with connect(served.url("/items/a/ws?token=t&q=1")) as client:
            await client.send("x")
            assert await client.recv() == "t 1 a: x"
        async with connect(served.url("/items/a/ws"), additional_headers={"Cookie": "session=s"}) as client:
            await client.send("x")
            assert await client.recv() == "s None a: x"
    assert errors(caplog) == []


async def test_chat(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(application()) as served, connect(served.url("/rooms/1")) as one:
        async with connect(served.url("/rooms/2")) as two:
            await two.send("hi")
            assert [await two.recv(), await two.recv()] == ["You wrote: hi", "Client #2 says: hi"]
            assert await one.recv() == "Client #2 says: hi"
        assert await one.recv() == "Client #2 left the chat"
    assert errors(caplog) == []
