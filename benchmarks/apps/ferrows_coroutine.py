"""ferrows with the handler that its README shows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from benchmarks.apps.options import BACKLOG, FACTS, GREETING, HOST, MAX_SIZE, Options, parse
from ferrows import App, HTTPResponse, Request, Websocket, json, text

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


def compression(options: Options) -> dict[str, object]:
    fresh = not options.takeover
    return {
        "level": options.level,
        "mem_level": options.mem_level,
        "server_no_context_takeover": fresh,
        "client_no_context_takeover": fresh,
    }


Handler: TypeAlias = Callable[[Request, Websocket], Awaitable[None]]


def serve(handler: Handler, broadcaster: Handler = broadcast) -> None:
    """Serve with ``handler`` on ``/ws``, and ``broadcaster`` on ``/broadcast``."""
    options = parse()
    app = App("benchmark")
    app.config.update(
        WEBSOCKET_MAX_SIZE=MAX_SIZE,
        WEBSOCKET_PING_INTERVAL=None,
        WEBSOCKET_COMPRESSION=compression(options) if options.deflate else None,
        USE_UVLOOP=options.uvloop,
    )
    app.add_route(greet, "/")
    app.add_route(facts, "/json")
    app.add_websocket_route(handler, "/ws")
    app.add_websocket_route(broadcaster, "/broadcast")
    app.run(HOST, options.port, access_log=False, backlog=BACKLOG, motd=False)


if __name__ == "__main__":
    serve(echo)
