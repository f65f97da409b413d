"""The server under attack, in a process of its own.

`python -m tests.hostile.server ferrows|aiohttp|websockets|uvicorn --loop asyncio|uvloop` prints the port that it
listens on and serves until it is killed. Every peer echoes at ``/echo``; what else there is belongs to ferrows alone.
Its settings come from the environment.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import resource
import socket
import time
from collections.abc import Callable
from typing import Any


def main() -> None:
    arguments = argparse.ArgumentParser(description="the server under attack")
    arguments.add_argument("peer", choices=["ferrows", "aiohttp", "websockets", "uvicorn"])
    arguments.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    arguments.add_argument("--files", type=int, help="RLIMIT_NOFILE, set once the server is about to listen")
    arguments.add_argument("--stall", type=float, help="seconds in which a client must read something")
    options = arguments.parse_args()
    sock = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    if options.stall:
        from ferrows.server.protocols import http_protocol

        vars(http_protocol)["STALL_TIMEOUT"] = options.stall
    serve = SERVERS[options.peer]
    if options.files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (options.files, options.files))
    new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if options.loop == "uvloop":
        new_loop = importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve(sock))


BACKLOG = 4096
"""The same for all: with their defaults of about a hundred a crowd takes minutes to come in."""


def ready(sock: socket.socket) -> None:
    print(sock.getsockname()[1], flush=True)


async def serve_ferrows(sock: socket.socket) -> None:
    from ferrows import App, HTTPResponse, Request, Websocket, json
    from ferrows.log import configure_logging

    configure_logging()
    app = App("hostile")
    app.config.ACCESS_LOG = False

    @app.websocket("/echo")
    async def echo(request: Request, ws: Websocket) -> None:
        async for message in ws:
            await ws.send(message)

    @app.websocket("/count")
    async def count(request: Request, ws: Websocket) -> None:
        """Answer b"?" with the number of messages since the last one."""
        messages = 0
        async for message in ws:
            messages += 1
            if message == b"?":
                await ws.send(str(messages))
                messages = 0

    takeover = {"client_no_context_takeover": False, "server_no_context_takeover": False}

    @app.websocket("/deflate", compression=takeover)
    async def deflate(request: Request, ws: Websocket) -> None:
        async for message in ws:
            await ws.send(message[:100])

    @app.websocket("/idle")
    async def idle(request: Request, ws: Websocket) -> None:
        """Receive nothing: what arrives is kept as far as the queue goes."""
        await ws.wait_closed()

    @app.websocket("/deflate_idle", compression=takeover)
    async def deflate_idle(request: Request, ws: Websocket) -> None:
        await ws.wait_closed()

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

    @app.websocket("/stays")
    async def stays(request: Request, ws: Websocket) -> None:
        await asyncio.Event().wait()

    @app.get("/state")
    async def state(request: Request) -> HTTPResponse:
        """What may leak: tasks, tracked objects, connections."""
        gc.collect()
        server = app.servers[0]
        found = {
            "tasks": len(asyncio.all_tasks()),
            "objects": len(gc.get_objects()),
            "connections": len(server.connections),
            "refusals": dict(getattr(server, "refusals", {})),
        }
        return json(found)

    async with await app.create_server(sock=sock, backlog=BACKLOG) as server:
        ready(sock)
        await server.wait_for_stop()


async def serve_aiohttp(sock: socket.socket) -> None:
    from aiohttp import web

    async def echo(request: Any) -> Any:
        ws = web.WebSocketResponse(max_msg_size=2**20)
        await ws.prepare(request)
        async for message in ws:
            if message.type is web.WSMsgType.TEXT:
                await ws.send_str(message.data)
            else:
                await ws.send_bytes(message.data)
        return ws

    app = web.Application()
    app.router.add_get("/echo", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, sock, backlog=BACKLOG).start()
    ready(sock)
    await asyncio.Event().wait()


async def serve_websockets(sock: socket.socket) -> None:
    import logging

    from websockets.asyncio.server import serve

    logging.basicConfig()

    async def echo(ws: Any) -> None:
        async for message in ws:
            await ws.send(message)

    async with serve(echo, sock=sock, max_size=2**20, backlog=BACKLOG):
        ready(sock)
        await asyncio.Event().wait()


async def serve_uvicorn(sock: socket.socket) -> None:
    import uvicorn

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            return
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            kept = {key: message[key] for key in ("text", "bytes") if message.get(key) is not None}
            await send({"type": "websocket.send", **kept})

    config = uvicorn.Config(
        app, access_log=False, log_level="warning", ws_max_size=2**20, lifespan="off", backlog=BACKLOG
    )
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve([sock]))
    while not server.started:
        await asyncio.sleep(0.01)
    ready(sock)
    await serving


SERVERS: dict[str, Callable[[socket.socket], Any]] = {
    "ferrows": serve_ferrows,
    "aiohttp": serve_aiohttp,
    "websockets": serve_websockets,
    "uvicorn": serve_uvicorn,
}

if __name__ == "__main__":
    main()
