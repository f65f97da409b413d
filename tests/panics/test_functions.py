"""A panic where there is no server: the sans-I/O connection, the head's reader, the mask."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from ferrows.exceptions import ServerError
from tests.websocket.harness import text

METHODS: list[tuple[str, tuple[Any, ...]]] = [
    ("receive_data", (text("x"),)),
    ("receive_eof", ()),
    ("stream_next", ()),
    ("send_text", ("x",)),
    ("send_binary", (b"x",)),
    ("send_ping", (b"x",)),
    ("send_pong", ()),
    ("send_close", ()),
    ("fail", (1008,)),
    ("hold_pongs", (True,)),
    ("data_to_send", ()),
]


@pytest.mark.parametrize(("name", "arguments"), METHODS, ids=[name for name, _ in METHODS])
def test_a_panic_fails_a_connection_with_1011(
    extension: Any, panic_at: Callable[..., None], name: str, arguments: tuple[Any, ...]
) -> None:
    connection = extension.Connection()
    other = extension.Connection()
    panic_at(f"Connection.{name}")
    with pytest.raises(RuntimeError, match=rf"the extension panicked: injected at Connection\.{name}"):
        getattr(connection, name)(*arguments)
    assert connection.failure == (1011, "internal error")
    assert connection.data_to_send() == b"\x88\x10\x03\xf3internal error"
    assert connection.state == extension.CLOSED
    connection.receive_data(text("ignored"))
    assert connection.events() == []
    other.receive_data(text("x"))
    assert other.events() == [("x",)]


def test_a_panic_on_a_head_is_an_http_error_and_a_line_in_the_log(
    extension: Any, panic_at: Callable[..., None], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ferrows.log import error_logger

    monkeypatch.setattr(error_logger, "propagate", True)
    reader = extension.HeadReader(100, 1000, 10)
    panic_at("HeadReader.receive_data")
    with pytest.raises(ServerError, match="internal error"):
        reader.receive_data(b"GET / HTTP/1.1\r\n")
    assert [record.levelno for record in caplog.records] == [logging.CRITICAL]
    # What it would have kept is gone, but it is not stuck.
    assert reader.beginning(10) == b""


def test_a_panic_of_the_mask_is_an_exception(extension: Any, panic_at: Callable[..., None]) -> None:
    panic_at("apply_mask")
    with pytest.raises(RuntimeError, match="the extension panicked"):
        extension.apply_mask(b"abc", b"1234")
    assert extension.apply_mask(extension.apply_mask(b"abc", b"1234"), b"1234") == b"abc"


def test_a_panic_comes_after_as_many_calls_as_were_asked_for(extension: Any, panic_at: Callable[..., None]) -> None:
    panic_at("apply_mask", 3)
    for _ in range(2):
        extension.apply_mask(b"abc", b"1234")
    with pytest.raises(RuntimeError):
        extension.apply_mask(b"abc", b"1234")
