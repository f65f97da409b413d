"""The listening sockets of several workers.

Workers that accept from one socket do not share the work: of 200 connections one of four took 165, and WebSockets
stay where they are. So on Linux, where a port may have several sockets, each worker's place has one of its own, and the
kernel spreads connections: 45 to 55 for each. The supervisor binds them, and a worker's successor inherits what its
predecessor had: no connection is lost in between, as it would be if each worker bound its own.

Elsewhere, for Unix sockets and for a socket that the program has bound, all workers accept from the same one.
"""

from __future__ import annotations

import itertools
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from .socket import BACKLOG, bind_sockets, bind_unix_socket, remove_unix_socket

__all__ = ["Listeners"]

_SPREADS: Final = sys.platform == "linux"
"""Whether the kernel spreads connections over sockets of one port; elsewhere the last one may get them all."""


class Listeners:
    """The sockets of each worker's place, a list for each; all of them the same list where they are shared."""

    def __init__(self, places: Sequence[Sequence[socket.socket]], unix: str | None = None) -> None:
        self.places = places
        self.unix = unix
        self.shared = all(place is places[0] for place in places)

    @classmethod
    def bound(cls, options: Mapping[str, Any], workers: int) -> Listeners:
        """Bind what the options of :func:`serve` say; OSError where that is impossible, or somebody listens there."""
        backlog, unix, given = options.get("backlog", BACKLOG), options.get("unix"), options.get("sock")
        if given is not None:
            given.listen(backlog)
            return cls([[given]] * workers)
        if unix:
            return cls([[bind_unix_socket(unix, backlog=backlog)]] * workers, unix)
        host, port, reuse_port = options["host"], options["port"], bool(options.get("reuse_port"))
        first = bind_sockets(host, port, backlog, reuse_port=reuse_port)
        if workers == 1 or not _SPREADS:
            return cls([first] * workers)
        port = first[0].getsockname()[1]
        if not reuse_port:
            # With SO_REUSEPORT another server on this port would not be an error. So it was asked for without it first.
            for sock in first:
                sock.close()
            first = bind_sockets(host, port, backlog, reuse_port=True)
        places = [first]
        try:
            # The others listen as soon as their worker is ready: until then the kernel sends nobody there.
            for _ in range(workers - 1):
                places.append(bind_sockets(host, port, None, reuse_port=True))
        except BaseException:
            for sock in itertools.chain.from_iterable(places):
                sock.close()
            raise
        return cls(places)

    def of(self, number: int) -> Sequence[socket.socket]:
        """The sockets of a worker, counted from 1."""
        return self.places[number - 1]

    def rest(self, number: int) -> None:
        """Have the kernel send nobody to a place that stays empty for a while; its next worker listens again."""
        if self.shared:
            return
        for sock in self.of(number):
            # On one that does not listen the shutdown would stick, and end the connections of the next worker as well.
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of them; workers that have them go on."""
        for place in self.places:
            for sock in place:
                sock.close()

    def remove(self) -> None:
        """Close them, and remove the path of a Unix socket."""
        self.close()
        remove_unix_socket(self.unix)
