"""The guard: rules 1 to 7, 9 to 12 of heads, each whole, byte by byte, cut everywhere, and with more behind it."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import httptools
import pytest
from http_harness import cuts
from hypothesis import given
from hypothesis import strategies as st

from ferrows._codec import Head, HeadReader
from ferrows._pycore.head import METHODS
from ferrows.exceptions import HTTPException
from ferrows.server.body import Limits

H = b"Host: a.example\r\n"
GET = b"GET / HTTP/1.1\r\n"
POST = b"POST / HTTP/1.1\r\n"
WEBSOCKET = b"Connection: upgrade\r\nUpgrade: websocket\r\n"

DEFAULT = Limits()
SMALL = Limits(target=40, header_size=100, headers=5)


class Seen(NamedTuple):
    """What a head says, to be compared."""

    method: str
    target: bytes
    version: str
    headers: list[tuple[bytes, bytes]]
    content_length: int = 0
    chunked: bool = False
    keep_alive: bool = True
    expect_continue: bool = False
    websocket: bool = False

    @classmethod
    def of(cls, head: Head) -> Seen:
        return cls(*(getattr(head, name) for name in cls._fields))


def feed(chunks: list[bytes], limits: Limits = DEFAULT) -> Seen | int | None:
    """Return what the head says, the status of its refusal, or None where it is not whole."""
    reader = HeadReader(*limits)
    for number, chunk in enumerate(chunks):
        try:
            found = reader.receive_data(chunk)
        except HTTPException as error:
            return error.status_code
        if found is not None:
            head, rest = found
            assert head.raw.endswith(b"\r\n\r\n")
            assert b"".join(chunks).endswith(head.raw + rest + b"".join(chunks[number + 1 :]))
            return Seen.of(head)
    return None


def verdicts(data: bytes, limits: Limits = DEFAULT) -> Seen | int | None:
    """Feed in every way, make sure that they agree, and return the verdict."""
    verdict = feed([data], limits)
    for name, chunks in cuts(data):
        assert feed(list(chunks), limits) == verdict, name
    return verdict


REFUSED = [
    # Rule 1, RFC 9112 §3.2
    ("1 no Host", GET + b"\r\n", 400),
    ("1 two Hosts", GET + H + H + b"\r\n", 400),
    ("1 two Hosts in different case", GET + b"Host: a\r\nhOST: a\r\n\r\n", 400),
    ("1 empty Host", GET + b"Host:\r\n\r\n", 400),
    ("1 Host with a path", GET + b"Host: a/b\r\n\r\n", 400),
    ("1 Host with userinfo", GET + b"Host: u@a\r\n\r\n", 400),
    ("1 Host with a space", GET + b"Host: a b\r\n\r\n", 400),
    ("1 Host with a list", GET + b"Host: a, b\r\n\r\n", 400),
    ("1 Host with a wrong port", GET + b"Host: a:b\r\n\r\n", 400),
    ("1 Host with a port too large", GET + b"Host: a:65536\r\n\r\n", 400),
    ("1 Host that is no IPv6 address", GET + b"Host: [::g]\r\n\r\n", 400),
    ("1 Host that is a wrong IPv6 address", GET + b"Host: [1:2]\r\n\r\n", 400),
    ("1 Host with a broken escape", GET + b"Host: a%zz\r\n\r\n", 400),
    ("1 Host beyond ASCII", GET + "Host: ä\r\n\r\n".encode(), 400),
    ("1 two Hosts in HTTP/1.0", b"GET / HTTP/1.0\r\n" + H + H + b"\r\n", 400),
    ("1 invalid Host in HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n", 400),
    # Rule 2, RFC 9112 §6.1
    ("2 both framings", POST + H + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("2 both framings, other order", POST + H + b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n", 400),
    # Rule 3, RFC 9112 §6.3
    ("3 conflicting lengths", POST + H + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n", 400),
    ("3 equal lengths", POST + H + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\n", 400),
    ("3 list of lengths", POST + H + b"Content-Length: 3, 3\r\n\r\n", 400),
    ("3 negative length", POST + H + b"Content-Length: -3\r\n\r\n", 400),
    ("3 signed length", POST + H + b"Content-Length: +3\r\n\r\n", 400),
    ("3 hexadecimal length", POST + H + b"Content-Length: 0x3\r\n\r\n", 400),
    ("3 length with an underscore", POST + H + b"Content-Length: 1_0\r\n\r\n", 400),
    ("3 empty length", POST + H + b"Content-Length:\r\n\r\n", 400),
    ("3 length of other digits", POST + H + b"Content-Length: \xb2\r\n\r\n", 400),
    # Rule 4, RFC 9112 §6.1, §6.3
    ("4 last coding not chunked", POST + H + b"Transfer-Encoding: chunked, gzip\r\n\r\n", 400),
    ("4 identity", POST + H + b"Transfer-Encoding: identity\r\n\r\n", 400),
    ("4 nearly chunked", POST + H + b"Transfer-Encoding: xchunked\r\n\r\n", 400),
    ("4 chunked with a parameter", POST + H + b"Transfer-Encoding: chunked;q=1\r\n\r\n", 400),
    ("4 quoted", POST + H + b'Transfer-Encoding: "chunked"\r\n\r\n', 400),
    ("4 chunked twice", POST + H + b"Transfer-Encoding: chunked, chunked\r\n\r\n", 400),
    ("4 chunked twice in two lines", POST + H + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n", 400),
    ("4 empty", POST + H + b"Transfer-Encoding:\r\n\r\n", 400),
    ("4 vertical tab", POST + H + b"Transfer-Encoding: \x0bchunked\r\n\r\n", 400),
    ("4 unknown before chunked", POST + H + b"Transfer-Encoding: frob, chunked\r\n\r\n", 501),
    ("4 known before chunked", POST + H + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
    ("4 in HTTP/1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    # Rule 5, RFC 9112 §5.2
    ("5 folded with a space", GET + H + b"A: b\r\n c\r\n\r\n", 400),
    ("5 folded with a tab", GET + H + b"A: b\r\n\tc\r\n\r\n", 400),
    ("5 folded first line", GET + b" A: b\r\n" + H + b"\r\n", 400),
    ("5 line of a space", GET + H + b" \r\n\r\n", 400),
    # Rule 6, RFC 9112 §5.1
    ("6 space before the colon", GET + b"Host : a\r\n\r\n", 400),
    ("6 tab before the colon", GET + H + b"A\t: b\r\n\r\n", 400),
    ("6 name that is no token", GET + H + b"A(: b\r\n\r\n", 400),
    ("6 empty name", GET + H + b": b\r\n\r\n", 400),
    ("6 no colon", GET + H + b"Abc\r\n\r\n", 400),
    ("6 name beyond ASCII", GET + H + b"\xc3\xa4: b\r\n\r\n", 400),
    # Rule 7, RFC 9112 §2.2
    ("7 LF only", b"GET / HTTP/1.1\nHost: a\n\n", 400),
    ("7 LF after the request line", b"GET / HTTP/1.1\n" + H + b"\r\n", 400),
    ("7 LF in a value", GET + H + b"A: b\nC: d\r\n\r\n", 400),
    ("7 LF at the end", GET + H + b"\n", 400),
    ("7 CR in a value", GET + H + b"A: b\rC: d\r\n\r\n", 400),
    ("7 CR CR LF", GET + H + b"A: b\r\r\n\r\n", 400),
    ("7 CR in the request line", b"GET /\r HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("7 NUL in a value", GET + H + b"A: b\x00c\r\n\r\n", 400),
    ("7 NUL in the target", b"GET /\x00 HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("7 DEL in a value", GET + H + b"A: b\x7fc\r\n\r\n", 400),
    ("7 TLS on this port", b"\x16\x03\x01\x02\x00\x01\x00\x01", 400),
    # Rule 9
    ("9 long target", b"GET /" + b"a" * 40 + b" HTTP/1.1\r\n" + H + b"\r\n", 414),
    ("9 target without an end", b"GET /" + b"a" * 200, 414),
    ("9 long method", b"A" * 200 + b" / HTTP/1.1\r\n" + H + b"\r\n", 414),
    ("9 large header", GET + H + b"A: " + b"b" * 100 + b"\r\n\r\n", 431),
    ("9 header without an end", GET + H + b"A: " + b"b" * 300, 431),
    ("9 many headers", GET + H + b"A: b\r\n" * 5 + b"\r\n", 431),
    ("9 headers without an end", GET + H + b"A: b\r\n" * 9, 431),
    ("9 large header and a NUL before its limit", GET + H + b"A: \x00" + b"b" * 300, 400),
    ("9 large header and a NUL after its limit", GET + H + b"A: " + b"b" * 300 + b"\x00", 431),
    ("9 many headers and a NUL after their limit", GET + H + b"A: b\r\n" * 5 + b"\x00\r\n\r\n", 431),
    ("9 many headers and a NUL before their limit", GET + H + b"\x00: b\r\n" + b"A: b\r\n" * 5 + b"\r\n", 400),
    # Rule 12
    ("12 upgrade with a length", GET + H + WEBSOCKET + b"Content-Length: 1\r\n\r\n", 400),
    ("12 upgrade chunked", GET + H + WEBSOCKET + b"Transfer-Encoding: chunked\r\n\r\n", 400),
    # RFC 9112 §3
    ("no version", b"GET /\r\n\r\n", 400),
    ("two spaces", b"GET  / HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("space behind", b"GET / HTTP/1.1 \r\n" + H + b"\r\n", 400),
    ("tab for a space", b"GET\t/ HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("no target", b"GET  HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("method that is no token", b"G(T / HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("target beyond ASCII", "GET /ä HTTP/1.1\r\n".encode() + H + b"\r\n", 400),
    ("target with a fragment", b"GET /#a HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("target without a slash", b"GET a HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("asterisk with GET", b"GET * HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("absolute target without a host", b"GET http:/// HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("absolute target with userinfo", b"GET http://u@a/ HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("absolute target of another scheme", b"GET ftp://a/ HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("lower case version", b"GET / http/1.1\r\n" + H + b"\r\n", 400),
    ("two empty lines before", b"\r\n\r\n" + GET + H + b"\r\n", 400),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("HTTP/0.9", b"GET / HTTP/0.9\r\n" + H + b"\r\n", 505),
    ("HTTP/1.2", b"GET / HTTP/1.2\r\n" + H + b"\r\n", 505),
    ("bad version and a NUL in a header", b"GET / HTTP/1.2\r\nA: \x00\r\n\r\n", 400),
    ("unknown method", b"FROB / HTTP/1.1\r\n" + H + b"\r\n", 501),
    ("method in lower case", b"get / HTTP/1.1\r\n" + H + b"\r\n", 501),
    ("CONNECT", b"CONNECT a:1 HTTP/1.1\r\n" + H + b"\r\n", 501),
    ("other expectation", POST + H + b"Expect: frob\r\n\r\n", 417),
    ("further expectation", POST + H + b"Expect: 100-continue, frob\r\n\r\n", 417),
]


@pytest.mark.parametrize(("data", "status"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_head_is_refused(data: bytes, status: int) -> None:
    limits = SMALL if status in (414, 431) or b"\x00" in data else Limits()
    assert verdicts(data, limits) == status


@pytest.mark.parametrize("row", REFUSED, ids=[row[0] for row in REFUSED])
def test_refusal_does_not_depend_on_what_follows(row: tuple[str, bytes, int]) -> None:
    _, data, status = row
    limits = SMALL if status in (414, 431) or b"\x00" in data else Limits()
    assert verdicts(data + b"\x81\x05hello\x00\n", limits) == status


def test_head_is_taken_apart() -> None:
    data = (
        b"POST /a/b?c=d HTTP/1.1\r\n"
        b"Host: [::1]:8000\r\n"
        b"Content-Length: 007\r\n"
        b"X-Empty:\r\n"
        b"X-Space: \t a b \t \r\n"
        b"X-Other: \xe4\xff\tx\r\n"
        b"x-OTHER: 2\r\n"
        b"\r\n"
    )
    head = verdicts(data + b"rest")
    assert head == Seen(
        method="POST",
        target=b"/a/b?c=d",
        version="1.1",
        headers=[
            (b"Host", b"[::1]:8000"),
            (b"Content-Length", b"007"),
            (b"X-Empty", b""),
            (b"X-Space", b"a b"),
            (b"X-Other", b"\xe4\xff\tx"),
            (b"x-OTHER", b"2"),
        ],
        content_length=7,
        chunked=False,
        keep_alive=True,
        expect_continue=False,
        websocket=False,
    )


@pytest.mark.parametrize(
    "target",
    [b"/", b"//a", b"/?", b'/a|b{c}^[d]"<>`\\', b"http://a", b"HTTPS://a:1/b?c", b"ws://[::1]/?d", b"http://a?b"],
)
def test_target_is_taken(target: bytes) -> None:
    head = verdicts(b"GET " + target + b" HTTP/1.1\r\n" + H + b"\r\n")
    assert isinstance(head, Seen)
    assert head.target == target


def test_one_empty_line_before_the_request_line_is_ignored() -> None:
    head = verdicts(b"\r\n" + GET + H + b"\r\n")
    assert isinstance(head, Seen)
    assert head.headers == [(b"Host", b"a.example")]


def test_asterisk_with_options() -> None:
    head = verdicts(b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n")
    assert isinstance(head, Seen)
    assert head.target == b"*"


@pytest.mark.parametrize(
    ("version", "connection", "expected"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: x, CLOSE\r\n", False),
        (b"1.1", b"Connection: x\r\nConnection: close\r\n", False),
        (b"1.1", b"Connection: closed\r\n", True),
        (b"1.1", b"Connection: close, keep-alive\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: Keep-Alive\r\n", True),
        (b"1.0", b"Connection: keep-alive, close\r\n", False),
    ],
)
def test_9112_9_3_keep_alive(version: bytes, connection: bytes, expected: bool) -> None:
    head = verdicts(b"GET / HTTP/" + version + b"\r\n" + H + connection + b"\r\n")
    assert isinstance(head, Seen)
    assert head.keep_alive is expected


@pytest.mark.parametrize(
    ("version", "lines", "expected"),
    [
        (b"1.1", WEBSOCKET, True),
        (b"1.1", b"Connection: keep-alive, UPGRADE\r\nUpgrade: h2c, WebSocket\r\n", True),
        (b"1.1", b"Connection: a\r\nUpgrade: h2c\r\nUpgrade: websocket\r\nConnection: upgrade\r\n", True),
        (b"1.1", WEBSOCKET + b"Content-Length: 0\r\n", True),
        (b"1.1", b"Upgrade: websocket\r\n", False),
        (b"1.1", b"Connection: upgrade\r\n", False),
        (b"1.1", b"Connection: upgraded\r\nUpgrade: websocket\r\n", False),
        (b"1.1", b"Connection: upgrade\r\nUpgrade: websocket2\r\n", False),
        # Rule 10: not in HTTP/1.0, so that its body is no fault either.
        (b"1.0", WEBSOCKET, False),
        (b"1.0", WEBSOCKET + b"Content-Length: 3\r\n", False),
    ],
)
def test_rules_10_12_14_15_16_what_asks_for_a_websocket(version: bytes, lines: bytes, expected: bool) -> None:
    head = verdicts(b"GET / HTTP/" + version + b"\r\n" + H + lines + b"\r\n")
    assert isinstance(head, Seen)
    assert head.websocket is expected


@pytest.mark.parametrize(
    ("version", "value", "expected"),
    [(b"1.1", b"100-continue", True), (b"1.1", b"100-Continue", True), (b"1.0", b"frob", False), (b"1.1", b"", False)],
)
def test_9110_10_1_1_expectations(version: bytes, value: bytes, expected: bool) -> None:
    head = verdicts(b"POST / HTTP/" + version + b"\r\n" + H + b"Content-Length: 1\r\nExpect: " + value + b"\r\n\r\n")
    assert isinstance(head, Seen)
    assert head.expect_continue is expected


def test_http_1_0_needs_no_host() -> None:
    head = verdicts(b"GET / HTTP/1.0\r\n\r\n")
    assert isinstance(head, Seen)
    assert head.version == "1.0"


def test_rule_11_upgrade_of_another_method_is_declined_with_its_body() -> None:
    head = verdicts(POST + H + WEBSOCKET + b"Content-Length: 3\r\n\r\n")
    assert isinstance(head, Seen)
    assert (head.websocket, head.content_length) == (False, 3)


def test_rule_9_limits_are_inclusive() -> None:
    target = b"/" + b"a" * 39
    section = H + b"A: " + b"b" * (100 - len(H) - 5) + b"\r\n"
    assert len(section) == 100
    assert isinstance(verdicts(b"GET " + target + b" HTTP/1.1\r\n" + section + b"\r\n", SMALL), Seen)
    assert verdicts(b"GET " + target + b"a HTTP/1.1\r\n" + section + b"\r\n", SMALL) == 414
    assert verdicts(GET + section[:-2] + b"b\r\n\r\n", SMALL) == 431
    assert isinstance(verdicts(GET + H + b"A: b\r\n" * 4 + b"\r\n", SMALL), Seen)
    assert verdicts(GET + H + b"A: b\r\n" * 5 + b"\r\n", SMALL) == 431


def test_length_beyond_what_a_parser_counts_is_still_a_number() -> None:
    head = verdicts(POST + H + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n")
    assert isinstance(head, Seen)
    assert head.content_length == 10**18


@pytest.mark.parametrize("method", sorted(METHODS))
def test_httptools_knows_every_method(method: str) -> None:
    parser = httptools.HttpRequestParser(object())
    parser.feed_data(method.encode() + b" / HTTP/1.1\r\n" + H + b"\r\n")
    assert parser.get_method() == method.encode()


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        ("a", True),
        ("a-b.c_d~:", True),
        ("127.0.0.1:80", True),
        ("%41!$&'()*+,;=", True),
        ("[::1]", True),
        ("[::ffff:1.2.3.4]:65535", True),
        ("[v1.a:b]", True),
        ("[::1", False),
        ("[]", False),
        ("[::1]a", False),
        (":80", False),
        ("a:000000", False),
        ("a:1:2", False),
        ("::1", False),
        ("a?b", False),
        ("a\tb", False),
    ],
)
def test_rule_1_host_grammar(value: str, valid: bool) -> None:
    verdict = verdicts(GET + b"Host: " + value.encode() + b"\r\n\r\n")
    assert isinstance(verdict, Seen) if valid else verdict == 400


def head_of(data: bytes) -> Head:
    found = HeadReader(*DEFAULT).receive_data(data)
    assert found is not None
    return found[0]


def test_head_that_is_all_of_the_data_is_not_copied() -> None:
    data = GET + H + b"\r\n"
    assert head_of(data).raw is data
    assert head_of(b"\r\n" + data).raw == head_of(data + b"more").raw == data


def test_values_of_a_header_come_in_order_and_without_the_white_space_around_them() -> None:
    head = head_of(GET + H + b"X-A: \t1, 2 \t\r\nx-b: 0\r\nX-a:\r\nx-A:\xe4\t\xff\r\nX-A-B: 3\r\n\r\n")
    assert head.getall("x-a") == ["1, 2", "", "\udce4\t\udcff"]
    assert head.getall("host") == ["a.example"]
    assert head.getall("x") == head.getall("X-A") == head.getall("\xe4") == head.getall("\u20ac") == []
    assert head.select(("host", "x-a", "\u20ac")) == [["a.example"], ["1, 2", "", "\udce4\t\udcff"], []]


def test_method_and_version_are_shared_between_heads() -> None:
    for method in sorted(METHODS):
        data = method.encode() + b" / HTTP/1.%d\r\n" + H + b"\r\n"
        for minor in (0, 1):
            one, other = head_of(data % minor), head_of(data % minor)
            assert one.method == method
            assert one.method is other.method
            assert one.version == f"1.{minor}"
            assert one.version is other.version


def test_beginning_is_what_has_arrived() -> None:
    reader = HeadReader(*DEFAULT)
    assert not reader.started
    assert reader.beginning(9) == b""
    assert reader.receive_data(b"\r") is None
    assert reader.started
    assert reader.beginning(9) == b"\r"
    assert reader.receive_data(b"\nGET /") is None
    assert reader.beginning(9) == b"GET /"
    with pytest.raises(HTTPException):
        reader.receive_data(b"abc\x00def")
    assert reader.beginning(3) == b"GET"
    assert reader.beginning(99) == b"GET /abc\x00def"


def test_explanations_name_the_fault() -> None:
    for data, expected in [
        (GET + H + b"A : b\r\n\r\n", "space before the colon"),
        (GET + H + b" A: b\r\n\r\n", "folded"),
        (GET + H + b"A\r\n\r\n", "without a colon"),
        (GET + H + b"A(: b\r\n\r\n", "no token"),
        (GET + H + b"A: b\x01\r\n\r\n", "0x01"),
        (GET + H + b"A: b\n\r\n\r\n", "LF without CR"),
        (GET + H + b"A: b\rc\r\n\r\n", "CR without LF"),
    ]:
        with pytest.raises(HTTPException, match=expected):
            HeadReader(*Limits()).receive_data(data)


PIECES = st.sampled_from(
    [
        GET,
        POST,
        b"GET / HTTP/1.0\r\n",
        b"GET /",
        H,
        b"A: b\r\n",
        b"A",
        b": ",
        b"\r\n",
        b"\r",
        b"\n",
        b"\x00",
        b" ",
        b"\t",
        *[b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", WEBSOCKET, b"x" * 30, b"\xe4", b"Expect: a\r\n"],
    ]
)


@given(st.lists(PIECES, max_size=14), st.lists(st.integers(0, 300), max_size=6))
def test_verdict_does_not_depend_on_the_cuts(pieces: list[bytes], places: list[int]) -> None:
    data = b"".join(pieces)
    bounds = [0, *sorted(place for place in places if place < len(data)), len(data)]
    chunks = [data[start:stop] for start, stop in itertools.pairwise(bounds) if stop > start]
    assert feed(chunks, SMALL) == feed([data], SMALL) == feed([data[i : i + 1] for i in range(len(data))], SMALL)
