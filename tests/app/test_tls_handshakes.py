"""Connections in their TLS handshake: they count, have the time of a first head, and leave a line when they fail."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import struct
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import trustme

from ferrows import App, Request, Websocket, text
from ferrows.server import AsyncioServer, flood
from ferrows.server.protocols.http_protocol import HttpProtocol
from ferrows.server.secure import SecureConnection

from .harness import Client, connect, on_both_loops

Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Authority:
    def __init__(self) -> None:
        self.ca = trustme.CA()
        self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.ca.issue_cert("localhost").configure_cert(self.server)
        self.client = ssl.create_default_context()
        self.ca.configure_trust(self.client)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def make_app(**settings: Any) -> App:
    app = App("handshakes", env_prefix=None)
    app.config.update({"ACCESS_LOG": False, **settings})

    @app.get("/")
    async def index(request: Request) -> Any:
        return text(f"{request.scheme} {request.ip}")

    @app.websocket("/ws")
    async def echo(request: Request, ws: Websocket) -> None:
        async for message in ws:
            await ws.send(message)

    return app


async def silent(server: AsyncioServer, **options: Any) -> Opened:
    """Connect and begin no handshake; the server has the connection when this returns."""
    before = known(server)
    opened = await asyncio.open_connection(*server.sockets[0].getsockname()[:2], **options)
    while known(server) == before:
        await asyncio.sleep(0.005)
    return opened


def known(server: AsyncioServer) -> int:
    return len(server.connections) + sum(server.refusals.values())


async def secured(server: AsyncioServer, authority: Authority, **options: Any) -> Client:
    return await connect(server, ssl=authority.client, server_hostname="localhost", **options)


async def is_closed_unanswered(server: AsyncioServer, authority: Authority, **options: Any) -> bool:
    try:
        client = await secured(server, authority, **options)
    except (ConnectionError, ssl.SSLError):
        return True
    await client.close()
    return False


async def until_connected(server: AsyncioServer, count: int) -> None:
    while len(server.connections) != count:
        await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("MAX_CONNECTIONS", "connections"),
        ("MAX_CONNECTIONS_PER_ADDRESS", "address"),
        ("MAX_HANDSHAKES", "handshakes"),
    ],
)
@on_both_loops
async def test_connection_counts_before_its_handshake_is_done(
    authority: Authority, setting: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with await make_app(**{setting: 2}).create_server(port=0, ssl=authority.server) as server:
        held = [await silent(server) for _ in range(2)]
        assert await is_closed_unanswered(server, authority)
        assert server.refusals == {reason: 1}
        held.pop()[1].close()
        await until_connected(server, 1)
        client = await secured(server, authority)
        assert (await client.ask("/")).body == b"https 127.0.0.1"
        await client.close()
        held.pop()[1].close()
        await until_connected(server, 0)
    assert caplog.records[0].getMessage() == f"connection from 127.0.0.1 refused: {setting} is reached"


@on_both_loops
async def test_connection_has_one_place_before_and_after_its_handshake(authority: Authority) -> None:
    limits = {"MAX_CONNECTIONS": 2, "MAX_CONNECTIONS_PER_ADDRESS": 2, "MAX_HANDSHAKES": 1}
    async with await make_app(**limits).create_server(port=0, ssl=authority.server) as server:
        for _ in range(3):
            clients = []
            for _ in range(2):
                # Its handshake is done, and it has no answer yet.
                clients.append(await secured(server, authority))
                assert await is_closed_unanswered(server, authority)
                assert (await clients[-1].ask("/")).status == 200
            assert await is_closed_unanswered(server, authority)
            for client in clients:
                await client.close()
            await until_connected(server, 0)


@on_both_loops
async def test_handshake_that_fails_makes_room(authority: Authority) -> None:
    limits = {"MAX_CONNECTIONS_PER_ADDRESS": 1, "MAX_HANDSHAKES": 1}
    async with await make_app(**limits).create_server(port=0, ssl=authority.server) as server:
        for _ in range(3):
            reader, writer = await silent(server)
            writer.write(b"\x00" * 64)
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()
            await until_connected(server, 0)
        client = await secured(server, authority)
        assert (await client.ask("/")).status == 200
        await client.close()
        assert server.refusals == {}


@on_both_loops
async def test_address_that_a_proxy_names_counts_before_the_handshake(authority: Authority) -> None:
    app = make_app(MAX_CONNECTIONS_PER_ADDRESS=1, PROXY_PROTOCOL="127.0.0.1")
    async with await app.create_server(port=0, ssl=authority.server) as server:
        ends: list[Opened] = []
        for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
            writer.write(f"PROXY TCP4 {address} 192.0.2.9 1000 80\r\n".encode())
            ends.append((reader, writer))
        with contextlib.suppress(ConnectionError):
            assert await ends[2][0].read() == b""
        assert server.refusals == {"address": 1}
        await ends[1][1].start_tls(authority.client, server_hostname="localhost")
        assert (await Client(*ends[1]).ask("/")).body == b"https 192.0.2.2"
        for _, writer in ends:
            writer.close()


@pytest.mark.parametrize("proxies", [None, "127.0.0.1"])
@on_both_loops
async def test_handshake_and_first_head_have_one_deadline(authority: Authority, proxies: str | None) -> None:
    app = make_app(REQUEST_HEAD_TIMEOUT=5, PROXY_PROTOCOL=proxies)
    async with await app.create_server(port=0, ssl=authority.server) as server:
        _, writer = await silent(server)
        begun = asyncio.get_running_loop().time()
        await asyncio.sleep(0.2)
        if proxies:
            writer.write(b"PROXY TCP4 192.0.2.1 192.0.2.9 1000 80\r\n")
        await writer.start_tls(authority.client, server_hostname="localhost")
        while not isinstance(protocol := next(iter(server.connections), None), HttpProtocol):
            await asyncio.sleep(0.005)
        # What is left is rounded up to hundredths of it.
        assert begun + 2 < protocol._deadline < begun + 5.1
        writer.close()


@on_both_loops
async def test_request_in_one_segment_with_the_end_of_the_handshake(authority: Authority) -> None:
    async with await make_app().create_server(port=0, ssl=authority.server) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = authority.client.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        writer.write(outgoing.read())
        while True:
            incoming.write(await reader.read(65536))
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
        tls.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        writer.write(outgoing.read())
        answer = b""
        while not answer.endswith(b"https 127.0.0.1"):
            incoming.write(await reader.read(65536))
            with contextlib.suppress(ssl.SSLWantReadError):
                while piece := tls.read(65536):
                    answer += piece
        assert answer.startswith(b"HTTP/1.1 200 ")
        writer.close()


@on_both_loops
async def test_protocol_of_another_kind_gets_the_connection_too(authority: Authority) -> None:
    class Shouting(asyncio.Protocol):
        def __init__(self, **arguments: Any) -> None: ...

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data.upper())

    app = make_app(MAX_HANDSHAKES=1)
    async with await app.create_server(port=0, ssl=authority.server, protocol=Shouting) as server:
        for _ in range(3):
            client = await secured(server, authority)
            client.writer.write(b"hello")
            assert await client.reader.readexactly(5) == b"HELLO"
            # It is none of those that are counted.
            assert not server.connections
            await client.close()


@on_both_loops
async def test_protocol_that_fails_at_once_ends_its_connection(authority: Authority) -> None:
    class Failing(HttpProtocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            raise LookupError("no such thing")

    raised: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: raised.append(context.get("exception")))
    app = make_app(MAX_HANDSHAKES=1)
    async with await app.create_server(port=0, ssl=authority.server, protocol=Failing) as server:
        for count in (1, 2):
            client = await secured(server, authority)
            with contextlib.suppress(ConnectionError):
                assert await client.reader.read() == b""
            client.writer.close()
            await until_connected(server, 0)
            assert [str(each) for each in raised] == ["no such thing"] * count


# ---- what fails


async def speaks_http(server: AsyncioServer, authority: Authority) -> None:
    await say(server, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")


async def speaks_something(server: AsyncioServer, authority: Authority) -> None:
    await say(server, b"\x00" * 64)


async def leaves(server: AsyncioServer, authority: Authority) -> None:
    (await silent(server))[1].close()


async def resets(server: AsyncioServer, authority: Authority) -> None:
    _, writer = await silent(server)
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def says_nothing(server: AsyncioServer, authority: Authority) -> None:
    reader, writer = await silent(server)
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()


async def does_not_trust_us(server: AsyncioServer, authority: Authority) -> None:
    # asyncio's clients leave without the alert.
    def shake_hands() -> None:
        sock = socket.create_connection(server.sockets[0].getsockname()[:2])
        with sock, pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(sock, server_hostname="localhost")

    await asyncio.to_thread(shake_hands)


async def is_old(server: AsyncioServer, authority: Authority) -> None:
    context = ssl.create_default_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await connect(server, ssl=context, server_hostname="localhost")


async def say(server: AsyncioServer, data: bytes) -> None:
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    writer.write(data)
    with contextlib.suppress(ConnectionError):
        await reader.read()
    writer.close()


CLIENTS: dict[Callable[..., Any], str] = {
    speaks_http: "the client speaks HTTP without TLS",
    speaks_something: "the client does not speak TLS",
    leaves: "the client has closed the connection",
    resets: "the client has closed the connection",
    says_nothing: "it took too long",
    does_not_trust_us: "tlsv1 alert unknown ca",
    is_old: "the client has no version of TLS that is permitted",
}


@pytest.mark.parametrize("proxies", [None, "10.0.0.0/8"], ids=["direct", "stranger-to-proxies"])
@pytest.mark.parametrize(("client", "reason"), CLIENTS.items(), ids=[client.__name__ for client in CLIENTS])
@on_both_loops
async def test_handshake_that_fails_leaves_one_line(
    authority: Authority,
    client: Callable[..., Any],
    reason: str,
    proxies: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    settings: dict[str, Any] = {"REQUEST_HEAD_TIMEOUT": 0.2} if client is says_nothing else {}
    app = make_app(PROXY_PROTOCOL=proxies, **settings)
    async with await app.create_server(port=0, ssl=authority.server) as server:
        await client(server, authority)
        while not caplog.records:
            await asyncio.sleep(0.005)
        await until_connected(server, 0)
        if client is not says_nothing:
            after = await secured(server, authority)
            assert (await after.ask("/")).status == 200
            await after.close()
    failures = [record for record in caplog.records if record.name != "ferrows.root"]
    assert [record.getMessage() for record in failures] == [f"TLS handshake with 127.0.0.1 failed: {reason}"]
    assert [(record.name, record.levelname, record.exc_info) for record in failures] == [
        ("ferrows.error", "INFO", None)
    ]


@on_both_loops
async def test_flood_of_failures_leaves_a_line_now_and_then_with_their_number(
    authority: Authority, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, logger="ferrows.error")
    monkeypatch.setattr(flood, "QUIET", 0.5)
    async with await make_app().create_server(port=0, ssl=authority.server) as server:
        for _ in range(10):
            await asyncio.gather(*(say(server, b"\x00" * 64) for _ in range(3)))

        def counted() -> int:
            return sum(int(line.partition("(and ")[2].partition(" ")[0] or 0) + 1 for line in caplog.messages)

        while counted() < 30:
            await asyncio.sleep(0.01)
    assert counted() == 30
    # Far fewer where the machine is not busy with something else.
    assert len(caplog.messages) < 25
    assert caplog.messages[0] == "TLS handshake with 127.0.0.1 failed: the client does not speak TLS"


# ---- a server that stops


@on_both_loops
async def test_server_that_stops_waits_for_a_silent_client_no_longer_than_for_a_first_request(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with await make_app().create_server(port=0, ssl=authority.server) as server:
        reader, writer = await silent(server)
        async with asyncio.timeout(8):
            await server.stop()
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
    assert not [line for line in caplog.messages if "TLS" in line]


@on_both_loops
async def test_server_that_stops_and_is_held_up_gives_a_client_in_its_handshake_that_time_back(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = asyncio.Event()
    shutdown = SecureConnection.shutdown

    def tell(self: SecureConnection, code: int = 1001) -> None:
        shutdown(self, code)
        told.set()

    monkeypatch.setattr(SecureConnection, "shutdown", tell)
    for module in ("secure", "protocols.http_protocol"):
        monkeypatch.setattr(f"ferrows.server.{module}.NEW_GRACE", 1.5)
    async with await make_app().create_server(port=0, ssl=authority.server) as server:
        reader, writer = await silent(server)
        stopping = asyncio.create_task(server.stop())
        await told.wait()
        securing = asyncio.create_task(writer.start_tls(authority.client, server_hostname="localhost"))
        await asyncio.sleep(0)
        time.sleep(3.2)
        await securing
        assert (await Client(reader, writer).ask("/")).status == 200
        await stopping
        writer.close()


@on_both_loops
async def test_client_that_is_in_its_handshake_when_the_server_stops_is_served(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("secure", "protocols.http_protocol"):
        monkeypatch.setattr(f"ferrows.server.{module}.NEW_GRACE", 10)
    async with await make_app().create_server(port=0, ssl=authority.server) as server:
        reader, writer = await silent(server)
        stopping = asyncio.create_task(server.stop())
        while server.is_serving():
            await asyncio.sleep(0)
        await writer.start_tls(authority.client, server_hostname="localhost")
        answer = await Client(reader, writer).ask("/")
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        await stopping
        writer.close()
