"""``Engine``: a WebSocket implementation without I/O, as an :class:`EngineWebsocket` drives it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from ..config import WebsocketSettings
    from ..events import Event
    from ..request import Request

__all__ = ["Engine", "EngineFactory"]


class Engine(Protocol):
    """Bytes in, events out; sends in, bytes out. One engine serves one connection, from its handshake on.

    What the connection decides is left to it, since it alone knows whether the peer reads and what the handler still
    has to say. So an engine answers nothing of its own accord: the connection answers a :class:`~ferrows.events.Ping`
    that :meth:`events` reports by :meth:`send_pong`, a ``Close`` by :meth:`send_close`, and a ``Failure`` by
    :meth:`fail`, each when its time has come. Messages may still be sent between a ``Close`` or a ``Failure`` and the
    answer to it. An engine that answers pings itself does not report them.

    Every method is called on the event loop's thread and never while another one runs.
    """

    @property
    def state(self) -> int:
        """How far the connection is, as :class:`ferrows.websocket.State` counts; 3 (closed) ends it."""
        ...

    @property
    def subprotocol(self) -> str | None:
        """What the handshake agreed on."""
        ...

    def handshake(self, request: Request, subprotocols: Sequence[str] | None) -> bytes:
        """Return the whole head of the 101 response; an HTTPException refuses the upgrade with its status.

        ``subprotocols`` are the route's, in order of preference. ``ferrows.handshake.accept`` does it all, permessage-
        deflate included.
        """
        ...

    def receive_data(self, data: bytes) -> None:
        """Take bytes that came from the peer, cut anywhere. What the peer does wrong is an event, no exception."""
        ...

    def receive_eof(self) -> None:
        """Take note that no more bytes will come."""
        ...

    def events(self) -> Iterable[Event]:
        """Give what has arrived since the last call, in order: the named tuples of :mod:`ferrows.events`.

        A message is one ``Message``, or one ``Fragment`` for each of its frames. After a ``Close`` or a ``Failure``,
        which carries the close code that the peer's error means, nothing is read any more.
        """
        ...

    def send_text(self, data: str, fin: bool = True) -> None:
        """Send a text message, or a fragment of one unless ``fin``; the next call continues it then."""
        ...

    def send_binary(self, data: bytes, fin: bool = True) -> None:
        """Send a binary message; as :meth:`send_text`."""
        ...

    def send_ping(self, data: bytes) -> None:
        """Send a Ping of at most 125 bytes."""
        ...

    def send_pong(self, data: bytes) -> None:
        """Send a Pong of at most 125 bytes."""
        ...

    def send_close(self, code: int | None, reason: str) -> None:
        """Send a Close, to begin the closing handshake or to answer the peer's; without a code it has no body.

        Called once; code and reason may be on the wire.
        """
        ...

    def fail(self, code: int, reason: str) -> None:
        """Send the Close of a failed connection (RFC 6455 §7.1.7). Called once, and never with 1006."""
        ...

    def data_to_send(self) -> bytes:
        """Return what is to be written, and forget it."""
        ...


EngineFactory: TypeAlias = "Callable[[WebsocketSettings], Engine]"
"""Makes the engine of one connection from the settings of its route."""
