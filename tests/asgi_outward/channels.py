"""The channels of an ASGI application without a server."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

Event = MutableMapping[str, Any]


class Channels:
    """Hands out the events that are put into it, and keeps what is sent."""

    def __init__(self, *events: Event) -> None:
        self.incoming: asyncio.Queue[Event] = asyncio.Queue()
        self.sent: list[Event] = []
        self.received = 0
        # Raised by the sends after this many.
        self.failure: BaseException | None = None
        self.fails_after = 0
        for event in events:
            self.incoming.put_nowait(event)

    def put(self, *events: Event) -> None:
        for event in events:
            self.incoming.put_nowait(event)

    def fail(self, failure: BaseException, after: int = 0) -> None:
        self.failure, self.fails_after = failure, len(self.sent) + after

    async def receive(self) -> Event:
        event = await self.incoming.get()
        self.received += 1
        return event

    async def send(self, event: Event) -> None:
        if self.failure is not None and len(self.sent) >= self.fails_after:
            raise self.failure
        self.sent.append(event)

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.sent]

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        headers: list[tuple[bytes, bytes]] = self.sent[0]["headers"]
        return headers

    @property
    def body(self) -> bytes:
        return b"".join(event["body"] for event in self.sent[1:])


CONNECT: Event = {"type": "websocket.connect"}
GONE: Event = {"type": "http.disconnect"}


def message(data: str | bytes) -> Event:
    return {"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data}


def disconnect(code: int, reason: str = "") -> Event:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


def body(data: bytes = b"", more: bool = False) -> Event:
    return {"type": "http.request", "body": data, "more_body": more}


def http_scope(path: str = "/", method: str = "GET", **changes: Any) -> Event:
    return {**_scope("http", path), "scheme": "http", "method": method, **changes}


def websocket_scope(path: str = "/", **changes: Any) -> Event:
    scope = {**_scope("websocket", path), "scheme": "ws", "subprotocols": []}
    return {**scope, "extensions": {"websocket.http.response": {}}, **changes}


def _scope(kind: str, path: str) -> dict[str, Any]:
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"example.com")],
        "client": ("192.0.2.7", 5000),
        "server": ("192.0.2.1", 80),
    }


async def turns(count: int = 5) -> None:
    """Let everything run that can."""
    for _ in range(count):
        await asyncio.sleep(0)
