"""``broadcast`` on real loopback sockets, with and without TLS, on both loops."""

from __future__ import annotations

import asyncio
import asyncio.selector_events
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trustme
import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from ferrows import App, Request, Websocket, broadcast
from ferrows._codec import CODEC

from .harness import on_both_loops

CLIENTS = 24  # enough for the extension to write past the transports
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


@on_both_loops
async def test_what_a_socket_does_not_take_at_once_follows_in_order(app: App) -> None:
    room = Room(app)
    async with clients(app, CLIENTS, deflate=False) as connected:
        publisher, *readers, slow = connected
        slow.transport.pause_reading()
        count = 0
        while not room.left_out:
            # Below what leaves at once, so that it is the turn's end that writes.
            message = f"{count} " * 10_000
            await publisher.send(message)
            assert all([await client.recv() == message for client in (publisher, *readers)])
            count += 1
        (stuck,) = set(room.left_out)
        assert stuck.messages_sent == count - len(room.left_out)
        slow.transport.resume_reading()
        got = [await slow.recv() == f"{number} " * 10_000 for number in range(stuck.messages_sent)]
        assert got == [True] * len(got)
        await stuck.send("you read again")
        assert await slow.recv() == "you read again"


@pytest.mark.skipif(CODEC == "pure Python", reason="the twin leaves writing to the transports")
@pytest.mark.skipif(sys.platform != "linux", reason="done on Linux only")
@pytest.mark.parametrize(("count", "way"), [(CLIENTS, "past the transports"), (4, "through the transports")])
async def test_what_goes_to_many_is_written_past_the_transports(
    app: App, count: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Room(app)
    written: list[bytes] = []
    transport: Any = asyncio.selector_events._SelectorSocketTransport  # type: ignore[attr-defined]
    write = transport.write

    def count_of_servers(self: Any, data: Any) -> None:
        if data[0] == 0x81 and data[1] < 0x80:
            written.append(bytes(data))
        write(self, data)

    monkeypatch.setattr(transport, "write", count_of_servers)
    async with clients(app, count, deflate=False) as connected:
        for message in ("one", "two"):
            await connected[0].send(message)
            assert {await client.recv() for client in connected} == {message}
    # The one who sent gets its own at the end of its turn, as ever.
    assert len(written) == (2 if way == "past the transports" else 2 * count)


@on_both_loops
async def test_several_who_send_at_the_same_time_reach_everyone(app: App) -> None:
    room = Room(app)
    async with clients(app, CLIENTS, deflate=False) as connected:
        for _ in range(20):
            for index, client in enumerate(connected[:6]):
                await client.send(f"from {index}")
            for client in connected:
                assert {await client.recv() for _ in range(6)} == {f"from {index}" for index in range(6)}
    assert room.left_out == []


class Careless(asyncio.Protocol):
    """Does not tell its websocket that the transport is gone."""

    def __init__(self, made: list[Careless]) -> None:
        self.made = made
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.ws = Websocket(asyncio.get_running_loop(), transport)
        self.made.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(None)


@on_both_loops
async def test_nothing_is_written_to_whoever_has_the_number_of_a_closed_socket() -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)  # uvloop refuses to write to a transport that is closed
    made: list[Careless] = []
    server = await loop.create_server(lambda: Careless(made), "127.0.0.1", 0)
    streams = [await asyncio.open_connection(*server.sockets[0].getsockname()) for _ in range(CLIENTS)]
    while len(made) < CLIENTS:
        await asyncio.sleep(0)
    everyone = [protocol.ws for protocol in made]
    assert broadcast(everyone, "a") == []
    assert [await reader.readexactly(3) for reader, _ in streams] == [b"\x81\x01a"] * CLIENTS
    for protocol in made:
        assert protocol.ws.transport is not None
        protocol.ws.transport.close()
    for protocol, (reader, writer) in zip(made, streams, strict=True):
        await protocol.lost
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    await asyncio.sleep(0)
    pairs = [socket.socketpair() for _ in range(2 * CLIENTS)]
    broadcast(everyone, "b")
    ends = [end for pair in pairs for end in pair]
    for end in ends:
        end.setblocking(False)
        with pytest.raises(BlockingIOError):
            end.recv(100)
    for end in ends:
        end.close()
    server.close()
    await server.wait_closed()
