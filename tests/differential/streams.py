"""Random streams: what a peer sends, valid and broken, how it is cut, and what we do in between.

A stream is short and cheap to make, so that many can be tried; it follows from its seed and index alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, TypeAlias

from ferrows.limits import InboundLimits, Rate

__all__ = ["Deflate", "Step", "Stream", "frame", "make_stream"]

#: The name of a method of ``Connection``, then its arguments.
Step: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True)
class Deflate:
    """The parameters of permessage-deflate, with the names that a connection reads."""

    server_no_context_takeover: bool = True
    client_no_context_takeover: bool = True
    server_max_window_bits: int = 15
    client_max_window_bits: int = 15
    level: int = 6
    mem_level: int = 8
    threshold: int = 1024


@dataclass
class Stream:
    """How a connection is made, and the steps that it is put through."""

    client: bool
    max_size: int | None
    deflate: Deflate | None
    limits: InboundLimits | None = None
    steps: list[Step] = field(default_factory=list)


_TAIL: Final = b"\x00\x00\xff\xff"

_TEXTS: Final = [
    "",
    "a",
    "Hello",
    "é",
    "grüß dich",
    "€uro",
    "世界",
    "😀",
    "x" * 124,
    "x" * 125,
    "x" * 126,
    "é" * 63,
    "abc" * 50,
    "😀€é" * 9,
    "\x00\x7f\u0080\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff",
]
_BROKEN_TEXTS: Final = [
    b"\x80",
    b"ok\xff",
    b"\xc0\x80",
    b"\xe0\x80\x80",
    b"abc\xed\xa0\x80def",
    b"\xed\xa0",
    b"\xed\xa0A",
    b"\xf0\x8f\xbf\xbf",
    b"\xf4\x90\x80\x80",
    b"\xf5",
    b"\xe2\x82",
    b"\xe2\x82A",
    b"\xf0\x9f\x98",
    b"\xc3",
    "grüß".encode() + b"\xe2(",
]
_BINARIES: Final = [bytes(n) for n in (0, 1, 2, 3, 4, 5, 125, 126, 127, 300)] + [bytes(range(256)), b"\xff" * 60]
_CONTROL_PAYLOADS: Final = [b"", b"ping", b"1", bytes(125), bytes(126)]
_LARGE: Final = [bytes(n) for n in (767, 768, 4096, 65535, 65536, 70000)]
_CLOSE_CODES: Final = [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999]
_FORBIDDEN_CODES: Final = [0, 999, 1004, 1005, 1006, 1015, 1999, 2999, 5000, 65535]
_REASONS: Final = ["", "bye", "é" * 61, "x" * 123]
_MAX_SIZES: Final = [*[2**20] * 15, None, None, 0, 1, 5, 60, 125, 126, 140, 300, 1000]
_WINDOW_BITS: Final = [9, 9, 10, 12, 15]


def _deflate_sets() -> list[Deflate]:
    random = Random(7692)
    return [
        Deflate(
            server_no_context_takeover=bool(index & 1),
            client_no_context_takeover=bool(index & 2),
            server_max_window_bits=random.choice(_WINDOW_BITS),
            client_max_window_bits=random.choice(_WINDOW_BITS),
            level=random.choice([0, 1, 6, 9]),
            # Small compressors: what a large one costs to set up would be most of a stream's time.
            mem_level=random.choice([1, 1, 2, 8]),
            threshold=random.choice([0, 0, 5, 100]),
        )
        for index in range(24)
    ]


_DEFLATE_SETS: Final = _deflate_sets()


def _compressed_messages() -> list[list[tuple[bool, list[bytes]]]]:
    """Make conversations: lists of messages with a shared window, each with its kind and its frames' payloads."""
    random = Random(6455)
    conversations = []
    for index in range(300):
        compressor = zlib.compressobj(random.choice([0, 1, 6, 9]), zlib.DEFLATED, -random.choice(_WINDOW_BITS))
        shared = index % 2
        messages = []
        for _ in range(4):
            text = random.random() < 0.6
            pool: list[bytes] = [one.encode() for one in _TEXTS] if text else _BINARIES
            if random.random() < 0.1:
                pool = _BROKEN_TEXTS
            whole = b"".join(random.choice(pool) for _ in range(random.randrange(1, 4)))
            payloads = []
            for part in _parts(random, whole):
                payload = compressor.compress(part)
                if random.random() < 0.15:
                    payload += compressor.flush(zlib.Z_FINISH) + random.choice([b"", b"\x00", b"\x00"])
                    compressor = zlib.compressobj(6, zlib.DEFLATED, -9)
                else:
                    payload += compressor.flush(zlib.Z_SYNC_FLUSH if shared else zlib.Z_FULL_FLUSH)
                payloads.append(payload)
            payloads[-1] = payloads[-1].removesuffix(_TAIL) or b"\x00"
            messages.append((text, payloads))
        conversations.append(messages)
    # Bombs, small ones.
    for size in (2000, 70_000, 1_200_000):
        compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
        payload = compressor.compress(bytes(size)) + compressor.flush(zlib.Z_SYNC_FLUSH)
        conversations.append([(False, [payload[:-4]]), (True, [payload])])
    return conversations


def _parts(random: Random, whole: bytes) -> list[bytes]:
    """Cut a message into fragments, most often one."""
    if random.random() < 0.55:
        return [whole]
    cuts = sorted(int(random.random() * (len(whole) + 1)) for _ in range(1 + random.getrandbits(1)))
    return [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


_CONVERSATIONS: Final = _compressed_messages()


def frame(first: int, payload: bytes, key: bytes, second: int | None = None, extended: bytes | None = None) -> bytes:
    """Make a frame, masked if there is a key; ``second`` and ``extended`` replace what says the length."""
    size = len(payload)
    if second is None:
        second, extended = (
            (size, b"")
            if size < 126
            else (126, size.to_bytes(2, "big"))
            if size < 65536
            else (127, size.to_bytes(8, "big"))
        )
    if not key:
        return bytes((first, second)) + (extended or b"") + payload
    mask = int.from_bytes((key * ((size >> 2) + 1))[:size], "little")
    masked = (int.from_bytes(payload, "little") ^ mask).to_bytes(size, "little")
    return bytes((first, second | 0x80)) + (extended or b"") + key + masked


def make_stream(seed: int, index: int) -> Stream:
    """Make the stream that belongs to the seed and index."""
    random = Random(seed << 40 | index)
    client = random.random() < 0.25
    deflate = _pick(random, _DEFLATE_SETS) if random.random() < 0.45 else None
    stream = Stream(client, _pick(random, _MAX_SIZES), deflate)
    if random.random() < 0.1:
        stream.limits = _limits(random, deflate is not None)
    wire = _wire(random, client, deflate is not None)
    _add_steps(random, stream, wire)
    return stream


def _limits(random: Random, deflate: bool) -> InboundLimits:
    """Make limits that are soon reached, in numbers that both count exactly."""

    def rate(*bursts: int) -> Rate | None:
        return (
            Rate(_pick(random, [0.25, 1.0, 4.0]), float(_pick(random, list(bursts)))) if random.random() < 0.5 else None
        )

    return InboundLimits(
        messages=rate(1, 2, 4),
        # How far a piece inflates, the two say in pieces of their own.
        bytes=None if deflate else rate(10, 60, 300),
        pings=rate(1, 2),
        fragments=_pick(random, [None, 1, 2, 3]),
    )


def _pick(random: Random, items: list[Any]) -> Any:
    # Several times as fast as Random.choice.
    return items[int(random.random() * len(items))]


def _wire(random: Random, client: bool, deflate: bool) -> bytes:
    """Make what the peer sends."""
    key = b"" if client else random.getrandbits(32).to_bytes(4, "big")
    frames: list[bytes] = []
    # What was negotiated is used mostly; what was not, seldom.
    compressed = _pick(random, _CONVERSATIONS) if random.random() < (0.85 if deflate else 0.02) else None
    for number in range(1 + int(random.random() * 4)):
        if random.random() < 0.15:
            frames.append(_control(random, key))
        if compressed is not None and number < len(compressed) and random.random() < 0.8:
            text, payloads = compressed[number]
            rsv = 0x40
        else:
            text, payloads = _plain(random)
            rsv = 0
        if random.random() < 0.06:
            payloads = [_mutate(random, payload) if random.random() < 0.6 else payload for payload in payloads]
        last = len(payloads) - 1
        for position, payload in enumerate(payloads):
            first = (0x80 if position == last else 0) | (0 if position else rsv | (1 if text else 2))
            if random.random() < 0.03:
                frames.append(_odd_frame(random, first, payload, key))
            else:
                frames.append(frame(first, payload, key))
            if position < last and random.random() < 0.2:
                frames.append(_control(random, key))
    if random.random() < 0.25:
        frames.append(_close(random, key))
        if random.random() < 0.3:
            frames.append(frame(0x81, b"late", key))
    wire = b"".join(frames)
    return _mutate(random, wire) if random.random() < 0.08 else wire


def _plain(random: Random) -> tuple[bool, list[bytes]]:
    text = random.random() < 0.6
    roll = random.random()
    whole: bytes
    if roll < 0.004:
        whole = _pick(random, _LARGE)
    elif text:
        whole = _pick(random, _TEXTS).encode()
        if roll < 0.1:
            whole += _pick(random, _BROKEN_TEXTS)
    else:
        whole = _pick(random, _BINARIES)
    return text, _parts(random, whole)


def _control(random: Random, key: bytes) -> bytes:
    size = _pick(random, [0, 1, 4, 8, 125])
    return frame(
        0x89 if random.random() < 0.6 else 0x8A,
        random.getrandbits(8 * size + 1).to_bytes(126, "big")[-size:] if size else b"",
        key,
    )


def _close(random: Random, key: bytes) -> bytes:
    roll = random.random()
    if roll < 0.2:
        return frame(0x88, b"", key)
    if roll < 0.25:
        return frame(0x88, b"\x03", key)
    code = _pick(random, _FORBIDDEN_CODES if roll < 0.4 else _CLOSE_CODES)
    reason: bytes = _pick(random, _REASONS).encode()
    if roll > 0.9:
        reason = _pick(random, _BROKEN_TEXTS)
    return frame(0x88, code.to_bytes(2, "big") + reason, key)


def _odd_frame(random: Random, first: int, payload: bytes, key: bytes) -> bytes:
    """Make a frame whose header breaks a rule, most often."""
    roll = int(random.random() * 9)
    size = len(payload)
    if roll == 0:
        return frame(first ^ 1 << int(random.random() * 8), payload, key)
    if roll == 1:
        return frame(random.getrandbits(8), payload, key)
    if roll == 2:
        return frame(first, payload, b"" if key else b"\x01\x02\x03\x04")
    if roll == 3:
        return frame(first, payload, key, 126, (size & 0xFFFF).to_bytes(2, "big"))
    if roll == 4:
        return frame(first, payload, key, 127, size.to_bytes(8, "big"))
    if roll == 5:
        return frame(first, payload, key, 127, random.getrandbits(64).to_bytes(8, "big"))
    if roll == 6:
        return frame(first, payload, key, 127, (random.getrandbits(63) >> int(random.random() * 50)).to_bytes(8, "big"))
    if roll == 7:
        return frame(0x80 | _pick(random, [8, 9, 10]), payload + bytes(126), key)
    return frame(first, payload, key, min(size + 1, 125), b"")


def _mutate(random: Random, data: bytes) -> bytes:
    """Flip a bit, replace, insert or remove a byte, cut the end, or repeat a part."""
    if not data:
        return bytes([random.getrandbits(8)])
    at = int(random.random() * len(data))
    roll = int(random.random() * 7)
    if roll <= 1:
        return data[:at] + bytes([data[at] ^ 1 << int(random.random() * 8)]) + data[at + 1 :]
    if roll == 2:
        return data[:at] + bytes([random.getrandbits(8)]) + data[at + 1 :]
    if roll == 3:
        return data[:at] + bytes([random.getrandbits(8)]) + data[at:]
    if roll == 4:
        return data[:at] + data[at + 1 :]
    if roll == 5:
        return data[:at]
    return data[:at] + data[at // 2 :]


def _add_steps(random: Random, stream: Stream, wire: bytes) -> None:
    """Cut what the peer sends and put what we do in between."""
    size = len(wire)
    roll = random.random()
    if roll < 0.3:
        cuts = []
    elif roll < 0.9 or size > 150:
        cuts = sorted(int(random.random() * (size + 1)) for _ in range(1 + int(random.random() * 5)))
    else:
        cuts = list(range(1, size))
    # With many chunks we do something between a few of them only.
    eagerness = min(0.5, 3 / (len(cuts) + 1))
    steps = stream.steps
    start = 0
    now = 0.0
    for cut in (*cuts, size):
        while random.random() < eagerness:
            steps.append(_action(random))
        if stream.limits is None:
            steps.append(("receive_data", wire[start:cut]))
        else:
            now += _pick(random, [0.0, 0.0, 0.25, 2.0, -0.5])
            steps.append(("receive_data", wire[start:cut], max(0.0, now)))
        start = cut
        if random.random() < eagerness:
            steps.append(("data_to_send",))
    if random.random() < 0.2:
        steps.append(("receive_eof",))
    while random.random() < 0.3:
        steps.append(_action(random))
    steps.append(("data_to_send",))


def _send_text(random: Random) -> Step:
    return "send_text", _pick(random, _TEXTS), random.random() < 0.7, _pick(random, [None, None, True, False])


def _send_binary(random: Random) -> Step:
    return "send_binary", _pick(random, _BINARIES), random.random() < 0.7, _pick(random, [None, None, True, False])


def _send_ping(random: Random) -> Step:
    return "send_ping", _pick(random, _CONTROL_PAYLOADS)


def _send_pong(random: Random) -> Step:
    return "send_pong", _pick(random, _CONTROL_PAYLOADS)


def _send_close(random: Random) -> Step:
    code = _pick(random, [None, 1000, 1000, 4999, 1005, 0])
    return "send_close", code, _pick(random, ["", "", "bye", "é" * 62])


def _fail(random: Random) -> Step:
    return "fail", _pick(random, [1002, 1009, 1011, 1006, 4000]), _pick(random, ["", "why", "é" * 70])


def _hold_pongs(random: Random) -> Step:
    return "hold_pongs", random.random() < 0.5


def _stream_next(random: Random) -> Step:
    return ("stream_next",)


def _receive_eof(random: Random) -> Step:
    return ("receive_eof",)


def _data_to_send(random: Random) -> Step:
    return ("data_to_send",)


_ACTIONS: Final[list[Callable[[Random], Step]]] = [
    *[_send_text] * 5,
    *[_send_binary] * 3,
    *[_stream_next] * 4,
    *[_hold_pongs] * 3,
    *[_data_to_send] * 2,
    _send_ping,
    _send_pong,
]
_RARE_ACTIONS: Final[list[Callable[[Random], Step]]] = [_send_close, _send_close, _fail, _receive_eof]


def _action(random: Random) -> Step:
    step: Step = _pick(random, _RARE_ACTIONS if random.random() < 0.1 else _ACTIONS)(random)
    return step
