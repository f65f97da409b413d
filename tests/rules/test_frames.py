"""Rules 28-44: frames (RFC 6455 §5)."""

from __future__ import annotations

import tracemalloc
from types import ModuleType
from typing import Any

import pytest

from ferrows.events import Fragment, Message, Ping, Pong
from ferrows.extensions import DeflateParameters

from . import frame_cases
from .vectors import Vector, check, feed, vectors
from .wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    RSV1,
    TEXT,
    Deflater,
    Frame,
    close,
    close_body,
    frame,
    header,
    mask_payload,
    parse_frames,
    splits,
    text,
)


def sent(connection: Any) -> list[Frame]:
    return parse_frames(connection.data_to_send())


def test_the_vectors_on_disk_are_those_of_the_table() -> None:
    assert frame_cases.PATH.read_text(encoding="ascii") == frame_cases.as_text(), "python -m tests.rules.frame_cases"


@vectors(28)
def test_rule_28_unmasked_frame_fails_1002(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


def provoke(connection: Any, name: str) -> None:
    """Make the connection send something."""
    match name:
        case "text":
            connection.send_text("Hello")
        case "binary":
            connection.send_binary(b"Hello")
        case "empty":
            connection.send_text("")
        case "fragments":
            connection.send_text("Hel", fin=False)
            connection.send_text("lo")
        case "long":
            connection.send_binary(b"a" * 70000)
        case "ping":
            connection.send_ping(b"Hello")
        case "pong":
            connection.send_pong(b"Hello")
        case "close":
            connection.send_close(1000, "Hello")
        case "failure":
            connection.fail(1011, "Hello")
        case "answer-ping":
            connection.receive_data(frame(PING, b"Hello"))
        case "answer-close":
            connection.receive_data(close(1000))


SENDS = ("text", "binary", "empty", "fragments", "long", "ping", "pong", "close", "failure")


@pytest.mark.parametrize("name", [*SENDS, "answer-ping", "answer-close"])
def test_rule_29_server_never_masks(codec: ModuleType, name: str) -> None:
    connection = codec.Connection()
    provoke(connection, name)
    frames = sent(connection)
    assert frames and not any(one.masked for one in frames)


@pytest.mark.parametrize("name", SENDS)
def test_rule_29_client_always_masks_with_a_fresh_key(codec: ModuleType, name: str) -> None:
    keys = set()
    for _ in range(8):
        connection = codec.Connection(client=True)
        provoke(connection, name)
        frames = sent(connection)
        assert frames and all(one.masked for one in frames)
        keys |= {one.key for one in frames}
    assert len(keys) >= 8, "a masking key is unpredictable and fresh for each frame (RFC 6455 §5.3)"


@vectors(30)
def test_rule_30_reserved_bits_not_negotiated_fail_1002(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


@vectors(31)
def test_rule_31_undefined_opcode_fails_1002(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


@vectors(32)
def test_rule_32_length_not_in_its_shortest_form_fails_1002(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


@pytest.mark.parametrize("size", [65535, 65536, 65537])
def test_rule_32_long_frames_are_received(codec: ModuleType, size: int) -> None:
    payload = bytes(index * 7 % 251 for index in range(size))
    data = frame(BINARY, payload) + text("after")
    for pieces in splits(data):
        connection = codec.Connection()
        assert feed(connection, pieces, drain=False) == ([Message(payload), Message("after")], [])


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536])
@pytest.mark.parametrize("client", [False, True])
def test_rule_32_sent_length_is_in_its_shortest_form(codec: ModuleType, size: int, client: bool) -> None:
    connection = codec.Connection(client=client)
    connection.send_binary(b"a" * size)
    connection.send_text("a" * size)
    data = connection.data_to_send()
    overhead = (2 if size < 126 else 4 if size < 65536 else 10) + (4 if client else 0)
    assert len(data) == 2 * (size + overhead)
    assert [(one.opcode, one.payload) for one in parse_frames(data)] == [(BINARY, b"a" * size), (TEXT, b"a" * size)]


@vectors(33)
def test_rule_33_length_with_its_top_bit_set_fails_1002(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


@vectors(34)
def test_rule_34_control_frame_over_125_bytes_fails_1002(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


@pytest.mark.parametrize("send", ["send_ping", "send_pong"])
def test_rule_34_control_frame_over_125_bytes_is_never_sent(codec: ModuleType, send: str) -> None:
    connection = codec.Connection()
    with pytest.raises(ValueError, match="125"):
        getattr(connection, send)(b"a" * 126)
    assert connection.data_to_send() == b""
    getattr(connection, send)(b"a" * 125)
    assert [len(one.payload) for one in sent(connection)] == [125]


@vectors(35)
def test_rule_35_fragmented_control_frame_fails_1002(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


@vectors(36)
def test_rule_36_control_frame_inside_a_message_is_taken_at_once(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


def test_rule_36_ping_inside_a_message_is_answered_before_its_end(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.receive_data(frame(TEXT, b"hel", fin=False) + frame(PING, b"now"))
    assert connection.events() == [Ping(b"now")]
    assert sent(connection) == [Frame(PONG, b"now")]


@pytest.mark.parametrize("send", ["send_ping", "send_pong"])
def test_rule_36_control_frame_is_sent_inside_a_message(codec: ModuleType, send: str) -> None:
    connection = codec.Connection()
    connection.send_text("hel", fin=False)
    getattr(connection, send)(b"p")
    connection.send_text("lo")
    opcode = PING if send == "send_ping" else PONG
    assert sent(connection) == [Frame(TEXT, b"hel", fin=False), Frame(opcode, b"p"), Frame(CONTINUATION, b"lo")]


@vectors(37)
def test_rule_37_continuation_without_a_message_fails_1002(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


@vectors(38)
def test_rule_38_data_frame_inside_a_message_fails_1002(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


def test_rule_38_other_kind_inside_a_message_is_never_sent(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.send_text("hel", fin=False)
    with pytest.raises(ValueError):
        connection.send_binary(b"lo")
    connection.send_text("lo")
    assert sent(connection) == [Frame(TEXT, b"hel", fin=False), Frame(CONTINUATION, b"lo")]


@vectors(39)
def test_rule_39_empty_frames_and_messages_are_valid(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


def test_rule_39_empty_frames_and_messages_are_sent(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.send_text("")
    connection.send_binary(b"")
    connection.send_ping()
    connection.send_binary(b"", fin=False)
    connection.send_binary(b"")
    assert sent(connection) == [
        Frame(TEXT),
        Frame(BINARY),
        Frame(PING),
        Frame(BINARY, fin=False),
        Frame(CONTINUATION),
    ]


@vectors(40)
def test_rule_40_message_too_big_fails_1009_from_its_header(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


@pytest.mark.parametrize("length", [2**31, 2**40, 2**62])
def test_rule_40_no_memory_for_what_a_header_announces(codec: ModuleType, length: int) -> None:
    connection = codec.Connection(max_size=None)
    tracemalloc.start()
    try:
        connection.receive_data(header(BINARY, length) + b"a" * 100)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024
    assert connection.state == codec.OPEN and connection.events() == []


@vectors(41)
def test_rule_41_pong_echoes_the_payload(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


def test_rule_41_held_pings_are_answered_by_the_latest(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.hold_pongs(True)
    for payload in (b"1", b"2", b"3"):
        connection.receive_data(frame(PING, payload))
        assert connection.data_to_send() == b""
    connection.hold_pongs(False)
    assert sent(connection) == [Frame(PONG, b"3")]
    connection.receive_data(frame(PING, b"4"))
    assert sent(connection) == [Frame(PONG, b"4")]
    assert connection.events() == [Ping(b"1"), Ping(b"2"), Ping(b"3"), Ping(b"4")]


def test_rule_41_nothing_held_nothing_sent(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.hold_pongs(True)
    connection.hold_pongs(False)
    assert connection.data_to_send() == b""


@vectors(42)
def test_rule_42_unasked_pong_is_not_answered(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


def test_rule_42_pong_may_be_sent_unasked(codec: ModuleType) -> None:
    connection = codec.Connection(client=True)
    connection.send_pong(b"beat")
    assert [(one.opcode, one.payload) for one in sent(connection)] == [(PONG, b"beat")]


@vectors(43)
def test_rule_43_text_is_utf_8_across_fragments(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_rule_43_utf_8_is_cut_at_no_character(codec: ModuleType, streamed: bool) -> None:
    sentence = "aé€😀" * 5
    octets = sentence.encode()
    frames = [frame(TEXT if at == 0 else CONTINUATION, octets[at : at + 1], fin=False) for at in range(len(octets))]
    data = b"".join(frames) + frame(CONTINUATION)
    for pieces in splits(data):
        connection = codec.Connection()
        if streamed:
            connection.stream_next()
        events, output = feed(connection, pieces, drain=False)
        assert output == []
        if not streamed:
            assert events == [Message(sentence)]
            continue
        assert all(isinstance(event, Fragment) for event in events)
        assert "".join(event.data for event in events) == sentence  # type: ignore[union-attr, misc]
        assert [event.fin for event in events][-1:] == [True]  # type: ignore[union-attr]
        assert sum(event.fin for event in events) == 1  # type: ignore[union-attr]


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
def test_rule_43_streaming_from_inside_a_message_cuts_no_character(codec: ModuleType, compressed: bool) -> None:
    """Frames that are whole already are handed over as they ended, and the rest a frame at a time."""
    sentence = "aé€😀" * 3
    octets = sentence.encode()
    sent_as = [octets[at : at + 1] for at in range(len(octets))]
    rsv = 0
    if compressed:
        deflater = Deflater()
        sent_as, rsv = [deflater.flushed(octet) for octet in sent_as], RSV1
    frames = [
        frame(CONTINUATION if at else TEXT, payload, fin=False, rsv=0 if at else rsv)
        for at, payload in enumerate(sent_as)
    ]
    data = b"".join(frames) + frame(CONTINUATION)
    for at in range(len(data)):
        connection = codec.Connection(deflate=DeflateParameters() if compressed else None)
        connection.receive_data(data[:at])
        assert connection.events() == []
        connection.stream_next()
        connection.receive_data(data[at:])
        connection.receive_data(text("after"))
        *fragments, last = connection.events()
        assert "".join(fragment.data for fragment in fragments) == sentence, at
        assert [fragment.fin for fragment in fragments] == [False] * (len(fragments) - 1) + [True], at
        assert last == Message("after")


@vectors(44)
def test_rule_44_invalid_utf_8_fails_at_its_first_wrong_byte(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


def test_rule_44_every_position_of_a_long_text_is_checked(codec: ModuleType) -> None:
    """A wrong byte is seen wherever it stands in the lanes of a vector unit."""
    for at in range(0, 200):
        payload = b"a" * at + b"\xc0" + b"a" * (199 - at)
        connection = codec.Connection()
        connection.receive_data(frame(TEXT, payload))
        assert connection.failure == (1007, "invalid UTF-8 in a text message"), at


def test_rule_44_mask_runs_on_from_piece_to_piece(codec: ModuleType) -> None:
    payload = "é€😀".encode() * 4
    for key in (b"\x00\x01\x02\x03", b"\xaa\x55\xf0\x0f"):
        data = header(TEXT, len(payload), key=key) + mask_payload(payload, key)
        for pieces in splits(data):
            connection = codec.Connection()
            assert feed(connection, pieces, drain=True)[0] == [Message(payload.decode())]


def test_frames_of_every_sort_in_one_stream(codec: ModuleType) -> None:
    """The result depends on the bytes alone, wherever the stream is cut."""
    data = (
        text("one")
        + frame(PING, b"p")
        + frame(BINARY, b"tw", fin=False)
        + frame(PONG, b"q")
        + frame(CONTINUATION, b"o")
        + frame(BINARY, b"x" * 130)
        + close(1001, "bye")
        + text("late")
    )
    for pieces in splits(data):
        events, output = feed(codec.Connection(), pieces, drain=True)
        assert events == [
            Message("one"),
            Ping(b"p"),
            Pong(b"q"),
            Message(b"two"),
            Message(b"x" * 130),
            (1001, "bye"),
        ]
        assert output == [Frame(PONG, b"p"), Frame(CLOSE, close_body(1001))]


def test_deflate_does_not_change_how_plain_frames_are_read(codec: ModuleType) -> None:
    connection = codec.Connection(deflate=DeflateParameters())
    connection.receive_data(text("plain") + frame(PING, b"p"))
    assert connection.events() == [Message("plain"), Ping(b"p")]
