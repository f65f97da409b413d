"""``FerrowsEngine``: the codec as an engine, for those who hold a connection of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .._codec import Connection
from ..config import WebsocketSettings
from ..events import Close, Event, Failure
from ..handshake import accept

if TYPE_CHECKING:
    from ..request import Request

__all__ = ["FerrowsEngine"]


class FerrowsEngine:
    """The codec's connection, driven as every other engine is.

    A route does without it: its :class:`ferrows.Websocket` has the codec inside. ``connection`` is one whose opening
    handshake is over.
    """

    __slots__ = ("_answering", "_connection", "_settings", "subprotocol")

    def __init__(self, settings: WebsocketSettings | None = None, connection: Connection | None = None) -> None:
        self._settings = WebsocketSettings() if settings is None else settings
        self._connection = Connection(max_size=self._settings.max_size) if connection is None else connection
        # For ever: the answers to pings are not the engine's.
        self._connection.hold_pongs(True)
        # The codec has an answer to a Close or a failure ready, which is to leave last.
        self._answering = False
        self.subprotocol: str | None = None

    @property
    def state(self) -> int:
        """How far the codec's connection is."""
        return self._connection.state

    def handshake(self, request: Request, subprotocols: Sequence[str] | None) -> bytes:
        """Accept as a route without an engine does."""
        agreed = accept(request, subprotocols, self._settings)
        self.subprotocol = agreed.subprotocol
        self._connection = Connection(max_size=self._settings.max_size, deflate=agreed.deflate)
        self._connection.hold_pongs(True)
        return agreed.response

    def receive_data(self, data: bytes) -> None:
        """Parse."""
        # Fragments as they come: whether they are joined is for the owner to say.
        self._connection.stream_next()
        self._connection.receive_data(data)

    def receive_eof(self) -> None:
        """Take note of the end."""
        self._connection.receive_eof()

    def events(self) -> Iterator[Event]:
        """Give what arrived."""
        for event in self._connection.events():
            if isinstance(event, Close | Failure):
                self._answering = self._connection.close_sent is None
            yield event

    def send_text(self, data: str, fin: bool = True) -> None:
        """Send text."""
        self._connection.send_text(data, fin)

    def send_binary(self, data: bytes, fin: bool = True) -> None:
        """Send bytes."""
        self._connection.send_binary(data, fin)

    def send_ping(self, data: bytes) -> None:
        """Send a Ping."""
        self._connection.send_ping(data)

    def send_pong(self, data: bytes) -> None:
        """Send a Pong."""
        self._connection.send_pong(data)

    def send_close(self, code: int | None, reason: str) -> None:
        """Send a Close, or let the answer go that is ready."""
        self._answering = False
        self._connection.send_close(code, reason)

    def fail(self, code: int, reason: str) -> None:
        """Fail, or let the Close go that is ready."""
        self._answering = False
        self._connection.fail(code, reason)

    def data_to_send(self) -> bytes:
        """Return the output; once an answer is ready, only with it."""
        return b"" if self._answering else self._connection.data_to_send()
