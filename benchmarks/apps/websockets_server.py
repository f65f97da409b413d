"""websockets, its asyncio server."""

from __future__ import annotations

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

from benchmarks.apps.options import BACKLOG, HOST, LEVEL, MAX_SIZE, MEM_LEVEL, WINDOW_BITS, parse

connected: set[ServerConnection] = set()

DEFLATE = ServerPerMessageDeflateFactory(
    server_max_window_bits=WINDOW_BITS,
    client_max_window_bits=WINDOW_BITS,
    compress_settings={"level": LEVEL, "memLevel": MEM_LEVEL},
)


async def handler(ws: ServerConnection) -> None:
    assert ws.request is not None
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
        compression=None,
        extensions=[DEFLATE] if deflate else None,
        max_size=MAX_SIZE,
        ping_interval=None,
        backlog=BACKLOG,
    ) as server:
        await server.serve_forever()


if __name__ == "__main__":
    options = parse()
    options.run(main(options.port, options.deflate))
