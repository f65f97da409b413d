"""Bodies: rules 2, 8, 9 and 11, each whole, byte by byte, cut everywhere, and with the next request behind it."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from http_harness import cuts
from hypothesis import given
from hypothesis import strategies as st

from ferrows._codec import HeadReader
from ferrows.exceptions import BadRequest, HTTPException, PayloadTooLarge
from ferrows.server.body import BodyReader, Limits

CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
LIMITS = Limits(header_size=60, headers=3)
NEXT = b"GET / HTTP/1.1\r\n"


def feed(head: bytes, chunks: list[bytes], max_size: int = 100) -> tuple[bytes, bytes] | int | None:
    """Return the body and what follows it, the status of its refusal, or None where it is not whole."""
    found = HeadReader(*Limits()).receive_data(head)
    assert found is not None
    try:
        reader = BodyReader(found[0], max_size, LIMITS)
        for number, chunk in enumerate(chunks):
            if reader.complete:
                return reader.body, b"".join(chunks[number:])
            rest = reader.receive_data(chunk)
            if reader.complete:
                return reader.body, rest + b"".join(chunks[number + 1 :])
            assert not rest
    except HTTPException as error:
        return error.status_code
    return (reader.body, b"") if reader.complete else None


def outcomes(head: bytes, data: bytes, max_size: int = 100) -> tuple[bytes, bytes] | int | None:
    outcome = feed(head, [data], max_size)
    for name, chunks in cuts(data):
        assert feed(head, list(chunks), max_size) == outcome, name
    return outcome


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"0\r\n\r\n", b""),
        (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde"),
        (b"0003\r\nabc\r\n000\r\n\r\n", b"abc"),
        (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
        (b'3;a;b=c;d="e f"\r\nabc\r\n0;a\r\n\r\n', b"abc"),
        (b"3\r\nabc\r\n0\r\nA: b\r\nc:\td\xe4 \r\n\r\n", b"abc"),
    ],
)
def test_rule_8_chunked_body_is_read(data: bytes, body: bytes) -> None:
    assert outcomes(CHUNKED, data) == (body, b"")
    assert outcomes(CHUNKED, data + NEXT) == (body, NEXT)


REFUSED = [
    ("LF after the size", b"3\nabc\r\n0\r\n\r\n", 400),
    ("CR alone after the size", b"3\rabc\r\n0\r\n\r\n", 400),
    ("LF after the data", b"3\r\nabc\n0\r\n\r\n", 400),
    ("CR alone after the data", b"3\r\nabc\r0\r\n\r\n", 400),
    ("nothing after the data", b"3\r\nabc0\r\n\r\n", 400),
    ("more data than the size", b"3\r\nabcd\r\n0\r\n\r\n", 400),
    ("no size", b"\r\nabc\r\n0\r\n\r\n", 400),
    ("no digit", b"x\r\nabc\r\n0\r\n\r\n", 400),
    ("sign", b"+3\r\nabc\r\n0\r\n\r\n", 400),
    ("prefix", b"0x3\r\nabc\r\n0\r\n\r\n", 400),
    ("underscore", b"0_3\r\nabc\r\n0\r\n\r\n", 400),
    ("space before", b" 3\r\nabc\r\n0\r\n\r\n", 400),
    ("space behind", b"3 \r\nabc\r\n0\r\n\r\n", 400),
    ("17 digits", b"00000000000000003\r\nabc\r\n0\r\n\r\n", 400),
    ("overflow", b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n", 400),
    ("64 bits", b"ffffffffffffffff\r\nabc\r\n0\r\n\r\n", 413),
    ("LF in an extension", b"3;a\nb\r\nabc\r\n0\r\n\r\n", 400),
    ("NUL in an extension", b"3;a\x00\r\nabc\r\n0\r\n\r\n", 400),
    ("DEL in an extension", b"3;a\x7f\r\nabc\r\n0\r\n\r\n", 400),
    ("CR in an extension", b"3;a\rb\r\nabc\r\n0\r\n\r\n", 400),
    ("extension without a name", b"3;\r\nabc\r\n0\r\n\r\n", 400),
    ("extensions without end", b"3;" + b"a" * 5000, 400),
    ("folded trailer", b"0\r\nA: b\r\n c\r\n\r\n", 400),
    ("trailer without a colon", b"0\r\nAb\r\n\r\n", 400),
    ("space before a trailer's colon", b"0\r\nA : b\r\n\r\n", 400),
    ("LF after a trailer", b"0\r\nA: b\n\r\n", 400),
    ("LF at the end", b"0\r\n\n", 400),
    ("CR alone at the end", b"0\r\n\rX\n", 400),
    ("NUL in a trailer", b"0\r\nA: \x00\r\n\r\n", 400),
    ("framing in a trailer", b"0\r\nContent-Length: 3\r\n\r\n", 400),
    ("large trailers", b"0\r\nA: " + b"b" * 70 + b"\r\n\r\n", 431),
    ("trailer without an end", b"0\r\nA: " + b"b" * 70, 431),
    ("many trailers", b"0\r\n" + b"A: b\r\n" * 4 + b"\r\n", 431),
    ("framing in trailers that are too large", b"0\r\nContent-Length: 3\r\nA: " + b"b" * 70 + b"\r\n\r\n", 400),
    ("too large at once", b"65\r\n", 413),
    ("too large in sum", b"32\r\n" + b"a" * 50 + b"\r\n33\r\n", 413),
    ("too large after an extension", b"65;a\r\n", 413),
]


@pytest.mark.parametrize(("data", "status"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_rules_8_and_9_chunked_body_is_refused(data: bytes, status: int) -> None:
    assert outcomes(CHUNKED, data) == status
    assert outcomes(CHUNKED, data + b"\r\n" + NEXT) == status


def test_rule_9_limits_of_a_chunked_body_are_inclusive() -> None:
    assert outcomes(CHUNKED, b"64\r\n" + b"a" * 100 + b"\r\n0\r\n\r\n") == (b"a" * 100, b"")
    trailers = b"A: " + b"b" * 55 + b"\r\n"
    assert len(trailers) == 60
    assert outcomes(CHUNKED, b"0\r\n" + trailers + b"\r\n") == (b"", b"")
    assert outcomes(CHUNKED, b"0\r\n" + b"A: b\r\n" * 3 + b"\r\n") == (b"", b"")


def test_length_is_counted() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
    assert outcomes(head, b"hello") == (b"hello", b"")
    assert outcomes(head, b"hello" + NEXT) == (b"hello", NEXT)
    assert outcomes(head, b"hell") is None


@pytest.mark.parametrize("framing", [b"", b"Content-Length: 0\r\n"])
def test_no_body_is_complete_at_once(framing: bytes) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n"
    assert feed(head, []) == (b"", b"")


@pytest.mark.parametrize(("length", "status"), [(b"101", 413), (b"9" * 30, 413)])
def test_rule_9_announced_length_is_refused_at_once(length: bytes, status: int) -> None:
    assert feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + length + b"\r\n\r\n", []) == status


def test_length_that_httptools_cannot_count_is_refused() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n"
    assert feed(head, [], max_size=10**20) == 400


UPGRADE = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n"


def test_rule_11_body_of_a_declined_upgrade_is_framed_by_its_length() -> None:
    head = UPGRADE + b"Content-Length: 5\r\n\r\n"
    assert outcomes(head, b"hello" + NEXT) == (b"hello", NEXT)


def test_rule_11_chunked_body_of_a_declined_upgrade_is_framed() -> None:
    head = UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n"
    assert outcomes(head, b"5\r\nhello\r\n0\r\n\r\n" + NEXT) == (b"hello", NEXT)
    assert outcomes(head, b"5\r\nhello\n") == 400


def test_rule_11_declined_upgrade_without_a_body_is_complete() -> None:
    assert feed(UPGRADE + b"\r\n", [NEXT]) == (b"", NEXT)


@pytest.mark.parametrize("coding", [b"Chunked", b" CHUNKED\t", b"chunked ", b", chunked"])
def test_rule_4_both_readers_agree_on_the_spelling_of_chunked(coding: bytes) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: " + coding + b"\r\n\r\n"
    assert outcomes(head, b"1\r\na\r\n0\r\n\r\n" + NEXT) == (b"a", NEXT)


def test_body_in_one_piece_is_not_copied() -> None:
    found = HeadReader(*Limits()).receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
    assert found is not None
    reader = BodyReader(found[0], 100, LIMITS)
    reader.receive_data(b"abc")
    assert reader.body is reader.body


def claiming(length: int, raw: bytes) -> Any:
    """Return what a guard would that takes the body to be so long."""
    return SimpleNamespace(raw=raw, content_length=length, has_body=length > 0, chunked=False)


def test_readers_that_disagree_end_the_request() -> None:
    """httptools reads the head's own bytes, so a head that the guard took for another is refused."""
    found = HeadReader(*Limits()).receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
    assert found is not None
    head, raw = found[0], found[0].raw
    with pytest.raises(BadRequest, match="ambiguous"):
        BodyReader(claiming(0, raw), 100, LIMITS)
    with pytest.raises(PayloadTooLarge):
        BodyReader(head, 2, LIMITS)
    longer = BodyReader(claiming(4, raw), 100, LIMITS)
    with pytest.raises(BadRequest, match=r"ambiguous|malformed"):
        longer.receive_data(b"abcd")
    with pytest.raises(BadRequest, match="malformed"):
        BodyReader(claiming(3, raw.replace(b"HTTP/1.1", b"HTTP/9.9")), 100, LIMITS)


PIECES = st.sampled_from(
    [
        b"3\r\nabc\r\n",
        b"0\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b"1",
        b"0",
        b";a",
        b";",
        b"A: b\r\n",
        b" ",
        b"\x00",
        b"abc",
        b"65",
    ]
)


@given(st.lists(PIECES, max_size=12), st.lists(st.integers(0, 60), max_size=5))
def test_outcome_does_not_depend_on_the_cuts(pieces: list[bytes], places: list[int]) -> None:
    data = b"".join(pieces)
    bounds = [0, *sorted(place for place in places if place < len(data)), len(data)]
    chunks = [data[start:stop] for start, stop in itertools.pairwise(bounds) if stop > start]
    octets = [data[i : i + 1] for i in range(len(data))]
    assert feed(CHUNKED, chunks) == feed(CHUNKED, [data]) == feed(CHUNKED, octets)
