"""UTF-8 in text messages and close reasons (RFC 6455 §8.1, RFC 3629)."""

from __future__ import annotations

from types import ModuleType

import pytest

from ferrows.events import Failure, Message

from .replay import replay
from .wire import CLOSE, CONTINUATION, TEXT, Deflate, Peer, frame

INVALID_TEXT = Failure(1007, "invalid UTF-8 in a text message")

VALID = [
    "",
    "ascii",
    "\x00\x7f\x80߿",
    "ࠀ퟿￿",
    "\U00010000\U0010ffff",
    "﻿bom",
    "κόσμε 😀",
]

# (bytes, how many of them can still go on to a valid text)
INVALID = [
    (b"\x80", 0),
    (b"\xbf", 0),
    (b"ab\xff", 2),
    (b"\xfe", 0),
    (b"\xc0\x80", 0),
    (b"\xc1\xbf", 0),
    (b"\xc3\x28", 1),
    (b"\xe0\x80\x80", 1),
    (b"\xe0\x9f\xbf", 1),
    (b"\xe2\x82\x41", 2),
    (b"\xe2\x28\xa1", 1),
    (b"\xed\xa0\x80", 1),
    (b"\xed\xbf\xbf", 1),
    (b"ok\xed\xb0\x80", 3),
    (b"\xf0\x80\x80\x80", 1),
    (b"\xf0\x8f\xbf\xbf", 1),
    (b"\xf0\x90\x80\x41", 3),
    (b"\xf0\x90\x41\x80", 2),
    (b"\xf4\x90\x80\x80", 1),
    (b"\xf5\x80\x80\x80", 0),
    (b"\xf8\x88\x80\x80\x80", 0),
    ("κόσμε".encode() + b"\xed\xa0\x80edited", 12 - 1),
]


@pytest.mark.parametrize("text", VALID)
def test_8_1_valid_text_in_one_frame(codec: ModuleType, text: str) -> None:
    assert replay(codec, frame(TEXT, text.encode())).events == [Message(text)]


@pytest.mark.parametrize("text", VALID)
def test_8_1_characters_may_be_cut_by_fragments(codec: ModuleType, text: str) -> None:
    data = text.encode()
    for at in range(len(data) + 1):
        stream = frame(TEXT, data[:at], fin=False) + frame(CONTINUATION, data[at:])
        assert replay(codec, stream).events == [Message(text)]
    singles = [frame(CONTINUATION, data[at : at + 1], fin=False) for at in range(len(data))]
    stream = frame(TEXT, fin=False) + b"".join(singles) + frame(CONTINUATION)
    assert replay(codec, stream).events == [Message(text)]


@pytest.mark.parametrize(("data", "valid"), INVALID, ids=lambda value: value.hex() if isinstance(value, bytes) else "")
def test_8_1_invalid_text_fails_at_the_first_byte_that_cannot_continue(
    codec: ModuleType, data: bytes, valid: int
) -> None:
    assert replay(codec, frame(TEXT, data)).events == [INVALID_TEXT]
    for fin in (True, False):
        # Inside an unfinished frame already: its length announces more.
        stream = frame(TEXT, data + b"more", fin=fin)[: 6 + len(data)]
        connection = codec.Connection()
        connection.receive_data(stream[: 6 + valid])
        assert connection.events() == []
        connection.receive_data(stream[6 + valid : 7 + valid])
        assert connection.events() == [INVALID_TEXT]
    fragments = b"".join(frame(CONTINUATION, data[at : at + 1], fin=False) for at in range(1, valid + 1))
    stream = frame(TEXT, data[:1], fin=False) + fragments
    assert replay(codec, stream).events == [INVALID_TEXT]


@pytest.mark.parametrize("data", [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"text \xe2"])
def test_8_1_text_that_ends_inside_a_character_fails(codec: ModuleType, data: bytes) -> None:
    assert replay(codec, frame(TEXT, data)).events == [INVALID_TEXT]
    assert replay(codec, frame(TEXT, data, fin=False)).events == []
    assert replay(codec, frame(TEXT, data, fin=False) + frame(CONTINUATION)).events == [INVALID_TEXT]
    assert replay(codec, frame(TEXT, data[:1], fin=False) + frame(CONTINUATION, data[1:])).events == [INVALID_TEXT]


def test_8_1_a_cut_character_does_not_leak_into_the_next_message(codec: ModuleType) -> None:
    stream = frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"\xa9") + frame(TEXT, b"\xa9")
    assert replay(codec, stream).events == [Message("é"), INVALID_TEXT]


@pytest.mark.parametrize(
    ("data", "valid"), INVALID[:12], ids=lambda value: value.hex() if isinstance(value, bytes) else ""
)
def test_8_1_text_is_validated_after_inflating(codec: ModuleType, data: bytes, valid: int) -> None:
    (payload,) = Peer().compress(data)
    assert replay(codec, frame(TEXT, payload, rsv=4), deflate=Deflate()).events == [INVALID_TEXT]


def test_binary_messages_are_not_validated(codec: ModuleType) -> None:
    data = b"\xff\xfe\xc0\x80\xed\xa0\x80"
    stream = frame(2, data[:3], fin=False) + frame(CONTINUATION, data[3:])
    assert replay(codec, stream).events == [Message(data)]


@pytest.mark.parametrize("reason", [b"\xff", b"\xc3", b"ok\xed\xa0\x80", b"\xe2\x82"])
def test_5_5_1_a_close_reason_is_utf8(codec: ModuleType, reason: bytes) -> None:
    failure = Failure(1007, "invalid UTF-8 in a close reason")
    assert replay(codec, frame(CLOSE, b"\x03\xe8" + reason)).events == [failure]


def test_8_1_all_sequences_of_one_and_two_bytes(codec: ModuleType) -> None:
    def outcome(data: bytes, fin: bool) -> bool:
        connection = codec.Connection()
        connection.receive_data(frame(TEXT, data, fin=fin, key=bytes(4)))
        return not connection.failure

    def decodes(data: bytes) -> bool:
        try:
            data.decode()
        except UnicodeDecodeError:
            return False
        return True

    endings = [b"", b"\x80", b"\x80\x80", b"\x80\x80\x80", b"\x90\x80\x80", b"\xa0\x80", b"\x90\x80"]
    for first in range(0x70, 0x100):
        for second in (0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC2, 0xE0, 0xED, 0xF0, 0xF4, 0xFF):
            data = bytes([first, second])
            assert outcome(data, True) == decodes(data), data
            assert outcome(data, False) == any(decodes(data + end) for end in endings), data
