"""ferrows with `broadcast()` in place of a loop over the connections."""

from __future__ import annotations

from benchmarks.apps.ferrows_coroutine import connected, echo, serve
from ferrows import Request, Websocket, broadcast


async def publish(request: Request, ws: Websocket) -> None:
    connected.add(ws)
    try:
        async for message in ws:
            for slow in broadcast(connected, message):
                # The load generator reads all the time; whoever cannot take a message gets it later, as in the loop.
                await slow.send(message)
    finally:
        connected.discard(ws)


if __name__ == "__main__":
    serve(echo, publish)
