"""Rules 45-51 and 54 on the codec: the Close frame (RFC 6455 §5.5.1, §7)."""

from __future__ import annotations

from types import ModuleType

import pytest

from ferrows.events import Close, Message
from ferrows.exceptions import WebsocketClosed

from .frame_cases import VALID_CODES
from .vectors import Vector, check, vectors
from .wire import BINARY, CLOSE, PING, TEXT, Frame, close, close_body, frame, parse_frames, text


@vectors(45)
def test_rule_45_close_body_of_1_byte_fails_1002(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


@vectors(46)
def test_rule_46_permitted_code_is_taken_and_echoed(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


def test_rule_46_every_permitted_code(codec: ModuleType) -> None:
    for code in (*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)):
        connection = codec.Connection()
        connection.receive_data(close(code))
        assert connection.events() == [Close(code, "")]
        assert connection.data_to_send() == frame(CLOSE, close_body(code), masked=False)


@pytest.mark.parametrize("code", VALID_CODES)
def test_rule_46_permitted_code_is_sent(codec: ModuleType, code: int) -> None:
    connection = codec.Connection()
    connection.send_close(code, "why")
    assert parse_frames(connection.data_to_send()) == [Frame(CLOSE, close_body(code, "why"))]


@vectors(47)
def test_rule_47_code_that_is_not_permitted_fails_1002(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


def test_rule_47_every_code_that_is_not_permitted(codec: ModuleType) -> None:
    for code in (*range(0, 1000), *range(1004, 1007), *range(1015, 3000), *range(5000, 65536, 97), 65535):
        connection = codec.Connection()
        connection.receive_data(close(code))
        assert connection.failure == (1002, f"close code {code} is not permitted")
        assert [one.close_code for one in parse_frames(connection.data_to_send())] == [1002]


@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535, 65536, -1])
def test_rule_47_code_that_is_not_permitted_is_never_sent(codec: ModuleType, code: int) -> None:
    connection = codec.Connection()
    with pytest.raises((ValueError, OverflowError)):
        connection.send_close(code, "why")
    assert connection.data_to_send() == b""
    assert connection.state == codec.OPEN


@vectors(48)
def test_rule_48_close_reason_is_utf_8(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


@pytest.mark.parametrize("reason", ["a" * 124, "é" * 62, "😀" * 31], ids=["ascii", "two-bytes", "four-bytes"])
def test_rule_48_reason_over_123_bytes_is_never_sent(codec: ModuleType, reason: str) -> None:
    connection = codec.Connection()
    with pytest.raises(ValueError):
        connection.send_close(1000, reason)
    assert connection.data_to_send() == b""


@pytest.mark.parametrize("reason", ["", "a" * 123, "é" * 61], ids=["empty", "ascii", "two-bytes"])
def test_rule_48_reason_up_to_123_bytes_is_sent(codec: ModuleType, reason: str) -> None:
    connection = codec.Connection()
    connection.send_close(1000, reason)
    assert parse_frames(connection.data_to_send()) == [Frame(CLOSE, close_body(1000, reason))]


def test_rule_48_reason_needs_a_code(codec: ModuleType) -> None:
    with pytest.raises(ValueError):
        codec.Connection().send_close(None, "why")


@vectors(49)
def test_rule_49_close_is_echoed_once(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


def test_rule_49_echo_is_sent_once_however_often_the_output_is_taken(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.receive_data(close(1000))
    assert connection.state == codec.CLOSING
    assert parse_frames(connection.data_to_send()) == [Frame(CLOSE, close_body(1000))]
    assert connection.state == codec.CLOSED
    connection.receive_data(close(1000))
    assert connection.data_to_send() == b""


def test_rule_49_answer_to_our_close_is_not_answered(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.send_close(1001, "going")
    assert [one.close_code for one in parse_frames(connection.data_to_send())] == [1001]
    connection.receive_data(close(1001))
    assert connection.events() == [Close(1001, "")]
    assert connection.data_to_send() == b""
    assert connection.state == codec.CLOSED
    assert (connection.close_sent, connection.close_received) == ((1001, "going"), (1001, ""))


def test_rule_49_second_close_of_ours_is_none(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.send_close(1000, "one")
    connection.send_close(1001, "two")
    assert parse_frames(connection.data_to_send()) == [Frame(CLOSE, close_body(1000, "one"))]
    assert connection.close_sent == (1000, "one")


def test_rule_49_both_close_at_once(codec: ModuleType) -> None:
    """Each side's Close crosses the other's: neither answers (§7.1.3)."""
    server, client = codec.Connection(), codec.Connection(client=True)
    server.send_close(1000, "server")
    client.send_close(1001, "client")
    from_server, from_client = server.data_to_send(), client.data_to_send()
    server.receive_data(from_client)
    client.receive_data(from_server)
    assert (server.data_to_send(), client.data_to_send()) == (b"", b"")
    assert (server.state, client.state) == (codec.CLOSED, codec.CLOSED)
    assert (server.close_received, client.close_received) == ((1001, "client"), (1000, "server"))


SENDS = {
    "text": lambda connection: connection.send_text("late"),
    "binary": lambda connection: connection.send_binary(b"late"),
    "ping": lambda connection: connection.send_ping(b"late"),
    "pong": lambda connection: connection.send_pong(b"late"),
}


@pytest.mark.parametrize("how", ["own-close", "answered", "failed", "peer-gone"])
@pytest.mark.parametrize("name", SENDS)
def test_rule_50_nothing_is_sent_after_close(codec: ModuleType, name: str, how: str) -> None:
    connection = codec.Connection()
    match how:
        case "own-close":
            connection.send_close(1000)
        case "answered":
            connection.receive_data(close(1000))
        case "failed":
            connection.receive_data(frame(0x3))
        case "peer-gone":
            connection.receive_eof()
    connection.data_to_send()
    with pytest.raises(WebsocketClosed):
        SENDS[name](connection)
    assert connection.data_to_send() == b""


def test_rule_50_ping_after_our_close_is_not_answered(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.send_close(1000)
    connection.receive_data(frame(PING, b"late"))
    assert [one.opcode for one in parse_frames(connection.data_to_send())] == [CLOSE]
    connection.receive_data(frame(PING, b"later"))
    assert connection.data_to_send() == b""


def test_rule_50_failure_after_our_close_sends_nothing(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.send_close(1000)
    connection.data_to_send()
    connection.receive_data(frame(0x3))
    assert connection.data_to_send() == b""
    assert connection.state == codec.CLOSED
    assert connection.failure == (1002, "opcode 0x3 is not defined")


def test_rule_50_what_was_sent_before_the_answer_goes_before_it(codec: ModuleType) -> None:
    """The answer to a Close may wait for the message that is being sent (§5.5.1)."""
    connection = codec.Connection()
    connection.send_text("hel", fin=False)
    connection.receive_data(close(1000))
    connection.send_text("lo")
    assert [one.opcode for one in parse_frames(connection.data_to_send())] == [TEXT, 0, CLOSE]


@vectors(51)
def test_rule_51_data_after_close_is_ignored(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


def test_rule_51_data_before_the_peers_close_still_arrives(codec: ModuleType) -> None:
    """Only the peer's own Close ends what the peer sends (§5.5.1)."""
    connection = codec.Connection()
    connection.send_close(1000)
    connection.data_to_send()
    connection.receive_data(text("one") + frame(BINARY, b"two") + close(1000) + text("three"))
    assert connection.events() == [Message("one"), Message(b"two"), Close(1000, "")]


@pytest.mark.parametrize("code", [1005, 1006, 1015])
def test_rule_54_codes_of_no_close_frame_are_never_sent(codec: ModuleType, code: int) -> None:
    connection = codec.Connection()
    with pytest.raises(ValueError):
        connection.send_close(code)
    assert connection.data_to_send() == b""


def test_rule_54_close_without_a_code_is_answered_without_one(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.receive_data(close())
    assert connection.events() == [Close(1005, "")]
    assert connection.data_to_send() == b"\x88\x00"


def test_rule_54_close_without_a_code_is_sent_without_one(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.send_close(None)
    assert connection.data_to_send() == b"\x88\x00"


def test_rule_54_lost_connection_sends_nothing(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.receive_data(frame(TEXT, b"half", fin=False))
    connection.receive_eof()
    assert connection.state == codec.CLOSED
    assert connection.data_to_send() == b""
    assert connection.close_received is None


@pytest.mark.parametrize("code", [1001, 1012, 1013])
def test_rule_55_codes_of_an_ending_server_can_be_sent(codec: ModuleType, code: int) -> None:
    connection = codec.Connection()
    connection.send_close(code)
    assert parse_frames(connection.data_to_send()) == [Frame(CLOSE, close_body(code))]
