"""Messages that are handed over in fragments (RFC 6455 §5.4)."""

from __future__ import annotations

from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest

from ferrows.events import Close, Failure, Fragment, Message, Ping

from .replay import feed, replay
from .wire import BINARY, CLOSE, CONTINUATION, PING, TEXT, Deflate, Peer, frame


def stream_next(connection: Any) -> None:
    connection.stream_next()


def fragmented(opcode: int, *parts: bytes, fin: bool = True) -> list[bytes]:
    """Make the frames of a message."""
    last = len(parts) - 1
    return [
        frame(CONTINUATION if index else opcode, part, fin=fin and index == last) for index, part in enumerate(parts)
    ]


def test_one_fragment_a_frame(codec: ModuleType) -> None:
    outcome = replay(codec, b"".join(fragmented(BINARY, b"a", b"bc", b"d")), stream_next)
    assert outcome.events == [Fragment(b"a", False), Fragment(b"bc", False), Fragment(b"d", True)]


def test_an_unfragmented_message_is_its_last_fragment(codec: ModuleType) -> None:
    assert replay(codec, frame(TEXT, b"all"), stream_next).events == [Fragment("all", True)]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_only_the_last_fragment_may_be_empty(codec: ModuleType, opcode: int) -> None:
    empty = "" if opcode == TEXT else b""
    outcome = replay(codec, b"".join(fragmented(opcode, b"", b"", b"")), stream_next)
    assert outcome.events == [Fragment(empty, True)]


def test_streaming_ends_with_the_message(codec: ModuleType) -> None:
    stream = b"".join(fragmented(TEXT, b"a", b"b")) + b"".join(fragmented(TEXT, b"c", b"d"))
    outcome = replay(codec, stream, stream_next)
    assert outcome.events == [Fragment("a", False), Fragment("b", True), Message("cd")]


def test_characters_are_not_cut(codec: ModuleType) -> None:
    euro = "€".encode()
    parts = [b"x" + euro[:1], euro[1:2], euro[2:] + b"y" + euro[:2], euro[2:]]
    outcome = replay(codec, b"".join(fragmented(TEXT, *parts)), stream_next)
    assert outcome.events == [Fragment("x", False), Fragment("€y", False), Fragment("€", True)]


def test_8_1_text_is_validated_across_fragments(codec: ModuleType) -> None:
    failure = Failure(1007, "invalid UTF-8 in a text message")
    stream = b"".join(fragmented(TEXT, b"x\xe2\x82", b"\xacy\xed", b"\xa0"))
    assert replay(codec, stream, stream_next).events == [Fragment("x", False), Fragment("€y", False), failure]
    stream = b"".join(fragmented(TEXT, b"x\xe2", b"\x82"))
    assert replay(codec, stream, stream_next).events == [Fragment("x", False), failure]


def test_control_frames_come_in_between(codec: ModuleType) -> None:
    first, last = fragmented(BINARY, b"a", b"b")
    outcome = replay(codec, first + frame(PING, b"p") + last, stream_next)
    assert outcome.events == [Fragment(b"a", False), Ping(b"p"), Fragment(b"b", True)]


@pytest.mark.parametrize("takeover", [False, True])
def test_compressed_fragments(codec: ModuleType, takeover: bool) -> None:
    deflate = Deflate(client_no_context_takeover=not takeover)
    peer = Peer(takeover=takeover)
    stream, expected = b"", []
    for parts in ([b"first", b"", b"second " * 20, "€".encode()[:1], "€".encode()[1:]], [b"again"]):
        payloads = peer.compress(*parts)
        frames = fragmented(TEXT, *payloads)
        stream += bytes([frames[0][0] | 0x40]) + frames[0][1:] + b"".join(frames[1:])
    expected = [Fragment("first", False), Fragment("second " * 20, False), Fragment("€", True), Message("again")]
    assert replay(codec, stream, stream_next, deflate=deflate).events == expected


def test_the_limit_counts_what_was_handed_over(codec: ModuleType) -> None:
    stream = b"".join(fragmented(BINARY, b"x" * 60, b"y" * 60))
    failure = Failure(1009, "message of at least 120 bytes, permitted 119")
    assert replay(codec, stream, stream_next, max_size=119).events == [Fragment(b"x" * 60, False), failure]
    assert len(replay(codec, stream, stream_next, max_size=120).events) == 2
    first, second = Peer().compress(b"x" * 60, b"y" * 60)
    stream = frame(BINARY, first, rsv=4, fin=False) + frame(CONTINUATION, second)
    failure = Failure(1009, "inflated message over 119 bytes")
    outcome = replay(codec, stream, stream_next, max_size=119, deflate=Deflate())
    assert outcome.events == [Fragment(b"x" * 60, False), failure]
    assert len(replay(codec, stream, stream_next, max_size=120, deflate=Deflate()).events) == 2


# ---- beginning in the middle of a message


def test_what_is_there_is_handed_over_as_it_was_fragmented(codec: ModuleType) -> None:
    connection = codec.Connection()
    frames = fragmented(TEXT, b"a", b"", b"bc", "€".encode()[:2], "€".encode()[2:] + b"d", b"e")
    connection.receive_data(b"".join(frames[:4]))
    connection.stream_next()
    assert connection.events() == [Fragment("a", False), Fragment("bc", False)]
    connection.receive_data(frames[4])
    assert connection.events() == [Fragment("€d", False)]
    connection.receive_data(frames[5] + frame(TEXT, b"next"))
    assert connection.events() == [Fragment("e", True), Message("next")]


def test_a_frame_that_is_not_whole_stays(codec: ModuleType) -> None:
    connection = codec.Connection()
    first, last = fragmented(BINARY, b"whole", b"not whole")
    connection.receive_data(first + last[:-3])
    connection.stream_next()
    assert connection.events() == [Fragment(b"whole", False)]
    connection.receive_data(last[-3:])
    assert connection.events() == [Fragment(b"not whole", True)]


def test_the_first_frame_is_not_whole(codec: ModuleType) -> None:
    connection = codec.Connection()
    data = frame(TEXT, b"one frame")
    connection.receive_data(data[:-3])
    connection.stream_next()
    assert connection.events() == []
    connection.receive_data(data[-3:])
    assert connection.events() == [Fragment("one frame", True)]


def test_streaming_twice_is_streaming_once(codec: ModuleType) -> None:
    connection = codec.Connection()
    first, last = fragmented(BINARY, b"a", b"b")
    connection.stream_next()
    connection.stream_next()
    connection.receive_data(first)
    connection.stream_next()
    connection.receive_data(last + frame(BINARY, b"c"))
    assert connection.events() == [Fragment(b"a", False), Fragment(b"b", True), Message(b"c")]


@pytest.mark.parametrize("count", [511, 512, 513, 514, 600])
def test_at_most_512_ends_are_recorded(codec: ModuleType, count: int) -> None:
    parts = [str(index).encode() for index in range(count)]
    connection = codec.Connection()
    connection.receive_data(b"".join(fragmented(TEXT, *parts, fin=False)))
    connection.stream_next()
    fragments = connection.events()
    assert [fragment.data for fragment in fragments[:512]] == [part.decode() for part in parts[:512]]
    assert [fragment.data for fragment in fragments[512:]] == (
        ["".join(part.decode() for part in parts[512:])] if count > 512 else []
    )
    connection.receive_data(frame(CONTINUATION, b"end"))
    assert connection.events() == [Fragment("end", True)]


@pytest.mark.parametrize("end", [frame(CLOSE), frame(3)], ids=["close", "failure"])
def test_nothing_is_handed_over_after_the_end(codec: ModuleType, end: bytes) -> None:
    connection = codec.Connection()
    connection.receive_data(frame(TEXT, b"unfinished", fin=False) + end)
    (event,) = connection.events()
    assert isinstance(event, Close | Failure)
    connection.stream_next()
    assert connection.events() == []


def test_nothing_is_handed_over_after_the_end_of_the_stream(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.receive_data(frame(TEXT, b"unfinished", fin=False))
    connection.receive_eof()
    connection.stream_next()
    assert connection.events() == []


# ---- the twin's hooks, which its MessageStream builds on; the extension's are tested by cargo

ENDS: list[tuple[str, list[bytes], list[int]]] = [
    ("one frame", [b"abc"], []),
    ("two frames", [b"ab", b"c"], [2]),
    ("empty frames count for nothing", [b"", b"ab", b"", b"c", b"", b""], [2]),
    ("a character belongs to the frame that ends it", [b"a\xe2", b"\x82", b"\xacb", b"c"], [1, 3]),
    ("at most 512", [b"x"] * 600, list(range(1, 513))),
]


@pytest.mark.parametrize(("parts", "ends"), [pytest.param(*case[1:], id=case[0]) for case in ENDS])
def test_the_twin_tells_where_fragments_ended(parts: list[bytes], ends: list[int]) -> None:
    from ferrows import _pycore

    seen: list[tuple[bool, str | bytes, list[int]]] = []

    class Connection(_pycore.Connection):
        def _message(self, text: bool, payload: str | bytes, ends: Any) -> None:
            seen.append((text, payload, list(ends)))

    for opcode in (TEXT, BINARY):
        data = b"".join(fragmented(opcode, *parts))
        for chunks in ([data], [data[at : at + 1] for at in range(len(data))]):
            seen.clear()
            connection = Connection()
            for chunk in chunks:
                connection.receive_data(chunk)
            ((text, payload, offsets),) = seen
            whole = b"".join(parts)
            assert (text, payload) == (opcode == TEXT, whole.decode() if text else whole)
            if text or b"\xe2" not in whole[:2]:
                assert offsets == ends
            assert all(before < after for before, after in pairwise([0, *offsets, len(payload)])) or not payload


def test_many_tiny_fragments(codec: ModuleType) -> None:
    data = frame(BINARY, b"", fin=False) + frame(CONTINUATION, b"x", fin=False) * 20_000 + frame(CONTINUATION, b"y")
    assert feed(codec, [data]).events == [Message(b"x" * 20_000 + b"y")]
