"""``authenticated`` on real connections: who is refused and how, and what is said of it in responses and logs."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from app.harness import Client, connect, make_request, on_both_loops

from ferrows import App, Blueprint, HTTPResponse, Request, Websocket, text
from ferrows.auth import Session, Tickets, authenticated
from ferrows.exceptions import Forbidden, HandshakeError, Unauthorized
from ferrows.testing import AsyncTestClient

SECRET = b"0123456789abcdef0123456789abcdef"
HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


async def verify(token: str, request: Request) -> Session | None:
    """Know one token, and answer for others in other ways."""
    match token:
        case "good":
            return Session("ada")
        case "over":
            return Session("ada", time.time() - 1)
        case "forbidden":
            raise Forbidden("not here")
        case "own":
            raise Unauthorized("go away", "Own", realm="x")
        case "raised":
            raise Unauthorized("go away")
        case "wrong type":
            return "ada"  # type: ignore[return-value]
    return None


def make_app(**options: Any) -> App:
    app = App("guarded", {"ACCESS_LOG": False}, env_prefix=None)
    guard = authenticated(verify, **options)

    @app.get("/rest")
    @guard
    async def rest(request: Request) -> HTTPResponse:
        return text(request.ctx.session.subject)

    @app.get("/applied", apply=[guard])
    def applied(request: Request) -> HTTPResponse:
        return text(request.ctx.session.subject, headers={"Cache-Control": "no-store"})

    @app.websocket("/ws", apply=[guard])
    async def ws(request: Request, ws: Websocket) -> None:
        await ws.send(request.ctx.session.subject)

    @app.websocket("/chat", apply=guard, subprotocols=["chat"])
    async def chat(request: Request, ws: Websocket) -> None:
        await ws.send(f"{ws.subprotocol}")

    return app


@contextlib.asynccontextmanager
async def serving(app: App, **options: Any) -> AsyncIterator[Client]:
    async with await app.create_server(port=0, **options) as server:
        client = await connect(server)
        try:
            yield client
        finally:
            await client.close()


NONE = 'Bearer realm="ferrows"'


def refused(error: str, description: str) -> str:
    return f'{NONE}, error="{error}", error_description="{description}"'


REFUSALS = [
    pytest.param({}, 401, NONE, id="nothing"),
    pytest.param({"Authorization": "Basic YTpi"}, 401, NONE, id="another scheme"),
    pytest.param(
        {"Authorization": "Bearer bad"}, 401, refused("invalid_token", "the token is not valid"), id="not valid"
    ),
    pytest.param({"Authorization": "Bearer over"}, 401, refused("invalid_token", "the session is over"), id="over"),
    pytest.param({"Authorization": "Bearer raised"}, 401, refused("invalid_token", "go away"), id="raised"),
    pytest.param({"Authorization": "Bearer own"}, 401, 'Own realm="x"', id="raised with a challenge"),
    pytest.param(
        {"Authorization": "Bearer a b"},
        400,
        refused("invalid_request", "the bearer token is malformed"),
        id="malformed",
    ),
    pytest.param({"Authorization": "Bearer forbidden"}, 403, None, id="forbidden"),
]


@pytest.mark.parametrize("path", ["/rest", "/applied", "/ws"])
@pytest.mark.parametrize(("headers", "status", "challenge"), REFUSALS)
async def test_refusals_are_http_with_a_challenge(
    path: str, headers: dict[str, str], status: int, challenge: str | None
) -> None:
    async with serving(make_app()) as client:
        answer = await client.ask(path, headers={**(HANDSHAKE if path == "/ws" else {}), **headers})
        assert (answer.status, answer.headers.get("www-authenticate")) == (status, challenge)


@on_both_loops
async def test_a_token_lets_in() -> None:
    async with AsyncTestClient(make_app(), over="socket", headers={"Authorization": "Bearer good"}) as client:
        assert (await client.get("/rest")).text == "ada"
        assert (await client.get("/applied")).text == "ada"
        async with client.websocket("/ws") as ws:
            assert await ws.recv() == "ada"


async def test_what_verify_must_not_return_is_an_error_of_the_server(caplog: pytest.LogCaptureFixture) -> None:
    app = App("wrong", {"ACCESS_LOG": False}, env_prefix=None)
    app.add_route(authenticated(lambda token, request: "ada")(lambda request: text("in")), "/", name="x")  # type: ignore[arg-type,return-value]
    async with serving(app) as client:
        assert (await client.ask("/", headers={"Authorization": "Bearer a"})).status == 500
    assert "verify returned str, permitted: Session or None" in caplog.text


async def test_verify_need_not_be_a_coroutine_function() -> None:
    app = App("sync", {"ACCESS_LOG": False}, env_prefix=None)
    guard = authenticated(lambda token, request: Session(token))
    app.add_route(guard(lambda request: text(request.ctx.session.subject)), "/", name="x")
    async with serving(app) as client:
        assert (await client.ask("/", headers={"Authorization": "Bearer abc"})).body == b"abc"


async def test_path_parameters_and_blueprints_are_as_without_it() -> None:
    app, blueprint = App("blue", {"ACCESS_LOG": False}, env_prefix=None), Blueprint("b", url_prefix="/b")
    guard = authenticated(verify, subprotocol="bearer")

    @blueprint.websocket("/<room:str>/<n:int>", apply=[guard])
    async def room(request: Request, ws: Websocket, room: str, n: int) -> None:
        await ws.send(f"{request.ctx.session.subject} {room} {n}")

    app.blueprint(blueprint)
    async with AsyncTestClient(app) as client, client.websocket("/b/x/7", subprotocols=["bearer", "good"]) as ws:
        assert (await ws.recv(), ws.subprotocol) == ("ada x 7", "bearer")


# ---- in the subprotocols


@pytest.mark.parametrize(
    ("path", "offer", "chosen"),
    [
        ("/ws", "bearer, good", "bearer"),
        ("/chat", "bearer, good", "bearer"),
        ("/chat", "chat, bearer, good", "chat"),
        ("/chat", "bearer, good, chat", "chat"),
        ("/chat", "chat, bearer.good", "chat"),
        ("/chat", "bearer.good, chat", "chat"),
        ("/chat", "other, bearer.good", None),
    ],
)
@pytest.mark.parametrize("engine", ["ferrows", "wsproto", "websockets"])
async def test_a_subprotocol_is_agreed_on_and_it_is_never_the_token(
    path: str, offer: str, chosen: str | None, engine: str
) -> None:
    app = make_app(subprotocol="bearer")
    app.config.WEBSOCKET_ENGINE = engine
    async with serving(app) as client:
        answer = await client.ask(path, headers={**HANDSHAKE, "Sec-WebSocket-Protocol": offer})
        assert (answer.status, answer.headers.get("sec-websocket-protocol")) == (101, chosen)


@pytest.mark.parametrize("offer", ["bearer.good", "bearer", "bearer, good, bearer, good", "bearer, good, bearer.good"])
async def test_an_offer_that_cannot_succeed_in_a_browser_is_refused(offer: str) -> None:
    async with serving(make_app(subprotocol="bearer")) as client:
        answer = await client.ask("/ws", headers={**HANDSHAKE, "Sec-WebSocket-Protocol": offer})
        assert answer.status == 400
        assert answer.headers["www-authenticate"].startswith('Bearer realm="ferrows", error="invalid_request"')


def test_the_name_is_added_to_those_of_the_route_as_the_last() -> None:
    app = make_app(subprotocol="base64url.bearer.x")
    assert [route.subprotocols for route in app.routes if route.websocket] == [
        ("base64url.bearer.x",),
        ("chat", "base64url.bearer.x"),
    ]
    assert [route.subprotocols for route in make_app().routes if route.websocket] == [(), ("chat",)]


# ---- in the query and in a cookie


async def test_a_token_in_the_query_keeps_its_answer_out_of_shared_caches() -> None:
    async with serving(make_app(query="access_token")) as client:
        answer = await client.ask("/rest?access_token=good")
        assert (answer.status, answer.body, answer.headers["cache-control"]) == (200, b"ada", "private")
        assert (await client.ask("/applied?access_token=good")).headers["cache-control"] == "no-store"
        answer = await client.ask("/rest", headers={"Authorization": "Bearer good"})
        assert (answer.status, answer.headers.get("cache-control")) == (200, None)
        twice = await client.ask("/rest?access_token=good", headers={"Authorization": "Bearer good"})
        assert twice.status == 400


async def test_a_cookie_counts_where_there_is_no_token() -> None:
    async with serving(make_app(cookie="sid")) as client:
        assert (await client.ask("/rest", headers={"Cookie": "sid=good"})).status == 200
        assert (await client.ask("/rest", headers={"Cookie": "sid=bad"})).status == 401
        assert (await client.ask("/rest", headers={"Cookie": "sid="})).headers["www-authenticate"] == NONE
        both = {"Cookie": "sid=bad", "Authorization": "Bearer good"}
        assert (await client.ask("/rest", headers=both)).status == 200


async def test_a_cookie_of_another_origins_page_opens_no_websocket() -> None:
    headers = {**HANDSHAKE, "Cookie": "sid=good", "Origin": "https://elsewhere.example"}
    async with serving(make_app(cookie="sid")) as client:
        assert (await client.ask("/ws", headers=headers)).status == 403


# ---- what is logged


@pytest.mark.parametrize(
    "target",
    [
        "/rest?access_token=hush",
        "/rest?a=1&access_token=hush&b=2",
        "/rest?acces%73_token=hush",
        "/rest?access_token=hush&access_token=hush",
        "/nowhere?access_token=hush",
        "/ws?access_token=hush",
        "/?access_token=hush HTTP/9",
        "/\x01?access_token=hush",
        "/?x=" + "y" * 230 + "&access_token=hush",
    ],
)
async def test_no_token_of_a_query_is_logged(target: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    app = make_app(query="access_token")
    async with serving(app, access_log=True) as client:
        answer = await client.ask(target, headers=HANDSHAKE if "ws" in target else {})
        assert answer.status >= 400
    lines = [record.getMessage() for record in caplog.records if record.name == "ferrows.access"]
    assert len(lines) == 1
    assert "hush" not in caplog.text
    assert "=***" in lines[0] or "\\x01" in lines[0] or "..." in lines[0] or '"GET /"' in lines[0], lines


async def test_only_what_is_secret_is_left_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ferrows.access")
    app = App("logged", env_prefix=None)
    app.add_route(authenticated(verify, query="pass word")(lambda request: text("in")), "/", name="x")
    async with serving(app) as client:
        await client.ask("/?page=2&pass+word=good&q=a=b&flag&=&pass%20word=")
    assert '"GET /?page=2&pass+word=***&q=a=b&flag&=&pass%20word=*** HTTP/1.1" 400' in caplog.text


@on_both_loops
async def test_no_token_is_logged_of_a_connection(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "ferrows")
    app = make_app(query="access_token", subprotocol="bearer")
    app.config.ACCESS_LOG = True

    @app.websocket("/fails", apply=authenticated(lambda token, request: Session("ada"), query="ticket"))
    async def fails(request: Request, ws: Websocket) -> None:
        raise ZeroDivisionError

    async with AsyncTestClient(app, over="socket") as client:
        for path, options in (
            ("/ws?access_token=good", {}),
            ("/ws", {"headers": {"Authorization": "Bearer good"}}),
            ("/ws", {"subprotocols": ["bearer", "good"]}),
            ("/fails?ticket=good", {}),
        ):
            async with client.websocket(path, **options) as ws:
                await ws.wait_closed()
    assert caplog.text.count("closed 1000") == 3
    assert caplog.text.count("\nZeroDivisionError") == 1
    assert "good" not in caplog.text


def test_no_token_is_in_a_representation() -> None:
    request = make_request(
        App("shown", env_prefix=None),
        "/?access_token=hush",
        headers={
            "Authorization": "Basic aHVzaDpodXNo",
            "Cookie": "sid=hush",
            "Sec-WebSocket-Protocol": "bearer, hush",
            "X-Other": "shown",
        },
    )
    assert repr(request) == "<Request: GET />"
    assert (request.credentials.password, repr(request.credentials)) == ("hush", "<Credentials Basic>")
    assert repr(request.headers) == (
        "<Headers [('host', 'example.com'), ('Authorization', '***'), ('Cookie', '***'), "
        "('Sec-WebSocket-Protocol', '***'), ('X-Other', 'shown')]>"
    )
    assert repr(Session("ada", data={"token": "hush"})) == "<Session of 'ada' without end>"


# ---- what the caller gets wrong


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"header": False}, "looks nowhere for a token"),
        ({"subprotocol": "a b"}, "subprotocol 'a b' must be a token"),
        ({"realm": 'a"b'}, "realm"),
        ({"realm": "\u00e4"}, "realm"),
        ({"realm": ""}, "realm"),
        ({"code": 1006}, "close code 1006 may not be sent"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        authenticated(verify, **options)


def test_a_decorator_without_its_arguments_is_refused() -> None:
    with pytest.raises(TypeError, match="verify is str"):
        authenticated("token")  # type: ignore[arg-type]


async def test_a_request_middleware_can_authenticate_too() -> None:
    app = make_app()
    guard = authenticated(verify)
    request = make_request(app, "/", headers={"authorization": "Bearer good"})
    assert (await guard.authenticate(request)).subject == "ada"
    with pytest.raises(Unauthorized, match="authentication is needed"):
        await guard.authenticate(make_request(app, "/"))


# ---- tickets


@pytest.mark.parametrize("way", ["query", "pair", "prefix"])
@on_both_loops
async def test_a_ticket_that_was_fetched_opens_a_websocket_once(way: str) -> None:
    tickets = Tickets(SECRET, bind=("origin", "address"), single_use=True)
    app = App("ticketed", {"ACCESS_LOG": False}, env_prefix=None)

    @app.post("/ticket")
    async def ticket(request: Request) -> HTTPResponse:
        return text(tickets.issue("ada", request=request, room="x"))

    @app.websocket(
        "/ws", subprotocols=["chat"], apply=authenticated(tickets.verify, query="ticket", subprotocol="bearer")
    )
    async def handler(request: Request, ws: Websocket) -> None:
        session = request.ctx.session
        await ws.send({"subject": session.subject, **session.data}, encoding="json")

    origin = "http://localhost"
    async with AsyncTestClient(app, over="socket") as client:
        issued = (await client.post("/ticket", headers={"Origin": origin})).text
        path, offer, chosen = {
            "query": (f"/ws?ticket={issued}", [], None),
            "pair": ("/ws", ["bearer", issued], "bearer"),
            "prefix": ("/ws", ["chat", f"bearer.{issued}"], "chat"),
        }[way]
        async with client.websocket(path, subprotocols=offer, origin=origin) as ws:
            assert (await ws.recv(), ws.subprotocol) == ('{"subject":"ada","room":"x"}', chosen)
        with pytest.raises(HandshakeError) as again:
            await client.websocket(path, subprotocols=offer, origin=origin)
        assert again.value.status == 401
        assert again.value.headers["WWW-Authenticate"] == refused("invalid_token", "the ticket was used before")
