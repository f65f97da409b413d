"""Servers for the client: ours, and ones that say whatever they are told to."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ferrows import App, Request, Websocket
from ferrows.handshake import accept_value

GOOD = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: {accept}\r\n"
)

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def peer(name: str) -> Any:
    """Import what a developer may not have installed; CI has to have it."""
    if os.environ.get("CI") == "true":
        return importlib.import_module(name)
    return pytest.importorskip(name, reason=f"{name} is not installed")


def make_app() -> App:
    """An app that echoes, on several paths with several settings."""
    app = App("for_clients", {"WEBSOCKET_MAX_SIZE": 2**23, "ACCESS_LOG": False}, env_prefix=None)

    @app.websocket("/echo", subprotocols=["v2", "v1"])
    @app.websocket("/deflate", name="deflate", compression="deflate")
    @app.websocket(
        "/takeover",
        name="takeover",
        compression={"server_no_context_takeover": False, "client_no_context_takeover": False, "threshold": 0},
    )
    @app.websocket("/small", name="small", compression={"client_max_window_bits": 9, "server_max_window_bits": 9})
    async def echo(request: Request, ws: Websocket) -> None:
        async for message in ws:
            await ws.send(message)

    @app.websocket("/headers")
    async def headers(request: Request, ws: Websocket) -> None:
        await ws.send(
            {"headers": dict(request.headers), "target": f"{request.path}?{request.query_string}"}, encoding="json"
        )

    @app.websocket("/close/<code:int>")
    async def close(request: Request, ws: Websocket, code: int) -> None:
        await ws.send("last words")
        await ws.close(code, "because")

    @app.websocket("/wait")
    async def wait(request: Request, ws: Websocket) -> None:
        await ws.wait_closed()

    return app


@asynccontextmanager
async def talking(talk: Talk) -> AsyncIterator[str]:
    """A raw TCP server that runs ``talk`` for its connection; the URL of it."""
    failures: list[BaseException] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except Exception as error:
            failures.append(error)
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    assert failures == []


async def read_key(reader: asyncio.StreamReader) -> str:
    """Read the request and return its key."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    return next(line.partition(": ")[2] for line in head.split("\r\n") if line.startswith("Sec-WebSocket-Key"))


async def accept(reader: asyncio.StreamReader, *fields: str) -> bytes:
    """Read the request and return a good answer to it, with more fields."""
    head = GOOD.format(accept=accept_value(await read_key(reader))) + "".join(f"{field}\r\n" for field in fields)
    return f"{head}\r\n".encode()
