"""Authenticate with a header of the opening handshake; refuse with Close 1008 (policy violation).

Written for Sanic; only the import lines differ. The token check and the handler after it fill what the original leaves
open. A refusal with a real HTTP status, before the upgrade, is the work of a request middleware: see docs/http.md.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

import os

from ferrows import App as Sanic

app = Sanic("AuthenticationApp")


@app.websocket("/ws/authenticated")
async def authenticated_websocket(request, ws):
    """
    WebSocket handler with authentication.

    Authentication is performed during the initial HTTP handshake
    using headers, query parameters, or other request data.
    """

    # Authenticate using request headers
    auth_header = request.headers.get("Authorization")
    if not auth_header:
        await ws.close(code=1008, reason="Authentication required")
        return

    try:
        user = await validate_websocket_token(auth_header)
        request.ctx.user = user
    except AuthenticationError:
        await ws.close(code=1008, reason="Invalid authentication")
        return

    # Continue with authenticated WebSocket handling
    await handle_authenticated_websocket(request, ws)


class AuthenticationError(Exception):
    """The token names nobody."""


async def validate_websocket_token(header):
    """Return the user that a bearer token stands for; a real service asks its own store here."""
    if header == "Bearer valid_token":
        return {"id": "user123", "username": "testuser"}
    raise AuthenticationError


async def handle_authenticated_websocket(request, ws):
    """Echo, with the user's name in front."""
    username = request.ctx.user["username"]
    await ws.send(f"Welcome, {username}")
    async for message in ws:
        await ws.send(f"{username}: {message}")


if __name__ == "__main__":
    app.run(host=os.environ.get("HOST", "127.0.0.1"), port=int(os.environ.get("PORT", "8000")))
