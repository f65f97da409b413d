"""Admission: which connections are let in, before anything of them is read; and a count of what was refused."""

from __future__ import annotations

import asyncio
import ipaddress
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, cast

from ..deadlines import Deadlines, deadlines
from .flood import Flood

if TYPE_CHECKING:
    from ..config import Config
    from .beginning import Beginning
    from .protocols.base_protocol import FerrowsProtocol

__all__ = ["Admission", "network_of"]

_RESPONSE: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)

_PATIENCE: Final = 1.0
"""Seconds that a client which is refused may take to send its request and to read the answer."""

_LINGERING: Final = 64
"""Clients that are being refused at a time; further ones are not waited for, and may see a reset for the answer."""


class Admission:
    """Lets connections in as long as there are not too many: in all, of one address, or without an answer yet.

    One that is refused gets a 503 with Retry-After in place of an answer to its request, and costs no more than that;
    where TLS would come first it is closed.
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
        self._flood = Flood()
        self._excesses = Flood()

    def admit(self, protocol: FerrowsProtocol | Beginning, transport: asyncio.BaseTransport) -> bool:
        """Let a connection in that is in the server's set already, or hand its transport over to a refusal."""
        if self.lets_in(protocol):
            return True
        refusal = _Refusal(self, protocol.loop, cast(asyncio.Transport, transport))
        transport.set_protocol(refusal)
        refusal.begin()
        return False

    def lets_in(self, protocol: FerrowsProtocol | Beginning) -> bool:
        """Whether a connection that is in the server's set already is let in; one that is not is counted and logged."""
        reason = self._reason(protocol)
        if reason is None:
            return True
        self.refusals[reason] += 1
        client = _client(protocol) or "a local peer"
        self._flood.log(protocol.loop, f"connection from {client} refused: {_LIMITS[reason]} is reached")
        return False

    def exceeded(self, protocol: FerrowsProtocol, excess: str) -> None:
        """Count and log a WebSocket that was closed, since its client sent too much of something."""
        self.refusals[excess] += 1
        client = _client(protocol) or "a local peer"
        self._excesses.log(protocol.loop, f"WebSocket of {client} closed with 1008: {_EXCESSES[excess]} is exceeded")

    def hand_over(self, beginning: Beginning, protocol: FerrowsProtocol) -> None:
        """Give the place of one that was let in to the protocol that its connection goes on with."""
        if beginning in self._handshakes:
            self._handshakes.discard(beginning)
            self._handshakes.add(protocol)
        protocol.admission = self

    def _reason(self, protocol: FerrowsProtocol | Beginning) -> str | None:
        if len(protocol.connections) > self.most:
            return "connections"
        if not self.counts:
            return None
        if self._most_handshakes is not None and len(self._handshakes) >= self._most_handshakes:
            return "handshakes"
        # All clients of a Unix socket are a proxy's: they have no address.
        address = network_of(_client(protocol))
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

    def lost(self, protocol: FerrowsProtocol | Beginning) -> None:
        """Take note that a connection that was let in is gone."""
        self._handshakes.discard(protocol)
        address = network_of(_client(protocol)) if self._addresses else ""
        count = self._addresses.get(address, 0)
        if count > 1:
            self._addresses[address] = count - 1
        elif count:
            del self._addresses[address]


def network_of(address: str) -> str:
    """Return whose an address is: itself, or the /64 that one subscriber has of IPv6 (RFC 6177)."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    return str(parsed.ipv4_mapped or ipaddress.IPv6Address(int(parsed) >> 64 << 64))


def _client(protocol: FerrowsProtocol | Beginning) -> str:
    return "" if protocol.conn_info is None else protocol.conn_info.client_ip


_LIMITS: Final = {
    "connections": "MAX_CONNECTIONS",
    "address": "MAX_CONNECTIONS_PER_ADDRESS",
    "handshakes": "MAX_HANDSHAKES",
}

_EXCESSES: Final = {
    "messages": "WEBSOCKET_MESSAGE_RATE",
    "bytes": "WEBSOCKET_BYTE_RATE",
    "pings": "WEBSOCKET_PING_RATE",
    "fragments": "WEBSOCKET_MAX_FRAGMENTS",
}


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
            try:
                self._transport.write_eof()
            except OSError:
                # The client has reset the connection.
                self._transport.abort()
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
