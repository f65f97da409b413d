"""Limits of connections: who is over one gets 503 before the request is read, and who leaves makes room."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from ferrows import App, HTTPResponse, Request, Websocket, text
from ferrows.asgi import ASGIHost
from ferrows.server import AsyncioServer, flood
from ferrows.server.admission import Admission, network_of

from .harness import Answer, Client, connect, on_both_loops

resource = pytest.importorskip("resource")

HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def make_app(**limits: int) -> App:
    app = App("admission", env_prefix=None)
    app.config.update({"ACCESS_LOG": False, **limits})

    @app.get("/")
    async def index(request: Request) -> HTTPResponse:
        return text("here")

    @app.websocket("/ws")
    async def echo(request: Request, ws: Websocket) -> None:
        async for message in ws:
            await ws.send(message)

    return app


async def asked(server: AsyncioServer, **options: Any) -> Answer:
    client = await connect(server, **options)
    try:
        return await client.ask("/")
    finally:
        await client.close()


async def until_connected(server: AsyncioServer, count: int) -> None:
    while len(server.connections) != count:
        await asyncio.sleep(0.005)


@on_both_loops
async def test_connection_over_the_limit_gets_503_until_one_leaves(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flood, "QUIET", 600)
    async with await make_app(MAX_CONNECTIONS=2).create_server(port=0) as server:
        first, second = await connect(server), await connect(server)
        assert (await first.ask("/")).status == (await second.ask("/")).status == 200
        for _ in range(3):
            refused = await asked(server)
            assert (refused.status, refused.headers["retry-after"], refused.body) == (503, "5", b"")
        assert (await first.ask("/")).status == 200
        await second.close()
        await until_connected(server, 1)
        assert (await asked(server)).status == 200
        assert server.refusals == {"connections": 3}
        await first.close()
    lines = [record.getMessage() for record in caplog.records if record.name == "ferrows.error"]
    assert lines == ["connection from 127.0.0.1 refused: MAX_CONNECTIONS is reached"]
    assert caplog.records[0].levelno == logging.WARNING


@on_both_loops
async def test_crowd_is_cut_at_the_limit_exactly() -> None:
    async with await make_app(MAX_CONNECTIONS=5).create_server(port=0) as server:
        clients = await asyncio.gather(*(connect(server) for _ in range(30)))
        answers = await asyncio.gather(*(client.ask("/") for client in clients))
        assert sorted(answer.status for answer in answers) == [200] * 5 + [503] * 25
        await asyncio.gather(*(client.close() for client in clients))


@on_both_loops
async def test_address_over_its_limit_gets_503_and_others_do_not() -> None:
    async with await make_app(MAX_CONNECTIONS_PER_ADDRESS=2).create_server(port=0) as server:
        clients = [await connect(server, local_addr=("127.0.0.2", 0)) for _ in range(2)]
        assert [(await client.ask("/ws", headers=HANDSHAKE)).status for client in clients] == [101, 101]
        assert (await asked(server, local_addr=("127.0.0.2", 0))).status == 503
        assert (await asked(server, local_addr=("127.0.0.3", 0))).status == 200
        for client in clients:
            await client.close()
        await until_connected(server, 0)
        for _ in range(3):
            assert (await asked(server, local_addr=("127.0.0.2", 0))).status == 200
            await until_connected(server, 0)
        assert server.refusals == {"address": 1}


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::ffff", "2001:db8:1:2::"),
        ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::"),
        ("not:an:address", "not:an:address"),
        ("", ""),
    ],
)
def test_addresses_of_one_subscriber_count_together(address: str, network: str) -> None:
    assert network_of(address) == network


@on_both_loops
async def test_connection_counts_as_handshake_until_its_first_answer() -> None:
    async with await make_app(MAX_HANDSHAKES=2).create_server(port=0) as server:
        held: list[Client] = []
        for path, headers, status in (("/", {}, 200), ("/ws", HANDSHAKE, 101), ("/ws", {}, 426)):
            held.append(await connect(server))
            assert (await held[-1].ask(path, headers=headers)).status == status
        silent = [await connect(server) for _ in range(2)]
        await until_connected(server, 5)
        assert (await asked(server)).status == 503
        assert (await silent[0].ask("/")).status == 200
        assert (await asked(server)).status == 200
        assert server.refusals == {"handshakes": 1}
        for client in [*held, *silent]:
            await client.close()
        await until_connected(server, 0)


@on_both_loops
async def test_many_who_are_refused_and_silent_are_let_go_of() -> None:
    async with await make_app(MAX_CONNECTIONS=1).create_server(port=0) as server:
        held = await connect(server)
        await held.ask("/")
        refused = [await connect(server) for _ in range(80)]
        async with asyncio.timeout(60):
            ends = await asyncio.gather(*(client.reader.read() for client in refused), return_exceptions=True)
        # The 64 first were waited for in vain, the others had the answer at once.
        assert ends.count(b"") + sum(isinstance(end, ConnectionError) for end in ends) == 64
        assert sum(isinstance(end, bytes) and end.startswith(b"HTTP/1.1 503 ") for end in ends) == 16
        for client in [held, *refused]:
            client.writer.close()


def test_limit_of_open_files_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, most in ((64, 32), (1024, 973), (20_000, 19_000), (8, 1)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        assert Admission(App("default", env_prefix=None).config).most == most
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert Admission(App("default", env_prefix=None).config).most > 2**40


@on_both_loops
async def test_request_of_an_asgi_application_is_answered_too() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"here"})

    host = ASGIHost(application, lifespan="off", config={"ACCESS_LOG": False, "MAX_HANDSHAKES": 1})
    async with await host.create_server(port=0) as server:
        first = await connect(server)
        assert (await first.ask("/")).status == 200
        # The first is open still, and has its answer.
        assert (await asked(server)).status == 200
        await first.close()


@on_both_loops
async def test_address_that_a_proxy_names_is_the_one_that_counts() -> None:
    app = make_app(MAX_CONNECTIONS_PER_ADDRESS=1)
    app.config.PROXY_PROTOCOL = "127.0.0.1"
    async with await app.create_server(port=0) as server:
        host, port = server.sockets[0].getsockname()
        answers = []
        for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(f"PROXY TCP4 {address} 192.0.2.9 1000 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            answers.append((await reader.readline(), writer))
        assert [line.split()[1] for line, _ in answers] == [b"200", b"200", b"503"]
        for _, writer in answers:
            writer.close()
