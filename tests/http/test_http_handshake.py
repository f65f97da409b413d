"""The opening handshake: rules 10 and 12 to 26."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from http_harness import StandInHead

from ferrows.exceptions import BadRequest, Forbidden, HTTPException, UpgradeRequired
from ferrows.extensions import DeflateParameters
from ferrows.handshake import Handshake, accept, accept_value
from ferrows.request import Request

HEADERS = {
    "Host": "server.example.com",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def request(*more: tuple[str, str], method: str = "GET", version: str = "1.1", **changes: str | None) -> Request:
    """Make a good handshake; keywords replace a header (None drops it), pairs are added."""
    headers: dict[str, str | None] = {**HEADERS}
    for name, value in changes.items():
        headers[next(known for known in headers if known.replace("-", "_").lower() == name)] = value
    raw = [(name.encode(), value.encode()) for name, value in headers.items() if value is not None]
    raw += [(name.encode(), value.encode()) for name, value in more]
    return Request(StandInHead(method, b"/chat", version, raw))


def settings(**values: Any) -> Any:
    return SimpleNamespace(**{"deflate": None, "origins": None} | values)


def accepted(asked: Request, subprotocols: list[str] | None = None, **values: Any) -> Handshake:
    return accept(asked, subprotocols, settings(**values))


def test_handshake_of_the_rfc_is_accepted() -> None:
    handshake = accepted(request())
    assert handshake.response == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        b"\r\n"
    )
    assert (handshake.subprotocol, handshake.deflate) == (None, None)


def test_rule_21_accept_value() -> None:
    assert accept_value("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    "asked",
    [
        request(upgrade="WebSocket"),
        request(upgrade="h2c, WEBSOCKET"),
        request(("Upgrade", "websocket"), upgrade="h2c"),
        request(connection="keep-alive, UPGRADE"),
        request(("Connection", "upgrade"), connection="keep-alive"),
    ],
)
def test_rules_14_15_16_spellings_of_an_upgrade(asked: Request) -> None:
    assert accepted(asked).response.startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize(
    "asked",
    [
        request(upgrade=None, connection=None),
        request(upgrade=None),
        request(upgrade="h2c"),
        request(upgrade="websocket2"),
        request(upgrade='"websocket"'),
        request(connection=None),
        request(connection="keep-alive"),
        request(connection="upgrades"),
        request(version="1.0"),
    ],
)
def test_rules_10_14_15_20_what_asks_for_no_websocket_is_426(asked: Request) -> None:
    with pytest.raises(UpgradeRequired) as caught:
        accepted(asked)
    assert caught.value.headers == {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}


@pytest.mark.parametrize("version", [None, "", "8", "14", "13, 8", "013"])
def test_rule_19_other_version_is_426(version: str | None) -> None:
    with pytest.raises(UpgradeRequired, match="13") as caught:
        accepted(request(sec_websocket_version=version))
    assert caught.value.headers["Sec-WebSocket-Version"] == "13"


def test_rule_19_repeated_version_is_426() -> None:
    with pytest.raises(UpgradeRequired):
        accepted(request(("Sec-WebSocket-Version", "13")))


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT"])
def test_rule_13_other_method_is_400(method: str) -> None:
    with pytest.raises(BadRequest, match="permitted: GET"):
        accepted(request(method=method))


def test_rule_12_body_is_400() -> None:
    asked = request()
    asked.body = b"x"
    with pytest.raises(BadRequest, match="body"):
        accepted(asked)


@pytest.mark.parametrize(
    "asked",
    [
        request(sec_websocket_key=None),
        request(("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")),
        request(sec_websocket_key=""),
        request(sec_websocket_key="dGhlIHNhbXBsZSBub25jZQ"),
        request(sec_websocket_key="dGhlIHNhbXBsZSBub25jZQ==AA"),
        request(sec_websocket_key="dGhlIHNhbXBsZSBub25j"),
        request(sec_websocket_key="dGhlIHNhbXBsZSBub25jZTEyMw=="),
        request(sec_websocket_key="dGhlIHNhbXBsZSBub25j Q=="),
        request(sec_websocket_key="dGhlIHNhbXBsZSBub25j-Q=="),
        request(sec_websocket_key="dGhlIHNhbXBsZSBub25jä=="),
    ],
)
def test_rules_17_and_18_bad_key_is_400(asked: Request) -> None:
    with pytest.raises(BadRequest, match="Sec-WebSocket-Key"):
        accepted(asked)


@pytest.mark.parametrize(
    ("offered", "ours", "chosen"),
    [
        (["chat"], ["chat"], "chat"),
        (["a, b"], ["b", "a"], "b"),
        (["a", "b"], ["b", "a"], "b"),
        (["a,,b"], ["b"], "b"),
        (["a"], ["b"], None),
        (["A"], ["a"], None),
        (["a"], None, None),
        ([], ["a"], None),
    ],
)
def test_rule_23_servers_order_decides(offered: list[str], ours: list[str] | None, chosen: str | None) -> None:
    handshake = accepted(request(*[("Sec-WebSocket-Protocol", value) for value in offered]), ours)
    assert handshake.subprotocol == chosen
    line = f"Sec-WebSocket-Protocol: {chosen}\r\n".encode()
    assert (line in handshake.response) is (chosen is not None)
    assert (b"Sec-WebSocket-Protocol" in handshake.response) is (chosen is not None)


@pytest.mark.parametrize("value", ["", ",", "a b", "a/b", '"a"', "ä"])
def test_rule_23_malformed_subprotocols_are_400(value: str) -> None:
    with pytest.raises(BadRequest, match="Sec-WebSocket-Protocol"):
        accepted(request(("Sec-WebSocket-Protocol", value)))


def test_rule_24_deflate_is_answered_where_it_is_on_and_offered() -> None:
    lines = ("Sec-WebSocket-Extensions", "x-other"), ("Sec-WebSocket-Extensions", "permessage-deflate")
    handshake = accepted(request(*lines), deflate=DeflateParameters())
    assert handshake.deflate == DeflateParameters()
    assert handshake.response.endswith(
        b"\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        b"\r\n\r\n"
    )
    for other in (accepted(request(*lines)), accepted(request(), deflate=DeflateParameters())):
        assert other.deflate is None
        assert b"Extensions" not in other.response


@pytest.mark.parametrize("deflate", [None, DeflateParameters()])
def test_rule_25_malformed_extensions_are_400(deflate: DeflateParameters | None) -> None:
    with pytest.raises(BadRequest, match="Sec-WebSocket-Extensions"):
        accepted(request(("Sec-WebSocket-Extensions", "permessage-deflate;")), deflate=deflate)


@pytest.mark.parametrize(
    ("origin", "origins", "allowed"),
    [
        ("https://a.example", None, True),
        ("https://a.example", ("https://a.example",), True),
        ("https://a.example:443", ("https://a.example",), True),
        ("HTTPS://A.example", ("https://a.example",), True),
        ("https://a.example", ("https://b.example", "https://A.example:443"), True),
        ("http://a.example", ("https://a.example",), False),
        ("https://a.example:8443", ("https://a.example",), False),
        ("https://a.example.evil", ("https://a.example",), False),
        ("https://evil/https://a.example", ("https://a.example",), False),
        ("null", ("https://a.example",), False),
        ("null", ("null",), True),
        ("", ("https://a.example",), False),
        ("https://a.example", (), False),
        ("https://server.example.com", "same", True),
        ("https://server.example.com", ("same",), True),
        ("http://server.example.com:80", ("https://a.example", "same"), True),
        ("http://server.example.com:8000", "same", False),
        ("http://example.com", "same", False),
        ("null", "same", False),
        ("", "same", False),
        ("http://", "same", False),
    ],
)
def test_rule_26_origin(origin: str, origins: Any, allowed: bool) -> None:
    asked = request(("Origin", origin))
    if allowed:
        assert accepted(asked, origins=origins).response
    else:
        with pytest.raises(Forbidden):
            accepted(asked, origins=origins)


@pytest.mark.parametrize("origins", [("https://a.example",), "same"])
def test_rule_26_no_origin_is_no_page(origins: Any) -> None:
    assert accepted(request(), origins=origins).response


def test_rule_26_same_compares_ports() -> None:
    asked = request(("Origin", "http://[::1]:8000"), host="[::1]:8000")
    assert accepted(asked, origins="same").response
    with pytest.raises(Forbidden):
        accepted(request(("Origin", "http://[::1]"), host="[::1]:8000"), origins="same")


@pytest.mark.parametrize(
    ("origin", "origins", "allowed"),
    [
        ("https://server.example.com", None, True),
        ("https://SERVER.example.com:443", None, True),
        ("https://evil.example", None, False),
        ("https://server.example.com.evil.example", None, False),
        ("https://server.example.com:8443", None, False),
        ("null", None, False),
        ("https://evil.example", ("*",), True),
        ("null", ("same", "*"), True),
        ("https://evil.example", ("https://evil.example",), True),
    ],
)
def test_rule_26_cookies_make_the_same_origin_the_default(origin: str, origins: Any, allowed: bool) -> None:
    asked = request(("Origin", origin), ("Cookie", "session=1"))
    if allowed:
        assert accepted(asked, origins=origins).response
    else:
        with pytest.raises(Forbidden, match="with cookies"):
            accepted(asked, origins=origins)


@pytest.mark.parametrize(
    ("authorization", "allowed"),
    [("Basic dTpw", False), ("Negotiate abc", False), ("Bearer abc", True), ("bearer a", True)],
)
def test_rule_26_passwords_make_the_same_origin_the_default(authorization: str, allowed: bool) -> None:
    asked = request(("Origin", "https://evil.example"), ("Authorization", authorization))
    if allowed:
        assert accepted(asked).response
        return
    with pytest.raises(Forbidden, match="with a password"):
        accepted(asked)
    assert accepted(request(("Origin", "https://server.example.com"), ("Authorization", authorization))).response


def test_rule_26_cookies_without_an_origin_are_no_pages() -> None:
    assert accepted(request(("Cookie", "session=1"))).response


def test_rule_26_several_origins_with_cookies_are_403() -> None:
    with pytest.raises(Forbidden):
        accepted(request(*[("Origin", "https://server.example.com")] * 2, ("Cookie", "session=1")))


def test_rule_26_several_origins_are_403() -> None:
    asked = request(("Origin", "https://a.example"), ("Origin", "https://a.example"))
    with pytest.raises(HTTPException) as caught:
        accepted(asked, origins=("https://a.example",))
    assert caught.value.status_code == 403
