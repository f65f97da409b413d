"""``HttpProtocol`` on a transport without a socket and a clock without time: reading requests, and refusing them."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
import weakref
from types import SimpleNamespace

import pytest
from http_harness import (
    CLOSE,
    GET,
    App,
    Peer,
    Reply,
    cuts,
    describe,
    exchange,
    is_over,
    parse_replies,
    post,
    run,
    statuses,
)

from ferrows.exceptions import RequestTimeout
from ferrows.request import Request
from ferrows.response import HTTPResponse, text
from ferrows.server.body import CHUNKS_A_TURN
from ferrows.server.protocols.http_protocol import (
    LINGER_TIMEOUT,
)

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


def test_body_of_very_many_chunks_is_read_in_several_turns_of_the_loop() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    many = b"1\r\nx\r\n" * (CHUNKS_A_TURN + 1)

    async def main() -> tuple[list[bool], list[Reply]]:
        peer = Peer(App(REQUEST_MAX_SIZE=2**20))
        reading = []
        for piece in (head, many, many, b"1\r\nx\r\n"):
            peer.protocol.data_received(piece)
            reading.append(peer.transport.reading)
            await peer.settle()
            reading.append(peer.transport.reading)
        output = await peer.send(b"0\r\n\r\n" + GET)
        return reading, parse_replies(output)

    reading, replies = run(main())
    assert reading == [True, True, False, True, False, True, True, True]
    assert [reply.status for reply in replies] == [200, 200]
    assert len(replies[0].body) == len(b"POST / ") + 2 * (CHUNKS_A_TURN + 1) + 1


def test_body_that_is_refused_while_others_have_their_turn_is_read_to_its_end() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

    async def main() -> tuple[bytes, bool]:
        peer = Peer(App(REQUEST_MAX_SIZE=2**20))
        peer.protocol.data_received(head + b"1\r\nx\r\n" * (CHUNKS_A_TURN + 1))
        peer.protocol._reject(RequestTimeout())
        await peer.settle()
        return peer.transport.output, peer.transport.reading

    output, reading = run(main())
    assert statuses(output) == [408]
    assert reading


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
