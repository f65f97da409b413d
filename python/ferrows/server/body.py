"""Body: the octets after a head, framed by the guard and read by httptools, which must agree."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import httptools

from .._codec import Head
from ..exceptions import BadRequest, HeaderFieldsTooLarge, HTTPException, PayloadTooLarge

__all__ = ["CHUNKS_A_TURN", "BodyReader", "ChunkScanner", "Limits"]


class Limits(NamedTuple):
    """The most that a head may hold: bytes of the target, bytes of the header section, number of header lines.

    The last two limit the trailers of a chunked body too.
    """

    target: int = 8190
    header_size: int = 8192
    headers: int = 100


CHUNKS_A_TURN: Final = 4096
"""Chunks after which a connection is not read on before the loop turns.

Each costs a microsecond, whatever its size, and uvloop reads 8 MB of a connection in one turn.
"""


class BodyReader:
    """Reads the body of one request, and confirms its head with httptools before.

    Raises BadRequest where httptools refuses the head, PayloadTooLarge where the announced length is over ``max_size``
    (``math.inf`` for no limit).
    """

    __slots__ = ("_parser", "_remaining", "_scanner", "_sink", "complete")

    def __init__(self, head: Head, max_size: float, limits: Limits) -> None:
        if head.content_length > max_size:
            raise _too_large(max_size)
        self._sink = _Sink()
        self._remaining = head.content_length
        self._scanner = ChunkScanner(max_size, limits) if head.chunked else None
        self._parser = _parser(head, self._sink)
        self.complete = self._sink.complete
        if self.complete == head.has_body:
            raise BadRequest("the body's framing is ambiguous")

    @property
    def body(self) -> bytes:
        """What has been read; a copy unless it came in one piece."""
        return bytes(self._sink.body)

    @property
    def size(self) -> int:
        """Bytes that have been read and not been taken."""
        return len(self._sink.body)

    @property
    def remaining(self) -> int:
        """Bytes that are known to come; 0 where that is not known, in a chunked body."""
        return self._remaining

    @property
    def laborious(self) -> bool:
        """Whether what was read last came in so many chunks that it is somebody else's turn now."""
        return self._scanner is not None and self._scanner.chunks > CHUNKS_A_TURN

    def take(self) -> bytes:
        """Return what has been read since the last call, and forget it."""
        body, self._sink.body = bytes(self._sink.body), b""
        return body

    def receive_data(self, data: bytes) -> bytes:
        """Read from ``data`` and return what follows the body. To be called until :attr:`complete`."""
        if self._scanner is None:
            piece = data[: self._remaining]
            self._remaining -= len(piece)
            self._feed(piece)
            self.complete = not self._remaining
            end = len(piece)
        else:
            end = self._scanner.scan(data)
            # What comes before a fault is read first: httptools may have found an earlier one.
            self._feed(data[:end])
            if self._scanner.fault is not None:
                raise self._scanner.fault
            self.complete = self._scanner.complete
        if self.complete != self._sink.complete:
            raise BadRequest("the body's framing is ambiguous")
        return data[end:]

    def _feed(self, data: bytes) -> None:
        if not data:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise BadRequest(f"malformed body: {error}") from None


class _Sink:
    """What httptools calls."""

    __slots__ = ("body", "complete")

    def __init__(self) -> None:
        self.body: bytes | bytearray = b""
        self.complete = False

    def on_body(self, data: bytes) -> None:
        if not self.body:
            self.body = data
            return
        # One growing allocation: a list of pieces would cost a client's every byte an object of ours.
        if isinstance(self.body, bytes):
            self.body = bytearray(self.body)
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


def _parser(head: Head, sink: _Sink) -> httptools.HttpRequestParser:
    raw = head.raw
    if head.chunked and (b" \r\n" in raw or b"\t\r\n" in raw):
        # httptools takes a tab behind "chunked" for a part of it.
        request_line = raw[: raw.index(b"\r\n") + 2]
        raw = request_line + b"".join(b"%b: %b\r\n" % header for header in head.headers) + b"\r\n"
    parser = httptools.HttpRequestParser(sink)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        # httptools takes what follows for another protocol. We have not agreed to any, so the body is still framed
        # (RFC 9110 §7.8), by a parser that knows nothing of the upgrade.
        if head.has_body:
            sink.complete = False
            parser = httptools.HttpRequestParser(sink)
            framing = b"Transfer-Encoding: chunked" if head.chunked else b"Content-Length: %d" % head.content_length
            parser.feed_data(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
    except httptools.HttpParserError as error:
        raise BadRequest(f"malformed request: {error}") from None
    return parser


def _too_large(max_size: float) -> HTTPException:
    return PayloadTooLarge(f"body over {max_size} bytes")


# --------------------------------------------------------------------------------------------------------------------
# Chunked (RFC 9112 §7.1)

_SIZE, _EXTENSION, _SIZE_LF, _DATA, _DATA_CR, _DATA_LF, _TRAILER = range(7)

_CR, _LF, _SEMICOLON, _TAB, _DELETE = b"\r\n;\t\x7f"
_DIGITS: Final = {ord(digit): int(digit, 16) for digit in "0123456789abcdefABCDEF"}

# The common line, taken in one step where it is here as a whole.
_PLAIN_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n")
_TRAILER_LINE: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e\x80-\xff]*+\r\n")

# Extensions mean nothing to us; a client that sends more of them than this sends nothing else (RFC 9112 §7.1.1).
_MAX_EXTENSIONS: Final = 4096


class ChunkScanner:
    """Finds the end of a chunked body, octet by octet where that matters and in steps where it does not.

    Strict where parsers differ: CRLF exactly, at most 16 digits, extensions without control characters, trailers with
    the limits of a header section. Trailer fields are checked and dropped (§7.1.2).
    """

    __slots__ = (
        "_digits",
        "_extensions",
        "_limits",
        "_line",
        "_max_size",
        "_remaining",
        "_state",
        "_total",
        "_trailer_size",
        "_trailers",
        "chunks",
        "complete",
        "fault",
    )

    def __init__(self, max_size: float, limits: Limits) -> None:
        self._max_size = max_size
        self._limits = limits
        self._state = _SIZE
        self._digits = 0
        self._remaining = 0
        self._total = 0
        self._extensions = 0
        self._line = bytearray()
        self._trailers = 0
        self._trailer_size = 0
        # How many began in what was scanned last.
        self.chunks = 0
        self.complete = False
        self.fault: HTTPException | None = None

    def scan(self, data: bytes) -> int:
        """Return how many bytes of ``data`` belong to the body.

        Sets :attr:`complete` at its end, or :attr:`fault`: then the bytes before the faulty one are counted.
        """
        at = self.chunks = 0
        try:
            while at < len(data) and not self.complete and self.fault is None:
                if self._state == _DATA:
                    step = min(self._remaining, len(data) - at)
                    self._remaining -= step
                    at += step
                    if not self._remaining:
                        self._state = _DATA_CR
                elif self._state == _TRAILER:
                    at = self._scan_trailer(data, at)
                elif self._state == _SIZE and not self._digits and (match := _PLAIN_SIZE.match(data, at)):
                    self._remaining = int(match[1], 16)
                    self._begin_chunk()
                    at = match.end()
                else:
                    self._scan_octet(data[at])
                    at += 1
        except HTTPException as fault:
            self.fault = fault
        return at

    def _scan_octet(self, octet: int) -> None:
        state = self._state
        if state == _SIZE:
            digit = _DIGITS.get(octet)
            if digit is not None:
                self._digits += 1
                if self._digits > 16:
                    raise BadRequest("chunk size over 16 digits")
                self._remaining = self._remaining * 16 + digit
            elif not self._digits:
                raise BadRequest("chunk without a size")
            elif octet == _CR:
                self._state = _SIZE_LF
            elif octet == _SEMICOLON:
                self._state = _EXTENSION
            else:
                raise BadRequest("malformed chunk size")
        elif state == _EXTENSION:
            self._extensions += 1
            if octet == _CR:
                self._state = _SIZE_LF
            elif (octet < 0x20 and octet != _TAB) or octet == _DELETE:
                raise BadRequest("control character in a chunk extension")
            elif self._extensions > _MAX_EXTENSIONS:
                raise BadRequest(f"chunk extensions over {_MAX_EXTENSIONS} bytes")
        elif state == _SIZE_LF:
            if octet != _LF:
                raise BadRequest("CR without LF after a chunk size")
            self._begin_chunk()
        elif state == _DATA_CR:
            if octet != _CR:
                raise BadRequest("chunk data without CRLF after it")
            self._state = _DATA_LF
        else:
            if octet != _LF:
                raise BadRequest("chunk data without CRLF after it")
            self._state = _SIZE

    def _begin_chunk(self) -> None:
        self.chunks += 1
        self._digits = 0
        self._total += self._remaining
        if self._total > self._max_size:
            raise _too_large(self._max_size)
        self._state = _DATA if self._remaining else _TRAILER

    def _scan_trailer(self, data: bytes, at: int) -> int:
        """Take one line of the trailer section, or the part of it that is here."""
        line_feed = data.find(b"\n", at)
        end = len(data) if line_feed < 0 else line_feed + 1
        self._trailer_size += end - at
        # As in a head, the empty line does not count.
        excess = self._trailer_size - (self._limits.header_size + 2)
        if excess > 0:
            self.fault = HeaderFieldsTooLarge(f"trailer section over {self._limits.header_size} bytes")
            return end - excess
        self._line += data[at:end]
        if line_feed < 0:
            return end
        line, self._line = self._line, bytearray()
        if line == b"\r\n":
            self.complete = True
            return end
        if not _TRAILER_LINE.fullmatch(line):
            raise BadRequest("malformed trailer line")
        self._trailers += 1
        if self._trailers > self._limits.headers:
            self.fault = HeaderFieldsTooLarge(f"over {self._limits.headers} trailer lines")
            return end - 1
        return end
