"""``HttpProtocol`` on a transport without a socket and a clock without time."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import time
import weakref
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from http_harness import App, Peer, Reply, cuts, describe, parse_replies, run, statuses

from ferrows.exceptions import RequestCancelled, ServerError
from ferrows.request import Request
from ferrows.response import HTTPResponse, ResponseStream, empty, text
from ferrows.server.protocols.base_protocol import FerrowsProtocol
from ferrows.server.protocols.http_protocol import (
    HALF_CLOSE_GRACE,
    LINGER_TIMEOUT,
    STALL_TIMEOUT,
    ConnectionProtocol,
    Http3Protocol,
    HttpProtocol,
)

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def post(body: bytes, *lines: bytes, target: bytes = b"/") -> bytes:
    headers = b"".join(line + b"\r\n" for line in lines)
    return b"POST %b HTTP/1.1\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n%b" % (target, headers, len(body), body)


def exchange(*chunks: bytes, app: App | None = None, methods: tuple[str, ...] = ()) -> tuple[list[Reply], Peer]:
    """Send the chunks, and return the answers and the client."""

    async def main() -> tuple[list[Reply], Peer]:
        peer = Peer(app or App())
        output = await peer.send(*chunks)
        peer.closed_before_end = peer.transport.closed or peer.transport.eof_written  # type: ignore[attr-defined]
        return parse_replies(output, methods), peer

    return run(main())


def is_over(peer: Peer) -> bool:
    """Whether the server had said that it sends no more before the loop ended."""
    over: bool = peer.closed_before_end  # type: ignore[attr-defined]
    return over


# --------------------------------------------------------------------------------------------------------------------
# Framing, keep-alive, pipelining


def test_request_is_answered_and_the_connection_kept() -> None:
    for name, chunks in cuts(GET):
        [reply], peer = exchange(*chunks)
        assert (reply.status, reply.body) == (200, b"GET / "), name
        assert reply.headers["content-length"] == "6"
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"
        assert reply.headers["date"].endswith(" GMT")
        assert reply.headers.keys() == {"content-length", "content-type", "date"}
        assert not is_over(peer), name


def test_9112_9_3_2_pipelined_requests_are_answered_in_order() -> None:
    async def slow_first(request: Request) -> HTTPResponse:
        if request.path == "/slow":
            await asyncio.sleep(1)
        return await describe(request)

    chunked = b"POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\nA: b\r\n\r\n"
    data = GET.replace(b"/ ", b"/slow ", 1) + post(b"one", target=b"/a") + chunked + GET

    async def main(chunks: list[bytes]) -> list[Reply]:
        peer = Peer(App(slow_first))
        for chunk in chunks:
            while not peer.transport.reading:
                await peer.pass_time(1)
            peer.protocol.data_received(chunk)
            await asyncio.sleep(0)
        await peer.pass_time(2)
        return parse_replies(peer.transport.output)

    for name, chunks in cuts(data):
        replies = run(main(list(chunks)))
        assert [reply.body for reply in replies] == [b"GET /slow ", b"POST /a one", b"POST /b two", b"GET / "], name


def test_read_ahead_does_not_grow_while_requests_wait() -> None:
    """One request answered does not make room for another chunk."""

    async def main() -> None:
        peer = Peer()
        chunk = GET * 1000
        peer.protocol.data_received(chunk)
        peer.protocol.data_received(chunk)
        answered = 0
        while answered < 2000:
            assert not peer.transport.reading or answered == 1999
            await asyncio.sleep(0)
            answered = peer.transport.output.count(b"HTTP/1.1 200")
        await peer.settle()
        assert peer.transport.reading
        assert answered == 2000

    run(main())


def test_others_have_their_turn_between_pipelined_requests() -> None:
    async def main() -> None:
        peer = Peer()
        peer.protocol.data_received(GET * 50)
        turns = 0
        while peer.transport.output.count(b"HTTP/1.1 200") < 50:
            turns += 1
            await asyncio.sleep(0)
        assert turns >= 50

    run(main())


def test_cpu_for_pipelined_requests_grows_with_their_number() -> None:
    async def main(count: int) -> float:
        peer = Peer(App(ACCESS_LOG=False))
        begin = time.process_time()
        peer.protocol.data_received(GET * count)
        while peer.protocol.task is not None:
            await asyncio.sleep(0)
        assert peer.transport.output.count(b"HTTP/1.1 200") == count
        return time.process_time() - begin

    def cost(count: int) -> float:
        return min(run(main(count)) for _ in range(3))

    # Four times the work; a cost that grows with the square of the number would be sixteen times.
    assert cost(4000) < 8 * cost(1000)


def test_connection_keeps_its_state_in_slots() -> None:
    async def main() -> None:
        peer = Peer()
        await peer.send(GET)
        assert peer.protocol.__dict__ == {}
        assert sys.getsizeof(peer.protocol) < 400

    run(main())


def test_nothing_is_left_of_a_connection_without_the_garbage_collector() -> None:
    async def main() -> None:
        peer = Peer()
        await peer.send(GET + post(b"abc"))
        left = weakref.ref(peer.protocol)
        peer.lose()
        await peer.settle()
        peer.protocol = peer.transport.protocol = None
        peer.app.requests.clear()
        assert left() is None

    gc.disable()
    try:
        run(main())
    finally:
        gc.enable()


def test_at_most_one_chunk_is_read_ahead() -> None:
    gate = SimpleNamespace(event=None)

    async def wait(request: Request) -> HTTPResponse:
        await gate.event.wait()
        return await describe(request)

    async def main() -> None:
        gate.event = asyncio.Event()
        peer = Peer(App(wait))
        await peer.send(GET)
        assert peer.transport.reading
        peer.protocol.data_received(GET)
        assert not peer.transport.reading
        gate.event.set()
        await peer.settle()
        assert statuses(peer.transport.output) == [200, 200]
        assert peer.transport.reading

    run(main())


@pytest.mark.parametrize("data", [CLOSE, b"GET / HTTP/1.0\r\n\r\n"])
def test_9112_9_6_connection_ends_where_the_client_asks(data: bytes) -> None:
    for name, chunks in cuts(data + GET):
        [reply], peer = exchange(*chunks)
        assert reply.headers["connection"] == "close", name
        assert is_over(peer), name


def test_http_1_0_keep_alive_is_confirmed() -> None:
    data = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    replies, peer = exchange(data + data)
    assert [reply.headers["connection"] for reply in replies] == ["keep-alive", "keep-alive"]
    assert not is_over(peer)


def test_keep_alive_can_be_turned_off() -> None:
    [reply], peer = exchange(GET + GET, app=App(KEEP_ALIVE=False))
    assert reply.headers["connection"] == "close"
    assert is_over(peer)


def test_handler_can_close_the_connection() -> None:
    async def handler(request: Request) -> HTTPResponse:
        return text("bye", headers={"Connection": "close"})

    [reply], peer = exchange(GET + GET, app=App(handler))
    assert (reply.headers["connection"], reply.body) == ("close", b"bye")
    assert is_over(peer)


def test_stopped_server_keeps_no_connection() -> None:
    async def main() -> None:
        peer = Peer(options={"signal": SimpleNamespace(stopped=True)})
        [reply] = parse_replies(await peer.send(GET))
        assert reply.headers["connection"] == "close"

    run(main())


def test_rule_11_request_behind_a_declined_upgrade_is_answered() -> None:
    upgrade = b"Connection: upgrade", b"Upgrade: websocket, h2c"
    data = (
        post(b"body", *upgrade)
        + GET.replace(b"\r\n\r\n", b"\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        + GET
    )
    for name, chunks in cuts(data):
        replies, _ = exchange(*chunks)
        assert [reply.body for reply in replies] == [b"POST / body", b"GET / ", b"GET / "], name


# --------------------------------------------------------------------------------------------------------------------
# Refusals

REFUSED = [
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
    (b"FROB / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    (b"GET /" + b"a" * 9000, 414),
    (GET[:-2] + b"A: " + b"b" * 9000, 431),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n", 413),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n", 413),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: frob\r\nContent-Length: 3\r\n\r\n", 417),
    (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\n", 400),
]


@pytest.mark.parametrize(("data", "status"), REFUSED)
def test_broken_request_is_refused_and_the_connection_ends(data: bytes, status: int) -> None:
    app = App()
    for name, chunks in cuts(data + GET):
        [reply], peer = exchange(*chunks, app=app)
        assert reply.status == status, name
        assert reply.headers["connection"] == "close"
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"
        assert reply.body
        assert is_over(peer), name
    assert not app.requests


@pytest.mark.parametrize(("data", "status"), REFUSED)
def test_requests_before_a_broken_one_are_answered(data: bytes, status: int) -> None:
    replies, _ = exchange(GET + post(b"x") + data)
    assert [reply.status for reply in replies] == [200, 200, status]


def test_refused_head_request_gets_no_body() -> None:
    data = b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n"
    [reply], _ = exchange(data, methods=("HEAD",))
    assert (reply.status, reply.body) == (413, b"")


def test_9112_9_6_refused_client_may_finish_sending() -> None:
    async def main() -> None:
        peer = Peer()
        await peer.send(b"GET / HTTP/1.1\r\n\r\n")
        assert peer.transport.eof_written
        assert not peer.transport.closed
        assert await peer.send(b"x" * 1000) == b""
        await peer.pass_time(LINGER_TIMEOUT + 0.1)
        assert peer.transport.aborted
        assert not peer.connections

    run(main())


def test_refused_client_that_closes_ends_the_wait() -> None:
    async def main() -> None:
        peer = Peer()
        await peer.send(b"GET / HTTP/1.1\r\n\r\n")
        assert peer.end() is None
        await peer.settle()
        assert not peer.connections
        assert not peer.transport.aborted

    run(main())


def test_transport_that_cannot_half_close_is_closed() -> None:
    async def main() -> None:
        peer = Peer()
        peer.transport.eof_possible = False
        assert statuses(await peer.send(b"GET / HTTP/1.1\r\n\r\n")) == [400]
        assert peer.transport.closed

    run(main())


# --------------------------------------------------------------------------------------------------------------------
# Expect


def test_9110_10_1_1_continue_is_sent_before_the_body() -> None:
    async def main() -> None:
        peer = Peer()
        data = post(b"abc", b"Expect: 100-continue")
        head, body = data[:-3], data[-3:]
        assert await peer.send(head) == b"HTTP/1.1 100 Continue\r\n\r\n"
        [reply] = parse_replies(await peer.send(body))
        assert reply.body == b"POST / abc"

    run(main())


@pytest.mark.parametrize(
    "data",
    [
        post(b"abc", b"Expect: 100-continue"),
        post(b"", b"Expect: 100-continue"),
        b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    ],
    ids=["body is here", "no body", "HTTP/1.0"],
)
def test_9110_10_1_1_continue_is_not_sent(data: bytes) -> None:
    replies, _ = exchange(data)
    assert [reply.status for reply in replies] == [200]


def test_9110_10_1_1_continue_waits_for_the_response_before() -> None:
    head = post(b"abc", b"Expect: 100-continue")[:-3]

    async def main() -> None:
        peer = Peer()
        assert statuses(await peer.send(GET + head)) == [200, 100]
        assert statuses(await peer.send(b"abc")) == [200]

    run(main())


def test_body_that_is_too_large_is_not_asked_for() -> None:
    data = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n"
    replies, _ = exchange(data)
    assert [reply.status for reply in replies] == [413]


# --------------------------------------------------------------------------------------------------------------------
# Responses


def answer(response: Any, method: str = "GET", version: str = "1.1", **values: Any) -> tuple[Reply, Peer]:
    async def handler(request: Request) -> Any:
        return response

    data = f"{method} / HTTP/{version}\r\nHost: a\r\n\r\n".encode()
    [reply], peer = exchange(data, app=App(handler, **values), methods=(method,))
    return reply, peer


def test_9110_9_3_2_head_has_the_headers_of_get_and_no_body() -> None:
    get, _ = answer(text("hello", headers={"X-A": "b"}))
    head, _ = answer(text("hello", headers={"X-A": "b"}), "HEAD")
    assert head.body == b""
    assert {**head.headers, "date": ""} == {**get.headers, "date": ""}
    assert head.headers["content-length"] == "5"


def test_head_may_tell_a_length_without_content() -> None:
    reply, _ = answer(HTTPResponse(headers={"Content-Length": "1234"}), "HEAD")
    assert reply.headers["content-length"] == "1234"
    reply, _ = answer(HTTPResponse(headers={"Content-Length": "1234"}))
    assert reply.headers["content-length"] == "0"


@pytest.mark.parametrize("status", [204, 304])
def test_9110_6_4_1_responses_without_content(status: int) -> None:
    reply, peer = answer(HTTPResponse("ignored", status))
    assert (reply.status, reply.body) == (status, b"")
    assert "content-length" not in reply.headers
    assert not is_over(peer)


def test_9110_15_3_6_reset_content_has_length_0() -> None:
    reply, _ = answer(HTTPResponse("ignored", 205))
    assert reply.headers["content-length"] == "0"


def test_fields_that_frame_are_the_servers() -> None:
    reply, peer = answer(text("abc", headers={"Content-Length": "1", "Transfer-Encoding": "chunked", "Date": "today"}))
    assert reply.body == b"abc"
    assert reply.headers["date"] == "today"
    assert not is_over(peer)


def test_9110_7_8_upgrade_is_named_in_connection() -> None:
    reply, _ = answer(HTTPResponse(status=426, headers={"Upgrade": "websocket"}))
    assert reply.headers["connection"] == "Upgrade"
    reply, _ = answer(
        HTTPResponse(status=426, headers={"Connection": "upgrade", "Upgrade": "websocket"}), version="1.0"
    )
    assert reply.headers["connection"] == "upgrade, close"


def test_cookies_are_fields_of_their_own() -> None:
    async def handler(request: Request) -> HTTPResponse:
        response = empty()
        response.add_cookie("a", "1")
        response.add_cookie("b", "2")
        return response

    async def main() -> bytes:
        return await Peer(App(handler)).send(GET)

    output = run(main())
    assert output.count(b"Set-Cookie: ") == 2
    assert b"Set-Cookie: a=1; Path=/; SameSite=Lax; Secure\r\n" in output


def test_unknown_status_has_no_phrase() -> None:
    reply, _ = answer(HTTPResponse(status=299))
    assert reply.status == 299


def test_large_body_is_not_copied_to_its_head() -> None:
    async def handler(request: Request) -> HTTPResponse:
        return HTTPResponse(b"x" * 100_000)

    async def main() -> None:
        peer = Peer(App(handler))
        await peer.send(GET)
        assert [len(piece) for piece in peer.transport.written][1:] == [100_000]

    run(main())


@pytest.mark.parametrize("returned", [None, "text", b"bytes", 3])
def test_what_is_no_response_is_500(returned: Any, caplog: pytest.LogCaptureFixture) -> None:
    reply, peer = answer(returned)
    assert reply.status == 500
    assert is_over(peer)
    [record] = [record for record in caplog.records if record.name == "ferrows.error"]
    assert record.exc_info


def test_exception_from_the_app_is_logged_once_and_is_500(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request) -> HTTPResponse:
        raise LookupError("secret")

    [reply], peer = exchange(GET + GET, app=App(handler))
    assert reply.status == 500
    assert b"secret" not in reply.body
    assert is_over(peer)
    assert [record.name for record in caplog.records if record.levelno >= logging.ERROR] == ["ferrows.error"]


# --------------------------------------------------------------------------------------------------------------------
# Streams


async def three_pieces(request: Request) -> None:
    response = await request.respond(content_type="text/plain", headers={"X-A": "b"})
    assert request.responded
    await response.send("one ")
    await response.send("")
    await response.send(b"two ")
    await response.send("three")


def test_9112_7_1_stream_is_chunked_and_the_connection_kept() -> None:
    replies, peer = exchange(GET + GET, app=App(three_pieces))
    assert [reply.body for reply in replies] == [b"one two three"] * 2
    assert replies[0].headers["transfer-encoding"] == "chunked"
    assert replies[0].headers["x-a"] == "b"
    assert not is_over(peer)


def test_9112_6_3_stream_to_http_1_0_ends_with_the_connection() -> None:
    [reply], peer = exchange(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + GET, app=App(three_pieces))
    assert reply.body == b"one two three"
    assert reply.headers["connection"] == "close"
    assert "transfer-encoding" not in reply.headers
    assert is_over(peer)


def test_stream_to_head_has_no_body() -> None:
    [reply], peer = exchange(GET.replace(b"GET", b"HEAD"), app=App(three_pieces), methods=("HEAD",))
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["transfer-encoding"] == "chunked"
    assert not is_over(peer)


def test_first_piece_leaves_with_the_head() -> None:
    async def main() -> None:
        peer = Peer(App(three_pieces))
        await peer.send(GET)
        assert len(peer.transport.written) == 4
        assert peer.transport.written[0].endswith(b"\r\n\r\n4\r\none \r\n")

    run(main())


def test_stream_of_one_piece_has_a_length() -> None:
    async def handler(request: Request) -> HTTPResponse:
        response = await request.respond()
        await response.send("all", True)
        return response

    [reply], _ = exchange(GET, app=App(handler))
    assert (reply.headers["content-length"], reply.body) == ("3", b"all")


def test_stream_may_declare_its_length() -> None:
    async def handler(request: Request) -> None:
        response = await request.respond(headers={"Content-Length": "6"})
        await response.send("abc")
        await response.send("def")
        await response.eof()
        await response.eof()

    for version in (b"1.1", b"1.0"):
        [reply], peer = exchange(GET.replace(b"1.1", version), app=App(handler))
        assert reply.body == b"abcdef"
        assert "transfer-encoding" not in reply.headers
        assert is_over(peer) is (version == b"1.0")


@pytest.mark.parametrize("length", ["2", "9"])
def test_stream_that_breaks_its_word_ends_the_connection(length: str, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request) -> None:
        response = await request.respond(headers={"Content-Length": length})
        await response.send("a")
        await response.send("bcd")

    async def main() -> None:
        peer = Peer(App(handler))
        output = await peer.send(GET)
        assert output.startswith(b"HTTP/1.1 200")
        assert peer.transport.aborted

    run(main())
    assert "Content-Length" in caplog.text


def test_declared_length_must_be_a_number(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request) -> None:
        response = await request.respond(headers={"Content-Length": "six"})
        await response.send("sixsix")

    [reply], _ = exchange(GET, app=App(handler))
    assert reply.status == 500
    assert "permitted: digits" in caplog.text


@pytest.mark.parametrize("status", [204, 205, 304])
def test_stream_of_a_status_without_content(status: int) -> None:
    async def handler(request: Request) -> None:
        response = await request.respond(status=status)
        await response.send("ignored")

    replies, _ = exchange(GET + GET, app=App(handler))
    assert [(reply.status, reply.body) for reply in replies] == [(status, b"")] * 2


def test_handler_may_return_the_response_that_it_streams() -> None:
    async def handler(request: Request) -> HTTPResponse:
        return await request.respond(text("whole"))

    [reply], _ = exchange(GET, app=App(handler))
    assert reply.body == b"whole"


def test_response_stream_writes_its_body() -> None:
    async def write(response: HTTPResponse) -> None:
        await response.send("a")
        await response.write("b")

    replies, _ = exchange(GET + GET, app=App(_returning(lambda: ResponseStream(write, 201))))
    assert [(reply.status, reply.body) for reply in replies] == [(201, b"ab")] * 2


def test_response_stream_given_to_respond_is_run() -> None:
    async def write(response: HTTPResponse) -> None:
        await response.send("abc")

    async def handler(request: Request) -> None:
        await request.respond(ResponseStream(write))

    [reply], _ = exchange(GET, app=App(handler))
    assert reply.body == b"abc"


def _returning(make: Callable[[], Any]) -> Callable[[Request], Awaitable[Any]]:
    async def handler(request: Request) -> Any:
        return make()

    return handler


def test_another_response_replaces_a_stream_that_has_not_begun() -> None:
    async def handler(request: Request) -> HTTPResponse:
        await request.respond()
        return text("instead", 503)

    [reply], _ = exchange(GET, app=App(handler))
    assert (reply.status, reply.body) == (503, b"instead")


def test_another_response_after_a_stream_has_begun_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request) -> HTTPResponse:
        response = await request.respond()
        await response.send("abc")
        return text("instead")

    async def main() -> None:
        peer = Peer(App(handler))
        output = await peer.send(GET)
        assert output.endswith(b"3\r\nabc\r\n")
        assert peer.transport.aborted

    run(main())
    assert "second response" in caplog.text


def test_handler_that_fails_while_it_streams_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request) -> None:
        response = await request.respond()
        await response.send("abc")
        raise LookupError("broken")

    async def main() -> None:
        peer = Peer(App(handler))
        output = await peer.send(GET)
        # Neither the last chunk nor an orderly end, so that the client cannot take it for whole.
        assert output.endswith(b"3\r\nabc\r\n")
        assert peer.transport.aborted

    run(main())
    assert "broken" in caplog.text


def test_misuse_of_streams_is_an_error() -> None:
    async def handler(request: Request) -> HTTPResponse:
        with pytest.raises(ServerError, match="not streamed"):
            await text("a").send("b")
        response = await request.respond()
        with pytest.raises(ServerError, match="second response"):
            await request.respond()
        await response.send("abc", end_stream=True)
        with pytest.raises(ServerError, match="has ended"):
            await response.send("def")
        return response

    [reply], _ = exchange(GET, app=App(handler))
    assert reply.body == b"abc"


def test_streaming_waits_while_the_client_does_not_read() -> None:
    sent: list[int] = []

    async def handler(request: Request) -> None:
        response = await request.respond()
        for number in range(3):
            await response.send(f"{number}")
            sent.append(number)

    async def main() -> None:
        peer = Peer(App(handler))
        peer.transport.full = True
        await peer.send(GET)
        assert sent == []
        peer.protocol.resume_writing()
        await peer.settle()
        assert sent == [0, 1, 2]
        # Long after any deadline of the response the connection is still there.
        await peer.pass_time(61)
        assert not peer.transport.closed

    run(main())


# --------------------------------------------------------------------------------------------------------------------
# Time


@pytest.mark.parametrize("data", [b"G", GET[:-2]])
def test_rule_9_head_that_does_not_end_is_408(data: bytes) -> None:
    async def main() -> None:
        peer = Peer()
        for octet in data[:1]:
            await peer.send(bytes([octet]))
        await peer.pass_time(9)
        assert await peer.send(data[1:] or b"E") == b""
        await peer.pass_time(1.1)
        assert statuses(peer.transport.output) == [408]
        assert peer.transport.eof_written

    run(main())


def test_silent_connection_is_closed_after_the_time_for_a_head() -> None:
    async def main() -> None:
        peer = Peer()
        await peer.pass_time(9.9)
        assert not peer.transport.closed
        await peer.pass_time(0.2)
        assert peer.transport.closed
        assert peer.transport.output == b""

    run(main())


def test_rule_9_body_that_does_not_end_is_408() -> None:
    async def main() -> None:
        peer = Peer()
        await peer.send(post(b"abc")[:-1])
        await peer.pass_time(59)
        assert peer.transport.output == b""
        await peer.pass_time(1.1)
        assert statuses(peer.transport.output) == [408]

    run(main())


def test_idle_connection_is_closed_silently() -> None:
    async def main() -> None:
        peer = Peer()
        await peer.send(GET)
        await peer.pass_time(74)
        assert not peer.transport.closed
        await peer.send(GET)
        await peer.pass_time(74)
        assert not peer.transport.closed
        await peer.pass_time(1.1)
        assert peer.transport.closed
        assert statuses(peer.transport.output) == [200, 200]

    run(main())


def test_second_head_has_its_own_time() -> None:
    async def main() -> None:
        peer = Peer()
        await peer.send(GET)
        await peer.pass_time(30)
        await peer.send(GET[:5])
        await peer.pass_time(10.1)
        assert statuses(peer.transport.output) == [200, 408]

    run(main())


def test_handler_that_takes_too_long_is_cancelled_with_503() -> None:
    seen: list[str] = []

    async def handler(request: Request) -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            seen.append("cancelled")

    async def main() -> None:
        peer = Peer(App(handler))
        await peer.send(GET)
        await peer.pass_time(61)
        assert statuses(peer.transport.output) == [503]
        assert seen == ["cancelled"]
        assert peer.transport.eof_written

    run(main())


def test_stream_that_has_begun_may_take_its_time() -> None:
    async def handler(request: Request) -> None:
        response = await request.respond()
        await response.send("a")
        await asyncio.sleep(1000)
        await response.send("b")

    async def main() -> None:
        peer = Peer(App(handler))
        await peer.send(GET)
        await peer.pass_time(1001)
        [reply] = parse_replies(peer.transport.output)
        assert reply.body == b"ab"

    run(main())


def test_client_that_reads_nothing_of_a_stream_is_dropped() -> None:
    async def handler(request: Request) -> None:
        response = await request.respond()
        while True:
            await response.send("a" * 1000)

    async def main() -> None:
        peer = Peer(App(handler))
        peer.transport.buffered = 100
        peer.transport.full = True
        await peer.send(GET)
        # Progress, however small, is a sign of life.
        peer.transport.buffered = 90
        await peer.pass_time(STALL_TIMEOUT + 1)
        assert not peer.transport.closed
        await peer.pass_time(STALL_TIMEOUT + 1)
        assert peer.transport.aborted
        assert peer.protocol.task is None

    run(main())


def test_client_that_reads_nothing_of_the_last_response_is_dropped() -> None:
    async def main() -> None:
        peer = Peer()
        peer.transport.buffered = 100
        assert statuses(await peer.send(CLOSE)) == [200]
        peer.transport.buffered = 50
        await peer.pass_time(STALL_TIMEOUT + 1)
        assert not peer.transport.aborted
        await peer.pass_time(STALL_TIMEOUT + 1)
        assert peer.transport.aborted

    run(main())


def test_timers_do_not_add_up() -> None:
    async def main() -> None:
        peer = Peer()
        await peer.send(GET)
        before = len(peer.loop._scheduled)  # type: ignore[attr-defined]
        for _ in range(50):
            await peer.send(GET)
        assert len(peer.loop._scheduled) == before  # type: ignore[attr-defined]

    run(main())


# --------------------------------------------------------------------------------------------------------------------
# Clients that leave


def test_handler_of_a_client_that_left_is_cancelled_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    seen: list[str] = []

    async def handler(request: Request) -> None:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            seen.append("cancelled")
            # Cleaning up may await.
            await asyncio.sleep(1)
            seen.append("cleaned up")
            raise

    async def main() -> None:
        peer = Peer(App(handler))
        await peer.send(GET)
        peer.lose()
        await peer.pass_time(2)
        assert seen == ["cancelled", "cleaned up"]
        assert peer.transport.output == b""
        assert not peer.connections
        assert peer.protocol.task is None

    run(main())
    [record] = caplog.records
    assert '"GET / HTTP/1.1" 499 0' in record.getMessage()


def test_sending_to_a_client_that_left_raises() -> None:
    seen: list[str] = []

    async def handler(request: Request) -> None:
        response = await request.respond()
        await response.send("a")
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(1000)
        try:
            await response.send("b")
        except RequestCancelled:
            seen.append("refused")
            raise

    async def main() -> None:
        peer = Peer(App(handler))
        await peer.send(GET)
        peer.lose()
        await peer.settle()
        assert seen == ["refused"]

    run(main())


def test_response_to_a_client_that_left_is_dropped() -> None:
    async def handler(request: Request) -> HTTPResponse:
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(1000)
        return text("late")

    async def main() -> None:
        peer = Peer(App(handler))
        await peer.send(GET)
        peer.lose()
        await peer.settle()
        assert peer.transport.output == b""
        assert peer.protocol.task is None

    run(main())


def test_client_that_sends_no_more_gets_its_answers() -> None:
    async def main() -> None:
        peer = Peer()
        peer.protocol.data_received(GET + GET)
        assert peer.end() is True
        await peer.settle()
        assert statuses(peer.transport.output) == [200, 200]
        assert peer.transport.closed

    run(main())


def test_client_that_sends_no_more_in_the_middle_of_a_request_is_closed() -> None:
    for data in (b"", GET[:-1], post(b"abc")[:-1]):

        async def main(data: bytes = data) -> None:
            peer = Peer()
            await peer.send(*([data] if data else []))
            assert peer.end() is None
            await peer.settle()
            assert peer.transport.output == b""
            assert not peer.connections

        run(main())


def test_client_that_sends_no_more_and_does_not_react_counts_as_gone() -> None:
    seen: list[str] = []

    async def handler(request: Request) -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            seen.append("cancelled")

    async def main() -> None:
        peer = Peer(App(handler))
        await peer.send(GET)
        assert peer.end() is True
        await peer.pass_time(HALF_CLOSE_GRACE / 2)
        assert seen == []
        await peer.pass_time(HALF_CLOSE_GRACE)
        assert seen == ["cancelled"]
        assert not peer.connections

    run(main())


def test_client_that_sends_no_more_is_served_while_it_takes_data() -> None:
    async def handler(request: Request) -> None:
        response = await request.respond()
        for _ in range(10):
            await response.send("a")
            await asyncio.sleep(HALF_CLOSE_GRACE * 0.9)

    async def main() -> None:
        peer = Peer(App(handler))
        await peer.send(GET)
        assert peer.end() is True
        await peer.pass_time(HALF_CLOSE_GRACE * 10)
        [reply] = parse_replies(peer.transport.output)
        assert reply.body == b"a" * 10
        assert peer.transport.closed

    run(main())


def test_tls_client_that_sends_no_more_is_gone() -> None:
    async def main() -> None:
        peer = Peer(App(_sleeping), extra={"sslcontext": object()})
        await peer.send(GET)
        assert peer.end() is None

    run(main())


async def _sleeping(request: Request) -> None:
    await asyncio.sleep(1000)


def test_task_that_is_cancelled_from_outside_ends_the_connection() -> None:
    async def main() -> None:
        peer = Peer(App(_sleeping))
        await peer.send(GET)
        task = peer.protocol.task
        task.cancel()
        await peer.settle()
        assert task.cancelled()
        assert peer.transport.aborted
        assert peer.transport.output == b""

    run(main())


# --------------------------------------------------------------------------------------------------------------------
# Handing over, ending

UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"


def test_rule_27_detached_connection_gives_every_byte_behind_the_head() -> None:
    frames = b"\x81\x05hello" * 3
    taken: list[bytes] = []

    async def handler(request: Request) -> None:
        await asyncio.sleep(1)
        taken.append(request.protocol.detach())
        request.protocol.data_received = taken.append
        await asyncio.sleep(1)

    async def main(chunks: list[bytes]) -> None:
        taken.clear()
        peer = Peer(App(handler))
        for chunk in chunks:
            while not peer.transport.reading:
                await peer.pass_time(1)
            peer.protocol.data_received(chunk)
            await asyncio.sleep(0)
        await peer.pass_time(3)
        assert b"".join(taken) == frames
        assert peer.protocol.upgraded
        assert peer.protocol.task is None
        assert peer.transport.output == b""
        assert not peer.transport.closed
        await peer.pass_time(1000)
        assert not peer.transport.closed

    for _, chunks in cuts(UPGRADE + frames):
        run(main(list(chunks)))


def test_handler_of_a_detached_connection_is_not_cancelled() -> None:
    seen: list[str] = []

    async def handler(request: Request) -> None:
        request.protocol.detach()
        await asyncio.sleep(10)
        seen.append("done")

    async def main() -> None:
        peer = Peer(App(handler))
        await peer.send(UPGRADE)
        peer.lose()
        await peer.pass_time(11)
        assert seen == ["done"]

    run(main())


def test_data_for_nobody_is_kept_for_who_asks() -> None:
    async def handler(request: Request) -> None:
        protocol = request.protocol
        assert protocol.detach() == b""
        await protocol.receive_more()
        assert protocol.recv_buffer == b"abc"
        await protocol.send(b"def")

    async def main() -> None:
        peer = Peer(App(handler))
        await peer.send(UPGRADE)
        assert await peer.send(b"abc") == b"def"

    run(main())


@pytest.mark.parametrize("error", [LookupError("late"), asyncio.CancelledError()])
def test_failure_after_the_connection_was_handed_over(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request) -> None:
        request.protocol.detach()
        raise error

    async def main() -> None:
        peer = Peer(App(handler))
        assert await peer.send(UPGRADE) == b""
        assert peer.transport.aborted is isinstance(error, LookupError)

    run(main())
    assert ("failed after its upgrade" in caplog.text) is isinstance(error, LookupError)


def test_stream_cannot_be_begun_after_handing_over() -> None:
    async def handler(request: Request) -> None:
        request.protocol.detach()
        with pytest.raises(ServerError):
            await request.respond()

    async def main() -> None:
        peer = Peer(App(handler))
        assert await peer.send(UPGRADE) == b""
        assert not peer.transport.closed

    run(main())


def test_shutdown_closes_an_idle_connection_now() -> None:
    async def main() -> None:
        peer = Peer()
        await peer.send(GET)
        peer.protocol.shutdown()
        assert peer.transport.closed
        await peer.settle()
        assert not peer.connections

    run(main())


def test_shutdown_lets_a_busy_connection_finish() -> None:
    async def handler(request: Request) -> HTTPResponse:
        await asyncio.sleep(1)
        return text("done")

    async def main(early: bytes, late: bytes) -> None:
        peer = Peer(App(handler))
        await peer.send(early)
        peer.protocol.shutdown(1012)
        assert not peer.transport.closed
        await peer.send(*([late] if late else []))
        await peer.pass_time(1.1)
        [reply] = parse_replies(peer.transport.output)
        assert (reply.body, reply.headers["connection"]) == (b"done", "close")
        assert peer.transport.closed or peer.transport.eof_written

    run(main(GET, b""))
    run(main(GET[:5], GET[5:]))


def test_shutdown_in_the_middle_of_a_stream_ends_the_connection_after_it() -> None:
    async def handler(request: Request) -> None:
        response = await request.respond()
        await response.send("a")
        await asyncio.sleep(1)
        await response.send("b")

    async def main() -> None:
        peer = Peer(App(handler))
        await peer.send(GET)
        peer.protocol.shutdown()
        await peer.pass_time(1.1)
        [reply] = parse_replies(peer.transport.output)
        assert reply.body == b"ab"
        assert peer.transport.eof_written

    run(main())


def test_close_aborts_what_cannot_be_written() -> None:
    async def main() -> None:
        peer = Peer()
        peer.transport.buffered = 1
        peer.protocol.close(timeout=5)
        peer.protocol.close(timeout=5)
        assert peer.transport.closed
        await peer.pass_time(4)
        assert not peer.transport.aborted
        await peer.pass_time(2)
        assert peer.transport.aborted
        peer.protocol.close()
        peer.protocol.abort()

    run(main())


def test_close_while_a_handler_runs_cancels_it() -> None:
    async def main() -> None:
        peer = Peer(App(_sleeping))
        await peer.send(GET)
        assert not peer.protocol.close_if_idle()
        peer.protocol.close()
        await peer.settle()
        assert peer.protocol.task is None

    run(main())


def test_connections_are_known_while_they_live() -> None:
    async def main() -> None:
        peer = Peer()
        assert peer.connections == {peer.protocol}
        peer.lose()
        await peer.settle()
        assert peer.connections == set()

    run(main())


# --------------------------------------------------------------------------------------------------------------------
# The rest


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
    with pytest.raises(ServerError, match="aioquic"):
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
