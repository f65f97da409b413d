"""Several listening sockets as one server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

__all__ = ["JoinedServers"]


class JoinedServers:
    """The servers of an app's listening sockets, which begin and end together.

    As much of an :class:`asyncio.AbstractServer` as an :class:`AsyncioServer` needs.
    """

    def __init__(self, servers: Sequence[asyncio.AbstractServer]) -> None:
        self._servers = servers

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening sockets of all."""
        return tuple(sock for server in self._servers for sock in getattr(server, "sockets", None) or ())

    def is_serving(self) -> bool:
        """Whether connections are accepted."""
        return any(server.is_serving() for server in self._servers)

    async def start_serving(self) -> None:
        """Start accepting on every socket."""
        for server in self._servers:
            await server.start_serving()

    def close(self) -> None:
        """Stop accepting."""
        for server in self._servers:
            server.close()

    async def wait_closed(self) -> None:
        """Wait until all are closed."""
        for server in self._servers:
            await server.wait_closed()
