"""permessage-deflate (RFC 7692)."""

from __future__ import annotations

import tracemalloc
import zlib
from types import ModuleType
from typing import Any

import pytest

from ferrows.events import Failure, Message, Ping

from .replay import feed, replay
from .wire import BINARY, CONTINUATION, PING, TAKEOVER, TEXT, Deflate, Peer, frame, frames

RSV1 = 4
INVALID = Failure(1007, "invalid deflate data")

WORDS = "\n".join(f"{number}: the quick brown fox jumps over the lazy dog" for number in range(200)).encode()


def raw(data: bytes, mode: int = zlib.Z_SYNC_FLUSH, level: int = 6) -> bytes:
    compressor = zlib.compressobj(level, zlib.DEFLATED, -15)
    return compressor.compress(data) + compressor.flush(mode)


# ---- receiving

EXAMPLES = [
    # §7.2.3.1: one block, and the same in two fragments
    ("one_block", [bytes.fromhex("f248cdc9c90700")], b"Hello"),
    ("two_fragments", [bytes.fromhex("f248cd"), bytes.fromhex("c9c90700")], b"Hello"),
    # §7.2.3.3: a block without compression
    ("stored", [bytes.fromhex("000500faff48656c6c6f00")], b"Hello"),
    # §7.2.3.4: a block with BFINAL, and an empty stored one after it
    ("bfinal", [bytes.fromhex("f348cdc9c9070000")], b"Hello"),
    # §7.2.3.5: two blocks
    ("two_blocks", [bytes.fromhex("f248050000 00ffffcac9c90700".replace(" ", ""))], b"Hello"),
    # §7.2.3.6: an empty message
    ("empty", [b"\x00"], b""),
    ("empty_fragments_around", [b"", bytes.fromhex("f248cdc9c90700"), b""], b"Hello"),
    # A final block that ends with the payload, its last bits with the last byte.
    ("bfinal_at_the_end", [raw(b"Hello", zlib.Z_FINISH)], b"Hello"),
    ("bfinal_then_more", [raw(b"Hello", zlib.Z_FINISH) + raw(b", you")[:-4]], b"Hello, you"),
    ("bfinal_at_a_fragments_end", [raw(b"Hello", zlib.Z_FINISH), raw(b", you")[:-4]], b"Hello, you"),
    ("bfinal_twice", [raw(b"Hello", zlib.Z_FINISH) + raw(b", you", zlib.Z_FINISH)], b"Hello, you"),
]


@pytest.mark.parametrize("deflate", [Deflate(), TAKEOVER], ids=["reset", "takeover"])
@pytest.mark.parametrize(("payloads", "expected"), [pytest.param(*case[1:], id=case[0]) for case in EXAMPLES])
def test_7_2_3_examples(codec: ModuleType, payloads: list[bytes], expected: bytes, deflate: Deflate) -> None:
    first, *rest = payloads
    stream = frame(TEXT, first, rsv=RSV1, fin=not rest)
    for index, payload in enumerate(rest, 1):
        stream += frame(CONTINUATION, payload, fin=index == len(rest))
    assert replay(codec, stream, deflate=deflate).events == [Message(expected.decode())]
    # What comes next is read, too: nothing of the end is left over.
    again = frame(BINARY, b"plain") + frame(BINARY, raw(b"again")[:-4], rsv=RSV1)
    outcome = replay(codec, stream + again, deflate=deflate)
    assert outcome.events == [Message(expected.decode()), Message(b"plain"), Message(b"again")]


def test_7_2_3_2_the_window_is_shared_with_takeover(codec: ModuleType) -> None:
    stream = frame(TEXT, bytes.fromhex("f248cdc9c90700"), rsv=RSV1) + frame(TEXT, bytes.fromhex("f200110000"), rsv=RSV1)
    outcome = replay(codec, stream, deflate=TAKEOVER)
    assert outcome.events == [Message("Hello"), Message("Hello")]


def test_7_1_1_the_window_is_not_shared_without_takeover(codec: ModuleType) -> None:
    stream = frame(TEXT, bytes.fromhex("f248cdc9c90700"), rsv=RSV1) + frame(TEXT, bytes.fromhex("f200110000"), rsv=RSV1)
    assert replay(codec, stream, deflate=Deflate()).events == [Message("Hello"), INVALID]


@pytest.mark.parametrize("client", [False, True], ids=["server", "client"])
@pytest.mark.parametrize("takeover", [False, True], ids=["reset", "takeover"])
@pytest.mark.parametrize("window_bits", range(9, 16))
def test_7_1_2_what_the_peer_compresses_is_inflated(
    codec: ModuleType, window_bits: int, takeover: bool, client: bool
) -> None:
    side = "server" if client else "client"
    parameters: dict[str, Any] = {f"{side}_max_window_bits": window_bits, f"{side}_no_context_takeover": not takeover}
    deflate = Deflate(**parameters)
    peer = Peer(takeover=takeover, window_bits=window_bits)
    key = None if client else b"\x01\x02\x03\x04"
    stream, expected = b"", []
    for text in (WORDS, b"", WORDS[::-1], b"x" * 40_000, WORDS):
        payloads = peer.compress(text[:700], text[700:])
        stream += frame(BINARY, payloads[0], fin=False, rsv=RSV1, key=key)
        stream += frame(PING, b"p", key=key) + frame(CONTINUATION, payloads[1], key=key)
        expected += [Ping(b"p"), Message(text)]
    for step in (1, 7, 1000, len(stream)):
        chunks = [stream[at : at + step] for at in range(0, len(stream), step)]
        assert feed(codec, chunks, deflate=deflate, client=client).events == expected


def test_7_1_2_2_a_peer_with_8_window_bits(codec: ModuleType) -> None:
    (payload,) = Peer(window_bits=9).compress(WORDS)
    outcome = feed(codec, [frame(BINARY, payload, rsv=RSV1)], deflate=Deflate(client_max_window_bits=8))
    assert outcome.events == [Message(WORDS)]


def test_6_uncompressed_messages_stay_legal(codec: ModuleType) -> None:
    stream = frame(TEXT, b"plain") + frame(TEXT, raw(b"deflated")[:-4], rsv=RSV1)
    stream += frame(BINARY, b"\x00", fin=False) + frame(CONTINUATION, b"\x01")
    outcome = replay(codec, stream, deflate=TAKEOVER)
    assert outcome.events == [Message("plain"), Message("deflated"), Message(b"\x00\x01")]


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"\x07", id="block type 3"),
        pytest.param(b"\xff\xff\xff\xff", id="ones"),
        pytest.param(b"\x00\x05\x00\x05\x00Hello", id="lengths that disagree"),
        pytest.param(bytes.fromhex("1b03"), id="a length code that is not defined"),
        pytest.param(raw(b"Hello", zlib.Z_FINISH) + b"\xff\xff", id="garbage after a final block"),
        pytest.param(bytes.fromhex("f200110000"), id="a distance before the beginning"),
    ],
)
@pytest.mark.parametrize("deflate", [Deflate(), TAKEOVER], ids=["reset", "takeover"])
def test_invalid_deflate_data_fails_1007(codec: ModuleType, payload: bytes, deflate: Deflate) -> None:
    assert replay(codec, frame(BINARY, payload, rsv=RSV1), deflate=deflate).events == [INVALID]
    fragments = frame(TEXT, payload[:1], rsv=RSV1, fin=False) + frame(CONTINUATION, payload[1:])
    assert replay(codec, fragments, deflate=deflate).events == [INVALID]


# ---- limits


@pytest.mark.parametrize("deflate", [Deflate(), TAKEOVER], ids=["reset", "takeover"])
@pytest.mark.parametrize("size", [0, 1, 2, 100, 70_000])
def test_the_limit_is_of_the_inflated_message(codec: ModuleType, size: int, deflate: Deflate) -> None:
    (payload,) = Peer().compress(b"x" * size)
    stream = frame(BINARY, payload, rsv=RSV1)
    assert replay(codec, stream, max_size=size, deflate=deflate).events == [Message(b"x" * size)]
    if size:
        failure = Failure(1009, f"inflated message over {size - 1} bytes")
        assert replay(codec, stream, max_size=size - 1, deflate=deflate).events == [failure]


def test_the_limit_is_of_all_fragments_together(codec: ModuleType) -> None:
    first, second = Peer().compress(b"x" * 60, b"y" * 60)
    stream = frame(TEXT, first, rsv=RSV1, fin=False) + frame(CONTINUATION, second)
    assert replay(codec, stream, max_size=120, deflate=Deflate()).events == [Message("x" * 60 + "y" * 60)]
    failure = Failure(1009, "inflated message over 119 bytes")
    assert replay(codec, stream, max_size=119, deflate=Deflate()).events == [failure]


def test_the_limit_comes_before_a_flaw_behind_it(codec: ModuleType) -> None:
    payload = raw(b"x" * 50) + b"\xff"
    failure = Failure(1009, "inflated message over 49 bytes")
    assert replay(codec, frame(TEXT, payload, rsv=RSV1), max_size=49, deflate=Deflate()).events == [failure]
    assert replay(codec, frame(TEXT, payload, rsv=RSV1), max_size=50, deflate=Deflate()).events == [INVALID]


@pytest.mark.parametrize("limit", [0, 100, 255, 256, 1000, 2**20])
def test_a_compressed_message_is_refused_by_its_header_with_some_slack(codec: ModuleType, limit: int) -> None:
    permitted = limit + limit // 256 + 64
    connection = codec.Connection(max_size=limit, deflate=Deflate())
    connection.receive_data(frame(BINARY, rsv=RSV1, length=permitted))
    assert connection.events() == []
    connection = codec.Connection(max_size=limit, deflate=Deflate())
    connection.receive_data(frame(BINARY, rsv=RSV1, length=permitted + 1))
    failure = Failure(1009, f"message of at least {permitted + 1} bytes, permitted {limit}")
    assert connection.events() == [failure]
    # Without RSV1 there is no slack, deflate or not.
    connection = codec.Connection(max_size=limit, deflate=Deflate())
    connection.receive_data(frame(BINARY, length=limit + 1))
    assert connection.events() == [Failure(1009, f"message of at least {limit + 1} bytes, permitted {limit}")]


def test_fragments_of_a_compressed_message_are_refused_by_a_header(codec: ModuleType) -> None:
    first = b"\x00\x00\x00\xff\xff"
    stream = frame(BINARY, first, rsv=RSV1, fin=False) + frame(CONTINUATION, length=160)
    failure = Failure(1009, "message of at least 165 bytes, permitted 100")
    assert replay(codec, stream, max_size=100, deflate=Deflate()).events == [failure]


@pytest.mark.parametrize("deflate", [Deflate(), TAKEOVER], ids=["reset", "takeover"])
@pytest.mark.parametrize("step", [10, 1000, 100_000])
def test_a_bomb_costs_no_more_than_the_limit(codec: ModuleType, deflate: Deflate, step: int) -> None:
    limit = 2**20
    bomb = frame(BINARY, raw(bytes(8 * limit))[:-4], rsv=RSV1)
    connection = codec.Connection(max_size=limit, deflate=deflate)
    tracemalloc.start()
    try:
        for at in range(0, len(bomb), step):
            connection.receive_data(bomb[at : at + step])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert connection.events() == [Failure(1009, f"inflated message over {limit} bytes")]
    # What Python allocates; the extension's memory is not traced, cargo's tests look at that.
    assert peak < 1.5 * limit


def test_a_bomb_of_empty_blocks_is_refused_by_its_length(codec: ModuleType) -> None:
    blocks = b"\x00\x00\x00\xff\xff" * 100
    failure = Failure(1009, "message of at least 500 bytes, permitted 10")
    assert replay(codec, frame(BINARY, blocks, rsv=RSV1), max_size=10, deflate=Deflate()).events == [failure]


# ---- sending


@pytest.mark.parametrize("client", [False, True], ids=["server", "client"])
@pytest.mark.parametrize("takeover", [False, True], ids=["reset", "takeover"])
@pytest.mark.parametrize("window_bits", range(9, 16))
@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_7_2_1_what_is_sent_can_be_inflated(
    codec: ModuleType, window_bits: int, takeover: bool, client: bool, level: int
) -> None:
    side = "client" if client else "server"
    parameters: dict[str, Any] = {f"{side}_max_window_bits": window_bits, f"{side}_no_context_takeover": not takeover}
    deflate = Deflate(**parameters, level=level, mem_level=5, threshold=0)
    connection = codec.Connection(client=client, deflate=deflate)
    texts = [WORDS, b"", WORDS, b"\x00\xff" * 30_000, b"", b"a", WORDS[::-1]]
    for text in texts:
        connection.send_binary(text)
    peer = Peer(takeover=takeover, window_bits=window_bits)
    sent = frames(connection.data_to_send())
    assert [(one.opcode, one.fin, one.rsv, one.masked) for one in sent] == [(BINARY, True, RSV1, client)] * len(texts)
    assert [peer.inflate(one.payload) for one in sent] == texts


def test_7_1_1_without_takeover_messages_stand_alone(codec: ModuleType) -> None:
    connection = codec.Connection(deflate=Deflate(threshold=0))
    other = codec.Connection(deflate=Deflate(threshold=0))
    sizes = []
    for _ in range(3):
        connection.send_binary(WORDS)
        other.send_binary(WORDS[::-1])
        (one,) = frames(connection.data_to_send())
        sizes.append(len(one.payload))
        assert Peer().inflate(one.payload) == WORDS
        assert Peer().inflate(frames(other.data_to_send())[0].payload) == WORDS[::-1]
    assert len(set(sizes)) == 1


def test_7_1_1_with_takeover_a_repeated_message_is_small(codec: ModuleType) -> None:
    connection = codec.Connection(deflate=Deflate(threshold=0, server_no_context_takeover=False))
    connection.send_binary(WORDS)
    connection.send_binary(WORDS)
    first, second = frames(connection.data_to_send())
    assert len(second.payload) < len(first.payload) / 2


def test_7_2_3_6_an_empty_message_is_one_byte(codec: ModuleType) -> None:
    for deflate in (Deflate(threshold=0), Deflate(threshold=0, server_no_context_takeover=False)):
        connection = codec.Connection(deflate=deflate)
        for text in ("", "x", "", ""):
            connection.send_text(text)
        payloads = [sent.payload for sent in frames(connection.data_to_send())]
        assert [payloads[0], payloads[2], payloads[3]] == [b"\x00"] * 3


@pytest.mark.parametrize("takeover", [False, True], ids=["reset", "takeover"])
def test_6_1_rsv1_is_set_on_the_first_fragment_only(codec: ModuleType, takeover: bool) -> None:
    connection = codec.Connection(deflate=Deflate(server_no_context_takeover=not takeover))
    other = codec.Connection(deflate=Deflate(server_no_context_takeover=not takeover, threshold=0))
    peer = Peer(takeover=takeover)
    for parts in (["one", "two", "three"], ["", ""], ["x", ""], ["", "", "y"]):
        for index, part in enumerate(parts):
            connection.send_text(part, fin=index == len(parts) - 1)
            # Another connection's messages in between must not disturb this one's.
            other.send_text("something else entirely")
        sent = frames(connection.data_to_send())
        assert [(one.opcode, one.rsv, one.fin) for one in sent] == [
            (TEXT if index == 0 else CONTINUATION, RSV1 if index == 0 else 0, index == len(parts) - 1)
            for index in range(len(parts))
        ]
        assert peer.inflate(b"".join(one.payload for one in sent)) == "".join(parts).encode()


def test_fragments_can_be_read_as_they_come(codec: ModuleType) -> None:
    connection = codec.Connection(deflate=Deflate())
    inflater = zlib.decompressobj(-15)
    for part in ("first", "second"):
        connection.send_text(part, fin=False)
        (sent,) = frames(connection.data_to_send())
        assert inflater.decompress(sent.payload) == part.encode()


@pytest.mark.parametrize(
    ("size", "fin", "compress", "compressed"),
    [
        (99, True, None, False),
        (100, True, None, True),
        (0, False, None, True),
        (0, True, True, True),
        (99, True, True, True),
        (100, True, False, False),
        (100, False, False, False),
    ],
)
def test_the_threshold_and_compress_decide(
    codec: ModuleType, size: int, fin: bool, compress: bool | None, compressed: bool
) -> None:
    connection = codec.Connection(deflate=Deflate(threshold=100))
    connection.send_binary(b"x" * size, fin, compress)
    (sent,) = frames(connection.data_to_send())
    assert sent.rsv == (RSV1 if compressed else 0)
    assert compressed or sent.payload == b"x" * size


def test_the_first_fragment_decides_for_all(codec: ModuleType) -> None:
    connection = codec.Connection(deflate=Deflate(threshold=0))
    connection.send_binary(b"one", fin=False, compress=False)
    connection.send_binary(b"two", fin=True, compress=True)
    connection.send_binary(b"three")
    one, two, three = frames(connection.data_to_send())
    assert (one.payload, two.payload, one.rsv, two.rsv, three.rsv) == (b"one", b"two", 0, 0, RSV1)


def test_both_codecs_compress_as_well(codec: ModuleType) -> None:
    connection = codec.Connection(deflate=Deflate())
    connection.send_binary(WORDS)
    (sent,) = frames(connection.data_to_send())
    assert len(sent.payload) < 1.05 * len(raw(WORDS))
