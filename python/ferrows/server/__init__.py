"""The server around an app: connections, sockets, loops, and the steps of a server's life."""

from __future__ import annotations

from .async_server import AsyncioServer
from .events import trigger_events
from .goodbye import get_goodbye
from .loop import try_use_uvloop, try_windows_loop
from .protocols.http_protocol import HttpProtocol
from .protocols.websocket_protocol import WebSocketProtocol
from .runners import Signal, serve
from .socket import bind_socket, bind_unix_socket, configure_socket, remove_unix_socket

__all__ = [
    "AsyncioServer",
    "HttpProtocol",
    "Signal",
    "WebSocketProtocol",
    "bind_socket",
    "bind_unix_socket",
    "configure_socket",
    "get_goodbye",
    "remove_unix_socket",
    "serve",
    "trigger_events",
    "try_use_uvloop",
    "try_windows_loop",
]
