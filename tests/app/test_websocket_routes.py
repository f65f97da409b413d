"""Websocket routes: registration, the upgrade, and how a handler's end closes the connection; without a network."""

from __future__ import annotations

import asyncio
import functools
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from ferrows import App, Blueprint, HTTPResponse, WebsocketClosed, text
from ferrows.exceptions import BadRequest, Forbidden, ServerError, Unauthorized

from .harness import Ask, StandInProtocol, StandInWebsocket, answer, make_request


async def serve(app: App, path: str, ws: Any = None, **options: Any) -> tuple[HTTPResponse | None, StandInProtocol]:
    protocol = StandInProtocol(StandInWebsocket() if ws is None else ws)
    return await answer(app, make_request(app, path, protocol=protocol, **options)), protocol


# ---- registration


class Handlers:
    async def good(self, request: Any, ws: Any) -> None: ...

    async def bad(self, request: Any) -> None: ...

    async def __call__(self, request: Any, ws: Any) -> None: ...


async def plain(request: Any, ws: Any, room: str = "") -> None: ...


async def star(*args: Any, **kwargs: Any) -> None: ...


async def bound_first(extra: Any, request: Any, ws: Any) -> None: ...


async def only_request(request: Any) -> None: ...


async def keyword_only(request: Any, *, ws: Any) -> None: ...


async def forgot_ws(request: Any, room: str) -> None: ...


@pytest.mark.parametrize(
    "handler",
    [
        plain,
        star,
        Handlers().good,
        Handlers(),
        functools.partial(bound_first, 1),
        functools.partial(plain, room="x"),
    ],
    ids=["function", "star", "method", "instance", "partial", "keyword-partial"],
)
def test_handler_of_two_parameters_is_registered(app: App, handler: Any) -> None:
    assert app.add_websocket_route(handler, "/ws") is handler
    assert app.routes[0].websocket


@pytest.mark.parametrize(
    "handler",
    [only_request, keyword_only, Handlers().bad, functools.partial(plain, 1, 2), lambda: None],
    ids=["one", "keyword-only", "method", "partial", "none"],
)
def test_handler_of_fewer_than_two_parameters_raises_at_registration(app: App, handler: Any) -> None:
    with pytest.raises(ValueError, match="must take at least two parameters, the request and the websocket"):
        app.websocket("/ws")(handler)
    assert app.routes == []


def test_handler_with_a_path_parameter_in_the_place_of_the_websocket_raises(app: App) -> None:
    with pytest.raises(ValueError, match="before <room>"):
        app.websocket("/ws/<room>")(forgot_ws)


def test_wrapper_counts_and_not_what_it_wraps(app: App) -> None:
    @functools.wraps(only_request)
    async def wrapper(*args: Any) -> None: ...

    app.websocket("/ws")(wrapper)
    assert app.routes[0].name == "tested.only_request"


def test_builtin_that_does_not_tell_its_parameters_is_taken(app: App) -> None:
    app.add_websocket_route(max, "/ws")
    assert app.routes[0].name == "tested.max"


def test_missing_slash_is_added_and_the_method_is_get(app: App) -> None:
    app.websocket("ws/<room>")(plain)
    assert (app.routes[0].path, app.routes[0].methods) == ("/ws/<room>", frozenset({"GET"}))


def test_positional_order_of_the_reference_holds(app: App) -> None:
    app.websocket("/ws", "example.com", True, ["chat"], "named", True, 1, "/api/v", "json")(plain)
    route = app.routes[0]
    assert (route.path, route.hosts, route.strict, route.subprotocols) == (
        "/api/v1/ws",
        ("example.com",),
        True,
        ("chat",),
    )
    assert (route.name, route.error_format) == ("tested.named", "json")


def test_options_become_settings_and_the_rest_context(app: App) -> None:
    app.websocket(
        "/ws",
        subprotocols="chat",
        max_size=None,
        max_queue=2,
        timeout=3,
        ping_interval=0,
        ping_timeout=4.5,
        compression="deflate",
        origins=["https://a.example"],
        ctx_role="admin",
        label="x",
    )(plain)
    app.finalize()
    route = app.routes[0]
    settings = route.websocket_settings
    assert (settings.max_size, settings.max_queue, settings.timeout) == (None, 2, 3)
    assert (settings.ping_interval, settings.ping_timeout, settings.origins) == (None, 4.5, ("https://a.example",))
    assert settings.deflate is not None
    assert vars(route.ctx) == {"role": "admin", "label": "x"}
    assert route.subprotocols == ("chat",)


def test_option_misspelt_is_a_type_error_that_names_the_nearest(app: App) -> None:
    with pytest.raises(TypeError, match="'max_sise', did you mean 'max_size'"):
        app.websocket("/ws", max_sise=1)(plain)


# ---- the upgrade


@pytest.mark.parametrize("option", ["websocket_max_size", "MAX_SIZE", "WEBSOCKET_MAX_SIZE", "Max_Sizes"])
def test_option_by_its_configuration_key_is_a_type_error(app: App, option: str) -> None:
    with pytest.raises(TypeError, match=f"unknown websocket option '{option}', did you mean 'max_size'"):
        app.websocket("/ws", **{option: 1})(plain)
    app.websocket("/ws", ctx_max_size=1)(plain)
    assert app.routes[0].ctx.max_size == 1


@pytest.mark.parametrize("register", [App.websocket, App.get, App.route, App.post])
def test_decorator_without_parentheses_is_a_type_error(app: App, register: Any) -> None:
    with pytest.raises(TypeError, match=r"a route needs its path, a str, not handler 'plain': @app\.\w+\('/path'\)"):
        register(app, plain)
    with pytest.raises(TypeError, match="not 5"):
        register(app, 5)


@pytest.mark.parametrize("bad", ["", "a b", "a,b", "chat/1", "é", "a\r\n", b"chat", 1, None])
def test_subprotocol_that_is_no_token_is_an_error_at_registration(app: App, bad: Any) -> None:
    with pytest.raises(ValueError, match="must be a token"):
        app.websocket("/ws", subprotocols=["chat", bad])
    assert app.websocket("/ws", subprotocols="v1.chat~!")(plain) is plain


def test_apply_none_means_none(app: App) -> None:
    app.websocket("/ws", apply=None)(plain)
    app.get("/", apply=None)(only_request)
    assert [route.path for route in app.routes] == ["/ws", "/"]


@pytest.mark.parametrize("apply", [5, "x", [5], 0])
def test_apply_of_another_type_is_a_type_error(app: App, apply: Any) -> None:
    for register in (app.websocket, app.get):
        with pytest.raises(TypeError, match="must be True, False, None, a decorator or a list of decorators, not"):
            register("/ws", apply=apply)


def test_name_that_another_handler_has_on_another_path_is_an_error(app: App) -> None:
    app.websocket("/a")(plain)
    app.websocket("/b")(plain)  # One handler may have several paths,
    app.get("/c", name="http")(only_request)
    app.post("/c", name="http")(Handlers().bad)  # and a path a handler for each method.
    app.get("/c", name="http", host="other.example")(Handlers().bad)
    for register in (app.websocket, app.get):
        with pytest.raises(ValueError, match=r"the name 'tested\.plain' of /z belongs to /a already"):
            register("/z", name="plain")(star)
    assert [route.path for route in app.routes] == ["/a", "/b", "/c", "/c", "/c"]


async def test_decorator_in_apply_may_add_arguments(app: App) -> None:
    seen: list[Any] = []

    def with_both(handler: Any) -> Any:
        async def call(request: Any, ws: Any, **values: Any) -> Any:
            return await handler(request, ws, "user", extra=1, **values)

        return call

    def with_request(handler: Any) -> Any:
        async def call(request: Any, **values: Any) -> Any:
            return await handler(request, "user", **values)

        return call

    def by_name(handler: Any) -> Any:
        async def call(request: Any, ws: Any, **values: Any) -> Any:
            return await handler(request, ws=ws, user="user", **values)

        return call

    async def handler(request: Any, ws: Any, user: str, extra: int = 0, room: str = "") -> None:
        seen.append((ws, user, extra, room))

    for number, decorator in enumerate([with_both, with_request, by_name]):
        app.websocket(f"/{number}/<room>", apply=decorator)(handler)
    ws = StandInWebsocket()
    for number in range(3):
        await serve(app, f"/{number}/r", ws)
    assert seen == [(ws, "user", 1, "r"), (ws, "user", 0, "r"), (ws, "user", 0, "r")]


async def test_handler_gets_request_websocket_and_parameters(app: App) -> None:
    seen: list[Any] = []

    @app.websocket("/ws/<room>/<n:int>", subprotocols=["a", "b"])
    async def handler(request: Any, ws: Any, room: str, n: int) -> None:
        seen.extend([request.path, ws, room, n])

    ws = StandInWebsocket()
    response, protocol = await serve(app, "/ws/r/3", ws)
    assert response is None
    assert seen == ["/ws/r/3", ws, "r", 3]
    assert protocol.handshakes == [("a", "b")]
    assert ws.closed_with == (1000, "")


async def test_other_method_is_405_with_allow_get(app: App) -> None:
    app.websocket("/ws")(plain)
    response, protocol = await serve(app, "/ws", method="POST")
    assert response is not None
    assert (response.status, response.headers["allow"], protocol.handshakes) == (405, "GET", [])


async def test_request_middleware_refuses_before_the_upgrade(app: App) -> None:
    app.websocket("/ws")(plain)
    app.on_request(lambda request: text("no", 403))
    response, protocol = await serve(app, "/ws")
    assert response is not None
    assert (response.status, protocol.handshakes) == (403, [])


async def test_request_middleware_that_raises_refuses_before_the_upgrade(app: App) -> None:
    @app.on_request
    async def refuse(request: Any) -> None:
        raise Unauthorized("token?", scheme="Bearer")

    app.websocket("/ws")(plain)
    response, protocol = await serve(app, "/ws")
    assert response is not None
    assert (response.status, response.headers["www-authenticate"], protocol.handshakes) == (401, "Bearer", [])


async def test_handshake_that_refuses_has_its_status(app: App) -> None:
    class Refusing(StandInProtocol):
        async def websocket_handshake(self, request: Any, subprotocols: Any = None) -> Any:
            raise BadRequest("key", headers={"x": "y"})

    app.websocket("/ws", error_format="json")(plain)
    response = await answer(app, make_request(app, "/ws", protocol=Refusing()))
    assert response is not None
    assert (response.status, response.headers["x"], response.content_type) == (400, "y", "application/json")
    assert app.websocket_tasks == {}


# ---- apply


def needs_token(handler: Any) -> Any:
    @functools.wraps(handler)
    async def decorated(request: Any, *args: Any, **kwargs: Any) -> Any:
        if "x-token" not in request.headers:
            raise Unauthorized("token?")
        return await handler(request, *args, **kwargs)

    return decorated


def with_two(handler: Any) -> Any:
    async def decorated(request: Any, ws: Any, **kwargs: Any) -> Any:
        return await handler(request, ws, **kwargs)

    return decorated


def with_one(handler: Any) -> Any:
    async def decorated(request: Any, **kwargs: Any) -> Any:
        return await handler(request, **kwargs)

    return decorated


@pytest.mark.parametrize("apply", [needs_token, [needs_token], [with_two, needs_token], [with_one, needs_token]])
async def test_decorators_in_apply_refuse_before_the_upgrade(app: App, apply: Any) -> None:
    rooms: list[str] = []

    @app.websocket("/ws/<room>", apply=apply)
    async def handler(request: Any, ws: Any, room: str) -> None:
        rooms.append(room)

    refused, protocol = await serve(app, "/ws/a")
    assert refused is not None
    assert (refused.status, protocol.handshakes, rooms) == (401, [], [])
    accepted, protocol = await serve(app, "/ws/a", headers={"x-token": "t"})
    assert (accepted, len(protocol.handshakes), rooms) == (None, 1, ["a"])
    assert protocol.ws.closed_with == (1000, "")


async def test_decorator_in_apply_may_answer_instead(app: App) -> None:
    @app.websocket("/ws", apply=[lambda handler: lambda request, ws: text("elsewhere", 404)])
    async def handler(request: Any, ws: Any) -> None: ...

    response, protocol = await serve(app, "/ws")
    assert response is not None
    assert (response.status, protocol.handshakes) == (404, [])


async def test_decorator_in_apply_that_neither_answers_nor_upgrades_is_a_500(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    app.websocket("/ws", apply=[lambda handler: lambda request, ws: None])(plain)
    response, _ = await serve(app, "/ws")
    assert response is not None
    assert response.status == 500
    assert b"returned NoneType" in response.body
    assert len(caplog.records) == 1


async def test_decorator_in_apply_that_uses_the_websocket_is_told_where_it_belongs(app: App) -> None:
    def decorate(handler: Any) -> Any:
        async def decorated(request: Any, ws: Any) -> None:
            await ws.close(1008)

        return decorated

    app.websocket("/ws", apply=[decorate])(plain)
    response, protocol = await serve(app, "/ws")
    assert response is not None
    assert response.status == 500
    assert b"not upgraded yet" in response.body
    assert protocol.handshakes == []


async def test_decorator_in_apply_that_fails_after_the_handler_closes_with_1011(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    def decorate(handler: Any) -> Any:
        async def decorated(request: Any, ws: Any) -> None:
            await handler(request, ws)
            raise RuntimeError("afterwards")

        return decorated

    app.websocket("/ws", apply=[decorate])(plain)
    response, protocol = await serve(app, "/ws")
    assert response is None
    assert protocol.ws.closed_with == (1011, "internal error")
    assert len(caplog.records) == 1


async def test_two_connections_at_once_do_not_mix_their_upgrades(app: App) -> None:
    seen: dict[str, Any] = {}

    @app.websocket("/ws/<room>", apply=[needs_token])
    async def handler(request: Any, ws: Any, room: str) -> None:
        await asyncio.sleep(0)
        seen[room] = ws

    first, second = StandInWebsocket(), StandInWebsocket()
    headers = {"x-token": "t"}
    await asyncio.gather(serve(app, "/ws/a", first, headers=headers), serve(app, "/ws/b", second, headers=headers))
    assert seen == {"a": first, "b": second}


# ---- the end


@pytest.mark.parametrize(
    ("raised", "closed_with", "level"),
    [
        (RuntimeError("secret"), (1011, "internal error"), logging.ERROR),
        (ServerError("secret"), (1011, "internal error"), logging.ERROR),
        (Forbidden("members only"), (1008, "members only"), logging.WARNING),
        (Forbidden("é" * 100), (1008, "é" * 61), logging.WARNING),
    ],
    ids=["exception", "5xx", "4xx", "long-reason"],
)
async def test_handler_that_raises_is_logged_once_and_closes(
    app: App, caplog: pytest.LogCaptureFixture, raised: Exception, closed_with: Any, level: int
) -> None:
    @app.websocket("/ws")
    async def handler(request: Any, ws: Any) -> None:
        raise raised

    response, protocol = await serve(app, "/ws")
    assert response is None
    assert protocol.ws.closed_with == closed_with
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("ferrows.error", level)
    assert "websocket /ws from 192.0.2.7" in record.getMessage()
    assert (record.exc_info is not None) == (level == logging.ERROR)


async def test_closure_that_the_handler_lets_through_is_quiet(app: App, caplog: pytest.LogCaptureFixture) -> None:
    @app.websocket("/ws")
    async def handler(request: Any, ws: Any) -> None:
        raise WebsocketClosed(1006)

    response, protocol = await serve(app, "/ws")
    assert (response, protocol.ws.closed_with, caplog.records) == (None, (1000, ""), [])


class Telling(StandInWebsocket):
    """Tells whether it is open, and takes an end that waits for nobody."""

    ended: int | None = None

    def __init__(self, is_open: bool) -> None:
        super().__init__()
        self.open = is_open

    def end_connection(self, code: int) -> None:
        self.ended = code


@pytest.mark.parametrize(
    ("is_open", "raised", "quiet"),
    [
        (False, WebsocketClosed(1006), True),
        (True, WebsocketClosed(1006), False),
        (False, ExceptionGroup("", [WebsocketClosed(), ExceptionGroup("", [WebsocketClosed()])]), True),
        (True, ExceptionGroup("", [WebsocketClosed()]), False),
        (False, ExceptionGroup("", [WebsocketClosed(), RuntimeError()]), False),
    ],
    ids=["own", "another's", "group", "another's-group", "mixed-group"],
)
async def test_closure_is_quiet_only_where_this_connection_has_ended(
    app: App, caplog: pytest.LogCaptureFixture, is_open: bool, raised: Exception, quiet: bool
) -> None:
    signals: list[str] = []
    app.signal("websocket.handler.after")(lambda **context: signals.append("after"))
    app.signal("websocket.handler.exception")(lambda **context: signals.append("exception"))

    @app.websocket("/ws")
    async def handler(request: Any, ws: Any) -> None:
        raise raised

    ws = Telling(is_open)
    await serve(app, "/ws", ws)
    assert ws.closed_with == ((1000, "") if quiet else (1011, "internal error"))
    assert signals == (["after"] if quiet else ["exception"])
    logged = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert logged == ([] if quiet else [raised])
    assert len(caplog.records) == len(logged)


class Panic(BaseException):
    """Stands in for the extension's."""


@pytest.mark.parametrize("raised", [Panic(), BaseExceptionGroup("", [Panic(), WebsocketClosed()])])
async def test_base_exception_is_logged_with_its_traceback_and_ends_with_1011(
    app: App, caplog: pytest.LogCaptureFixture, raised: BaseException
) -> None:
    @app.websocket("/ws")
    async def handler(request: Any, ws: Any) -> None:
        raise raised

    ws = Telling(True)
    response, _ = await serve(app, "/ws", ws)
    assert (response, ws.ended, app.websocket_tasks) == (None, 1011, {})
    [record] = caplog.records
    assert record.exc_info is not None and record.exc_info[1] is raised


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt])
def test_exit_of_a_handler_is_logged_without_traceback_and_passed_on(
    app: App, caplog: pytest.LogCaptureFixture, raised: type[BaseException]
) -> None:
    @app.websocket("/ws")
    async def handler(request: Any, ws: Any) -> None:
        raise raised(3)

    ws = Telling(True)
    coroutine = serve(app, "/ws", ws)
    with pytest.raises(raised):
        asyncio.run(coroutine)
    assert (ws.ended, app.websocket_tasks) == (1011, {})
    [record] = [record for record in caplog.records if record.name == "ferrows.error"]
    assert record.exc_info is None
    assert record.getMessage() == f"handler of websocket /ws from 192.0.2.7 raised {raised(3)!r}"


@pytest.mark.parametrize("stopped", [False, True])
async def test_handler_that_is_cancelled_is_logged_unless_the_server_stops(
    app: App, caplog: pytest.LogCaptureFixture, stopped: bool
) -> None:
    @app.websocket("/ws")
    async def handler(request: Any, ws: Any) -> None:
        await asyncio.Event().wait()

    ws = Telling(True)
    protocol = StandInProtocol(ws)
    protocol.signal = SimpleNamespace(stopped=stopped)  # type: ignore[attr-defined]
    task = asyncio.create_task(answer(app, make_request(app, "/ws", protocol=protocol)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert ws.ended == 1001
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == (
        [] if stopped else [(logging.WARNING, "handler of websocket /ws from 192.0.2.7 was cancelled")]
    )


async def test_own_exception_handlers_do_not_run_after_the_upgrade(app: App) -> None:
    called: list[Exception] = []
    app.exception(Exception)(lambda request, error: called.append(error))

    @app.websocket("/ws")
    async def handler(request: Any, ws: Any) -> None:
        raise Forbidden

    await serve(app, "/ws")
    assert called == []


async def test_awaiting_something_cancelled_is_the_handlers_failure(app: App, caplog: pytest.LogCaptureFixture) -> None:
    @app.websocket("/ws")
    async def handler(request: Any, ws: Any) -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    response, protocol = await serve(app, "/ws")
    assert (response, protocol.ws.closed_with) == (None, (1011, "internal error"))
    assert len(caplog.records) == 1


@pytest.mark.parametrize("upgraded", [False, True])
async def test_cancelled_handler_ends_its_connection_without_waiting(app: App, upgraded: bool) -> None:
    class Ending(StandInWebsocket):
        ended: int | None = None

        def end_connection(self, code: int) -> None:
            self.ended = code

    class Slow(StandInProtocol):
        async def websocket_handshake(self, request: Any, subprotocols: Any = None) -> Any:
            if not upgraded:
                await asyncio.Event().wait()
            return self.ws

    @app.websocket("/ws")
    async def handler(request: Any, ws: Any) -> None:
        await asyncio.Event().wait()

    ws = Ending()
    task = asyncio.create_task(answer(app, make_request(app, "/ws", protocol=Slow(ws))))
    await asyncio.sleep(0)
    assert set(app.websocket_tasks) == {task}
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ws.ended == (1001 if upgraded else None)
    assert app.websocket_tasks == {}


# ---- other implementations of a websocket


class SyncClose:
    closed_with: Any = None

    def close(self, code: int) -> None:
        self.closed_with = code


class BareClose:
    closed = False

    async def close(self) -> None:
        self.closed = True


async def test_foreign_websocket_is_closed_as_its_close_allows(app: App) -> None:
    app.websocket("/ws")(plain)
    sync, bare = SyncClose(), BareClose()
    await serve(app, "/ws", sync)
    await serve(app, "/ws", bare)
    assert (sync.closed_with, bare.closed) == (1000, True)


async def test_foreign_websocket_may_be_closed_by_any_callable(app: App) -> None:
    app.websocket("/ws")(plain)
    closed: list[Any] = []
    await serve(app, "/ws", SimpleNamespace(close=lambda code, reason: closed.append((code, reason))))
    assert closed == [(1000, "")]


async def test_foreign_close_that_does_not_tell_its_parameters_gets_code_and_reason(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    app.websocket("/ws")(plain)
    await serve(app, "/ws", SimpleNamespace(close=slice))
    assert caplog.records == []


async def test_foreign_websocket_without_close_ends_with_its_transport(app: App) -> None:
    app.websocket("/ws")(plain)
    _, protocol = await serve(app, "/ws", object())
    assert protocol.transport.closed


async def test_foreign_websocket_without_end_is_cancelled_with_its_transport(app: App) -> None:
    @app.websocket("/ws")
    async def handler(request: Any, ws: Any) -> None:
        await asyncio.Event().wait()

    protocol = StandInProtocol(object())
    task = asyncio.create_task(answer(app, make_request(app, "/ws", protocol=protocol)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert protocol.transport.closed


async def test_foreign_close_that_fails_is_logged(app: App, caplog: pytest.LogCaptureFixture) -> None:
    def fail(code: int, reason: str) -> None:
        raise RuntimeError("close")

    def closed(code: int, reason: str) -> None:
        raise WebsocketClosed

    app.websocket("/ws")(plain)
    await serve(app, "/ws", SimpleNamespace(close=closed))
    assert caplog.records == []
    await serve(app, "/ws", SimpleNamespace(close=fail))
    assert [record.getMessage() for record in caplog.records] == ["websocket /ws from 192.0.2.7 could not be closed"]


# ---- signals


async def test_signals_surround_the_handler(app: App) -> None:
    order: list[Any] = []

    @app.signal("websocket.handler.before")
    async def before(request: Any, websocket: Any) -> None:
        order.append(("before", websocket))

    @app.signal("websocket.handler.after")
    def after(**context: Any) -> None:
        order.append(("after", context["websocket"]))

    @app.signal("websocket.handler.exception")
    async def failed(exception: Exception, **context: Any) -> None:
        order.append(("exception", type(exception)))

    @app.websocket("/ws/<kind>")
    async def handler(request: Any, ws: Any, kind: str) -> None:
        order.append("handler")
        if kind == "bad":
            raise RuntimeError

    ws = StandInWebsocket()
    await serve(app, "/ws/good", ws)
    await serve(app, "/ws/bad", ws)
    assert order == [("before", ws), "handler", ("after", ws), ("before", ws), "handler", ("exception", RuntimeError)]


async def test_signal_before_that_raises_ends_the_connection(app: App, ask: Ask) -> None:
    @app.signal("websocket.handler.before")
    async def before(**context: Any) -> None:
        raise Forbidden("not you")

    called: list[Any] = []

    @app.websocket("/ws")
    async def handler(request: Any, ws: Any) -> None:
        called.append(ws)

    _, protocol = await serve(app, "/ws")
    assert (protocol.ws.closed_with, called) == ((1008, "not you"), [])


async def test_websocket_route_of_a_blueprint(app: App) -> None:
    blueprint = Blueprint("chat", url_prefix="/chat", version=2)
    seen: list[str] = []

    @blueprint.websocket("<room>", apply=[needs_token])
    async def handler(request: Any, ws: Any, room: str) -> None:
        seen.append(room)

    app.blueprint(blueprint)
    await serve(app, "/v2/chat/r", headers={"x-token": "t"})
    assert seen == ["r"]
    app.config.SERVER_NAME = "example.com"
    assert app.url_for("chat.handler", room="r", _external=True) == "ws://example.com/v2/chat/r"
