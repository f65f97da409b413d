"""The server around an app: connections, sockets, loops, and the steps of a server's life."""

from __future__ import annotations

from .async_server import AsyncioServer
from .events import trigger_events
from .goodbye import get_goodbye
from .launch import run_workers
from .loop import try_use_uvloop, try_windows_loop
from .protocols.http_protocol import HttpProtocol
from .protocols.websocket_protocol import WebSocketProtocol
from .runners import Signal, serve
from .socket import bind_socket, bind_sockets, bind_unix_socket, configure_socket, remove_unix_socket
from .target import Fork, Import, Program
from .worker import is_worker

__all__ = [
    "AsyncioServer",
    "Fork",
    "HttpProtocol",
    "Import",
    "Program",
    "Signal",
    "WebSocketProtocol",
    "bind_socket",
    "bind_sockets",
    "bind_unix_socket",
    "configure_socket",
    "get_goodbye",
    "is_worker",
    "remove_unix_socket",
    "run_workers",
    "serve",
    "trigger_events",
    "try_use_uvloop",
    "try_windows_loop",
]
