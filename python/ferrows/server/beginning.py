"""``Beginning``: what a connection is before the protocol that it is for, while TLS or a proxy's header comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from .protocols.base_protocol import ConnInfo, FerrowsProtocol

if TYPE_CHECKING:
    from ..config import Config
    from .admission import Admission

__all__ = ["Beginning", "BegunConnInfo", "Entrance"]


class BegunConnInfo(ConnInfo):
    """Who is connected to whom, known before the protocol that the connection is for."""

    __slots__ = ("begun",)

    def secured(self, transport: asyncio.BaseTransport) -> None:
        """Take note that the connection goes on with TLS, in this transport."""
        self._transport = transport
        self.ssl = True


@dataclass(slots=True, eq=False)
class Entrance:
    """What the connections of one server share at their beginning; ``make_protocol`` takes the ``loop``."""

    make_protocol: Callable[..., asyncio.Protocol]
    config: Config
    connections: set[Any]
    admission: Admission
    unix: str | None = None


class Beginning(asyncio.BaseProtocol):
    """One of the server's connections that no request can have arrived on yet.

    It counts like any other, has until ``REQUEST_HEAD_TIMEOUT`` after it came together with the first head, and gives
    its place to the protocol that is to follow.
    """

    __slots__ = (
        "admission",
        "begun",
        "conn_info",
        "connections",
        "entrance",
        "loop",
        "task",
        "transport",
    )

    def __init__(self, entrance: Entrance, loop: asyncio.AbstractEventLoop, begun: float | None = None) -> None:
        self.entrance = entrance
        self.loop = loop
        # The server's other connections have these.
        self.connections = entrance.connections
        self.transport: asyncio.Transport | None = None
        self.conn_info: BegunConnInfo | None = None
        self.task: asyncio.Task[None] | None = None
        self.admission: Admission | None = None
        self.begun = loop.time() if begun is None else begun

    @property
    def remaining(self) -> float:
        """Seconds that are left to the client, never 0."""
        return max(0.001, float(self.begun + self.entrance.config.REQUEST_HEAD_TIMEOUT - self.loop.time()))

    def begin(self, transport: asyncio.BaseTransport) -> None:
        """Become one of the server's connections, which is let in or not when it is known whose it is."""
        self.transport = cast(asyncio.Transport, transport)
        self.connections.add(self)

    def leave(self) -> None:
        """Be no connection of the server's any more."""
        self.connections.discard(self)
        if self.admission is not None:
            self.admission.lost(self)
            self.admission = None

    def hand_over(self, transport: asyncio.Transport) -> asyncio.BaseProtocol:
        """Give the connection, which was let in, to the protocol that is to follow; return that."""
        protocol = self.entrance.make_protocol(loop=self.loop)
        transport.set_protocol(protocol)
        self.connections.discard(self)
        if isinstance(protocol, FerrowsProtocol):
            assert self.conn_info is not None
            self.conn_info.begun = self.begun
            protocol.conn_info = self.conn_info
            if self.admission is not None:
                self.admission.hand_over(self, protocol)
                self.admission = None
        else:
            # One that nobody counts.
            self.leave()
        protocol.connection_made(transport)
        return protocol

    def shutdown(self, code: int = 1001) -> None:
        """End at once: nothing has begun."""
        self.abort()

    def close_if_idle(self) -> bool:
        """Close the connection, for no request can be under way."""
        self.abort()
        return True

    def close(self, timeout: float | None = None) -> None:
        """End at once."""
        self.abort()

    def abort(self) -> None:
        """Drop the connection."""
        self.leave()
        if self.transport is not None:
            self.transport.abort()
