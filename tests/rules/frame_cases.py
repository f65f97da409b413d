"""The table of frame rules, from which tests/vectors/frames.json is written for cargo and pytest.

Run ``python -m tests.rules.frame_cases`` after a change here; a test fails while the file is behind.

The file is one object, ``{"cases": [...]}``. A case is:

- ``id``, ``rule`` (number in the list of rules), ``section`` (of the RFC that says so);
- ``client``: the connection's role, false for a server; ``max_size``: bytes or null;
- ``deflate``: permessage-deflate is negotiated; ``takeover``: the peer keeps its window from message to message;
- ``input``: what arrives, hex;
- ``events``: what comes of it, in order: ``{"type": "text" | "binary" | "ping" | "pong", "data": hex}`` (text as UTF-8)
  or ``{"type": "close" | "failure", "code": int, "reason": str}``;
- ``output``: the frames that the connection answers with by itself, ``{"opcode": int, "payload": hex}``, all with FIN
  and without RSV bits;
- ``close_code``: the code of the Close that it sends, 1005 for one without a body, null where it sends none;
- ``then``: what the connection does with more input: "open" (the next frame begins a message), "partial" (a frame or
  a message is still under way), "ended" (ignores it);
- ``fails_at``: the number of input bytes after which the failure is known, and before which it is not; null where there
  is none or where an inflater may see it sooner or later.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    RSV1,
    RSV2,
    RSV3,
    TAIL,
    TEXT,
    Deflater,
    close,
    close_body,
    deflate,
    frame,
    header,
    stored,
)

PATH = Path(__file__).parents[1] / "vectors" / "frames.json"

MAX_SIZE = 2**20

NAMES = {CONTINUATION: "continuation", TEXT: "text", BINARY: "binary", CLOSE: "close", PING: "ping", PONG: "pong"}


@dataclass
class Case:
    """One input and what must come of it; see the module's docstring."""

    id: str
    rule: int
    section: str
    input: bytes
    events: list[tuple[Any, ...]] = field(default_factory=list)
    output: list[tuple[int, bytes]] = field(default_factory=list)
    then: str = "open"
    fails_at: int | None = None
    client: bool = False
    deflate: bool = False
    takeover: bool = False
    max_size: int | None = MAX_SIZE

    @property
    def close_code(self) -> int | None:
        for opcode, payload in self.output:
            if opcode == CLOSE:
                return int.from_bytes(payload[:2], "big") if payload else 1005
        return None

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "rule": self.rule,
            "section": self.section,
            "client": self.client,
            "deflate": self.deflate,
            "takeover": self.takeover,
            "max_size": self.max_size,
            "input": self.input.hex(),
            "events": [_event_json(*event) for event in self.events],
            "output": [{"opcode": opcode, "payload": payload.hex()} for opcode, payload in self.output],
            "close_code": self.close_code,
            "then": self.then,
            "fails_at": self.fails_at,
        }


def _event_json(kind: str, *rest: Any) -> dict[str, Any]:
    if kind in ("close", "failure"):
        code, reason = rest
        return {"type": kind, "code": code, "reason": reason}
    (data,) = rest
    return {"type": kind, "data": (data.encode() if isinstance(data, str) else data).hex()}


def fails(
    id: str,
    rule: int,
    section: str,
    input: bytes,
    code: int,
    reason: str,
    *,
    at: int | None = -1,
    before: tuple[tuple[Any, ...], ...] = (),
    answers: tuple[tuple[int, bytes], ...] = (),
    **options: Any,
) -> Case:
    """Make a case that fails the connection, by default with its last byte."""
    return Case(
        id,
        rule,
        section,
        input,
        events=[*before, ("failure", code, reason)],
        output=[*answers, (CLOSE, close_body(code, reason))],
        then="ended",
        fails_at=len(input) if at == -1 else at,
        **options,
    )


def cases() -> list[Case]:
    """Make the whole table."""
    sources = (_masking, _reserved, _length, _control, _fragments, _size, _utf8, _close, _deflate)
    table = [case for source in sources for case in source()]
    assert len({case.id for case in table}) == len(table)
    return table


def _masking() -> Iterator[Case]:
    unmasked = "unmasked frame from a client"
    for opcode, payload in ((TEXT, b"hi"), (BINARY, b"hi"), (CLOSE, close_body(1000)), (PING, b""), (PONG, b"")):
        bare = frame(opcode, payload, masked=False)
        yield fails(f"28-unmasked-{NAMES[opcode]}", 28, "5.1", bare, 1002, unmasked, at=2)
    yield fails("28-unmasked-empty-text", 28, "5.1", frame(TEXT, masked=False), 1002, unmasked)
    yield fails("28-unmasked-16-bit-length", 28, "5.1", frame(TEXT, b"a" * 200, masked=False), 1002, unmasked, at=2)
    first = frame(TEXT, b"he", fin=False)
    yield fails(
        "28-unmasked-continuation",
        28,
        "5.1",
        first + frame(CONTINUATION, b"llo", masked=False),
        1002,
        unmasked,
        at=len(first) + 2,
    )
    good = frame(TEXT, b"one")
    yield fails(
        "28-unmasked-after-a-good-message",
        28,
        "5.1",
        good + frame(TEXT, b"two", masked=False),
        1002,
        unmasked,
        at=len(good) + 2,
        before=(("text", "one"),),
    )
    masked = "masked frame from a server"
    yield fails("28-client-masked-text", 28, "5.1", frame(TEXT, b"hi"), 1002, masked, at=2, client=True)
    yield fails("28-client-masked-empty-ping", 28, "5.1", frame(PING), 1002, masked, at=2, client=True)
    yield Case(
        "28-client-unmasked-text", 28, "5.1", frame(TEXT, b"hi", masked=False), events=[("text", "hi")], client=True
    )
    for key in (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x00\x80\x00\x80", b"\x81\x85\x88\x8a"):
        yield Case(f"28-mask-{key.hex()}", 28, "5.3", frame(TEXT, b"Hello", key=key), events=[("text", "Hello")])
    for size in (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65):
        data = bytes(range(size))
        yield Case(f"28-mask-{size}-bytes", 28, "5.3", frame(BINARY, data), events=[("binary", data)])


def _reserved() -> Iterator[Case]:
    for rsv in range(1, 8):
        for opcode in (TEXT, BINARY, PING):
            yield fails(
                f"30-rsv-{rsv:03b}-{NAMES[opcode]}",
                30,
                "5.2",
                frame(opcode, b"hi", rsv=rsv),
                1002,
                f"reserved bits 0b{rsv:03b}, permitted 0b000",
                at=1,
            )
    for rsv in (RSV2, RSV3, RSV2 | RSV3, RSV1 | RSV2, RSV1 | RSV3, RSV1 | RSV2 | RSV3):
        yield fails(
            f"30-rsv-{rsv:03b}-text-with-deflate",
            30,
            "5.2",
            frame(TEXT, deflate(b"hi"), rsv=rsv),
            1002,
            f"reserved bits 0b{rsv:03b}, permitted 0b100",
            at=1,
            deflate=True,
        )
    first = frame(TEXT, b"he", fin=False)
    yield fails(
        "30-rsv-010-continuation",
        30,
        "5.2",
        first + frame(CONTINUATION, b"llo", rsv=RSV2),
        1002,
        "reserved bits 0b010, permitted 0b000",
        at=len(first) + 1,
    )
    for opcode in (*range(0x3, 0x8), *range(0xB, 0x10)):
        for payload in (b"", b"hi"):
            yield fails(
                f"31-opcode-{opcode:x}-of-{len(payload)}-bytes",
                31,
                "5.2",
                frame(opcode, payload),
                1002,
                f"opcode 0x{opcode:X} is not defined",
                at=1,
            )
    yield fails("31-opcode-3-not-fin", 31, "5.2", frame(0x3, b"hi", fin=False), 1002, "opcode 0x3 is not defined", at=1)
    yield fails("31-opcode-b-inside-a-message", 31, "5.2", first + frame(0xB), 1002, "opcode 0xB is not defined", at=9)


def _length() -> Iterator[Case]:
    for size in (0, 1, 124, 125, 126, 127, 128):
        data = b"a" * size
        yield Case(f"32-shortest-{size}", 32, "5.2", frame(BINARY, data), events=[("binary", data)])
    for size, form in ((0, 16), (1, 16), (125, 16), (0, 64), (125, 64), (126, 64), (65535, 64)):
        yield fails(
            f"32-{size}-in-{form}-bits",
            32,
            "5.2",
            header(TEXT, size, form=form),
            1002,
            f"payload length {size} is not in its shortest form",
            at=4 if form == 16 else 10,
        )
    for length in (2**63, 2**63 + 5, 2**64 - 1):
        for max_size in (MAX_SIZE, None):
            yield fails(
                f"33-length-{length:x}-max-{max_size}",
                33,
                "5.2",
                header(BINARY, length, form=64),
                1002,
                "payload length has its top bit set",
                at=10,
                max_size=max_size,
            )


def _control() -> Iterator[Case]:
    over = "control frame over 125 bytes"
    for opcode in (CLOSE, PING, PONG):
        body = close_body(1000) if opcode == CLOSE else b""
        for size in (126, 65536):
            yield fails(
                f"34-{NAMES[opcode]}-of-{size}-bytes",
                34,
                "5.5",
                header(opcode, size),
                1002,
                over,
                at=2,
            )
        yield fails(
            f"35-{NAMES[opcode]}-fragmented",
            35,
            "5.5",
            frame(opcode, body, fin=False),
            1002,
            "fragmented control frame",
            at=1,
        )
    yield fails("34-ping-of-2-bytes-in-16-bits", 34, "5.5", frame(PING, b"hi", form=16), 1002, over, at=2)
    full = b"p" * 125
    yield Case("34-ping-of-125-bytes", 34, "5.5", frame(PING, full), [("ping", full)], [(PONG, full)])
    yield Case("34-pong-of-125-bytes", 34, "5.5", frame(PONG, full), [("pong", full)])
    yield Case(
        "34-close-of-125-bytes",
        34,
        "5.5",
        close(1000, "r" * 123),
        [("close", 1000, "r" * 123)],
        [(CLOSE, close_body(1000))],
        then="ended",
    )

    first, last = frame(TEXT, b"hel", fin=False), frame(CONTINUATION, b"lo")
    hello = ("text", "hello")
    yield Case(
        "36-ping-inside-a-message",
        36,
        "5.4",
        first + frame(PING, b"p") + last,
        [("ping", b"p"), hello],
        [(PONG, b"p")],
    )
    yield Case("36-pong-inside-a-message", 36, "5.4", first + frame(PONG, b"p") + last, [("pong", b"p"), hello])
    yield Case(
        "36-several-inside-a-message",
        36,
        "5.4",
        first + frame(PING, b"1") + frame(PONG, b"2") + frame(CONTINUATION, b"", fin=False) + frame(PING, b"") + last,
        [("ping", b"1"), ("pong", b"2"), ("ping", b""), hello],
        [(PONG, b"1"), (PONG, b"")],
    )
    yield Case(
        "36-close-inside-a-message",
        36,
        "5.4",
        first + close(1001, "bye") + last,
        [("close", 1001, "bye")],
        [(CLOSE, close_body(1001))],
        then="ended",
    )

    for payload in (b"", b"p", b"\x00\xff", full):
        ping = frame(PING, payload)
        yield Case(f"41-ping-of-{len(payload)}-bytes", 41, "5.5.3", ping, [("ping", payload)], [(PONG, payload)])
        yield Case(f"42-pong-of-{len(payload)}-bytes", 42, "5.5.3", frame(PONG, payload), [("pong", payload)])
    yield Case(
        "41-three-pings",
        41,
        "5.5.3",
        frame(PING, b"1") + frame(PING, b"2") + frame(PING, b"3"),
        [("ping", b"1"), ("ping", b"2"), ("ping", b"3")],
        [(PONG, b"1"), (PONG, b"2"), (PONG, b"3")],
    )


def _fragments() -> Iterator[Case]:
    for payload in (b"", b"hi"):
        for fin in (True, False):
            yield fails(
                f"37-continuation-first-{len(payload)}-{'fin' if fin else 'more'}",
                37,
                "5.4",
                frame(CONTINUATION, payload, fin=fin),
                1002,
                "continuation frame outside a message",
                at=1,
            )
    good = frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b")
    yield fails(
        "37-continuation-after-the-last",
        37,
        "5.4",
        good + frame(CONTINUATION, b"c"),
        1002,
        "continuation frame outside a message",
        at=len(good) + 1,
        before=(("text", "ab"),),
    )
    for started in (TEXT, BINARY):
        for opcode in (TEXT, BINARY):
            for fin in (True, False):
                first = frame(started, b"a", fin=False)
                yield fails(
                    f"38-{NAMES[opcode]}-inside-{NAMES[started]}-{'fin' if fin else 'more'}",
                    38,
                    "5.4",
                    first + frame(opcode, b"b", fin=fin),
                    1002,
                    "data frame inside a fragmented message",
                    at=len(first) + 1,
                )
    yield Case("39-empty-text", 39, "5.6", frame(TEXT), [("text", "")])
    yield Case("39-empty-binary", 39, "5.6", frame(BINARY), [("binary", b"")])
    yield Case("39-empty-ping", 39, "5.5.2", frame(PING), [("ping", b"")], [(PONG, b"")])
    yield Case("39-empty-pong", 39, "5.5.3", frame(PONG), [("pong", b"")])
    yield Case(
        "39-empty-fragments",
        39,
        "5.4",
        frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 3 + frame(CONTINUATION),
        [("text", "")],
    )
    yield Case(
        "39-empty-fragments-about",
        39,
        "5.4",
        frame(BINARY, fin=False) + frame(CONTINUATION, b"hi", fin=False) + frame(CONTINUATION),
        [("binary", b"hi")],
    )
    yield Case(
        "39-empty-message-between-messages",
        39,
        "5.6",
        frame(TEXT, b"a") + frame(TEXT) + frame(TEXT, b"b"),
        [("text", "a"), ("text", ""), ("text", "b")],
    )


def _size() -> Iterator[Case]:
    def over(size: int, limit: int) -> str:
        return f"message of at least {size} bytes, permitted {limit}"

    for size, limit in ((1, 0), (11, 10), (125, 100), (126, 100), (126, 125), (1001, 1000), (65536, 65535)):
        yield fails(
            f"40-{size}-of-{limit}",
            40,
            "10.4",
            header(BINARY, size)[: 2 if size < 126 else 4 if size < 65536 else 10],
            1009,
            over(size, limit),
            max_size=limit,
        )
    for length in (2**20 + 1, 2**31, 2**32, 2**32 + 5, 2**40, 2**62, 2**63 - 1):
        yield fails(f"40-length-{length:x}", 40, "10.4", header(TEXT, length)[:10], 1009, over(length, MAX_SIZE))
    for size in (0, 10, 125, 126, 1000):
        data = b"a" * size
        yield Case(f"40-exactly-{size}", 40, "10.4", frame(TEXT, data), [("text", data.decode())], max_size=size)
    first = frame(BINARY, b"a" * 6, fin=False)
    yield fails(
        "40-fragments-of-11-of-10",
        40,
        "10.4",
        first + frame(CONTINUATION, b"b" * 5),
        1009,
        over(11, 10),
        at=len(first) + 2,
        max_size=10,
    )
    yield fails(
        "40-fragments-overflow",
        40,
        "10.4",
        first + header(CONTINUATION, 2**63 - 1)[:10],
        1009,
        over(2**63 + 5, 10),
        max_size=10,
    )
    yield Case(
        "40-fragments-of-exactly-10",
        40,
        "10.4",
        first + frame(CONTINUATION, b"b" * 4, fin=False) + frame(PING, b"c" * 50) + frame(CONTINUATION),
        [("ping", b"c" * 50), ("binary", b"aaaaaabbbb")],
        [(PONG, b"c" * 50)],
        max_size=10,
    )
    yield Case(
        "40-each-message-by-itself", 40, "10.4", frame(TEXT, b"a" * 10) * 3, [("text", "a" * 10)] * 3, max_size=10
    )
    yield Case("40-no-limit-waits", 40, "10.4", header(BINARY, 2**62) + b"abc", [], then="partial", max_size=None)
    # The length on the wire says little of a compressed message, so only what no inflation explains fails at once.
    yield fails(
        "40-compressed-length", 40, "10.4", header(TEXT, 2**40, rsv=RSV1)[:10], 1009, over(2**40, 10), deflate=True,
        max_size=10,
    )  # fmt: skip
    for limit, most in ((0, 64), (10, 74), (255, 319), (256, 321), (1000, 1067), (2**20, 2**20 + 2**12 + 64)):
        for length in (most, most + 1):
            head = header(BINARY, length, rsv=RSV1)[: 2 if length < 126 else 4 if length < 2**16 else 10]
            if length == most:
                yield Case(
                    f"40-compressed-length-{length}-of-{limit}", 40, "10.4", head, then="partial", deflate=True,
                    max_size=limit,
                )  # fmt: skip
            else:
                yield fails(
                    f"40-compressed-length-{length}-of-{limit}", 40, "10.4", head, 1009, over(length, limit),
                    deflate=True, max_size=limit,
                )  # fmt: skip
    yield Case(
        "40-compressed-longer-than-its-message",
        40,
        "10.4",
        frame(BINARY, stored(b"a" * 10), rsv=RSV1),
        [("binary", b"a" * 10)],
        deflate=True,
        max_size=10,
    )


VALID_UTF8 = (
    "a",
    "\x00",
    "\x7f",
    "\x80",
    "\u07ff",
    "\u0800",
    "\ud7ff",
    "\ue000",
    "\ufdd0",
    "\ufffd",
    "\ufffe",
    "\uffff",
    "\U00010000",
    "\U0003ffff",
    "\U0010ffff",
    "κόσμε",
    "Hello-µ@ßöäüàá-UTF-8!!",
    "日本語 \N{GRINNING FACE} ok",
)

INVALID_UTF8 = (
    # What arrives, how many of its bytes it takes to know.
    ("lone-continuation-80", b"\x80", 1),
    ("lone-continuation-bf", b"\xbf", 1),
    ("after-ascii", b"hello\xff", 6),
    ("overlong-2-c0-80", b"\xc0\x80", 1),
    ("overlong-2-c1-bf", b"\xc1\xbf", 1),
    ("overlong-3-e0-80-80", b"\xe0\x80\x80", 2),
    ("overlong-3-e0-9f-bf", b"\xe0\x9f\xbf", 2),
    ("overlong-4-f0-80-80-80", b"\xf0\x80\x80\x80", 2),
    ("overlong-4-f0-8f-bf-bf", b"\xf0\x8f\xbf\xbf", 2),
    ("surrogate-ed-a0-80", b"\xed\xa0\x80", 2),
    ("surrogate-ed-bf-bf", b"\xed\xbf\xbf", 2),
    ("surrogate-pair", b"\xed\xa0\xbd\xed\xb8\x80", 2),
    ("over-10ffff-f4-90-80-80", b"\xf4\x90\x80\x80", 2),
    ("over-10ffff-f5", b"\xf5\x80\x80\x80", 1),
    ("five-bytes-f8", b"\xf8\x88\x80\x80\x80", 1),
    ("six-bytes-fc", b"\xfc\x84\x80\x80\x80\x80", 1),
    ("fe", b"\xfe", 1),
    ("ff", b"\xff", 1),
    ("ascii-after-c3", b"\xc3\x28", 2),
    ("ascii-after-e2", b"\xe2\x28\xa1", 2),
    ("ascii-after-e2-82", b"\xe2\x82\x28", 3),
    ("ascii-after-f0-9f-98", b"\xf0\x9f\x98\x28", 4),
    ("lead-after-lead", b"\xc3\xc3", 2),
    ("one-continuation-too-many", b"\xc3\xa9\xa9", 3),
    ("autobahn-6-3", b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", 13),
)

CUT_UTF8 = (b"\xc3", b"\xe2", b"\xe2\x82", b"\xf0", b"\xf0\x9f", b"\xf0\x9f\x98", b"ok\xf4\x8f\xbf")


def _utf8() -> Iterator[Case]:
    reason = "invalid UTF-8 in a text message"
    for data in VALID_UTF8:
        whole, name = data.encode(), data.encode().hex()
        yield Case(f"43-valid-{name}", 43, "8.1", frame(TEXT, whole), [("text", data)])
        for at in range(1, len(whole)):
            yield Case(
                f"43-valid-{name}-cut-at-{at}",
                43,
                "8.1",
                frame(TEXT, whole[:at], fin=False) + frame(PING) + frame(CONTINUATION, whole[at:]),
                [("ping", b""), ("text", data)],
                [(PONG, b"")],
            )
    for name, octets, known in INVALID_UTF8:
        yield fails(f"43-{name}", 43, "8.1", frame(TEXT, octets), 1007, reason, at=6 + known)
        yield fails(
            f"44-{name}-inside-a-long-frame", 44, "8.1", frame(TEXT, octets + b"a" * 40), 1007, reason, at=6 + known
        )
        yield fails(
            f"44-{name}-before-the-last-fragment",
            44,
            "8.1",
            frame(TEXT, b"ok", fin=False) + frame(CONTINUATION, octets, fin=False),
            1007,
            reason,
            at=14 + known,
        )
        if known > 1:
            yield fails(
                f"43-{name}-across-fragments",
                43,
                "8.1",
                frame(TEXT, octets[: known - 1], fin=False) + frame(CONTINUATION, octets[known - 1 :]),
                1007,
                reason,
                at=6 + (known - 1) + 6 + 1,
            )
        yield Case(f"43-{name}-is-fine-in-binary", 43, "5.6", frame(BINARY, octets), [("binary", octets)])
    for octets in CUT_UTF8:
        yield fails(f"43-cut-off-{octets.hex()}", 43, "8.1", frame(TEXT, octets), 1007, reason)
        yield fails(
            f"43-cut-off-{octets.hex()}-by-an-empty-fragment",
            43,
            "8.1",
            frame(TEXT, octets, fin=False) + frame(CONTINUATION),
            1007,
            reason,
        )
        yield Case(
            f"44-cut-off-{octets.hex()}-may-go-on",
            44,
            "8.1",
            frame(TEXT, octets, fin=False) + frame(CONTINUATION, fin=False),
            [],
            then="partial",
        )
    # A vector unit looks at many bytes at once, and none of them may be overlooked.
    for at in (0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 98, 99):
        octets = b"a" * at + b"\xff" + b"a" * (99 - at)
        yield fails(f"44-ff-at-{at}-of-100", 44, "8.1", frame(TEXT, octets), 1007, reason, at=6 + at + 1)


VALID_CODES = (*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999)

INVALID_CODES = (
    0, 1, 125, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 5001, 9999, 32768, 65535,
)  # fmt: skip


def _close() -> Iterator[Case]:
    yield Case("45-no-body", 45, "5.5.1", close(), [("close", 1005, "")], [(CLOSE, b"")], then="ended")
    for octet in (b"\x03", b"\x00", b"\xff"):
        yield fails(
            f"45-body-of-1-byte-{octet.hex()}", 45, "5.5.1", frame(CLOSE, octet), 1002, "close frame body of 1 byte"
        )
    yield Case(
        "45-body-of-2-bytes",
        45,
        "5.5.1",
        close(1000),
        [("close", 1000, "")],
        [(CLOSE, close_body(1000))],
        then="ended",
    )
    for code in VALID_CODES:
        yield Case(
            f"46-code-{code}",
            46,
            "7.4",
            close(code, "why"),
            [("close", code, "why")],
            [(CLOSE, close_body(code))],
            then="ended",
        )
    for code in INVALID_CODES:
        for why in ("", "why"):
            yield fails(
                f"47-code-{code}{'-with-reason' if why else ''}",
                47,
                "7.4",
                close(code, why),
                1002,
                f"close code {code} is not permitted",
            )
    for why in ("bye", "κόσμε", "é" * 61, "a" * 123, "\x00"):
        yield Case(
            f"48-reason-of-{len(why.encode())}-bytes",
            48,
            "5.5.1",
            close(1000, why),
            [("close", 1000, why)],
            [(CLOSE, close_body(1000))],
            then="ended",
        )
    for name, octets, _ in INVALID_UTF8:
        bad = close(1000, octets)
        yield fails(f"48-reason-{name}", 48, "5.5.1", bad, 1007, "invalid UTF-8 in a close reason")
    for octets in CUT_UTF8:
        bad = close(1000, octets)
        yield fails(f"48-reason-cut-off-{octets.hex()}", 48, "5.5.1", bad, 1007, "invalid UTF-8 in a close reason")
    yield Case(
        "49-close-is-echoed-once",
        49,
        "5.5.1",
        close(3210, "a") + close(1001, "b"),
        [("close", 3210, "a")],
        [(CLOSE, close_body(3210))],
        then="ended",
    )
    yield Case(
        "51-message-and-ping-after-close",
        51,
        "5.5.1",
        frame(TEXT, b"before") + close(1000) + frame(TEXT, b"after") + frame(PING, b"after"),
        [("text", "before"), ("close", 1000, "")],
        [(CLOSE, close_body(1000))],
        then="ended",
    )
    yield Case(
        "51-garbage-after-close",
        51,
        "5.5.1",
        close(1000) + b"\xff" * 40,
        [("close", 1000, "")],
        [(CLOSE, close_body(1000))],
        then="ended",
    )
    yield fails(
        "51-close-after-a-failure",
        51,
        "7.1.7",
        frame(0x3, b"hi") + close(1000),
        1002,
        "opcode 0x3 is not defined",
        at=1,
    )


def _deflate() -> Iterator[Case]:
    hello = [("text", "Hello")]
    packed = bytes.fromhex("f248cdc9c90700")
    first, last = frame(TEXT, packed[:3], rsv=RSV1, fin=False), frame(CONTINUATION, packed[3:])

    def rsv1(payload: bytes, opcode: int = TEXT, **options: Any) -> bytes:
        return frame(opcode, payload, rsv=RSV1, **options)

    def case(
        id: str,
        rule: int,
        section: str,
        input: bytes,
        events: list[tuple[Any, ...]],
        output: list[tuple[int, bytes]] | None = None,
        **options: Any,
    ) -> Case:
        return Case(id, rule, section, input, events, output or [], **{"deflate": True, **options})

    def bad(id: str, rule: int, section: str, input: bytes, code: int, reason: str, **options: Any) -> Case:
        return fails(id, rule, section, input, code, reason, deflate=True, **{"at": None, **options})

    # RSV1 marks the message, so it stands on its first frame (§6).
    yield case("61-message-in-one-frame", 61, "7.2.3.1", rsv1(packed), hello)
    yield case("61-message-in-two-frames", 61, "7.2.3.1", first + last, hello)
    yield case(
        "61-message-in-frames-of-a-byte",
        61,
        "7.2.3.1",
        rsv1(packed[:1], fin=False)
        + b"".join(frame(CONTINUATION, packed[at : at + 1], fin=False) for at in range(1, 7))
        + frame(CONTINUATION),
        hello,
    )
    yield case("61-ping-inside", 61, "6.1", first + frame(PING, b"p") + last, [("ping", b"p"), *hello], [(PONG, b"p")])
    forbidden = "reserved bits 0b100, permitted 0b000"
    yield bad(
        "61-rsv1-on-a-continuation",
        61,
        "6.1",
        first + frame(CONTINUATION, packed[3:], rsv=RSV1),
        1002,
        forbidden,
        at=len(first) + 1,
    )
    for opcode in (CLOSE, PING, PONG):
        body = close_body(1000) if opcode == CLOSE else b""
        yield bad(f"61-rsv1-on-a-{NAMES[opcode]}", 61, "6.1", frame(opcode, body, rsv=RSV1), 1002, forbidden, at=1)

    yield case("62-uncompressed-message", 62, "6", frame(TEXT, b"Hello"), hello)
    yield case(
        "62-uncompressed-between-compressed",
        62,
        "6",
        rsv1(packed) + frame(TEXT, b"plain") + rsv1(packed) + frame(BINARY, packed),
        [*hello, ("text", "plain"), *hello, ("binary", packed)],
    )
    yield case(
        "62-uncompressed-fragments",
        62,
        "6",
        frame(TEXT, b"Hel", fin=False) + frame(CONTINUATION, b"lo"),
        hello,
    )
    yield case(
        "62-uncompressed-does-not-touch-the-window",
        62,
        "7.2.3.2",
        rsv1(packed) + frame(TEXT, b"plain") + rsv1(bytes.fromhex("f200110000")),
        [*hello, ("text", "plain"), *hello],
        takeover=True,
    )

    yield case("60-window-is-kept", 60, "7.2.3.2", rsv1(packed) + rsv1(bytes.fromhex("f200110000")), hello * 2,
               takeover=True)  # fmt: skip
    yield bad(
        "60-window-is-not-kept",
        60,
        "7.1.1.2",
        rsv1(packed) + rsv1(bytes.fromhex("f200110000")),
        1007,
        "invalid deflate data",
        before=(("text", "Hello"),),
    )
    yield case("60-fresh-windows", 60, "7.1.1.2", rsv1(packed) * 3, hello * 3)
    yield case("60-fresh-windows-where-they-could-be-kept", 60, "7.1.1.2", rsv1(packed) * 3, hello * 3, takeover=True)

    yield case("63-empty-message-is-00", 63, "7.2.3.6", rsv1(b"\x00"), [("text", "")])
    yield case("63-empty-message-is-02-00", 63, "7.2.3.6", rsv1(b"\x02\x00"), [("text", "")])
    yield case("63-empty-binary", 63, "7.2.3.6", rsv1(b"\x00", BINARY), [("binary", b"")])
    yield case(
        "63-empty-fragments",
        63,
        "7.2.3.6",
        rsv1(b"", fin=False) + frame(CONTINUATION, b"\x00", fin=False) + frame(CONTINUATION),
        [("text", "")],
    )
    yield case("63-empty-payload", 63, "7.2.2", rsv1(b"") + rsv1(packed), [("text", ""), *hello])
    yield case(
        "63-empty-messages-keep-the-window",
        63,
        "7.2.3.6",
        rsv1(packed) + rsv1(b"\x00") * 2 + rsv1(bytes.fromhex("f200110000")),
        [*hello, ("text", ""), ("text", ""), *hello],
        takeover=True,
    )
    yield case("63-tail-left-on", 63, "7.2.2", rsv1(packed + TAIL), hello)
    for size in (1, 100, 1000, 5000):
        data = ("abcdefghij" * 500)[:size]
        yield case(f"63-text-of-{size}-bytes", 63, "7.2.2", rsv1(deflate(data.encode())), [("text", data)])

    yield case("64-no-compression", 64, "7.2.3.3", rsv1(bytes.fromhex("000500faff48656c6c6f00")), hello)
    yield case("64-bfinal", 64, "7.2.3.4", rsv1(bytes.fromhex("f348cdc9c9070000")), hello)
    yield case("64-bfinal-then-another-message", 64, "7.2.3.4", rsv1(bytes.fromhex("f348cdc9c9070000")) * 2, hello * 2)
    yield case(
        "64-bfinal-then-another-message-with-takeover",
        64,
        "7.2.3.4",
        rsv1(bytes.fromhex("f348cdc9c9070000")) * 2 + rsv1(packed),
        hello * 3,
        takeover=True,
    )
    yield case("64-bfinal-at-the-end", 64, "7.2.3.4", rsv1(bytes.fromhex("f348cdc9c90700")) * 2, hello * 2)
    yield case("64-two-blocks", 64, "7.2.3.5", rsv1(bytes.fromhex("f2480500 0000ffff cac9c90700")), hello)
    yield case("64-stored-blocks", 64, "7.2.3.5", rsv1(stored(b"Hel") + stored(b"") + stored(b"lo") + b"\x00"), hello)
    flushing = Deflater()
    parts = [flushing.flushed(part) for part in (b"one ", b"two ", b"three")]
    yield case("64-flushed-thrice", 64, "7.2.1", rsv1(b"".join(parts)[:-4]), [("text", "one two three")])
    yield case(
        "64-a-flush-a-fragment",
        64,
        "7.2.1",
        rsv1(parts[0], fin=False) + frame(CONTINUATION, parts[1], fin=False) + frame(CONTINUATION, parts[2][:-4]),
        [("text", "one two three")],
    )
    invalid = "invalid deflate data"
    yield bad("64-block-type-3", 64, "7.2.2", rsv1(b"\x06\x00\x00"), 1007, invalid)
    yield bad("64-all-ones", 64, "7.2.2", rsv1(b"\xff" * 8), 1007, invalid)
    yield bad("64-stored-length-mismatch", 64, "7.2.2", rsv1(b"\x00\x05\x00\x00\x00Hello"), 1007, invalid)
    yield bad("64-stored-block-runs-into-the-tail", 64, "7.2.2", rsv1(b"\x00\x05\x00\xfa\xffHel"), 1007, invalid)
    yield bad(
        "64-garbage-after-bfinal", 64, "7.2.2", rsv1(bytes.fromhex("f348cdc9c90700") + b"\xff\xff"), 1007, invalid
    )
    yield bad("64-garbage-after-a-block", 64, "7.2.2", rsv1(packed[:-1] + b"\xff\xff\xff\xff"), 1007, invalid)
    yield bad("64-garbage-in-the-first-fragment", 64, "7.2.2", rsv1(b"\xff" * 8, fin=False), 1007, invalid)
    yield bad("64-text-that-was-not-compressed", 64, "7.2.2", rsv1(b"\x07Hello"), 1007, invalid)

    bomb = deflate(b"\0" * 2**20, level=9)
    over = "inflated message over 65536 bytes"
    yield bad("65-bomb", 65, "8", rsv1(bomb, BINARY), 1009, over, max_size=2**16)
    yield bad(
        "65-bomb-in-fragments",
        65,
        "8",
        rsv1(bomb[:100], BINARY, fin=False) + frame(CONTINUATION, bomb[100:]),
        1009,
        over,
        max_size=2**16,
    )
    yield bad(
        "65-bomb-with-takeover", 65, "8", rsv1(packed) + rsv1(bomb), 1009, over, before=(("text", "Hello"),),
        takeover=True, max_size=2**16,
    )  # fmt: skip
    yield bad("65-bomb-fails-before-its-end", 65, "8", rsv1(bomb, fin=False), 1009, over, max_size=2**16)
    yield bad("65-bomb-fails-inside-its-frame", 65, "8", rsv1(bomb)[:-200], 1009, over, max_size=2**16)
    for size, limit in ((10, 10), (1000, 1000), (5000, 5000)):
        octets = b"a" * size
        message = rsv1(deflate(octets), BINARY)
        yield case(f"65-exactly-{size}", 65, "8", message, [("binary", octets)], max_size=limit)
        yield bad(
            f"65-{size}-of-{limit - 1}", 65, "8", message, 1009, f"inflated message over {limit - 1} bytes",
            max_size=limit - 1,
        )  # fmt: skip
    yield bad(
        "65-fragments-sum-up",
        65,
        "8",
        rsv1(parts[0], fin=False) + frame(CONTINUATION, parts[1], fin=False),
        1009,
        "inflated message over 7 bytes",
        max_size=7,
    )
    yield case("65-no-limit", 65, "8", rsv1(packed) + first + last, hello * 2, max_size=None)
    yield case(
        "65-no-limit-with-takeover", 65, "8", first + last + rsv1(packed), hello * 2, takeover=True, max_size=None
    )
    yield case("65-each-message-by-itself", 65, "8", rsv1(packed) * 4, hello * 4, max_size=5)

    reason = "invalid UTF-8 in a text message"
    yield case("66-valid", 66, "8.1", rsv1(deflate("κόσμε".encode())), [("text", "κόσμε")])
    yield case("66-the-compressed-bytes-need-not-be-utf-8", 66, "8.1", rsv1(deflate(b"a" * 300)), [("text", "a" * 300)])
    for name, octets, _ in INVALID_UTF8:
        yield bad(f"66-{name}", 66, "8.1", rsv1(deflate(b"ok " + octets + b" ok")), 1007, reason)
        yield case(f"66-{name}-is-fine-in-binary", 66, "5.6", rsv1(deflate(octets), BINARY), [("binary", octets)])
    for octets in CUT_UTF8:
        yield bad(f"66-cut-off-{octets.hex()}", 66, "8.1", rsv1(deflate(octets)), 1007, reason)
    sequence = "\N{GRINNING FACE}".encode()
    for at in range(1, len(sequence)):
        spread = Deflater()
        yield case(
            f"66-sequence-across-blocks-at-{at}",
            66,
            "8.1",
            rsv1(spread.flushed(sequence[:at]), fin=False) + frame(CONTINUATION, spread.message(sequence[at:])),
            [("text", sequence.decode())],
        )
    early = Deflater()
    yield bad("66-fails-before-the-last-fragment", 66, "8.1", rsv1(early.flushed(b"ab\xff"), fin=False), 1007, reason)


def as_text() -> str:
    """Encode the table, one case a line."""
    lines = ",\n".join(json.dumps(case.as_json()) for case in cases())
    return f'{{"cases": [\n{lines}\n]}}\n'


if __name__ == "__main__":
    PATH.write_text(as_text(), encoding="ascii")
