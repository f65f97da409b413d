"""recv, iteration, bursts and streaming of a Websocket, on the codec that is in use."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ferrows.exceptions import ConnectionClosedError, ConnectionClosedOK, ServerError, WebsocketClosed
from ferrows.websocket import Websocket

from .harness import Peer, close, echo, frame, text, turns


async def test_messages_of_one_read_are_echoed_in_one_write_before_receive_data_returns() -> None:
    peer = Peer()
    await peer.handle(echo)

    seen: list[int] = []
    peer.loop.call_soon(
        lambda: (peer.ws.receive_data(text("a") + text("b") + frame(2, b"c")), seen.append(len(peer.transport.writes)))
    )
    await turns(1)
    assert seen == [1]
    assert peer.sent == [(1, b"a"), (1, b"b"), (2, b"c")]


async def test_a_message_is_str_for_text_and_bytes_for_binary() -> None:
    peer = Peer()
    await peer.feed(text("grün") + frame(2, b"\x00\xff") + text(""))
    assert [await peer.ws.recv() for _ in range(3)] == ["grün", b"\x00\xff", ""]


async def test_iteration_ends_quietly_after_a_clean_close_and_code_after_the_loop_may_await() -> None:
    for code in (1000, 1001, None):
        peer = Peer()
        steps: list[str] = []

        async def handler(ws: Websocket, steps: list[str] = steps) -> None:
            try:
                async for message in ws:
                    steps.append(str(message))
            finally:
                await asyncio.sleep(0)
                steps.append("finally")
            steps.append("after")

        task = await peer.handle(handler)
        await peer.feed(text("one") + text("two") + close(code))
        await task
        assert steps == ["one", "two", "finally", "after"]
        assert peer.ws.close_code == (code or 1005)


@pytest.mark.parametrize("code", [1002, 1011, 3000, 4999])
async def test_iteration_raises_after_any_other_close(code: int) -> None:
    peer = Peer()
    task = await peer.handle(echo)
    await peer.feed(close(code, "why"))
    with pytest.raises(ConnectionClosedError, match="why") as caught:
        await task
    assert (caught.value.code, caught.value.reason) == (code, "why")


async def test_losing_the_transport_without_a_close_is_1006() -> None:
    peer = Peer()
    task = await peer.handle(echo)
    await peer.lose()
    with pytest.raises(ConnectionClosedError) as caught:
        await task
    assert caught.value.code == peer.ws.close_code == 1006
    assert peer.ws.closed_by == "network"


async def test_messages_that_arrived_before_the_close_are_delivered_and_can_be_answered() -> None:
    peer = Peer()
    await peer.handle(echo)
    await peer.feed(text("a") + text("b") + close(1000))
    assert peer.sent == [(1, b"a"), (1, b"b"), (8, b"\x03\xe8")]


async def test_messages_that_arrived_whole_before_a_broken_frame_are_delivered_and_answered() -> None:
    peer = Peer()
    task = await peer.handle(echo)
    await peer.feed(text("a") + b"\xf1\x00")
    opcodes = [opcode for opcode, _ in peer.sent]
    assert opcodes == [1, 8]
    assert peer.sent[1][1][:2] == (1002).to_bytes(2, "big")
    with pytest.raises(ConnectionClosedError) as caught:
        await task
    assert caught.value.code == peer.ws.close_code == 1002
    assert peer.ws.closed_by == "server"


async def test_recv_delivers_what_arrived_and_then_raises_again_and_again() -> None:
    peer = Peer()
    await peer.feed(text("a") + close(1000, "bye"))
    assert await peer.ws.recv() == "a"
    for _ in range(2):
        with pytest.raises(ConnectionClosedOK) as caught:
            await peer.ws.recv()
        assert (caught.value.code, caught.value.reason) == (1000, "bye")


async def test_a_timeout_raises_and_the_next_recv_works() -> None:
    peer = Peer()

    async def handler(ws: Websocket) -> Any:
        with pytest.raises(TimeoutError):
            await ws.recv(timeout=0)
        return await ws.recv(timeout=5)

    task = await peer.handle(handler)
    await peer.feed(text("later"))
    assert await task == "later"


async def test_a_timeout_of_zero_takes_a_message_that_is_there() -> None:
    peer = Peer()
    await peer.feed(text("here"))
    assert await peer.ws.recv(timeout=0) == "here"


async def test_wait_for_that_times_out_breaks_nothing() -> None:
    peer = Peer()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(peer.ws.recv(), 0.001)
    await peer.feed(text("still here"))
    assert await asyncio.wait_for(peer.ws.recv(), 1) == "still here"


async def test_wait_for_that_times_out_in_the_turn_in_which_a_message_arrives_loses_nothing() -> None:
    for order in ("message first", "timeout first"):
        peer = Peer()
        received: list[Any] = []

        async def handler(ws: Websocket, received: list[Any] = received) -> None:
            try:
                received.append(await asyncio.wait_for(ws.recv(), 0.002))
            except TimeoutError:
                received.append(await ws.recv())

        task = await peer.handle(handler)
        delay = 0.0 if order == "message first" else 0.002
        await asyncio.sleep(delay)
        await peer.feed(text("precious"))
        await asyncio.wait_for(task, 1)
        assert received == ["precious"], order


async def test_a_cancelled_recv_loses_no_message() -> None:
    peer = Peer()
    task = await peer.handle(lambda ws: ws.recv())  # type: ignore[arg-type, return-value]
    task.cancel()
    await peer.feed(text("kept"))  # arrives between the cancellation and the task's end
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await peer.ws.recv() == "kept"


async def test_cancelling_a_handler_that_was_woken_in_the_same_turn_loses_no_message() -> None:
    peer = Peer()
    task = await peer.handle(lambda ws: ws.recv())  # type: ignore[arg-type, return-value]
    # Fed from within a task, the wake-up cannot be in place; the cancellation overtakes it.
    peer.ws.receive_data(text("kept"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await peer.ws.recv() == "kept"


async def test_a_handler_that_is_cancelled_inside_its_own_turn_loses_no_message() -> None:
    peer = Peer()
    received: list[Any] = []

    async def handler(ws: Websocket) -> None:
        received.append(await ws.recv())
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        received.append(await ws.recv())  # it is there, so that the task does not suspend and is not cancelled yet
        await asyncio.sleep(0)

    task = await peer.handle(handler)
    await peer.feed(text("first") + text("second") + text("third"))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert received == ["first", "second"]
    assert await peer.ws.recv() == "third"


async def test_a_handler_that_another_one_cancels_in_the_turn_in_which_its_message_comes_loses_nothing() -> None:
    first, second = Peer(), Peer()
    victim = await second.handle(lambda ws: ws.recv())  # type: ignore[arg-type, return-value]

    async def handler(ws: Websocket) -> None:
        await ws.recv()
        victim.cancel()

    task = await first.handle(handler)

    def read() -> None:
        first.ws.receive_data(text("go"))
        second.ws.receive_data(text("kept"))

    first.loop.call_soon(read)
    await task
    with pytest.raises(asyncio.CancelledError):
        await victim
    assert await second.ws.recv() == "kept"


async def test_two_tasks_that_receive_at_once_are_a_server_error() -> None:
    peer = Peer()
    task = await peer.handle(lambda ws: ws.recv())  # type: ignore[arg-type, return-value]
    for attempt in (
        peer.ws.recv(),
        peer.ws.recv(timeout=1),
        anext(peer.ws),
        peer.ws.recv_burst(),
        anext(peer.ws.recv_streaming()),
    ):
        with pytest.raises(ServerError, match="another task"):
            await attempt
    await peer.feed(text("for the first"))
    assert await task == "for the first"


async def test_recv_is_a_coroutine_for_asyncio() -> None:
    peer = Peer()
    assert asyncio.iscoroutine(peer.ws.recv())
    assert not asyncio.isfuture(peer.ws.recv())
    task = asyncio.create_task(peer.ws.recv())
    await turns()
    await peer.feed(text("a"))
    assert await task == "a"
    gathered = asyncio.gather(peer.ws.recv(), asyncio.sleep(0, "slept"))
    await turns()
    await peer.feed(text("b"))
    assert await gathered == ["b", "slept"]


async def test_the_same_receive_cannot_be_awaited_twice() -> None:
    peer = Peer()
    await peer.feed(text("a"))
    receive = peer.ws.recv()
    assert await receive == "a"
    with pytest.raises(RuntimeError, match="twice"):
        await receive


async def test_a_closed_receive_gives_its_place_back() -> None:
    peer = Peer()
    receive = peer.ws.recv()
    receive.send(None)
    assert peer.ws.waited_for
    receive.close()
    assert not peer.ws.waited_for
    with pytest.raises(KeyError):
        peer.ws.recv().throw(KeyError)
    with pytest.raises(KeyError, match="given"):
        peer.ws.recv().throw(KeyError, "given")
    with pytest.raises(KeyError, match="made"):
        peer.ws.recv().throw(KeyError("made"))


async def test_context_task_and_timeouts_are_right_inside_a_handler_that_was_woken_in_place() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outside")
    peer = Peer()
    seen: list[Any] = []

    async def handler(ws: Websocket) -> None:
        variable.set("inside")
        task = asyncio.current_task()
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            async for message in ws:
                seen.append((message, variable.get(), asyncio.current_task() is task))
                group.create_task(ws.send(message))

    task = await peer.handle(handler)
    await peer.feed(text("a"), text("b"), close())
    await task
    assert seen == [("a", "inside", True), ("b", "inside", True)]
    assert variable.get() == "outside"


async def test_a_handler_may_feed_its_own_connection() -> None:
    peer = Peer()

    async def handler(ws: Websocket) -> list[Any]:
        ws.receive_data(text("own"))
        first = await ws.recv()
        ws.receive_data(text("more"))
        return [first, await ws.recv(), await ws.recv()]

    task = await peer.handle(handler)
    await peer.feed(text("outside"))
    assert await task == ["own", "more", "outside"]


async def test_a_handler_that_feeds_its_connection_inside_a_turn_is_served_in_it() -> None:
    peer = Peer()

    async def handler(ws: Websocket) -> list[Any]:
        first = await ws.recv()
        ws.receive_data(text("second"))
        return [first, await ws.recv()]

    task = await peer.handle(handler)
    await peer.feed(text("first"))
    assert task.done()
    assert task.result() == ["first", "second"]


async def test_a_flood_leaves_the_loop_its_turns() -> None:
    peer = Peer()
    await peer.handle(echo)
    counts: list[int] = []

    def watch() -> None:
        counts.append(len(peer.sent))
        if counts[-1] < 2000:
            peer.loop.call_soon(watch)

    peer.loop.call_soon(watch)
    await peer.feed(text("x") * 2000)
    while counts[-1] < 2000:
        await asyncio.sleep(0)
    assert max(after - before for before, after in itertools.pairwise(counts)) <= 300
    assert len(peer.sent) == 2000


async def test_a_handler_that_works_a_queue_off_leaves_the_loop_its_turns_and_gathers_its_writes() -> None:
    peer = Peer(max_queue=None)
    await peer.feed(text("x") * 1000)
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        peer.loop.call_soon(tick)

    peer.loop.call_soon(tick)
    task = await peer.handle(echo)
    await peer.feed(close())
    await task
    assert len(peer.sent) == 1001
    assert len(peer.transport.writes) < 20
    assert ticks > 3


async def test_an_exception_in_the_middle_of_a_batch_lets_what_was_sent_before_it_leave() -> None:
    peer = Peer()

    async def handler(ws: Websocket) -> None:
        async for message in ws:
            await ws.send(message)
            if message == "b":
                raise ZeroDivisionError

    task = await peer.handle(handler)
    await peer.feed(text("a") + text("b") + text("c"))
    with pytest.raises(ZeroDivisionError):
        await task
    assert peer.sent == [(1, b"a"), (1, b"b")]


async def test_debug_mode_of_the_loop() -> None:
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    try:
        peer = Peer()
        task = await peer.handle(echo)
        await peer.feed(text("a"), text("b") + close())
        await task
    finally:
        loop.set_debug(False)
    assert peer.sent == [(1, b"a"), (1, b"b"), (8, b"\x03\xe8")]


async def test_burst_returns_what_has_arrived_without_waiting() -> None:
    peer = Peer()
    assert await peer.ws.recv_burst() == []
    await peer.feed(text("a") + text("b") + text("c"))
    assert await peer.ws.recv_burst(2) == ["a", "b"]
    assert await peer.ws.recv_burst() == ["c"]
    await peer.feed(text("d") + close(1000))
    assert await peer.ws.recv_burst() == ["d"]
    with pytest.raises(ConnectionClosedOK):
        await peer.ws.recv_burst()


# ---- streaming


async def collect(ws: Websocket) -> list[Any]:
    return [fragment async for fragment in ws.recv_streaming()]


async def test_streaming_gives_fragments_as_they_arrive() -> None:
    peer = Peer()
    fragments: list[Any] = []

    async def handler(ws: Websocket) -> Any:
        async for fragment in ws.recv_streaming():
            fragments.append(fragment)
        return await ws.recv()

    task = await peer.handle(handler)
    await peer.feed(text("one", fin=False))
    assert fragments == ["one"]
    await peer.feed(frame(9, b"ping inside") + frame(0, b"two", fin=False))
    assert fragments == ["one", "two"]
    await peer.feed(frame(0, b"three") + text("next"))
    assert fragments == ["one", "two", "three"]
    assert await task == "next"


async def test_streaming_a_message_that_has_arrived_whole_gives_its_fragments_too() -> None:
    peer = Peer()
    await peer.feed(frame(2, b"a", fin=False) + frame(0, b"", fin=False) + frame(0, b"b", fin=False) + frame(0, b"c"))
    await peer.feed(text("whole") + text(""))
    assert await collect(peer.ws) == [b"a", b"b", b"c"]
    assert await collect(peer.ws) == ["whole"]
    assert await collect(peer.ws) == [""]


async def test_streaming_that_begins_inside_a_message_gives_its_first_fragments_as_well() -> None:
    peer = Peer()
    await peer.feed(text("a", fin=False) + frame(0, b"b", fin=False))
    task = await peer.handle(collect)
    await peer.feed(frame(0, b"c"))
    assert await task == ["a", "b", "c"]


@pytest.mark.parametrize("early", [True, False])
async def test_streaming_decodes_a_character_that_is_cut_in_two(early: bool) -> None:
    peer = Peer()
    payload = "a€b".encode()
    pieces = [frame(1, payload[:2], fin=False), frame(0, payload[2:3], fin=False), frame(0, payload[3:])]
    if early:
        await peer.feed(b"".join(pieces))
        fragments = await collect(peer.ws)
    else:
        task = await peer.handle(collect)
        await peer.feed(*pieces)
        fragments = await task
    assert "".join(fragments) == "a€b"
    assert fragments[0] == "a"


async def test_recv_of_a_fragmented_message_gives_it_whole() -> None:
    peer = Peer()
    await peer.feed(text("a", fin=False) + frame(0, b"b", fin=False) + frame(0, b"c"))
    assert await peer.ws.recv() == "abc"


async def test_streaming_that_is_left_half_way_discards_the_rest_of_its_message_only() -> None:
    for next_receive in ("recv", "stream"):
        peer = Peer()
        await peer.feed(text("a", fin=False) + frame(0, b"b", fin=False))
        stream = peer.ws.recv_streaming()
        assert await anext(stream) == "a"
        await stream.aclose()
        await peer.feed(frame(0, b"c") + text("next"))
        assert (await peer.ws.recv() if next_receive == "recv" else (await collect(peer.ws))[0]) == "next"


async def test_streaming_that_is_cancelled_before_its_first_fragment_loses_nothing() -> None:
    peer = Peer()
    task = await peer.handle(collect)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    receiving = await peer.handle(lambda ws: ws.recv())  # type: ignore[arg-type, return-value]
    await peer.feed(text("a", fin=False), frame(0, b"b", fin=False), frame(0, b"c") + text("next"))
    assert await receiving == "abc"
    assert await peer.ws.recv() == "next"


async def test_streaming_raises_when_the_connection_ends() -> None:
    peer = Peer()
    task = await peer.handle(collect)
    await peer.feed(text("a", fin=False) + close(1000))
    with pytest.raises(WebsocketClosed):
        await task


# ---- back pressure


async def test_reading_pauses_at_the_queue_limit_and_goes_on_when_half_of_it_is_gone() -> None:
    peer = Peer(max_queue=4)
    await peer.feed(text("x") * 3)
    assert peer.transport.calls == []
    await peer.feed(text("x"))
    assert peer.transport.calls == ["pause_reading"]
    await peer.ws.recv()
    assert peer.transport.calls == ["pause_reading"]
    await peer.ws.recv()
    assert peer.transport.calls == ["pause_reading", "resume_reading"]


async def test_reading_pauses_when_as_many_bytes_wait_as_one_message_may_have() -> None:
    peer = Peer(max_size=100)
    await peer.feed(frame(2, bytes(60)), frame(2, bytes(40)))
    assert peer.transport.calls == ["pause_reading"]
    assert len(await peer.ws.recv_burst()) == 2
    assert peer.transport.calls == ["pause_reading", "resume_reading"]


async def test_a_ping_that_arrived_while_the_handler_is_busy_is_answered() -> None:
    peer = Peer(max_queue=1)
    await peer.feed(text("waits") + frame(9, b"alive?"))
    assert peer.sent == [(10, b"alive?")]


async def test_a_handler_may_pause_and_resume_reading() -> None:
    peer = Peer()
    peer.ws.pause_frames()
    peer.ws.resume_frames()
    assert peer.transport.calls == ["pause_reading", "resume_reading"]


# ---- what a review found


@pytest.mark.parametrize("abandoned", ["half-way", "before the first fragment"])
async def test_an_abandoned_stream_does_not_leave_reading_paused(abandoned: str) -> None:
    peer = Peer(max_queue=2)
    if abandoned == "half-way":
        await peer.feed(text("a", fin=False))
        stream = peer.ws.recv_streaming()
        assert await anext(stream) == "a"
        await stream.aclose()
    else:
        task = await peer.handle(collect)
        task.cancel()
        await turns()
        await peer.feed(text("a", fin=False))
    await peer.feed(frame(0, b"b", fin=False), frame(0, b"c", fin=False))
    assert peer.ws.read_paused
    receiving = await peer.handle(lambda ws: ws.recv())  # type: ignore[arg-type, return-value]
    assert not peer.ws.read_paused
    await peer.feed(frame(0, b"d") + text("next"))
    assert await receiving == ("next" if abandoned == "half-way" else "abcd")


async def test_a_loop_around_recv_burst_leaves_the_loop_its_turns_whatever_waits() -> None:
    peer = Peer()
    task = await peer.handle(collect)
    task.cancel()
    await turns()
    await peer.feed(text("a", fin=False))
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        peer.loop.call_soon(tick)

    peer.loop.call_soon(tick)
    for _ in range(10):
        assert await peer.ws.recv_burst() == []
    assert ticks >= 10


async def test_the_message_of_a_cancellation_arrives() -> None:
    peer = Peer()
    task = await peer.handle(lambda ws: ws.recv())  # type: ignore[arg-type, return-value]
    task.cancel("by whom")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("by whom",)


async def test_a_task_whose_context_is_entered_already_is_woken_in_the_next_turn() -> None:
    peer = Peer()
    context = contextvars.copy_context()
    task = peer.loop.create_task(echo(peer.ws), context=context)
    await turns()
    peer.loop.call_soon(peer.ws.receive_data, text("a") + close(), context=context)
    await asyncio.wait_for(task, 1)
    assert peer.sent == [(1, b"a"), (8, b"\x03\xe8")]


async def test_a_task_that_feeds_a_message_and_a_close_lets_the_handler_answer_first() -> None:
    peer = Peer()
    task = await peer.handle(echo)
    peer.ws.receive_data(text("a") + close())
    await task
    assert peer.sent == [(1, b"a"), (8, b"\x03\xe8")]


async def test_after_our_close_a_message_that_has_no_room_is_dropped_whole() -> None:
    peer = Peer(max_queue=3)
    stream = await peer.handle(collect)
    await peer.feed(text("a", fin=False))
    stream.cancel()
    await turns()
    peer.ws.end_connection()
    await peer.feed(*(frame(0, b"%d" % number, fin=False) for number in range(5)), frame(0, b"z"))
    await peer.feed(close())
    with pytest.raises(WebsocketClosed):
        await collect(peer.ws)


async def test_after_our_close_no_more_bytes_are_kept_than_one_message_may_have() -> None:
    peer = Peer(max_size=100)
    peer.ws.end_connection()
    await peer.feed(frame(2, bytes(60)), frame(2, bytes(60)), frame(2, bytes(1)))
    assert peer.ws.queued == 1


async def test_a_receive_has_a_name_for_asyncio() -> None:
    peer = Peer()
    task = await peer.handle(lambda ws: ws.recv())  # type: ignore[arg-type, return-value]
    assert "Websocket.recv" in repr(task)
    assert peer.ws.send("x").__name__ == "Websocket.send"
    task.cancel()


async def test_the_future_protocol_of_a_suspended_receive() -> None:
    peer = Peer()
    receive: Any = peer.ws.recv()
    assert receive.send(None) is receive
    assert asyncio.isfuture(receive)
    assert receive.get_loop() is peer.loop
    assert receive.done()
    woken: list[Any] = []
    receive.add_done_callback(woken.append)
    assert (receive.done(), receive.cancelled()) == (False, False)
    assert receive.remove_done_callback(print) == 0
    assert receive.remove_done_callback(woken.append) == 1
    assert not receive.cancel()
    receive.add_done_callback(woken.append)
    await peer.feed(text("a"))
    assert [future.result() for future in woken] == [None]
    assert receive.result() is None
    with pytest.raises(StopIteration) as caught:
        receive.send(None)
    assert caught.value.value == "a"


async def test_a_subclass_has_its_own_iteration_and_its_own_send() -> None:
    class Loud(Websocket):
        async def __anext__(self) -> Any:
            return str(await super().__anext__()).upper()

        async def send(self, data: Any, *arguments: Any, **options: Any) -> None:
            await super().send(data + "!", *arguments, **options)

    class Fixed(Websocket):
        def __aiter__(self) -> Any:
            return _twice("fixed")

    peer = Peer()
    for kind, expected in ((Loud, [(1, b"A!"), (1, b"B!")]), (Fixed, [(1, b"fixed"), (1, b"fixed")])):
        peer.transport.writes.clear()
        peer.ws = kind(peer.loop, peer.transport)
        task = await peer.handle(echo)
        await peer.feed(text("a") + text("b"))
        assert peer.sent == expected
        task.cancel()
        await turns()


async def test_a_receive_that_is_kept_is_not_used_again() -> None:
    peer = Peer()
    await peer.feed(text("a") + text("b") + text("c"))
    first = peer.ws.recv()
    assert await first == "a"
    assert await peer.ws.recv() == "b"
    with pytest.raises(RuntimeError, match="twice"):
        await first
    assert await anext(peer.ws) == "c"


async def _twice(message: str) -> AsyncIterator[str]:
    yield message
    yield message


async def test_recv_event_gives_what_asgi_wants() -> None:
    peer = Peer()
    received: list[Any] = []

    async def handler(ws: Websocket) -> None:
        while True:
            received.append(await ws.recv_event())
            if received[-1]["type"] == "websocket.disconnect":
                return

    task = await peer.handle(handler)
    await peer.feed(text("a"), frame(2, b"\x00"), close(4001, "enough"))
    await task
    assert received == [
        {"type": "websocket.receive", "text": "a"},
        {"type": "websocket.receive", "bytes": b"\x00"},
        {"type": "websocket.disconnect", "code": 4001, "reason": "enough"},
    ]
    assert await peer.ws.recv_event() == received[-1]


async def test_recv_event_that_times_out_loses_nothing() -> None:
    peer = Peer()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(peer.ws.recv_event(), 0.001)
    await peer.feed(text("later"))
    assert await peer.ws.recv_event() == {"type": "websocket.receive", "text": "later"}
    await peer.lose()
    assert (await peer.ws.recv_event())["code"] == 1006
