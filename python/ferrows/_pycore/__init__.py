"""The pure-Python twin of ``ferrows._core``: the same interface, the same answers, no build step."""

from __future__ import annotations

from .broadcast import broadcast
from .connection import CLOSED, CLOSING, OPEN, Connection
from .head import Head, HeadReader
from .mask import apply_mask
from .stream import MessageStream

__all__ = ["CLOSED", "CLOSING", "OPEN", "Connection", "Head", "HeadReader", "MessageStream", "apply_mask", "broadcast"]
