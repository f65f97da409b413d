"""``HttpProtocol`` on a transport without a socket and a clock without time: responses, whole and streamed."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from http_harness import (
    GET,
    App,
    Peer,
    answer,
    exchange,
    is_over,
    run,
    three_pieces,
)

from ferrows.exceptions import ServerError
from ferrows.request import Request
from ferrows.response import HTTPResponse, ResponseStream, empty, text

# --------------------------------------------------------------------------------------------------------------------
# Responses


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
