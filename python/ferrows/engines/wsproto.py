"""``WsprotoEngine``: the frames of the package wsproto (the extra ``ferrows[wsproto]``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, Frame, FrameProtocol, Opcode, ParseFailed

from ..events import Close, Event, Failure, Fragment, Message, Ping, Pong
from ..handshake import accept
from ..websocket import State
from .wsproto_extensions import Deflate, SizeLimit

if TYPE_CHECKING:
    from ..config import WebsocketSettings
    from ..request import Request

__all__ = ["WsprotoEngine"]


class WsprotoEngine:
    """wsproto's frames, messages and extensions, without its state of a connection.

    Its ``Connection`` refuses to send messages once the peer's Close is read, while a handler has yet to answer what
    came before that. wsproto knows no limit of a message's size; an extension of ours keeps it.
    """

    __slots__ = ("_frames", "_output", "_pieces", "_settings", "_whole", "state", "subprotocol")

    def __init__(self, settings: WebsocketSettings) -> None:
        self._settings = settings
        self._frames = FrameProtocol(False, [])
        self._output = bytearray()
        # The frame that is arriving, in the pieces that wsproto gives.
        self._pieces: list[str | bytes] = []
        # No frame of the message has ended yet.
        self._whole = True
        self.state = State.CONNECTING
        self.subprotocol: str | None = None

    def handshake(self, request: Request, subprotocols: Sequence[str] | None) -> bytes:
        """Accept as a route without an engine does; wsproto's own needs the request's octets once more."""
        agreed = accept(request, subprotocols, self._settings)
        self.subprotocol = agreed.subprotocol
        extensions: list[Extension] = [SizeLimit(self._settings.max_size)]
        if agreed.deflate is not None:
            extensions.append(Deflate(agreed.deflate, self._settings.max_size))
        self._frames = FrameProtocol(False, extensions)
        self.state = State.OPEN
        return agreed.response

    def receive_data(self, data: bytes) -> None:
        """Give wsproto what arrived; it is parsed as :meth:`events` goes."""
        self._frames.receive_bytes(data)

    def receive_eof(self) -> None:
        """End the connection."""
        self.state = State.CLOSED

    def events(self) -> Iterator[Event]:
        """Give what has arrived."""
        try:
            for frame in self._frames.received_frames():
                if not frame.opcode.iscontrol():
                    yield from self._data(frame)
                    continue
                payload = frame.payload
                if isinstance(payload, tuple):
                    self._close()
                    yield Close(int(payload[0]), payload[1])
                else:
                    assert not isinstance(payload, str)
                    yield Ping(bytes(payload)) if frame.opcode is Opcode.PING else Pong(bytes(payload))
        except ParseFailed as error:
            yield Failure(int(error.code), self._reason(error))

    def _reason(self, error: ParseFailed) -> str:
        """Say what wsproto leaves to an exception that it came from, or to its extensions."""
        if isinstance(error.__context__, UnicodeDecodeError):
            return "invalid UTF-8 in a text message"
        if error.code == CloseReason.MESSAGE_TOO_BIG:
            return f"message over {self._settings.max_size} bytes"
        return str(error)

    def _data(self, frame: Frame) -> Iterator[Event]:
        """Join the pieces of a frame, as which wsproto gives what is there of it."""
        piece = frame.payload
        assert not isinstance(piece, tuple)
        self._pieces.append(piece)
        if not frame.frame_finished:
            return
        pieces, self._pieces = self._pieces, []
        data = piece[:0].join(pieces) if len(pieces) > 1 else piece  # type: ignore[arg-type]  # all of one type
        if frame.message_finished:
            yield Message(data) if self._whole else Fragment(data, True)
        else:
            yield Fragment(data, False)
        self._whole = frame.message_finished

    def send_text(self, data: str, fin: bool = True) -> None:
        """Send text."""
        self._output += self._frames.send_data(data, fin)

    def send_binary(self, data: bytes, fin: bool = True) -> None:
        """Send bytes."""
        self._output += self._frames.send_data(data, fin)

    def send_ping(self, data: bytes) -> None:
        """Send a Ping."""
        self._output += self._frames.ping(data)

    def send_pong(self, data: bytes) -> None:
        """Send a Pong."""
        self._output += self._frames.pong(data)

    def send_close(self, code: int | None, reason: str) -> None:
        """Send a Close."""
        self._output += self._frames.close(code, reason)
        self._close()

    def fail(self, code: int, reason: str) -> None:
        """Send the Close of a failure."""
        self._output += self._frames.close(code, reason)
        self.state = State.CLOSED

    def data_to_send(self) -> bytes:
        """Return the output."""
        output = bytes(self._output)
        self._output.clear()
        return output

    def _close(self) -> None:
        # Closed with the second of the two Close frames.
        self.state = State.CLOSING if self.state == State.OPEN else State.CLOSED
