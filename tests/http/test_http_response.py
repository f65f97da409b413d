"""Responses: the functions that make them, and files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from http_harness import App, Peer, Reply, parse_replies, run

from ferrows import response as responses
from ferrows.headers import Headers
from ferrows.request import Request
from ferrows.response import HTTPResponse, ResponseStream, empty, file, file_stream, html, json, raw, redirect, text


@pytest.mark.parametrize(
    ("response", "status", "content_type", "body"),
    [
        (text("ä"), 200, "text/plain; charset=utf-8", "ä".encode()),
        (text("a", 404, content_type="a/b"), 404, "a/b", b"a"),
        (html("<p>"), 200, "text/html; charset=utf-8", b"<p>"),
        (html(b"<p>"), 200, "text/html; charset=utf-8", b"<p>"),
        (json({"a": [1, None]}), 200, "application/json", b'{"a":[1,null]}'),
        (json([1, 2], indent=1, separators=(",", ": ")), 200, "application/json", b"[\n 1,\n 2\n]"),
        (json(1, dumps=lambda body: b"one"), 200, "application/json", b"one"),
        (raw(b"\x00"), 200, "application/octet-stream", b"\x00"),
        (raw(memoryview(b"ab")), 200, "application/octet-stream", b"ab"),  # type: ignore[arg-type]
        (raw(None), 200, "application/octet-stream", b""),
        (empty(), 204, None, b""),
        (HTTPResponse("a", 201), 201, None, b"a"),
    ],
)
def test_responses(response: HTTPResponse, status: int, content_type: str | None, body: bytes) -> None:
    assert (response.status, response.content_type, response.body) == (status, content_type, body)


def test_json_keeps_its_object() -> None:
    assert json({"a": 1}).raw_body == {"a": 1}


def test_html_of_an_object() -> None:
    class Page:
        def __html__(self) -> str:
            return "<b>"

    class Notebook:
        def _repr_html_(self) -> str:
            return "<i>"

    assert html(Page()).body == b"<b>"
    assert html(Notebook()).body == b"<i>"


@pytest.mark.parametrize("make", [lambda: text(b"a"), lambda: html(3), lambda: raw(3)])  # type: ignore[arg-type]
def test_body_of_a_wrong_type(make: Any) -> None:
    with pytest.raises(TypeError, match="permitted"):
        make()


@pytest.mark.parametrize("status", [0, 100, 101, 199, 600])
def test_status_that_is_no_final_one(status: int) -> None:
    with pytest.raises(ValueError, match="permitted"):
        HTTPResponse(status=status)


def test_headers_and_content_type() -> None:
    response = HTTPResponse("a", headers=[("X-A", "1"), ("X-A", "2")], content_type="a/b")
    assert response.fields() == [("X-A", "1"), ("X-A", "2"), ("Content-Type", "a/b")]
    response.content_type = "c/d"
    assert response.headers["content-type"] == "c/d"
    assert repr(response) == "<HTTPResponse: 200 c/d>"
    assert HTTPResponse(headers=Headers({"A": "b"})).fields() == [("A", "b")]


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b=c", "a\nb", "a\rb"])
def test_header_injection_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        text("", headers={"X-A": value})
    with pytest.raises(ValueError, match="control character"):
        text("", content_type=value)
    with pytest.raises(ValueError, match="control character"):
        text("").headers["X-A"] = value


def test_redirect() -> None:
    response = redirect("/a b/ä?c=d&e#f%20\r\nX: y")
    assert response.status == 302
    assert response.headers["location"] == "/a%20b/%C3%A4?c=d&e#f%20%0D%0AX:%20y"
    assert redirect("https://example.com/~a", status=301).headers["location"] == "https://example.com/~a"


def test_cookies_of_a_response() -> None:
    response = empty()
    response.cookies["a"] = "1"
    response.add_cookie("b", "2", httponly=True)
    response.delete_cookie("c")
    assert [name for name, _ in response.fields()] == ["Set-Cookie"] * 3


# --------------------------------------------------------------------------------------------------------------------
# Files

CONTENT = bytes(range(256)) * 4


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    path.write_bytes(CONTENT)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return path


MODIFIED = "Tue, 14 Nov 2023 22:13:20 GMT"


def fetch(
    path: Path, method: str = "GET", stream: bool = False, request: dict[str, str] | None = None, **options: Any
) -> Reply:
    """Serve the file over the protocol, by ``file`` or ``file_stream``, and return the answer."""

    async def handler(asked: Request) -> HTTPResponse:
        make: Any = file_stream if stream else file
        made: HTTPResponse = await make(path, request_headers=asked.headers, **options)
        return made

    async def main() -> bytes:
        peer = Peer(App(handler))
        lines = "".join(f"{name}: {value}\r\n" for name, value in (request or {}).items())
        output = await peer.send(f"{method} / HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode())
        while peer.protocol.task is not None:
            output += await peer.send()
        return peer.transport.output

    # Real time: the file is read in a thread.
    import asyncio

    [reply] = parse_replies(run(main(), asyncio.SelectorEventLoop), [method])
    return reply


BOTH = pytest.mark.parametrize("stream", [False, True], ids=["file", "file_stream"])


@BOTH
def test_file(path: Path, stream: bool) -> None:
    reply = fetch(path, stream=stream)
    assert (reply.status, reply.body) == (200, CONTENT)
    assert reply.headers["content-length"] == "1024"
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["last-modified"] == MODIFIED
    assert reply.headers["accept-ranges"] == "bytes"
    assert reply.headers["etag"].startswith('"')


@BOTH
def test_file_for_head(path: Path, stream: bool) -> None:
    reply = fetch(path, "HEAD", stream)
    assert (reply.status, reply.headers["content-length"]) == (200, "1024")


@BOTH
def test_9110_13_1_2_if_none_match(path: Path, stream: bool) -> None:
    etag = fetch(path).headers["etag"]
    for value in (etag, f'"x", W/{etag}', "*"):
        reply = fetch(path, stream=stream, request={"If-None-Match": value})
        assert (reply.status, reply.body, reply.headers["etag"]) == (304, b"", etag)
        assert "content-type" not in reply.headers
    # It counts alone (§13.2.2).
    reply = fetch(path, stream=stream, request={"If-None-Match": '"x"', "If-Modified-Since": MODIFIED})
    assert reply.status == 200


@BOTH
@pytest.mark.parametrize(
    ("value", "status"),
    [
        (MODIFIED, 304),
        ("Wed, 15 Nov 2023 22:13:20 GMT", 304),
        ("Mon, 13 Nov 2023 22:13:20 GMT", 200),
        ("yesterday", 200),
        ("Mon, 13 Nov 999999 22:13:20 GMT", 200),
    ],
)
def test_9110_13_1_3_if_modified_since(path: Path, stream: bool, value: str, status: int) -> None:
    assert fetch(path, stream=stream, request={"If-Modified-Since": value}).status == status


@BOTH
@pytest.mark.parametrize(
    ("value", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("Bytes= 1000-", 1000, 1024),
        ("bytes=1000-9999", 1000, 1024),
        ("bytes=-24", 1000, 1024),
        ("bytes=-9999", 0, 1024),
    ],
)
def test_9110_14_2_range(path: Path, stream: bool, value: str, start: int, stop: int) -> None:
    reply = fetch(path, stream=stream, request={"Range": value})
    assert (reply.status, reply.body) == (206, CONTENT[start:stop])
    assert reply.headers["content-range"] == f"bytes {start}-{stop - 1}/1024"
    assert reply.headers["content-length"] == str(stop - start)


@BOTH
@pytest.mark.parametrize("value", ["bytes=1024-", "bytes=5000-6000", "bytes=-0"])
def test_9110_15_5_17_range_that_cannot_be_satisfied(path: Path, stream: bool, value: str) -> None:
    reply = fetch(path, stream=stream, request={"Range": value})
    assert (reply.status, reply.body) == (416, b"")
    assert reply.headers["content-range"] == "bytes */1024"


@pytest.mark.parametrize("value", ["bytes=", "bytes=-", "bytes=5-1", "bytes=0-1,3-4", "lines=0-1", "bytes=a-b"])
def test_9110_14_2_other_ranges_are_ignored(path: Path, value: str) -> None:
    assert fetch(path, request={"Range": value}).status == 200


def test_9110_13_1_5_if_range(path: Path) -> None:
    etag = fetch(path).headers["etag"]
    for condition, status in ((etag, 206), (MODIFIED, 206), ('"x"', 200), (f"W/{etag}", 200)):
        assert fetch(path, request={"Range": "bytes=0-0", "If-Range": condition}).status == status


def test_conditions_can_be_left_out(path: Path) -> None:
    request = {"If-None-Match": "*", "Range": "bytes=0-0"}
    assert fetch(path, request=request, validate_when_requested=False).status == 200
    assert fetch(path, request=request, status=404).status == 404


def test_file_options(path: Path) -> None:
    reply = fetch(path, mime_type="a/b", filename='ä"x.txt', max_age=60, headers={"ETag": '"mine"'})
    assert reply.headers["content-type"] == "a/b"
    assert reply.headers["content-disposition"] == "attachment; filename=\"__x.txt\"; filename*=UTF-8''%C3%A4%22x.txt"
    assert reply.headers["cache-control"] == "max-age=60"
    assert reply.headers["etag"] == '"mine"'
    assert fetch(path, no_store=True, max_age=60).headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.txt", "text/plain; charset=utf-8"),
        ("a.png", "image/png"),
        ("a.tar.gz", "application/gzip"),
        ("a.txt.bz2", "application/octet-stream"),
        ("a", "application/octet-stream"),
    ],
)
def test_media_types(path: Path, name: str, media_type: str) -> None:
    assert fetch(path, filename=name).headers["content-type"] == media_type


def test_stream_of_pieces(path: Path) -> None:
    async def main() -> list[bytes]:
        response = await file_stream(path, chunk_size=1000, request_headers={"range": "bytes=1-"})
        pieces: list[bytes] = []

        class Sink:
            async def send(self, data: bytes, end: bool) -> None:
                pieces.append(data)

        response.sink = Sink()
        await response.run()
        return pieces

    import asyncio

    assert run(main(), asyncio.SelectorEventLoop) == [CONTENT[1:1001], CONTENT[1001:], b""]


def test_stream_of_a_file_that_shrinks_does_not_hang(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(asked: Request) -> ResponseStream:
        response = await file_stream(path)
        path.write_bytes(b"short")
        return response

    async def main() -> None:
        peer = Peer(App(handler))
        peer.protocol.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        while peer.protocol.task is not None:
            await asyncio.sleep(0.001)
        assert peer.transport.aborted

    import asyncio

    run(main(), asyncio.SelectorEventLoop)
    assert "missing" in caplog.text


def test_what_is_no_file(tmp_path: Path) -> None:
    import asyncio

    for location in (tmp_path, tmp_path / "none"):
        with pytest.raises(OSError):
            run(file(location), asyncio.SelectorEventLoop)


def test_public_names() -> None:
    assert {"text", "json", "html", "file", "redirect", "empty", "raw", "file_stream"} <= set(responses.__all__)
