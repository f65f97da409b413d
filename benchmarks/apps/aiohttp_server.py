"""aiohttp."""

from __future__ import annotations

import asyncio

from aiohttp import WSMsgType, web

from benchmarks.apps.options import BACKLOG, FACTS, GREETING, HOST, MAX_SIZE, parse

connected: set[web.WebSocketResponse] = set()


async def greet(request: web.Request) -> web.Response:
    return web.Response(text=GREETING)


async def facts(request: web.Request) -> web.Response:
    return web.json_response(FACTS)


def websocket(request: web.Request) -> web.WebSocketResponse:
    return web.WebSocketResponse(max_msg_size=MAX_SIZE, compress=options.deflate)


async def echo(request: web.Request) -> web.WebSocketResponse:
    ws = websocket(request)
    await ws.prepare(request)
    async for message in ws:
        if message.type is WSMsgType.TEXT:
            await ws.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await ws.send_bytes(message.data)
    return ws


async def broadcast(request: web.Request) -> web.WebSocketResponse:
    ws = websocket(request)
    await ws.prepare(request)
    connected.add(ws)
    try:
        async for message in ws:
            for peer in tuple(connected):
                if message.type is WSMsgType.TEXT:
                    await peer.send_str(message.data)
                elif message.type is WSMsgType.BINARY:
                    await peer.send_bytes(message.data)
    finally:
        connected.discard(ws)
    return ws


async def main(port: int) -> None:
    app = web.Application()
    app.add_routes(
        [web.get("/", greet), web.get("/json", facts), web.get("/ws", echo), web.get("/broadcast", broadcast)]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, port, backlog=BACKLOG).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    options = parse()
    options.run(main(options.port))
