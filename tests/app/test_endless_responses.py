"""Responses without an end, whose handlers wait for nothing but for ``send``: the loop turns all the same."""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trustme

from ferrows import App, Request
from ferrows.asgi import ASGIHost

from .harness import on_both_loops

MANY = 50_000
"""Pieces that a handler sends before it gives up: what would be no end is one that a test can wait for."""

MOST_A_TURN = 256

PIECE = b"x" * 1000


class Endless:
    """An application that streams, and what came of it."""

    def __init__(self) -> None:
        self.sent = 0
        self.over = asyncio.Event()

    async def send(self, send: Callable[[], Awaitable[Any]]) -> None:
        try:
            while self.sent < MANY:
                await send()
                self.sent += 1
        finally:
            self.over.set()


def ferrows_app(endless: Endless) -> App:
    app = App("endless", env_prefix=None)

    @app.get("/")
    async def stream(request: Request) -> None:
        response = await request.respond()
        await endless.send(lambda: response.send(PIECE))

    return app


def asgi(events: str, status: int, endless: Endless) -> App:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await send({"type": f"{events}.start", "status": status, "headers": []})
        await endless.send(lambda: send({"type": f"{events}.body", "body": PIECE, "more_body": True}))

    return ASGIHost(application, "endless", env_prefix=None)


def asgi_app(endless: Endless) -> App:
    return asgi("http.response", 200, endless)


def asgi_denial(endless: Endless) -> App:
    return asgi("websocket.http.response", 403, endless)


REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
APPS = [
    pytest.param(ferrows_app, REQUEST, id="ferrows"),
    pytest.param(asgi_app, REQUEST, id="asgi"),
    pytest.param(asgi_denial, HANDSHAKE, id="asgi denial"),
]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(("make", "request_bytes"), APPS)
@on_both_loops
async def test_client_that_reads_and_leaves_holds_nobody_up(
    make: Callable[[Endless], App], request_bytes: bytes, tls: bool, authority: trustme.CA
) -> None:
    endless = Endless()
    server_context = client_context = None
    if tls:
        server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(server_context)
        client_context = ssl.create_default_context()
        authority.configure_trust(client_context)
    async with asyncio.timeout(60), await make(endless).create_server(port=0, ssl=server_context) as server:
        turns = [0]

        async def turn() -> None:
            while not endless.over.is_set():
                await asyncio.sleep(0)
                turns.append(endless.sent)

        turning = asyncio.create_task(turn())
        await asyncio.to_thread(_take_and_leave, server.sockets[0].getsockname()[:2], client_context, request_bytes)
        await turning
    # A handler that nobody stops does not come to know that there is nobody any more.
    assert endless.sent < MANY
    assert max(after - before for before, after in itertools.pairwise(turns)) <= MOST_A_TURN


def _take_and_leave(address: tuple[str, int], context: ssl.SSLContext | None, request_bytes: bytes) -> None:
    """Read as fast as the handler writes, then reset the connection."""
    with socket.create_connection(address) as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock = plain if context is None else context.wrap_socket(plain, server_hostname="localhost")
        with sock:
            sock.sendall(request_bytes)
            left = 2**20
            while left > 0:
                left -= len(sock.recv(2**18))
