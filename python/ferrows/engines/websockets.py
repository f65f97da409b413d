"""``WebsocketsEngine``: the sans-I/O server of the package websockets (the extra ``ferrows[websockets]``)."""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close as CloseBody
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from ..config import WebsocketSettings
from ..events import Close, Event, Failure, Fragment, Message, Ping, Pong
from ..handshake import accept

if TYPE_CHECKING:
    from ..extensions import DeflateParameters
    from ..request import Request

__all__ = ["WebsocketsEngine"]

_DATA: Final = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


class WebsocketsEngine:
    """websockets' ``ServerProtocol``, which parses, and sends for as long as it lets us.

    It answers pings and the peer's Close at once, and sends nothing after that. Here the answers are dropped, since the
    connection sends its own in its time, and what a handler still says before that is framed without it.

    ``protocol`` is one whose opening handshake is over.
    """

    __slots__ = ("_decoder", "_output", "_protocol", "_reported", "_sending", "_settings", "_text", "subprotocol")

    def __init__(self, settings: WebsocketSettings | None = None, protocol: ServerProtocol | None = None) -> None:
        self._settings = WebsocketSettings() if settings is None else settings
        if protocol is None:
            # In any other state it would read a request first.
            protocol = ServerProtocol(state=OPEN, max_size=self._settings.max_size)
        self._protocol = protocol
        # What it has said before, its response for instance, is not to be lost.
        self._output: list[bytes] = protocol.data_to_send()
        # The end, by a Close or a failure, was given out as an event.
        self._reported = False
        # The type of the fragmented message that arrives, None where there is none, and its decoder.
        self._text: bool | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._sending = False
        self.subprotocol: str | None = protocol.subprotocol

    @property
    def state(self) -> int:
        """How far websockets says that the connection is."""
        return int(self._protocol.state)

    def handshake(self, request: Request, subprotocols: Sequence[str] | None) -> bytes:
        """Accept as a route without an engine does; websockets' own would refuse where no subprotocol is common."""
        agreed = accept(request, subprotocols, self._settings)
        self.subprotocol = agreed.subprotocol
        if agreed.deflate is not None:
            self._protocol.extensions = [_deflate(agreed.deflate)]
        return agreed.response

    # ---- receiving

    def receive_data(self, data: bytes) -> None:
        """Parse."""
        self._protocol.receive_data(data)
        self._protocol.data_to_send()

    def receive_eof(self) -> None:
        """Take note of the end."""
        self._protocol.receive_eof()
        self._protocol.data_to_send()

    def events(self) -> Iterator[Event]:
        """Give what has arrived."""
        try:
            for frame in self._protocol.events_received():
                assert isinstance(frame, Frame)
                yield from self.frame_events(frame)
        except UnicodeDecodeError:
            self._reported = True
            yield Failure(1007, "invalid UTF-8 in a text message")
            return
        yield from self._end()

    def frame_events(self, frame: Frame) -> Iterator[Event]:
        """Give what one frame means; a Close is seen by the protocol's state."""
        if frame.opcode in _DATA:
            yield self._data(frame)
        elif frame.opcode is Opcode.PING:
            yield Ping(bytes(frame.data))
        elif frame.opcode is Opcode.PONG:
            yield Pong(bytes(frame.data))

    def _data(self, frame: Frame) -> Event:
        data: str | bytes = bytes(frame.data)
        whole = frame.fin and self._text is None
        text = frame.opcode is Opcode.TEXT if self._text is None else self._text
        self._text = None if frame.fin else text
        if text:
            data = self._decoder.decode(data, frame.fin)  # type: ignore[arg-type]
        return Message(data) if whole else Fragment(data, frame.fin)

    def _end(self) -> Iterator[Event]:
        if self._reported:
            return
        received, error = self._protocol.close_rcvd, self._protocol.parser_exc
        # A Close within a fragmented message is none of the errors that RFC 6455 knows (§5.4).
        if received is not None:
            self._reported = True
            yield Close(int(received.code), received.reason)
        elif error is not None and not isinstance(error, EOFError):
            self._reported = True
            yield Failure(_code_of(error), str(error))

    # ---- sending

    def send_text(self, data: str, fin: bool = True) -> None:
        """Send text."""
        self._send(Opcode.TEXT, data.encode(), fin)

    def send_binary(self, data: bytes, fin: bool = True) -> None:
        """Send bytes."""
        self._send(Opcode.BINARY, data, fin)

    def _send(self, opcode: Opcode, data: bytes, fin: bool) -> None:
        continued, self._sending = self._sending, not fin
        protocol = self._protocol
        if protocol.state is not OPEN:
            self._write(Frame(Opcode.CONT if continued else opcode, data, fin))
            return
        if continued:
            protocol.send_continuation(data, fin)
        elif opcode is Opcode.TEXT:
            protocol.send_text(data, fin)
        else:
            protocol.send_binary(data, fin)
        self._output += protocol.data_to_send()

    def send_ping(self, data: bytes) -> None:
        """Send a Ping."""
        self._write(Frame(Opcode.PING, data))

    def send_pong(self, data: bytes) -> None:
        """Send a Pong."""
        self._write(Frame(Opcode.PONG, data))

    def send_close(self, code: int | None, reason: str) -> None:
        """Send a Close."""
        if self._protocol.state is OPEN:
            self._protocol.send_close(code, reason)
            self._output += self._protocol.data_to_send()
        else:
            self._write(Frame(Opcode.CLOSE, b"" if code is None else CloseBody(code, reason).serialize()))

    def fail(self, code: int, reason: str) -> None:
        """Fail, or send the Close of the failure that websockets has seen."""
        if self._protocol.state is OPEN:
            self._protocol.fail(code, reason)
            self._output += self._protocol.data_to_send()
        else:
            self._write(Frame(Opcode.CLOSE, CloseBody(code, reason).serialize()))

    def _write(self, frame: Frame) -> None:
        self._output.append(frame.serialize(mask=False, extensions=self._protocol.extensions))

    def data_to_send(self) -> bytes:
        """Return the output; the end of the stream, which websockets has as empty bytes in it, is not ours to send."""
        output, self._output = self._output, []
        return b"".join(output)


def _deflate(agreed: DeflateParameters) -> PerMessageDeflate:
    return PerMessageDeflate(
        remote_no_context_takeover=agreed.client_no_context_takeover,
        local_no_context_takeover=agreed.server_no_context_takeover,
        remote_max_window_bits=agreed.client_max_window_bits,
        local_max_window_bits=agreed.server_max_window_bits,
        compress_settings={"level": agreed.level, "memLevel": agreed.mem_level},
    )


def _code_of(error: Exception) -> int:
    """Return the close code that an error of the parser means."""
    match error:
        case ProtocolError():
            # What cannot be inflated is data that is not consistent with its type (RFC 6455 §7.4.1).
            return 1007 if isinstance(error.__cause__, zlib.error) else 1002
        case UnicodeDecodeError():
            return 1007
        case PayloadTooBig():
            return 1009
    return 1011
