"""Three WebSocket implementations on one port, the same handler on each, and a REST route beside them.

``pip install '.[wsproto,websockets]'`` in a checkout brings the two others. ``FERROWS_WEBSOCKET_ENGINE=wsproto`` in the
environment would change the first route's.
"""

import os

from ferrows import App, HTTPResponse, Request, Websocket
from ferrows.response import json

app = App("engines")


async def echo(request: Request, ws: Websocket) -> None:
    async for message in ws:
        await ws.send(message)


app.add_websocket_route(echo, "/ws", name="default")
app.add_websocket_route(echo, "/ws/wsproto", name="wsproto", engine="wsproto")
app.add_websocket_route(echo, "/ws/websockets", name="websockets", engine="websockets", compression="deflate")


@app.get("/")
async def index(request: Request) -> HTTPResponse:
    return json([app.url_for(name) for name in ("default", "wsproto", "websockets")])


if __name__ == "__main__":
    app.run(host=os.environ.get("HOST", "127.0.0.1"), port=int(os.environ.get("PORT", "8000")))
