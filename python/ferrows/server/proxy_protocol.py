"""The PROXY protocol, versions 1 and 2: who the client is, said by a proxy of TCP before the client's first byte.

The specification is HAProxy's ``proxy-protocol.txt``; its sections are named where they are obeyed. A server that
expects such headers has a :class:`ProxiedConnection` at the beginning of each connection, in the place of the protocol
that comes after it; any other server has none of this.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final, NamedTuple, cast

from ..deadlines import Deadlines, deadlines
from ..networks import Networks, parse_networks
from .beginning import Beginning, BegunConnInfo, Entrance
from .flood import Flood
from .secure import SecureConnection, TLSEntrance

__all__ = ["ProxiedConnection", "ProxyHeader", "ProxyHeaderReader", "behind_proxies"]


# --------------------------------------------------------------------------------------------------------------------
# The header


class ProxyHeader(NamedTuple):
    """The two ends of the connection to the proxy, as a socket's peername and sockname.

    Both are None where the proxy speaks for itself (a health check), or does not know them.
    """

    source: tuple[Any, ...] | str | None = None
    destination: tuple[Any, ...] | str | None = None


SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
"""What version 2 begins with (§2.2)."""

_V1: Final = b"PROXY "
_V1_LONGEST: Final = 107
_V1_SHORTEST: Final = len(b"PROXY UNKNOWN\r\n")
_V2_FIXED: Final = 16


class ProxyHeaderReader:
    """Reads one header, of either version, from bytes as they come."""

    __slots__ = ("_data", "header")

    def __init__(self) -> None:
        self._data = bytearray()
        self.header: ProxyHeader | None = None
        """What has been read, once it is whole."""

    def __len__(self) -> int:
        """The number of bytes that have come so far."""
        return len(self._data)

    @property
    def missing(self) -> int:
        """How many bytes belong to the header for sure; 0 once it is whole. So nothing behind it need be read."""
        if self.header is not None:
            return 0
        size = len(self._data)
        if size < len(SIGNATURE):
            return len(SIGNATURE) - size
        if not self._data.startswith(_V1):
            return self._v2_size() - size
        if size < _V1_SHORTEST:
            return _V1_SHORTEST - size
        return 1 if self._data.endswith(b"\r") else 2

    def receive_data(self, data: bytes) -> bytes | None:
        """Take bytes; return what came after the header when it is whole, None before. ValueError: it is none."""
        self._data += data
        begin = bytes(self._data[: len(SIGNATURE)])
        if begin.startswith(_V1[: len(begin)]):
            return self._receive_v1()
        if begin == SIGNATURE[: len(begin)]:
            return self._receive_v2()
        raise ValueError(f"no PROXY header: {begin!r}")

    def _receive_v1(self) -> bytes | None:
        # §2.1: the line ends within 107 bytes, or it is none.
        end = self._data.find(b"\r\n", 0, _V1_LONGEST)
        if end < 0:
            if len(self._data) >= _V1_LONGEST or b"\n" in self._data:
                raise ValueError("PROXY header without its CRLF within 107 bytes")
            return None
        self.header = _parse_v1(bytes(self._data[:end]))
        return bytes(self._data[end + 2 :])

    def _receive_v2(self) -> bytes | None:
        if len(self._data) < _V2_FIXED:
            return None
        size = self._v2_size()
        # What is wrong in the fixed part is said before the rest is waited for.
        _check_v2(self._data)
        if len(self._data) < size:
            return None
        self.header = _parse_v2(bytes(self._data[:size]))
        return bytes(self._data[size:])

    def _v2_size(self) -> int:
        if len(self._data) < _V2_FIXED:
            return _V2_FIXED
        return _V2_FIXED + int.from_bytes(self._data[14:16], "big")


_V1_ADDRESSES: Final = re.compile(
    rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (0|[1-9]\d{0,4}) (0|[1-9]\d{0,4})"
)


def _parse_v1(line: bytes) -> ProxyHeader:
    # §2.1: whatever stands behind UNKNOWN is ignored.
    if line == b"PROXY UNKNOWN" or line.startswith(b"PROXY UNKNOWN "):
        return ProxyHeader()
    match = _V1_ADDRESSES.fullmatch(line)
    if match is None:
        raise ValueError(f"malformed PROXY header {line!r}")
    version = 4 if match[1] == b"TCP4" else 6
    source, destination = (ip_address(match[at].decode()) for at in (2, 3))
    ports = int(match[4]), int(match[5])
    if {source.version, destination.version} != {version} or max(ports) > 65535:
        raise ValueError(f"malformed PROXY header {line!r}")
    return ProxyHeader(_socket_address(source, ports[0]), _socket_address(destination, ports[1]))


# §2.2: the address family and the protocol of a byte -> the bytes of its addresses.
_UNIX_STREAM: Final = 0x31
_ADDRESS_SIZES: Final = {0x11: 12, 0x21: 36, _UNIX_STREAM: 216}


def _check_v2(data: bytes | bytearray) -> None:
    version, command, kind = data[12] >> 4, data[12] & 15, data[13]
    if version != 2 or command > 1 or kind >> 4 > 3 or kind & 15 > 2:
        raise ValueError(f"malformed PROXY header: version {version}, command {command}, family {kind:#04x}")
    size = int.from_bytes(data[14:16], "big")
    if command == 1 and size < _ADDRESS_SIZES.get(kind, 0):
        raise ValueError(f"malformed PROXY header: {size} bytes for the addresses of family {kind:#04x}")


def _parse_v2(data: bytes) -> ProxyHeader:
    command, kind, addresses = data[12] & 15, data[13], data[16:]
    # §2.2: with LOCAL, and for a family that the receiver does not know, the connection's own addresses count.
    if command == 0 or kind not in _ADDRESS_SIZES:
        return ProxyHeader()
    if kind == _UNIX_STREAM:
        paths = (addresses[at : at + 108].rstrip(b"\x00").decode("utf-8", "surrogateescape") for at in (0, 108))
        return ProxyHeader(*paths)
    size = 4 if kind == 0x11 else 16
    source, destination = ip_address(addresses[:size]), ip_address(addresses[size : 2 * size])
    ports = (int.from_bytes(addresses[at : at + 2], "big") for at in (2 * size, 2 * size + 2))
    return ProxyHeader(_socket_address(source, next(ports)), _socket_address(destination, next(ports)))


def _socket_address(address: Any, port: int) -> tuple[Any, ...]:
    return (str(address), port) if address.version == 4 else (str(address), port, 0, 0)


# --------------------------------------------------------------------------------------------------------------------
# The beginning of a connection


class ProxiedConnInfo(BegunConnInfo):
    """The two ends as a proxy has named them."""

    __slots__ = ("_sockname",)

    def __init__(self, transport: asyncio.BaseTransport, unix: str | None, header: ProxyHeader) -> None:
        super().__init__(transport, unix)
        self.peername = header.source
        self._sockname = header.destination

    @property
    def sockname(self) -> Any:
        return self._sockname


class ProxiedConnection(Beginning, asyncio.BufferedProtocol):
    """Reads the header of a connection, and gives it to what comes behind: TLS, or the protocol.

    A peer that is not in ``networks`` sends no header that would be read: its connection is what it would be without
    this. One that is must send one before ``REQUEST_HEAD_TIMEOUT`` is over (§2: the receiver does not guess).
    """

    __slots__ = ("_buffer", "_deadlines", "_drops", "_networks", "_reader", "_tls")

    def __init__(
        self,
        entrance: Entrance,
        loop: asyncio.AbstractEventLoop,
        networks: Networks,
        drops: Flood,
        tls: TLSEntrance | None = None,
    ) -> None:
        super().__init__(entrance, loop)
        self._drops = drops
        self._networks = networks
        self._tls = tls
        self._reader = ProxyHeaderReader()
        self._buffer = bytearray()
        self._deadlines: Deadlines | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the header, unless the peer is a stranger."""
        self.begin(transport)
        if self._peer() not in self._networks:
            self._continue(b"")
            return
        self._deadlines = deadlines(self.loop, self.entrance.config.REQUEST_HEAD_TIMEOUT)
        self._deadlines.add(self)

    def get_buffer(self, sizehint: int) -> bytearray:
        """Give room for what is read; before TLS for no byte more than the header has, as TLS must get the rest."""
        self._buffer = bytearray(_READ_SIZE if self._tls is None else max(1, self._reader.missing))
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Read the header as far as it has come."""
        try:
            rest = self._reader.receive_data(bytes(self._buffer[:nbytes]))
        except ValueError as error:
            self._refuse(str(error))
        else:
            if rest is not None:
                self._continue(rest)

    def eof_received(self) -> None:
        """Take note that the peer has gone; without a byte before it was somebody who looked whether we listen."""
        if len(self._reader):
            self._refuse("PROXY header is cut off")

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let go."""
        self.leave()

    def deadline_passed(self) -> None:
        """Drop a peer that sends no header, or not all of it."""
        self._refuse(f"no PROXY header within {self.entrance.config.REQUEST_HEAD_TIMEOUT} s")

    def leave(self) -> None:
        """Be no connection of the server's any more, and wait for nothing."""
        super().leave()
        self._stop_waiting()

    def _peer(self) -> str:
        peername = None if self.transport is None else self.transport.get_extra_info("peername")
        return str(peername[0]) if isinstance(peername, tuple) else ""

    def _refuse(self, reason: str) -> None:
        self._drops.log(self.loop, f"connection from {self._peer() or 'a local peer'} dropped: {reason}")
        self.abort()

    def _stop_waiting(self) -> None:
        if self._deadlines is not None:
            self._deadlines.discard(self)
            self._deadlines = None

    def _continue(self, rest: bytes) -> None:
        """Go on with the one who has connected, for whom there may be no room."""
        transport, header, unix = self.transport, self._reader.header, self.entrance.unix
        assert transport is not None
        self._stop_waiting()
        if header is not None and header.source is not None:
            self.conn_info = ProxiedConnInfo(transport, unix, header)
        else:
            self.conn_info = BegunConnInfo(transport, unix)
        if self._tls is not None:
            # What comes now is for TLS.
            self.connections.discard(self)
            protocol = SecureConnection(self._tls, self.loop, self.begun, self.conn_info)
            transport.set_protocol(protocol)
            protocol.connection_made(transport)
            return
        if self.entrance.admission.admit(self, transport):
            self.hand_over(transport)
        else:
            self.connections.discard(self)
        # Where there was no room, or the protocol has given the connection away, it is another's by now.
        if rest:
            cast(asyncio.Protocol, transport.get_protocol()).data_received(rest)


_READ_SIZE: Final = 16384


def behind_proxies(
    entrance: Entrance, tls: TLSEntrance | None
) -> Callable[[asyncio.AbstractEventLoop], ProxiedConnection] | None:
    """Return what makes the beginnings of a server's connections; None where no peer sends headers."""
    networks = parse_networks(entrance.config.PROXY_PROTOCOL)
    if not networks:
        return None

    # Anybody can send as many as he likes where everybody is named.
    drops = Flood()

    def make(loop: asyncio.AbstractEventLoop) -> ProxiedConnection:
        return ProxiedConnection(entrance, loop, networks, drops, tls)

    return make
