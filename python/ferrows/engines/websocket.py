"""``EngineWebsocket``: what a handler holds where its route has an engine."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .._pycore.stream import MessageStream
from ..handshake import Handshake
from ..websocket import WebsocketMethods
from .inbox import EngineInbox

if TYPE_CHECKING:
    from ..config import WebsocketSettings
    from ..limits import InboundLimits
    from ..request import Request
    from .engine import Engine

__all__ = ["EngineWebsocket", "open_engine"]


class EngineWebsocket(WebsocketMethods, MessageStream):  # type: ignore[misc, override]  # two streams
    """A :class:`ferrows.Websocket` that has an engine in the codec's place.

    The stream is the codec's twin in Python: the queue and its limits, the turns, the cork and the closing handshake
    are the same as everywhere. ``compress`` of ``send`` has no effect: the engine decides.
    """

    __slots__ = (
        "__dict__",
        "_pings",
        "close_timeout",
        "engine",
        "latency",
        "ping_interval",
        "ping_timeout",
        "subprotocol",
    )

    _send_piece = MessageStream.send_data

    def __new__(
        cls,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport | None,
        *,
        engine: Engine,
        max_size: int | None = 2**20,
        max_queue: int | None = 32,
        limits: InboundLimits | None = None,
        **options: Any,
    ) -> EngineWebsocket:
        self: EngineWebsocket = super().__new__(cls, loop, transport, max_size=max_size, max_queue=max_queue)
        self._core = EngineInbox(engine, max_size=max_size, limits=limits)
        self._core.stream = self
        return self

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport | None,
        *,
        engine: Engine,
        **options: Any,
    ) -> None:
        super().__init__(loop, transport, **options)
        self.engine = engine
        """The engine that speaks on this connection."""

    @property
    def _inbox(self) -> EngineInbox:
        assert isinstance(self._core, EngineInbox)
        return self._core


def open_engine(
    request: Request, subprotocols: Sequence[str] | None, settings: WebsocketSettings
) -> tuple[Callable[..., EngineWebsocket], Handshake]:
    """Have the engine of a route answer an opening handshake; return what makes the websocket, and the handshake."""
    assert settings.engine is not None and not isinstance(settings.engine, str)
    engine: Engine = settings.engine(settings)
    response = engine.handshake(request, subprotocols)
    # What is compressed is the engine's business.
    return functools.partial(EngineWebsocket, engine=engine), Handshake(response, engine.subprotocol, None)
