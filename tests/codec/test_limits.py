"""What a peer may send beyond the size of a message: rates, and the fragments of a message."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from ferrows.events import Failure, Message, Ping, Pong
from ferrows.limits import InboundLimits, Rate

from .replay import deliveries, feed
from .wire import BINARY, CONTINUATION, PING, PONG, TEXT, Deflate, frame

ONE = frame(BINARY, b"four")


def limited(codec: ModuleType, **limits: Any) -> Any:
    return codec.Connection(limits=InboundLimits(**limits))


BREACHES = [
    pytest.param(
        InboundLimits(messages=Rate(2, 3)),
        ONE * 5,
        [*[Message(b"four")] * 3, Failure(1008, "more than 2 messages a second")],
        id="messages",
    ),
    pytest.param(
        InboundLimits(messages=Rate(0.5, 1)),
        frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b") + frame(TEXT, b"c", fin=False),
        [Message("ab"), Failure(1008, "more than 0.5 messages a second")],
        id="a_message_counts_when_it_begins",
    ),
    pytest.param(
        InboundLimits(bytes=Rate(1000, 25)),
        ONE * 3,
        [Message(b"four"), Message(b"four"), Failure(1008, "more than 1000 bytes a second")],
        id="bytes",
    ),
    pytest.param(
        InboundLimits(bytes=Rate(1, 19)),
        frame(PING, b"ping") + frame(PONG, b"pong"),
        [Ping(b"ping"), Failure(1008, "more than 1 bytes a second")],
        id="bytes_of_control_frames",
    ),
    pytest.param(
        InboundLimits(pings=Rate(1, 2)),
        frame(PING, b"1") + frame(PONG, b"2") + ONE + frame(PING, b"3"),
        [Ping(b"1"), Pong(b"2"), Message(b"four"), Failure(1008, "more than 1 pings a second")],
        id="pings_and_unasked_pongs",
    ),
    pytest.param(
        InboundLimits(fragments=2),
        frame(BINARY, b"a", fin=False)
        + frame(CONTINUATION, b"b")
        + frame(BINARY, fin=False) * 1
        + frame(CONTINUATION, fin=False)
        + frame(CONTINUATION, fin=False),
        [Message(b"ab"), Failure(1008, "more than 2 fragments of a message")],
        id="fragments",
    ),
]


@pytest.mark.parametrize(("limits", "data", "events"), BREACHES)
def test_7_4_1_more_than_is_permitted_fails_1008(
    codec: ModuleType, limits: InboundLimits, data: bytes, events: list[Any]
) -> None:
    for how, chunks in deliveries(data):
        outcome = feed(codec, chunks, limits=limits)
        assert outcome.events == events, how
        assert outcome.close_sent == outcome.failure == (1008, events[-1].reason)


def test_bucket_fills_with_time_up_to_its_burst(codec: ModuleType) -> None:
    connection = limited(codec, messages=Rate(2, 3))
    connection.receive_data(ONE * 3, 10.0)
    connection.receive_data(ONE, 10.5)
    connection.receive_data(ONE * 3, 5000.0)
    assert connection.failure is None
    connection.receive_data(ONE, 5000.0)
    assert connection.failure == (1008, "more than 2 messages a second")


def test_clock_that_goes_back_changes_nothing(codec: ModuleType) -> None:
    connection = limited(codec, messages=Rate(1, 2))
    for now in (10.0, 3.0):
        connection.receive_data(ONE, now)
    assert connection.failure is None
    connection.receive_data(ONE, 3.5)
    assert connection.failure is not None


def test_pongs_that_were_asked_for_are_free(codec: ModuleType) -> None:
    connection = limited(codec, pings=Rate(1, 1))
    for _ in range(20):
        connection.send_ping(b"x")
    connection.receive_data(frame(PONG, b"x") * 21)
    assert connection.failure is None
    connection.receive_data(frame(PONG, b"x"))
    assert connection.failure is not None


@pytest.mark.parametrize("fragmented", [False, True])
@pytest.mark.parametrize(("burst", "fails"), [(90_000, True), (110_000, False)])
def test_bytes_that_a_message_inflates_to_count(codec: ModuleType, fragmented: bool, burst: int, fails: bool) -> None:
    sender = codec.Connection(client=True, deflate=Deflate())
    if fragmented:
        sender.send_binary(bytes(50_000), False, True)
        sender.send_binary(bytes(50_000), True, True)
    else:
        sender.send_binary(bytes(100_000), True, True)
    data = sender.data_to_send()
    assert len(data) < 1000
    for chunks in ([data], [data[:20], data[20:]]):
        outcome = feed(codec, chunks, deflate=Deflate(), limits=InboundLimits(bytes=Rate(1, burst)))
        assert (outcome.failure is not None) is fails


@pytest.mark.parametrize("text", [False, True])
def test_a_message_that_inflates_to_too_much_is_not_delivered(codec: ModuleType, text: bool) -> None:
    sender = codec.Connection(client=True, deflate=Deflate())
    if text:
        sender.send_text("a" * 100_000, True, True)
    else:
        sender.send_binary(bytes(100_000), True, True)
    limits = InboundLimits(bytes=Rate(1, 90_000))
    for how, chunks in deliveries(sender.data_to_send()):
        outcome = feed(codec, chunks, deflate=Deflate(), limits=limits)
        assert outcome.events == [Failure(1008, "more than 1 bytes a second")], how


@pytest.mark.parametrize("limits", [None, InboundLimits()])
def test_without_limits_nothing_is_refused(codec: ModuleType, limits: InboundLimits | None) -> None:
    outcome = feed(codec, [(ONE + frame(PING) + frame(PONG)) * 20_000], limits=limits)
    assert outcome.failure is None
    assert len(outcome.events) == 60_000
