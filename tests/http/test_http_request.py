"""``Request``: what a client sent, decoded."""

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from http_harness import StandInHead

from ferrows.exceptions import BadRequest
from ferrows.request import Credentials, File, Request


def make(target: bytes = b"/", *headers: tuple[str, str], body: bytes = b"", **options: Any) -> Request:
    raw = [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in headers]
    head = StandInHead(options.get("method", "GET"), target, options.get("version", "1.1"), raw)
    request = Request(head, options.get("protocol"), options.get("app"))
    request.body = body
    return request


def connected(ssl: bool = False) -> Any:
    info = SimpleNamespace(client_ip="192.0.2.1", client_port=5000, ssl=ssl)
    return SimpleNamespace(conn_info=info, transport="transport")


@pytest.mark.parametrize(
    ("target", "path", "query", "host", "url"),
    [
        (b"/", "/", "", "h", "http://h/"),
        (b"/a%20b/?c=d?e", "/a%20b/", "c=d?e", "h", "http://h/a%20b/?c=d?e"),
        (b"//a?", "//a", "", "h", "http://h//a"),
        (b"*", "*", "", "h", "http://h"),
        (b"http://other:8/a?b", "/a", "b", "other:8", "http://other:8/a?b"),
        (b"http://other", "/", "", "other", "http://other/"),
        (b"http://other?b/c", "/", "b/c", "other", "http://other/?b/c"),
    ],
)
def test_target(target: bytes, path: str, query: str, host: str, url: str) -> None:
    request = make(target, ("Host", "h"))
    assert (request.path, request.query_string, request.host, request.url) == (path, query, host, url)
    assert request.server_path == path
    assert request.target == target
    assert repr(request) == f"<Request: GET {path}>"


def test_args() -> None:
    request = make(b"/?a=1&a=2&b=%C3%A4+x&c&d=%ff")
    assert request.args.get("a") == "1"
    assert request.args.getlist("a") == ["1", "2"]
    assert request.args.get("b") == "ä x"
    assert request.args.get("c") == ""
    assert request.args.get("d") == "�"
    assert request.args.get("token") is None
    assert request.args is request.args
    assert request.query_args[0] == ("a", "1")


def test_headers_and_cookies() -> None:
    request = make(b"/", ("Cookie", "a=1; b=2"), ("cookie", "a=3; c=4"), ("Content-Type", "x/y"))
    assert request.headers["cookie"] == "a=1; b=2"
    assert request.headers is request.headers
    assert request.cookies == {"a": "1", "b": "2", "c": "4"}
    assert request.cookies is request.cookies
    assert request.content_type == "x/y"
    assert make().content_type == ""


def test_id() -> None:
    given = uuid.uuid4()
    assert make(b"/", ("X-Request-ID", str(given))).id == given
    assert make(b"/", ("X-Request-ID", "mine")).id == "mine"
    request = make()
    assert isinstance(request.id, uuid.UUID)
    assert request.id == request.id


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, Credentials(None, None)),
        ("", Credentials(None, None)),
        ("Bearer abc", Credentials("Bearer", "abc")),
        ("Bearer  abc ", Credentials("Bearer", "abc")),
        ("abc", Credentials(None, "abc")),
        ("Basic dTpwOnc=", Credentials("Basic", "dTpwOnc=", "u", "p:w")),
        ("basic !", Credentials("basic", "!")),
        ("Basic dQ==", Credentials("Basic", "dQ==")),
        ("Basic /w==", Credentials("Basic", "/w==")),
    ],
)
def test_credentials(value: str | None, expected: Credentials) -> None:
    request = make(b"/", *([] if value is None else [("Authorization", value)]))
    assert request.credentials == expected
    assert request.credentials is request.credentials
    assert request.token == expected.token


def test_peer() -> None:
    request = make(protocol=connected())
    assert (request.ip, request.port, request.remote_addr) == ("192.0.2.1", 5000, "192.0.2.1")
    assert request.transport == "transport"  # type: ignore[comparison-overlap]
    assert request.conn_info is request.protocol.conn_info


def test_request_without_a_connection() -> None:
    request = make()
    assert (request.ip, request.port, request.transport, request.conn_info) == ("", 0, None, None)


@pytest.mark.parametrize(
    ("upgrade", "version", "ssl", "scheme"),
    [
        (None, "1.1", False, "http"),
        (None, "1.1", True, "https"),
        ("websocket", "1.1", False, "ws"),
        ("h2c, WebSocket", "1.1", True, "wss"),
        ("websocket", "1.0", False, "http"),
    ],
)
def test_scheme(upgrade: str | None, version: str, ssl: bool, scheme: str) -> None:
    headers = [("Upgrade", upgrade)] if upgrade else []
    assert make(b"/", *headers, version=version, protocol=connected(ssl)).scheme == scheme


@pytest.mark.parametrize(
    ("host", "ssl", "name", "port"),
    [
        ("a.example", False, "a.example", 80),
        ("a.example", True, "a.example", 443),
        ("a.example:8000", True, "a.example", 8000),
        ("a.example:", False, "a.example", 80),
        ("[::1]", False, "[::1]", 80),
        ("[::1]:9", False, "[::1]", 9),
    ],
)
def test_server_name_and_port(host: str, ssl: bool, name: str, port: int) -> None:
    request = make(b"/", ("Host", host), protocol=connected(ssl))
    assert (request.server_name, request.server_port) == (name, port)


def test_route_is_the_routers() -> None:
    request = make(app="app")
    assert (request.route, request.name, request.uri_template, request.match_info, request.endpoint) == (
        None,
        None,
        None,
        {},
        None,
    )
    request.route = SimpleNamespace(name="app.index", path="/<a>")
    assert (request.name, request.uri_template) == ("app.index", "/<a>")
    assert request.app == "app"


def test_ctx_is_the_applications() -> None:
    request = make()
    request.ctx.user = "u"
    assert request.ctx.user == "u"


def test_json() -> None:
    request = make(body=b'{"a": [1]}')
    assert request.json == {"a": [1]}
    assert request.json is request.json
    assert make().json is None
    assert make(body=b"null").json is None
    assert make(body=b"x").load_json(lambda body: body * 2) == b"xx"


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 200_000])
def test_json_that_is_none_is_400(body: bytes) -> None:
    with pytest.raises(BadRequest, match="JSON"):
        make(body=body).json  # noqa: B018


def test_text() -> None:
    assert make(body="ä".encode()).text == "ä"
    assert make(b"/", ("Content-Type", "text/plain; charset=iso-8859-1"), body=b"\xe4").text == "ä"


@pytest.mark.parametrize("content_type", ["", "text/plain; charset=none", "text/plain; charset"])
def test_text_that_is_none_is_400(content_type: str) -> None:
    with pytest.raises(BadRequest):
        make(b"/", ("Content-Type", content_type), body=b"\xff").text  # noqa: B018


def test_form_and_files() -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
        b'--x\r\nContent-Disposition: form-data; name="f"; filename="n"\r\n\r\n2\r\n--x--'
    )
    request = make(b"/", ("Content-Type", "multipart/form-data; boundary=x"), body=body)
    assert request.form.get("a") == "1"
    assert request.files.get("f") == File("text/plain", b"2", "n")
    assert request.form is request.form
    with pytest.raises(BadRequest):
        make(b"/", ("Content-Type", "multipart/form-data"), body=body).form  # noqa: B018
