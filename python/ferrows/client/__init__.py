"""A WebSocket client on the codec of the server."""

from __future__ import annotations

from .connection import ClientProtocol, ClientWebsocket, Connecting, connect
from .response import ClientResponse

__all__ = ["ClientProtocol", "ClientResponse", "ClientWebsocket", "Connecting", "connect"]
