"""``WsprotoEngine``: the frames of the package wsproto (the extra ``ferrows[wsproto]``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, Frame, FrameDecoder, FrameProtocol, Opcode, ParseFailed, RsvBits

from .._pycore.deflate import Deflater, Inflater, Overflow
from .._pycore.error import PeerError
from ..events import Close, Event, Failure, Fragment, Message, Ping, Pong
from ..handshake import accept
from ..websocket import State

if TYPE_CHECKING:
    from ..config import WebsocketSettings
    from ..extensions import DeflateParameters
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


class SizeLimit(Extension):
    """Refuses a message that is too long from the header of its frame, so that nothing of it is kept (§7.4.1, 1009)."""

    name = ""

    def __init__(self, max_size: int | None) -> None:
        self._max_size = max_size
        # Bytes on the wire of the message so far.
        self._size = 0
        self._limit = max_size
        self._data_frame = False

    def enabled(self) -> bool:
        """Always."""
        return True

    def offer(self) -> bool | str:
        """It is nothing that a peer knows of."""
        return False

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        """Judge a header; it may come again when there is more of it."""
        self._data_frame = not opcode.iscontrol()
        if self._max_size is None or not self._data_frame:
            return RsvBits(False, False, False)
        if opcode is not Opcode.CONTINUATION:
            # Deflate adds to what it cannot compress; what comes out is judged exactly.
            self._limit = self._max_size + (self._max_size // 256 + 64 if rsv.rsv1 else 0)
        if self._limit is not None and self._size + payload_length > self._limit:
            return CloseReason.MESSAGE_TOO_BIG
        return RsvBits(False, False, False)

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        """Count."""
        if self._data_frame:
            self._size += len(data)
        return data

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        """End a message's count with its last frame."""
        if fin and self._data_frame:
            self._size = 0
        return None


class Deflate(Extension):
    """permessage-deflate for wsproto, whose own inflates without a limit and has no threshold."""

    name = "permessage-deflate"

    def __init__(self, agreed: DeflateParameters, max_size: int | None) -> None:
        self._inflater = Inflater(agreed.client_max_window_bits, takeover=not agreed.client_no_context_takeover)
        self._deflater = Deflater(
            agreed.server_max_window_bits,
            takeover=not agreed.server_no_context_takeover,
            level=agreed.level,
            mem_level=agreed.mem_level,
            threshold=agreed.threshold,
        )
        self._max_size = max_size
        self._room: int | None = None
        # Whether the message that arrives is compressed, and whether the frame is one of its own.
        self._inflating = False
        self._data_frame = False
        self._deflating = False

    def enabled(self) -> bool:
        """It is made once it is agreed on."""
        return True

    def offer(self) -> bool | str:
        """A server offers nothing."""
        return False

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        """Note whether a message is compressed, which its first frame tells (RFC 7692 §6)."""
        self._data_frame = not opcode.iscontrol()
        if opcode in (Opcode.TEXT, Opcode.BINARY):
            self._inflating = rsv.rsv1
            self._room = self._max_size
            return RsvBits(True, False, False)
        # §6.1: RSV1 on any other frame is an error, as wsproto says where it is not used.
        return RsvBits(False, False, False)

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        """Inflate, within the limit of a message."""
        if not (self._data_frame and self._inflating):
            return data
        return self._inflated(lambda out: self._inflater.inflate(data, out, self._room))

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        """End a message."""
        if not (fin and self._data_frame and self._inflating):
            return None
        return self._inflated(lambda out: self._inflater.finish(out, self._room))

    def _inflated(self, inflate: Callable[[bytearray], None]) -> bytes | CloseReason:
        out = bytearray()
        try:
            inflate(out)
        except Overflow:
            return CloseReason.MESSAGE_TOO_BIG
        except PeerError as error:
            return CloseReason(error.code)
        if self._room is not None:
            self._room -= len(out)
        return bytes(out)

    def frame_outbound(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, data: bytes, fin: bool
    ) -> tuple[RsvBits, bytes]:
        """Compress a message from the threshold on, and those that come in fragments."""
        if opcode.iscontrol():
            return rsv, data
        first = opcode is not Opcode.CONTINUATION
        if first:
            self._deflating = not fin or len(data) >= self._deflater.threshold
        if not self._deflating:
            return rsv, data
        return RsvBits(first, rsv.rsv2, rsv.rsv3), self._deflater.compress(data, fin)
