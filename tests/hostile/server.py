"""The server under attack, in a process of its own.

`python -m tests.hostile.server ferrows|aiohttp|websockets|uvicorn --loop asyncio|uvloop` prints the port that it
listens on and serves until it is killed. Every peer echoes at ``/echo``; what else ferrows has is in application.py.
Its settings come from the environment.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import resource
import socket
from collections.abc import Callable
from typing import Any


def main() -> None:
    arguments = argparse.ArgumentParser(description="the server under attack")
    arguments.add_argument("peer", choices=["ferrows", "aiohttp", "websockets", "uvicorn"])
    arguments.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    arguments.add_argument("--files", type=int, help="RLIMIT_NOFILE, set once the server is about to listen")
    arguments.add_argument("--stall", type=float, help="seconds in which a client must read something")
    arguments.add_argument("--workers", type=int, help="run as a program does; more than one under a supervisor")
    options = arguments.parse_args()
    if options.workers:
        run_ferrows(options.workers, options.loop)
        return
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


BACKLOG = 2048
"""Ours, for the peers as well: with about a hundred, as some have, a crowd takes minutes to come in."""


def ready(sock: socket.socket) -> None:
    print(sock.getsockname()[1], flush=True)


async def serve_ferrows(sock: socket.socket) -> None:
    from .application import make_app

    async with await make_app().create_server(sock=sock) as server:
        ready(sock)
        await server.wait_for_stop()


def run_ferrows(workers: int, loop: str) -> None:
    """Serve as a program does, with signals and under a supervisor; each worker prints the port when it is ready."""
    from .application import make_app

    os.environ["FERROWS_NO_UVLOOP"] = "1" if loop == "asyncio" else "0"
    app = make_app()

    @app.after_server_start
    async def say_port(app: Any) -> None:
        ready(app.servers[0].sockets[0])

    app.run(port=0, workers=workers, motd=False)


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
