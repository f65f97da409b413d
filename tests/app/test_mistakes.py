"""What is easily got wrong: each mistake is one error, where it is made, that names the cause and what would do."""

from __future__ import annotations

import asyncio
import functools
import re
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from ferrows import App, Blueprint, ConnectionClosedOK, HTTPResponse, file, text
from ferrows.asgi import ASGIHost
from ferrows.server.tls import ssl_context
from ferrows.testing import TestClient

from .harness import Ask


async def plain(request: Any, ws: Any) -> None: ...


async def named(request: Any, ws: Any, name: str) -> None: ...


async def defaulted(request: Any, ws: Any, name: str = "", *, page: int = 1) -> None: ...


async def keyword(request: Any, ws: Any, *, name: str) -> None: ...


async def everything(request: Any, ws: Any, **values: Any) -> None: ...


async def swapped(ws: Any, request: Any) -> None: ...


async def generator(request: Any, ws: Any) -> AsyncIterator[str]:
    yield "hello"


def with_session(handler: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(handler)
    async def check(request: Any, ws: Any, **values: Any) -> None:
        await handler(request, ws, session="ada")

    return check


async def of_a_session(request: Any, ws: Any, session: str) -> None: ...


# ---- routes


@pytest.mark.parametrize(
    ("path", "handler", "message"),
    [
        ("/<room>", plain, "must take the path's parameter 'room'"),
        ("/<nmae>", named, "must take the path's parameter 'nmae'"),
        ("/", named, "requires 'name', which the path does not have as <name>"),
        ("/:name", named, "requires 'name', which the path does not have as <name>"),
        ("/", keyword, "requires 'name', which the path does not have as <name>"),
        ("/<name>", defaulted, None),
        ("/", defaulted, None),
        ("/<name>", keyword, None),
        ("/<anything>", everything, None),
        ("/{name}", named, "has braces; a parameter is written <name>"),
        ("/<int:n>", plain, r"unknown parameter type 'n', .* did you mean <n:int>\?"),
        ("/ws?token=<token>", plain, "has a query or a fragment; the query arrives as request.args"),
        ("ws://localhost/ws", plain, "is a whole URL, permitted: the path alone"),
        ("/", swapped, "must take the request first, then the websocket"),
        ("/", generator, "must be a coroutine function, not a generator"),
    ],
)
def test_websocket_route(app: App, path: str, handler: Any, message: str | None) -> None:
    if message is None:
        app.websocket(path)(handler)
        assert len(app.routes) == 1
    else:
        with pytest.raises(ValueError, match=message):
            app.websocket(path)(handler)


def test_decorator_before_the_upgrade_may_give_and_take_parameters(app: App) -> None:
    app.websocket("/<room>", apply=with_session)(of_a_session)
    assert len(app.routes) == 1


@pytest.mark.parametrize("register", [lambda app: app.websocket, lambda app: app.get])
def test_decorator_that_is_a_check_of_the_request(app: App, register: Any) -> None:
    async def check(request: Any) -> None: ...

    with pytest.raises(TypeError, match=r"apply takes decorators: 'check' .* must return a function .*, not coroutine"):
        register(app)("/", apply=[check])(lambda *args: None)


def test_parameters_of_a_prefix_count(app: App) -> None:
    blueprint = Blueprint("api", url_prefix="/<name>")
    blueprint.websocket("/ws")(named)
    app.blueprint(blueprint)
    with pytest.raises(ValueError, match="'/api/<tenant>/ws' must take the path's parameter 'tenant'"):
        app.blueprint(blueprint, url_prefix="/api/<tenant>", name_prefix="other")


def test_http_handler_has_the_parameters_of_its_path(app: App) -> None:
    with pytest.raises(ValueError, match="must take the request before <number>"):
        app.get("/<number:int>")(lambda number: None)
    with pytest.raises(ValueError, match="handler of '/items' requires 'number'"):
        app.get("/items")(lambda request, number: None)


@pytest.mark.parametrize("apply", [True, [lambda handler: handler]])
def test_response_behind_the_upgrade_is_told(app: App, caplog: pytest.LogCaptureFixture, apply: Any) -> None:
    @app.websocket("/ws", apply=apply)
    async def refuse(request: Any, ws: Any) -> HTTPResponse:
        return text("members only", status=401)

    with TestClient(app) as client, client.websocket("/ws") as ws, pytest.raises(ConnectionClosedOK):
        ws.recv()
    told = [record.getMessage() for record in caplog.records if record.name == "ferrows.error"]
    assert told == [
        "handler of websocket /ws from 127.0.0.1 returned a response of 401, which cannot be sent behind the 101: "
        "middleware and decorators in apply can refuse before it"
    ]


# ---- what goes around handlers


@pytest.mark.parametrize(
    ("register", "callback", "message"),
    [
        (lambda app: app.on_request, lambda: None, "request middleware '<lambda>' must take the request"),
        (lambda app: app.on_request, lambda request, call_next: None, "request middleware '<lambda>' must take"),
        (lambda app: app.on_response, lambda response: None, "must take the request and the response"),
        (lambda app: app.middleware("response"), lambda response: None, "must take the request and the response"),
        (lambda app: app.exception(KeyError), lambda error: None, "must take the request and the exception"),
        (lambda app: app.before_server_start, lambda: None, r"must take the app \(and the loop, if it likes\)"),
        (lambda app: app.listener("after_server_stop"), lambda: None, "after_server_stop listener '<lambda>' must"),
    ],
)
def test_callback_of_other_parameters(app: App, register: Any, callback: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        register(app)(callback)


def test_listener_takes_the_app_or_the_loop_too(app: App) -> None:
    app.before_server_start(lambda app: None)
    app.before_server_start(lambda app, loop: None)
    assert app.awaits_start


@pytest.mark.parametrize("given", ["api", [Blueprint("b"), "api"]])
def test_blueprint_that_is_none(app: App, given: Any) -> None:
    with pytest.raises(TypeError, match="takes a Blueprint, a group or several of them, not 'api'"):
        app.blueprint(given)


def test_blueprint_option_that_there_is_not(app: App) -> None:
    with pytest.raises(TypeError, match="has no option 'prefix', permitted: url_prefix, host"):
        app.blueprint(Blueprint("b"), prefix="/api")


def test_exception_that_is_a_status(app: App) -> None:
    with pytest.raises(ValueError, match="takes exception classes such as NotFound, not 404"):
        app.exception(404)  # type: ignore[arg-type]


def test_task_that_is_none(app: App) -> None:
    with pytest.raises(TypeError, match="a task is a coroutine or a function that returns one, not 42"):
        app.add_task(42)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["settings.toml", Path("settings.toml")])
def test_configuration_that_is_a_path(app: App, given: Any) -> None:
    with pytest.raises(TypeError, match=r"is a mapping, a class, a module or an object, not .*settings\.toml"):
        app.update_config(given)


# ---- responses


@pytest.mark.parametrize("status", ["404", None, 99, 600])
def test_status_that_is_none(status: Any) -> None:
    with pytest.raises(ValueError, match=f"status is {status!r}, permitted: 200 to 599"):
        text("x", status=status)


def test_headers_that_are_a_string() -> None:
    with pytest.raises(TypeError, match="headers are a mapping or pairs of name and value, not str"):
        HTTPResponse("x", headers="X-A: b")  # type: ignore[arg-type]


# ---- where to serve


def test_host_that_is_the_port(app: App) -> None:
    with pytest.raises(TypeError, match=r"host must be a str such as '0\.0\.0\.0' or '\*', not 8000"):
        app.run(8000)  # type: ignore[arg-type]


async def test_host_with_a_port_in_it_is_named(app: App) -> None:
    with pytest.raises(socket.gaierror, match=r"host '127\.0\.0\.1:8000'"):
        await app.create_server("127.0.0.1:8000", 0)


def test_certificate_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cert.pem"
    path.write_text("hello")
    with pytest.raises(OSError, match=r"certificate '.*cert\.pem' with key '.*cert\.pem' cannot be used: no PEM"):
        ssl_context((path, path))


def test_application_that_is_a_name() -> None:
    with pytest.raises(TypeError, match="str is not; the command `ferrows module:app` takes its name"):
        ASGIHost("main:app")  # type: ignore[arg-type]


def test_run_in_a_coroutine_names_what_to_await(app: App) -> None:
    async def main() -> None:
        app.run(port=0)

    with pytest.raises(RuntimeError, match=r"on one that runs, await app\.create_server"):
        asyncio.run(main())


async def test_response_that_is_none_names_what_makes_one(app: App, ask: Ask) -> None:
    app.get("/text")(lambda request: "hello")
    content = file(__file__)

    @app.get("/file")
    async def forgotten(request: Any) -> Any:
        return content

    for path, expected in [("/text", "returned str, .*; see text, json"), ("/file", "; is an await missing?")]:
        response = await ask(app, path)
        assert response is not None
        assert response.status == 500
        assert re.search(expected, response.body.decode())
    content.close()
