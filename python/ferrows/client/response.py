"""What a server answers: the head and the body of an HTTP/1.1 response, read by httptools.

The grammar of a response is left to httptools, which ferrows depends on already: here nobody can be harmed by a lenient
reading but the caller, who chose the server. What matters is judged by whoever reads the fields.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import httptools

from ..exceptions import HandshakeError
from ..headers import Headers

__all__ = ["ClientResponse", "ResponseReader"]

MAX_HEAD: Final = 64 * 1024
"""Bytes of a response's head."""

MAX_HEADERS: Final = 256
"""Header lines of a response."""


@dataclass(slots=True)
class ClientResponse:
    """A response, as far as it has arrived."""

    status: int
    reason: str = ""
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""
    version: str = "1.1"


class ResponseReader:
    """Reads the final response to one request.

    ``method`` is the request's, as a HEAD is answered without a body. Interim responses but 101 are passed over
    (RFC 9110 §15.2). A body of more than ``max_body`` bytes is cut, and complete then.
    """

    def __init__(self, method: str = "GET", *, max_body: int | None = None) -> None:
        self.complete = False
        """Whether nothing more is to be read."""
        self.rest = b""
        """What came behind a 101: the first bytes of another protocol."""
        self._method = method
        self._max_body = max_body
        self._head_size = 0
        self._has_head = False
        self._status = b""
        self._headers = Headers()
        self._lines = 0
        self._body = bytearray()
        self._parser = httptools.HttpResponseParser(self)

    @property
    def response(self) -> ClientResponse | None:
        """What was read; None while the head is not whole."""
        if not self._has_head:
            return None
        return ClientResponse(
            self._parser.get_status_code(),
            self._status.decode("utf-8", "replace"),
            self._headers,
            bytes(self._body),
            self._parser.get_http_version(),
        )

    def receive_data(self, data: bytes) -> None:
        """Read on; HandshakeError for what is no response, and for a head that is too large."""
        while data and not self.complete:
            piece = data
            if not self._has_head:
                piece = data[: MAX_HEAD - self._head_size]
                self._head_size += len(piece)
            data = data[len(piece) :]
            self._feed(piece, data)
            if not self._has_head and self._head_size >= MAX_HEAD:
                raise HandshakeError(f"the server's answer has a head of more than {MAX_HEAD} bytes")

    def _feed(self, piece: bytes, behind: bytes) -> None:
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            self.complete = True
            self.rest = piece[upgrade.args[0] :] + behind
        except httptools.HttpParserCallbackError as error:
            # What a callback raised.
            raise error.__context__ or error from None
        except httptools.HttpParserError as error:
            # A 101 that does not say what it switches to pauses the parser, as an upgrade does.
            if not self.complete:
                raise HandshakeError(f"the server's answer is no HTTP response: {error}") from None

    def receive_eof(self) -> None:
        """Take note that nothing more comes; HandshakeError where the response is not whole."""
        if self.complete:
            return
        if not self._has_head:
            raise HandshakeError("the server closed the connection without an answer")
        # RFC 9112 §6.3: without a length the body ends with the connection.
        if "content-length" in self._headers or "transfer-encoding" in self._headers:
            raise HandshakeError("the connection ended within the response")
        self.complete = True

    # ---- what httptools calls

    def on_message_begin(self) -> None:
        self._has_head = False
        self._status = b""
        self._headers = Headers()
        self._lines = 0

    def on_status(self, status: bytes) -> None:
        self._status += status

    def on_header(self, name: bytes, value: bytes) -> None:
        # Those after the body are its trailers, which nobody asked for.
        if self._has_head:
            return
        self._lines += 1
        if self._lines > MAX_HEADERS:
            raise HandshakeError(f"the server's answer has more than {MAX_HEADERS} header lines")
        try:
            self._headers.add(name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))
        except ValueError as error:
            raise HandshakeError(f"the server's answer is no HTTP response: {error}") from None

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self._head_size = 0
            return
        self._has_head = True
        if status == 101 or self._method == "HEAD":
            self.complete = True

    def on_body(self, body: bytes) -> None:
        if self.complete:
            return
        self._body += body
        if self._max_body is not None and len(self._body) >= self._max_body:
            del self._body[self._max_body :]
            self.complete = True

    def on_message_complete(self) -> None:
        if self._has_head:
            self.complete = True
