"""picows' own coroutine API, modelled on that of websockets."""

from __future__ import annotations

from picows.websockets.asyncio.server import ServerConnection, broadcast, serve
from picows.websockets.exceptions import ConnectionClosed

from benchmarks.apps.options import BACKLOG, HOST, MAX_SIZE, parse

connected: set[ServerConnection] = set()


async def handler(ws: ServerConnection) -> None:
    try:
        if ws.request.path == "/broadcast":
            connected.add(ws)
            async for message in ws:
                broadcast(connected, message)
        else:
            async for message in ws:
                await ws.send(message)
    except ConnectionClosed:
        pass
    finally:
        connected.discard(ws)


async def main(port: int, deflate: bool) -> None:
    async with serve(
        handler,
        HOST,
        port,
        compression="deflate" if deflate else None,
        max_size=MAX_SIZE,
        ping_interval=None,
        backlog=BACKLOG,
    ) as server:
        await server.serve_forever()


if __name__ == "__main__":
    options = parse()
    options.run(main(options.port, options.deflate))
