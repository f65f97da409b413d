"""Writer: a response as octets (RFC 9112 §4, §6, §7), whole or as it is made."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from ..exceptions import RequestCancelled, ServerError
from ..headers import parse_list

if TYPE_CHECKING:
    from ..response import HTTPResponse

__all__ = ["PIECES_A_TURN", "ResponseWriter", "encode_response", "has_content", "measure", "parse_length"]

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}

# What the server writes itself. Date may be the application's.
_OURS: Final = frozenset({"content-length", "transfer-encoding", "connection"})

PIECES_A_TURN: Final = 64
"""Pieces of a response that may be sent in a row before the loop turns.

A transport takes all at once for a client that reads as fast, and for one that is gone, which it can only tell when the
loop turns. So a handler that does nothing but send would hold everybody up, in the second case for ever.
"""

# Up to this size a body is joined to its head, so that both leave in one system call.
_JOIN: Final = 65536


def encode_response(response: HTTPResponse, method: str, version: str, keep_alive: bool) -> tuple[bytes, bytes, bool]:
    """Return the head of a response to ``method``, its body, and whether the connection goes on after it."""
    length, body = measure(response, method)
    framing = "" if length is None else f"Content-Length: {length}\r\n"
    head, keep_alive = _encode_head(response, framing, version, keep_alive)
    return head, body, keep_alive


def measure(response: HTTPResponse, method: str) -> tuple[str | None, bytes]:
    """Return the ``Content-Length`` of a response that is whole, None where it has none, and the body to send."""
    if not has_content(response.status):
        # RFC 9110 §8.6: MUST NOT be sent with 204; with 304 it would be that of the content left out.
        return "0" if response.status == 205 else None, b""
    body = response.body
    if method != "HEAD":
        return str(len(body)), body
    # A handler of HEAD alone may know the length without making the content.
    return str(len(body)) if body else response.headers.get("content-length", "0"), b""


class ResponseWriter:
    """Writes one streamed response.

    Chunked in HTTP/1.1, up to the end of the connection in HTTP/1.0, unless its length is declared or known at once.
    ``keep_alive`` is set right when the head is written. ``protocol`` is the :class:`HttpProtocol`.
    """

    __slots__ = (
        "_chunked",
        "_method",
        "_pieces",
        "_protocol",
        "_remaining",
        "_version",
        "bytes_sent",
        "ended",
        "keep_alive",
        "response",
        "started",
    )

    def __init__(self, protocol: Any, response: HTTPResponse, method: str, version: str, keep_alive: bool) -> None:
        self._protocol = protocol
        self._method = method
        self._version = version
        self._chunked = False
        self._pieces = 0
        self._remaining: int | None = None
        self.response = response
        self.keep_alive = keep_alive
        self.started = False
        self.ended = False
        self.bytes_sent = 0

    async def send(self, data: bytes, end: bool) -> None:
        """Write a piece and wait until the transport takes more.

        ServerError for more or less than the ``Content-Length`` that the response declares; RequestCancelled once the
        client has left.
        """
        if self._protocol.lost:
            raise RequestCancelled("the client has left")
        pieces = []
        if not self.started:
            pieces.append(self._begin(len(data) if end else None))
        silent = self._method == "HEAD" or not has_content(self.response.status)
        if not silent:
            pieces += self._frame(data, end)
            self.bytes_sent += len(data)
        self.ended = end
        if pieces:
            self._protocol.write_response(b"".join(pieces))
        await self._protocol.drain()
        self._pieces += 1
        if not self._pieces % PIECES_A_TURN or self._protocol.transport.is_closing():
            # That a transport is gone it says in the loop's next turn.
            await asyncio.sleep(0)

    def _begin(self, length: int | None) -> bytes:
        """Encode the head; ``length`` is the whole body's, if this first piece is the last."""
        declared = self.response.headers.get("content-length")
        framing = ""
        if not has_content(self.response.status):
            framing = "Content-Length: 0\r\n" if self.response.status == 205 else ""
        elif declared is not None:
            self._remaining = parse_length(declared)
            framing = f"Content-Length: {self._remaining}\r\n"
        elif length is not None:
            self._remaining = length
            framing = f"Content-Length: {length}\r\n"
        elif self._version == "1.0":
            # RFC 9112 §6.3 8: without a length the end of the connection ends the body.
            self.keep_alive = False
        else:
            self._chunked = True
            framing = "Transfer-Encoding: chunked\r\n"
        head, self.keep_alive = _encode_head(self.response, framing, self._version, self.keep_alive)
        self.started = True
        return head

    def _frame(self, data: bytes, end: bool) -> list[bytes]:
        if self._chunked:
            # An empty chunk would be the last one.
            pieces = [b"%x\r\n" % len(data), data, b"\r\n"] if data else []
            return [*pieces, b"0\r\n\r\n"] if end else pieces
        if self._remaining is not None:
            if len(data) > self._remaining:
                raise ServerError(f"response of more than its Content-Length: {len(data) - self._remaining} bytes over")
            self._remaining -= len(data)
            if end and self._remaining:
                raise ServerError(f"response of less than its Content-Length: {self._remaining} bytes missing")
        return [data] if data else []


def join(head: bytes, body: bytes) -> list[bytes]:
    """Return what is to be written, in as few pieces as is worth the copying."""
    if not body:
        return [head]
    return [head + body] if len(body) <= _JOIN else [head, body]


def has_content(status: int) -> bool:
    """Whether a response of this status has a body (RFC 9110 §15.3.5, §15.3.6, §15.4.5)."""
    return status not in (204, 205, 304)


def parse_length(value: str) -> int:
    """Return the ``Content-Length`` that a handler declares; ValueError where it is no number."""
    if not (value.isascii() and value.isdigit()):
        raise ValueError(f"Content-Length is {value!r}, permitted: digits")
    return int(value)


def _encode_head(response: HTTPResponse, framing: str, version: str, keep_alive: bool) -> tuple[bytes, bool]:
    status = response.status
    parts = [_STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n"]
    options: list[str] = []
    dated = False
    for lowered, fields in response.headers.by_name():
        if lowered == "connection":
            options += (option for _, value in fields for option in parse_list(value))
        elif lowered == "date":
            dated = True
        elif lowered == "upgrade" and "upgrade" not in (option.lower() for option in options):
            # RFC 9110 §7.8: a sender of Upgrade MUST name it in Connection too.
            options.append("Upgrade")
        if lowered not in _OURS:
            parts += [f"{name}: {value}\r\n" for name, value in fields]
    parts += [f"Set-Cookie: {cookie}\r\n" for cookie in response.cookies_to_set()]
    parts.append(framing)
    if not dated:
        parts.append(_date_line())
    if options and "close" in (option.lower() for option in options):
        keep_alive = False
    elif not keep_alive:
        options.append("close")
    elif version == "1.0":
        options.append("keep-alive")
    if options:
        parts.append(f"Connection: {', '.join(options)}\r\n")
    parts.append("\r\n")
    return "".join(parts).encode("utf-8", "surrogateescape"), keep_alive


_date = (0, "")


def _date_line() -> str:
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = now, f"Date: {formatdate(now, usegmt=True)}\r\n"
    return _date[1]
