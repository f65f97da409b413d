"""ferrows: a WebSocket server for Python with its hot path in Rust."""

from __future__ import annotations

from typing import Any

from . import exceptions, response
from ._codec import broadcast
from .app import App
from .blueprints import Blueprint
from .config import Config
from .exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK, FerrowsException, WebsocketClosed
from .request import Request
from .response import HTTPResponse, empty, file, html, json, raw, redirect, text
from .websocket import Websocket

__all__ = [
    "App",
    "Blueprint",
    "Config",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "FerrowsException",
    "HTTPResponse",
    "Request",
    "Websocket",
    "WebsocketClosed",
    "__version__",
    "broadcast",
    "empty",
    "exceptions",
    "file",
    "html",
    "json",
    "raw",
    "redirect",
    "response",
    "text",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        # The metadata of the installed package is the one place where the version stands; reading it takes a while.
        from importlib.metadata import version

        return version("ferrows")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
