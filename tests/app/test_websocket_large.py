"""Large messages on real loopback sockets, with and without TLS, on both loops."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import trustme
import websockets

from ferrows import App, Request, Websocket

from .harness import on_both_loops

SIZES = [32 * 1024 - 1, 32 * 1024, 65536, 300_000, 1 << 20]


@contextlib.asynccontextmanager
async def connected(app: App, *, tls: bool) -> AsyncIterator[websockets.ClientConnection]:
    serving = trusting = None
    if tls:
        authority = trustme.CA()
        serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(serving)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
    async with await app.create_server(port=0, ssl=serving, access_log=False) as server:
        host, port = server.sockets[0].getsockname()[:2]
        url = f"{'wss' if tls else 'ws'}://localhost:{port}/ws"
        async with websockets.connect(url, host=host, ssl=trusting, compression=None, max_size=None) as ws:
            yield ws


async def check_echo(app: App, *, tls: bool) -> None:
    @app.websocket("/ws")
    async def echo(request: Request, ws: Websocket) -> None:
        async for message in ws:
            await ws.send("small")
            await ws.send(message)

    async with connected(app, tls=tls) as ws:
        for size in SIZES:
            for message in ("a" * size, "a" * (size - 2) + "ä", bytes(range(256)) * (size // 256)):
                await ws.send(message)
                assert await ws.recv() == "small"
                # An assertion on the message would print all of it.
                same = await ws.recv() == message
                assert same, f"{type(message)} of {size}"


@on_both_loops
async def test_large_messages_are_echoed(app: App) -> None:
    await check_echo(app, tls=False)


@on_both_loops
async def test_large_messages_are_echoed_over_tls(app: App) -> None:
    await check_echo(app, tls=True)


async def check_slow_reader(app: App, *, tls: bool) -> None:
    count, size = 64, 512 * 1024
    sent: list[int] = []

    @app.websocket("/ws")
    async def flood(request: Request, ws: Websocket) -> None:
        for number in range(count):
            # Objects that nobody else holds while the transport does.
            await ws.send(chr(ord("0") + number) * size if number % 2 else bytes([number]) * size)
            sent.append(number)
        await ws.recv()

    async with connected(app, tls=tls) as ws:
        async with asyncio.timeout(60):
            before = -1
            while before != len(sent):
                before = len(sent)
                await asyncio.sleep(0.1)
        # What the system and the client buffer, and then the limit of the transport.
        assert len(sent) < count
        for number in range(count):
            message = await ws.recv()
            same = message == (chr(ord("0") + number) * size if number % 2 else bytes([number]) * size)
            assert same, f"message {number}"
        await ws.send("end")


@on_both_loops
async def test_a_client_that_does_not_read_suspends_the_sender_of_large_messages(app: App) -> None:
    await check_slow_reader(app, tls=False)


@on_both_loops
async def test_a_client_that_does_not_read_over_tls_suspends_the_sender_of_large_messages(app: App) -> None:
    await check_slow_reader(app, tls=True)
