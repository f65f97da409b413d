"""Two ways to register a WebSocket handler: a decorator, and a call.

Written for Sanic; only the import lines differ.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

import os

from ferrows import App as Sanic

app = Sanic("RoutesApp")


@app.websocket("/ws")
async def websocket_handler(request, ws):
    await ws.send("Hello WebSocket!")
    msg = await ws.recv()
    print(f"Received: {msg}")


async def greet(request, ws, name):
    """A part of the path in angle brackets arrives as a keyword argument."""
    await ws.send(f"Hello {name}!")


app.add_websocket_route(greet, "/ws/greet/<name>")


if __name__ == "__main__":
    app.run(host=os.environ.get("HOST", "127.0.0.1"), port=int(os.environ.get("PORT", "8000")))
