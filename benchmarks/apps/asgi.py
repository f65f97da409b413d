"""The ASGI application that every ASGI server here runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from benchmarks.apps.options import GREETING

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
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(BODY))],
            }
        )
        await send({"type": "http.response.body", "body": BODY})
    else:
        raise NotImplementedError(f"no {scope['type']} here")


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
