"""Bearer tokens: where a request carries one (RFC 6750 §2), and the challenge to one that should (§3)."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Final

from ..exceptions import BadRequest
from ..headers import parse_list
from ..redaction import hide_parameter

if TYPE_CHECKING:
    from ..request import Request

__all__ = ["bearer_token", "challenge", "check_marker"]

ENCODED: Final = "base64url."
"""What the name of a subprotocol begins with whose token is encoded: a subprotocol can hold no ``/`` and no ``=``."""

_TOKEN68: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 6750 §3: what error_description may hold; the same does for a realm.
_NOT_QUOTABLE: Final = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")


def bearer_token(
    request: Request, *, header: bool = True, query: str | None = None, subprotocol: str | None = None
) -> str | None:
    """Return the bearer token that a request carries, None where it carries none.

    ``header`` looks at ``Authorization: Bearer <token>`` (RFC 6750 §2.1), and leaves other schemes to others. ``query``
    is the name of a parameter (§2.3: ``access_token``), whose value the access log then hides. ``subprotocol`` is the
    name that a browser's script puts a token behind, which can set no header: ``bearer`` finds it in ``new
    WebSocket(url, ["bearer", token])`` and in ``new WebSocket(url, ["chat", "bearer." + token])``. A name that begins
    with ``base64url.`` stands before a token that is base64url without padding.

    BadRequest where there is more than one token, in one way or in several (§2: a client MUST NOT use more than one
    method), where one does not follow the grammar, and where a subprotocol with a token is all that was offered: the
    token is never agreed on, and without any subprotocol a browser fails the connection.
    """
    tokens = []
    if header:
        tokens += _from_header(request)
    if query is not None:
        hide_parameter(query)
        tokens += [_checked(value) for name, value in request.query_args if name == query]
    if subprotocol is not None:
        tokens += _from_offer(request, subprotocol)
    if len(tokens) > 1:
        raise _malformed(f"{len(tokens)} bearer tokens in one request, permitted: 1")
    return tokens[0] if tokens else None


def challenge(realm: str | None = None, error: str | None = None, description: str | None = None) -> str:
    """Return the value of a ``WWW-Authenticate`` (RFC 6750 §3); what it cannot hold is replaced by question marks."""
    attributes = {"realm": realm, "error": error, "error_description": description}
    given = ", ".join(f'{name}="{_NOT_QUOTABLE.sub("?", value)}"' for name, value in attributes.items() if value)
    return f"Bearer {given}".rstrip()


def check_marker(name: str) -> None:
    """ValueError for the name of a subprotocol that is no token (RFC 6455 §4.1)."""
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise ValueError(f"subprotocol {name!r} must be a token: ASCII letters, digits and !#$%&'*+-.^_`|~")


def _from_header(request: Request) -> list[str]:
    [lines] = request.header_lines("authorization")
    # RFC 9110 §5.3: a field that is no list MUST NOT be sent twice; which one counts is not ours to guess.
    if len(lines) > 1:
        raise _malformed(f"{len(lines)} Authorization headers, permitted: 1")
    if not lines:
        return []
    scheme, _, rest = lines[0].partition(" ")
    if not _TOKEN.fullmatch(scheme):
        raise _malformed("Authorization does not begin with a scheme")
    # RFC 9110 §11.1: in any case.
    return [_checked(rest.lstrip(" "))] if scheme.lower() == "bearer" else []


def _from_offer(request: Request, marker: str) -> list[str]:
    """Find tokens among the subprotocols: behind the marker, or behind the marker and a dot in one of them."""
    encoded = []
    others = 0
    elements = iter(_offer(request))
    for element in elements:
        if element.startswith(f"{marker}."):
            encoded.append(element[len(marker) + 1 :])
            continue
        others += 1
        if element == marker:
            value = next(elements, None)
            if value is None:
                raise _malformed(f"no token behind the subprotocol {marker!r}")
            encoded.append(value)
    if encoded and not others:
        raise _malformed("a token is the only subprotocol, offer another one besides it")
    return [_checked(_decoded(value) if marker.startswith(ENCODED) else value) for value in encoded]


def _offer(request: Request) -> list[str]:
    # An ASGI server says what is offered, and some leave the header out then.
    scope = getattr(request, "scope", None)
    if scope is not None:
        return list(scope.get("subprotocols") or ())
    [lines] = request.header_lines("sec-websocket-protocol")
    return parse_list(",".join(lines))


def _decoded(value: str) -> str:
    """Decode base64url in its one canonical form, without padding."""
    try:
        octets = base64.b64decode(value + "=" * (-len(value) % 4), b"-_", validate=True)
        if base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii") == value:
            return octets.decode("ascii")
    except ValueError:
        pass  # As good as what has another spelling: refused below.
    raise _malformed("the bearer token is not base64url without padding")


def _checked(token: str) -> str:
    if not _TOKEN68.fullmatch(token):
        # Not shown: most of it may be right.
        raise _malformed("the bearer token is malformed")
    return token


def _malformed(description: str) -> BadRequest:
    # §3.1: invalid_request SHOULD be answered with 400.
    return BadRequest(
        description, headers={"WWW-Authenticate": challenge(error="invalid_request", description=description)}
    )
