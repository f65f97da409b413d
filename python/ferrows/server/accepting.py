"""Accepting many connections in one turn of the loop while many arrive."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

__all__ = ["BatchAccepting"]

logger = logging.getLogger("ferrows.error")

HANDLES: Final = 7
"""Further handles on each listening socket while connections crowd in; each accepts one in a turn."""

GAP: Final = 0.002
"""Seconds between two connections, at most, in a crowd."""

CROWD: Final = 16
"""Connections in a row with no greater gap that make one, if another waits to be accepted already."""

PERIOD: Final = 1.0
"""Seconds between two looks at whether the crowd is over."""

FEW: Final = 250
"""Connections in a period, or fewer, when it is."""

Listen = Callable[[Callable[[], asyncio.BaseProtocol], socket.socket], Awaitable[asyncio.AbstractServer]]
"""Makes a server of the loop's on a listening socket, which the server owns from then on."""


class BatchAccepting(asyncio.AbstractServer):
    """A server of uvloop, whose handles accept one connection in a turn: in a crowd it has several.

    Opening a connection is much code that is run once: eight of them in a turn cost little more than half of what they
    cost in eight turns, since the caches and the branch predictor know each step from the one before (benchmarks,
    `connect`). But a handle is woken for each connection and finds nothing if another was faster, so there is only one
    while few connections arrive. All handles share one socket of the kernel and so one backlog.

    ``listen`` makes the further servers. :attr:`make_protocol` is for the first, which :meth:`begin` takes.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, factory: Callable[[], asyncio.BaseProtocol], listen: Listen
    ) -> None:
        self._loop = loop
        self._factory = factory
        self._listen = listen
        self._first: asyncio.AbstractServer | None = None
        self._further: list[asyncio.AbstractServer] = []
        self._widening: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._latest = 0.0
        self._streak = 0
        self._count = 0

    async def begin(self, first: Awaitable[asyncio.AbstractServer]) -> BatchAccepting:
        """Take the first server, whose protocols :attr:`make_protocol` makes."""
        self._first = await first
        return self

    def make_protocol(self) -> asyncio.BaseProtocol:
        """Make the protocol of a connection that was accepted, and see whether it is one of a crowd."""
        now = self._loop.time()
        self._count += 1
        self._streak = self._streak + 1 if now - self._latest <= GAP else 0
        self._latest = now
        if self._streak >= CROWD and self._timer is None and not self._closed:
            self._streak = 0
            if self._others_wait():
                self._count = 0
                self._timer = self._loop.call_later(PERIOD, self._look)
                self._widening = self._loop.create_task(self._widen())
        return self._factory()

    @property
    def is_wide(self) -> bool:
        """Whether there are further handles."""
        return bool(self._further)

    def _others_wait(self) -> bool:
        """Whether the kernel has a connection more: not where one client opens them one after the other."""
        poll = select.poll()
        for listening in self.sockets:
            poll.register(listening.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    async def _widen(self) -> None:
        try:
            for listening in self.sockets:
                for _ in range(HANDLES):
                    # The kernel's socket stays open until the last of its descriptors is closed.
                    handle = socket.socket(fileno=os.dup(listening.fileno()))
                    try:
                        server = await self._listen(self.make_protocol, handle)
                    except BaseException:
                        handle.close()
                        raise
                    self._further.append(server)
                    if self._timer is None:  # Closed meanwhile, or the crowd is over.
                        self._narrow()
                        return
        except OSError as error:
            # It goes on with what there is.
            logger.debug("no further handle on a listening socket: %s", error)

    def _look(self) -> None:
        if self._count <= FEW:
            self._narrow()
        else:
            self._count = 0
            self._timer = self._loop.call_later(PERIOD, self._look)

    def _narrow(self) -> None:
        further, self._further = self._further, []
        for server in further:
            server.close()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    # ---- what asyncio.AbstractServer has

    @property
    def sockets(self) -> Sequence[Any]:
        """The listening sockets, without the further handles; none once it is closed."""
        return tuple(getattr(self._first, "sockets", None) or ())

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop."""
        return self._loop

    def is_serving(self) -> bool:
        """Whether connections are accepted."""
        return self._first is not None and self._first.is_serving()

    async def start_serving(self) -> None:
        """Begin to accept."""
        assert self._first is not None
        await self._first.start_serving()

    async def serve_forever(self) -> None:
        """Accept until cancelled."""
        assert self._first is not None
        await self._first.serve_forever()

    def close(self) -> None:
        """Accept no more, on any handle."""
        self._closed = True
        self._narrow()
        if self._first is not None:
            self._first.close()

    async def wait_closed(self) -> None:
        """Wait for what the loop's own server waits for."""
        if self._first is not None:
            await self._first.wait_closed()
