"""The line that says where a server listens."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Final

from .._codec import CODEC
from ..log import logger

if TYPE_CHECKING:
    from ..app import App

__all__ = ["log_banner"]

_ALL: Final = " (all interfaces)"
_ALL_IPV6: Final = " (all interfaces, IPv6 alone)"


def log_banner(
    app: App,
    sockets: Iterable[socket.socket],
    loop: str,
    *,
    unix: str | None = None,
    secure: bool = False,
    workers: int | None = None,
) -> None:
    """Log where an app is served, on which loop and codec, and by how many worker processes."""
    logger.info(
        "%s: ferrows %s on %s (%s%s, %s)%s, Ctrl-C stops",
        app.name,
        installed_version("ferrows"),
        " ".join(_addresses(sockets, unix, secure=secure)),
        "" if workers is None else f"{workers} worker{'s' if workers > 1 else ''}, ",
        loop,
        CODEC,
        ", debug" if app.debug else "",
    )


def _addresses(sockets: Iterable[socket.socket], unix: str | None, *, secure: bool) -> list[str]:
    shown = list(dict.fromkeys(_address(sock, unix, secure=secure) for sock in sockets))
    # All interfaces are two sockets, and one address.
    both = any(address.endswith(_ALL) for address in shown)
    return [address for address in shown if not (both and address.endswith(_ALL_IPV6))]


def _address(sock: socket.socket, unix: str | None, *, secure: bool) -> str:
    """An address that a person can click on."""
    scheme = "https" if secure else "http"
    address = sock.getsockname()
    if not isinstance(address, tuple):
        return f"unix:{unix or address}"
    host, port = address[:2]
    if host == "0.0.0.0":
        return f"{scheme}://localhost:{port}{_ALL}"
    if host == "::":
        return f"{scheme}://[::1]:{port}{_ALL_IPV6}"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
