"""Scope: what an ASGI server says about a request or a connection, as a :class:`Request`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote, unquote

from ..request import Request
from .protocols.base_protocol import ConnInfo

if TYPE_CHECKING:
    from .._codec import Head

__all__ = ["ScopeHead", "ScopeRequest", "conn_info"]

# RFC 3986 §3.3: what a path holds as it is.
_PATH: Final = "/:@!$&'()*+,;=-._~"
_OCTET: Final = re.compile(rb"%([0-9A-Fa-f]{2})|.", re.DOTALL)


class ScopeHead:
    """The head of a request that a server has parsed already; what :class:`Request` asks of a head of the codec."""

    __slots__ = ("headers", "method", "target", "version", "websocket")

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self.method: str = scope.get("method", "GET")
        self.websocket: bool = scope["type"] == "websocket"
        self.version: str = scope.get("http_version", "1.1")
        self.target = _target(scope)
        self.headers: list[tuple[bytes, bytes]] = [(bytes(name), bytes(value)) for name, value in scope["headers"]]

    def getall(self, name: str) -> list[str]:
        """Return the values of a header, whose name is given in lower case."""
        wanted = name.encode("latin-1", "replace")
        # A server may hand names on as the client spelled them.
        return [
            value.decode("utf-8", "surrogateescape")
            for found, value in self.headers
            if len(found) == len(wanted) and found.lower() == wanted
        ]

    def select(self, names: Sequence[str]) -> list[list[str]]:
        """Return the values of several headers."""
        return [self.getall(name) for name in names]


class ScopeRequest(Request):
    """A request that came through an ASGI server; :attr:`scope` is the server's.

    ``path`` is what is left behind the scope's ``root_path``, ``url`` has both.
    """

    __slots__ = ("scope",)

    def __init__(self, scope: Mapping[str, Any], protocol: Any = None, app: Any = None) -> None:
        super().__init__(cast("Head", ScopeHead(scope)), protocol, app)
        self.scope = scope

    @property
    def scheme(self) -> str:
        """What the server says, which may know of a proxy's TLS."""
        scheme: str = self.scope.get("scheme") or ("ws" if self.scope["type"] == "websocket" else "http")
        return scheme

    @property
    def url(self) -> str:
        query = f"?{self.query_string}" if self.query_string else ""
        path = "" if self.path == "*" else quote(self.scope.get("root_path") or "", _PATH) + self.path
        return f"{self.scheme}://{self.host}{path}{query}"


def conn_info(scope: Mapping[str, Any]) -> ConnInfo:
    """Return who is connected to whom. Its ``ctx`` lasts as long as the scope, since a server tells no connections."""
    client, server = scope.get("client"), scope.get("server")
    addresses: dict[str, Any] = {"peername": None if client is None else tuple(client)}
    if server is not None:
        # The server of a Unix socket has no port.
        addresses["sockname"] = server[0] if server[1] is None else tuple(server)
    info = ConnInfo(asyncio.BaseTransport(addresses))
    info.ssl = scope.get("scheme") in ("https", "wss")
    return info


def _target(scope: Mapping[str, Any]) -> bytes:
    """Return the request target as it came, without the part of its path that the application is mounted under."""
    path: str = scope["path"]
    raw: bytes = (scope.get("raw_path") or b"").partition(b"?")[0]
    # Middleware may have changed the one and not the other, and `path` is what every server has.
    if unquote(raw.decode("latin-1")) != path:
        raw = quote(path, _PATH).encode("ascii")
    target = _without_prefix(raw, scope.get("root_path") or "")
    query: bytes = scope.get("query_string") or b""
    return target + b"?" + query if query else target


def _without_prefix(path: bytes, prefix: str) -> bytes:
    """Cut a prefix of whole segments off a path that is percent-encoded; the path itself where it has another."""
    start = 0
    for octet in prefix.encode("utf-8"):
        match = _OCTET.match(path, start)
        if match is None or (int(match[1], 16) if match[1] else match[0][0]) != octet:
            return path
        start = match.end()
    rest = path[start:]
    return (rest if rest.startswith(b"/") else path) if rest else b"/"
