"""Where a server listens: Unix sockets, hosts, ports, sockets that are given, TLS, and how many may wait."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop
import websockets

from ferrows import App, HTTPResponse, Websocket, text
from ferrows.server import AsyncioServer, bind_socket
from ferrows.server.listeners import Listeners

from .harness import Client, address, connect, on_both_loops, running, served_app
from .test_sockets import has_ipv6


@pytest.fixture
def app() -> App:
    return served_app()


@on_both_loops
async def test_unix_socket(app: App, tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with await app.create_server(unix=path):
        client = Client(*await asyncio.open_unix_connection(str(path)))
        assert (await client.ask("/")).body == b"hello"
        with pytest.raises(OSError, match="already"):
            await App("other").create_server(unix=path)
        await client.close()
    assert not path.exists()


@on_both_loops
async def test_hosts_and_the_addresses_that_they_listen_on(app: App) -> None:
    def families(server: AsyncioServer) -> set[str]:
        assert len({sock.getsockname()[1] for sock in server.sockets}) == 1
        return {sock.getsockname()[0] for sock in server.sockets}

    expected = {None: {"127.0.0.1"}, "": {"127.0.0.1"}, "0.0.0.0": {"0.0.0.0"}}
    if has_ipv6():
        expected |= {"*": {"0.0.0.0", "::"}, "::": {"::"}, "::1": {"::1"}}
    for host, addresses in expected.items():
        async with running(app, host=host) as server:
            assert families(server) == addresses
    async with running(app, host="localhost") as server:
        found = {entry[4][0] for entry in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
        assert families(server) == found


@on_both_loops
async def test_socket_that_is_given(app: App) -> None:
    sock = bind_socket("127.0.0.1", 0)
    port = sock.getsockname()[1]
    async with await app.create_server(sock=sock) as server:
        assert address(server) == ("127.0.0.1", port)
        client = await connect(server)
        assert (await client.ask("/")).body == b"hello"
        await client.close()


@on_both_loops
async def test_two_servers_share_a_port(app: App) -> None:
    async with (
        running(app, reuse_port=True) as first,
        await app.create_server("127.0.0.1", address(first)[1], reuse_port=True) as second,
    ):
        assert address(second) == address(first)
        assert app.servers == [first, second]


@on_both_loops
async def test_port_in_use_is_an_os_error(app: App) -> None:
    async with running(app) as server:
        with pytest.raises(OSError):
            await App("other").create_server("127.0.0.1", address(server)[1])


@pytest.mark.parametrize("port", [-1, 65536, 2**70])
@pytest.mark.parametrize("use_uvloop", [False, True])
def test_number_that_is_no_port_is_a_value_error(app: App, port: int, use_uvloop: bool) -> None:
    app.config.USE_UVLOOP = use_uvloop
    message = rf"^port must be in 0\.\.65535, not {port}$"
    with pytest.raises(ValueError, match=message):
        app.run(port=port)
    with pytest.raises(ValueError, match=message):
        bind_socket("127.0.0.1", port)

    async def create() -> None:
        with pytest.raises(ValueError, match=message):
            await app.create_server(port=port)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if use_uvloop else None) as runner:
        runner.run(create())


@on_both_loops
async def test_addresses_exclude_each_other(app: App, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exclude each other"):
        await app.create_server("127.0.0.1", unix=tmp_path / "s")


@on_both_loops
async def test_tls(app: App) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    @app.websocket("/ws")
    async def handler(request: Any, ws: Websocket) -> None:
        await ws.send(request.scheme)

    async with running(app, ssl=context) as server:
        client = await connect(server, ssl=trusting, server_hostname="localhost")
        assert (await client.ask("/")).body == b"hello"
        host, port = address(server)
        async with websockets.connect(f"wss://localhost:{port}/ws", ssl=trusting, host=host) as ws:
            assert await ws.recv() == "wss"
        await client.close()


@on_both_loops
@pytest.mark.parametrize("given", ["port", "socket"])
async def test_nagle_is_off_on_every_connection(app: App, given: str) -> None:
    # asyncio takes a socket that was made without the number of its protocol for one that is not TCP's.
    options: dict[str, Any] = {"port": 0} if given == "port" else {"sock": bind_socket("127.0.0.1", 0)}

    @app.get("/nodelay")
    async def nodelay(request: Any) -> HTTPResponse:
        sock = request.transport.get_extra_info("socket")
        return text(str(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0))

    async with await app.create_server(**options) as server:
        client = await connect(server)
        assert (await client.ask("/nodelay")).body == b"True"
        await client.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the length of the queue")
@on_both_loops
@pytest.mark.parametrize("given", [None, 5])
async def test_thousands_may_wait_to_be_accepted_unless_it_is_said_otherwise(app: App, given: int | None) -> None:
    options = {} if given is None else {"backlog": given}
    most = int(Path("/proc/sys/net/core/somaxconn").read_text())
    sizes = []
    async with running(app, **options) as server:
        sizes += map(queue_size, server.sockets)
    listeners = Listeners.bound({"host": "127.0.0.1", "port": 0, **options}, 2)
    sizes.append(queue_size(listeners.of(1)[0]))
    listeners.remove()
    assert sizes == [min(given or 2048, most)] * 2


def queue_size(sock: Any) -> int:
    """How many connections may wait on a listening socket: ``tcpi_sacked`` of tcp(7)'s TCP_INFO."""
    found: int = struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 28)[0]
    return found


@on_both_loops
async def test_access_log_and_debug_can_be_set_for_a_run(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with running(app, access_log=False, debug=True) as server:
        client = await connect(server)
        await client.ask("/")
        await client.close()
    assert [record for record in caplog.records if record.name == "ferrows.access"] == []
    assert app.debug
