"""send, ping, pong and close of a Websocket, on the codec that is in use."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ferrows.exceptions import ConnectionClosedError, ConnectionClosedOK, WebsocketClosed
from ferrows.websocket import SENDS_A_TURN, State, Websocket

from .harness import Peer, close, echo, frame, frames, text, turns


@pytest.mark.parametrize(
    ("data", "encoding", "expected"),
    [
        ("text", None, (1, b"text")),
        ("grün", None, (1, "grün".encode())),
        ("", None, (1, b"")),
        (b"bytes", None, (2, b"bytes")),
        (bytearray(b"array"), None, (2, b"array")),
        (memoryview(b"view"), None, (2, b"view")),
        (memoryview(b"every second")[::2], None, (2, b"eeyscn")),
        ("text", "text", (1, b"text")),
        (b"text", "text", (1, b"text")),
        (b"bytes", "bytes", (2, b"bytes")),
        ("bytes", "bytes", (2, b"bytes")),
        ({"ä": [1, None]}, "json", (1, '{"ä":[1,null]}'.encode())),
        ([1, 2], "json", (1, b"[1,2]")),
        ("quoted", "json", (1, b'"quoted"')),
    ],
)
async def test_send(data: Any, encoding: str | None, expected: tuple[int, bytes]) -> None:
    peer = Peer()
    await peer.ws.send(data, encoding)
    assert peer.sent == [expected]


async def test_send_of_a_subclass_of_str_or_bytes() -> None:
    class Text(str):
        pass

    class Binary(bytes):
        pass

    peer = Peer()
    await peer.ws.send(Text("a"))
    await peer.ws.send(Binary(b"b"))
    assert peer.sent == [(1, b"a"), (2, b"b")]


@pytest.mark.parametrize(
    ("data", "encoding", "error"),
    [
        ({"a": 1}, None, TypeError),
        (5, None, TypeError),
        (None, None, TypeError),
        ([1], None, TypeError),
        (["a", b"b"], None, TypeError),
        ({1, 2}, "json", TypeError),
        ("a", "xml", ValueError),
        ("\ud800", None, UnicodeEncodeError),
        (b"\xff", "text", UnicodeDecodeError),
    ],
)
async def test_what_cannot_be_sent_raises_when_awaited_not_when_called(
    data: Any, encoding: str | None, error: type[Exception]
) -> None:
    peer = Peer()
    sending = peer.ws.send(data, encoding)
    with pytest.raises(error):
        await sending


async def test_send_is_a_coroutine_for_asyncio() -> None:
    peer = Peer()
    await asyncio.gather(peer.ws.send("a"), peer.ws.send("b"), asyncio.create_task(peer.ws.send("c")))
    assert [payload for _, payload in peer.sent] == [b"a", b"b", b"c"]
    with pytest.raises(KeyError):
        peer.ws.send("d").throw(KeyError)
    peer.ws.send("e").close()


async def test_an_iterable_is_sent_as_one_fragmented_message() -> None:
    peer = Peer()
    await peer.ws.send(["a", "b"])
    await peer.ws.send(piece for piece in (b"c", bytearray(b"d")))
    await peer.ws.send([])
    assert peer.sent == [(0x11, b"a"), (0x10, b"b"), (0, b""), (0x12, b"c"), (0x10, b"d"), (0, b"")]
    assert peer.ws.messages_sent == 2


async def test_each_fragment_of_an_async_iterable_leaves_at_once() -> None:
    peer = Peer()
    gate = asyncio.Event()

    async def tokens() -> AsyncIterator[str]:
        yield "first"
        await gate.wait()
        yield "second"

    task = await peer.handle(lambda ws: ws.send(tokens()))  # type: ignore[arg-type, return-value]
    assert peer.sent == [(0x11, b"first")]

    other = await peer.handle(lambda ws: ws.send("other"))  # type: ignore[arg-type, return-value]
    peer.ws.send_ping(b"control frames may come between")
    assert not other.done()
    gate.set()
    await asyncio.gather(task, other)
    assert peer.sent[1:] == [(9, b"control frames may come between"), (0x10, b"second"), (0, b""), (1, b"other")]


async def test_an_iterable_that_raises_half_way_ends_the_connection_with_1011() -> None:
    peer = Peer()

    def pieces() -> Any:
        yield "a"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await peer.ws.send(pieces())
    assert peer.sent[-1][0] == 8
    assert peer.sent[-1][1][:2] == (1011).to_bytes(2, "big")
    with pytest.raises(ConnectionClosedError) as caught:
        await peer.ws.send("more")
    assert caught.value.code == 1011


async def test_send_suspends_while_the_peer_does_not_read_and_keeps_the_order() -> None:
    peer = Peer()
    peer.ws.pause_writing()

    async def handler(ws: Websocket) -> None:
        await ws.send("a")
        await ws.send(["b"])
        await ws.send("c")

    task = await peer.handle(handler)
    assert peer.sent == []
    peer.ws.resume_writing()
    await task
    assert [payload for _, payload in peer.sent] == [b"a", b"b", b"", b"c"]


async def test_a_send_that_waits_for_the_peer_learns_of_the_end() -> None:
    peer = Peer()
    peer.ws.pause_writing()
    tasks = [await peer.handle(lambda ws: ws.send("never")) for _ in range(2)]  # type: ignore[arg-type, return-value]
    tasks[0].cancel()
    await turns()
    assert not tasks[1].done()
    await peer.lose()
    with pytest.raises(ConnectionClosedError):
        await tasks[1]
    assert peer.sent == []


async def test_a_peer_that_stops_reading_in_the_middle_of_a_corked_write_suspends_the_handler() -> None:
    peer = Peer(max_size=2**20)
    peer.transport.on_write = lambda data: peer.ws.pause_writing()
    sent: list[int] = []

    async def handler(ws: Websocket) -> None:
        await ws.recv()
        for number in range(100):
            await ws.send(bytes(10_000))
            sent.append(number)

    task = await peer.handle(handler)
    await peer.feed(text("go"))
    assert 5 <= len(sent) <= 8  # 64 KiB of cork, then the transport's word counts
    assert len(peer.transport.writes) == 1
    peer.transport.on_write = None
    peer.ws.resume_writing()
    await task
    assert len(peer.sent) == 100


async def test_a_peer_that_does_not_read_gets_the_latest_pong_only() -> None:
    peer = Peer()
    peer.ws.pause_writing()
    await peer.feed(*(frame(9, b"%d" % number) for number in range(1000)))
    assert peer.sent == []
    peer.ws.resume_writing()
    assert peer.sent == [(10, b"999")]


async def test_sends_inside_and_outside_a_batch_keep_their_order() -> None:
    peer = Peer()

    async def handler(ws: Websocket) -> None:
        await ws.send("before")
        await ws.recv()
        await ws.send("batch")
        await asyncio.sleep(0)
        await ws.send("after")

    task = await peer.handle(handler)
    await peer.feed(text("go"))
    await task
    assert [payload for _, payload in peer.sent] == [b"before", b"batch", b"after"]


async def test_another_task_that_sends_while_a_batch_runs_comes_behind_it() -> None:
    peer = Peer()
    tasks: list[asyncio.Task[None]] = []

    async def other(ws: Websocket) -> None:
        await ws.send("from another task")

    async def handler(ws: Websocket) -> None:
        async for message in ws:
            await ws.send(message)
            if message == "a":
                tasks.append(asyncio.create_task(other(ws)))

    task = await peer.handle(handler)
    await peer.feed(text("a") + text("b") + text("c"))
    await asyncio.gather(*tasks)
    assert [frames(write) for write in peer.transport.writes] == [
        [(1, b"a"), (1, b"b"), (1, b"c")],
        [(1, b"from another task")],
    ]
    await peer.feed(text("d") + close())
    await task
    assert [payload for _, payload in peer.sent][:-1] == [b"a", b"b", b"c", b"from another task", b"d"]


async def test_another_thread_sends_by_call_soon_threadsafe() -> None:
    peer = Peer()
    await asyncio.to_thread(lambda: peer.loop.call_soon_threadsafe(peer.ws.send, "from a thread"))
    await turns()
    assert peer.sent == [(1, b"from a thread")]


async def test_coroutine_for_the_loop_sends_on_the_loops_thread() -> None:
    """As docs/handlers.md has it: a plain send is done when it is called, on whatever thread that is."""
    peer = Peer()
    threads = []
    write = peer.transport.write
    peer.transport.write = lambda data: (threads.append(threading.get_ident()), write(data))  # type: ignore[method-assign,assignment]

    async def deliver() -> None:
        await peer.ws.send("from a thread")

    await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(deliver(), peer.loop).result(10))
    assert peer.sent == [(1, b"from a thread")]
    assert threads == [threading.get_ident()]


async def test_send_raises_once_the_connection_is_closed() -> None:
    peer = Peer()
    await peer.handle(echo)
    await peer.feed(close(1000))
    for data in ("a", b"b", ["c"], {"d": 1}):
        with pytest.raises(ConnectionClosedOK):
            await peer.ws.send(data, "json" if isinstance(data, dict) else None)
    results = await asyncio.gather(peer.ws.send("a"), peer.ws.send("b"), return_exceptions=True)
    assert [type(result) for result in results] == [ConnectionClosedOK, ConnectionClosedOK]


# ---- ping and pong


async def test_a_ping_returns_a_future_of_the_round_trip_time() -> None:
    peer = Peer()
    future = await peer.ws.ping()
    opcode, payload = peer.sent[0]
    assert (opcode, len(payload)) == (9, 4)
    assert not future.done()
    await peer.feed(frame(10, payload))
    assert await future >= 0
    assert peer.ws.latency == await future


async def test_a_pong_resolves_the_earlier_pings_as_well() -> None:
    peer = Peer()
    first, second, third = [await peer.ws.ping(data) for data in ("1", b"2", bytearray(b"3"))]
    await peer.feed(frame(10, b"2"))
    assert (first.done(), second.done(), third.done()) == (True, True, False)


async def test_a_payload_in_flight_and_one_that_is_too_long_are_value_errors() -> None:
    peer = Peer()
    await peer.ws.ping(b"same")
    with pytest.raises(ValueError, match="in flight"):
        await peer.ws.ping(b"same")
    with pytest.raises(ValueError):
        await peer.ws.ping(bytes(126))
    with pytest.raises(ValueError):
        await peer.ws.pong(bytes(126))
    await peer.feed(frame(10, b"same"))
    await peer.ws.ping(b"same")
    assert len(peer.sent) == 2


async def test_an_unasked_pong_is_ignored() -> None:
    peer = Peer()
    await peer.feed(frame(10, b"?") + text("a"))
    assert await peer.ws.recv() == "a"
    assert peer.sent == []


async def test_a_ping_in_flight_at_the_end_fails_without_a_complaint_of_the_loop() -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    peer = Peer()
    future = await peer.ws.ping()
    ignored = await peer.ws.ping()
    await peer.lose()
    with pytest.raises(ConnectionClosedError):
        await future
    del ignored, future
    gc.collect()
    await turns()
    assert complaints == []
    with pytest.raises(WebsocketClosed):
        await peer.ws.ping()


async def test_pong_is_sent_unasked_and_nothing_once_closing() -> None:
    peer = Peer()
    await peer.ws.pong("beat")
    peer.ws.end_connection()
    await peer.ws.pong("beat")
    assert [opcode for opcode, _ in peer.sent] == [10, 8]


# ---- closing


async def test_close_performs_the_closing_handshake_then_ends_tcp_by_fin() -> None:
    peer = Peer()
    task = await peer.handle(lambda ws: ws.close(4000, "enough"))
    assert peer.sent == [(8, (4000).to_bytes(2, "big") + b"enough")]
    assert (peer.ws.open, peer.ws.closed, peer.ws.server_state) == (False, False, State.CLOSING)
    await peer.feed(text("still on its way") + close(4000))
    assert peer.transport.calls == ["write_eof"]
    assert not task.done()
    await peer.lose()
    await task
    assert (peer.ws.close_code, peer.ws.close_reason, peer.ws.closed_by) == (4000, "enough", "server")
    await peer.ws.close()
    assert len(peer.sent) == 1


async def test_close_drops_a_peer_that_does_not_answer() -> None:
    peer = Peer(close_timeout=0.001)
    task = await peer.handle(lambda ws: ws.close())
    while "abort" not in peer.transport.calls:
        await asyncio.sleep(0.001)
    await peer.lose()
    await task
    assert peer.ws.close_code == 1006


async def test_a_peer_that_does_not_end_tcp_after_the_closing_handshake_is_dropped() -> None:
    peer = Peer(close_timeout=0.001)
    await peer.feed(close())
    assert peer.transport.calls[:1] == ["write_eof"]
    while "abort" not in peer.transport.calls:
        await asyncio.sleep(0.001)


async def test_a_transport_that_cannot_half_close_is_closed() -> None:
    peer = Peer(half_close=False)
    await peer.feed(close())
    assert peer.transport.calls == ["close"]


async def test_closing_reads_on_for_the_peers_close_but_keeps_no_more_than_the_limit() -> None:
    peer = Peer(max_queue=2)
    await peer.feed(text("x") * 2)
    assert peer.transport.calls == ["pause_reading"]
    task = await peer.handle(lambda ws: ws.close())
    assert peer.transport.calls == ["pause_reading", "resume_reading"]
    await peer.feed(text("x") * 1000)
    assert peer.ws.queued == 2
    await peer.feed(close())
    await peer.lose()
    await task


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000])
async def test_a_close_code_that_may_not_be_sent_is_a_value_error(code: int) -> None:
    peer = Peer()
    with pytest.raises(ValueError, match=str(code)):
        await peer.ws.close(code)
    with pytest.raises(ValueError, match="123"):
        await peer.ws.close(1000, "ü" * 62)
    assert peer.sent == []


async def test_states_and_codes_over_a_connections_life() -> None:
    peer = Peer(subprotocol="chat")
    ws = peer.ws
    assert (ws.open, ws.closed, ws.close_code, ws.close_reason, ws.subprotocol) == (True, False, None, None, "chat")
    assert (ws.client_state, ws.server_state) == (State.OPEN, State.OPEN)
    await peer.feed(close(1001, "tab closed"))
    assert (ws.open, ws.closed, ws.close_code, ws.close_reason) == (False, True, 1001, "tab closed")
    assert (ws.client_state, ws.server_state, ws.closed_by) == (State.CLOSING, State.CLOSED, "client")
    assert "closed" in repr(ws)
    await peer.lose()
    assert (ws.client_state, ws.server_state) == (State.CLOSED, State.CLOSED)
    await ws.wait_closed()
    assert await ws.wait_for_connection_lost(1)


async def test_wait_for_connection_lost_gives_up_after_its_timeout() -> None:
    peer = Peer()
    assert not await peer.ws.wait_for_connection_lost(0.001)


async def test_a_websocket_lives_in_a_set_and_takes_attributes() -> None:
    peer, other = Peer(), Peer()
    assert len({peer.ws, other.ws, peer.ws}) == 2
    peer.ws.name = "ada"  # type: ignore[attr-defined]
    assert json.dumps(peer.ws.name) == '"ada"'  # type: ignore[attr-defined]


async def test_fail_connection_sends_its_code_and_1006_drops() -> None:
    peer = Peer()
    assert peer.ws.fail_connection(1008, "policy")
    assert peer.sent == [(8, (1008).to_bytes(2, "big") + b"policy")]
    assert not peer.ws.fail_connection(1008)
    assert peer.ws.fail_connection()
    assert peer.transport.calls == ["write_eof", "abort"]
    await peer.lose()
    assert not peer.ws.fail_connection()


async def test_auto_close_connection_closes_with_1000() -> None:
    peer = Peer()
    task = await peer.handle(lambda ws: ws.auto_close_connection())
    assert peer.sent == [(8, (1000).to_bytes(2, "big"))]
    await peer.lose()
    await task


async def test_close_while_corked_comes_after_what_was_sent() -> None:
    peer = Peer()

    async def handler(ws: Websocket) -> None:
        await ws.send(await ws.recv())
        await ws.close()

    task = await peer.handle(handler)
    await peer.feed(text("last words"))
    assert [opcode for opcode, _ in peer.sent] == [1, 8]
    await peer.feed(close())
    await peer.lose()
    await task


async def test_nothing_is_sent_after_a_close() -> None:
    peer = Peer()
    peer.ws.end_connection(1001)
    await peer.feed(frame(9, b"?"))
    with pytest.raises(ConnectionClosedOK):
        await peer.ws.send("late")
    assert [opcode for opcode, _ in peer.sent] == [8]


async def test_keepalive_ping_by_hand_fails_a_silent_peer() -> None:
    peer = Peer(ping_interval=0.001, ping_timeout=0.001)
    await peer.ws.keepalive_ping()
    assert [opcode for opcode, _ in peer.sent] == [9, 8]
    assert peer.ws.close_code == 1011
    await Peer(ping_interval=None).ws.keepalive_ping()
    ended = Peer(ping_interval=0.001)
    await ended.lose()
    await ended.ws.keepalive_ping()


# ---- what a review found


async def test_senders_that_wait_take_turns() -> None:
    peer = Peer()
    sent: list[str] = []

    async def sender(name: str) -> None:
        for _ in range(5):
            await peer.ws.send(name)
            sent.append(name)

    def fill(data: bytes) -> None:
        peer.ws.pause_writing()
        peer.loop.call_soon(peer.ws.resume_writing)

    peer.transport.on_write = fill
    await asyncio.gather(sender("a"), sender("b"), sender("c"))
    assert sorted(sent) == sorted("abc" * 5)
    for count in range(len(sent)):
        shares = [sent[:count].count(name) for name in "abc"]
        assert max(shares) - min(shares) <= 2, sent


async def test_a_sender_that_is_cancelled_passes_its_turn_on() -> None:
    peer = Peer()
    peer.ws.pause_writing()
    tasks = [asyncio.create_task(peer.ws._send_slowly(name, None)) for name in "abc"]
    await turns()
    peer.ws.resume_writing()
    tasks[0].cancel()  # after it was given the turn, before it has run
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [payload for _, payload in peer.sent] == [b"b", b"c"]
    await peer.ws.send("d")
    assert peer.sent[-1] == (1, b"d")


async def test_a_message_begun_from_a_source_that_closed_ends_the_connection() -> None:
    peer, source = Peer(), Peer()
    await source.feed(text("a", fin=False))
    relay = asyncio.create_task(peer.ws.send(source.ws.recv_streaming()))
    await turns()
    await source.lose()
    with pytest.raises(ConnectionClosedError):
        await relay
    assert peer.sent[0] == (0x11, b"a")
    assert peer.sent[1][1][:2] == (1011).to_bytes(2, "big")
    with pytest.raises(ConnectionClosedError):
        await peer.ws.send("unrelated")


async def test_none_is_no_fragment() -> None:
    peer = Peer()

    async def pieces() -> AsyncIterator[Any]:
        yield "a"
        yield None

    with pytest.raises(TypeError, match="NoneType"):
        await peer.ws.send(pieces())


async def test_close_after_the_peer_ended_tcp_without_a_close_does_not_raise_and_is_the_networks() -> None:
    peer = Peer()

    async def handler(ws: Websocket) -> None:
        try:
            await ws.recv()
        finally:
            await ws.close()

    task = await peer.handle(handler)
    peer.loop.call_soon(peer.ws.receive_eof)
    await turns()
    await peer.lose()
    with pytest.raises(ConnectionClosedError):
        await task
    assert (peer.ws.close_code, peer.ws.closed_by) == (1006, "network")


async def test_a_peer_that_still_reads_what_was_sent_before_is_not_dropped() -> None:
    peer = Peer(close_timeout=100)
    peer.transport.unsent = 1000
    await peer.handle(lambda ws: ws.close())
    for unsent in (800, 400, 0):
        peer.transport.unsent = unsent
        peer.ws.deadline_passed()
        assert "abort" not in peer.transport.calls
    peer.ws.deadline_passed()
    assert "abort" in peer.transport.calls
    await peer.lose()


async def test_a_transport_that_cannot_half_close_is_dropped_in_time_too() -> None:
    peer = Peer(half_close=False, close_timeout=0.001)
    await peer.feed(close())
    while peer.transport.calls != ["close", "abort"]:
        await asyncio.sleep(0.001)


async def test_a_transport_that_is_gone_when_tcp_is_to_end_is_dropped() -> None:
    peer = Peer()

    def write_eof() -> None:
        raise OSError(107, "not connected")

    peer.transport.write_eof = write_eof  # type: ignore[method-assign]
    await peer.feed(close())
    assert peer.transport.calls == ["abort"]


async def test_a_lost_transport_may_look_at_its_connection_when_it_is_finalized() -> None:
    peer = Peer()
    seen: list[bool] = []

    class Transport(type(peer.transport)):  # type: ignore[misc]
        def __del__(self) -> None:
            seen.append(ws.closed)

    ws = Websocket(peer.loop, Transport())
    ws.lose_transport()
    gc.collect()
    assert seen == [True]
    with pytest.raises(ConnectionClosedError):
        await ws.send("\ud800")


@pytest.mark.parametrize("kind", ["plain", "fed", "json", "fragments"])
async def test_handler_that_only_sends_lets_others_run(kind: str) -> None:
    """A transport whose peer is gone takes everything, and only a turn of the loop can tell that it is gone."""
    peer = Peer()
    others = 0

    def other() -> None:
        nonlocal others
        others += 1
        if not task.done():
            asyncio.get_running_loop().call_soon(other)

    async def flood(ws: Websocket) -> None:
        if kind == "fed":
            await ws.recv()
        if kind == "fragments":
            await ws.send("x" for _ in range(2_000))
        else:
            for _ in range(2_000):
                await ws.send({} if kind == "json" else "x", "json" if kind == "json" else None)  # type: ignore[arg-type]

    task = asyncio.ensure_future(flood(peer.ws))
    asyncio.get_running_loop().call_soon(other)
    if kind == "fed":
        await turns(2)
        await peer.feed(text("go"))
    await task
    assert others >= 3
    assert len([sent for sent in peer.sent if sent[1] in (b"x", b"{}")]) >= 2_000


async def test_sends_that_are_answers_never_give_way() -> None:
    peer = Peer()

    async def handler(ws: Websocket) -> None:
        async for message in ws:
            sending = ws.send(message)
            with pytest.raises(StopIteration):
                sending.send(None)

    task = await peer.handle(handler)
    for _ in range(600):
        await peer.feed(text("x"))
    assert len(peer.sent) == 600
    await peer.lose()
    with pytest.raises(ConnectionClosedError):
        await task


async def test_giving_way_is_a_coroutine() -> None:
    peer = Peer()
    for _ in range(SENDS_A_TURN - 1):
        await peer.ws.send("x")
    sending = peer.ws.send("x")
    assert asyncio.iscoroutine(sending)
    sending.close()
    for _ in range(SENDS_A_TURN):
        await asyncio.create_task(peer.ws.send("x"))
    for _ in range(SENDS_A_TURN):
        unawaited = peer.ws.send("x")  # no warning
    del unawaited
    giving_way = peer.ws._give_way()
    assert giving_way.send(None) is None
    with pytest.raises(ZeroDivisionError):
        giving_way.throw(ZeroDivisionError())
    assert len(peer.sent) == SENDS_A_TURN * 3


@pytest.mark.parametrize("burst", [False, True])
async def test_answers_to_what_came_before_a_close_are_all_sent(burst: bool) -> None:
    """However many: a handler that gave way between them would find the Close answered."""
    peer = Peer(max_queue=None)

    async def by_bursts(ws: Websocket) -> None:
        async for message in ws:
            await ws.send(message)
            for waiting in await ws.recv_burst():
                await ws.send(waiting)

    task = await peer.handle(by_bursts if burst else echo)
    await peer.feed(b"".join(text(str(number)) for number in range(1300)) + close(1000))
    await task
    assert [payload for opcode, payload in peer.sent if opcode == 1] == [str(number).encode() for number in range(1300)]


# ---- what is easily got wrong


async def _words() -> str:
    return "hello"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (42, r'cannot send int, permitted: str, bytes-like, .* encoding="json"'),
        (None, "cannot send NoneType"),
        ({"a": 1}, r'cannot send dict without encoding="json"'),
        ([1, 2], r'cannot send int as a fragment, .* a list as JSON goes with encoding="json"'),
    ],
)
async def test_send_of_another_type_says_what_would_do(data: Any, message: str) -> None:
    peer = Peer()
    with pytest.raises(TypeError, match=message):
        await peer.ws.send(data)
    assert peer.sent == []
    assert peer.ws.open


async def test_send_of_what_was_not_awaited() -> None:
    peer = Peer()
    words = _words()
    with pytest.raises(TypeError, match="cannot send coroutine: it was not awaited"):
        await peer.ws.send(words)
    words.close()
    with pytest.raises(TypeError, match="cannot send Receive: it was not awaited"):
        await peer.ws.send(peer.ws.recv())
    assert peer.ws.open


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("bye",), TypeError, r"close code must be an int, not 'bye': close\(code, reason\)"),
        ((None,), TypeError, "close code must be an int, not None"),
        ((1000, b"bye"), TypeError, "close reason must be a str, not bytes"),
        ((1000, None), TypeError, "close reason must be a str, not NoneType"),
        ((1006,), ValueError, "close code 1006 may not be sent"),
    ],
)
async def test_close_with_what_it_cannot_say(arguments: Any, error: type[Exception], message: str) -> None:
    peer = Peer()
    with pytest.raises(error, match=message):
        await peer.ws.close(*arguments)
    assert peer.ws.open


async def test_ping_and_pong_with_a_number_are_errors() -> None:
    peer = Peer()
    with pytest.raises(TypeError, match="carry str or bytes-like, not int"):
        await peer.ws.ping(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="carry str or bytes-like, not int"):
        await peer.ws.pong(5)  # type: ignore[arg-type]
    assert peer.sent == []
