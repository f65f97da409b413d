"""ASGI: serve any ASGI 3 application, with its HTTP, its WebSockets and its lifespan."""

from __future__ import annotations

from .exchange import ClientDisconnected
from .host import ASGIHost, serve_asgi
from .lifespan import LifespanError
from .protocol import ASGIProtocol
from .scope import ASGIApplication

__all__ = ["ASGIApplication", "ASGIHost", "ASGIProtocol", "ClientDisconnected", "LifespanError", "serve_asgi"]
