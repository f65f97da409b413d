"""The application of ferrows under attack: handlers of every kind, and what may leak."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import sys
import time
from collections.abc import AsyncIterator
from typing import Final

from ferrows import App, HTTPResponse, Request, Websocket, broadcast, json, text
from ferrows.log import configure_logging

TAKEOVER: Final = {"client_no_context_takeover": False, "server_no_context_takeover": False}


def make_app() -> App:
    configure_logging()
    app = App("hostile")
    app.config.ACCESS_LOG = False
    add_state(app)
    add_echoes(app)
    add_idle(app)
    add_failing(app)
    add_sending(app)
    return app


def add_state(app: App) -> None:
    @app.get("/")
    async def root(request: Request) -> HTTPResponse:
        return text("here")

    @app.post("/body")
    async def body(request: Request) -> HTTPResponse:
        return text(str(len(request.body)))

    @app.get("/state")
    async def state(request: Request) -> HTTPResponse:
        """What may leak: tasks, connections, tracked objects, and memory as the allocators count it."""
        gc.collect()
        server = app.servers[0]
        found = {
            "tasks": len(asyncio.all_tasks()),
            "objects": len(gc.get_objects()),
            "blocks": sys.getallocatedblocks(),
            "heap": heap(),
            "connections": len(server.connections),
            "refusals": dict(server.refusals),
        }
        return json(found)


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks")
    ] + [("fordblks", ctypes.c_size_t), ("keepcost", ctypes.c_size_t)]


def heap() -> int:
    """Bytes that are in use of the C library's heap, to the byte: what the extension has, and objects of more than 512.

    0 where there is no ``mallinfo2`` (other libraries than glibc from 2.33 on). Other objects are ``blocks``.
    """
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return 0
    mallinfo.restype = _Mallinfo
    found = mallinfo()
    return int(found.uordblks + found.hblkhd)


def add_echoes(app: App) -> None:
    echoed = 0

    @app.websocket("/echo")
    async def echo(request: Request, ws: Websocket) -> None:
        nonlocal echoed
        async for message in ws:
            await ws.send(message)
            echoed += 1

    @app.after_server_stop
    async def say_echoed(app: App) -> None:
        # In one piece, for there may be several processes.
        os.write(2, f"echoed {echoed}\n".encode())

    @app.websocket("/who")
    async def who(request: Request, ws: Websocket) -> None:
        """Say which process it is, then echo."""
        await ws.send(str(os.getpid()))
        async for message in ws:
            await ws.send(message)

    @app.websocket("/count", compression=TAKEOVER)
    async def count(request: Request, ws: Websocket) -> None:
        """Answer b"?" with the number of messages since the last one."""
        messages = 0
        async for message in ws:
            messages += 1
            if message == b"?":
                await ws.send(str(messages))
                messages = 0

    @app.websocket("/deflate", compression=TAKEOVER)
    async def deflate(request: Request, ws: Websocket) -> None:
        async for message in ws:
            await ws.send(message[:100])


def add_idle(app: App) -> None:
    @app.websocket("/idle")
    async def idle(request: Request, ws: Websocket) -> None:
        """Receive nothing: what arrives is kept as far as the queue goes."""
        await ws.wait_closed()

    @app.websocket("/deflate_idle", compression=TAKEOVER)
    async def deflate_idle(request: Request, ws: Websocket) -> None:
        await ws.wait_closed()

    @app.websocket("/stays")
    async def stays(request: Request, ws: Websocket) -> None:
        await asyncio.Event().wait()

    @app.websocket("/impatient")
    async def impatient(request: Request, ws: Websocket) -> None:
        """Wait for a message three times, each time too briefly."""
        for _ in range(3):
            try:
                await ws.recv(timeout=0.001)
            except TimeoutError:
                continue
        await ws.send("late")


def add_failing(app: App) -> None:
    @app.websocket("/raises")
    async def raises(request: Request, ws: Websocket) -> None:
        await ws.recv()
        raise RuntimeError("handler of the hostile tests")

    @app.websocket("/blocks")
    async def blocks(request: Request, ws: Websocket) -> None:
        await ws.recv()
        time.sleep(0.3)

    @app.websocket("/cancelled")
    async def cancelled(request: Request, ws: Websocket) -> None:
        await ws.recv()
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)


def add_sending(app: App) -> None:
    members: set[Websocket] = set()

    @app.websocket("/room")
    async def room(request: Request, ws: Websocket) -> None:
        """Send every message to all."""
        members.add(ws)
        try:
            async for message in ws:
                broadcast(members, message)
        finally:
            members.discard(ws)

    @app.websocket("/pings")
    async def pings(request: Request, ws: Websocket) -> None:
        """Wait for a Pong with one future, and leave another one alone."""
        await ws.ping(b"left")
        await (await ws.ping(b"ping"))
        await ws.send("pong")

    @app.websocket("/streams")
    async def streams(request: Request, ws: Websocket) -> None:
        """Send each fragment back as it arrives, as fragments of one message."""

        async def fragments() -> AsyncIterator[str | bytes]:
            async for fragment in ws.recv_streaming():
                yield fragment

        await ws.send(fragments())
