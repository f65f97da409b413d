"""Admission: which connections are let in, before anything of them is read; and a count of what was refused."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, cast

from ..deadlines import Deadlines, deadlines

if TYPE_CHECKING:
    from ..config import Config
    from .protocols.base_protocol import FerrowsProtocol

__all__ = ["Admission"]

logger = logging.getLogger("ferrows.error")

_RESPONSE: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)

_PATIENCE: Final = 1.0
"""Seconds that a client which is refused may take to send its request and to read the answer."""

_LINGERING: Final = 64
"""Clients that are being refused at a time; further ones are not waited for, and may see a reset for the answer."""

_QUIET: Final = 1.0
"""Seconds between two lines of the log."""


class Admission:
    """Lets connections in as long as there are not too many: in all, of one address, or without an answer yet.

    One that is refused gets a 503 with Retry-After in place of an answer to its request, and costs no more than that.
    """

    def __init__(self, config: Config) -> None:
        self.most: int = sys.maxsize if config.MAX_CONNECTIONS is None else config.MAX_CONNECTIONS
        if config.MAX_CONNECTIONS is None:
            self.most = min(self.most, _descriptors())
        self._most_of_address: int | None = config.MAX_CONNECTIONS_PER_ADDRESS
        self._most_handshakes: int | None = config.MAX_HANDSHAKES
        self.counts = self._most_of_address is not None or self._most_handshakes is not None
        """Whether there are more limits than :attr:`most`, so that :meth:`admit` is asked for every connection."""
        self._addresses: dict[str, int] = {}
        self._handshakes: set[Any] = set()
        self.refusals: Counter[str] = Counter()
        """How many were refused, by reason.

        ``connections``, ``address`` and ``handshakes`` with 503; open WebSockets that sent too many ``messages``,
        ``bytes``, ``pings`` or ``fragments`` with 1008.
        """
        self.lingering = 0
        self._logs = {503: _Log("%d connections refused with 503"), 1008: _Log("%d WebSockets closed with 1008")}

    def admit(self, protocol: FerrowsProtocol, transport: asyncio.BaseTransport) -> bool:
        """Let a connection in that is in the server's set already, or hand its transport over to a refusal."""
        reason = self._reason(protocol)
        if reason is None:
            return True
        self.refused(reason, protocol.loop.time())
        refusal = _Refusal(self, protocol.loop, cast(asyncio.Transport, transport))
        transport.set_protocol(refusal)
        refusal.begin()
        return False

    def _reason(self, protocol: FerrowsProtocol) -> str | None:
        if len(protocol.connections) > self.most:
            return "connections"
        if not self.counts:
            return None
        if self._most_handshakes is not None and len(self._handshakes) >= self._most_handshakes:
            return "handshakes"
        # All clients of a Unix socket are a proxy's: they have no address.
        address = protocol.conn_info.client_ip if protocol.conn_info is not None else ""
        if self._most_of_address is not None and address:
            count = self._addresses.get(address, 0)
            if count >= self._most_of_address:
                return "address"
            self._addresses[address] = count + 1
        if self._most_handshakes is not None:
            self._handshakes.add(protocol)
        protocol.admission = self
        return None

    def answered(self, protocol: FerrowsProtocol) -> None:
        """Take note that a connection's first request has its answer."""
        self._handshakes.discard(protocol)

    def lost(self, protocol: FerrowsProtocol) -> None:
        """Take note that a connection that was let in is gone."""
        self._handshakes.discard(protocol)
        address = protocol.conn_info.client_ip if protocol.conn_info is not None else ""
        count = self._addresses.get(address, 0)
        if count > 1:
            self._addresses[address] = count - 1
        elif count:
            del self._addresses[address]

    def refused(self, reason: str, now: float) -> None:
        """Count a refusal, and log it unless one was logged a moment ago. ``now`` is the loop's time."""
        self.refusals[reason] += 1
        status, setting = _LIMITS[reason]
        self._logs[status].add(setting, now)


_LIMITS: Final = {
    "connections": (503, "MAX_CONNECTIONS"),
    "address": (503, "MAX_CONNECTIONS_PER_ADDRESS"),
    "handshakes": (503, "MAX_HANDSHAKES"),
    "messages": (1008, "WEBSOCKET_MESSAGE_RATE"),
    "bytes": (1008, "WEBSOCKET_BYTE_RATE"),
    "pings": (1008, "WEBSOCKET_PING_RATE"),
    "fragments": (1008, "WEBSOCKET_MAX_FRAGMENTS"),
}


class _Log:
    """Logs refusals of one kind, at most one line in a while."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = -_QUIET
        self._unlogged = 0

    def add(self, setting: str, now: float) -> None:
        self._unlogged += 1
        if now - self._at >= _QUIET:
            logger.warning(f"{self._text}, the latest for %s", self._unlogged, setting)
            self._at, self._unlogged = now, 0


class _Refusal(asyncio.Protocol):
    """Answers whatever is asked with 503. A browser drops an answer that comes before it has asked."""

    __slots__ = ("_admission", "_answered", "_deadlines", "_transport")

    def __init__(self, admission: Admission, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._admission = admission
        self._transport = transport
        self._deadlines: Deadlines = deadlines(loop, _PATIENCE)
        self._answered = False

    def begin(self) -> None:
        """Wait for the request, unless many wait already."""
        self._admission.lingering += 1
        self._deadlines.add(self)
        if self._admission.lingering > _LINGERING:
            self._answered = True
            self._transport.write(_RESPONSE)
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Answer, once; what else arrives is dropped."""
        if self._answered:
            return
        self._answered = True
        self._transport.write(_RESPONSE)
        if self._transport.can_write_eof():
            # Closing with unread data would make the kernel send a reset, which may take the answer from the client.
            self._transport.write_eof()
        else:
            self._transport.close()

    def deadline_passed(self) -> None:
        """End a connection that takes its time."""
        self._transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._admission.lingering -= 1
        self._deadlines.discard(self)


def _descriptors() -> int:
    """How many connections the limit of open files leaves room for, beside what else the process opens."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit.
        return sys.maxsize
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else max(1, limit - max(32, limit // 20))
