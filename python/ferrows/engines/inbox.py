"""``EngineInbox``: an engine behind the interface of the codec's connection."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .._pycore.close import NO_STATUS, truncate_reason
from .._pycore.error import PeerError
from .._pycore.frame import BINARY, FIN, PING, TEXT
from .._pycore.inbox import Inbox, payload_size
from .._pycore.mask import as_bytes
from .._pycore.message import MAX_ENDS
from ..events import Close, Event, Failure, Fragment, Message, Ping, Pong
from ..websocket import State

if TYPE_CHECKING:
    from .._pycore.mask import Buffer
    from ..limits import InboundLimits
    from .engine import Engine

__all__ = ["EngineInbox"]

logger = logging.getLogger("ferrows.websocket")


class EngineInbox(Inbox):
    """Frames are the engine's business; the closing handshake, pings and what waits for the handler stay ours.

    It joins fragments to messages and keeps ``max_size`` for those engines that do not. Of limits it counts what the
    engine reports, and the bytes on the wire. What messages inflate to counts where it is more than all that came on
    the wire before: which bytes of it were which message's, only the engine knows.
    """

    def __init__(self, engine: Engine, *, max_size: int | None, limits: InboundLimits | None = None) -> None:
        super().__init__(max_size=max_size, limits=limits)
        self.engine = engine
        # The message under assembly: its fragments, and its bytes, those included that were handed over already.
        self._pieces: list[str | bytes] = []
        self._size = 0
        # Frames of it.
        self._frames = 0
        # Bytes on the wire that were charged and have not become payload.
        self._charged = 0

    # ---- receiving

    def receive_data(self, data: Buffer, now: float = 0.0) -> None:
        """Have the engine parse what arrived, and take what it means."""
        if self._ignoring:
            return
        try:
            if self._metered:
                self._charged += payload_size(data)
                self._charge("bytes", payload_size(data))
            self.engine.receive_data(as_bytes(data))
            for event in self.engine.events():
                self.take_event(event)
                if self._ignoring:
                    return
            # For an engine that answers pings itself.
            self._collect()
        except PeerError as error:
            # Beyond our limits, which the engine does not know.
            self._fail_for(error)
            return
        except Exception:
            # What a peer does wrong is an event, so this is an error of the engine's own.
            logger.exception("engine %s failed, the connection ends with 1011", type(self.engine).__name__)
            self._fail_with(1011, "internal error")
            return
        if self.engine.state == State.CLOSED:
            self._ignore_input()
            self.state = State.CLOSED

    def frame_end(self, data: bytes) -> int:
        """Return 0: where frames end, only the engine knows."""
        return 0

    def take_event(self, event: Event) -> None:
        """Do what an event means."""
        match event:
            case Message(data):
                self._take_piece(data, True)
            case Fragment(data, fin):
                self._take_piece(data, fin)
            case Ping(data):
                self._charge("pings", 1)
                self._answer(data)
            case Pong(data):
                self._charge_pong()
                self._pong(data)
            case Close(code, reason):
                self.end((code, reason), None)
            case Failure(code, reason):
                self._fail_with(code, truncate_reason(reason))

    def end(self, received: tuple[int, str], sent: tuple[int, str] | None) -> None:
        """Take the peer's Close, and the answer to it that somebody else has sent."""
        self.close_received = received
        self._ignore_input()
        if sent is None:
            # §5.5.1: the answer typically has the code that was received.
            self._owe_close(received[0], "")
        else:
            self.close_sent = sent
            self.state = State.CLOSED

    def _take_piece(self, data: str | bytes, fin: bool) -> None:
        if self._metered:
            if not self._frames:
                self._charge("messages", 1)
            inflated = payload_size(data) - self._charged
            self._charged = max(0, -inflated)
            if inflated > 0:
                self._charge("bytes", inflated)
        self._charge_frames(self._frames + 1)
        self._frames = 0 if fin else self._frames + 1
        self._size += payload_size(data)
        if self._max_size is not None and self._size > self._max_size:
            self._fail_with(1009, f"message of at least {self._size} bytes, permitted {self._max_size}")
            return
        if fin:
            self._size = 0
        if self._streaming:
            self._streaming = not fin
            if data or fin:
                self._fragment(isinstance(data, str), data, fin)
            return
        if not fin or self._pieces:
            self._pieces.append(data)
        if fin:
            pieces, self._pieces = self._pieces, []
            whole = data[:0].join(pieces) if pieces else data  # type: ignore[arg-type]  # all str or all bytes
            self._message(isinstance(data, str), whole, _ends(pieces))

    def receive_eof(self) -> None:
        """Take note that no more bytes will come."""
        if self.state != State.CLOSED:
            try:
                self.engine.receive_eof()
            except Exception:
                logger.exception("engine %s failed at the end of its connection", type(self.engine).__name__)
        super().receive_eof()

    def stream_next(self) -> None:
        """Hand the message under assembly over as fragments from here on, else the next one."""
        pieces, self._pieces = self._pieces, []
        self._streaming = True
        for data in pieces:
            if data:
                self._fragment(isinstance(data, str), data, False)

    begin_streaming = stream_next

    def _ignore_input(self) -> None:
        super()._ignore_input()
        self._pieces.clear()

    # ---- sending

    def encoding(self, length: int, compress: bool | None = None) -> None:
        """Return None: an engine encodes for itself what is sent to many, too."""
        return None

    def send_text(self, data: str, fin: bool = True, compress: bool | None = None) -> None:
        """Send text by the engine, which decides itself what it compresses."""
        self._require_turn(TEXT)
        self.engine.send_text(data, fin)
        self._sending = None if fin else TEXT
        self._collect()

    def send_binary(self, data: Buffer, fin: bool = True, compress: bool | None = None) -> None:
        """Send bytes by the engine."""
        self._require_turn(BINARY)
        self.engine.send_binary(as_bytes(data), fin)
        self._sending = None if fin else BINARY
        self._collect()

    def _require_turn(self, opcode: int) -> None:
        self._require_open()
        if self._sending not in (None, opcode):
            raise ValueError(f"a fragmented {'text' if self._sending == TEXT else 'binary'} message is unfinished")

    def _write(self, first: int, payload: bytes) -> None:
        """Send a Ping or a Pong; what else a connection writes has a method of its own here."""
        if first == FIN | PING:
            self.engine.send_ping(payload)
        else:
            self.engine.send_pong(payload)
        self._collect()

    def _write_close(self, code: int, reason: str) -> None:
        self.close_sent = (code, reason)
        # §5.5.1: nothing is sent after the Close.
        self._held_pong = None
        try:
            if self.failure is not None:
                self.engine.fail(code, reason)
            else:
                self.engine.send_close(None if code == NO_STATUS else code, reason)
            self._collect()
        except Exception:
            # The connection ends without the Close that it should have had.
            logger.exception("engine %s could not close with %d", type(self.engine).__name__, code)

    def _collect(self) -> None:
        output = self.engine.data_to_send()
        if output:
            self._output.append(output)
            self._output_size += len(output)


def _ends(pieces: list[str | bytes]) -> list[int]:
    """Return the offsets at which a message's fragments ended, the last one's left out."""
    ends: list[int] = []
    total = 0
    for piece in pieces[:-1]:
        total += len(piece)
        if piece and len(ends) < MAX_ENDS:
            ends.append(total)
    if ends and not pieces[-1]:
        ends.pop()
    return ends
