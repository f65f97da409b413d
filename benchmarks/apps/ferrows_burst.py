"""ferrows with a handler that takes all that has arrived at once."""

from __future__ import annotations

from benchmarks.apps.ferrows_coroutine import serve
from ferrows import Request, Websocket


async def echo(request: Request, ws: Websocket) -> None:
    async for message in ws:
        await ws.send(message)
        for waiting in await ws.recv_burst():
            await ws.send(waiting)


if __name__ == "__main__":
    serve(echo)
