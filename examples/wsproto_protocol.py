"""Another WebSocket implementation in the server's own protocol: wsproto does the upgrade and all frames, REST goes on.

It completes a sketch that asked for this: a subclass of ``HttpProtocol`` that takes the upgrade request away and hands
what follows to wsproto. Nothing of the server's own WebSocket code runs. Where the handler may stay as it is,
``engine="wsproto"`` of a route does the same in one word (see engines.py).
"""

import asyncio
import os
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Message, Ping, RejectConnection, TextMessage
from wsproto.events import Request as UpgradeRequest
from wsproto.utilities import RemoteProtocolError

from ferrows import App, HTTPResponse, Request
from ferrows.exceptions import BadRequest, WebsocketClosed
from ferrows.response import json
from ferrows.server import HttpProtocol

MAX_SIZE = 2**20


class WsprotoWebsocket:
    """What the handler holds: as much of a websocket as this program needs. It has no ``end_connection``."""

    def __init__(self, transport: asyncio.Transport, connection: WSConnection) -> None:
        self.transport = transport
        self.connection = connection
        self.messages: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self.parts: list[Any] = []

    def receive_data(self, data: bytes | None) -> None:
        """Have wsproto parse bytes from the client, or their end, and do what they mean."""
        if self.transport.is_closing():
            return
        try:
            self.connection.receive_data(data)
            for event in self.connection.events():
                self.take(event)
        except RemoteProtocolError:
            self.transport.close()

    def take(self, event: Any) -> None:
        if isinstance(event, Ping):
            self.write(event.response())
        elif isinstance(event, Message):
            self.parts.append(event.data)
            if sum(len(part) for part in self.parts) > MAX_SIZE:
                self.finish(CloseConnection(1009))
            elif event.message_finished:
                parts, self.parts = self.parts, []
                self.messages.put_nowait(parts[0][:0].join(parts))
        elif isinstance(event, CloseConnection):
            # The client's Close, the end of its bytes, or what it did wrong with the code that this means.
            self.finish(event.response())

    def finish(self, last: CloseConnection) -> None:
        if self.connection.state in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING):
            self.write(last)
        self.messages.put_nowait(None)
        self.transport.close()

    def write(self, event: Any) -> None:
        self.transport.write(self.connection.send(event))

    async def recv(self) -> str | bytes:
        message = await self.messages.get()
        if message is None:
            self.messages.put_nowait(None)
            raise WebsocketClosed
        return message

    async def send(self, message: str | bytes) -> None:
        if self.connection.state is not ConnectionState.OPEN:
            raise WebsocketClosed
        self.write(TextMessage(message) if isinstance(message, str) else BytesMessage(message))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        if self.connection.state is ConnectionState.OPEN:
            self.write(CloseConnection(code, reason))


class CustomHttpProtocol(HttpProtocol):
    """HTTP as ever, until a request asks for an upgrade."""

    ws: WsprotoWebsocket | None = None

    async def websocket_handshake(self, request: Request, subprotocols: Any = None) -> WsprotoWebsocket:
        """Called for a websocket route in place of the server's own handshake."""
        connection = WSConnection(ConnectionType.SERVER)
        try:
            connection.initiate_upgrade_connection(request.raw_headers, request.target)
            upgrade = next(connection.events())
        except RemoteProtocolError as error:
            raise BadRequest(f"no WebSocket handshake: {error}") from None
        if isinstance(upgrade, RejectConnection) or not isinstance(upgrade, UpgradeRequest):
            raise BadRequest("no WebSocket handshake")
        assert self.transport is not None
        # From here on what arrives is ours, beginning with frames that came in the same segment.
        early = self.detach()
        self.ws = WsprotoWebsocket(self.transport, connection)
        chosen = next((name for name in subprotocols or () if name in upgrade.subprotocols), None)
        self.ws.write(AcceptConnection(subprotocol=chosen))
        if early:
            self.ws.receive_data(early)
        return self.ws

    def data_received(self, data: bytes) -> None:
        if self.ws is None:
            super().data_received(data)
        else:
            self.ws.receive_data(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self.ws is not None:
            self.ws.messages.put_nowait(None)
        super().connection_lost(exc)

    def shutdown(self, code: int = 1001) -> None:
        """The server stops."""
        if self.ws is None:
            super().shutdown(code)
        else:
            self.ws.finish(CloseConnection(code))


app = App("wsproto")


@app.get("/")
async def hello_world(request: Request) -> HTTPResponse:
    return json({"message": "Hello, world!"})


@app.websocket("/ws")
async def echo(request: Request, ws: WsprotoWebsocket) -> None:
    while True:
        await ws.send(await ws.recv())


if __name__ == "__main__":
    app.run(
        host=os.environ.get("HOST", "127.0.0.1"),
        port=int(os.environ.get("PORT", "8000")),
        protocol=CustomHttpProtocol,
    )
