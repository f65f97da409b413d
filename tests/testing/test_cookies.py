"""What a test client keeps of cookies: RFC 6265 §5."""

from __future__ import annotations

from typing import Any

import pytest

from ferrows.headers import Headers
from ferrows.testing.cookies import ClientCookies


def given(*fields: str, path: str = "/") -> ClientCookies:
    cookies = ClientCookies()
    cookies.take(Headers(("Set-Cookie", field) for field in fields), path)
    return cookies


@pytest.mark.parametrize(
    ("field", "asked", "sent"),
    [
        ("a=1", "/", "a=1"),
        ("a=1", "/x/y", "a=1"),
        ("a=1; Path=/x", "/x", "a=1"),
        ("a=1; path=/x", "/x/y", "a=1"),
        ("a=1; Path=/x", "/xy", ""),
        ("a=1; Path=/x", "/", ""),
        ("a=1; Path=/x/", "/x/y", "a=1"),
        ("a=1; Path=relative", "/x", "a=1"),
        ("a=1; Secure; HttpOnly; SameSite=Strict; Domain=example.com", "/", "a=1"),
        ('a="x y"', "/", 'a="x y"'),
        ("a=b=c", "/", "a=b=c"),
        ("a=", "/", "a="),
        ("=1", "/", ""),
        ("nothing", "/", ""),
        ("a=1; Max-Age=60", "/", "a=1"),
        ("a=1; Max-Age=0", "/", ""),
        ("a=1; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "/", "a=1"),
        ("a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "/", ""),
        ("a=1; Expires=Thu, 01 Jan 1970 00:00:00 -0000", "/", ""),
        ("a=1; Expires=Fri, 01 Jan 2900 00:00:00 GMT", "/", "a=1"),
        ("a=1; Expires=soon; Max-Age=later", "/", "a=1"),
    ],
)
def test_5_3_set_cookie(field: str, asked: str, sent: str) -> None:
    assert given(field).header(asked) == sent


@pytest.mark.parametrize(
    ("path", "asked", "sent"), [("/x/y", "/x/z", "a=1"), ("/x/y", "/z", ""), ("/x", "/z", "a=1"), ("/x/", "/x", "a=1")]
)
def test_5_1_4_default_path_is_the_folder_of_the_request(path: str, asked: str, sent: str) -> None:
    assert given("a=1", path=path).header(asked) == sent


def test_5_4_most_specific_path_comes_first() -> None:
    assert given("a=1; Path=/", "a=2; Path=/x", "b=3; Path=/").header("/x") == "a=2; a=1; b=3"


def test_5_3_deletion_is_of_the_same_path() -> None:
    cookies = given("a=1; Path=/", "a=2; Path=/x", "a=; Path=/x; Max-Age=0")
    assert cookies.header("/x") == "a=1"


def test_they_are_a_mapping() -> None:
    cookies = given('a="x y"', "b=1; Path=/x", "b=2; Path=/y")
    assert (dict(cookies), len(cookies)) == ({"a": "x y", "b": "1"}, 2)
    cookies["b"] = "ü;"
    assert dict(cookies) == {"a": "x y", "b": "ü;"}
    assert cookies.header("/x").endswith('b="\\303\\274\\073"')
    del cookies["a"]
    assert repr(cookies) == "<ClientCookies {'b': 'ü;'}>"
    with pytest.raises(KeyError):
        del cookies["a"]
    with pytest.raises(KeyError):
        _ = cookies["a"]


def test_name_that_is_none_is_refused() -> None:
    cookies: Any = ClientCookies()
    with pytest.raises(ValueError, match="is no token"):
        cookies["a b"] = "1"
