"""Frames that arrive and frames that are sent (RFC 6455 §5)."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from ferrows.events import Close, Failure, Message, Ping, Pong

from .replay import feed, replay
from .wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Deflate, Frame, close_body, frame, frames

VALID: list[tuple[str, bytes, list[Any]]] = [
    ("5_6_text", frame(TEXT, b"Hello"), [Message("Hello")]),
    ("5_6_text_beyond_ascii", frame(TEXT, "Grüße, 世界 🎉".encode()), [Message("Grüße, 世界 🎉")]),
    ("5_6_binary", frame(BINARY, bytes(range(40))), [Message(bytes(range(40)))]),
    ("5_6_empty_text", frame(TEXT), [Message("")]),
    ("5_6_empty_binary", frame(BINARY), [Message(b"")]),
    ("5_2_125_bytes", frame(BINARY, b"a" * 125), [Message(b"a" * 125)]),
    ("5_2_126_bytes", frame(BINARY, b"a" * 126), [Message(b"a" * 126)]),
    (
        "5_4_fragments",
        frame(TEXT, b"one", fin=False) + frame(CONTINUATION, b"two", fin=False) + frame(CONTINUATION, b"three"),
        [Message("onetwothree")],
    ),
    (
        "5_4_empty_fragments",
        frame(BINARY, fin=False) + frame(CONTINUATION, fin=False) + frame(CONTINUATION, b"x") + frame(TEXT, b"y"),
        [Message(b"x"), Message("y")],
    ),
    ("5_4_nothing_but_empty_fragments", frame(TEXT, fin=False) + frame(CONTINUATION), [Message("")]),
    (
        "5_5_control_frames_inside_a_message",
        frame(BINARY, b"a", fin=False) + frame(PING, b"p") + frame(PONG, b"q") + frame(CONTINUATION, b"b"),
        [Ping(b"p"), Pong(b"q"), Message(b"ab")],
    ),
    ("5_5_2_ping", frame(PING), [Ping(b"")]),
    ("5_5_2_ping_of_125_bytes", frame(PING, b"p" * 125), [Ping(b"p" * 125)]),
    ("5_5_3_unasked_pong", frame(PONG, b"\xff\x00"), [Pong(b"\xff\x00")]),
    (
        "several_messages",
        frame(TEXT, b"1") + frame(BINARY, b"2") + frame(TEXT, b"3"),
        [Message("1"), Message(b"2"), Message("3")],
    ),
]


@pytest.mark.parametrize(("data", "events"), [pytest.param(*case[1:], id=case[0]) for case in VALID])
def test_5_valid_frames_give_their_events(codec: ModuleType, data: bytes, events: list[Any]) -> None:
    outcome = replay(codec, data)
    assert outcome.events == events
    assert [type(event.data) for event in outcome.events] == [type(event.data) for event in events]
    pongs = [Frame(PONG, event.data) for event in events if isinstance(event, Ping)]
    assert (outcome.output, outcome.state, outcome.failure) == (pongs, codec.OPEN, None)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 200_003])
@pytest.mark.parametrize("cut", [0, 1, 2, 3, 5, 9, 13, 1000, 65536])
def test_5_2_payload_lengths(codec: ModuleType, size: int, cut: int) -> None:
    payload = bytes(index * 7 & 0xFF for index in range(size))
    data = frame(BINARY, payload)
    outcome = feed(codec, [data[:cut], data[cut:]])
    assert outcome.events == [Message(payload)]


BROKEN: list[tuple[str, bytes, int, str]] = [
    *(
        (f"5_2_rsv_{rsv:03b}", frame(TEXT, b"x", rsv=rsv), 1002, f"reserved bits 0b{rsv:03b}, permitted 0b000")
        for rsv in range(1, 8)
    ),
    ("5_2_rsv_before_opcode", frame(3, rsv=1), 1002, "reserved bits 0b001, permitted 0b000"),
    *(
        (f"5_2_opcode_{opcode:x}", frame(opcode, fin=False), 1002, f"opcode 0x{opcode:X} is not defined")
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    ),
    ("5_5_fragmented_ping", frame(PING, fin=False), 1002, "fragmented control frame"),
    ("5_5_fragmented_close", frame(CLOSE, fin=False), 1002, "fragmented control frame"),
    ("5_4_continuation_outside", frame(CONTINUATION, b"x"), 1002, "continuation frame outside a message"),
    (
        "5_4_text_inside",
        frame(BINARY, b"x", fin=False) + frame(TEXT, b"x"),
        1002,
        "data frame inside a fragmented message",
    ),
    ("5_1_unmasked", frame(TEXT, b"x", key=None), 1002, "unmasked frame from a client"),
    ("5_1_unmasked_before_length", frame(PING, b"x" * 126, key=None), 1002, "unmasked frame from a client"),
    ("5_5_control_of_126_bytes", frame(PING, b"x" * 126), 1002, "control frame over 125 bytes"),
    ("5_5_control_in_a_long_form", frame(PONG, b"x", form=64), 1002, "control frame over 125 bytes"),
    ("5_2_125_in_16_bits", frame(TEXT, b"x" * 125, form=16), 1002, "payload length 125 is not in its shortest form"),
    ("5_2_0_in_16_bits", frame(TEXT, form=16), 1002, "payload length 0 is not in its shortest form"),
    ("5_2_126_in_64_bits", frame(TEXT, b"x" * 126, form=64), 1002, "payload length 126 is not in its shortest form"),
    (
        "5_2_65535_in_64_bits",
        frame(TEXT, length=65535, form=64),
        1002,
        "payload length 65535 is not in its shortest form",
    ),
    ("5_2_top_bit", frame(TEXT, length=2**63, form=64), 1002, "payload length has its top bit set"),
    ("5_2_all_bits", frame(TEXT, length=2**64 - 1, form=64), 1002, "payload length has its top bit set"),
    ("7_4_1_2_to_the_63", frame(TEXT, length=2**63 - 1), 1009, f"message of at least {2**63 - 1} bytes, permitted 200"),
    ("7_4_1_over_the_limit", frame(TEXT, length=201), 1009, "message of at least 201 bytes, permitted 200"),
    (
        "7_4_1_fragments_over_the_limit",
        frame(TEXT, b"x" * 150, fin=False) + frame(CONTINUATION, b"y" * 51, fin=False),
        1009,
        "message of at least 201 bytes, permitted 200",
    ),
    (
        "7_4_1_in_a_7_bit_length",
        frame(TEXT, b"x" * 200, fin=False) + frame(CONTINUATION, b"y"),
        1009,
        "message of at least 201 bytes, permitted 200",
    ),
]


@pytest.mark.parametrize(("data", "code", "reason"), [pytest.param(*case[1:], id=case[0]) for case in BROKEN])
def test_5_broken_frames_fail_the_connection(codec: ModuleType, data: bytes, code: int, reason: str) -> None:
    outcome = replay(codec, data, max_size=200)
    assert outcome.events == [Failure(code, reason)]
    assert outcome.output == [Frame(CLOSE, close_body(code, reason))]
    assert (outcome.failure, outcome.close_sent, outcome.close_received) == ((code, reason), (code, reason), None)
    assert outcome.state == codec.CLOSED


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        (1, "reserved bits 0b111, permitted 0b000"),
        (1, "opcode 0x3 is not defined"),
        (1, "fragmented control frame"),
        (1, "continuation frame outside a message"),
        (2, "unmasked frame from a client"),
        (2, "control frame over 125 bytes"),
        (2, "message of at least 100 bytes, permitted 99"),
        (4, "payload length 5 is not in its shortest form"),
        (10, "payload length has its top bit set"),
        (10, "payload length 65535 is not in its shortest form"),
    ],
)
def test_5_2_a_header_fails_at_its_first_wrong_byte(codec: ModuleType, size: int, reason: str) -> None:
    header = {
        "reserved bits 0b111, permitted 0b000": frame(TEXT, rsv=7),
        "opcode 0x3 is not defined": frame(3),
        "fragmented control frame": frame(PING, fin=False),
        "continuation frame outside a message": frame(CONTINUATION),
        "unmasked frame from a client": frame(TEXT, key=None),
        "control frame over 125 bytes": frame(PING, b"x" * 126),
        "message of at least 100 bytes, permitted 99": frame(TEXT, b"x" * 100),
        "payload length 5 is not in its shortest form": frame(TEXT, b"x" * 5, form=16),
        "payload length has its top bit set": frame(TEXT, length=1 << 63),
        "payload length 65535 is not in its shortest form": frame(TEXT, length=65535, form=64),
    }[reason]
    connection = codec.Connection(max_size=99)
    connection.receive_data(header[: size - 1])
    assert connection.events() == []
    connection.receive_data(header[size - 1 : size])
    assert [event.reason for event in connection.events()] == [reason]


def test_5_1_a_client_fails_on_a_masked_frame(codec: ModuleType) -> None:
    outcome = replay(codec, frame(TEXT, b"x"), client=True)
    assert outcome.events == [Failure(1002, "masked frame from a server")]


def test_5_1_a_client_takes_unmasked_frames(codec: ModuleType) -> None:
    data = frame(TEXT, b"one", key=None) + frame(PING, b"p", key=None) + frame(BINARY, b"x" * 300, key=None)
    outcome = replay(codec, data, client=True)
    assert outcome.events == [Message("one"), Ping(b"p"), Message(b"x" * 300)]
    assert outcome.output == [Frame(PONG, b"p")]


@pytest.mark.parametrize("limit", [0, 1, 10])
def test_7_4_1_a_message_of_exactly_the_limit_is_taken(codec: ModuleType, limit: int) -> None:
    payload = b"x" * limit
    assert replay(codec, frame(BINARY, payload), max_size=limit).events == [Message(payload)]
    halves = frame(BINARY, payload[:3], fin=False) + frame(CONTINUATION, payload[3:])
    assert replay(codec, halves, max_size=limit).events == [Message(payload)]


def test_7_4_1_the_limit_is_of_each_message(codec: ModuleType) -> None:
    data = (frame(BINARY, b"x" * 6, fin=False) + frame(CONTINUATION, b"y" * 4)) * 2 + frame(BINARY, b"z" * 10)
    assert [len(event.data) for event in replay(codec, data, max_size=10).events] == [10, 10, 10]


def test_7_4_1_control_frames_do_not_count(codec: ModuleType) -> None:
    assert replay(codec, frame(PING, b"p" * 125), max_size=0).events == [Ping(b"p" * 125)]


def test_max_size_none_is_no_limit(codec: ModuleType) -> None:
    payload = b"x" * (2**20 + 1)
    assert feed(codec, [frame(BINARY, payload)], max_size=None).events == [Message(payload)]
    connection = codec.Connection(max_size=None)
    connection.receive_data(frame(BINARY, length=2**63 - 1))
    assert connection.events() == []


def test_a_failure_ends_the_reading(codec: ModuleType) -> None:
    outcome = replay(codec, frame(TEXT, b"good") + frame(3) + frame(TEXT, b"never"))
    assert outcome.events == [Message("good"), Failure(1002, "opcode 0x3 is not defined")]


def test_5_4_a_message_that_ended_is_not_continued(codec: ModuleType) -> None:
    data = frame(TEXT, fin=False) + frame(CONTINUATION) + frame(CONTINUATION)
    failure = Failure(1002, "continuation frame outside a message")
    assert replay(codec, data).events == [Message(""), failure]


def test_a_close_ends_the_reading(codec: ModuleType) -> None:
    outcome = replay(codec, frame(CLOSE) + b"\xff\xff\xff" + frame(TEXT, b"never"))
    assert outcome.events == [Close(1005, "")]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_receive_data_takes_any_buffer(codec: ModuleType, kind: type) -> None:
    data = frame(TEXT, b"Hello") + frame(BINARY, b"\x00\xff")
    connection = codec.Connection()
    connection.receive_data(kind(data[:9]))
    connection.receive_data(kind(data[9:]))
    assert connection.events() == [Message("Hello"), Message(b"\x00\xff")]


def test_receive_data_keeps_no_hold_of_a_mutable_buffer(codec: ModuleType) -> None:
    buffer = bytearray(frame(BINARY, b"abcdef"))
    connection = codec.Connection()
    connection.receive_data(memoryview(buffer)[:9])
    rest = bytes(buffer[9:])
    buffer[:] = bytes(len(buffer))
    buffer.clear()
    connection.receive_data(rest)
    assert connection.events() == [Message(b"abcdef")]


def test_events_are_given_once(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.receive_data(frame(TEXT, b"x"))
    assert connection.events() == [Message("x")]
    assert connection.events() == []


# ---- sending

SIZES = [0, 1, 2, 3, 4, 5, 125, 126, 127, 767, 768, 769, 65535, 65536, 70_001]


@pytest.mark.parametrize("size", SIZES)
def test_5_2_a_server_sends_unmasked_frames_in_the_shortest_form(codec: ModuleType, size: int) -> None:
    payload = bytes(index * 5 & 0xFF for index in range(size))
    connection = codec.Connection()
    connection.send_binary(payload)
    connection.send_text("é" * (size // 2))
    text = ("é" * (size // 2)).encode()
    assert connection.data_to_send() == frame(BINARY, payload, key=None) + frame(TEXT, text, key=None)
    assert connection.data_to_send() == b""


@pytest.mark.parametrize("size", SIZES)
def test_5_3_a_client_masks_its_frames(codec: ModuleType, size: int) -> None:
    payload = bytes(index * 5 & 0xFF for index in range(size))
    connection = codec.Connection(client=True)
    connection.send_binary(payload)
    assert frames(connection.data_to_send()) == [Frame(BINARY, payload, masked=True)]


def test_5_3_a_client_masks_each_frame_with_a_fresh_key(codec: ModuleType) -> None:
    connection = codec.Connection(client=True)
    for _ in range(16):
        connection.send_binary(b"")
    data = connection.data_to_send()
    assert len({data[at + 2 : at + 6] for at in range(0, len(data), 6)}) == 16


def test_5_4_fragments_are_sent_as_one_message(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.send_text("one", fin=False)
    connection.send_text("", fin=False)
    connection.send_ping(b"between")
    connection.send_text("two", True)
    connection.send_binary(b"x")
    assert frames(connection.data_to_send()) == [
        Frame(TEXT, b"one", fin=False),
        Frame(CONTINUATION, b"", fin=False),
        Frame(PING, b"between"),
        Frame(CONTINUATION, b"two"),
        Frame(BINARY, b"x"),
    ]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_send_binary_takes_any_buffer_and_copies_what_can_change(codec: ModuleType, kind: type) -> None:
    connection = codec.Connection()
    buffer = bytearray(b"abc")
    connection.send_binary(kind(buffer))
    connection.send_ping(kind(buffer))
    connection.send_pong(kind(buffer))
    buffer[:] = b"xyz"
    assert frames(connection.data_to_send()) == [Frame(BINARY, b"abc"), Frame(PING, b"abc"), Frame(PONG, b"abc")]


def test_compress_without_deflate_changes_nothing(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.send_text("x" * 5000, compress=True)
    assert frames(connection.data_to_send()) == [Frame(TEXT, b"x" * 5000)]


def test_rsv1_is_permitted_on_the_first_data_frame_only(codec: ModuleType) -> None:
    for data, reason in [
        (frame(PING, rsv=4), "reserved bits 0b100, permitted 0b000"),
        (frame(TEXT, rsv=6), "reserved bits 0b110, permitted 0b100"),
        (frame(TEXT, b"\x00", fin=False, rsv=4) + frame(CONTINUATION, rsv=4), "reserved bits 0b100, permitted 0b000"),
        (frame(TEXT, fin=False) + frame(CONTINUATION, rsv=4), "reserved bits 0b100, permitted 0b000"),
    ]:
        assert replay(codec, data, deflate=Deflate()).events == [Failure(1002, reason)]
