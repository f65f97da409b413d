"""Paths that have a route for GET and one for WebSockets: the request says which of them is meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import websockets

from ferrows import App, Blueprint, HTTPResponse, Request, Websocket, text
from ferrows.exceptions import NotFound
from ferrows.server import AsyncioServer
from ferrows.testing import AsyncTestClient

from .harness import connect, on_both_loops

HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def add(to: Any, path: str, *, first: str = "http", **options: Any) -> None:
    """Give a path both routes, which answer with what they are and their parameters."""

    async def page(request: Request, **values: Any) -> HTTPResponse:
        return text(f"page {values}")

    async def chat(request: Request, ws: Websocket, **values: Any) -> None:
        await ws.send(f"chat {values}")

    def add_page() -> None:
        to.add_route(page, path, name="page", **options)

    def add_chat() -> None:
        to.add_websocket_route(chat, path, name="chat", **options)

    for each in (add_page, add_chat) if first == "http" else (add_chat, add_page):
        each()


@pytest.fixture
def app() -> App:
    return App("shared", {"ACCESS_LOG": False}, env_prefix=None)


async def both(server: AsyncioServer, path: str, host: str = "example.com") -> tuple[str, str]:
    """What a GET and a WebSocket get there; a status in place of a WebSocket that there is none."""
    client = await connect(server)
    page = await client.ask(path, headers={"Host": host} if host != "example.com" else {})
    await client.close()
    name, port = server.sockets[0].getsockname()[:2]
    try:
        async with websockets.connect(f"ws://{host}{path}", host=name, port=port) as ws:
            chat = str(await ws.recv())
    except websockets.InvalidStatus as error:
        chat = str(error.response.status_code)
    return (page.body.decode() if page.status == 200 else str(page.status)), chat


@pytest.mark.parametrize("first", ["http", "websocket"])
@on_both_loops
async def test_upgrade_goes_to_the_websocket_and_all_else_to_the_page(app: App, first: str) -> None:
    add(app, "/x", first=first)
    async with await app.create_server(port=0) as server:
        for path in ("/x", "/x/", "/%78"):
            assert await both(server, path) == ("page {}", "chat {}")


@pytest.mark.parametrize(
    ("pattern", "path", "values"),
    [
        ("/rooms/<room>", "/rooms/a%20b", {"room": "a b"}),
        ("/rooms/<n:int>/members", "/rooms/7/members", {"n": 7}),
        ("/f/<p:path>", "/f/a/b", {"p": "a/b"}),
        ("/<x:[a-z]{3}>", "/abc/", {"x": "abc"}),
    ],
)
@on_both_loops
async def test_path_parameters(app: App, pattern: str, path: str, values: dict[str, Any]) -> None:
    add(app, pattern)
    async with await app.create_server(port=0) as server:
        assert await both(server, path) == (f"page {values}", f"chat {values}")


@on_both_loops
async def test_prefixes_versions_and_hosts(app: App) -> None:
    blueprint = Blueprint("part", url_prefix="/part", version=2)
    add(blueprint, "/x")
    app.blueprint(blueprint)
    add(app, "/h", host="one.example")
    async with await app.create_server(port=0) as server:
        assert await both(server, "/v2/part/x") == ("page {}", "chat {}")


@on_both_loops
async def test_hosts_share_no_path(app: App) -> None:
    add(app, "/x", host="one.example")
    app.add_websocket_route(lambda request, ws: ws.send("alone"), "/x", name="alone", host="two.example")
    async with await app.create_server(port=0) as server:
        client = await connect(server)
        for host, status in (("one.example", 200), ("two.example", 426), ("three.example", 404)):
            client.writer.write(f"GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert (await client.answer()).status == status
        for host, status in (("one.example", 101), ("two.example", 101)):
            other = await connect(server)
            fields = "".join(f"{name}: {value}\r\n" for name, value in HANDSHAKE.items())
            other.writer.write(f"GET /x HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode())
            assert (await other.answer()).status == status
            await other.close()
        await client.close()


@on_both_loops
async def test_slash_at_the_end_may_be_what_they_do_not_share(app: App) -> None:
    async def page(request: Request) -> HTTPResponse:
        return text("page {}")

    app.add_route(page, "/x")
    app.add_websocket_route(lambda request, ws: ws.send("chat {}"), "/x/", name="chat", strict_slashes=True)
    async with await app.create_server(port=0) as server:
        assert await both(server, "/x/") == ("page {}", "chat {}")
        # As ever where a page alone is there.
        assert await both(server, "/x") == ("page {}", "200")


@pytest.mark.parametrize(
    ("method", "headers", "status", "allow"),
    [
        ("GET", {}, 200, None),
        ("HEAD", {}, 200, None),
        ("PUT", {}, 405, "GET, HEAD"),
        ("OPTIONS", {}, 405, "GET, HEAD"),
        # Not an upgrade: what it says about Upgrade is for the connection.
        ("GET", {"Upgrade": "websocket"}, 200, None),
        ("GET", {"Upgrade": "h2c", "Connection": "Upgrade"}, 200, None),
        ("PUT", HANDSHAKE, 405, "GET, HEAD"),
        # One, and a bad one.
        ("GET", HANDSHAKE | {"Sec-WebSocket-Version": "12"}, 426, None),
        ("GET", HANDSHAKE | {"Sec-WebSocket-Key": "short"}, 400, None),
    ],
)
@on_both_loops
async def test_methods(app: App, method: str, headers: dict[str, str], status: int, allow: str | None) -> None:
    add(app, "/x")
    async with await app.create_server(port=0) as server:
        client = await connect(server)
        answer = await client.ask("/x", method, headers)
        assert (answer.status, answer.headers.get("allow")) == (status, allow)
        await client.close()


@on_both_loops
async def test_path_with_one_of_them_is_as_ever(app: App) -> None:
    add(app, "/shared")
    app.add_websocket_route(lambda request, ws: ws.send("alone"), "/chat", name="alone")
    app.add_route(lambda request: text("post"), "/post", methods=["POST"], name="post")
    async with await app.create_server(port=0) as server:
        client = await connect(server)
        refused = await client.ask("/chat")
        assert (refused.status, refused.headers["upgrade"]) == (426, "websocket")
        head = await client.ask("/chat", "HEAD")
        assert (head.status, head.headers["allow"]) == (405, "GET")
        await client.close()
        client = await connect(server)
        answer = await client.ask("/post", headers=HANDSHAKE)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
        assert b"GET not allowed" in answer.body
        await client.close()


def test_upgrade_on_the_page_of_another_host_or_path_is_not_found() -> None:
    app = App("other", env_prefix=None)
    add(app, "/x")
    app.finalize()
    with pytest.raises(NotFound):
        app.router.resolve("/y", "websocket")


def test_urls_by_name(app: App) -> None:
    add(app, "/rooms/<room>")
    assert app.url_for("page", room="a") == app.url_for("chat", room="a") == "/rooms/a"
    options = {"room": "a", "_external": True, "_host": "h"}
    assert app.url_for("page", **options) == "http://h/rooms/a"
    assert app.url_for("chat", **options) == "ws://h/rooms/a"


@pytest.mark.parametrize(
    "again",
    [
        lambda app: app.add_route(lambda request: None, "/x/", methods=["POST", "GET"], name="again"),
        lambda app: app.add_websocket_route(lambda request, ws: None, "/x", name="again"),
    ],
    ids=["http", "websocket"],
)
def test_two_of_a_kind_are_a_conflict(app: App, again: Callable[[App], Any]) -> None:
    add(app, "/x")
    with pytest.raises(ValueError, match=r"(GET|websocket) /x/? of 'shared.again' conflicts with /x of "):
        again(app)


async def test_clients_of_tests_choose_too(app: App) -> None:
    add(app, "/x")
    async with AsyncTestClient(app) as client:
        assert (await client.get("/x")).text == "page {}"
        async with client.websocket("/x") as ws:
            assert await ws.recv() == "chat {}"
