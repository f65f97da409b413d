"""``WebSocketConnection`` over channels made by hand."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from ferrows.exceptions import ConnectionClosedError, ConnectionClosedOK, ServerError, WebsocketClosed
from ferrows.server.websockets.connection import WebSocketConnection
from ferrows.websocket import State, Websocket

from .channels import CONNECT, Channels, disconnect, message, turns

SURFACE = """
    send recv recv_burst recv_streaming pause_frames resume_frames ping pong abort_pings keepalive_ping close
    end_connection auto_close_connection fail_connection wait_closed wait_for_connection_lost open closed client_state
    server_state close_code close_reason closed_by latency subprotocol messages_received bytes_received messages_sent
    bytes_sent __aiter__ __anext__
"""


async def accepted(channels: Channels, **options: Any) -> WebSocketConnection:
    ws = WebSocketConnection(channels.send, channels.receive, **options)
    await ws.accept()
    channels.sent.clear()
    return ws


def test_signatures_are_those_of_the_reference() -> None:
    assert list(inspect.signature(WebSocketConnection).parameters)[:3] == ["send", "receive", "subprotocols"]
    assert list(inspect.signature(WebSocketConnection.accept).parameters) == ["self", "subprotocols"]
    close = inspect.signature(WebSocketConnection.close).parameters
    assert {name: each.default for name, each in close.items() if name != "self"} == {"code": 1000, "reason": ""}


@pytest.mark.parametrize("name", SURFACE.split())
async def test_handler_finds_what_a_websocket_has(name: str) -> None:
    assert hasattr(await accepted(Channels()), name)
    assert hasattr(Websocket(asyncio.get_running_loop(), None), name)


async def test_receive_is_another_name_of_recv() -> None:
    assert await (await accepted(Channels(message("a")))).receive() == "a"


# ---- the opening handshake


@pytest.mark.parametrize(
    ("offered", "ours", "chosen"),
    [
        (["a", "b"], ["b", "a"], "b"),
        (["a"], ["b"], None),
        (["a"], None, None),
        ([], ["a"], None),
        (None, ["a"], None),
    ],
)
async def test_accept_chooses_the_servers_first(
    offered: list[str] | None, ours: list[str] | None, chosen: str | None
) -> None:
    channels = Channels()
    ws = WebSocketConnection(channels.send, channels.receive, offered)
    assert (ws.server_state, ws.client_state, ws.open) == (State.CONNECTING, State.CONNECTING, False)
    await ws.accept(ours)
    assert channels.sent == [{"type": "websocket.accept", "subprotocol": chosen, "headers": []}]
    assert (ws.subprotocol, ws.subprotocols) == (chosen, offered or [])
    assert (ws.server_state, ws.client_state, ws.open) == (State.OPEN, State.OPEN, True)


async def test_connect_event_that_nobody_has_received_is_no_message() -> None:
    ws = await accepted(Channels(CONNECT, message("first")))
    assert await ws.recv() == "first"


async def test_accept_of_a_client_that_left_raises() -> None:
    channels = Channels()
    channels.fail(OSError("gone"))
    ws = WebSocketConnection(channels.send, channels.receive)
    with pytest.raises(WebsocketClosed):
        await ws.accept()
    assert not ws.open


# ---- receiving


@pytest.mark.parametrize("event", [{"text": "a", "bytes": None}, {"text": "a"}])
async def test_text_is_str(event: dict[str, Any]) -> None:
    assert await (await accepted(Channels({"type": "websocket.receive", **event}))).recv() == "a"


@pytest.mark.parametrize("event", [{"text": None, "bytes": b"a"}, {"bytes": b"a"}])
async def test_binary_is_bytes(event: dict[str, Any]) -> None:
    assert await (await accepted(Channels({"type": "websocket.receive", **event}))).receive() == b"a"


@pytest.mark.parametrize(
    ("event", "code", "reason", "error"),
    [
        (disconnect(1000), 1000, "", ConnectionClosedOK),
        (disconnect(1001, "left"), 1001, "left", ConnectionClosedOK),
        ({"type": "websocket.disconnect"}, 1005, "", ConnectionClosedOK),
        ({"type": "websocket.disconnect", "code": 1006, "reason": None}, 1006, "", ConnectionClosedError),
        (disconnect(4000, "no"), 4000, "no", ConnectionClosedError),
    ],
)
async def test_end_comes_behind_the_messages(event: Any, code: int, reason: str, error: type[Exception]) -> None:
    ws = await accepted(Channels(message("one"), message("two"), event))
    await ws.wait_closed()
    assert [await ws.recv(), await ws.recv()] == ["one", "two"]
    for _ in range(2):
        with pytest.raises(error) as closed:
            await ws.recv()
        assert (closed.value.code, closed.value.reason) == (code, reason)  # type: ignore[attr-defined]
    assert (ws.close_code, ws.close_reason, ws.open, ws.closed) == (code, reason, False, True)
    assert ws.closed_by == ("network" if code == 1006 else "client")


@pytest.mark.parametrize("code", [1000, 1001, 1005, 1006])
async def test_iteration_ends_quietly(code: int) -> None:
    ws = await accepted(Channels(message("one"), disconnect(code)))
    assert [each async for each in ws] == ["one"]


@pytest.mark.parametrize("code", [1002, 1011, 1012, 4000])
async def test_iteration_raises_after_an_unclean_end(code: int) -> None:
    ws = await accepted(Channels(message("one"), disconnect(code)))
    received = []
    with pytest.raises(ConnectionClosedError):
        async for each in ws:
            received.append(each)
    assert received == ["one"]


async def test_cancelled_recv_leaves_the_message_to_the_next() -> None:
    channels = Channels()
    ws = await accepted(channels)
    receiving = asyncio.create_task(ws.recv())
    await turns()
    # The message is there and the task not yet awake when it is cancelled.
    channels.put(message("kept"))
    await asyncio.sleep(0)
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    assert await ws.recv(timeout=5) == "kept"


async def test_second_receiver_is_refused() -> None:
    ws = await accepted(Channels())
    receiving = asyncio.create_task(ws.recv())
    await turns()
    for receive in (ws.recv, ws.recv_burst, ws.__anext__, lambda: anext(ws.recv_streaming())):
        with pytest.raises(ServerError, match="another task"):
            await receive()
    receiving.cancel()


async def test_burst_takes_what_is_there() -> None:
    channels = Channels(*(message(str(number)) for number in range(5)))
    ws = await accepted(channels)
    await turns()
    assert await ws.recv_burst(3) == ["0", "1", "2"]
    assert await ws.recv_burst() == ["3", "4"]
    assert await ws.recv_burst() == []
    channels.put(message("last"), disconnect(1000))
    await ws.wait_closed()
    assert await ws.recv_burst() == ["last"]
    with pytest.raises(ConnectionClosedOK):
        await ws.recv_burst()


async def test_streaming_gives_a_message_as_one_fragment() -> None:
    ws = await accepted(Channels(message("whole"), message(b"")))
    assert [each async for each in ws.recv_streaming()] == ["whole"]
    assert [each async for each in ws.recv_streaming()] == [b""]


@pytest.mark.parametrize(
    ("options", "taken"), [({"max_queue": 3}, 3), ({"max_size": 4}, 4), ({"max_queue": None, "max_size": None}, 9)]
)
async def test_no_more_is_taken_from_the_server_than_may_wait(options: dict[str, Any], taken: int) -> None:
    channels = Channels(*(message("x") for _ in range(9)))
    ws = await accepted(channels, **options)
    await turns(20)
    assert channels.received == taken
    for _ in range(9):
        assert await ws.recv() == "x"
    assert channels.received == 9
    assert (ws.messages_received, ws.bytes_received) == (9, 9)


async def test_paused_connection_takes_nothing() -> None:
    channels = Channels()
    ws = await accepted(channels)
    await turns()
    ws.pause_frames()
    channels.put(message("one"), message("two"))
    await turns()
    # One was asked for before.
    assert channels.received == 1
    ws.resume_frames()
    assert [await ws.recv(), await ws.recv()] == ["one", "two"]


@pytest.mark.parametrize("data", ["x" * 11, b"x" * 11, "€€€€"])
async def test_longer_message_ends_with_1009(data: str | bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    channels = Channels(message("x" * 10), message(data), message("dropped"), disconnect(1009))
    ws = await accepted(channels, max_size=10)
    assert await ws.recv() == "x" * 10
    with pytest.raises(ConnectionClosedError) as closed:
        await ws.recv()
    size = len(data.encode()) if isinstance(data, str) else len(data)
    assert (closed.value.code, closed.value.reason) == (1009, f"message of {size} bytes, permitted 10")
    await ws.wait_closed()
    assert channels.sent == [{"type": "websocket.close", "code": 1009, "reason": closed.value.reason}]
    assert [record.name for record in caplog.records] == ["ferrows.websocket"]
    assert ws.closed_by == "server"


async def test_receive_that_fails_is_an_end_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def receive() -> Any:
        raise RuntimeError("no more")

    ws = WebSocketConnection(Channels().send, receive)
    with pytest.raises(ConnectionClosedError) as closed:
        await ws.recv()
    assert closed.value.code == 1006
    assert "no more" in caplog.text


# ---- sending


@pytest.mark.parametrize(
    ("data", "options", "event"),
    [
        ("a", {}, {"text": "a"}),
        (b"a", {"compress": False}, {"bytes": b"a"}),
        (bytearray(b"a"), {}, {"bytes": b"a"}),
        (memoryview(b"abc")[::2], {}, {"bytes": b"ac"}),
        ({"a": "ß"}, {"encoding": "json"}, {"text": '{"a":"ß"}'}),
        (b"a", {"encoding": "text"}, {"text": "a"}),
        ("a", {"encoding": "bytes"}, {"bytes": b"a"}),
        (["a", "b"], {}, {"text": "ab"}),
        (iter([b"a", memoryview(b"b")]), {}, {"bytes": b"ab"}),
        ([""], {}, {"text": ""}),
    ],
)
async def test_what_is_sent(data: Any, options: dict[str, Any], event: dict[str, Any]) -> None:
    channels = Channels()
    ws = await accepted(channels)
    await ws.send(data, **options)
    assert channels.sent == [{"type": "websocket.send", **event}]
    assert type(next(iter(event.values()))) is type(channels.sent[0].get("text", channels.sent[0].get("bytes")))


async def test_iterable_without_fragments_sends_nothing() -> None:
    channels = Channels()
    await (await accepted(channels)).send([])
    assert channels.sent == []


async def test_fragments_may_share_a_buffer() -> None:
    async def pieces() -> AsyncIterator[bytearray]:
        buffer = bytearray(1)
        for octet in b"abc":
            buffer[0] = octet
            yield buffer

    channels = Channels()
    await (await accepted(channels)).send(pieces())
    assert channels.sent[0]["bytes"] == b"abc"


@pytest.mark.parametrize("data", [1, None, {"a": 1}, ["a", b"b"], [b"a", "b"], [1], object()])
async def test_what_cannot_be_sent_is_a_type_error(data: Any) -> None:
    channels = Channels()
    ws = await accepted(channels)
    with pytest.raises(TypeError):
        await ws.send(data)
    assert channels.sent == []
    assert ws.open


async def test_iterable_that_raises_leaves_the_connection_open() -> None:
    def pieces() -> Iterator[str]:
        yield "half"
        raise LookupError("the rest")

    channels = Channels()
    ws = await accepted(channels)
    with pytest.raises(LookupError):
        await ws.send(pieces())
    await ws.send("next")
    assert channels.sent == [{"type": "websocket.send", "text": "next"}]


async def test_send_after_the_end_raises() -> None:
    ws = await accepted(Channels(disconnect(4001, "left")))
    await ws.wait_closed()
    with pytest.raises(ConnectionClosedError, match="4001: left"):
        await ws.send("late")


@pytest.mark.parametrize("failure", [OSError("gone"), RuntimeError("after websocket.close")])
async def test_refused_send_raises_what_the_disconnect_says(failure: Exception) -> None:
    channels = Channels()
    ws = await accepted(channels)
    channels.fail(failure)
    channels.put(message("before"), disconnect(4001, "left"))
    with pytest.raises(ConnectionClosedError, match="4001: left") as closed:
        await ws.send("late")
    assert closed.value.__cause__ is failure
    assert await ws.recv() == "before"


async def test_refused_send_without_a_disconnect_is_1006() -> None:
    channels = Channels()
    ws = await accepted(channels)
    channels.fail(OSError("gone"))
    for _ in range(2):
        with pytest.raises(ConnectionClosedError, match="1006"):
            await ws.send("late")
    assert (ws.open, ws.close_code, ws.close_reason, ws.server_state) == (False, 1006, "", State.CLOSED)
    # What the server knows still comes.
    channels.put(message("before"), disconnect(4001))
    assert await ws.recv() == "before"
    with pytest.raises(ConnectionClosedError, match="4001"):
        await ws.recv()


async def test_other_error_of_the_server_is_the_senders() -> None:
    channels = Channels()
    ws = await accepted(channels)
    channels.fail(RuntimeError("a bug"), after=0)
    with pytest.raises(RuntimeError, match="a bug"):
        await ws.send("x")
    assert ws.open


async def test_sender_that_never_waits_lets_others_run() -> None:
    channels = Channels()
    ws = await accepted(channels)
    channels.put(disconnect(1001))
    with pytest.raises(ConnectionClosedOK):
        for _ in range(10_000):
            await ws.send("x")
    assert ws.messages_sent == ws.bytes_sent == len(channels.sent) < 200


# ---- ping and pong


async def test_ping_is_refused_and_pong_is_nothing() -> None:
    channels = Channels()
    ws = await accepted(channels)
    with pytest.raises(ServerError, match="cannot ping"):
        await ws.ping()
    await ws.pong(b"x")
    ws.abort_pings()
    assert (channels.sent, ws.latency, ws.open) == ([], 0.0, True)


async def test_keepalive_lasts_as_long_as_the_connection() -> None:
    channels = Channels()
    ws = await accepted(channels)
    keepalive = asyncio.create_task(ws.keepalive_ping())
    await turns()
    assert not keepalive.done()
    channels.put(disconnect(1000))
    await asyncio.wait_for(keepalive, 5)


# ---- closing


async def test_close_sends_one_close() -> None:
    channels = Channels()
    ws = await accepted(channels)
    await ws.close(4000, "done")
    await ws.close(4001, "again")
    ws.end_connection(4002)
    assert channels.sent == [{"type": "websocket.close", "code": 4000, "reason": "done"}]
    assert (ws.close_code, ws.close_reason, ws.closed_by) == (4000, "done", "server")
    assert (ws.server_state, ws.client_state) == (State.CLOSED, State.CLOSED)
    with pytest.raises(ConnectionClosedError, match="4000"):
        await ws.send("late")


async def test_close_of_a_client_that_left_sends_nothing() -> None:
    channels = Channels(disconnect(1001))
    ws = await accepted(channels)
    await ws.wait_closed()
    await ws.close()
    assert channels.sent == []
    assert ws.close_code == 1001


@pytest.mark.parametrize(("code", "reason"), [(1005, ""), (1006, ""), (999, ""), (5000, ""), (1000, "x" * 124)])
async def test_close_that_may_not_be_sent_is_a_value_error(code: int, reason: str) -> None:
    ws = await accepted(Channels())
    with pytest.raises(ValueError):
        await ws.close(code, reason)
    assert ws.open


async def test_messages_before_our_close_can_still_be_received() -> None:
    channels = Channels(message("before"))
    ws = await accepted(channels)
    await turns()
    await ws.close(1000)
    channels.put(message("after"))
    await turns()
    assert await ws.recv() == "before"
    with pytest.raises(ConnectionClosedOK):
        await ws.recv()


async def test_close_wakes_who_receives() -> None:
    ws = await accepted(Channels())
    receiving = asyncio.create_task(ws.recv())
    await turns()
    ws.end_connection(4000)
    assert ws.server_state == State.CLOSING
    with pytest.raises(ConnectionClosedError, match="4000"):
        await asyncio.wait_for(receiving, 5)


@pytest.mark.parametrize("full", [True, False])
async def test_after_our_close_the_server_gets_rid_of_what_it_has(full: bool) -> None:
    channels = Channels(*(message("x") for _ in range(9)))
    ws = await accepted(channels, max_queue=2 if full else 32)
    await turns()
    await ws.close()
    channels.put(disconnect(1000))
    await turns(20)
    assert channels.incoming.empty()


async def test_close_that_the_server_does_not_take_is_given_up() -> None:
    async def send(event: Any) -> None:
        if event["type"] == "websocket.close":
            await asyncio.Event().wait()

    ws = WebSocketConnection(send, Channels().receive, close_timeout=0.01)
    await ws.accept()
    await asyncio.wait_for(ws.close(), 5)
    assert ws.closed


async def test_failing_a_connection() -> None:
    channels = Channels()
    ws = await accepted(channels)
    assert ws.fail_connection()
    assert not ws.fail_connection(1002)
    await ws.wait_closed()
    assert channels.sent == [{"type": "websocket.close", "code": 1011, "reason": ""}]


async def test_waiting_for_the_end_within_a_time() -> None:
    channels = Channels()
    ws = await accepted(channels)
    assert not await ws.wait_for_connection_lost(0.01)
    await ws.auto_close_connection()
    assert await ws.wait_for_connection_lost(5)
    assert channels.sent[-1]["code"] == 1000


async def test_release_leaves_nothing_running() -> None:
    before = asyncio.all_tasks()
    ws = await accepted(Channels())
    ws.end_connection(1001)
    await ws.release()
    assert asyncio.all_tasks() == before
    assert ws.closed
    assert repr(ws).startswith("<WebSocketConnection closed")
    assert ws in {ws}


async def test_application_of_ones_own() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        ws = WebSocketConnection(send, receive, scope["subprotocols"])
        await ws.accept(["v1"])
        async for each in ws:
            await ws.send(f"{ws.subprotocol}: {each}")
        await ws.release()

    channels = Channels(CONNECT, message("hello"))
    calling = asyncio.create_task(application({"subprotocols": ["v1"]}, channels.receive, channels.send))
    await turns(10)
    channels.put(disconnect(1000))
    await asyncio.wait_for(calling, 5)
    assert channels.sent == [
        {"type": "websocket.accept", "subprotocol": "v1", "headers": []},
        {"type": "websocket.send", "text": "v1: hello"},
    ]
