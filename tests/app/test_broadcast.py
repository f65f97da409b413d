"""``broadcast`` on real loopback sockets, with and without TLS, on both loops."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trustme
import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from ferrows import App, Request, Websocket, broadcast

from .harness import on_both_loops

CLIENTS = 12
LARGE = 1 << 20  # bytes: the buffers of a connection take some of these


class Room:
    """An app that passes on to all what any of its clients sends, and clients that are in it."""

    def __init__(self, app: App) -> None:
        self.members: dict[Websocket, None] = {}
        self.left_out: list[Websocket] = []

        @app.websocket("/room", compression={"threshold": 100, "server_no_context_takeover": False})
        async def room(request: Request, ws: Websocket) -> None:
            self.members[ws] = None
            try:
                async for message in ws:
                    self.left_out += broadcast(self.members, message)
            finally:
                del self.members[ws]


@asynccontextmanager
async def clients(
    app: App, count: int, *, tls: bool = False, deflate: bool = True
) -> AsyncIterator[list[websockets.ClientConnection]]:
    """Connect so many; with ``deflate`` every third offers none, and every third none that keeps its context."""
    serving = trusting = None
    if tls:
        authority = trustme.CA()
        serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(serving)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
    fresh = ClientPerMessageDeflateFactory(server_no_context_takeover=True)
    agreed: list[dict[str, Any]] = [{"compression": None}, {"compression": "deflate"}, {"extensions": [fresh]}]
    async with await app.create_server(port=0, ssl=serving, access_log=False) as server, AsyncExitStack() as stack:
        host, port = server.sockets[0].getsockname()[:2]
        url = f"{'wss' if tls else 'ws'}://localhost:{port}/room"
        connected = []
        for index in range(count):
            options = {"compression": None, **agreed[index % 3 if deflate else 0]}
            client = websockets.connect(url, host=host, ssl=trusting, max_size=None, proxy=None, **options)
            connected.append(await stack.enter_async_context(client))
        yield connected


async def check_order(app: App, *, tls: bool) -> None:
    room = Room(app)
    async with clients(app, CLIENTS, tls=tls) as connected:
        messages = [f"{number} " * (40 if number % 2 else 1) for number in range(50)] + ["ä" * 40_000, b"\x00" * 5000]
        for message in messages:
            await connected[0].send(message)
        for client in connected:
            received = [await client.recv() for _ in messages]
            # An assertion on the messages would print all of them.
            assert [one == other for one, other in zip(received, messages, strict=True)] == [True] * len(messages)
    assert room.left_out == []


@on_both_loops
async def test_everyone_gets_every_message_in_order(app: App) -> None:
    await check_order(app, tls=False)


@on_both_loops
async def test_everyone_gets_every_message_in_order_over_tls(app: App) -> None:
    await check_order(app, tls=True)


@on_both_loops
async def test_a_client_that_does_not_read_is_left_out_and_the_others_are_served(app: App) -> None:
    room = Room(app)
    async with clients(app, 3, deflate=False) as connected:
        publisher, reader, slow = connected
        slow.transport.pause_reading()
        count = 0
        while not room.left_out:
            assert count < 100
            await publisher.send(bytes(LARGE))
            for client in (publisher, reader):
                assert len(await client.recv()) == LARGE
            count += 1
        (stuck,) = set(room.left_out)
        assert stuck in room.members and stuck.write_paused
        sent = stuck.messages_sent
        slow.transport.resume_reading()
        for _ in range(sent):
            assert len(await slow.recv()) == LARGE
        # What it missed is lost; what comes is not.
        await stuck.send("you read again")
        await publisher.send("on")
        assert [await slow.recv(), await slow.recv()] == ["you read again", "on"]
