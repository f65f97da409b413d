"""Other implementations of the WebSocket protocol in the codec's place; a handler does not see the difference."""

from __future__ import annotations

from .choice import ENGINES, with_engine
from .engine import Engine, EngineFactory
from .native import FerrowsEngine
from .websocket import EngineWebsocket

__all__ = ["ENGINES", "Engine", "EngineFactory", "EngineWebsocket", "FerrowsEngine", "with_engine"]
