"""Every exception that ferrows raises.

Three kinds are kept apart: what the *peer* did (:class:`WebsocketClosed` and its subclasses), what the *caller* did
(``TypeError``, ``ValueError``, :class:`ServerError`), and what an HTTP handler answers with (:class:`HTTPException`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

from .redaction import printable

__all__ = [
    "BadRequest",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "ContentTooLarge",
    "ExpectationFailed",
    "FerrowsException",
    "Forbidden",
    "HTTPException",
    "HandshakeError",
    "HeaderFieldsTooLarge",
    "InternalServerError",
    "InvalidUsage",
    "LengthRequired",
    "MethodNotAllowed",
    "NotFound",
    "NotImplementedByServer",
    "PayloadTooLarge",
    "RequestCancelled",
    "RequestTimeout",
    "ServerError",
    "ServiceUnavailable",
    "TooManyRequests",
    "URITooLong",
    "Unauthorized",
    "UpgradeRequired",
    "VersionNotSupported",
    "WebsocketClosed",
]


class FerrowsException(Exception):
    """Base of all that ferrows raises."""


# --------------------------------------------------------------------------------------------------------------------
# WebSocket


class WebsocketClosed(FerrowsException):
    """The connection is closed: nothing more can be sent, and every message that had arrived was delivered.

    ``code`` and ``reason`` are the closing handshake's (RFC 6455 §7.1.5, §7.1.6): 1005 where the Close frame had no
    body, 1006 where the connection ended without one.
    """

    def __init__(self, code: int = 1006, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        # The reason is the peer's, and this may end up in a log.
        return f"closed with {self.code}" + (f": {printable(self.reason)}" if self.reason else "")


class ConnectionClosedOK(WebsocketClosed):
    """The connection ended cleanly: 1000, 1001 or 1005."""


class ConnectionClosedError(WebsocketClosed):
    """The connection ended with any other code, 1006 (no closing handshake) among them."""


ConnectionClosed = WebsocketClosed


class HandshakeError(FerrowsException):
    """A client's opening handshake failed (RFC 6455 §4.1): the server refused it, or broke its rules.

    ``status``, ``headers`` and ``body`` are the answer's: None, empty and empty where none came. Of a long body only
    the beginning is kept. A ``status`` of 101 means that the server agreed to something that it may not. ``url`` is
    what was to be opened, without password and query; "" where that is not known.
    """

    url = ""

    def __init__(
        self, message: str, status: int | None = None, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.headers: Mapping[str, str] = {} if headers is None else headers
        self.body = body

    def __str__(self) -> str:
        # The message may name what the server has sent.
        return printable(f"{self.url}: {self.message}" if self.url else self.message)


class RequestCancelled(FerrowsException):
    """The server gave a request up, because it shuts down or because the client left."""

    quiet: ClassVar[bool] = True
    """What a client can cause as often as it likes is no error of the application's."""


# --------------------------------------------------------------------------------------------------------------------
# HTTP


class HTTPException(FerrowsException):
    """An answer with an error status.

    ``message`` is shown to the client; it defaults to the status' phrase. ``headers`` are added to the answer.
    ``quiet`` keeps the error out of the log (the default below 500). ``extra`` is shown in the error page in debug
    mode, ``context`` always.
    """

    status_code: ClassVar[int] = 500
    default_message: ClassVar[str] = ""

    def __init__(
        self,
        message: str | bytes | None = None,
        status_code: int | None = None,
        *,
        quiet: bool | None = None,
        headers: Mapping[str, str] | None = None,
        context: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        if status_code is not None:
            # An instance may carry another status than its class.
            self.status_code = status_code  # type: ignore[misc]
        if isinstance(message, bytes):
            message = message.decode("utf-8", "replace")
        if not message:
            message = self.default_message or _phrase(self.status_code)
        super().__init__(message)
        self.message = message
        self.headers: dict[str, str] = dict(headers or {})
        self.quiet = self.status_code < 500 if quiet is None else quiet
        self.context = context
        self.extra = extra


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown Error"


class BadRequest(HTTPException):
    """400: the request is malformed."""

    status_code = 400


InvalidUsage = BadRequest


class Unauthorized(HTTPException):
    """401: credentials are missing or wrong; ``scheme`` and ``challenges`` make the ``WWW-Authenticate`` header."""

    status_code = 401

    def __init__(
        self,
        message: str | bytes | None = None,
        scheme: str | None = None,
        *,
        quiet: bool | None = None,
        headers: Mapping[str, str] | None = None,
        context: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
        **challenges: Any,
    ) -> None:
        super().__init__(message, quiet=quiet, headers=headers, context=context, extra=extra)
        if scheme is not None:
            values = ", ".join(f'{key}="{value}"' for key, value in challenges.items())
            self.headers["WWW-Authenticate"] = f"{scheme} {values}".rstrip()


class Forbidden(HTTPException):
    """403: the client may not have this."""

    status_code = 403


class NotFound(HTTPException):
    """404: nothing is at this path."""

    status_code = 404


class MethodNotAllowed(HTTPException):
    """405: the path exists, but not for this method; ``allowed_methods`` makes the ``Allow`` header."""

    status_code = 405

    def __init__(
        self,
        message: str | bytes | None = None,
        method: str = "",
        allowed_methods: Sequence[str] = (),
        **options: Any,
    ) -> None:
        super().__init__(message, **options)
        self.method = method
        self.allowed_methods = tuple(allowed_methods)
        self.headers["Allow"] = ", ".join(self.allowed_methods)


class RequestTimeout(HTTPException):
    """408: the request did not arrive in time."""

    status_code = 408


class LengthRequired(HTTPException):
    """411: the request needs a Content-Length."""

    status_code = 411


class PayloadTooLarge(HTTPException):
    """413: the body is longer than ``REQUEST_MAX_SIZE``."""

    status_code = 413


ContentTooLarge = PayloadTooLarge


class URITooLong(HTTPException):
    """414: the request target is too long."""

    status_code = 414


class ExpectationFailed(HTTPException):
    """417: the server does not know this ``Expect``."""

    status_code = 417


class UpgradeRequired(HTTPException):
    """426: the resource speaks WebSocket only; carries ``Upgrade`` (RFC 9110 §15.5.22)."""

    status_code = 426


class TooManyRequests(HTTPException):
    """429: the client asks too often."""

    status_code = 429


class HeaderFieldsTooLarge(HTTPException):
    """431: the header section is too large."""

    status_code = 431


class InternalServerError(HTTPException):
    """500."""

    status_code = 500


class ServerError(InternalServerError):
    """500; also what a handler gets that uses a connection in a way that cannot work (two tasks in ``recv``)."""


class NotImplementedByServer(HTTPException):
    """501: the server does not know this method or transfer coding."""

    status_code = 501


class ServiceUnavailable(HTTPException):
    """503: the server is overloaded or shutting down."""

    status_code = 503


class VersionNotSupported(HTTPException):
    """505: neither HTTP/1.0 nor HTTP/1.1."""

    status_code = 505
