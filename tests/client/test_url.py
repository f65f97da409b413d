"""URLs of WebSockets: RFC 6455 §3 and §4.1."""

from __future__ import annotations

import pytest

from ferrows.client.url import WebsocketURL


@pytest.mark.parametrize(
    ("url", "secure", "host", "port", "target", "authority"),
    [
        ("ws://example.com", False, "example.com", 80, "/", "example.com"),
        ("ws://example.com:80/", False, "example.com", 80, "/", "example.com"),
        ("ws://example.com:8000/chat?room=1&x", False, "example.com", 8000, "/chat?room=1&x", "example.com:8000"),
        ("wss://Example.com/a", True, "example.com", 443, "/a", "example.com"),
        ("http://example.com/a", False, "example.com", 80, "/a", "example.com"),
        ("https://example.com:80/a", True, "example.com", 80, "/a", "example.com:80"),
        ("ws://[::1]:8000/", False, "::1", 8000, "/", "[::1]:8000"),
        ("ws://[2001:db8::1]", False, "2001:db8::1", 80, "/", "[2001:db8::1]"),
        ("ws://bücher.example/straße?q=ü", False, "xn--bcher-kva.example", 80, "/stra%C3%9Fe?q=%C3%BC", None),
        ("ws://example.com/%20%2F?a=%26", False, "example.com", 80, "/%20%2F?a=%26", "example.com"),
        ("ws://example.com?q", False, "example.com", 80, "/?q", "example.com"),
    ],
)
def test_3_parts(url: str, secure: bool, host: str, port: int, target: str, authority: str | None) -> None:
    parsed = WebsocketURL.parse(url)
    assert (parsed.secure, parsed.host, parsed.port, parsed.target) == (secure, host, port, target)
    assert parsed.authority == (authority or host)
    assert parsed.authorization is None


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("example.com/a", "scheme ''"),
        ("ftp://example.com", "scheme 'ftp', permitted: ws, http, wss, https"),
        ("ws:///a", "names no host"),
        ("ws://example.com:x/", "Port could not be cast"),
        ("ws://example.com:0/", "the port 0"),
        ("ws://example.com:70000/", "out of range"),
        ("ws://example.com/#part", "has a fragment"),
        ("ws://example.com/#", "has a fragment"),
        ("ws://example.com/a b", "space or a control character"),
        ("ws://example.com/a\r\nX: y", "space or a control character"),
        ("ws://[::1/", "Invalid IPv6"),
        ("ws://ü..example/", "no domain name"),
    ],
)
def test_3_what_is_no_url_says_why(url: str, message: str) -> None:
    with pytest.raises(ValueError, match="URL") as raised:
        WebsocketURL.parse(url)
    assert message in str(raised.value)


@pytest.mark.parametrize("url", ["ftp://me:secret@example.com", "ws://me:sec ret@example.com", "ws://me:secret@h#"])
def test_password_is_in_no_error(url: str) -> None:
    with pytest.raises(ValueError, match="URL") as raised:
        WebsocketURL.parse(url)
    assert "sec" not in str(raised.value)


def test_user_and_password_become_basic_authentication_and_show_nowhere_else() -> None:
    parsed = WebsocketURL.parse("ws://Aladdin:open%20sesame@example.com/a")
    assert parsed.authorization == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="  # RFC 7617 §2
    assert (parsed.host, parsed.authority) == ("example.com", "example.com")
    assert parsed.origin == "ws://example.com"


def test_url_that_is_a_port_is_an_error() -> None:
    with pytest.raises(TypeError, match="URL is 8000, permitted: a str"):
        WebsocketURL.parse(8000)  # type: ignore[arg-type]
