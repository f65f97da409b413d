"""Heads, right ones, nearly right ones and noise, however they are cut: the extension answers as the twin does."""

from __future__ import annotations

import itertools
from types import ModuleType
from typing import Any, NamedTuple

from hypothesis import example, given
from hypothesis import strategies as st

from ferrows._pycore.head import METHODS
from ferrows.exceptions import HTTPException

FACTS = (
    *("method", "target", "version", "content_length", "chunked", "keep_alive", "expect_continue", "websocket"),
    *("has_body", "raw", "headers"),
)

METHOD_NAMES = st.sampled_from([b"GET", b"GET", b"GET", b"POST", b"OPTIONS"]) | st.sampled_from(
    [*(name.encode() for name in sorted(METHODS)), b"CONNECT", b"get", b"G(T", b"", b"X" * 50]
)
# fmt: off
NAMED = [
    "a", "a.example", "a:80", "a:", "a:65535", "a:65536", "a:000080", ":80", "a:b", "a%41", "a%4", "a%zz",
    "u@a", "a/b", "a,b", "~!$&'()*+,;=",
]
LITERALS = [
    "[::1]", "[::1]:8000", "[::1]a", "[::1", "[]", "[1:2]", "[::g]", "[1::2::3]", "[::]", "[1::]", "[:::]",
    "[1:2:3:4:5:6:7:8]", "[1:2:3:4:5:6:7::]", "[::2:3:4:5:6:7:8]", "[:1:2:3:4:5:6:7]",
    "[1:2:3:4:5:6:7:8:9]", "[::00001]", "[::1.2.3.4]", "[::1.2.3.04]", "[::1.2.3.256]",
    "[1:2:3:4:5:6:1.2.3.4]", "[1:2:3:4:5:6::1.2.3.4]", "[1:2:3:4:5::1.2.3.4]", "[1.2.3.4::]", "[1.2.3.4]",
    "[::1.2.3.4:5]", "[::1.2.3]", "[::1.2.3.4.5]", "[::.1.2.3]", "[v1.a:b]", "[V1F.~]", "[v.a]", "[v1.]",
    "[v1]", "[vg.a]", "[v1.a/b]", "[::1%25eth0]", "[fe80::1%1]",
]
# fmt: on
HOSTS = st.sampled_from(NAMED + LITERALS) | st.text(st.sampled_from("0123af:."), max_size=24).map(
    lambda text: f"[{text}]"
)
TARGETS = st.sampled_from(
    [b"/", b"/", b"/ws", b"/a?b=c", b"*", b"", b"a", b"/#a", b"/\xe4", b"/ a", b"/\t", b"//", b"/" * 40]
) | st.tuples(
    st.sampled_from([b"http", b"https", b"ws", b"WSS", b"Http", b"ftp", b""]),
    st.sampled_from([b"://", b":/", b":"]),
    HOSTS.map(str.encode),
    st.sampled_from([b"", b"/", b"?a", b"/a?b", b"?/", b"#a"]),
).map(b"".join)
VERSIONS = st.sampled_from([b"HTTP/1.1"] * 8 + [b"HTTP/1.0"] * 3) | st.sampled_from(
    [
        b"HTTP/1.2",
        b"HTTP/0.9",
        b"HTTP/2.0",
        b"http/1.1",
        b"HTTP/11",
        b"HTTP/1.1 ",
        b"HTTP/1.10",
        b"HTTP/1.",
        b"",
        b"\xff",
    ]
)
LISTED = st.sampled_from(
    [
        *(b"close", b"keep-alive", b"Upgrade", b"upgrade", b"WebSocket", b"h2c", b"chunked", b"Chunked", b"gzip", b"x"),
        *(b"100-continue", b"100-Continue", b"", b" ", b"\t", b"chunked;q=1", b'"chunked"', b"\xe4", b"0", b"3"),
    ]
)
LISTS = st.lists(LISTED, max_size=3).map(b",".join) | st.lists(LISTED, max_size=3).map(b" ,\t".join)
LENGTHS = st.sampled_from(
    [b"0", b"3", b"007", b"3, 3", b"-3", b"+3", b"0x3", b"1_0", b"", b"\xb2", b"9" * 18, b"9" * 19, b"0" * 30 + b"1"]
)
OTHERS = st.binary(max_size=20) | st.sampled_from([b"", b"b", b"b c\td", b"caf\xc3\xa9", b"x" * 30])
NAMES = st.sampled_from(
    [
        b"A",
        b"X-Long-Name",
        b"Cookie",
        b"connectio",
        b"hosts",
        b"upgrade-insecure-requests",
        b"",
        b"A(",
        b"A ",
        b"\tA",
        b"\xe4",
    ]
)
WHITE = st.sampled_from([b"", b" ", b" ", b" ", b"\t", b" \t ", b"  "])


def any_case(name: bytes) -> st.SearchStrategy[bytes]:
    return st.sampled_from([name, name, name.lower(), name.upper(), name.swapcase()])


def lines(name: bytes, values: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.tuples(any_case(name), st.just(b":"), WHITE, values, WHITE, st.just(b"\r\n")).map(b"".join)


HOST_LINES = lines(b"Host", HOSTS.map(str.encode))
FIELDS = st.one_of(
    lines(b"Connection", LISTS),
    lines(b"Upgrade", LISTS),
    lines(b"Transfer-Encoding", LISTS),
    lines(b"Expect", LISTS),
    lines(b"Content-Length", LENGTHS),
    st.just(b"Connection: upgrade\r\nUpgrade: websocket\r\n"),
)
LINES = st.one_of(
    lines(b"X-A", OTHERS),
    HOST_LINES,
    st.tuples(NAMES, st.sampled_from([b":", b": ", b" :", b""]), OTHERS, st.just(b"\r\n")).map(b"".join),
    st.sampled_from([b" folded\r\n", b"\r\n", b"A: b\n", b"A: b\r"]),
)
RIGHT_LINES = st.sampled_from(
    [b"GET / HTTP/1.1", b"GET / HTTP/1.1", b"GET / HTTP/1.0", b"POST /a HTTP/1.1", b"OPTIONS * HTTP/1.1"]
)
RIGHT_FIELDS = st.one_of(
    lines(b"Connection", LISTS),
    lines(b"Upgrade", LISTS),
    lines(b"X-A", st.sampled_from([b"", b"b", b"b c\td", b"caf\xc3\xa9", b"x" * 30])),
    lines(b"Expect", st.just(b"100-continue")),
)
ODD = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\x00", b"\x0b", b"\x7f", b"\x1f", b" ", b"\t", b":", b",", b"\xff"]
)


class Case(NamedTuple):
    """Bytes, where they are cut, and the limits."""

    data: bytes
    cuts: list[int]
    limits: tuple[int, int, int]

    def pieces(self) -> list[bytes]:
        bounds = [0, *sorted(cut for cut in self.cuts if cut < len(self.data)), len(self.data)]
        return [self.data[start:stop] for start, stop in itertools.pairwise(bounds)]


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """Draw a head of which one part, or none, may be wrong."""
    part = draw(st.sampled_from(["before", "request line", "host", "fields", "fields", "fields", "lines", ""]))
    before = draw(st.sampled_from([b"\r\n", b"\r\n\r\n", b"\n"])) if part == "before" else b""
    request_line = draw(RIGHT_LINES)
    if part == "request line":
        request_line = b" ".join([draw(METHOD_NAMES), draw(TARGETS), draw(VERSIONS)])
    host = draw(HOST_LINES | st.just(b"")) if part == "host" else b"Host: a\r\n"
    drawn = draw(st.lists({"fields": FIELDS, "lines": LINES}.get(part, RIGHT_FIELDS), max_size=4))
    section = b"".join(draw(st.permutations([host, *drawn])))
    behind = draw(st.sampled_from([b"", b"", b"body", b"\x81\x00\n"]))
    return before + request_line + b"\r\n" + section + b"\r\n" + behind


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Draw a head with up to three octets put in, replaced or taken away."""
    data = draw(heads())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(ODD | st.binary(max_size=2)) + data[at + draw(st.integers(0, 2)) :]
    return data


NOISE = st.lists(
    st.sampled_from([b"GET ", b"/", b" HTTP/1.1\r\n", b"HTTP/1.0", b"Host", b": ", b"a", b"Content-Length: 1\r\n"])
    | ODD,
    max_size=16,
).map(b"".join)
LIMITS = st.sampled_from([(8190, 8192, 100)] * 8 + [(12, 60, 4), (0, 0, 0), (30, 33, 2), (1, 1000, 1)])
CASES = st.builds(Case, heads() | mutated() | NOISE, st.lists(st.integers(0, 250), max_size=6), LIMITS)


def told(codec: ModuleType, pieces: list[bytes], limits: tuple[int, int, int]) -> tuple[Any, ...]:
    """Return what the reader answers, and with which piece."""
    reader = codec.HeadReader(*limits)
    for number, piece in enumerate(pieces):
        try:
            found = reader.receive_data(piece)
        except HTTPException as error:
            return number, type(error), error.status_code, error.message, reader.beginning(100), reader.started
        if found is not None:
            head, rest = found
            names = sorted({name.lower().decode() for name, _ in head.headers})
            return number, {fact: getattr(head, fact) for fact in FACTS}, [head.getall(name) for name in names], rest
    return len(pieces), reader.beginning(100), reader.started


@given(CASES)
@example(Case(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", [], (1, 9, 1)))
@example(Case(b"GET / HTTP/1.1\r\nHost: ab\r\n\r\n", [], (1, 9, 1)))
@example(Case(b"\r\nGET / HTTP/1.1\r\nHost: a\r\nA:\t \x7f\t\r\n\r\n", [1], (8190, 8192, 100)))
@example(Case(b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nA: b\r\n\r\n", [], (1, 14, 2)))
@example(Case(b"G\r", [1], (0, 0, 0)))
def test_extension_and_twin_give_the_same_answer(extension_and_twin: tuple[ModuleType, ModuleType], case: Case) -> None:
    extension, twin = extension_and_twin
    octets = [case.data[at : at + 1] for at in range(len(case.data))]
    for pieces in ([case.data], case.pieces(), octets):
        assert told(extension, pieces, case.limits) == told(twin, pieces, case.limits)


@given(heads() | mutated(), LIMITS)
def test_extension_and_twin_agree_wherever_one_cut_is(
    extension_and_twin: tuple[ModuleType, ModuleType], data: bytes, limits: tuple[int, int, int]
) -> None:
    extension, twin = extension_and_twin
    for at in range(len(data) + 1):
        pieces = [data[:at], data[at:]]
        assert told(extension, pieces, limits) == told(twin, pieces, limits)
