"""The server that is struck: `python -m tests.faults.server DESCRIPTOR [SETTINGS]`, in a process of its own.

It serves on a listening socket that it inherits, as ``App.run`` serves a program; ``SETTINGS`` is JSON with arguments
of that. Its configuration comes from the environment.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import sys

from ferrows import App, HTTPResponse, Request, Websocket, broadcast, text
from ferrows import json as as_json
from ferrows.server.loop import loop_name
from ferrows.server.protocols import http_protocol

app = App("faults")
group: set[Websocket] = set()


@app.websocket("/echo")
async def echo(request: Request, ws: Websocket) -> None:
    async for message in ws:
        await ws.send(message)


@app.websocket("/group")
async def join(request: Request, ws: Websocket) -> None:
    """Pass on what arrives to everybody, oneself included."""
    group.add(ws)
    await ws.send(str(len(group)))
    try:
        async for message in ws:
            broadcast(set(group), message)
    finally:
        group.discard(ws)


@app.websocket("/pour")
async def pour(request: Request, ws: Websocket) -> None:
    """Send as many bytes as the first message says, in messages of 64 KiB, then nothing."""
    size = int(await ws.recv())
    for _ in range(0, size, 65536):
        await ws.send(bytes(65536))
    await ws.wait_closed()


@app.websocket("/bye")
async def bye(request: Request, ws: Websocket) -> None:
    """Close at once."""


@app.websocket("/slow")
async def slow(request: Request, ws: Websocket) -> None:
    """Answer a message half a second later."""
    async for message in ws:
        await asyncio.sleep(0.5)
        await ws.send(message)


@app.get("/state")
async def state(request: Request) -> HTTPResponse:
    """What may leak."""
    gc.collect()
    found = {
        "tasks": len(asyncio.all_tasks()),
        "connections": len(app.servers[0].connections),
        "group": len(group),
        "websockets": sum(isinstance(each, Websocket) for each in gc.get_objects()),
        "loop": loop_name(app.loop),
        "pid": os.getpid(),
    }
    return as_json(found)


@app.get("/slow_answer")
async def slow_answer(request: Request) -> HTTPResponse:
    await asyncio.sleep(0.5)
    return text("slow")


@app.get("/large")
async def large(request: Request) -> HTTPResponse:
    return text("x" * int(request.args.get("size")))


@app.get("/cookie")
async def cookie(request: Request) -> HTTPResponse:
    response = text("cookie")
    response.add_cookie("a", "b", max_age=60)
    return response


@app.post("/upload")
async def upload(request: Request) -> HTTPResponse:
    return text(str(len(request.body)))


@app.get("/print")
async def printing(request: Request) -> HTTPResponse:
    """Leave something in the buffer of standard output."""
    print("printed", end="")
    return text("printed")


if folder := os.environ.get("FAULTS_STATIC"):
    app.static("/static", folder)
if seconds := os.environ.get("FAULTS_STALL"):
    vars(http_protocol)["STALL_TIMEOUT"] = float(seconds)

if __name__ == "__main__":
    sock = socket.socket(fileno=int(sys.argv[1]))
    settings = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    app.run(sock=sock, backlog=1024, **settings)
