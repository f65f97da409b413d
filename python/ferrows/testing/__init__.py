"""Clients for the tests of an application; :mod:`ferrows.testing.plugin` has the fixtures for pytest."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .client import AsyncTestClient
    from .response import Response
    from .sync import TestClient, TestWebsocket
    from .transport import MemoryTransport, connect_in_memory

__all__ = ["AsyncTestClient", "MemoryTransport", "Response", "TestClient", "TestWebsocket", "connect_in_memory"]

# Imported when they are asked for, as pytest imports this package for its plugin.
_SOURCES: Final = {
    "AsyncTestClient": "client",
    "MemoryTransport": "transport",
    "Response": "response",
    "TestClient": "sync",
    "TestWebsocket": "sync",
    "connect_in_memory": "transport",
}


def __getattr__(name: str) -> Any:
    if name not in _SOURCES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_SOURCES[name]}", __name__), name)
    globals()[name] = value
    return value
