"""``HttpProtocol`` on a transport without a socket and a clock without time: what takes too long."""

from __future__ import annotations

import asyncio

import pytest
from http_harness import (
    CLOSE,
    GET,
    App,
    Peer,
    parse_replies,
    post,
    run,
    statuses,
)

from ferrows.request import Request
from ferrows.server.protocols.http_protocol import (
    STALL_TIMEOUT,
)


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
