"""Scope: what an application is told about a connection (ASGI 3.0; HTTP and WebSocket 2.5)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import unquote_to_bytes

from ..headers import parse_list
from ..request_target import authority_of, split_target

if TYPE_CHECKING:
    from .._codec import Head
    from ..server.protocols.base_protocol import ConnInfo

__all__ = ["ASGIApplication", "Address", "Event", "Receive", "Scope", "Send", "http_scope", "websocket_scope"]

Scope: TypeAlias = MutableMapping[str, Any]
Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]
Send: TypeAlias = Callable[[Event], Awaitable[None]]
ASGIApplication: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[Any]]
"""An application of a single callable. One of the older, double callable form needs asgiref's ``guarantee_single``."""

_SLASH: Final = ord("/")
_VERSIONS: Final = {"version": "3.0", "spec_version": "2.5"}


class Address:
    """Both ends of one connection, as scopes name them."""

    __slots__ = ("client", "secure", "server")

    def __init__(self, info: ConnInfo, told: Mapping[str, str] | None = None) -> None:
        """Take a connection's ends; ``told`` is what :func:`ferrows.forwarding.forwarded` returns."""
        self.client = (info.client_ip, info.client_port) if isinstance(info.peername, tuple) else None
        sockname = info.sockname
        if isinstance(sockname, tuple):
            self.server: tuple[str, int | None] | None = (str(sockname[0]), int(sockname[1]))
        else:
            self.server = (str(sockname), None) if sockname else None
        self.secure = info.ssl
        if told:
            # A proxy does not tell the port.
            self.client = (told["for"], 0) if "for" in told else self.client
            self.secure = told.get("proto", "https" if info.ssl else "http") == "https"


def http_scope(head: Head, address: Address, root_path: str, state: dict[str, Any]) -> dict[str, Any]:
    """Describe a request. ``state`` is copied, not deeply, as the lifespan's specification wants it."""
    raw_path, path, query_string = _target(head.target, root_path)
    return {
        "type": "http",
        # A copy: applications that are mounted in others may write to it.
        "asgi": _VERSIONS.copy(),
        "http_version": head.version,
        "method": head.method,
        "scheme": "https" if address.secure else "http",
        "path": path,
        "raw_path": raw_path,
        "query_string": query_string,
        "root_path": root_path,
        "headers": _headers(head),
        "client": address.client,
        "server": address.server,
        "state": state.copy(),
        "extensions": {},
    }


def websocket_scope(head: Head, address: Address, root_path: str, state: dict[str, Any]) -> dict[str, Any]:
    """Describe an opening handshake that is valid."""
    raw_path, path, query_string = _target(head.target, root_path)
    return {
        "type": "websocket",
        "asgi": _VERSIONS.copy(),
        "http_version": head.version,
        "scheme": "wss" if address.secure else "ws",
        "path": path,
        "raw_path": raw_path,
        "query_string": query_string,
        "root_path": root_path,
        "headers": _headers(head),
        "client": address.client,
        "server": address.server,
        "subprotocols": parse_list(",".join(head.getall("sec-websocket-protocol"))),
        "state": state.copy(),
        "extensions": {"websocket.http.response": {}},
    }


def _headers(head: Head) -> list[tuple[bytes, bytes]]:
    headers = [(name.lower(), value) for name, value in head.headers]
    authority = authority_of(head.target)
    if authority is None:
        return headers
    return [(b"host", authority), *(field for field in headers if field[0] != b"host")]


def _target(target: bytes, root_path: str) -> tuple[bytes, str, bytes]:
    """Take a request target apart: the path as it came, the path decoded, the query."""
    if target.isascii() and not root_path and target[0] == _SLASH and b"%" not in target and b"?" not in target:
        return target, target.decode("ascii"), b""
    raw_path, query_string = split_target(target)
    if b"%" in raw_path:
        path = unquote_to_bytes(raw_path).decode("utf-8", "replace")
    else:
        path = raw_path.decode("utf-8", "replace")
    if root_path:
        # The specification's word since 2.5: the path has the root path in it.
        return root_path.encode("utf-8") + raw_path, root_path + path, query_string
    return raw_path, path, query_string
