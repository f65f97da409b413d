"""Fan-out: one message to many websockets at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from . import _codec
from .websocket import WebsocketMethods

__all__ = ["broadcast"]

_Websocket = TypeVar("_Websocket", bound=WebsocketMethods)


def broadcast(websockets: Iterable[_Websocket], data: Any, *, compress: bool | None = None) -> list[_Websocket]:
    """Send one message to many websockets at once, and return those that it was not sent to, in their order.

    ``data`` is str or bytes-like. The message is encoded once for all that agreed on the same. It never waits, so it
    leaves out whoever a ``send`` would have to wait for or would raise for: a peer that does not read, that others wait
    to send to, or that is closing. What to do with these is the caller's: drop the message, close them, or ``send``.
    ``compress`` overrides the threshold of a negotiated permessage-deflate.

    TypeError for other data, and for anything but websockets of this server, before anything was sent.
    """
    chosen = list(websockets)
    try:
        return _codec.broadcast(chosen, data, compress=compress)
    except TypeError:
        # Those whose route has an engine are streams of the twin, whatever the codec is.
        ours = [ws for ws in chosen if isinstance(ws, _codec.MessageStream)]
        if len(ours) == len(chosen):
            raise
    from . import _pycore

    others: Any = [ws for ws in chosen if not isinstance(ws, _codec.MessageStream)]
    left = {id(ws) for ws in _pycore.broadcast(others, data, compress=compress)}
    left.update(id(ws) for ws in _codec.broadcast(ours, data, compress=compress))
    return [ws for ws in chosen if id(ws) in left]
