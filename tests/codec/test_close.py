"""The closing handshake (RFC 6455 §5.5.1, §7)."""

from __future__ import annotations

from types import ModuleType

import pytest

from ferrows.events import Close, Failure, Message, Ping
from ferrows.exceptions import WebsocketClosed

from .replay import replay
from .wire import CLOSE, PING, PONG, TEXT, Frame, close_body, frame, frames

PERMITTED = [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999]
FORBIDDEN = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2000, 2999, 5000, 9999, 65535]


@pytest.mark.parametrize("code", PERMITTED)
def test_7_4_permitted_codes_are_echoed(codec: ModuleType, code: int) -> None:
    outcome = replay(codec, frame(CLOSE, close_body(code, "adieu à tous")))
    assert outcome.events == [Close(code, "adieu à tous")]
    assert outcome.output == [Frame(CLOSE, close_body(code))]
    assert (outcome.close_received, outcome.close_sent) == ((code, "adieu à tous"), (code, ""))
    assert (outcome.state, outcome.failure) == (codec.CLOSED, None)


@pytest.mark.parametrize("code", FORBIDDEN)
def test_7_4_forbidden_codes_fail_1002(codec: ModuleType, code: int) -> None:
    reason = f"close code {code} is not permitted"
    # The code is checked before the reason's UTF-8.
    for body in (close_body(code), close_body(code, "reason"), close_body(code) + b"\xff"):
        outcome = replay(codec, frame(CLOSE, body))
        assert outcome.events == [Failure(1002, reason)]
        assert outcome.output == [Frame(CLOSE, close_body(1002, reason))]
        assert (outcome.close_received, outcome.failure) == (None, (1002, reason))


def test_5_5_1_an_empty_body_is_1005_and_echoed_empty(codec: ModuleType) -> None:
    outcome = replay(codec, frame(CLOSE))
    assert outcome.events == [Close(1005, "")]
    assert outcome.output == [Frame(CLOSE, b"")]
    assert (outcome.close_received, outcome.close_sent) == ((1005, ""), (1005, ""))


def test_5_5_1_a_body_of_one_byte_fails_1002(codec: ModuleType) -> None:
    outcome = replay(codec, frame(CLOSE, b"\x03"))
    assert outcome.events == [Failure(1002, "close frame body of 1 byte")]


def test_5_5_1_a_reason_of_123_bytes(codec: ModuleType) -> None:
    reason = "é" * 61 + "x"
    assert replay(codec, frame(CLOSE, close_body(4000, reason))).events == [Close(4000, reason)]


def test_5_5_1_our_close_is_answered(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.send_close(1001, "going away")
    assert connection.state == codec.CLOSING
    assert connection.close_sent == (1001, "going away")
    assert connection.data_to_send() == frame(CLOSE, close_body(1001, "going away"), key=None)
    assert connection.state == codec.CLOSING
    connection.receive_data(frame(CLOSE, close_body(1001)))
    assert connection.state == codec.CLOSED
    assert connection.events() == [Close(1001, "")]
    assert connection.data_to_send() == b""


@pytest.mark.parametrize("code", PERMITTED)
def test_7_4_permitted_codes_are_sent(codec: ModuleType, code: int) -> None:
    connection = codec.Connection()
    connection.send_close(code)
    assert connection.data_to_send() == frame(CLOSE, close_body(code), key=None)


def test_5_5_1_a_close_without_a_code_is_empty(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.send_close(None)
    assert connection.data_to_send() == frame(CLOSE, key=None)
    assert connection.close_sent == (1005, "")


def test_5_5_1_a_second_close_is_not_sent(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.send_close()
    connection.send_close(4000, "again")
    assert connection.data_to_send() == frame(CLOSE, close_body(1000), key=None)
    connection.send_close(4000, "again")
    assert connection.data_to_send() == b""
    assert connection.close_sent == (1000, "")


def test_5_5_1_messages_still_arrive_after_our_close(codec: ModuleType) -> None:
    def before(connection: object) -> None:
        connection.send_close()  # type: ignore[attr-defined]

    outcome = replay(codec, frame(TEXT, b"late") + frame(PING, b"p"), before)
    assert outcome.events == [Message("late"), Ping(b"p")]
    # §5.5.1: nothing is sent after the Close, no Pong either.
    assert outcome.output == [Frame(CLOSE, close_body(1000))]
    assert outcome.state == codec.CLOSING


def test_7_1_7_a_failure_after_our_close_sends_nothing_more(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.send_close()
    connection.data_to_send()
    connection.receive_data(frame(3))
    assert connection.events() == [Failure(1002, "opcode 0x3 is not defined")]
    assert (connection.state, connection.data_to_send()) == (codec.CLOSED, b"")
    assert connection.failure == (1002, "opcode 0x3 is not defined")
    assert connection.close_sent == (1000, "")


# ---- the pending Close


def test_our_answer_is_pending_until_the_output_is_taken(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.receive_data(frame(CLOSE, close_body(1000)))
    assert (connection.state, connection.close_sent) == (codec.CLOSING, None)
    connection.send_text("a last word")
    connection.send_ping(b"p")
    assert frames(connection.data_to_send()) == [
        Frame(TEXT, b"a last word"),
        Frame(PING, b"p"),
        Frame(CLOSE, close_body(1000)),
    ]
    assert (connection.state, connection.close_sent) == (codec.CLOSED, (1000, ""))
    with pytest.raises(WebsocketClosed) as raised:
        connection.send_text("too late")
    assert (raised.value.code, raised.value.reason) == (1000, "")


def test_the_close_of_a_failure_is_pending_until_the_output_is_taken(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.receive_data(frame(3))
    assert (connection.state, connection.close_sent) == (codec.CLOSING, None)
    connection.send_binary(b"x")
    reason = "opcode 0x3 is not defined"
    assert frames(connection.data_to_send()) == [Frame(2, b"x"), Frame(CLOSE, close_body(1002, reason))]
    assert (connection.state, connection.close_sent) == (codec.CLOSED, (1002, reason))


def test_a_close_of_ours_changes_nothing_while_the_answer_is_pending(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.receive_data(frame(CLOSE, close_body(1000)))
    connection.send_close(4000, "mine")
    assert connection.data_to_send() == frame(CLOSE, close_body(1000), key=None)


# ---- fail


@pytest.mark.parametrize("code", [1002, 1009, 1011, 4000])
def test_7_1_7_fail_sends_a_close_and_reads_no_more(codec: ModuleType, code: int) -> None:
    connection = codec.Connection()
    connection.receive_data(frame(TEXT, b"before", fin=False))
    connection.fail(code, "why")
    assert (connection.state, connection.failure) == (codec.CLOSING, (code, "why"))
    connection.receive_data(frame(0, b"after"))
    assert connection.events() == []
    assert connection.data_to_send() == frame(CLOSE, close_body(code, "why"), key=None)
    assert connection.state == codec.CLOSED


def test_7_1_7_fail_cuts_a_long_reason_at_a_character(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.fail(1011, "é" * 62)
    assert connection.failure == (1011, "é" * 61)
    assert connection.data_to_send() == frame(CLOSE, close_body(1011, "é" * 61), key=None)


def test_7_4_1_fail_with_a_code_that_is_never_sent(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.fail(1006, "lost")
    assert (connection.state, connection.failure, connection.close_sent) == (codec.CLOSED, (1006, "lost"), None)
    assert connection.data_to_send() == b""


def test_fail_after_the_end_changes_nothing(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.receive_data(frame(CLOSE, close_body(1000)))
    connection.fail(1011, "why")
    assert connection.failure is None
    assert connection.data_to_send() == frame(CLOSE, close_body(1000), key=None)
    connection.fail(1011, "why")
    assert (connection.failure, connection.data_to_send()) == (None, b"")


def test_fail_after_our_close_sends_nothing_more(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.send_close()
    connection.data_to_send()
    connection.fail(1011, "why")
    assert (connection.state, connection.failure) == (codec.CLOSED, (1011, "why"))
    assert connection.data_to_send() == b""


# ---- the end of the stream


def test_7_1_5_the_end_without_a_close_is_abnormal(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.receive_data(frame(TEXT, b"half")[:8])
    connection.receive_eof()
    assert (connection.state, connection.close_received, connection.failure) == (codec.CLOSED, None, None)
    assert (connection.events(), connection.data_to_send()) == ([], b"")
    with pytest.raises(WebsocketClosed) as raised:
        connection.send_text("x")
    assert (raised.value.code, raised.value.reason) == (1006, "")
    connection.receive_data(frame(TEXT, b"more"))
    assert connection.events() == []


def test_7_1_1_the_end_right_after_a_close_leaves_our_answer_pending(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.receive_data(frame(CLOSE, close_body(1001, "bye")))
    connection.receive_eof()
    assert connection.state == codec.CLOSED
    assert connection.data_to_send() == frame(CLOSE, close_body(1001), key=None)
    with pytest.raises(WebsocketClosed) as raised:
        connection.send_text("x")
    assert (raised.value.code, raised.value.reason) == (1001, "bye")


# ---- Pongs that are held back


def test_5_5_3_only_the_latest_held_pong_is_sent(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.hold_pongs(True)
    connection.receive_data(frame(PING, b"1") + frame(PING, b"2"))
    assert connection.events() == [Ping(b"1"), Ping(b"2")]
    assert connection.data_to_send() == b""
    connection.send_text("x")
    connection.hold_pongs(False)
    assert frames(connection.data_to_send()) == [Frame(TEXT, b"x"), Frame(PONG, b"2")]
    connection.hold_pongs(False)
    assert connection.data_to_send() == b""
    connection.receive_data(frame(PING, b"3"))
    assert frames(connection.data_to_send()) == [Frame(PONG, b"3")]


def test_5_5_3_pongs_in_the_output_are_not_held(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.receive_data(frame(PING, b"1"))
    connection.hold_pongs(True)
    assert frames(connection.data_to_send()) == [Frame(PONG, b"1")]


def test_5_5_1_a_held_pong_is_not_sent_after_a_close(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.hold_pongs(True)
    connection.receive_data(frame(PING, b"1"))
    connection.send_close()
    connection.hold_pongs(False)
    assert frames(connection.data_to_send()) == [Frame(CLOSE, close_body(1000))]


def test_a_held_pong_goes_before_a_pending_close(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.hold_pongs(True)
    connection.receive_data(frame(PING, b"1") + frame(CLOSE))
    connection.hold_pongs(False)
    assert frames(connection.data_to_send()) == [Frame(PONG, b"1"), Frame(CLOSE, b"")]


def test_a_held_pong_is_dropped_when_the_pending_close_leaves(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.hold_pongs(True)
    connection.receive_data(frame(PING, b"1") + frame(CLOSE))
    assert frames(connection.data_to_send()) == [Frame(CLOSE, b"")]
    connection.hold_pongs(False)
    assert connection.data_to_send() == b""
