"""The PROXY protocol: who the client is, said by a proxy of TCP before anything else."""

from __future__ import annotations

import asyncio
import contextlib
import json as json_module
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trustme
import websockets
from hypothesis import given
from hypothesis import strategies as st

from ferrows import App, Request, Websocket, json
from ferrows.deadlines import _ALL
from ferrows.server import AsyncioServer, flood
from ferrows.server.proxy_protocol import SIGNATURE, ProxyHeader, ProxyHeaderReader

from .harness import Client, on_both_loops


def v2(
    source: str, destination: str, ports: tuple[int, int] = (4711, 80), *, command: int = 1, more: bytes = b""
) -> bytes:
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    addresses = socket.inet_pton(family, source) + socket.inet_pton(family, destination) + struct.pack("!HH", *ports)
    kind = 0x21 if ":" in source else 0x11
    return SIGNATURE + struct.pack("!BBH", 0x20 | command, kind, len(addresses) + len(more)) + addresses + more


V1 = b"PROXY TCP4 192.0.2.9 198.51.100.1 4711 80\r\n"
KNOWN = ProxyHeader(("192.0.2.9", 4711), ("198.51.100.1", 80))
KNOWN_6 = ProxyHeader(("2001:db8::9", 4711, 0, 0), ("2001:db8::1", 80, 0, 0))
UNIX_PAIR = b"/a".ljust(108, b"\0") + b"/b".ljust(108, b"\0")

HEADERS = {
    "v1": (V1, KNOWN),
    "v1-6": (b"PROXY TCP6 2001:db8::9 2001:DB8::1 4711 80\r\n", KNOWN_6),
    "v1-unknown": (b"PROXY UNKNOWN\r\n", ProxyHeader()),
    "v1-unknown-with-more": (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", ProxyHeader()),
    "v1-longest": (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", ProxyHeader()),
    "v2": (v2("192.0.2.9", "198.51.100.1"), KNOWN),
    "v2-6": (v2("2001:db8::9", "2001:db8::1"), KNOWN_6),
    "v2-with-more": (v2("192.0.2.9", "198.51.100.1", more=b"\x04\x00\x01\x00" + b"\r\n" * 300), KNOWN),
    "v2-local": (v2("192.0.2.9", "198.51.100.1", command=0), ProxyHeader()),
    "v2-local-without-addresses": (SIGNATURE + b"\x20\x00\x00\x00", ProxyHeader()),
    "v2-unspecified": (SIGNATURE + b"\x21\x00\x00\x05abcde", ProxyHeader()),
    "v2-datagram": (SIGNATURE + b"\x21\x12\x00\x0c" + b"\0" * 12, ProxyHeader()),
    "v2-unix": (SIGNATURE + b"\x21\x31\x00\xd8" + UNIX_PAIR, ProxyHeader("/a", "/b")),
}


@pytest.mark.parametrize(("data", "header"), HEADERS.values(), ids=HEADERS)
def test_proxy_header_is_read_whole_in_pieces_and_with_what_follows(data: bytes, header: ProxyHeader) -> None:
    for rest in (b"", b"GET / HTTP/1.1\r\n\r\n"):
        reader = ProxyHeaderReader()
        assert reader.receive_data(data + rest) == rest
        assert (reader.header, reader.missing) == (header, 0)
    reader = ProxyHeaderReader()
    for at in range(len(data)):
        assert reader.header is None
        assert 0 < reader.missing <= len(data) - at
        rest_or_none = reader.receive_data(data[at : at + 1])
    assert (rest_or_none, reader.header) == (b"", header)
    # Never a byte more than there is.
    reader, at = ProxyHeaderReader(), 0
    while reader.missing:
        piece = data[at : at + reader.missing]
        at += len(piece)
        reader.receive_data(piece)
    assert (at, reader.header) == (len(data), header)


BROKEN = {
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "lower-case": b"proxy TCP4",
    "no-space": b"PROXYTCP4",
    "family": b"PROXY UDP4 192.0.2.9 198.51.100.1 4711 80\r\n",
    "address": b"PROXY TCP4 192.0.2.999 198.51.100.1 4711 80\r\n",
    "other-family": b"PROXY TCP4 2001:db8::9 2001:db8::1 4711 80\r\n",
    "mixed": b"PROXY TCP6 2001:db8::9 198.51.100.1 4711 80\r\n",
    "port": b"PROXY TCP4 192.0.2.9 198.51.100.1 65536 80\r\n",
    "leading-zero": b"PROXY TCP4 192.0.2.9 198.51.100.1 04711 80\r\n",
    "negative-port": b"PROXY TCP4 192.0.2.9 198.51.100.1 -1 80\r\n",
    "two-spaces": b"PROXY TCP4  192.0.2.9 198.51.100.1 4711 80\r\n",
    "too-little": b"PROXY TCP4 192.0.2.9 198.51.100.1 4711\r\n",
    "too-much": b"PROXY TCP4 192.0.2.9 198.51.100.1 4711 80 1\r\n",
    "bare-line-feed": b"PROXY TCP4 192.0.2.9 198.51.100.1 4711 80\n",
    "zone": b"PROXY TCP6 fe80::1%a fe80::2 4711 80\r\n",
    "too-long": b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    "signature": SIGNATURE[:11] + b"x",
    "version": SIGNATURE + b"\x11\x11\x00\x0c",
    "command": SIGNATURE + b"\x22\x11\x00\x0c",
    "reserved-family": SIGNATURE + b"\x21\x41\x00\x0c",
    "reserved-protocol": SIGNATURE + b"\x21\x13\x00\x0c",
    "too-short-4": SIGNATURE + b"\x21\x11\x00\x0b",
    "too-short-6": SIGNATURE + b"\x21\x21\x00\x23",
    "too-short-unix": SIGNATURE + b"\x21\x31\x00\xd7",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_proxy_header_that_is_none_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        ProxyHeaderReader().receive_data(data)
    reader = ProxyHeaderReader()
    with pytest.raises(ValueError):
        for at in range(len(data)):
            reader.receive_data(data[at : at + 1])


# --------------------------------------------------------------------------------------------------------------------
# Through sockets


@pytest.fixture
def app() -> App:
    app = App("served", env_prefix=None)
    app.config.GRACEFUL_SHUTDOWN_TIMEOUT = 5

    @app.get("/")
    async def index(request: Request) -> Any:
        info = request.conn_info
        return json(
            {"ip": request.ip, "port": request.port, "addr": request.remote_addr, "server": info.server}
            | {"scheme": request.scheme, "ssl": info.ssl, "client": info.client}
        )

    @app.websocket("/ws")
    async def ws(request: Request, ws: Websocket) -> None:
        await ws.send(f"{request.scheme} {request.remote_addr}")
        async for message in ws:
            await ws.send(message)

    return app


@contextlib.asynccontextmanager
async def running(app: App, **options: Any) -> AsyncIterator[AsyncioServer]:
    async with await app.create_server(port=0, **options) as server:
        yield server


def port_of(server: AsyncioServer) -> int:
    return int(server.sockets[0].getsockname()[1])


@given(
    data=st.one_of(
        st.binary(max_size=40),
        st.lists(
            st.sampled_from([b"PROXY ", b"TCP4", b"TCP6", b"UNKNOWN", b" ", b"192.0.2.9", b"::1", b"80", b"\r", b"\n"]),
            max_size=14,
        ).map(b"".join),
        st.tuples(
            st.sampled_from([0x20, 0x21, 0x22, 0x11]),
            st.sampled_from([0, 0x11, 0x21, 0x31, 0x12, 0x41]),
            st.integers(0, 250),
            st.binary(max_size=260),
        ).map(lambda parts: SIGNATURE + struct.pack("!BBH", *parts[:3]) + parts[3]),
    ),
    cuts=st.lists(st.integers(0, 300), max_size=5),
)
def test_header_is_judged_alike_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    def read(pieces: list[bytes]) -> Any:
        reader, rest = ProxyHeaderReader(), b""
        try:
            for piece in pieces:
                if reader.header is not None:
                    rest += piece
                else:
                    rest = reader.receive_data(piece) or b""
        except ValueError:
            return "refused"
        return reader.header, rest

    at = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    whole, in_pieces = read([data]), read([data[start:end] for start, end in pairwise(at)])
    assert in_pieces == whole
    if whole != "refused":
        assert (whole[0] is None) == (whole[1] == b"" and ProxyHeaderReader().receive_data(data) is None)


async def opened(server: AsyncioServer, header: bytes, **options: Any) -> Client:
    """Connect as a proxy does: the header first, then TLS if there is a context."""
    context = options.pop("ssl", None)
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server), **options)
    writer.write(header)
    if context is not None:
        await writer.drain()
        await writer.start_tls(context, server_hostname="localhost")
    return Client(reader, writer)


@pytest.fixture(params=["v1", "v1-6", "v2", "v2-with-more"])
def known(request: pytest.FixtureRequest) -> tuple[bytes, ProxyHeader]:
    return HEADERS[request.param]


@on_both_loops
async def test_connection_is_the_clients_behind_a_proxy_header(app: App, known: tuple[bytes, ProxyHeader]) -> None:
    data, header = known
    app.config.PROXY_PROTOCOL = "127.0.0.1"
    async with running(app) as server:
        client = await opened(server, data)
        for _ in range(2):
            found = app_json(await client.ask("/"))
            assert header.source is not None
            assert header.destination is not None
            assert (found["ip"], found["port"], found["addr"]) == (*header.source[:2], header.source[0])
            assert found["server"].rpartition(":")[0].strip("[]") == header.destination[0]
        await client.close()


def app_json(answer: Any) -> Any:
    assert answer.status == 200
    return json_module.loads(answer.body)


@on_both_loops
async def test_header_and_request_in_one_segment_and_byte_by_byte(app: App) -> None:
    app.config.PROXY_PROTOCOL = "127.0.0.1"
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    async with running(app) as server:
        client = await opened(server, V1 + request)
        assert app_json(await client.answer())["ip"] == "192.0.2.9"
        await client.close()
        client = await opened(server, b"")
        sock = client.writer.get_extra_info("socket")
        assert sock is not None
        for octet in v2("192.0.2.9", "198.51.100.1") + request:
            client.writer.write(bytes([octet]))
            await asyncio.sleep(0)
        assert app_json(await client.answer())["ip"] == "192.0.2.9"
        await client.close()


@on_both_loops
async def test_proxy_that_speaks_for_itself_keeps_its_address(app: App) -> None:
    app.config.PROXY_PROTOCOL = "127.0.0.1"
    async with running(app) as server:
        for name in ("v1-unknown", "v2-local", "v2-unspecified"):
            client = await opened(server, HEADERS[name][0])
            found = app_json(await client.ask("/"))
            assert found["ip"] == "127.0.0.1"
            assert found["port"] == client.writer.get_extra_info("sockname")[1]
            await client.close()


@on_both_loops
async def test_websocket_behind_a_proxy_header(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ferrows.access")
    app.config.PROXY_PROTOCOL = "127.0.0.1"
    async with running(app) as server:
        sock = socket.create_connection(("127.0.0.1", port_of(server)))
        sock.sendall(V1)
        async with websockets.connect("ws://localhost/ws", sock=sock) as ws:
            assert await ws.recv() == "ws 192.0.2.9"
            await ws.send("x" * 100_000)
            assert await ws.recv() == "x" * 100_000
    [record] = [record for record in caplog.records if record.name == "ferrows.access"]
    assert record.getMessage().startswith("192.0.2.9 WebSocket /ws closed 1000")


@on_both_loops
async def test_stranger_has_no_say_about_its_address(app: App) -> None:
    app.config.PROXY_PROTOCOL = "10.0.0.0/8"
    async with running(app) as server:
        client = await opened(server, b"")
        assert app_json(await client.ask("/"))["ip"] == "127.0.0.1"
        await client.close()
        client = await opened(server, V1)
        assert (await client.ask("/")).status == 400
        await client.close()


@on_both_loops
async def test_headers_of_the_client_behind_a_proxy_of_tcp_are_not_believed(app: App) -> None:
    app.config.PROXY_PROTOCOL = app.config.FORWARDED_ALLOW_IPS = "127.0.0.1"
    async with running(app) as server:
        client = await opened(server, V1)
        assert app_json(await client.ask("/", headers={"X-Forwarded-For": "6.6.6.6"}))["addr"] == "192.0.2.9"
        await client.close()
        client = await opened(server, V1.replace(b"192.0.2.9", b"127.0.0.1"))
        assert app_json(await client.ask("/", headers={"X-Forwarded-For": "203.0.113.5"}))["addr"] == "203.0.113.5"
        await client.close()


async def assert_dropped(client: Client) -> None:
    with contextlib.suppress(ConnectionError):
        assert await client.reader.read() == b""
    client.writer.close()
    with contextlib.suppress(OSError):
        await client.writer.wait_closed()


@on_both_loops
async def test_many_connections_without_their_header_are_one_line_a_second(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    app.config.PROXY_PROTOCOL = "*"
    async with running(app) as server:
        begun = asyncio.get_running_loop().time()
        for _ in range(50):
            await assert_dropped(await opened(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
        lines = len(caplog.records)
        assert lines <= 1 + (asyncio.get_running_loop().time() - begun) / flood.QUIET


@on_both_loops
async def test_connection_without_its_header_is_dropped_with_one_line(
    app: App, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flood, "QUIET", 0.0)
    app.config.PROXY_PROTOCOL = "127.0.0.1"
    async with running(app) as server:
        await assert_dropped(await opened(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
        [record] = caplog.records
        assert record.getMessage() == "connection from 127.0.0.1 dropped: no PROXY header: b'GET / HTTP/1'"
        caplog.clear()
        client = await opened(server, V1[:20])
        client.writer.write_eof()
        await assert_dropped(client)
        [record] = caplog.records
        assert record.getMessage() == "connection from 127.0.0.1 dropped: PROXY header is cut off"
        caplog.clear()
        # Somebody looks whether the port is open.
        client = await opened(server, b"")
        client.writer.write_eof()
        await assert_dropped(client)
        assert caplog.records == []
        assert not server.connections


@on_both_loops
async def test_header_has_the_deadline_of_a_head(app: App, caplog: pytest.LogCaptureFixture) -> None:
    app.config.PROXY_PROTOCOL = "127.0.0.1"
    app.config.REQUEST_HEAD_TIMEOUT = 0.1
    async with running(app) as server:
        await assert_dropped(await opened(server, V1[:20]))
        [record] = caplog.records
        assert record.getMessage() == "connection from 127.0.0.1 dropped: no PROXY header within 0.1 s"
        assert not server.connections
    loop = asyncio.get_running_loop()
    assert [key for key in _ALL if key[0] is loop] == []


@on_both_loops
async def test_server_that_stops_drops_who_has_sent_no_header(app: App) -> None:
    app.config.PROXY_PROTOCOL = "127.0.0.1"
    async with running(app) as server:
        client = await opened(server, V1[:20])
        while not server.connections:
            await asyncio.sleep(0.001)
    await assert_dropped(client)


@on_both_loops
async def test_proxy_header_on_a_unix_socket(app: App, tmp_path: Path) -> None:
    app.config.PROXY_PROTOCOL = "unix"
    async with await app.create_server(unix=tmp_path / "s"):
        client = Client(*await asyncio.open_unix_connection(tmp_path / "s"))
        client.writer.write(V1)
        found = app_json(await client.ask("/"))
        assert (found["ip"], found["server"]) == ("192.0.2.9", "198.51.100.1:80")
        await client.close()


# ---- and TLS


@pytest.fixture(scope="module")
def contexts() -> Iterator[tuple[ssl.SSLContext, ssl.SSLContext]]:
    ca = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    ca.issue_cert("localhost").configure_cert(server)
    ca.configure_trust(client)
    yield server, client


@on_both_loops
async def test_proxy_header_comes_before_tls(
    app: App, contexts: tuple[ssl.SSLContext, ssl.SSLContext], known: tuple[bytes, ProxyHeader]
) -> None:
    data, header = known
    assert header.source is not None
    app.config.PROXY_PROTOCOL = "127.0.0.1"
    async with running(app, ssl=contexts[0]) as server:
        client = await opened(server, data, ssl=contexts[1])
        for _ in range(2):
            found = app_json(await client.ask("/"))
            assert (found["ip"], found["scheme"], found["ssl"]) == (header.source[0], "https", True)
        await client.close()
        sock = socket.create_connection(("127.0.0.1", port_of(server)))
        sock.sendall(data)
        async with websockets.connect("wss://localhost/ws", sock=sock, ssl=contexts[1]) as ws:
            assert await ws.recv() == f"wss {header.source[0]}"


@on_both_loops
async def test_proxy_header_and_first_flight_of_tls_in_one_segment(
    app: App, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    app.config.PROXY_PROTOCOL = "127.0.0.1"
    async with running(app, ssl=contexts[0]) as server:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = contexts[1].wrap_bio(incoming, outgoing, server_hostname="localhost")
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))

        async def do(step: Any, *arguments: Any) -> Any:
            while True:
                try:
                    return step(*arguments)
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    incoming.write(await reader.read(65536))

        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        writer.write(V1 + outgoing.read())
        await do(tls.do_handshake)
        # The request comes with the end of the handshake.
        tls.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}"):
            answer += await do(tls.read, 65536)
        assert b'"ip":"192.0.2.9"' in answer.replace(b" ", b"")
        writer.close()
        await writer.wait_closed()


@on_both_loops
async def test_stranger_speaks_tls_at_once(app: App, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    app.config.PROXY_PROTOCOL = "10.0.0.0/8"
    async with running(app, ssl=contexts[0]) as server:
        for _ in range(3):
            client = await opened(server, b"", ssl=contexts[1])
            assert app_json(await client.ask("/"))["ip"] == "127.0.0.1"
            await client.close()


@on_both_loops
async def test_tls_behind_a_proxy_header_has_its_deadline(
    app: App, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    app.config.PROXY_PROTOCOL = "127.0.0.1"
    async with running(app, ssl=contexts[0], asyncio_server_kwargs={"ssl_handshake_timeout": 0.1}) as server:
        await assert_dropped(await opened(server, V1))
        assert not server.connections


@on_both_loops
async def test_broken_tls_behind_a_proxy_header_ends_one_connection(
    app: App, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    app.config.PROXY_PROTOCOL = "127.0.0.1"
    async with running(app, ssl=contexts[0]) as server:
        client = await opened(server, V1 + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert b"HTTP" not in await client.reader.read()
        client.writer.close()
        waiting = await opened(server, V1)
        while not server.connections:
            await asyncio.sleep(0.001)
        client = await opened(server, V1, ssl=contexts[1])
        assert app_json(await client.ask("/"))["ip"] == "192.0.2.9"
        await client.close()
    # It was still in its TLS handshake.
    await assert_dropped(waiting)
