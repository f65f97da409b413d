"""Around ``HttpProtocol``: the access log, exceptions that end a program, the base class, who is connected."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from http_harness import (
    CLOSE,
    GET,
    App,
    Peer,
    exchange,
    post,
    run,
    statuses,
)

from ferrows.exceptions import ServerError
from ferrows.request import Request
from ferrows.response import HTTPResponse, text
from ferrows.server.protocols.base_protocol import FerrowsProtocol
from ferrows.server.protocols.http_protocol import (
    ConnectionProtocol,
    Http3Protocol,
    HttpProtocol,
)


def test_access_log_has_one_line_for_each_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ferrows.access")
    exchange(GET + post(b"x", target=b"/a?b") + b"\x16\x03\x01\r\n\r\n")
    lines = [record.getMessage().rpartition(" ")[0].rpartition(" ")[0] for record in caplog.records]
    assert lines == [
        '192.0.2.1 "GET / HTTP/1.1" 200 6',
        '192.0.2.1 "POST /a?b HTTP/1.1" 200 9',
        '192.0.2.1 "-" 400 35',
    ]
    assert {record.name for record in caplog.records} == {"ferrows.access"}


@pytest.mark.parametrize(
    ("head", "line"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1"),
        (b"GET /a\x00b HTTP/1.1\r\n", "GET /a"),
        (b'GET /"\\ HTTP/1.1\r\n\r\n', r"GET /\x22\x5c HTTP/1.1"),
        (b"GET /\xe9 HTTP/1.1\r\n\r\n", r"GET /\xe9 HTTP/1.1"),
        (b"\r\nBREW /pot HTTP/1.1\r\n\r\n", "BREW /pot HTTP/1.1"),
        (b"GET /" + b"a" * 9000, "GET /" + "a" * 251 + "..."),
        (b"   \r\n\r\n", "-"),
        (b"\n", "-"),
    ],
)
def test_access_log_shows_the_request_line_of_a_broken_head(
    caplog: pytest.LogCaptureFixture, head: bytes, line: str
) -> None:
    caplog.set_level(logging.INFO, "ferrows.access")
    exchange(GET, head)
    assert f'"{line}" ' in caplog.records[-1].getMessage()
    assert '"GET / HTTP/1.1" 200' in caplog.records[0].getMessage()
    assert len(caplog.records) == 2


def test_access_log_quotes_a_target(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ferrows.access")
    exchange(b'GET /"_200 HTTP/1.1\r\nHost: a\r\n\r\n')
    assert r'"GET /\x22_200 HTTP/1.1" 200' in caplog.records[-1].getMessage()


def test_access_log_of_a_stream_whose_client_left_has_its_status_and_size(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ferrows.access")

    async def handler(request: Request) -> None:
        response = await request.respond(status=206)
        await response.send(b"abcde")
        await asyncio.sleep(1000)

    async def main() -> None:
        peer = Peer(App(handler))
        await peer.send(GET)
        peer.lose()
        await peer.settle()

    run(main())
    [record] = caplog.records
    assert '"GET / HTTP/1.1" 206 5 ' in record.getMessage()
    assert record.getMessage().endswith(" s, aborted")


UPGRADE = GET[:-2] + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


@pytest.mark.parametrize(("sent", "status", "closes"), [(UPGRADE, 400, True), (UPGRADE, 426, False), (GET, 400, False)])
def test_opening_handshake_refused_as_broken_closes(sent: bytes, status: int, closes: bool) -> None:
    async def handler(request: Request) -> HTTPResponse:
        return text("no", status=status)

    replies, peer = exchange(sent, app=App(handler))
    assert [reply.status for reply in replies] == [status]
    assert (replies[0].headers.get("connection") == "close") == closes
    assert peer.transport.eof_written == closes


def test_eager_task_that_is_over_at_once_leaves_nothing_behind() -> None:
    class Over:
        def done(self) -> bool:
            return True

    class Eager:
        def create_task(self, coroutine: Any, *, name: str) -> Over:
            with pytest.raises(StopIteration):
                coroutine.send(None)
            return Over()

        def __getattr__(self, name: str) -> Any:
            return getattr(asyncio.get_running_loop(), name)

    async def main() -> None:
        peer = Peer()
        peer.protocol.loop = Eager()
        assert statuses(await peer.send(CLOSE)) == [200]
        assert peer.protocol.task is None
        peer.lose()
        await peer.settle()

    run(main())


def test_base_exception_of_a_handler_is_answered_with_500(caplog: pytest.LogCaptureFixture) -> None:
    class Panic(BaseException): ...

    async def handler(request: Request) -> HTTPResponse:
        raise Panic

    replies, _ = exchange(GET, app=App(handler))
    assert [reply.status for reply in replies] == [500]
    [record] = [record for record in caplog.records if record.name == "ferrows.error"]
    assert record.exc_info is not None


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=["exit", "interrupt"])
def test_exit_of_a_handler_is_answered_and_told_to_the_app(
    caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    async def handler(request: Request) -> HTTPResponse:
        raise error

    app = App(handler)
    replies, _ = exchange(GET, app=app)
    assert [reply.status for reply in replies] == [500]
    assert app.exits == [error]
    [record] = [record for record in caplog.records if record.name == "ferrows.error"]
    assert record.getMessage() == f"GET / raised {error!r}"
    assert record.exc_info is None


def test_access_log_can_be_turned_off(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ferrows.access")
    exchange(GET, app=App(ACCESS_LOG=False))
    assert not caplog.records


def test_names_of_the_reference() -> None:
    seen: list[Any] = []

    async def handler(request: Request) -> HTTPResponse:
        protocol = request.protocol
        seen.extend([protocol.http is request, protocol.version, protocol.ctx is protocol.conn_info.ctx])
        return text("a")

    async def main() -> None:
        peer = Peer(App(handler))
        await peer.send(GET.replace(b"1.1", b"1.0"))
        assert peer.protocol.http is None
        assert peer.protocol.version == "1.1"

    run(main())
    assert seen == [True, "1.0", True]


def test_http3_names_what_is_missing() -> None:
    assert issubclass(Http3Protocol, ConnectionProtocol)
    with pytest.raises(ServerError, match="HTTP/3 is not spoken"):
        Http3Protocol(app=None)


def test_tcp_nodelay_is_set() -> None:
    import socket

    async def main() -> None:
        with socket.socket() as connection:
            Peer(extra={"socket": connection})
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(main())


def test_receive_more_waits_for_the_next_data() -> None:
    async def main() -> None:
        peer = Peer()
        waiting = asyncio.ensure_future(peer.protocol.receive_more())
        second = asyncio.ensure_future(peer.protocol.receive_more())
        await peer.settle()
        assert not waiting.done()
        second.cancel()
        await peer.send(GET)
        assert waiting.done()
        waiting = asyncio.ensure_future(peer.protocol.receive_more())
        await peer.settle()
        peer.lose()
        await waiting
        await peer.protocol.receive_more()

    run(main())


def test_base_protocol_on_its_own() -> None:
    async def main() -> None:
        peer = Peer(factory=FerrowsProtocol)
        await peer.send(b"ab", b"cd")
        assert peer.protocol.recv_buffer == b"abcd"
        await peer.protocol.send(b"out")
        peer.protocol.pause_writing()
        waiting = asyncio.ensure_future(peer.protocol.send(b"more"))
        abandoned = asyncio.ensure_future(peer.protocol.drain())
        await peer.settle()
        assert not waiting.done()
        abandoned.cancel()
        await peer.settle()
        peer.protocol.resume_writing()
        await waiting
        assert peer.transport.output == b"outmore"
        peer.protocol.shutdown()
        await peer.settle()
        assert peer.end() is None
        await peer.protocol.send(b"dropped")
        assert peer.transport.output == b"outmore"

    run(main())


def test_protocol_without_a_connection_does_nothing() -> None:
    async def main() -> None:
        protocol = HttpProtocol(asyncio.get_running_loop(), App())
        assert protocol.lost
        assert protocol.ctx is None
        protocol.abort()
        await protocol.send(b"x")

    run(main())


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({}, ("192.0.2.1", 5000, "192.0.2.1", "192.0.2.2:80", 80)),
        ({"peername": ("::1", 5, 0, 0), "sockname": ("::2", 8, 0, 0)}, ("::1", 5, "[::1]", "[::2]:8", 8)),
        ({"peername": "", "sockname": "/run/a"}, ("", 0, "", "/run/a", 0)),
        ({"peername": None, "sockname": None}, ("", 0, "", "/run/b", 0)),
    ],
)
def test_connection_info(extra: dict[str, Any], expected: tuple[Any, ...]) -> None:
    async def main() -> None:
        info = Peer(extra=extra, options={"unix": "/run/b"}).protocol.conn_info
        assert (info.client_ip, info.client_port, info.client, info.server, info.server_port) == expected
        assert info.cert == {}
        assert not info.ssl
        info.ctx.a = 1
        assert info.ctx.a == 1

    run(main())


def test_connection_info_of_tls() -> None:
    async def main() -> None:
        info = Peer(extra={"sslcontext": object(), "peercert": {"subject": ()}}).protocol.conn_info
        assert info.ssl
        assert info.cert == {"subject": ()}

    run(main())
