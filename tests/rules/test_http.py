"""Rules 1-12: requests (RFC 9110, RFC 9112)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import pytest

from .harness import MAX_BODY, Exchange, Server
from .wire import handshake, request

FOLLOW = request("GET", "/")
"""A request that is behind the one under test: answered where that one was framed, never where framing failed."""

Table = dict[str, bytes]


def table(cases: Table) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("data", cases.values(), ids=cases.keys())


def check_refused(server: Server, data: bytes, statuses: Collection[int] = (400,)) -> None:
    """The request is answered with one of ``statuses``, and nothing behind it is read."""
    for where, exchange in server.every_split(data, FOLLOW):
        assert len(exchange.statuses) == 1, (where, exchange.statuses)
        assert exchange.statuses[0] in statuses, where
        assert exchange.ended, f"still open {where}"
        assert "close" in exchange.responses[0].tokens("connection"), where


def check_answered(
    server: Server, data: bytes, status: int = 200, body: bytes | None = None, *, keeps: bool = True
) -> None:
    """The request is answered with ``status``, and so is the one behind it if the connection is kept."""
    for where, exchange in server.every_split(data, FOLLOW):
        assert exchange.statuses == ([status, 200] if keeps else [status]), where
        assert body is None or exchange.responses[0].body == body, where
        assert exchange.ended is not keeps, where


def echo(*headers: str | bytes, body: bytes = b"", version: str = "HTTP/1.1") -> bytes:
    return request("POST", "/echo", *headers, body=body, version=version)


def get(*headers: str | bytes, host: str | None = "example.com", version: str = "HTTP/1.1") -> bytes:
    return request("GET", "/", *headers, host=host, version=version)


# 1 (RFC 9112 §3.2)


@table(
    {
        "missing": get(host=None),
        "missing-with-other-headers": get("Accept: */*", host=None),
        "twice": get("Host: other.example"),
        "twice-the-same": get("Host: example.com"),
        "twice-in-other-case": get("HOST: example.com"),
        "list": get(host="example.com, other.example"),
        "space-inside": get(host="exam ple.com"),
        "slash": get(host="example.com/"),
        "userinfo": get(host="user@example.com"),
        "query": get(host="example.com?a"),
        "fragment": get(host="example.com#a"),
        "backslash": get(host="example.com\\a"),
        "quote": get(host='"example.com"'),
        "angle": get(host="<example.com>"),
        "port-not-a-number": get(host="example.com:http"),
        "port-negative": get(host="example.com:-1"),
        "two-ports": get(host="example.com:80:80"),
        "open-bracket": get(host="[::1"),
        "bracket-around-nothing": get(host="[]"),
        "bracket-around-a-name": get(host="[example.com]"),
        "after-the-bracket": get(host="[::1]a"),
        "percent-alone": get(host="exam%ple.com"),
        "not-ascii": request("GET", "/", b"Host: ex\xc3\xa4mple.com", host=None),
        "with-scheme": get(host="http://example.com"),
        "twice-on-1.0": get("Host: example.com", version="HTTP/1.0"),
    }
)
def test_rule_1_anything_but_one_valid_host_is_400(server: Server, data: bytes) -> None:
    check_refused(server, data)


@table(
    {
        "name": get(host="example.com"),
        "port": get(host="example.com:8080"),
        "empty-port": get(host="example.com:"),
        "v4": get(host="192.0.2.1:80"),
        "v6": get(host="[2001:db8::1]"),
        "v6-port": get(host="[::1]:8080"),
        "upper-case": get(host="EXAMPLE.com"),
        "underscore": get(host="web_1.internal"),
        "percent-encoded": get(host="ex%41mple.com"),
        "padded": get(host=" \texample.com \t"),
        "header-in-lower-case": request("GET", "/", "host:example.com", host=None),
        "absolute-form": request("GET", "http://example.com/"),
        "absolute-form-wins": request("GET", "http://example.com/", host="other.example"),
    }
)
def test_rule_1_one_valid_host_is_served(server: Server, data: bytes) -> None:
    check_answered(server, data, body=b"index")


def test_rule_1_host_may_be_missing_on_1_0(server: Server) -> None:
    check_answered(server, get(host=None, version="HTTP/1.0"), body=b"index", keeps=False)


# 2 (RFC 9112 §6.1, §6.3)


@table(
    {
        "length-first": echo("Content-Length: 5", "Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n"),
        "coding-first": echo("Transfer-Encoding: chunked", "Content-Length: 5", body=b"5\r\nhello\r\n0\r\n\r\n"),
        "length-0": echo("Content-Length: 0", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        "right-length": echo("Content-Length: 15", "Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n"),
        "other-coding": echo("Content-Length: 5", "Transfer-Encoding: gzip", body=b"hello"),
        "identity": echo("Content-Length: 5", "Transfer-Encoding: identity", body=b"hello"),
        "on-get": get("Content-Length: 0", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        "other-case": echo("CONTENT-LENGTH: 5", "transfer-encoding: CHUNKED", body=b"5\r\nhello\r\n0\r\n\r\n"),
    }
)
def test_rule_2_content_length_with_transfer_encoding_is_400(server: Server, data: bytes) -> None:
    check_refused(server, data)


# 3 (RFC 9110 §8.6)


@table(
    {
        "two-lines": echo("Content-Length: 5", "Content-Length: 6", body=b"hello!"),
        "two-lines-0-first": echo("Content-Length: 0", "Content-Length: 5", body=b"hello"),
        "list": echo("Content-Length: 5, 6", body=b"hello!"),
        "empty": echo("Content-Length:", body=b""),
        "sign": echo("Content-Length: +5", body=b"hello"),
        "negative": echo("Content-Length: -5", body=b"hello"),
        "hexadecimal": echo("Content-Length: 0x5", body=b"hello"),
        "letters": echo("Content-Length: five", body=b"hello"),
        "letter-behind": echo("Content-Length: 5a", body=b"hello"),
        "fraction": echo("Content-Length: 5.0", body=b"hello"),
        "underscore": echo("Content-Length: 0_5", body=b"hello"),
        "space-inside": echo("Content-Length: 1 5", body=b"hello"),
        "quoted": echo('Content-Length: "5"', body=b"hello"),
        "not-ascii-digit": echo(b"Content-Length: \xd9\xa5", body=b"hello"),
        "vertical-tab": echo(b"Content-Length: \x0b5", body=b"hello"),
        "semicolon": echo("Content-Length: 5;", body=b"hello"),
    }
)
def test_rule_3_conflicting_content_length_is_400(server: Server, data: bytes) -> None:
    check_refused(server, data)


@pytest.mark.parametrize("digits", [str(2**63), str(2**64), str(2**64 + 5), "9" * 60, "1" + "0" * 400])
def test_rule_3_content_length_that_overflows_is_refused(server: Server, digits: str) -> None:
    check_refused(server, echo(f"Content-Length: {digits}", body=b"hello"), (400, 413))


@pytest.mark.parametrize("lines", [["Content-Length: 5", "Content-Length: 5"], ["Content-Length: 5, 5"]])
def test_rule_3_same_length_repeated_is_refused_or_taken_once(server: Server, lines: list[str]) -> None:
    for where, exchange in server.every_split(echo(*lines, body=b"hello"), FOLLOW):
        if exchange.statuses[0] == 400:
            assert exchange.statuses == [400] and exchange.ended, where
        else:
            assert exchange.statuses == [200, 200] and exchange.responses[0].body == b"hello", where


@table(
    {
        "plain": echo("Content-Length: 5", body=b"hello"),
        "leading-zeros": echo("Content-Length: 0005", body=b"hello"),
        "padded": echo("Content-Length: \t 5 \t", body=b"hello"),
        "no-space": echo("Content-Length:5", body=b"hello"),
    }
)
def test_rule_3_one_content_length_is_taken(server: Server, data: bytes) -> None:
    check_answered(server, data, body=b"hello")


@table({"zero": echo("Content-Length: 0"), "none": echo(), "get": get("Content-Length: 0")})
def test_rule_3_no_length_is_no_body(server: Server, data: bytes) -> None:
    check_answered(server, data)


# 4 (RFC 9112 §6.1, §6.3)

CHUNKED_HELLO = b"5\r\nhello\r\n0\r\n\r\n"


@table(
    {
        "gzip": echo("Transfer-Encoding: gzip", body=b"hello"),
        "identity": echo("Transfer-Encoding: identity", body=b"hello"),
        "chunked-not-last": echo("Transfer-Encoding: chunked, gzip", body=CHUNKED_HELLO),
        "chunked-not-last-of-two-lines": echo(
            "Transfer-Encoding: chunked", "Transfer-Encoding: identity", body=CHUNKED_HELLO
        ),
        "chunked-twice": echo("Transfer-Encoding: chunked, chunked", body=CHUNKED_HELLO),
        "chunked-on-two-lines": echo("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=CHUNKED_HELLO),
        "empty": echo("Transfer-Encoding:", body=CHUNKED_HELLO),
        "longer-word": echo("Transfer-Encoding: chunkedx", body=CHUNKED_HELLO),
        "word-before": echo("Transfer-Encoding: xchunked", body=CHUNKED_HELLO),
        "two-words": echo("Transfer-Encoding: x chunked", body=CHUNKED_HELLO),
        "quoted": echo('Transfer-Encoding: "chunked"', body=CHUNKED_HELLO),
        "vertical-tab": echo(b"Transfer-Encoding: \x0bchunked", body=CHUNKED_HELLO),
        "form-feed": echo(b"Transfer-Encoding: chunked\x0c", body=CHUNKED_HELLO),
        "parameter": echo("Transfer-Encoding: chunked;q=1", body=CHUNKED_HELLO),
    }
)
def test_rule_4_last_coding_that_is_not_chunked_is_refused(server: Server, data: bytes) -> None:
    check_refused(server, data, (400, 501))


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
def test_rule_4_coding_that_is_not_understood_is_refused(server: Server, coding: str) -> None:
    check_refused(server, echo(f"Transfer-Encoding: {coding}, chunked", body=CHUNKED_HELLO), (400, 501))


@pytest.mark.parametrize("coding", ["chunked", "CHUNKED", "Chunked", " chunked \t"])
def test_rule_4_chunked_is_read(server: Server, coding: str) -> None:
    check_answered(server, echo(f"Transfer-Encoding:{coding}", body=CHUNKED_HELLO), body=b"hello")


@table(
    {
        "plain": echo("Transfer-Encoding: chunked", body=CHUNKED_HELLO, version="HTTP/1.0"),
        "keep-alive": echo(
            "Transfer-Encoding: chunked", "Connection: keep-alive", body=CHUNKED_HELLO, version="HTTP/1.0"
        ),
        "with-length": echo(
            "Transfer-Encoding: chunked",
            "Content-Length: 5",
            "Connection: keep-alive",
            body=CHUNKED_HELLO,
            version="HTTP/1.0",
        ),
    }
)
def test_rule_4_transfer_encoding_on_1_0_closes(server: Server, data: bytes) -> None:
    for where, exchange in server.every_split(data, FOLLOW):
        assert len(exchange.statuses) == 1, where
        assert exchange.ended, where


# 5 (RFC 9112 §5.2, §2.2)


@table(
    {
        "space": get("X-Folded: a", " b"),
        "tab": get("X-Folded: a", "\tb"),
        "only-spaces": get("X-Folded: a", "   "),
        "on-host": get(" .evil.example"),
        "on-content-length": echo("Content-Length: 1", " 5", body=b"hello"),
        "on-transfer-encoding": echo("Transfer-Encoding:", " chunked", body=CHUNKED_HELLO),
        "before-the-first-header": request("GET", "/", " Host: example.com", host=None),
        "a-header-folded-away": get("X-Folded: a", " Content-Length: 5"),
    }
)
def test_rule_5_folded_header_is_400(server: Server, data: bytes) -> None:
    check_refused(server, data)


# 6 (RFC 9112 §5.1)


@table(
    {
        "space": get("X-Name : a"),
        "tab": get("X-Name\t: a"),
        "host": request("GET", "/", "Host : example.com", host=None),
        "content-length": echo("Content-Length : 5", body=b"hello"),
        "transfer-encoding": echo("Transfer-Encoding : chunked", body=CHUNKED_HELLO),
        "space-inside": get("X Name: a"),
        "no-name": get(": a"),
        "no-colon": get("X-Name"),
        "parentheses": get("X(Name): a"),
        "slash": get("X/Name: a"),
        "at": get("X@Name: a"),
        "not-ascii": get(b"X-N\xc3\xa4me: a"),
        "control": get(b"X-N\x01ame: a"),
        "delete": get(b"X-N\x7fame: a"),
    }
)
def test_rule_6_space_before_the_colon_is_400(server: Server, data: bytes) -> None:
    check_refused(server, data)


@pytest.mark.parametrize("name", ["x", "X-Name", "x_name", "!#$%&'*+-.^_`|~09az"])
def test_rule_6_name_of_token_characters_is_taken(server: Server, name: str) -> None:
    check_answered(server, get(f"{name}: a"))


# 7 (RFC 9112 §2.2, RFC 9110 §5.5)


@table(
    {
        "cr-in-value": get(b"X-Value: a\rb"),
        "cr-before-a-header": get(b"X-Value: a\rContent-Length: 5"),
        "cr-in-name": get(b"X-\rName: a"),
        "cr-in-target": request("GET", "/\rx"),
        "cr-at-the-end-of-value": get(b"X-Value: a\r"),
        "cr-instead-of-the-line-end": b"GET / HTTP/1.1\rHost: example.com\r\r",
        "cr-before-the-empty-line": b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\r\n",
        "nul-in-value": get(b"X-Value: a\0b"),
        "nul-in-name": get(b"X-\0Name: a"),
        "nul-in-target": request("GET", "/\0"),
        "nul-in-host": get(host="example.com\0"),
        "nul-alone": b"\0" * 8 + get(),
        "lf-after-the-request-line": b"GET / HTTP/1.1\nHost: example.com\r\n\r\n",
        "lf-after-a-header": b"GET / HTTP/1.1\r\nHost: example.com\nAccept: */*\r\n\r\n",
        "lf-after-the-last-header": b"GET / HTTP/1.1\r\nHost: example.com\n\r\n",
        "lf-as-the-empty-line": b"GET / HTTP/1.1\r\nHost: example.com\r\n\n",
        "lf-everywhere": b"GET / HTTP/1.1\nHost: example.com\n\n",
        "lf-before-the-request": b"\n" + get(),
        "lf-cr": b"GET / HTTP/1.1\n\rHost: example.com\n\r\n\r",
    }
)
def test_rule_7_bare_cr_nul_and_lf_line_ends_are_400(server: Server, data: bytes) -> None:
    check_refused(server, data)


@table(
    {
        "tab-in-value": get("X-Value: a\tb"),
        "obs-text-in-value": get(b"X-Value: \xc3\xa4\xff"),
        "empty-value": get("X-Value:"),
        "line-end-before-the-request": b"\r\n" + get(),
    }
)
def test_rule_7_lines_that_end_in_crlf_are_taken(server: Server, data: bytes) -> None:
    check_answered(server, data, body=b"index")


@table(
    {
        "no-version": b"GET /\r\nHost: example.com\r\n\r\n",
        "two-spaces": b"GET  / HTTP/1.1\r\nHost: example.com\r\n\r\n",
        "space-in-target": b"GET /a b HTTP/1.1\r\nHost: example.com\r\n\r\n",
        "space-behind": b"GET / HTTP/1.1 \r\nHost: example.com\r\n\r\n",
        "space-before": b" GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
        "tab": b"GET\t/\tHTTP/1.1\r\nHost: example.com\r\n\r\n",
        "lower-case-version": b"GET / http/1.1\r\nHost: example.com\r\n\r\n",
        "version-2.0": b"GET / HTTP/2.0\r\nHost: example.com\r\n\r\n",
        "version-1": b"GET / HTTP/1\r\nHost: example.com\r\n\r\n",
        "version-1.10": b"GET / HTTP/1.10\r\nHost: example.com\r\n\r\n",
        "method-no-token": b"G(T / HTTP/1.1\r\nHost: example.com\r\n\r\n",
        "target-without-slash": b"GET index HTTP/1.1\r\nHost: example.com\r\n\r\n",
        "http-2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 40,
    }
)
def test_request_line_that_is_malformed_is_refused(server: Server, data: bytes) -> None:
    check_refused(server, data, (400, 501, 505))


# 8 (RFC 9112 §7.1)


def chunked(body: bytes) -> bytes:
    return echo("Transfer-Encoding: chunked", body=body)


@table(
    {
        "one": chunked(b"5\r\nhello\r\n0\r\n\r\n"),
        "several": chunked(b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
        "leading-zeros": chunked(b"00005\r\nhello\r\n0\r\n\r\n"),
        "zeros": chunked(b"5\r\nhello\r\n000\r\n\r\n"),
        "extension": chunked(b"5;a=b\r\nhello\r\n0\r\n\r\n"),
        "extension-name": chunked(b"5;a\r\nhello\r\n0\r\n\r\n"),
        "extension-quoted": chunked(b'5;a="b c";d\r\nhello\r\n0;e=f\r\n\r\n'),
        "trailer": chunked(b"5\r\nhello\r\n0\r\nX-Trailer: a\r\n\r\n"),
        "trailers-cannot-frame": chunked(b"5\r\nhello\r\n0\r\nX-Content-Length: 50\r\n\r\n"),
    }
)
def test_rule_8_chunks_are_read(server: Server, data: bytes) -> None:
    check_answered(server, data, body=b"hello")


def test_rule_8_chunk_data_may_hold_anything(server: Server) -> None:
    data = b"\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n\0\xff"
    check_answered(server, chunked(b"%X\r\n%b\r\n0\r\n\r\n" % (len(data), data)), body=data)


@table(
    {
        "lf-after-the-size": chunked(b"5\nhello\r\n0\r\n\r\n"),
        "cr-after-the-size": chunked(b"5\rhello\r\n0\r\n\r\n"),
        "cr-cr-lf-after-the-size": chunked(b"5\r\r\nhello\r\n0\r\n\r\n"),
        "lf-after-the-data": chunked(b"5\r\nhello\n0\r\n\r\n"),
        "cr-after-the-data": chunked(b"5\r\nhello\r0\r\n\r\n"),
        "nothing-after-the-data": chunked(b"5\r\nhello0\r\n\r\n"),
        "two-others-after-the-data": chunked(b"5\r\nhelloxx0\r\n\r\n"),
        "data-longer-than-its-size": chunked(b"4\r\nhello\r\n0\r\n\r\n"),
        "lf-after-the-last-size": chunked(b"5\r\nhello\r\n0\n\r\n"),
        "lf-at-the-end": chunked(b"5\r\nhello\r\n0\r\n\n"),
        "lf-in-an-extension": chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
        "lf-behind-an-extension": chunked(b"5;a\nhello\r\n0\r\n\r\n"),
        "lf-in-a-quoted-extension": chunked(b'5;a="\n"\r\nhello\r\n0\r\n\r\n'),
        "cr-in-an-extension": chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
        "nul-in-an-extension": chunked(b"5;a\0b\r\nhello\r\n0\r\n\r\n"),
        "no-size": chunked(b"\r\nhello\r\n0\r\n\r\n"),
        "only-an-extension": chunked(b";a\r\nhello\r\n0\r\n\r\n"),
        "not-hexadecimal": chunked(b"g\r\nhello\r\n0\r\n\r\n"),
        "prefix": chunked(b"0x5\r\nhello\r\n0\r\n\r\n"),
        "sign": chunked(b"+5\r\nhello\r\n0\r\n\r\n"),
        "negative": chunked(b"-5\r\nhello\r\n0\r\n\r\n"),
        "underscore": chunked(b"0_5\r\nhello\r\n0\r\n\r\n"),
        "space-before": chunked(b" 5\r\nhello\r\n0\r\n\r\n"),
        "space-behind": chunked(b"5 \r\nhello\r\n0\r\n\r\n"),
        "tab-behind": chunked(b"5\t\r\nhello\r\n0\r\n\r\n"),
        "comma-behind": chunked(b"5,a\r\nhello\r\n0\r\n\r\n"),
        "trailer-lf": chunked(b"5\r\nhello\r\n0\r\nX-Trailer: a\n\r\n"),
        "trailer-space-before-the-colon": chunked(b"5\r\nhello\r\n0\r\nX-Trailer : a\r\n\r\n"),
        "trailer-folded": chunked(b"5\r\nhello\r\n0\r\nX-Trailer: a\r\n b\r\n\r\n"),
        "trailer-nul": chunked(b"5\r\nhello\r\n0\r\nX-Trailer: \0\r\n\r\n"),
        "trailer-without-colon": chunked(b"5\r\nhello\r\n0\r\nX-Trailer\r\n\r\n"),
    }
)
def test_rule_8_malformed_chunk_is_400(server: Server, data: bytes) -> None:
    check_refused(server, data)


@pytest.mark.parametrize(
    "size",
    [
        b"8000000000000000",
        b"ffffffffffffffff",
        b"10000000000000005",
        b"100000000000000000000000000000005",
        b"f" * 200,
        b"0" * 5000 + b"5",
    ],
    ids=["2^63", "2^64-1", "2^64+5", "2^128+5", "200-digits", "5000-zeros"],
)
def test_rule_8_chunk_size_that_overflows_is_refused(server: Server, size: bytes) -> None:
    check_refused(server, chunked(size + b"\r\nhello\r\n0\r\n\r\n"), (400, 413))


def test_rule_8_endless_extensions_are_refused(server: Server) -> None:
    extension = b";a=" + b"b" * 100
    check_refused(server, chunked((b"1" + extension * 100 + b"\r\na\r\n") * 3 + b"0\r\n\r\n"), (400, 413, 431))


def test_rule_8_endless_trailers_are_refused(server: Server) -> None:
    data = chunked(b"5\r\nhello\r\n0\r\n" + b"X-Trailer: a\r\n" * 2000 + b"\r\n")
    check_refused(server, data, (400, 413, 431))


# 9 (RFC 9110 §15.5.9, §15.5.14, §15.5.15, RFC 6585 §5)


def test_rule_9_long_target_is_414(server: Server) -> None:
    check_refused(server, request("GET", "/" + "a" * 8190), (414,))
    check_refused(server, request("GET", "/?" + "a" * 20000), (414,))


def test_rule_9_target_without_end_is_414_before_its_end(server: Server) -> None:
    exchange = server.exchange(b"GET /" + b"a" * 9000)
    assert exchange.statuses == [414]
    assert exchange.ended


def test_rule_9_target_of_permitted_length_is_served(server: Server) -> None:
    exchange = server.exchange(request("GET", "/?" + "a" * 7000), FOLLOW)
    assert exchange.statuses == [200, 200]


@table(
    {
        "one-long-header": get("X-Long: " + "a" * 8192),
        "many-short-headers": get(*[f"X-{number}: {number}" for number in range(100)]),
        "many-equal-headers": get(*["X-Same: a"] * 5000),
        "sum-of-headers": get(*[f"X-{number}: " + "a" * 1000 for number in range(9)]),
        "long-name": get("X" * 8192 + ": a"),
    }
)
def test_rule_9_large_header_section_is_431(server: Server, data: bytes) -> None:
    check_refused(server, data, (431,))


@pytest.mark.parametrize("data", [b"X-Long: " + b"a" * 9000, b"X: a\r\n" * 2000], ids=["one-line", "many-lines"])
def test_rule_9_header_section_without_end_is_431_before_its_end(server: Server, data: bytes) -> None:
    exchange = server.exchange(b"GET / HTTP/1.1\r\nHost: example.com\r\n" + data)
    assert exchange.statuses == [431]
    assert exchange.ended


def test_rule_9_header_section_of_permitted_size_is_served(server: Server) -> None:
    for data in (get("X-Long: " + "a" * 7500), get(*[f"X-{number}: {number}" for number in range(99)])):
        assert server.exchange(data, FOLLOW).statuses == [200, 200]


def test_rule_9_announced_body_over_the_limit_is_413_at_once(server: Server) -> None:
    check_refused(server, echo(f"Content-Length: {MAX_BODY + 1}"), (413,))


def test_rule_9_chunked_body_over_the_limit_is_413(server: Server) -> None:
    chunk = b"64\r\n" + b"a" * 100 + b"\r\n"
    check_refused(server, chunked(chunk * (MAX_BODY // 100) + b"1\r\na\r\n0\r\n\r\n"), (413,))
    check_refused(server, chunked(b"%x\r\n" % (MAX_BODY + 1) + b"a"), (413,))


def test_rule_9_body_of_exactly_the_limit_is_served(server: Server) -> None:
    body = b"a" * MAX_BODY
    for data in (
        echo(f"Content-Length: {MAX_BODY}", body=body),
        chunked(b"%x\r\n%b\r\n0\r\n\r\n" % (MAX_BODY, body)),
    ):
        exchange = server.exchange(data, FOLLOW)
        assert exchange.statuses == [200, 200]
        assert exchange.responses[0].body == body


def wait(server: Server, data: bytes, seconds: float, *, drip: bytes = b"") -> Exchange:
    """Send ``data``, then an octet of ``drip`` a second, and return what came after ``seconds`` of the loop's clock."""

    async def conversation() -> Exchange:
        peer = server.peer()
        try:
            await peer.send(data)
            for second in range(int(seconds)):
                await server.loop.advance(1)
                if drip:
                    await peer.send(drip[second : second + 1])
            return peer.take()
        finally:
            await peer.drop()

    result: Exchange = server.run(conversation())
    return result


SLOW: dict[str, tuple[bytes, bytes]] = {
    "request-line": (b"GET / HT", b""),
    "headers": (b"GET / HTTP/1.1\r\nHost: exam", b""),
    "drip": (b"GET / HTTP/1.1\r\nHost: ", b"a" * 200),
    "drip-of-lines": (b"GET / HTTP/1.1\r\nHost: a\r\n", b"X: a\r\n" * 200),
}


@pytest.mark.parametrize(("data", "drip"), SLOW.values(), ids=SLOW.keys())
def test_rule_9_head_that_does_not_arrive_in_time_is_408(server: Server, data: bytes, drip: bytes) -> None:
    before = wait(server, data, 8, drip=drip)
    assert (before.statuses, before.ended) == ([], False)
    after = wait(server, data, 12, drip=drip)
    assert after.statuses == [408]
    assert after.ended
    assert "close" in after.responses[0].tokens("connection")


@pytest.mark.parametrize("drip", [b"", b"a" * 200], ids=["silent", "drip"])
def test_rule_9_body_that_does_not_arrive_in_time_is_408(server: Server, drip: bytes) -> None:
    data = echo("Content-Length: 500", body=b"a")
    before = wait(server, data, 55, drip=drip)
    assert (before.statuses, before.ended) == ([], False)
    after = wait(server, data, 63, drip=drip)
    assert after.statuses == [408]
    assert after.ended


def test_rule_9_second_head_that_does_not_arrive_in_time_is_408(server: Server) -> None:
    exchange = wait(server, get() + b"GET / HTTP/1.1\r\nHost: ", 12, drip=b"a" * 200)
    assert exchange.statuses == [200, 408]
    assert exchange.ended


def test_rule_9_chunked_body_that_does_not_arrive_in_time_is_408(server: Server) -> None:
    exchange = wait(server, chunked(b"1\r\na\r\n"), 63, drip=b"1\r\na\r\n" * 20)
    assert exchange.statuses == [408]
    assert exchange.ended


def test_rule_9_silent_connection_is_closed_without_an_answer_or_with_408(server: Server) -> None:
    exchange = wait(server, b"", 12)
    assert exchange.ended
    assert exchange.statuses in ([], [408])


def test_rule_9_idle_connection_is_kept_for_a_while_and_closed_without_an_answer(server: Server) -> None:
    before = wait(server, get(), 70)
    assert (before.statuses, before.ended) == ([200], False)
    after = wait(server, get(), 80)
    assert (after.statuses, after.ended) == ([200], True)


# 10, 11 (RFC 9110 §7.8)

UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")


def test_rule_10_upgrade_on_1_0_is_ignored_on_a_page(server: Server) -> None:
    check_answered(server, get(*UPGRADE, version="HTTP/1.0"), body=b"index", keeps=False)


def test_rule_10_upgrade_on_1_0_is_ignored_before_a_body(server: Server) -> None:
    data = echo(*UPGRADE, "Content-Length: 5", body=b"hello", version="HTTP/1.0")
    check_answered(server, data, body=b"hello", keeps=False)


@pytest.mark.parametrize("connection", ["Upgrade", "keep-alive, Upgrade"])
def test_rule_10_handshake_on_1_0_opens_nothing(server: Server, connection: str) -> None:
    data = handshake("/ws", version="HTTP/1.0", connection=connection)
    for where, exchange in server.every_split(data):
        assert exchange.statuses == [426], where


@table(
    {
        "no-body": get(*UPGRADE),
        "length": echo(*UPGRADE, "Content-Length: 5", body=b"hello"),
        "chunked": echo(*UPGRADE, "Transfer-Encoding: chunked", body=CHUNKED_HELLO),
        "body-that-looks-like-a-request": echo(*UPGRADE, f"Content-Length: {len(FOLLOW)}", body=FOLLOW),
        "other-protocol": echo("Connection: Upgrade", "Upgrade: h2c", "Content-Length: 5", body=b"hello"),
        "whole-handshake-to-a-page": handshake("/"),
        "connect-like": echo("Upgrade: TLS/1.0", "Connection: upgrade", "Content-Length: 0"),
    }
)
def test_rule_11_body_is_framed_after_a_declined_upgrade(server: Server, data: bytes) -> None:
    body = data.split(b"\r\n\r\n", 1)[1] if data.startswith(b"POST") else b"index"
    check_answered(server, data, body=b"hello" if body == CHUNKED_HELLO else body)


@pytest.mark.parametrize(
    "data",
    [
        handshake("/ws", sec_websocket_version="8"),
        handshake("/ws", sec_websocket_key="short"),
        handshake("/missing"),
        handshake("/origin", "Origin: https://evil.example"),
    ],
    ids=["version", "key", "path", "origin"],
)
def test_rule_11_request_after_a_refused_handshake_is_read_as_one(server: Server, data: bytes) -> None:
    for where, exchange in server.every_split(data, FOLLOW):
        assert exchange.statuses[0] >= 400, where
        assert exchange.statuses[1:] == ([] if exchange.ended else [200]), where


@pytest.mark.parametrize(
    "data",
    [
        handshake("/ws", "Content-Length: 5") + b"hello",
        handshake("/ws", "Content-Length: 5"),
        handshake("/ws", "Transfer-Encoding: chunked") + CHUNKED_HELLO,
        handshake("/ws", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    ],
    ids=["length", "length-body-to-come", "chunked", "chunked-empty"],
)
def test_rule_12_upgrade_with_a_body_is_400(server: Server, data: bytes) -> None:
    for where, exchange in server.every_split(data):
        assert exchange.statuses == [400], where


def test_rule_12_body_of_a_refused_upgrade_is_no_request(server: Server) -> None:
    data = handshake("/ws", f"Content-Length: {len(FOLLOW)}") + FOLLOW
    for where, exchange in server.every_split(data):
        assert exchange.statuses == [400], where


def test_rule_12_upgrade_with_an_empty_body_is_taken(server: Server) -> None:
    for where, exchange in server.every_split(handshake("/ws", "Content-Length: 0")):
        assert exchange.statuses == [101], where


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    data = get() + echo("Content-Length: 3", body=b"one") + chunked(b"3\r\ntwo\r\n0\r\n\r\n") + get()
    for where, exchange in server.every_split(data):
        assert [answer.body for answer in exchange.responses] == [b"index", b"one", b"two", b"index"], where


HEADS: dict[str, Callable[..., Any]] = {"page": get, "echo": echo}


@pytest.mark.parametrize("make", HEADS.values(), ids=HEADS.keys())
def test_connection_close_is_honoured(server: Server, make: Callable[..., bytes]) -> None:
    check_answered(server, make("Connection: close"), keeps=False)


def test_head_is_answered_like_a_get_without_its_body(server: Server) -> None:
    for where, exchange in server.every_split(request("HEAD", "/"), head=True):
        assert exchange.statuses == [200], where
        assert exchange.rest == b"", where


def test_request_of_a_client_that_has_no_more_to_send_is_answered(server: Server) -> None:
    """The client may end its side of the connection behind its last request (RFC 9112 §9.6)."""

    async def conversation() -> Exchange:
        peer = server.peer()
        try:
            await peer.send(echo("Content-Length: 5", body=b"hello"))
            await peer.eof()
            return peer.take()
        finally:
            await peer.drop()

    exchange = server.run(conversation())
    assert [answer.body for answer in exchange.responses] == [b"hello"]
    assert exchange.ended


def test_first_head_has_no_longer_than_a_silent_connection(server: Server) -> None:
    async def first() -> list[int]:
        peer = server.peer()
        await server.loop.advance(9)
        await peer.send(b"GET / HT")
        await server.loop.advance(2)
        await peer.drop()
        return peer.take().statuses

    async def second() -> list[int]:
        peer = server.peer()
        await peer.send(request())
        await server.loop.advance(9)
        await peer.send(b"GET / HT")
        await server.loop.advance(9)
        assert peer.take().statuses == [200]
        await server.loop.advance(2)
        await peer.drop()
        return peer.take().statuses

    assert server.run(first()) == [408]
    assert server.run(second()) == [200, 408]
