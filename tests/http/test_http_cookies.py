"""Cookies both ways."""

from __future__ import annotations

from datetime import UTC, datetime
from http.cookies import SimpleCookie

import pytest

from ferrows.cookies import Cookie, CookieJar, parse_cookies


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", {}),
        ("a=b", {"a": "b"}),
        ("a=b; c=d", {"a": "b", "c": "d"}),
        (" a = b ;c=d;", {"a": "b", "c": "d"}),
        ("a=b=c", {"a": "b=c"}),
        ("a=", {"a": ""}),
        ("a; =b; c=d", {"c": "d"}),
        ("a=1; a=2", {"a": "1"}),
        ('a="b c"', {"a": "b c"}),
        ('a="b\\"c\\\\d\\054\\303\\244e"', {"a": 'b"c\\d,äe'}),
        ('a="', {"a": '"'}),
        ('a=""', {"a": ""}),
        ('a="\\377"', {"a": "\udcff"}),
    ],
)
def test_6265_5_4_cookies_of_a_request(value: str, expected: dict[str, str]) -> None:
    assert parse_cookies(value) == expected


@pytest.mark.parametrize(
    "value", ["", "plain", "a b", 'q"', "ä€", "a;b,c", "\\", "\r\nSet-Cookie: x=y", "\x00", "\udcff"]
)
def test_values_come_back_and_stay_in_their_field(value: str) -> None:
    field = str(Cookie("k", value))
    assert not set(field) & {"\r", "\n", "\x00"}
    name_and_value = field.partition("; ")[0]
    assert parse_cookies(name_and_value) == {"k": value}


def test_value_is_understood_by_the_standard_library() -> None:
    assert SimpleCookie(str(Cookie("k", "a b;c")))["k"].value == "a b;c"


def test_defaults_are_the_safe_ones() -> None:
    assert str(Cookie("a", "b")) == "a=b; Path=/; SameSite=Lax; Secure"


def test_every_attribute() -> None:
    cookie = Cookie(
        "a",
        "b",
        path="/x",
        domain="example.com",
        max_age=60,
        expires=datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC),
        httponly=True,
        samesite="none",
        partitioned=True,
    )
    assert str(cookie) == (
        "a=b; Path=/x; Domain=example.com; Max-Age=60; Expires=Wed, 02 Jan 2030 03:04:05 GMT; SameSite=None; Secure; "
        "HttpOnly; Partitioned"
    )
    assert repr(cookie) == f"<Cookie {cookie}>"
    bare = Cookie("a", "b", path=None, secure=False, samesite=None)
    assert str(bare) == "a=b"


def test_naive_expiry_is_utc() -> None:
    assert "Expires=Wed, 02 Jan 2030 03:04:05 GMT" in str(Cookie("a", "b", expires=datetime(2030, 1, 2, 3, 4, 5)))


def test_attributes_as_items() -> None:
    cookie = Cookie("a", "b")
    cookie["max-age"] = 5
    cookie["HttpOnly"] = True
    cookie["path"] = "/p"
    cookie["domain"] = "d"
    cookie["value"] = "c"
    assert str(cookie) == "a=c; Path=/p; Domain=d; Max-Age=5; SameSite=Lax; Secure; HttpOnly"
    assert (cookie["max-age"], cookie["path"], cookie["domain"], cookie.value) == (5, "/p", "d", "c")
    with pytest.raises(KeyError, match="permitted"):
        cookie["key"] = "x"


def test_prefixes() -> None:
    assert str(Cookie("a", "b", host_prefix=True)).startswith("__Host-a=b;")
    assert Cookie("a", "b", secure_prefix=True).key == "__Secure-a"


@pytest.mark.parametrize(
    "attributes",
    [
        {"host_prefix": True, "secure": False},
        {"secure_prefix": True, "secure": False},
        {"partitioned": True, "secure": False},
        {"host_prefix": True, "path": "/a"},
        {"host_prefix": True, "domain": "a"},
        {"host_prefix": True, "secure_prefix": True},
        {"path": "/;a"},
        {"path": "/\r\n"},
        {"domain": "ä"},
    ],
)
def test_attributes_that_browsers_refuse(attributes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="cookie"):
        Cookie("a", "b", **attributes)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["", "a b", "a=b", "a;b", "ä", "a\n"])
def test_names_that_are_no_token(key: str) -> None:
    with pytest.raises(ValueError, match="token"):
        Cookie(key, "b")


def test_unknown_samesite() -> None:
    cookie = Cookie("a", "b")
    cookie["samesite"] = "Sometimes"
    with pytest.raises(ValueError, match="samesite"):
        str(cookie)


def test_jar_keeps_one_cookie_for_each_name_path_and_domain() -> None:
    jar = CookieJar()
    jar.add_cookie("a", "1")
    jar.add_cookie("a", "2", path="/x")
    jar.add_cookie("a", "3")
    jar["b"] = "4"
    assert [str(cookie).partition(";")[0] for cookie in jar] == ["a=2", "a=3", "b=4"]
    assert len(jar) == 3
    assert "a" in jar
    assert jar["a"].value == "2"
    assert jar.has_cookie("a", path="/x")
    assert not jar.has_cookie("a", path="/y")
    found = jar.get_cookie("a")
    assert found is not None
    assert found.value == "3"
    with pytest.raises(KeyError):
        jar["c"]


def test_deleting_tells_the_client() -> None:
    jar = CookieJar()
    jar["a"] = "1"
    del jar["a"]
    jar.delete_cookie("b", path="/x", domain="d", secure=False)
    assert [str(cookie) for cookie in jar] == [
        "a=; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; SameSite=Lax; Secure",
        "b=; Path=/x; Domain=d; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; SameSite=Lax",
    ]
