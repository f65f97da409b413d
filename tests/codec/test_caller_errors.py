"""What a caller does wrong raises and leaves the connection as it was."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from ferrows.exceptions import WebsocketClosed

from .wire import CLOSE, TEXT, Deflate, Frame, close_body, frame, frames

ERRORS: list[tuple[str, Callable[[Any], object], str]] = [
    ("5_5_ping", lambda c: c.send_ping(b"x" * 126), "control payload of 126 bytes, permitted 125"),
    ("5_5_pong", lambda c: c.send_pong(b"x" * 1000), "control payload of 1000 bytes, permitted 125"),
    ("7_4_code_1005", lambda c: c.send_close(1005), "close code 1005 is not permitted"),
    ("7_4_code_0", lambda c: c.send_close(0), "close code 0 is not permitted"),
    ("7_4_code_5000", lambda c: c.send_close(5000, "x" * 200), "close code 5000 is not permitted"),
    ("5_5_1_reason", lambda c: c.send_close(1000, "é" * 62), "close reason of 124 bytes, permitted 123"),
    ("5_5_1_no_code", lambda c: c.send_close(None, "why"), "close reason without a close code"),
]


@pytest.mark.parametrize(("act", "text"), [pytest.param(*case[1:], id=case[0]) for case in ERRORS])
def test_value_errors_say_what_is_permitted(codec: ModuleType, act: Callable[[Any], object], text: str) -> None:
    connection = codec.Connection()
    with pytest.raises(ValueError) as raised:
        act(connection)
    assert str(raised.value) == text
    assert (connection.state, connection.data_to_send(), connection.close_sent) == (codec.OPEN, b"", None)


@pytest.mark.parametrize("deflate", [None, Deflate()])
def test_5_4_kinds_are_not_mixed_in_a_message(codec: ModuleType, deflate: Deflate | None) -> None:
    connection = codec.Connection(deflate=deflate)
    connection.send_text("one", fin=False, compress=False)
    with pytest.raises(ValueError, match=r"^a fragmented text message is unfinished$"):
        connection.send_binary(b"two")
    connection.send_text("three")
    connection.send_binary(b"four", fin=False, compress=False)
    with pytest.raises(ValueError, match=r"^a fragmented binary message is unfinished$"):
        connection.send_text("five", fin=False)
    connection.send_binary(b"six")
    assert [sent.payload for sent in frames(connection.data_to_send())] == [b"one", b"three", b"four", b"six"]


SENDS: list[tuple[str, Callable[[Any], object]]] = [
    ("text", lambda c: c.send_text("x")),
    ("binary", lambda c: c.send_binary(b"x", fin=False)),
    ("ping", lambda c: c.send_ping()),
    ("pong", lambda c: c.send_pong(b"x")),
]


@pytest.mark.parametrize("act", [pytest.param(act, id=name) for name, act in SENDS])
def test_5_5_1_nothing_is_sent_after_our_close(codec: ModuleType, act: Callable[[Any], object]) -> None:
    connection = codec.Connection()
    connection.send_close(4001, "mine")
    with pytest.raises(WebsocketClosed) as raised:
        act(connection)
    assert (raised.value.code, raised.value.reason) == (4001, "mine")
    connection.receive_data(frame(CLOSE, close_body(4002, "theirs")))
    with pytest.raises(WebsocketClosed) as raised:
        act(connection)
    assert (raised.value.code, raised.value.reason) == (4002, "theirs")
    assert frames(connection.data_to_send()) == [Frame(CLOSE, close_body(4001, "mine"))]


def test_a_close_after_the_end_of_the_stream_raises(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.receive_eof()
    with pytest.raises(WebsocketClosed) as raised:
        connection.send_close()
    assert (raised.value.code, raised.value.reason) == (1006, "")


def test_errors_of_the_caller_come_before_the_closed_connection(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.send_close()
    with pytest.raises(ValueError, match="control payload of 126 bytes"):
        connection.send_ping(b"x" * 126)
    with pytest.raises(ValueError, match="close code 1006 is not permitted"):
        connection.send_close(1006)


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda c: c.send_text(b"bytes"), id="text of bytes"),
        pytest.param(lambda c: c.send_binary("text"), id="binary of str"),
        pytest.param(lambda c: c.send_binary(7), id="binary of int"),
        pytest.param(lambda c: c.send_ping("text"), id="ping of str"),
        pytest.param(lambda c: c.receive_data("text"), id="receive str"),
        pytest.param(lambda c: c.receive_data(7), id="receive int"),
    ],
)
def test_wrong_types_raise_type_error(codec: ModuleType, act: Callable[[Any], object]) -> None:
    connection = codec.Connection()
    with pytest.raises(TypeError):
        act(connection)
    assert (connection.state, connection.data_to_send(), connection.events()) == (codec.OPEN, b"", [])


def test_text_with_a_lone_surrogate_is_refused(codec: ModuleType) -> None:
    connection = codec.Connection()
    with pytest.raises(UnicodeEncodeError):
        connection.send_text("\ud800")
    with pytest.raises(UnicodeEncodeError):
        connection.send_close(1000, "\ud800")
    connection.send_text("x")
    assert frames(connection.data_to_send()) == [Frame(TEXT, b"x")]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"server_max_window_bits": 8}, "window bits to compress with 8, permitted 9 to 15"),
        ({"server_max_window_bits": 16}, "window bits to compress with 16, permitted 9 to 15"),
        ({"client_max_window_bits": 7}, "window bits to decompress with 7, permitted 8 to 15"),
        ({"level": 10}, "compression level 10, permitted 0 to 9"),
        ({"mem_level": 0}, "memory level 0, permitted 1 to 9"),
    ],
)
def test_deflate_parameters_are_checked(codec: ModuleType, options: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError) as raised:
        codec.Connection(deflate=Deflate(**options))  # type: ignore[arg-type]
    assert str(raised.value) == text
