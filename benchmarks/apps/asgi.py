"""The ASGI application that every ASGI server here runs, unless it runs Starlette."""

from __future__ import annotations

import importlib
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from benchmarks.apps.options import FACTS, GREETING

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

BODY = GREETING.encode()

connected: set[Send] = set()


async def app(scope: Event, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await (broadcast if scope["path"] == "/broadcast" else echo)(receive, send)
    elif scope["type"] == "http":
        if scope["path"] == "/json":
            await respond(send, b"application/json", json.dumps(FACTS).encode())
        else:
            await respond(send, b"text/plain; charset=utf-8", BODY)
    else:
        raise NotImplementedError(f"no {scope['type']} here")


async def respond(send: Send, kind: bytes, body: bytes) -> None:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def echo(receive: Receive, send: Send) -> None:
    while (event := await receive())["type"] == "websocket.receive":
        await send(answer(event))


async def broadcast(receive: Receive, send: Send) -> None:
    connected.add(send)
    try:
        while (event := await receive())["type"] == "websocket.receive":
            message = answer(event)
            for peer in tuple(connected):
                await peer(message)
    finally:
        connected.discard(send)


def answer(event: Event) -> Event:
    text = event.get("text")
    if text is not None:
        return {"type": "websocket.send", "text": text}
    return {"type": "websocket.send", "bytes": event["bytes"]}


MODULES = {"plain": "benchmarks.apps.asgi", "starlette": "benchmarks.apps.starlette_app"}


def application(name: str) -> Any:
    """Return the application that the command line names."""
    return importlib.import_module(MODULES[name]).app
