"""Rules 60-66 on the codec: permessage-deflate (RFC 7692 §6, §7)."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ferrows.events import Message
from ferrows.extensions import DeflateParameters

from .vectors import Vector, check, feed, vectors
from .wire import (
    BINARY,
    CONTINUATION,
    RSV1,
    TAIL,
    TEXT,
    Deflater,
    Frame,
    Inflater,
    deflate,
    frame,
    inflate,
    parse_frames,
    splits,
)

SENTENCE = "the quick brown fox jumps over the lazy dog; " * 40


def server(codec: ModuleType, **parameters: Any) -> Any:
    return codec.Connection(deflate=DeflateParameters(**{"threshold": 0, **parameters}))


def sent(connection: Any) -> list[Frame]:
    return parse_frames(connection.data_to_send())


@vectors(60)
def test_rule_60_client_no_context_takeover_is_honoured(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


def test_rule_60_server_no_context_takeover_is_honoured(codec: ModuleType) -> None:
    connection = server(codec, server_no_context_takeover=True)
    for _ in range(3):
        connection.send_text(SENTENCE)
    payloads = [one.payload for one in sent(connection)]
    assert [inflate(payload).decode() for payload in payloads] == [SENTENCE] * 3
    assert len(set(payloads)) == 1


def test_rule_60_server_context_takeover_uses_the_window(codec: ModuleType) -> None:
    connection = server(codec, server_no_context_takeover=False)
    inflater = Inflater()
    sizes = []
    for _ in range(3):
        connection.send_text(SENTENCE)
        (only,) = sent(connection)
        assert inflater.message(only.payload).decode() == SENTENCE
        sizes.append(len(only.payload))
    assert sizes[1] < sizes[0]


def test_rule_60_connections_without_takeover_share_nothing(codec: ModuleType) -> None:
    """Messages of several connections in turn, fragmented ones too, each stand by themselves."""
    one, two = server(codec), server(codec)
    one.send_text(SENTENCE[:300], fin=False)
    two.send_text(SENTENCE)
    one.send_text(SENTENCE[300:])
    two.send_binary(b"bytes " * 100)
    assert inflate(b"".join(part.payload for part in sent(one))).decode() == SENTENCE
    first, second = sent(two)
    assert (inflate(first.payload).decode(), inflate(second.payload)) == (SENTENCE, b"bytes " * 100)


def test_rule_60_receiving_connections_share_nothing(codec: ModuleType) -> None:
    """A message that is under way on one connection is not touched by a message on another."""
    packed = deflate(SENTENCE.encode())
    data = frame(TEXT, packed, rsv=RSV1)
    one, two = server(codec), server(codec)
    for at in range(0, len(data), 7):
        one.receive_data(data[at : at + 7])
        two.receive_data(data)
    assert one.events() == [Message(SENTENCE)]
    assert set(two.events()) == {Message(SENTENCE)}


@pytest.mark.parametrize("bits", range(9, 16))
@pytest.mark.parametrize("takeover", [False, True])
def test_rule_57_server_window_is_kept_to(codec: ModuleType, bits: int, takeover: bool) -> None:
    """A peer that inflates with the agreed window can read all that is sent (RFC 7692 §7.1.2.1)."""
    connection = server(codec, server_max_window_bits=bits, server_no_context_takeover=not takeover)
    inflater = Inflater(wbits=bits)
    block = bytes(index * index % 251 for index in range(700))
    for _ in range(4):
        data = block + bytes(range(256)) * 8 + block
        connection.send_binary(data)
        (only,) = sent(connection)
        assert (inflater if takeover else Inflater(wbits=bits)).message(only.payload) == data


@pytest.mark.parametrize("bits", range(8, 16))
def test_rule_57_client_window_is_read(codec: ModuleType, bits: int) -> None:
    connection = server(codec, client_max_window_bits=bits, client_no_context_takeover=False)
    deflater = Deflater(wbits=max(bits, 9))
    for _ in range(3):
        connection.receive_data(frame(TEXT, deflater.message(SENTENCE[:200].encode()), rsv=RSV1))
    assert connection.events() == [Message(SENTENCE[:200])] * 3


@vectors(61)
def test_rule_61_rsv1_on_the_first_data_frame_only(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


def test_rule_61_rsv1_is_sent_on_the_first_frame_only(codec: ModuleType) -> None:
    connection = server(codec)
    connection.send_text(SENTENCE[:300], fin=False)
    connection.send_ping(b"p")
    connection.send_text(SENTENCE[300:600], fin=False)
    connection.send_text(SENTENCE[600:])
    frames = sent(connection)
    assert [(one.opcode, one.rsv, one.fin) for one in frames] == [
        (TEXT, RSV1, False),
        (0x9, 0, True),
        (CONTINUATION, 0, False),
        (CONTINUATION, 0, True),
    ]
    assert inflate(b"".join(one.payload for one in frames if one.opcode != 0x9)).decode() == SENTENCE


def test_rule_61_control_frames_are_sent_without_rsv1(codec: ModuleType) -> None:
    connection = server(codec)
    connection.send_ping(b"a" * 125)
    connection.send_pong(b"a" * 125)
    connection.receive_data(frame(0x9, b"a" * 125))
    connection.send_close(1000, "a" * 123)
    assert [one.rsv for one in sent(connection)] == [0, 0, 0, 0]


@vectors(62)
def test_rule_62_uncompressed_messages_stay_legal(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


def test_rule_62_uncompressed_messages_are_sent_where_asked_for(codec: ModuleType) -> None:
    connection = codec.Connection(deflate=DeflateParameters(threshold=100))
    connection.send_text("a" * 99)
    connection.send_text("a" * 100)
    connection.send_text("a" * 100, compress=False)
    connection.send_text("a" * 99, compress=True)
    assert [one.rsv for one in sent(connection)] == [0, RSV1, 0, RSV1]


def test_rule_62_without_the_extension_nothing_is_compressed(codec: ModuleType) -> None:
    connection = codec.Connection()
    connection.send_text(SENTENCE, compress=True)
    assert sent(connection) == [Frame(TEXT, SENTENCE.encode())]


@vectors(63)
def test_rule_63_tail_is_appended_before_inflating(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


@pytest.mark.parametrize("takeover", [False, True])
def test_rule_63_tail_is_stripped_from_what_is_sent(codec: ModuleType, takeover: bool) -> None:
    connection = server(codec, server_no_context_takeover=not takeover)
    inflater = Inflater()
    for size in (1, 2, 5, 100, 1000, 70000):
        data = bytes(index * index % 251 for index in range(size))
        connection.send_binary(data, compress=True)
        (only,) = sent(connection)
        assert not only.payload.endswith(TAIL)
        assert (inflater if takeover else Inflater()).message(only.payload) == data


@pytest.mark.parametrize("takeover", [False, True])
def test_rule_63_empty_message_is_sent_as_one_00_byte(codec: ModuleType, takeover: bool) -> None:
    connection = server(codec, server_no_context_takeover=not takeover)
    inflater = Inflater()
    for data in ("", SENTENCE, "", "", SENTENCE):
        connection.send_text(data, compress=True)
        (only,) = sent(connection)
        assert only.rsv == RSV1
        assert (inflater if takeover else Inflater()).message(only.payload).decode() == data
        assert data or only.payload == b"\x00"


@pytest.mark.parametrize("parts", [["", ""], ["", SENTENCE], [SENTENCE, ""], ["a", "", "b", ""]])
def test_rule_63_empty_fragments_are_sent(codec: ModuleType, parts: list[str]) -> None:
    connection = server(codec)
    for index, part in enumerate(parts):
        connection.send_text(part, fin=index == len(parts) - 1, compress=True)
    frames = sent(connection)
    assert frames[-1].fin and frames[0].rsv == RSV1
    assert inflate(b"".join(one.payload for one in frames)).decode() == "".join(parts)


@vectors(64)
def test_rule_64_blocks_of_every_sort_are_read_and_garbage_fails_1007(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


@vectors(65)
def test_rule_65_inflation_is_capped_while_it_runs(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


@pytest.mark.skipif(sys.platform != "linux", reason="resets and reads the peak of the process in /proc")
@pytest.mark.parametrize("how", ["single", "split", "fragmented", "takeover"])
def test_rule_65_bomb_holds_little_memory(codec: ModuleType, how: str) -> None:
    """64 MiB of zeros come to nothing above the limit, whichever allocator holds them."""
    bomb = deflate(b"\0" * 2**26, level=9)
    limit = 2**18
    connection = codec.Connection(
        max_size=limit, deflate=DeflateParameters(client_no_context_takeover=how != "takeover")
    )
    data = frame(BINARY, bomb, rsv=RSV1)
    if how == "fragmented":
        data = frame(BINARY, bomb[:9000], rsv=RSV1, fin=False) + frame(CONTINUATION, bomb[9000:])
    pieces = [data[at : at + 1000] for at in range(0, len(data), 1000)] if how == "split" else [data]
    Path("/proc/self/clear_refs").write_text("5")
    before = kilobytes("VmRSS")
    for piece in pieces:
        connection.receive_data(piece)
    assert connection.failure == (1009, f"inflated message over {limit} bytes")
    assert kilobytes("VmHWM") - before < 4096


def kilobytes(name: str) -> int:
    """Return a figure of this process' memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


@vectors(66)
def test_rule_66_utf_8_is_checked_after_inflating(codec: ModuleType, vector: Vector) -> None:
    check(codec, vector)


@pytest.mark.parametrize("takeover", [False, True])
@pytest.mark.parametrize("bits", [9, 12, 15])
def test_two_ends_understand_each_other(codec: ModuleType, bits: int, takeover: bool) -> None:
    parameters = DeflateParameters(
        server_no_context_takeover=not takeover,
        client_no_context_takeover=not takeover,
        server_max_window_bits=bits,
        client_max_window_bits=bits,
        threshold=1,
    )
    one, two = codec.Connection(deflate=parameters), codec.Connection(client=True, deflate=parameters)
    data = [SENTENCE, "", "a", "é€😀" * 500, SENTENCE]
    for message in data:
        one.send_text(message)
        two.send_text(message)
    to_client, to_server = one.data_to_send(), two.data_to_send()
    assert len(to_client) < sum(len(message.encode()) for message in data)
    for pieces in splits(to_server):
        fresh = codec.Connection(deflate=parameters)
        assert feed(fresh, pieces, drain=False)[0] == [Message(message) for message in data]
    two.receive_data(to_client)
    assert two.events() == [Message(message) for message in data]
