"""Rules 49-55 on the server: the closing handshake and the TCP connection under it (RFC 6455 §7, §5.5.1)."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from .harness import TIMEOUT, Exchange, Server, make_app
from .vectors import VECTORS, Vector
from .wire import BINARY, CLOSE, PING, TEXT, Frame, close, close_body, frame, handshake, parse_frames, text

CLOSES = {
    "1000": (close(1000), close_body(1000)),
    "1001-with-reason": (close(1001, "bye"), close_body(1001)),
    "4999": (close(4999), close_body(4999)),
    "no-code": (close(), b""),
}


@pytest.mark.parametrize(("sent", "answer"), CLOSES.values(), ids=CLOSES.keys())
@pytest.mark.parametrize("target", ["/ws", "/leave"])
def test_rule_49_server_echoes_close_once(server: Server, target: str, sent: bytes, answer: bytes) -> None:
    for where, exchange in server.every_split(handshake(target) + sent, sent):
        assert exchange.frames == [Frame(CLOSE, answer)], where
        assert exchange.ended, where


def test_rule_49_answer_to_the_servers_close_is_not_answered(server: Server) -> None:
    for where, exchange in server.every_split(handshake("/leave") + text("go") + close(1000), close(1000)):
        assert exchange.frames == [Frame(CLOSE, close_body(1000))], where
        assert exchange.ended, where


def test_rule_50_server_sends_nothing_after_close(server: Server) -> None:
    data = handshake("/leave") + text("go")
    exchange = server.exchange(data, frame(PING, b"late") + text("late"), frame(PING, b"later"), close(1000))
    assert exchange.frames == [Frame(CLOSE, close_body(1000))]


def test_rule_50_server_sends_nothing_after_a_failure(server: Server) -> None:
    exchange = server.exchange(handshake(), text("one"), frame(0x3), frame(PING, b"late"), text("late"))
    assert [one.opcode for one in exchange.frames] == [TEXT, CLOSE]
    assert exchange.frames[-1].close_code == 1002


def test_rule_51_handler_does_not_see_data_after_close(server: Server) -> None:
    data = handshake() + text("one") + close(1000) + text("two") + frame(PING, b"late") + frame(BINARY, b"three")
    for where, exchange in server.every_split(data, text("four")):
        assert exchange.frames == [Frame(TEXT, b"one"), Frame(CLOSE, close_body(1000))], where


def test_messages_before_a_close_are_all_answered(server: Server) -> None:
    messages = [f"message {number}" for number in range(20)]
    data = handshake() + b"".join(map(text, messages)) + close(1000)
    for where, exchange in server.every_split(data):
        assert [one.payload.decode() for one in exchange.frames[:-1]] == messages, where
        assert exchange.frames[-1] == Frame(CLOSE, close_body(1000)), where


@pytest.mark.parametrize("size", [1, 100_000])
def test_rule_49_close_behind_messages_that_nobody_reads_is_seen(server: Server, size: int) -> None:
    """A full queue pauses reading; a handler that has returned must not leave it so (RFC 6455 §7.1.2)."""
    unread = text("a" * size)
    for pieces in ([unread * 100 + close(1000)], [*[unread] * 100, close(1000)]):
        exchange = server.exchange(handshake("/leave"), text("go"), *pieces)
        assert exchange.frames == [Frame(CLOSE, close_body(1000))]
        assert exchange.unread == b""
        assert exchange.ended


def test_rule_41_server_that_cannot_write_answers_the_latest_ping(server: Server) -> None:
    """A peer that pings and never reads must not grow the server's buffers (§5.5.3)."""
    pings = [frame(PING, number.to_bytes(4, "big") * 31) for number in range(20_000)]

    async def conversation() -> tuple[int, Exchange]:
        peer = server.peer()
        try:
            await peer.send(handshake())
            peer.transport.protocol.pause_writing()
            for at in range(0, len(pings), 100):
                await peer.send(b"".join(pings[at : at + 100]))
            held = len(peer.transport.output)
            peer.transport.protocol.resume_writing()
            await peer.send()
            return held, peer.take()
        finally:
            await peer.drop()

    held, exchange = server.run(conversation())
    assert held < 2**17
    assert exchange.frames[-1].payload == (19_999).to_bytes(4, "big") * 31
    assert exchange.unread == b""


FAILURES = [
    vector
    for vector in VECTORS
    if vector.close_code not in (None, 1000, 1005) and not vector.client and not vector.deflate
    if vector.max_size == 2**20 and vector.then == "ended"
]


@pytest.mark.parametrize("vector", FAILURES, ids=[vector.id for vector in FAILURES])
def test_server_ends_the_connection_as_the_vector_says(server: Server, vector: Vector) -> None:
    expected = vector.output[-1]
    pieces = [vector.input[at : at + 1] for at in range(len(vector.input))]
    for feeding in ([vector.input], pieces, [vector.input + text("after")]):
        exchange = server.exchange(handshake(), *feeding)
        last = exchange.frames[-1]
        assert (last.opcode, last.payload) == expected
        assert [one.opcode for one in exchange.frames].count(CLOSE) == 1
        assert exchange.ended


# 52, on real sockets (§7.1.1)

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}

if sys.platform != "win32":
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop

Client = Callable[[socket.socket], Any]


def on_a_socket(make_loop: Callable[[], asyncio.AbstractEventLoop], client: Client, **config: Any) -> Any:
    """Serve on a loopback port and let ``client`` speak to it, blocking, in a thread."""

    async def main() -> Any:
        app = make_app(**config)
        server = await app.create_server(host="127.0.0.1", port=0, return_asyncio_server=True)
        await server.startup()
        await server.start_serving()
        try:
            address = server.sockets[0].getsockname()

            def talk() -> Any:
                with socket.create_connection(address, timeout=20) as connected:
                    return client(connected)

            return await asyncio.to_thread(talk)
        finally:
            await server.close()
            await server.wait_closed()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(main())


def read_to_the_end(connected: socket.socket) -> bytes:
    """Read up to the FIN; a reset raises ConnectionResetError."""
    data = b""
    while piece := connected.recv(65536):
        data += piece
    return data


def frames_of(data: bytes) -> list[Frame]:
    head, frames = data.split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 101 ")
    return parse_frames(frames)


def tcp_state(connected: socket.socket) -> int:
    state: int = struct.unpack("B", connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1))[0]
    return state


CLOSE_WAIT = 8
"""TCP_CLOSE_WAIT of Linux: the other side has sent its FIN and this one has not."""

loops = pytest.mark.parametrize("make_loop", LOOPS.values(), ids=LOOPS.keys())


@loops
def test_rule_52_server_closes_tcp_first(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    def client(connected: socket.socket) -> bytes:
        connected.sendall(handshake() + text("one") + close(1000))
        data = read_to_the_end(connected)
        if sys.platform == "linux":
            assert tcp_state(connected) == CLOSE_WAIT
        return data

    assert frames_of(on_a_socket(make_loop, client)) == [Frame(TEXT, b"one"), Frame(CLOSE, close_body(1000))]


@loops
def test_rule_52_server_drains_instead_of_resetting(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Data that the server has not read when it closes would turn its FIN into a reset, and the Close would be lost."""
    junk = text("a" * 1000) * 2000

    def client(connected: socket.socket) -> bytes:
        connected.sendall(handshake())
        connected.sendall(close(1000) + junk)
        connected.sendall(junk)
        return read_to_the_end(connected)

    assert frames_of(on_a_socket(make_loop, client)) == [Frame(CLOSE, close_body(1000))]


@loops
@pytest.mark.parametrize(
    ("bad", "code"),
    [(frame(0x3), 1002), (frame(TEXT, b"\xff"), 1007), (frame(TEXT, b"a" * 70000), 1009)],
    ids=["1002", "1007", "1009"],
)
def test_rule_52_failed_peer_that_goes_on_sending_gets_the_close(
    make_loop: Callable[[], asyncio.AbstractEventLoop], bad: bytes, code: int
) -> None:
    junk = text("a" * 1000) * 500

    def client(connected: socket.socket) -> bytes:
        connected.sendall(handshake())
        connected.sendall(bad + junk)
        connected.sendall(junk)
        return read_to_the_end(connected)

    frames = frames_of(on_a_socket(make_loop, client, WEBSOCKET_MAX_SIZE=65536))
    assert [one.close_code for one in frames] == [code]


@loops
def test_rule_52_client_may_send_after_the_fin(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    def client(connected: socket.socket) -> tuple[bytes, bytes]:
        connected.sendall(handshake() + close(1000))
        data = read_to_the_end(connected)
        for _ in range(20):
            connected.sendall(text("late" * 100))
        return data, connected.recv(1)

    data, more = on_a_socket(make_loop, client)
    assert frames_of(data) == [Frame(CLOSE, close_body(1000))]
    assert more == b""


@loops
def test_rule_52_refused_body_gets_its_answer(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """What holds for a Close holds for the last response (RFC 9112 §9.6)."""

    def client(connected: socket.socket) -> bytes:
        connected.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n")
        connected.sendall(b"a" * 1500000)
        connected.sendall(b"a" * 1500000)
        return read_to_the_end(connected)

    assert on_a_socket(make_loop, client).startswith(b"HTTP/1.1 413 ")


@loops
def test_rule_53_client_that_never_closes_tcp_is_dropped(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    def client(connected: socket.socket) -> bool:
        connected.sendall(handshake() + close(1000))
        read_to_the_end(connected)
        try:
            # Once the server has dropped the connection, its kernel answers with a reset.
            for _ in range(200):
                connected.sendall(b"a")
                time.sleep(0.02)
        except (ConnectionResetError, BrokenPipeError):
            return True
        return False

    assert on_a_socket(make_loop, client, WEBSOCKET_TIMEOUT=0.2)


# 53


def after(server: Server, seconds: float, *pieces: bytes, late: bytes = b"") -> Exchange:
    """Send pieces, put the clock forward, send ``late``, and return what came."""

    async def conversation() -> Exchange:
        peer = server.peer()
        try:
            await peer.send(*pieces)
            await server.loop.advance(seconds)
            if late:
                await peer.send(late)
            exchange = peer.take()
            exchange.closed = peer.transport.closing
            return exchange
        finally:
            await peer.drop()

    result: Exchange = server.run(conversation())
    return result


def test_rule_53_peer_that_never_answers_our_close_is_dropped(server: Server) -> None:
    data = handshake("/leave") + text("go")
    before = after(server, TIMEOUT - 2, data)
    assert before.frames == [Frame(CLOSE, close_body(1000))]
    assert not before.closed
    dropped = after(server, TIMEOUT + 2, data)
    assert dropped.closed
    assert dropped.frames == [Frame(CLOSE, close_body(1000))]


def test_rule_53_messages_do_not_put_the_close_timeout_off(server: Server) -> None:
    async def conversation() -> bool:
        peer = server.peer()
        try:
            await peer.send(handshake("/leave") + text("go"))
            for _ in range(int(TIMEOUT) + 2):
                await server.loop.advance(1)
                await peer.send(text("still here"), frame(PING, b"p"))
            return peer.transport.closing
        finally:
            await peer.drop()

    assert server.run(conversation())


def test_rule_53_answer_within_the_timeout_ends_at_once(server: Server) -> None:
    exchange = after(server, TIMEOUT - 2, handshake("/leave") + text("go"), late=close(1000))
    assert exchange.ended
    assert exchange.frames == [Frame(CLOSE, close_body(1000))]


@pytest.mark.parametrize("last", [close(1000), frame(0x3)], ids=["closed", "failed"])
def test_rule_53_peer_that_keeps_tcp_open_is_dropped(server: Server, last: bytes) -> None:
    assert after(server, TIMEOUT + 2, handshake() + last).closed


# 54, 55


def test_rule_54_lost_peer_is_sent_nothing(server: Server) -> None:
    async def conversation() -> Exchange:
        peer = server.peer()
        try:
            await peer.send(handshake() + frame(TEXT, b"half", fin=False))
            await peer.eof()
            await server.loop.advance(TIMEOUT + 2)
            return peer.take()
        finally:
            await peer.drop()

    exchange = server.run(conversation())
    assert exchange.closed
    assert all(one.close_code not in (1005, 1006, 1015) for one in exchange.frames)


def test_rule_54_close_without_a_code_is_answered_without_one_by_the_server(server: Server) -> None:
    assert server.exchange(handshake() + close()).rest == b"\x88\x00"


def shut_down(server: Server, *pieces: bytes, code: int | None = None, age: float = 0, patience: float = 0) -> Exchange:
    """Shut a connection down that is so many seconds old, and look at it so many seconds later."""

    async def conversation() -> Exchange:
        peer = server.peer()
        try:
            await peer.send(*pieces)
            await server.loop.advance(age)
            if code is None:
                peer.protocol.shutdown()
            else:
                peer.protocol.shutdown(code)
            await server.loop.advance(patience)
            return peer.take()
        finally:
            await peer.drop()

    result: Exchange = server.run(conversation())
    return result


@pytest.mark.parametrize(("code", "expected"), [(None, 1001), (1001, 1001), (1012, 1012), (1013, 1013)])
@pytest.mark.parametrize("target", ["/ws", "/leave"])
def test_rule_55_shutdown_sends_its_code(server: Server, target: str, code: int | None, expected: int) -> None:
    exchange = shut_down(server, handshake(target), code=code)
    assert [one.close_code for one in exchange.frames] == [expected]


def test_rule_55_shutdown_inside_a_message(server: Server) -> None:
    exchange = shut_down(server, handshake() + text("one") + frame(TEXT, b"half", fin=False))
    assert [one.opcode for one in exchange.frames] == [TEXT, CLOSE]
    assert exchange.frames[-1].close_code == 1001


def test_rule_55_shutdown_closes_an_idle_http_connection(server: Server) -> None:
    exchange = shut_down(server, age=1)
    assert (exchange.output, exchange.ended) == (b"", True)


@pytest.mark.parametrize(("patience", "ended"), [(0.4, False), (0.6, True)])
def test_rule_55_shutdown_leaves_a_new_connection_half_a_second(server: Server, patience: float, ended: bool) -> None:
    """For the request that may be on its way: its client could not know."""
    exchange = shut_down(server, age=0, patience=patience)
    assert (exchange.output, exchange.ended) == (b"", ended)


@loops
def test_rule_55_server_that_closes_sends_1001(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Each open connection gets its Close while the server ends."""

    async def main() -> bytes:
        app = make_app()
        server = await app.create_server(host="127.0.0.1", port=0, return_asyncio_server=True)
        await server.startup()
        await server.start_serving()
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(handshake() + text("one"))
        data = await reader.readuntil(b"\r\n\r\n")
        data += await reader.readexactly(5)
        closing = server.close()
        data += await asyncio.wait_for(reader.readexactly(2), 20)
        data += await asyncio.wait_for(reader.readexactly(data[-1]), 20)
        writer.write(close(1001))
        writer.close()
        await closing
        await server.wait_closed()
        return data

    with asyncio.Runner(loop_factory=make_loop) as runner:
        frames = frames_of(runner.run(main()))
    assert [one.opcode for one in frames] == [TEXT, CLOSE]
    assert frames[-1].close_code == 1001
