"""A WebSocket connection after its opening handshake, without I/O (RFC 6455 §5-§7)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from ..events import Close, Event, Failure, Fragment, Message, Ping, Pong
from ..exceptions import WebsocketClosed
from ..limits import InboundLimits
from .close import NO_STATUS, check_close, encode_close, is_permitted, parse_close, truncate_reason
from .deflate import DeflateParameters, Deflater, Inflater
from .encoding import Encoding
from .error import PeerError
from .frame import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    RSV1,
    TEXT,
    check_length,
    encode_frame,
    first_byte_error,
    permitted_first_bytes,
)
from .mask import Buffer, as_bytes, unmask
from .message import Assembler, inflate_message
from .rate import Excess, Meters
from .utf8 import decode

__all__ = ["CLOSED", "CLOSING", "OPEN", "Connection"]

OPEN: Final = 1
CLOSING: Final = 2
CLOSED: Final = 3

_MAX_CONTROL: Final = 125

_PLAIN: Final = Encoding(None)

# First bytes of frames that are a whole message.
_WHOLE_PLAIN: Final = frozenset((FIN | TEXT, FIN | BINARY))
_WHOLE: Final = _WHOLE_PLAIN | {first | RSV1 for first in _WHOLE_PLAIN}


class Connection:
    """Bytes in, events out; sends in, bytes out; both roles.

    ``state``, ``close_sent``, ``close_received`` and ``failure`` are there to be read only.

    A subclass may override the hooks ``_message`` to ``_failure`` to take what arrives in place of :meth:`events`. They
    are called while :meth:`receive_data` (or :meth:`stream_next`) runs, and may call anything but these two.
    """

    __slots__ = (
        "_assembler",
        "_client",
        "_control",
        "_deflater",
        "_events",
        "_fin",
        "_first_bytes",
        "_held_pong",
        "_holding",
        "_ignoring",
        "_inflater",
        "_key",
        "_left",
        "_limits",
        "_max_size",
        "_metered",
        "_meters",
        "_now",
        "_opcode",
        "_output",
        "_output_size",
        "_partial",
        "_pending_close",
        "_pongs_due",
        "_sending",
        "_sending_compressed",
        "_streaming",
        "close_received",
        "close_sent",
        "excess",
        "failure",
        "state",
    )

    def __init__(
        self,
        *,
        client: bool = False,
        max_size: int | None = 2**20,
        deflate: DeflateParameters | None = None,
        limits: InboundLimits | None = None,
    ) -> None:
        self.state: int = OPEN
        self.close_sent: tuple[int, str] | None = None
        self.close_received: tuple[int, str] | None = None
        self.failure: tuple[int, str] | None = None
        #: Which of the limits the peer went beyond, if the connection failed for that.
        self.excess: str | None = None
        self._client = client
        self._max_size = max_size
        self._deflater: Deflater | None = None
        self._inflater: Inflater | None = None
        if deflate is not None:
            self._deflater, self._inflater = _codecs(client, deflate)
        self._events: list[Event] = []

        # The limits are of messages or of bytes, not of what seldom comes only. The meters are made when the first that
        # is limited arrives.
        self._limits = limits
        self._metered = limits is not None and (limits.messages is not None or limits.bytes is not None)
        self._meters: Meters | None = None
        self._now = 0.0
        # Pings that were sent and not answered; one Pong may answer several.
        self._pongs_due = 0

        # Receiving. _partial keeps a header until it is whole; what follows it is about the frame that is arriving.
        self._ignoring = False
        self._partial = b""
        self._fin = False
        self._opcode = CONTINUATION
        self._key = b""
        self._left = 0
        self._control = b""
        self._assembler: Assembler | None = None
        self._streaming = False
        self._first_bytes = permitted_first_bytes(deflate=deflate is not None, in_message=False)

        # Sending. _sending is the opcode of the fragmented message that is unfinished.
        self._output: list[bytes] = []
        self._output_size = 0
        self._pending_close: tuple[int, str] | None = None
        self._sending: int | None = None
        self._sending_compressed = False
        self._holding = False
        self._held_pong: bytes | None = None

    # ---- what arrives

    def _message(self, text: bool, payload: str | bytes, ends: Sequence[int]) -> None:
        """Take a message; its fragments ended at the offsets ``ends`` of ``payload`` (the last one's left out)."""
        self._events.append(Message(payload))

    def _fragment(self, text: bool, payload: str | bytes, fin: bool) -> None:
        """Take a fragment of a message that is being streamed."""
        self._events.append(Fragment(payload, fin))

    def _ping(self, payload: bytes) -> None:
        """Take a Ping, which is answered already."""
        self._events.append(Ping(payload))

    def _pong(self, payload: bytes) -> None:
        """Take a Pong."""
        self._events.append(Pong(payload))

    def _close(self, code: int, reason: str) -> None:
        """Take the peer's Close; the state is CLOSING while our answer is pending, else CLOSED."""
        self._events.append(Close(code, reason))

    def _failure(self, code: int, reason: str) -> None:
        """Take the end that a breach of the rules by the peer is; the last call ever."""
        self._events.append(Failure(code, reason))

    def events(self) -> list[Event]:
        """Return what arrived since the last call, in order."""
        events, self._events = self._events, []
        return events

    # ---- receiving

    @property
    def has_deflate(self) -> bool:
        """Whether permessage-deflate was agreed on, so that a few bytes may become many."""
        return self._inflater is not None

    def receive_data(self, data: Buffer, now: float = 0.0) -> None:
        """Take bytes that came from the peer, cut anywhere; never raises for what the peer did.

        They are ignored after the peer's Close, a failure, or the end of the stream (§5.5.1, §7.1.7). ``now`` is the
        time in seconds, for the limits of rates.
        """
        self._now = now
        if self._ignoring:
            return
        try:
            self._parse(as_bytes(data))
        except PeerError as error:
            self._fail_for(error)

    def _fail_for(self, error: PeerError) -> None:
        if isinstance(error, Excess):
            self.excess = error.counted
        self._fail_with(error.code, error.reason)
        self._failure(error.code, error.reason)

    def _time(self) -> float:
        return self._now

    def set_reading(self, reading: bool) -> None:
        """Note whether what arrives is read. While it is not, it piles up through no fault of the peer.

        It may come at once afterwards, however much the limits permit at once.
        """
        if self._meters is not None:
            self._meters.set_reading(reading)
        elif self._limits is not None and self._metered and not reading:
            # The time is to count from here on, even where nothing that is limited has come yet.
            self._meters = Meters(self._limits, self._time)

    def _charge(self, counted: str, amount: int) -> None:
        """Charge what arrived against the limits."""
        if self._limits is None:
            return
        if self._meters is None:
            self._meters = Meters(self._limits, self._time)
        self._meters.take(counted, amount)

    def _charge_inflated(self, inflated: int, wire: int) -> None:
        """Charge the bytes that a message, or a piece of one, has become beyond those on the wire."""
        if self._metered and inflated > wire:
            self._charge("bytes", inflated - wire)

    def _charge_frames(self, frames: int) -> None:
        """Check how many frames a message has by now."""
        permitted = None if self._limits is None else self._limits.fragments
        if permitted is not None and frames > permitted:
            raise Excess("fragments", permitted)

    def _charge_pong(self) -> None:
        """Charge a Pong unless a Ping asked for it."""
        if self._pongs_due:
            self._pongs_due -= 1
        else:
            self._charge("pings", 1)

    def _parse(self, data: bytes) -> None:
        whole = _WHOLE
        if self._partial:
            data = self._partial + data
            self._partial = b""
            # What begins in an earlier chunk goes through the assembler, as in the extension. Of a compressed text with
            # two flaws it may name the other one, since it validates before it inflates the message's end.
            whole = _WHOLE_PLAIN
        at = 0
        end = len(data)
        if self._left:
            at = self._continue_frame(data)
        client = self._client
        limit = sys.maxsize if self._max_size is None else self._max_size
        while at < end and not self._ignoring:
            # Each byte of the header is checked as soon as it is there, so that how it is cut changes nothing. A header
            # that is cut is read again when there is more of it.
            start = at
            first = data[at]
            if not self._first_bytes[first]:
                raise self._first_byte_error(first)
            at += 2
            if at > end:
                self._partial = data[start:]
                return
            length = data[at - 1]
            # §5.1: a server MUST fail the connection on a frame that is not masked, a client on one that is.
            if length < 0x80:
                if not client:
                    raise PeerError(1002, "unmasked frame from a client")
            else:
                if client:
                    raise PeerError(1002, "masked frame from a server")
                length -= 0x80
            if length > 125:
                # §5.5: all control frames MUST have a payload length of 125 bytes or less.
                if first & 0x08:
                    raise PeerError(1002, "control frame over 125 bytes")
                at += 2 if length == 126 else 8
                if at > end:
                    self._partial = data[start:]
                    return
                shortest = 126 if length == 126 else 0x10000
                length = int.from_bytes(data[start + 2 : at], "big")
                check_length(length, shortest)
            if (length > limit or self._assembler is not None) and not first & 0x08:
                self._check_size(first, length)
            if client:
                key = b""
            else:
                at += 4
                if at > end:
                    self._partial = data[start:]
                    return
                key = data[at - 4 : at]

            if at + length > end:
                self._begin_frame(first, length, at - start)
                self._left = length
                self._key = key
                at += self._continue_frame(data[at:])
                continue
            payload = data[at : at + length]
            at += length
            if not client:
                payload = unmask(payload, key)
            if first & 0x08:
                if self._metered:
                    self._charge("bytes", at - start)
                self._receive_control(first & 0x0F, payload)
            elif first in whole and not self._streaming:
                # The way of nearly every message: all of it is there, and nothing has to be kept.
                if self._metered:
                    self._charge("messages", 1)
                    self._charge("bytes", at - start)
                if first & RSV1:
                    assert self._inflater is not None
                    payload = inflate_message(payload, self._inflater, self._max_size)
                # Before it is delivered: whether it is must not depend on how it was cut.
                self._charge_inflated(len(payload), length)
                if first & 0x0F == TEXT:
                    self._message(True, decode(payload), ())
                else:
                    self._message(False, payload, ())
            else:
                self._begin_frame(first, length, at - length - start)
                self._receive_payload(payload)
            whole = _WHOLE

    def frame_end(self, data: bytes) -> int:
        """Tell how many bytes of ``data`` belong to the frame that is arriving, or to the one that begins with it.

        All, where it ends later; 0 where its header is not all there.
        """
        if self._left or self._partial:
            return min(self._left, len(data))
        if len(data) < 2:
            return 0
        length, at = data[1] & 0x7F, 2
        if length > 125:
            at += 2 if length == 126 else 8
            length = int.from_bytes(data[2:at], "big")
        at += 4 if data[1] & 0x80 else 0
        return min(at + length, len(data)) if at <= len(data) else 0

    def _begin_frame(self, first: int, length: int, header: int) -> None:
        """Take note of a frame that is not all there, or not a whole message; its header had ``header`` bytes."""
        self._opcode = opcode = first & 0x0F
        self._fin = first >= FIN
        if self._metered:
            if opcode in (TEXT, BINARY):
                self._charge("messages", 1)
            self._charge("bytes", header)
        if opcode & 0x08:
            return
        if opcode != CONTINUATION:
            self._assembler = Assembler(opcode == TEXT, self._inflater if first & RSV1 else None, self._max_size)
        assert self._assembler is not None
        self._assembler.wire += length
        self._assembler.frames += 1
        self._charge_frames(self._assembler.frames)

    def _continue_frame(self, data: bytes) -> int:
        """Take what ``data`` has of the payload that is arriving and return how much that was."""
        piece = data[: self._left]
        size = len(piece)
        self._left -= size
        if not self._client:
            key = self._key
            piece = unmask(piece, key)
            phase = size & 3
            if phase:
                self._key = key[phase:] + key[:phase]
        if self._opcode & 0x08:
            if self._metered:
                self._charge("bytes", size)
            self._control += piece
            if not self._left:
                piece, self._control = self._control, b""
                self._receive_control(self._opcode, piece)
        else:
            self._receive_payload(piece)
        return size

    def _receive_payload(self, piece: bytes) -> None:
        """Take payload of a data frame, which is complete when nothing is left of it."""
        message = self._assembler
        assert message is not None
        if self._metered:
            self._charge("bytes", len(piece))
        before = message.size
        message.feed(piece)
        self._charge_inflated(message.size - before, len(piece))
        if self._left:
            return
        if not self._fin:
            self._first_bytes = permitted_first_bytes(deflate=self._inflater is not None, in_message=True)
            if self._streaming:
                fragment = message.take_fragment()
                if fragment:
                    self._fragment(message.text, fragment, False)
            else:
                message.end_frame()
            return
        message.finish()
        self._assembler = None
        self._first_bytes = permitted_first_bytes(deflate=self._inflater is not None, in_message=False)
        if self._streaming:
            self._streaming = False
            self._fragment(message.text, message.take_fragment(), True)
        else:
            payload, ends = message.take_message()
            self._message(message.text, payload, ends)

    def _receive_control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self._charge("pings", 1)
            self._answer(payload)
            self._ping(payload)
        elif opcode == PONG:
            self._charge_pong()
            self._pong(payload)
        else:
            code, reason = parse_close(payload)
            self.close_received = (code, reason)
            self._ignore_input()
            # §5.5.1: an endpoint that has not sent a Close MUST send one in response, typically with the code received.
            self._owe_close(code, "")
            self._close(code, reason)

    def _answer(self, payload: bytes) -> None:
        """Answer a Ping, or keep the answer for later."""
        # §5.5.1: nothing is sent after a Close.
        if self.close_sent is not None or self.state == CLOSED:
            return
        # §5.5.3: it is enough to answer the latest Ping.
        if self._holding:
            self._held_pong = payload
        else:
            self._write(FIN | PONG, payload)

    def _first_byte_error(self, first: int) -> PeerError:
        error = first_byte_error(first, deflate=self._inflater is not None, in_message=self._assembler is not None)
        assert error is not None
        return error

    def _check_size(self, first: int, length: int) -> None:
        """Refuse a data frame from its header alone (§7.4.1, code 1009)."""
        permitted = limit = self._max_size
        if permitted is None or limit is None:
            return
        message = self._assembler
        compressed = bool(first & RSV1)
        if message is not None:
            length += message.wire
            compressed = message.compressed
        if compressed:
            # Deflate adds five bytes to each 64 KiB that it cannot compress; the exact check is made on what comes out.
            limit += limit // 256 + 64
        if length > limit:
            raise PeerError(1009, f"message of at least {length} bytes, permitted {permitted}")

    def _fail_with(self, code: int, reason: str) -> None:
        """Fail the connection (§7.1.7)."""
        self.failure = (code, reason)
        self._ignore_input()
        if is_permitted(code):
            self._owe_close(code, reason)
        else:
            self.state = CLOSED

    def _owe_close(self, code: int, reason: str) -> None:
        """Have a Close pending, unless ours is out: §5.5.1 has nothing sent after it."""
        if self.close_sent is None:
            self._pending_close = (code, reason)
            self.state = CLOSING
        else:
            self.state = CLOSED

    def _ignore_input(self) -> None:
        self._ignoring = True
        self._partial = self._control = b""
        self._left = 0
        self._assembler = None

    def receive_eof(self) -> None:
        """Take note that no more bytes will come: the abnormal end (1006) if no Close was received (§7.1.5).

        A pending Close stays pending, since the peer may have closed its direction only.
        """
        self._ignore_input()
        self.state = CLOSED

    def stream_next(self) -> None:
        """Hand the message under assembly over as fragments from here on, else the next one, up to its last frame."""
        message = self._assembler
        if message is not None and not self._streaming:
            self._streaming = True
            for fragment in message.take_fragments():
                self._fragment(message.text, fragment, False)
        self._streaming = True

    begin_streaming = stream_next

    # ---- sending

    def send_text(self, data: str, fin: bool = True, compress: bool | None = None) -> None:
        """Send a text message, or a fragment of one unless ``fin``; the next call continues it then (§5.4).

        ``compress`` None leaves it to the threshold, False and True decide; only a message's first fragment decides.
        Raises :class:`WebsocketClosed` once our Close is out, ``ValueError`` inside a fragmented binary message.
        """
        self._send(TEXT, str.encode(data), fin, compress)

    def send_binary(self, data: Buffer, fin: bool = True, compress: bool | None = None) -> None:
        """Send a binary message; as :meth:`send_text`."""
        self._send(BINARY, as_bytes(data), fin, compress)

    def _send(self, opcode: int, payload: bytes, fin: bool, compress: bool | None) -> None:
        self._require_open()
        deflater = self._deflater
        if self._sending is None:
            first = opcode
            if deflater is not None and (
                not fin or len(payload) >= deflater.threshold if compress is None else compress
            ):
                # RFC 7692 §6.1: RSV1 is set on a message's first frame only.
                first |= RSV1
                self._sending_compressed = True
            if not fin:
                self._sending = opcode
        elif self._sending == opcode:
            first = CONTINUATION
            if fin:
                self._sending = None
        else:
            raise ValueError(f"a fragmented {'text' if self._sending == TEXT else 'binary'} message is unfinished")
        if self._sending_compressed:
            assert deflater is not None
            payload = deflater.compress(payload, fin)
            self._sending_compressed = not fin
        self._write(first | FIN if fin else first, payload)

    def takes_message(self) -> bool:
        """Tell whether a whole message can be sent: not closed, and no fragmented message is unfinished."""
        return self._sending is None and self.close_sent is None and self.state != CLOSED

    def encoding(self, length: int, compress: bool | None = None) -> Encoding | None:
        """Return how a whole message of ``length`` bytes would be sent; None if its bytes are this connection's alone.

        A client masks them, and with context takeover they depend on the messages before.
        """
        if self._client:
            return None
        deflater = self._deflater
        if deflater is None or not (length >= deflater.threshold if compress is None else compress):
            return _PLAIN
        return None if deflater.shared is None else Encoding(deflater.shared)

    def send_encoded(self, frame: bytes) -> None:
        """Send a whole message in this connection's :meth:`encoding` of it; only where it :meth:`takes_message`."""
        self._output.append(frame)
        self._output_size += len(frame)

    def send_ping(self, data: Buffer = b"") -> None:
        """Send a Ping of at most 125 bytes (§5.5.2).

        Raises ``ValueError`` for more, :class:`WebsocketClosed` once our Close is out.
        """
        self._send_control(PING, as_bytes(data))
        self._pongs_due += 1

    def send_pong(self, data: Buffer = b"") -> None:
        """Send a Pong that nobody asked for (§5.5.3); as :meth:`send_ping`."""
        self._send_control(PONG, as_bytes(data))

    def _send_control(self, opcode: int, payload: bytes) -> None:
        # §5.5: all control frames MUST have a payload length of 125 bytes or less.
        if len(payload) > _MAX_CONTROL:
            raise ValueError(f"control payload of {len(payload)} bytes, permitted 125")
        self._require_open()
        self._write(FIN | opcode, payload)

    def send_close(self, code: int | None = 1000, reason: str = "") -> None:
        """Begin the closing handshake (§7.1.2); nothing happens if a Close of ours is out or pending.

        Without ``code`` the Close has no body. Raises ``ValueError`` for a code that must not be on the wire, a reason
        of more than 123 bytes, and a reason without a code; :class:`WebsocketClosed` if the peer's bytes ended before.
        """
        check_close(code, reason)
        if self.close_sent is not None or self._pending_close is not None:
            return
        self._require_open()
        self._write_close(NO_STATUS if code is None else code, reason)
        self.state = CLOSING

    def fail(self, code: int, reason: str = "") -> None:
        """Fail the connection as if the peer had broken a rule (§7.1.7): nothing more is read, and a Close is pending.

        A reason is cut at 123 bytes. With a code that must not be on the wire, such as 1006, no Close is sent. Nothing
        happens if the connection failed already, or the closing handshake is as good as over. ValueError for a code
        that has no 16 bits.
        """
        if not 0 <= code <= 0xFFFF:
            raise ValueError(f"close code {code} is not permitted")
        reason = truncate_reason(reason)
        if self.state != CLOSED and self._pending_close is None:
            self._fail_with(code, reason)

    def hold_pongs(self, hold: bool) -> None:
        """Keep the answers to Pings back, the latest one alone (§5.5.3), until this is called with False."""
        self._holding = hold
        if not hold and self._held_pong is not None:
            payload, self._held_pong = self._held_pong, None
            self._answer(payload)

    def _require_open(self) -> None:
        if self.close_sent is not None or self.state == CLOSED:
            self._raise_closed()

    def _raise_closed(self) -> NoReturn:
        raise WebsocketClosed(*(self.close_received or self.close_sent or (1006, "")))

    # ---- output

    def data_to_send(self) -> bytes:
        """Return what is to be written, our pending Close last, and forget it."""
        if self._pending_close is not None:
            self._write_close(*self._pending_close)
            self._pending_close = None
            self.state = CLOSED
        return self.take_output_before_close()

    def take_output_before_close(self) -> bytes:
        """Return what is to be written but a pending Close, and forget it."""
        output = self._output
        if not output:
            return b""
        self._output = []
        self._output_size = 0
        return output[0] if len(output) == 1 else b"".join(output)

    def pending_output(self) -> int:
        """Return how many bytes wait to be written, without a pending Close."""
        return self._output_size

    def has_pending_close(self) -> bool:
        """Tell whether a Close is owed that the next :meth:`data_to_send` brings."""
        return self._pending_close is not None

    def _write_close(self, code: int, reason: str) -> None:
        self._write(FIN | CLOSE, encode_close(code, reason))
        self.close_sent = (code, reason)
        # §5.5.1: nothing is sent after the Close.
        self._held_pong = None

    def _write(self, first: int, payload: bytes) -> None:
        frame = encode_frame(first, payload, masked=self._client)
        self._output.append(frame)
        self._output_size += len(frame)


def _codecs(client: bool, parameters: DeflateParameters) -> tuple[Deflater, Inflater]:
    """Resolve the negotiated parameters, which speak of server and client, for our role."""
    server = (parameters.server_max_window_bits, not parameters.server_no_context_takeover)
    peer = (parameters.client_max_window_bits, not parameters.client_no_context_takeover)
    (bits, takeover), (peer_bits, peer_takeover) = (peer, server) if client else (server, peer)
    deflater = Deflater(
        bits,
        takeover=takeover,
        level=parameters.level,
        mem_level=parameters.mem_level,
        threshold=parameters.threshold,
    )
    return deflater, Inflater(peer_bits, takeover=peer_takeover)
