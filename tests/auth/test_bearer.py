"""Where a request carries a bearer token (RFC 6750 §2), and what is refused rather than guessed."""

from __future__ import annotations

from typing import Any

import pytest
from app.harness import StandInProtocol
from hypothesis import given
from hypothesis import strategies as st

from ferrows import App, Request
from ferrows._codec import HeadReader
from ferrows.auth import bearer_token
from ferrows.auth.bearer import challenge
from ferrows.exceptions import BadRequest

K8S = "base64url.bearer.authorization.k8s.io"
TOKEN68 = st.from_regex(r"[A-Za-z0-9\-._~+/]{1,40}={0,2}", fullmatch=True)
SUBPROTOCOL_TOKEN = st.from_regex(r"[A-Za-z0-9\-._~+]{1,40}", fullmatch=True)


def request(*fields: str, target: str = "/") -> Request:
    lines = [f"GET {target} HTTP/1.1", "host: a", *fields, "", ""]
    found = HeadReader(8190, 8192, 100).receive_data("\r\n".join(lines).encode("utf-8"))
    assert found is not None
    return Request(found[0], StandInProtocol(), App("bearer", env_prefix=None))


@pytest.mark.parametrize(
    ("field", "token"),
    [
        ("Bearer mF_9.B5f-4.1JqM", "mF_9.B5f-4.1JqM"),
        ("bearer a", "a"),
        ("BEARER a==", "a=="),
        ("Bearer    a", "a"),
        ("Bearer a-._~+/9=", "a-._~+/9="),
        ("Basic dXNlcjpwYXNz", None),
        ("Bearerx a", None),
        ("Digest", None),
    ],
)
def test_2_1_header_in_any_case_and_other_schemes_are_left_alone(field: str, token: str | None) -> None:
    assert bearer_token(request(f"Authorization: {field}")) == token


@pytest.mark.parametrize(
    "field",
    [
        "Bearer",
        "Bearer a b",
        "Bearer a, Bearer b",
        "Bearer =",
        "Bearer a=b",
        'Bearer "a"',
        "Bearer a\tb",
        "Bearer\ta",
        "Bearer ä",
        "Bearer a;b",
        "a/b=",
        "",
        ", Bearer a",
    ],
)
def test_2_1_malformed_header_is_refused(field: str) -> None:
    with pytest.raises(BadRequest) as refused:
        bearer_token(request(f"Authorization: {field}"))
    assert refused.value.headers["WWW-Authenticate"].startswith('Bearer error="invalid_request"')


@pytest.mark.parametrize("second", ["Bearer a", "Bearer b", "Basic dXNlcjpwYXNz"])
def test_2_1_two_headers_are_refused(second: str) -> None:
    with pytest.raises(BadRequest, match="2 Authorization headers, permitted: 1"):
        bearer_token(request("Authorization: Bearer a", f"authorization: {second}"))


@pytest.mark.parametrize(
    ("target", "token"),
    [
        ("/?access_token=a", "a"),
        ("/?x=1&access_token=a%2Fb%3D", "a/b="),
        ("/?acces%73_token=a", "a"),
        ("/?Access_Token=a", None),
        ("/?x=access_token", None),
        ("/", None),
    ],
)
def test_2_3_query(target: str, token: str | None) -> None:
    assert bearer_token(request(target=target), query="access_token") == token


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("/?access_token=", "malformed"),
        ("/?access_token", "malformed"),
        ("/?access_token=a+b", "malformed"),  # a plus that was not encoded
        ("/?access_token=%00", "malformed"),
        ("/?access_token=%ff", "malformed"),
        ("/?access_token=a&access_token=a", "2 bearer tokens in one request, permitted: 1"),
    ],
)
def test_2_3_query_that_is_refused(target: str, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        bearer_token(request(target=target), query="access_token")


def test_nothing_is_looked_at_that_was_not_asked_for() -> None:
    both = request("Authorization: Bearer a", "Sec-WebSocket-Protocol: bearer, b", target="/?access_token=c")
    assert bearer_token(both, header=False) is None
    assert bearer_token(both) == "a"
    assert bearer_token(both, header=False, subprotocol="bearer") == "b"
    assert bearer_token(both, header=False, query="access_token") == "c"


@pytest.mark.parametrize(
    "options",
    [
        {"query": "access_token"},
        {"subprotocol": "bearer"},
        {"header": False, "query": "access_token", "subprotocol": "bearer"},
        {"query": "access_token", "subprotocol": "bearer"},
    ],
)
def test_2_more_than_one_way_is_refused_even_with_the_same_token(options: dict[str, Any]) -> None:
    several = request("Authorization: Bearer a", "Sec-WebSocket-Protocol: bearer, a", target="/?access_token=a")
    with pytest.raises(BadRequest, match=r"[23] bearer tokens in one request, permitted: 1"):
        bearer_token(several, **options)


@pytest.mark.parametrize(
    ("offer", "marker", "token"),
    [
        ("bearer, abc", "bearer", "abc"),
        ("bearer,abc", "bearer", "abc"),
        ("chat, bearer, abc", "bearer", "abc"),
        ("bearer, abc, chat", "bearer", "abc"),
        ("chat, bearer.abc", "bearer", "abc"),
        ("bearer.a.b.c, chat", "bearer", "a.b.c"),
        ("chat", "bearer", None),
        ("chat, bearerabc", "bearer", None),
        ("Bearer, abc", "bearer", None),  # the names of subprotocols differ by case
        (f"{K8S}.dG9rZW4, v4.channel.k8s.io", K8S, "token"),
        (f"{K8S}.YS8rPQ, v4.channel.k8s.io", K8S, "a/+="),
        (f"{K8S}, dG9rZW4", K8S, "token"),
        ("ticket, abc", "ticket", "abc"),
    ],
)
def test_subprotocol(offer: str, marker: str, token: str | None) -> None:
    assert bearer_token(request(f"Sec-WebSocket-Protocol: {offer}"), subprotocol=marker) == token


def test_subprotocols_on_several_lines_are_one_offer() -> None:
    lines = ("Sec-WebSocket-Protocol: chat, bearer", "Sec-WebSocket-Protocol: abc")
    assert bearer_token(request(*lines), subprotocol="bearer") == "abc"


@pytest.mark.parametrize(
    ("offer", "marker", "message"),
    [
        ("bearer", "bearer", "no token behind the subprotocol 'bearer'"),
        ("chat, bearer", "bearer", "no token behind"),
        ("bearer.abc", "bearer", "offer another one besides it"),
        ("bearer., chat", "bearer", "malformed"),
        ("bearer, !", "bearer", "malformed"),
        ("bearer, a, bearer, a", "bearer", "2 bearer tokens"),
        ("bearer.a, bearer.a, chat", "bearer", "2 bearer tokens"),
        ("bearer, a, bearer.a", "bearer", "2 bearer tokens"),
        (f"{K8S}.dG9rZW4=, chat", K8S, "not base64url without padding"),
        (f"{K8S}.dG9rZW5, chat", K8S, "not base64url without padding"),  # bits that mean nothing
        (f"{K8S}.YS8rPQ+, chat", K8S, "not base64url without padding"),
        (f"{K8S}.d, chat", K8S, "not base64url without padding"),
        (f"{K8S}._w, chat", K8S, "not base64url without padding"),  # not ASCII
        (f"{K8S}.YSBi, chat", K8S, "malformed"),  # "a b"
    ],
)
def test_subprotocol_that_is_refused(offer: str, marker: str, message: str) -> None:
    with pytest.raises(BadRequest, match=message) as refused:
        bearer_token(request(f"Sec-WebSocket-Protocol: {offer}"), subprotocol=marker)
    assert "dG9rZW" not in refused.value.message


@given(TOKEN68)
def test_every_token_comes_back_from_a_header(token: str) -> None:
    assert bearer_token(request(f"Authorization: Bearer {token}")) == token


@given(SUBPROTOCOL_TOKEN, st.booleans())
def test_every_token_that_a_subprotocol_can_hold_comes_back(token: str, pair: bool) -> None:
    offer = f"bearer, {token}" if pair else f"chat, bearer.{token}"
    assert bearer_token(request(f"Sec-WebSocket-Protocol: {offer}"), subprotocol="bearer") == token


@given(st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cs"], exclude_characters="\x7f"), max_size=30))
def test_any_header_is_a_token_or_refused_and_never_a_crash(value: str) -> None:
    try:
        token = bearer_token(request(f"Authorization: {value}"))
    except BadRequest:
        return
    assert token is None or value.strip(" \t").endswith(token)


def test_3_challenge_holds_nothing_that_would_end_its_quotes() -> None:
    assert challenge("a", "b", 'c"d\\e\r\nä') == 'Bearer realm="a", error="b", error_description="c?d?e???"'
    assert challenge() == "Bearer"
