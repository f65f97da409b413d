"""An app to be tested, and every way to reach it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ferrows import App, HTTPResponse, Request, Websocket, empty, json, text
from ferrows.exceptions import Forbidden


def make_app(**config: Any) -> App:
    app = App("for_test_clients", {"ACCESS_LOG": False, **config}, env_prefix=None)
    app.ctx.events = []

    for event in ("before_server_start", "after_server_start", "before_server_stop", "after_server_stop"):

        async def note(app: App, loop: asyncio.AbstractEventLoop, event: str = event) -> None:
            app.ctx.events.append(event)

        app.register_listener(note, event)

    @app.route("/echo", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
    async def echo_request(request: Request) -> HTTPResponse:
        return json(
            {
                "method": request.method,
                "url": request.url,
                "args": dict(request.args),
                "headers": {name.lower(): value for name, value in request.headers.items()},
                "cookies": dict(request.cookies),
                "body": request.body.decode("latin-1"),
                "ip": request.ip,
            },
            headers={"X-Method": request.method},
        )

    @app.post("/form")
    async def form(request: Request) -> HTTPResponse:
        assert request.form is not None and request.files is not None
        files = {name: [file.name, file.type, len(file.body)] for name, (file,) in request.files.items()}
        return json({"form": dict(request.form), "files": files})

    @app.get("/stream")
    async def stream(request: Request) -> None:
        response = await request.respond(content_type="text/plain; charset=latin-1")
        assert response is not None
        for n in range(100):
            await response.send(b"%d \xe4 " % n)
        await response.eof()

    @app.get("/login")
    async def login(request: Request) -> HTTPResponse:
        response = text("in")
        response.cookies.add_cookie("session", "a b")
        response.cookies.add_cookie("deep", "1", path="/deep")
        return response

    @app.get("/logout")
    async def logout(request: Request) -> HTTPResponse:
        response = empty()
        response.cookies.delete_cookie("session")
        return response

    @app.get("/boom")
    async def boom(request: Request) -> HTTPResponse:
        raise ZeroDivisionError("boom")

    @app.get("/forbidden")
    async def forbidden(request: Request) -> HTTPResponse:
        raise Forbidden("not you")

    @app.get("/never")
    async def never(request: Request) -> HTTPResponse:
        await asyncio.Event().wait()
        raise AssertionError

    @app.websocket("/ws", subprotocols=["v1"], compression="deflate")
    async def echo(request: Request, ws: Websocket) -> None:
        async for message in ws:
            await ws.send(message)

    @app.websocket("/headers")
    async def headers(request: Request, ws: Websocket) -> None:
        values = {name.lower(): value for name, value in request.headers.items()}
        await ws.send({**values, "scheme": request.scheme}, encoding="json")

    @app.websocket("/fails")
    async def fails(request: Request, ws: Websocket) -> None:
        await ws.recv()
        raise ZeroDivisionError("in a websocket")

    @app.websocket("/refused")
    async def refused(request: Request, ws: Websocket) -> None:
        raise AssertionError

    @app.websocket("/waits")
    async def waits(request: Request, ws: Websocket) -> None:
        await ws.wait_closed()
        app.ctx.events.append(ws.close_code)

    @app.websocket("/flood")
    async def flood(request: Request, ws: Websocket) -> None:
        for n in range(500):
            await ws.send(bytes([n % 256]) * 20_000)

    @app.on_request
    async def refuse(request: Request) -> HTTPResponse | None:
        return text("no", 401, headers={"Set-Cookie": "why=not"}) if request.path == "/refused" else None

    return app


@pytest.fixture
def app() -> App:
    return make_app()


@pytest.fixture(params=["memory", "socket"])
def over(request: pytest.FixtureRequest) -> str:
    way: str = request.param
    return way
