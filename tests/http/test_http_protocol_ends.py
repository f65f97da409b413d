"""``HttpProtocol`` on a transport without a socket and a clock without time: clients that leave, and the end."""

from __future__ import annotations

import asyncio
import errno
import logging

import pytest
from http_harness import (
    GET,
    App,
    Peer,
    cuts,
    parse_replies,
    post,
    run,
    statuses,
)

from ferrows.exceptions import RequestCancelled, ServerError
from ferrows.request import Request
from ferrows.response import HTTPResponse, text
from ferrows.server.protocols.http_protocol import (
    HALF_CLOSE_GRACE,
)

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


def test_client_that_has_reset_the_connection_is_let_go_of_at_its_end() -> None:
    async def main() -> None:
        peer = Peer()

        def write_eof() -> None:
            # What asyncio's transport lets through then.
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

        peer.transport.write_eof = write_eof  # type: ignore[method-assign]
        # A request that is none is answered, and its sender may have more to send.
        await peer.send(b"\0")
        assert peer.transport.aborted
        assert not peer.connections

    run(main())


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
