"""Response: the events of an application's answer, checked and written (RFC 9112 §4, §6, §7)."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ..server.writer import PIECES_A_TURN
from .scope import Event

if TYPE_CHECKING:
    from .protocol import ASGIProtocol

__all__ = ["COMPLETE", "STARTED", "WAITING", "WRITING", "Fields", "Responder", "encode_fields"]

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode("ascii") for status in HTTPStatus
}

# Up to this size a body is joined to its head, so that both leave in one system call.
_JOIN: Final = 65536


Fields: TypeAlias = tuple[bytes, int | None, tuple[bytes, ...], bool]
"""Header fields as octets without those that the server writes, and what those said: the content length, the options of
the connection, and whether there is a date."""


# RFC 9110 §5.1, §5.5: names are tokens, and nothing in a value ends its line or hides one.
_LINES: Final = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++: [\t\x20-\x7e\x80-\xff]*+\r\n)*+")
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")

_OURS: Final = frozenset({b"content-length", b"transfer-encoding", b"connection", b"date"})


def encode_fields(headers: Iterable[tuple[bytes, bytes]]) -> Fields:
    """Encode an application's headers; ValueError names what cannot be one, TypeError what is not bytes."""
    pieces: list[bytes] = []
    lines = 0
    length: int | None = None
    connection: tuple[bytes, ...] = ()
    dated = False
    if type(headers) is not list:
        headers = list(headers)
    for name, value in headers:
        lowered = name.lower()
        if lowered in _OURS:
            if lowered == b"content-length":
                length = _content_length(bytes(value), length)
                continue
            if lowered != b"date":
                # How the body is framed and whether the connection goes on is for the server to say.
                if lowered == b"connection":
                    connection += tuple(option.strip().lower() for option in bytes(value).split(b","))
                continue
            dated = True
        pieces += (name, b": ", value, b"\r\n")
        lines += 1
    try:
        encoded = b"".join(pieces)
    except TypeError:
        raise TypeError(f"header {_culprit(headers)}, permitted: names and values of bytes") from None
    # One look at all of them; a line that a value has smuggled in would be one more than there are headers.
    if _LINES.fullmatch(encoded) is None or encoded.count(b"\n") != lines or not _are_tokens(connection):
        raise ValueError(f"header {_culprit(headers)}, permitted: a token, and a value without control characters")
    return encoded, length, connection, dated


def _are_tokens(options: tuple[bytes, ...]) -> bool:
    return not options or all(map(_NAME.fullmatch, options))


def _content_length(value: bytes, before: int | None) -> int:
    if not value.isdigit() or (before is not None and before != int(value)):
        raise ValueError(f"content-length is {value!r}, permitted: digits, once")
    return int(value)


def _culprit(headers: list[Any]) -> str:
    for name, value in headers:
        if not isinstance(name, bytes) or not isinstance(value, bytes):
            return f"({name!r}, {value!r})"
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            return f"({name!r}, {value!r})"
    return repr(headers)


# How far a response is. Plain numbers: the member of an enum costs several hundred instructions each time it is named,
# and a small request names a dozen.
WAITING: Final = 0
"""For its start event."""
STARTED: Final = 1
"""Nothing is written before the first body event, as the specification wants it: the answer may still become a 500."""
WRITING: Final = 2
COMPLETE: Final = 3


class Responder:
    """Writes one response to the connection of a protocol.

    Chunked in HTTP/1.1, up to the end of the connection in HTTP/1.0, unless its length is declared or known at once.
    """

    __slots__ = (
        "_chunked",
        "_fields",
        "_pieces",
        "_remaining",
        "_silent",
        "bytes_sent",
        "keep_alive",
        "method",
        "progress",
        "protocol",
        "status",
        "version",
    )

    def __init__(self, protocol: ASGIProtocol, method: str, version: str) -> None:
        self.protocol = protocol
        self.method = method
        self.version = version
        self.progress: int = WAITING
        self.status = 0
        self.bytes_sent = 0
        self._pieces = 0
        self.keep_alive = True
        # What is left of the content length; None where there is none.
        self._remaining: int | None = None

    def start(self, event: Event) -> None:
        """Take a start event; ValueError or TypeError for what no head can be made of."""
        status = event["status"]
        if not isinstance(status, int) or not 200 <= status <= 599:
            raise ValueError(f"status is {status!r}, permitted: 200 to 599")
        if event.get("trailers"):
            raise ValueError("trailers are not supported: the scope does not name http.response.trailers")
        self._fields = encode_fields(event.get("headers") or ())
        # `status` may be an HTTPStatus.
        self.status = int(status)
        self.progress = STARTED

    def write(self, body: bytes, more: bool) -> None:
        """Write a piece of the body, with the head before it if it is the first.

        RuntimeError for more or less than the content length that was declared.
        """
        head = b""
        if self.progress == STARTED:
            head = self._head(len(body), more)
            if not more and len(body) <= _JOIN and self._remaining == len(body) and not self._silent:
                # Nearly all responses.
                self.bytes_sent = len(body)
                self.progress = COMPLETE
                self.protocol.write_response(head + body)
                return
            self.progress = WRITING
        if self._silent:
            data = head
        elif self._chunked:
            data = b"%b%x\r\n%b\r\n" % (head, len(body), body) if body else head
            if not more:
                data += b"0\r\n\r\n"
        else:
            if self._remaining is not None:
                self._take_from_length(len(body), more, written=not head)
            if len(body) > _JOIN and head:
                self.protocol.write_response(head)
                data = body
            else:
                data = head + body
        if not self._silent:
            self.bytes_sent += len(body)
        if data:
            self.protocol.write_response(data)
        if not more:
            self.progress = COMPLETE

    async def give_way(self) -> None:
        """Wait, after a piece that is not the last, until the transport takes more or for a turn of the loop."""
        self._pieces += 1
        if self.protocol.write_paused:
            await self.protocol.drain()
        elif not self._pieces % PIECES_A_TURN:
            await asyncio.sleep(0)

    def _take_from_length(self, size: int, more: bool, *, written: bool) -> None:
        assert self._remaining is not None
        remaining = self._remaining - size
        if remaining < 0 or (remaining and not more):
            # Where no octet is out yet, there can be another response instead.
            self.progress = WRITING if written else STARTED
            what = f"{-remaining} bytes longer" if remaining < 0 else f"{remaining} bytes shorter"
            raise RuntimeError(f"response body is {what} than its content-length")
        self._remaining = remaining

    def _head(self, size: int, more: bool) -> bytes:
        """Encode the head; ``size`` is that of the first piece of the body."""
        encoded, declared, options, dated = self._fields
        status = self.status
        self._chunked = False
        self._remaining = declared
        self._silent = self.method == "HEAD" or status in (204, 205, 304)
        keep_alive = self.protocol.may_keep_alive() and b"close" not in options
        framing = b""
        if status == 204:
            # RFC 9110 §8.6: MUST NOT be sent with 204.
            pass
        elif status == 205:
            framing = b"content-length: 0\r\n"
        elif declared is not None:
            framing = b"content-length: %d\r\n" % declared
        elif status == 304:
            pass
        elif not more and (size or self.method != "HEAD"):
            self._remaining = size
            framing = b"content-length: %d\r\n" % size
        elif self.method == "HEAD":
            pass
        elif self.version == "1.0":
            # RFC 9112 §6.3 8: without a length the end of the connection ends the body.
            keep_alive = False
        else:
            self._chunked = True
            framing = b"transfer-encoding: chunked\r\n"
        if not more and not self.protocol.can_leave_body():
            keep_alive = False
        self.keep_alive = keep_alive
        if not keep_alive:
            if b"close" not in options:
                options = (*options, b"close")
        elif self.version == "1.0" and b"keep-alive" not in options:
            options = (*options, b"keep-alive")
        return b"".join(
            (
                _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status,
                encoded,
                framing,
                b"" if dated else _date_line(),
                b"connection: %b\r\n\r\n" % b", ".join(options) if options else b"\r\n",
            )
        )


_date = (0, b"")


def _date_line() -> bytes:
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = now, f"date: {formatdate(now, usegmt=True)}\r\n".encode("ascii")
    return _date[1]
