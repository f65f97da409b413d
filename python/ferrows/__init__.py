"""ferrows: a WebSocket server for Python with its hot path in Rust."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from . import exceptions, response
    from .app import App
    from .blueprints import Blueprint
    from .client import connect
    from .config import Config
    from .exceptions import (
        ConnectionClosed,
        ConnectionClosedError,
        ConnectionClosedOK,
        FerrowsException,
        WebsocketClosed,
    )
    from .fanout import broadcast
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
    "connect",
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

# Where a name is from; "" for a module. They are imported when they are asked for: pytest imports this package for its
# plugin in every run, also in those that have nothing to do with it, and before coverage can begin to measure.
_SOURCES: Final = {
    "App": "app",
    "Blueprint": "blueprints",
    "Config": "config",
    "ConnectionClosed": "exceptions",
    "ConnectionClosedError": "exceptions",
    "ConnectionClosedOK": "exceptions",
    "FerrowsException": "exceptions",
    "HTTPResponse": "response",
    "Request": "request",
    "Websocket": "websocket",
    "WebsocketClosed": "exceptions",
    "broadcast": "fanout",
    "connect": "client",
    "empty": "response",
    "exceptions": "",
    "file": "response",
    "html": "response",
    "json": "response",
    "raw": "response",
    "redirect": "response",
    "response": "",
    "text": "response",
}


def __getattr__(name: str) -> Any:
    source = _SOURCES.get(name)
    if source is not None:
        value = import_module(f".{source or name}", __name__)
        if source:
            value = getattr(value, name)
        globals()[name] = value
        return value
    if name == "__version__":
        # The metadata of the installed package is the one place where the version stands; reading it takes a while.
        from importlib.metadata import version

        return version("ferrows")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
