"""The PROXY protocol, versions 1 and 2: who the client is, said by a proxy of TCP before the client's first byte.

The specification is HAProxy's ``proxy-protocol.txt``; its sections are named where they are obeyed. A server that
expects such headers has a :class:`ProxiedConnection` at the beginning of each connection, in the place of the protocol
that comes after it; any other server has none of this.
"""

from __future__ import annotations

import asyncio
import functools
import re
import ssl as ssl_module
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from ..deadlines import Deadlines, deadlines
from ..log import error_logger
from ..networks import Networks, parse_networks
from .protocols.base_protocol import ConnInfo, FerrowsProtocol

if TYPE_CHECKING:
    from ..config import Config

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


class ProxiedConnInfo(ConnInfo):
    """The two ends as a proxy has named them."""

    __slots__ = ("_sockname",)

    def __init__(self, transport: asyncio.BaseTransport, unix: str | None, header: ProxyHeader) -> None:
        super().__init__(transport, unix)
        self.peername = header.source
        self._sockname = header.destination

    @property
    def sockname(self) -> Any:
        return self._sockname


class ProxiedConnection(asyncio.BufferedProtocol):
    """Reads the header of a connection, does TLS if it is wanted, and gives the connection to the protocol behind.

    A peer that is not in ``networks`` sends no header that would be read: its connection is what it would be without
    this. One that is must send one within ``timeout`` seconds (§2: the receiver does not guess).
    """

    # The server's connections have these.
    task: asyncio.Task[None] | None = None
    transport: asyncio.Transport | None = None

    def __init__(
        self,
        make_protocol: Callable[..., asyncio.Protocol],
        loop: asyncio.AbstractEventLoop,
        networks: Networks,
        connections: set[Any],
        timeout: float,
        ssl: ssl_module.SSLContext | None = None,
        tls_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._make_protocol = make_protocol
        self._loop = loop
        self._networks = networks
        self._connections = connections
        self._timeout = timeout
        self._ssl = ssl
        self._tls_options = tls_options or {}
        self._reader = ProxyHeaderReader()
        self._buffer = bytearray()
        self._deadlines: Deadlines | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the header, unless the peer is a stranger."""
        self.transport = cast(asyncio.Transport, transport)
        self._connections.add(self)
        if self._peer() not in self._networks:
            self._continue(b"")
            return
        self._deadlines = deadlines(self._loop, self._timeout)
        self._deadlines.add(self)

    def get_buffer(self, sizehint: int) -> bytearray:
        """Give room for what is read; before TLS for no byte more than the header has, as TLS must get the rest."""
        self._buffer = bytearray(_READ_SIZE if self._ssl is None else max(1, self._reader.missing))
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
        self._leave()

    def deadline_passed(self) -> None:
        """Drop a peer that sends no header, or not all of it."""
        self._refuse(f"no PROXY header within {self._timeout} s")

    def shutdown(self, code: int = 1001) -> None:
        """End at once: nothing has begun."""
        self.abort()

    def close_if_idle(self) -> bool:
        """Close the connection, for no request can be under way."""
        self.abort()
        return True

    def close(self, timeout: float | None = None) -> None:
        """End at once."""
        self.abort()

    def abort(self) -> None:
        """Drop the connection."""
        self._leave()
        if self.transport is not None:
            self.transport.abort()

    def _peer(self) -> str:
        peername = None if self.transport is None else self.transport.get_extra_info("peername")
        return str(peername[0]) if isinstance(peername, tuple) else ""

    def _refuse(self, reason: str) -> None:
        error_logger.warning("connection from %s dropped: %s", self._peer() or "a local peer", reason)
        self.abort()

    def _leave(self) -> None:
        self._connections.discard(self)
        if self._deadlines is not None:
            self._deadlines.discard(self)
            self._deadlines = None

    def _continue(self, rest: bytes) -> None:
        if self._deadlines is not None:
            self._deadlines.discard(self)
            self._deadlines = None
        assert self.transport is not None
        if self._ssl is None:
            self._leave()
            self._begin(self.transport)(rest)
        else:
            # What comes now is for TLS.
            self.transport.pause_reading()
            self.task = self._loop.create_task(self._begin_tls(self.transport, self._ssl))

    async def _begin_tls(self, transport: asyncio.Transport, context: ssl_module.SSLContext) -> None:
        held = _Held()
        if transport.is_closing():
            return
        try:
            secure = await self._loop.start_tls(transport, held, context, server_side=True, **self._tls_options)
        except (OSError, asyncio.CancelledError) as error:
            # As where TLS comes first: what peers do wrong there is nobody's failure, and is not logged.
            self.abort()
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        finally:
            self._leave()
            self.task = None
        if secure is None or held.lost:
            return
        receive = self._begin(secure)
        if held.data:
            receive(bytes(held.data))
        if held.ended:
            cast(asyncio.Protocol, secure.get_protocol()).eof_received()

    def _begin(self, transport: asyncio.Transport) -> Callable[[bytes], None]:
        """Give the connection to the protocol behind; return what takes what came for it already."""
        protocol = self._make_protocol()
        transport.set_protocol(protocol)
        header = self._reader.header
        if header is not None and header.source is not None and isinstance(protocol, FerrowsProtocol):
            # Before it is asked whether there is room for one more connection of this address.
            protocol.conn_info = ProxiedConnInfo(transport, protocol._unix, header)
        protocol.connection_made(transport)

        def receive(data: bytes) -> None:
            # Where there was no room, it is another's by now.
            if data:
                cast(asyncio.Protocol, transport.get_protocol()).data_received(data)

        return receive


class _Held(asyncio.Protocol):
    """Holds what arrives behind the TLS handshake until the task that waits for it runs."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False
        self.lost = False

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> None:
        self.ended = True

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost = True


_READ_SIZE: Final = 16384


def behind_proxies(
    make_protocol: Callable[..., asyncio.Protocol],
    config: Config,
    connections: set[Any],
    ssl: ssl_module.SSLContext | None,
    server_options: dict[str, Any],
) -> tuple[Callable[..., asyncio.BaseProtocol], ssl_module.SSLContext | None]:
    """Return what a server is to begin its connections with: a factory that takes ``loop``, and a context for TLS.

    That is what was given, unless ``PROXY_PROTOCOL`` is set. Then TLS is not the server's to begin, and what
    concerns it is taken out of ``server_options``.
    """
    networks = parse_networks(config.PROXY_PROTOCOL)
    if not networks:
        return make_protocol, ssl
    tls_options = {name: server_options.pop(name) for name in _TLS_OPTIONS if name in server_options}

    def make(loop: asyncio.AbstractEventLoop) -> ProxiedConnection:
        make_inner = functools.partial(make_protocol, loop=loop)
        timeout = config.REQUEST_HEAD_TIMEOUT
        return ProxiedConnection(make_inner, loop, networks, connections, timeout, ssl, tls_options)

    return make, None


_TLS_OPTIONS: Final[tuple[str, ...]] = ("ssl_handshake_timeout", "ssl_shutdown_timeout")
