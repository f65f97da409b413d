"""Handshake: whether a request may become a WebSocket connection, and the answer to it (RFC 6455 §4.2)."""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from .exceptions import BadRequest, Forbidden, UpgradeRequired
from .extensions import DeflateParameters, negotiate_deflate, parse_extensions
from .headers import parse_list

if TYPE_CHECKING:
    from .config import WebsocketSettings
    from .request import Request

__all__ = ["ANY_ORIGIN", "SAME_ORIGIN", "Handshake", "accept", "accept_value", "agree", "upgrade_required"]

SAME_ORIGIN: Final = "same"
"""Stands in ``origins`` for the host that the request itself names."""

ANY_ORIGIN: Final = "*"
"""Stands in ``origins`` for every origin."""

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class Handshake(NamedTuple):
    """An accepted opening handshake: the whole 101 head to send, and what was agreed in it."""

    response: bytes
    subprotocol: str | None
    deflate: DeflateParameters | None


def accept(request: Request, subprotocols: Sequence[str] | None, settings: WebsocketSettings) -> Handshake:
    """Accept an opening handshake, or say with which status it is refused.

    ``subprotocols`` are the server's, in order of preference; without one in common the connection goes on without any.
    Raises UpgradeRequired (426) for a request that asks for no WebSocket or for another version of it, Forbidden (403)
    for an origin that may not connect (:func:`agree`), BadRequest (400) for the rest.
    """
    upgrade, connection, version, key, origin, offered, extensions = request.header_lines(
        "upgrade",
        "connection",
        "sec-websocket-version",
        "sec-websocket-key",
        "origin",
        "sec-websocket-protocol",
        "sec-websocket-extensions",
    )
    # RFC 9110 §7.8: an HTTP/1.0 request's Upgrade is ignored, and Upgrade counts only with its connection option.
    if request.version == "1.0" or not _names(upgrade, "websocket") or not _names(connection, "upgrade"):
        raise upgrade_required("this resource speaks the WebSocket protocol only")
    # §4.2.1 1: a GET request.
    if request.method != "GET":
        raise BadRequest(f"opening handshake with {request.method}, permitted: GET")
    if request.body:
        raise BadRequest("a websocket upgrade with a body")
    # §4.4: without a version in common the answer MUST name those that would do.
    if version != ["13"]:
        raise upgrade_required("the WebSocket version supported is 13")

    accepted = accept_value(_checked_key(key))
    subprotocol = agree(request, origin, offered, subprotocols, settings)
    response = (
        "HTTP/1.1 101 Switching Protocols\r\n"
        "Upgrade: websocket\r\n"
        "Connection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accepted}\r\n"
    )
    if subprotocol is not None:
        response += f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
    deflate = None
    if extensions:
        agreed = negotiate_deflate(parse_extensions(", ".join(extensions)), settings.deflate)
        if agreed is not None:
            deflate, element = agreed
            response += f"Sec-WebSocket-Extensions: {element}\r\n"
    return Handshake(f"{response}\r\n".encode("ascii"), subprotocol, deflate)


def agree(
    request: Request,
    origin: list[str],
    offered: list[str],
    subprotocols: Sequence[str] | None,
    settings: WebsocketSettings,
) -> str | None:
    """Check the values of ``Origin`` and choose a subprotocol, None without one in common; the part that is policy.

    Raises Forbidden (403) for an origin that ``settings.origins`` does not name, BadRequest (400) for an offer that is
    no list of tokens. A request without ``Origin`` does not come from a page, so that it is let in (RFC 6455 §10.2).
    Where ``origins`` is None, credentials decide that a browser sends along whatever page opens the connection.
    """
    if origin:
        if settings.origins is not None:
            _check_origin(origin, request.host, settings.origins)
        elif (credentials := _ambient_credentials(request)) is not None:
            _check_origin(origin, request.host, SAME_ORIGIN, f"a request with {credentials} comes from another origin")
    return _choose(offered, subprotocols)


def _ambient_credentials(request: Request) -> str | None:
    """Say which credentials a request has that a browser adds of its own accord; None without any.

    A bearer token is none: no browser knows one, and a page cannot set it on a WebSocket.
    """
    headers = request.headers
    if headers.get("cookie") is not None:
        return "cookies"
    authorization = headers.get("authorization")
    if authorization is not None and not authorization.lower().startswith("bearer "):
        return "a password"
    conn_info = request.conn_info
    if conn_info is not None and conn_info.ssl and conn_info.cert:
        return "a certificate of the client"
    return None


def accept_value(key: str) -> str:
    """Return the ``Sec-WebSocket-Accept`` for a key (§4.2.2 5.4)."""
    digest = hashlib.sha1(key.encode("ascii") + _GUID, usedforsecurity=False).digest()
    return binascii.b2a_base64(digest, newline=False).decode("ascii")


def _names(values: list[str], option: str) -> bool:
    """Whether a list-valued header names an option, in any case."""
    if len(values) == 1 and values[0].lower() == option:
        return True
    return any(named.lower() == option for value in values for named in parse_list(value))


def upgrade_required(message: str) -> UpgradeRequired:
    """Make the error that names the protocol and its version (RFC 9110 §15.5.22, RFC 6455 §4.4)."""
    return UpgradeRequired(message, headers={"Upgrade": "websocket", "Sec-WebSocket-Version": "13"})


def _checked_key(values: list[str]) -> str:
    # §11.3.1: MUST NOT appear more than once. §4.2.1 5: base64 that decodes to 16 bytes.
    if len(values) != 1:
        raise BadRequest(f"{len(values)} Sec-WebSocket-Key headers, permitted: 1")
    try:
        nonce = binascii.a2b_base64(values[0], strict_mode=True)
    except (binascii.Error, ValueError):
        raise BadRequest("Sec-WebSocket-Key is not base64") from None
    # 24 characters: the padding belongs to it.
    if len(nonce) != 16 or len(values[0]) != 24:
        raise BadRequest(f"Sec-WebSocket-Key decodes to {len(nonce)} bytes, permitted: 16")
    return values[0]


_DEFAULT_PORTS: Final = {"http": "80", "https": "443", "ws": "80", "wss": "443"}
_ORIGIN: Final = re.compile(r"([a-z][a-z0-9+\-.]*+)://(\[[^\]]*+\]|[^:/]*+)(?::([0-9]*+))?")


def _check_origin(
    values: list[str], host: str, origins: Sequence[str] | str, refusal: str = "origin is not allowed"
) -> None:
    permitted = (origins,) if isinstance(origins, str) else origins
    if ANY_ORIGIN in permitted:
        return
    # A browser sends one; what several mean cannot be told.
    if len(values) == 1:
        origin = _normalised(values[0])
        for each in permitted:
            if _is_same_host(origin, host) if each == SAME_ORIGIN else origin == _normalised(each):
                return
    raise Forbidden(refusal)


def _normalised(origin: str) -> str:
    """Return a serialised origin (RFC 6454 §6.2) in lower case and without its scheme's default port."""
    lowered = origin.lower()
    match = _ORIGIN.fullmatch(lowered)
    if match is None:
        return lowered
    scheme, host, port = match.groups()
    return f"{scheme}://{host}" + (f":{port}" if port and port != _DEFAULT_PORTS.get(scheme) else "")


def _is_same_host(origin: str, host: str) -> bool:
    # The scheme is not compared: behind a proxy that ends TLS, ours is not what the page sees.
    scheme, separator, authority = origin.partition("://")
    return bool(separator) and authority != "" and origin == _normalised(f"{scheme}://{host}")


def _choose(values: list[str], subprotocols: Sequence[str] | None) -> str | None:
    if not values:
        return None
    # §4.1 10: 1#token. Judged even where the server wants none, so that an answer does not depend on the route.
    offered = parse_list(",".join(values))
    if not offered or not all(_TOKEN.fullmatch(name) for name in offered):
        raise BadRequest("Sec-WebSocket-Protocol is malformed")
    # §4.2.2 5.5: one of those offered or none at all.
    return next((name for name in subprotocols or () if name in offered), None)
