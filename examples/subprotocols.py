"""One route, two subprotocols (RFC 6455 §1.9): the first of the server's list that the client offers is chosen.

Written for Sanic; only the import lines differ. The two `handle_` functions fill what the original leaves open.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

import os
import time

from ferrows import App as Sanic

app = Sanic("SubprotocolsApp")


@app.websocket("/ws", subprotocols=["chat", "notification"])
async def websocket_with_subprotocols(request, ws):
    """
    WebSocket handler with subprotocol negotiation.

    The client can request specific subprotocols during handshake.
    The server selects the first supported subprotocol.
    """

    selected_protocol = ws.subprotocol

    if selected_protocol == "chat":
        await handle_chat_protocol(ws)
    elif selected_protocol == "notification":
        await handle_notification_protocol(ws)
    else:
        await ws.close(code=1002, reason="Unsupported subprotocol")


async def handle_chat_protocol(ws):
    """`chat`: every message comes back."""
    async for message in ws:
        await ws.send(f"chat: {message}")


async def handle_notification_protocol(ws):
    """`notification`: one JSON message, then the handler returns, which closes with 1000."""
    await ws.send({"type": "notification", "at": time.time()}, encoding="json")


if __name__ == "__main__":
    app.run(host=os.environ.get("HOST", "127.0.0.1"), port=int(os.environ.get("PORT", "8000")))
