"""Requests and responses of one app, the same under every server."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from typing import Any

import pytest

from .application import HERE, MAX_BODY
from .conftest import Server


def test_request_says_what_the_client_sent(server: Server) -> None:
    connection = server.open()
    connection.putrequest("POST", server.prefix + "/request/a%20b%C3%9F?x=1&x=2&y=%26")
    body = "körper".encode()
    for name, value in [
        ("X-Multiple", "one"),
        ("X-Multiple", "two"),
        ("Cookie", "a=1; b=2"),
        ("Content-Length", str(len(body))),
    ]:
        connection.putheader(name, value)
    connection.endheaders(body)
    about = json.loads(connection.getresponse().read())
    assert connection.sock is not None
    port = connection.sock.getsockname()[1]
    connection.close()
    assert about == {
        "name": "a bß",
        "method": "POST",
        "version": "1.1",
        "path": "/request/a%20b%C3%9F",
        "query": "x=1&x=2&y=%26",
        "args": {"x": ["1", "2"], "y": ["&"]},
        "host": server.origin,
        "url": f"http://{server.origin}{server.prefix}/request/a%20b%C3%9F?x=1&x=2&y=%26",
        "scheme": "http",
        "ip": "127.0.0.1",
        "port": port,
        "server_port": server.port,
        "cookies": {"a": "1", "b": "2"},
        "multiple": ["one", "two"],
        "raw": ["one", "two"],
        "body": "körper",
        "route": "outward.about",
        "noted": True,
        "has_transport": not server.is_asgi,
    }


def test_encoded_slash_is_no_separator(server: Server) -> None:
    assert json.loads(server.ask("/request/a%2Fb").body)["name"] == "a/b"


def test_body_as_json(server: Server) -> None:
    assert json.loads(server.ask("/json", "POST", '{"a": [1]}').body) == {"a": [1]}
    assert server.ask("/json", "POST", "{").status == 400


def test_body_as_form_with_a_file(server: Server) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="field"\r\n\r\nvalue\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="f.txt"\r\n\r\ncontent\r\n--b--\r\n'
    )
    answer = server.ask("/form", "POST", body, {"Content-Type": "multipart/form-data; boundary=b"})
    assert json.loads(answer.body) == {"form": {"field": ["value"]}, "files": {"file": ["content"]}}


def test_body_up_to_the_limit(server: Server) -> None:
    assert json.loads(server.ask("/size", "POST", b"x" * MAX_BODY).body) == MAX_BODY


def test_chunked_body(server: Server) -> None:
    pieces = iter([b"x" * 70000] * 3)
    assert json.loads(server.ask("/size", "POST", pieces, encode_chunked=True).body) == 210000


def test_announced_body_over_the_limit_is_413_before_it_comes(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        head = f"POST {server.prefix}/size HTTP/1.1\r\nHost: a\r\nContent-Length: {MAX_BODY + 1}\r\n\r\n"
        client.sendall(head.encode())
        response = http.client.HTTPResponse(client)
        response.begin()
        assert (response.status, response.read()) == (413, b"body over 1048576 bytes\n")


def test_chunked_body_over_the_limit_is_413(server: Server) -> None:
    connection = server.open()
    connection.putrequest("POST", server.prefix + "/size")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    # The last of them is over the limit, and nothing comes behind it that could make the kernel send a reset.
    for _ in range(MAX_BODY // 65536 + 1):
        connection.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
    assert connection.getresponse().status == 413
    connection.close()


def test_connection_serves_one_request_after_the_other(server: Server) -> None:
    connection = server.open()
    for number in range(3):
        connection.request("GET", f"{server.prefix}/request/{number}")
        assert json.loads(connection.getresponse().read())["name"] == str(number)
    connection.close()


# ---- responses


def test_body_with_its_length(server: Server) -> None:
    answer = server.ask("/text")
    assert (answer.status, answer.body) == (200, b"twelve bytes")
    assert answer.headers.get_all("content-length") == ["12"]
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert len(answer.headers.get_all("date") or ()) == 1


def test_head_has_the_length_and_no_body(server: Server) -> None:
    answer = server.ask("/text", "HEAD")
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "12", b"")


def test_head_of_a_stream_has_no_body(server: Server) -> None:
    connection = server.open()
    connection.request("HEAD", server.prefix + "/respond")
    response = connection.getresponse()
    assert (response.status, response.headers["x-streamed"], response.read()) == (200, "yes", b"")
    connection.request("GET", server.prefix + "/text")
    assert connection.getresponse().read() == b"twelve bytes"
    connection.close()


def test_no_content_has_neither_length_nor_body(server: Server) -> None:
    answer = server.ask("/empty")
    assert (answer.status, answer.headers["content-length"], answer.body) == (204, None, b"")


def test_headers_may_come_twice(server: Server) -> None:
    values = server.ask("/cookies").headers.get_all("set-cookie")
    assert values is not None
    assert [value.partition(";")[0] for value in values] == ["first=1", "second=2"]


def test_respond_streams(server: Server) -> None:
    answer = server.ask("/respond")
    assert (answer.body, answer.headers["x-streamed"], answer.headers["x-marked"]) == (b"0 1 2 ", "yes", "yes")


def test_response_stream_writes_its_body(server: Server) -> None:
    assert server.ask("/stream").body == b"".join(b"%04d" % number * 4096 for number in range(50))


def test_file_is_streamed_whole_and_in_part(server: Server) -> None:
    content = (HERE / "application.py").read_bytes()
    answer = server.ask("/file")
    assert (answer.body, answer.headers["content-length"]) == (content, str(len(content)))
    part = server.ask("/file", headers={"Range": "bytes=3-7"})
    assert (part.status, part.body) == (206, content[3:8])
    unchanged = server.ask("/file", headers={"If-None-Match": answer.headers["etag"]})
    assert (unchanged.status, unchanged.body) == (304, b"")


def test_static_files(server: Server) -> None:
    assert server.ask("/static/application.py").body == (HERE / "application.py").read_bytes()
    assert server.ask("/static/none.py").status == 404


def test_stream_that_fails_does_not_look_whole(server: Server) -> None:
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        server.ask("/half")


def test_stream_longer_than_it_declares_does_not_look_whole(server: Server) -> None:
    try:
        answer = server.ask("/more")
    except (http.client.HTTPException, ConnectionError):
        return
    # Nothing was sent yet, so that some servers answer for the app.
    assert answer.status == 500


# ---- around the handler


def test_middleware_answers_and_marks(server: Server) -> None:
    answer = server.ask("/text", headers={"X-Stop": "1"})
    assert (answer.status, answer.body, answer.headers["x-marked"]) == (418, b"stopped by middleware", "yes")


def test_exceptions_have_their_handlers_and_pages(server: Server) -> None:
    spilt = server.ask("/spilt")
    assert (spilt.status, spilt.body) == (409, b"spilt milk")
    unauthorized = server.ask("/text", headers={"X-Token": "wrong"})
    assert (unauthorized.status, unauthorized.headers["www-authenticate"]) == (401, 'Bearer realm="outward"')
    assert server.ask("/nowhere").status == 404
    refused = server.ask("/json")
    assert (refused.status, refused.headers["allow"]) == (405, "POST")


def test_failing_handler_is_500_and_logged_once(server: Server) -> None:
    before = server.log.read_text().count("broken on purpose")
    assert server.ask("/broken").status == 500
    # The message stands in the traceback alone.
    assert server.log.read_text().count("RuntimeError: broken on purpose") == before + 1


def test_blueprint_and_url_for(server: Server) -> None:
    assert server.ask("/v1/nested/page").body == b"/v1/nested/page"


def test_request_to_a_websocket_route_is_426(server: Server) -> None:
    answer = server.ask("/echo")
    assert (answer.status, answer.headers["upgrade"], answer.headers["sec-websocket-version"]) == (
        426,
        "websocket",
        "13",
    )
    assert "upgrade" in answer.headers["connection"].lower()


# ---- a client that leaves


async def ended(server: Server, key: str) -> Any:
    return json.loads((await asyncio.to_thread(server.ask, f"/ends/{key}")).body)


async def test_handler_of_a_client_that_leaves_is_cancelled(server: Server, key: str) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"GET {server.prefix}/slow/{key} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert await ended(server, f"{key}-begun") is True
    writer.close()
    assert await ended(server, key) == "cancelled"


async def test_stream_to_a_client_that_leaves_ends(server: Server, key: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"GET {server.prefix}/endless/{key} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert await reader.readexactly(200000)
    writer.transport.abort()
    assert await ended(server, key) == "ended"
    assert server.ask("/text").status == 200
