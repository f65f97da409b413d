"""Sanic; it has no permessage-deflate."""

from __future__ import annotations

from sanic import Request, Sanic, Websocket  # type: ignore[import-not-found,unused-ignore]
from sanic.response import HTTPResponse, json, text  # type: ignore[import-not-found,unused-ignore]

from benchmarks.apps.options import BACKLOG, FACTS, GREETING, HOST, MAX_SIZE, parse

connected: set[Websocket] = set()


async def greet(request: Request) -> HTTPResponse:
    return text(GREETING)


async def facts(request: Request) -> HTTPResponse:
    return json(FACTS)


async def echo(request: Request, ws: Websocket) -> None:
    async for message in ws:
        await ws.send(message)


async def broadcast(request: Request, ws: Websocket) -> None:
    connected.add(ws)
    try:
        async for message in ws:
            for peer in tuple(connected):
                await peer.send(message)
    finally:
        connected.discard(ws)


if __name__ == "__main__":
    options = parse()
    app = Sanic("benchmark")
    app.add_route(greet, "/", methods=["GET"])
    app.add_route(facts, "/json", methods=["GET"])
    app.add_websocket_route(echo, "/ws")
    app.add_websocket_route(broadcast, "/broadcast")
    app.config.update(
        {
            "WEBSOCKET_MAX_SIZE": MAX_SIZE,
            "WEBSOCKET_PING_INTERVAL": None,
            "ACCESS_LOG": False,
            "USE_UVLOOP": options.uvloop,
        }
    )
    app.run(HOST, options.port, single_process=True, access_log=False, motd=False, backlog=BACKLOG)
