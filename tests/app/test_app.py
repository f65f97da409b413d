"""App: what answers a request; requests are made by hand, without a network."""

from __future__ import annotations

import asyncio
import functools
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from ferrows import App, HTTPResponse, json, text
from ferrows.config import Config
from ferrows.exceptions import Forbidden, NotFound, ServerError, Unauthorized
from ferrows.response import ResponseStream

from .harness import Ask, make_request


def body(response: HTTPResponse | None) -> str:
    assert response is not None
    return response.body.decode()


# ---- the app itself


def test_app_needs_a_name() -> None:
    with pytest.raises(ValueError, match="needs a name"):
        App("")


def test_app_is_found_by_its_name_and_the_last_one_of_a_name_counts() -> None:
    first = App("registered")
    assert App.get_app("registered") is first
    second = App("registered")
    assert App.get_app("registered") is second
    assert repr(second) == "<App registered>"


def test_app_that_is_not_there_is_an_error_or_made() -> None:
    with pytest.raises(ServerError, match="no app with the name 'missing'"):
        App.get_app("missing")
    made = App.get_app("missing", force_create=True)
    assert App.get_app("missing") is made


def test_app_without_a_name_is_the_only_one_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(App, "_registry", {})
    with pytest.raises(ServerError, match="there is no app yet"):
        App.get_app()
    only = App("only")
    assert App.get_app() is only
    App("other")
    with pytest.raises(ServerError, match="there are 2 apps, say which: only, other"):
        App.get_app()


def test_configuration_context_and_error_handler_can_be_given() -> None:
    config, ctx = Config(env_prefix=None), SimpleNamespace(db=1)
    app = App("given", config, ctx)
    assert app.config is config
    assert app.ctx.db == 1
    assert App("mapped", {"ACCESS_LOG": False}).config.ACCESS_LOG is False


def test_configuration_is_updated_from_a_class(app: App) -> None:
    class Settings:
        DEBUG = True

    app.update_config(Settings)
    assert app.debug is True
    app.debug = False
    assert app.config.DEBUG is False


def test_loop_before_the_server_is_an_error(app: App) -> None:
    with pytest.raises(ServerError, match="no event loop before its server starts"):
        _ = app.loop


async def test_loop_is_the_running_one(app: App) -> None:
    assert app.loop is asyncio.get_running_loop()


# ---- handlers


async def test_handler_gets_the_request_and_typed_parameters(app: App, ask: Ask) -> None:
    @app.get("/add/<a:int>/<b:int>")
    async def add(request: Any, a: int, b: int) -> HTTPResponse:
        assert request.endpoint == "tested.add"
        assert request.match_info == {"a": 2, "b": 3}
        return json({"sum": a + b, "route": request.name})

    assert body(await ask(app, "/add/2/3")) == '{"sum":5,"route":"tested.add"}'


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "head", "options"])
async def test_there_is_a_decorator_for_each_method(app: App, ask: Ask, method: str) -> None:
    def handler(request: Any) -> HTTPResponse:
        return text(request.method)

    getattr(app, method)("/x")(handler)
    assert body(await ask(app, "/x", method.upper())) == method.upper()


async def test_route_takes_methods_and_a_missing_slash_is_added(app: App, ask: Ask) -> None:
    @app.route("x", methods=["post", "PUT"])
    def handler(request: Any) -> HTTPResponse:
        return text(request.method)

    app.add_route(handler, "/y", methods="PATCH", name="y")
    assert body(await ask(app, "/x", "POST")) == "POST"
    assert body(await ask(app, "/x", "PUT")) == "PUT"
    assert body(await ask(app, "/y", "PATCH")) == "PATCH"


async def test_unknown_path_is_404_and_wrong_method_405_with_allow(app: App, ask: Ask) -> None:
    app.add_route(lambda request: text("x"), "/x")
    missing, wrong = await ask(app, "/y"), await ask(app, "/x", "OPTIONS")
    assert missing is not None and wrong is not None
    assert (missing.status, wrong.status) == (404, 405)
    assert wrong.headers["allow"] == "GET, HEAD"


async def test_path_that_cannot_be_decoded_is_400(app: App, ask: Ask) -> None:
    response = await ask(app, "/%ff")
    assert response is not None
    assert response.status == 400


@pytest.mark.parametrize("result", [None, "text", {"a": 1}])
async def test_what_is_no_response_is_a_500_that_says_so(
    app: App, ask: Ask, caplog: pytest.LogCaptureFixture, result: Any
) -> None:
    @app.get("/")
    async def index(request: Any) -> Any:
        return result

    response = await ask(app, "/")
    assert response is not None
    assert response.status == 500
    assert f"returned {type(result).__name__}, permitted: an HTTPResponse" in body(response)
    assert len(caplog.records) == 1


async def test_streamed_response_leaves_nothing_to_return(app: App) -> None:
    @app.get("/")
    async def index(request: Any) -> None:
        request.responded = True

    @app.on_response
    def never(request: Any, response: Any) -> None:
        raise AssertionError("the head is out")

    assert await app.handle_request(make_request(app, "/")) is None


async def test_response_middleware_runs_before_the_head_of_a_streamed_response_leaves(app: App) -> None:
    @app.get("/")
    async def index(request: Any) -> None:
        await request.respond(content_type="text/plain")

    @app.on_response
    def mark(request: Any, response: HTTPResponse) -> None:
        response.headers["x-marked"] = "yes"

    begun: list[HTTPResponse] = []
    request = make_request(app, "/")
    request.protocol.begin_response = lambda request, response: begun.append(response)
    assert await app.handle_request(request) is None
    assert [response.headers.get("x-marked") for response in begun] == ["yes"]


async def test_error_in_a_streamed_response_is_the_protocols_to_end(app: App) -> None:
    @app.get("/")
    async def index(request: Any) -> None:
        request.responded = True
        raise RuntimeError("cut")

    with pytest.raises(RuntimeError, match="cut"):
        await app.handle_request(make_request(app, "/"))


async def test_stream_object_is_returned_for_the_protocol_to_run(app: App, ask: Ask) -> None:
    async def write(response: Any) -> None: ...

    stream = ResponseStream(write)
    app.add_route(lambda request: stream, "/")
    assert await ask(app, "/") is stream


async def test_cancelled_handler_stays_cancelled(app: App, ask: Ask) -> None:
    @app.get("/")
    async def index(request: Any) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await ask(app, "/")


# ---- registration


def test_handler_must_take_the_request(app: App) -> None:
    with pytest.raises(ValueError, match="'<lambda>' of '/' must take the request"):
        app.get("/")(lambda: None)


def test_handler_must_be_callable(app: App) -> None:
    with pytest.raises(ValueError, match="must be callable"):
        app.add_route(3, "/")  # type: ignore[arg-type]


def test_route_needs_a_method(app: App) -> None:
    with pytest.raises(ValueError, match="at least one method"):
        app.route("/", methods=[])(lambda request: None)


def test_conflict_is_an_error_at_registration(app: App) -> None:
    app.add_route(lambda request: None, "/x")
    with pytest.raises(ValueError, match="conflicts with /x"):
        app.add_route(lambda request: None, "/x/")


@pytest.mark.parametrize(
    ("add", "methods"),
    [
        (lambda app: None, "OPTIONS"),
        (lambda app: app.add_websocket_route(lambda request, ws: None, "/ws"), "GET, OPTIONS"),
        (lambda app: app.add_route(lambda request: None, "/x", ["GET", "PATCH"]), "GET, HEAD, OPTIONS, PATCH"),
    ],
)
async def test_options_of_the_server_are_all_methods_of_its_paths(app: App, ask: Ask, add: Any, methods: str) -> None:
    add(app)
    response = await ask(app, "*", "OPTIONS")
    assert response is not None
    assert (response.status, response.headers["Allow"], response.body) == (204, methods, b"")


def test_error_format_must_be_one_that_there_is(app: App) -> None:
    with pytest.raises(ValueError, match=r"error_format of '/' must be one of auto, text, json, html, not 'xml'"):
        app.get("/", error_format="xml")(lambda request: None)


async def test_version_stands_before_the_path(app: App, ask: Ask) -> None:
    for version, prefix in ((1, "/v"), ("v2", "/v"), (1.1, "api/v"), ("3", "/api/")):
        app.add_route(
            lambda request: text(request.path), "/x", version=version, version_prefix=prefix, name=str(version)
        )
    paths = ["/v1/x", "/v2/x", "/api/v1.1/x", "/api/3/x"]
    assert [body(await ask(app, path)) for path in paths] == paths


async def test_host_limits_a_route(app: App, ask: Ask) -> None:
    app.add_route(lambda request: text("own"), "/", host="own.example", name="own")
    app.add_route(lambda request: text("all"), "/", name="all")
    assert body(await ask(app, "/", headers={"host": "own.example"})) == "own"
    assert body(await ask(app, "/")) == "all"


async def test_strict_slashes_of_the_app_hold_unless_the_route_says_otherwise(ask: Ask) -> None:
    app = App("strict", strict_slashes=True)
    app.add_route(lambda request: text("a"), "/a")
    app.add_route(lambda request: text("b"), "/b", strict_slashes=False, name="b")
    responses = [await ask(app, "/a/"), await ask(app, "/b/")]
    assert [response.status for response in responses if response] == [404, 200]


def test_context_of_a_route_is_given_by_keywords(app: App) -> None:
    app.add_route(lambda request: None, "/x", ctx_role="admin", plain=1)
    route = app.routes[0]
    assert (route.ctx.role, route.ctx.plain) == ("admin", 1)


async def test_apply_false_registers_nothing(app: App, ask: Ask) -> None:
    @app.get("/", apply=False)
    def index(request: Any) -> None: ...

    app.websocket("/ws", apply=False)(lambda request, ws: None)
    app.middleware(lambda request: text("m"), apply=False)
    app.exception(NotFound, apply=False)(lambda request, error: text("e"))
    app.signal("a.b.c", apply=False)(lambda: None)
    app.listener("before_server_start", apply=False)(lambda app: None)
    assert app.routes == []
    assert (await ask(app, "/")).status == 404  # type: ignore[union-attr]
    assert "a.b.c" not in app.signal_router


async def test_apply_wraps_the_handler_the_first_decorator_outermost(app: App, ask: Ask) -> None:
    def mark(name: str) -> Any:
        def decorate(handler: Any) -> Any:
            @functools.wraps(handler)
            async def wrapped(request: Any, *args: Any, **kwargs: Any) -> HTTPResponse:
                response: HTTPResponse = await handler(request, *args, **kwargs)
                response.body = name.encode() + response.body
                return response

            return wrapped

        return decorate

    @app.get("/", apply=[mark("a"), mark("b")])
    async def index(request: Any) -> HTTPResponse:
        return text("c")

    @app.get("/one", apply=mark("a"))
    async def one(request: Any) -> HTTPResponse:
        return text("c")

    assert body(await ask(app, "/")) == "abc"
    assert body(await ask(app, "/one")) == "ac"
    assert body(await index(None)) == "c"


def test_apply_of_another_kind_is_a_type_error(app: App) -> None:
    with pytest.raises(TypeError, match="apply must be"):
        app.get("/", apply=["x"])(lambda request: None)


# ---- middleware


async def test_middleware_runs_outside_in_and_back(app: App, ask: Ask) -> None:
    order: list[str] = []

    def note(name: str) -> Any:
        return lambda *args: order.append(name)

    app.middleware(note("q1"))
    app.middleware("request")(note("q2"))
    app.on_request(note("q0"), priority=1)
    app.on_request(priority=-1)(note("q3"))
    app.middleware(note("s1"), "response")
    app.on_response(note("s2"))
    app.on_response(priority=1)(note("s0"))
    app.register_middleware(note("s3"), "response", priority=-1)

    @app.get("/")
    def index(request: Any) -> HTTPResponse:
        order.append("handler")
        return text("x")

    await ask(app, "/")
    assert order == ["q0", "q1", "q2", "q3", "handler", "s3", "s2", "s1", "s0"]


async def test_request_middleware_answers_instead_of_the_handler(app: App, ask: Ask) -> None:
    @app.on_request
    async def refuse(request: Any) -> HTTPResponse | None:
        return text("no", 401) if "x-token" not in request.headers else None

    @app.on_request
    def never(request: Any) -> None:
        assert "x-token" in request.headers

    @app.on_response
    async def mark(request: Any, response: HTTPResponse) -> None:
        response.headers["x-marked"] = "1"

    app.add_route(lambda request: text("yes"), "/")
    refused, let_in = await ask(app, "/"), await ask(app, "/", headers={"x-token": "t"})
    assert refused is not None and let_in is not None
    assert (refused.status, refused.headers["x-marked"]) == (401, "1")
    assert (let_in.status, let_in.headers["x-marked"]) == (200, "1")


async def test_request_middleware_that_raises_gives_its_status(app: App, ask: Ask) -> None:
    @app.on_request
    def refuse(request: Any) -> None:
        raise Unauthorized("who are you?", scheme="Bearer")

    app.add_route(lambda request: text("yes"), "/")
    response = await ask(app, "/")
    assert response is not None
    assert (response.status, response.headers["www-authenticate"]) == (401, "Bearer")


async def test_request_middleware_may_answer_what_no_route_does(app: App, ask: Ask) -> None:
    @app.on_request
    def preflight(request: Any) -> HTTPResponse | None:
        return text("", 204) if request.method == "OPTIONS" else None

    app.add_route(lambda request: text("x"), "/x")
    assert (await ask(app, "/x", "OPTIONS")).status == 204  # type: ignore[union-attr]
    assert (await ask(app, "/y")).status == 404  # type: ignore[union-attr]


async def test_response_middleware_may_put_another_response_in_place(app: App, ask: Ask) -> None:
    app.add_route(lambda request: text("x"), "/")
    app.on_response(lambda request, response: text("y", 202))
    response = await ask(app, "/")
    assert response is not None
    assert (response.status, response.body) == (202, b"y")


@pytest.mark.parametrize("attach_to", ["request", "response"])
async def test_middleware_that_returns_something_else_is_a_500(app: App, ask: Ask, attach_to: str) -> None:
    app.add_route(lambda request: text("x"), "/")
    app.middleware(lambda *args: "text", attach_to)
    response = await ask(app, "/")
    assert response is not None
    assert response.status == 500
    assert "returned str" in body(response)


async def test_response_middleware_that_raises_is_handled_once(
    app: App, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    @app.on_response
    def fail(request: Any, response: Any) -> None:
        raise RuntimeError("late")

    app.add_route(lambda request: text("x"), "/")
    assert (await ask(app, "/")).status == 500  # type: ignore[union-attr]
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_middleware_attaches_to_request_or_response(app: App) -> None:
    with pytest.raises(ValueError, match="not to 'both'"):
        app.middleware(lambda request: None, "both")


# ---- exceptions


async def test_exception_handler_of_the_most_specific_class_answers(app: App, ask: Ask) -> None:
    @app.exception(LookupError, [ArithmeticError])
    async def general(request: Any, error: Exception) -> HTTPResponse:
        return text(f"general {type(error).__name__}", 418)

    @app.exception(KeyError)
    def special(request: Any, error: Exception) -> HTTPResponse:
        return text("special", 419)

    @app.get("/<kind>")
    async def fail(request: Any, kind: str) -> None:
        raise {"key": KeyError, "index": IndexError, "zero": ZeroDivisionError}[kind]("x")

    answers = [body(await ask(app, path)) for path in ("/key", "/index", "/zero")]
    assert answers == ["special", "general IndexError", "general ZeroDivisionError"]


async def test_exception_handler_sees_what_the_router_raises(app: App, ask: Ask) -> None:
    app.exception(NotFound)(lambda request, error: text("own page", 404))
    assert body(await ask(app, "/nowhere")) == "own page"


async def test_exception_handler_that_returns_nothing_leaves_the_default(app: App, ask: Ask) -> None:
    app.exception(NotFound)(lambda request, error: None)
    assert (await ask(app, "/nowhere")).status == 404  # type: ignore[union-attr]


async def test_exception_handler_may_raise_another_status(app: App, ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    @app.exception(NotFound)
    def hide(request: Any, error: Exception) -> None:
        raise Forbidden("hidden")

    assert (await ask(app, "/nowhere")).status == 403  # type: ignore[union-attr]
    assert caplog.records == []


@pytest.mark.parametrize("result", [RuntimeError("broken"), "text"])
async def test_exception_handler_that_fails_is_a_plain_500_and_logged(
    app: App, ask: Ask, caplog: pytest.LogCaptureFixture, result: Any
) -> None:
    @app.exception(NotFound)
    def fail(request: Any, error: Exception) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    response = await ask(app, "/nowhere")
    assert response is not None
    assert response.status == 500
    assert len(caplog.records) == 1


@pytest.mark.parametrize("given", [(), (3,), ([],), (int,)])
def test_exception_takes_classes_of_exceptions(app: App, given: Any) -> None:
    with pytest.raises(ValueError, match="exception classes"):
        app.exception(*given)


def test_two_handlers_of_one_class_are_an_error(app: App) -> None:
    app.exception(KeyError)(lambda request, error: None)
    with pytest.raises(ValueError, match="handler for KeyError already"):
        app.exception(KeyError)(lambda request, error: None)


async def test_handlers_exception_is_logged_once_with_its_traceback(
    app: App, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    @app.get("/boom")
    async def boom(request: Any) -> None:
        raise RuntimeError("inside")

    response = await ask(app, "/boom")
    assert response is not None
    assert response.status == 500
    assert "inside" not in body(response)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("ferrows.error", logging.ERROR)
    assert record.getMessage() == "GET /boom from 192.0.2.7 failed"
    assert record.exc_info is not None and isinstance(record.exc_info[1], RuntimeError)


async def test_quiet_exceptions_are_not_logged(app: App, ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    @app.get("/")
    async def refuse(request: Any) -> None:
        raise ServerError("known", quiet=True)

    assert (await ask(app, "/")).status == 500  # type: ignore[union-attr]
    assert (await ask(app, "/nowhere")).status == 404  # type: ignore[union-attr]
    assert caplog.records == []


# ---- listeners


async def test_listeners_of_a_start_run_in_order_and_those_of_a_stop_in_reverse(app: App) -> None:
    order: list[str] = []

    @app.before_server_start
    async def one(app: App) -> None:
        order.append("start 1")

    @app.listener("before_server_start")
    def two(app: App, loop: Any) -> None:
        assert loop is asyncio.get_running_loop()
        order.append("start 2")

    @app.before_server_start(priority=1)
    def zero(app: App) -> None:
        order.append("start 0")

    app.register_listener(lambda app: order.append("stop 1"), "after_server_stop")
    app.listener(lambda app: order.append("stop 2"), "after_server_stop")
    app.after_server_stop(lambda app: order.append("stop 0"), priority=1)

    await app.trigger_listeners("before_server_start")
    await app.trigger_listeners("after_server_stop")
    assert order == ["start 0", "start 1", "start 2", "stop 0", "stop 2", "stop 1"]


@pytest.mark.parametrize(
    "event",
    [
        "main_process_start",
        "main_process_stop",
        "before_server_start",
        "after_server_start",
        "before_server_stop",
        "after_server_stop",
    ],
)
async def test_there_is_a_decorator_for_each_event(app: App, event: str) -> None:
    called: list[App] = []
    getattr(app, event)(called.append)
    getattr(app, event)()(called.append)
    await app.trigger_listeners(event)
    assert called == [app, app]


async def test_failing_listener_ends_a_start_but_not_a_stop(app: App, caplog: pytest.LogCaptureFixture) -> None:
    called: list[str] = []

    def fail(app: App) -> None:
        raise RuntimeError("listener")

    app.before_server_start(fail)
    app.before_server_stop(lambda app: called.append("still"))
    app.before_server_stop(fail)
    with pytest.raises(RuntimeError, match="listener"):
        await app.trigger_listeners("before_server_start")
    await app.trigger_listeners("before_server_stop")
    assert called == ["still"]
    assert len(caplog.records) == 1


def test_unknown_event_is_an_error(app: App) -> None:
    with pytest.raises(ValueError, match="'start' is unknown, permitted: main_process_start"):
        app.listener("start")(lambda app: None)
    with pytest.raises(ValueError, match="takes the event"):
        app.listener(lambda app: None)  # type: ignore[call-overload]


# ---- URLs


def test_url_for_a_route_with_query_and_anchor(app: App) -> None:
    app.add_route(lambda request, n: None, "/x/<n:int>", name="view")
    assert app.url_for("view", n=3) == "/x/3"
    assert app.url_for("tested.view", n=3, q=["a b", "c"], none=None, _anchor="top é") == (
        "/x/3?q=a+b&q=c#top%20%C3%A9"
    )


def test_url_for_chooses_by_method(app: App) -> None:
    def view(request: Any) -> None: ...

    app.add_route(view, "/get")
    app.add_route(view, "/post", methods=["POST"])
    assert app.url_for("view", _method="post") == "/post"
    assert app.url_for("view") == "/get"


@pytest.mark.parametrize(
    ("server_name", "options", "expected"),
    [
        ("example.com", {}, ("http://example.com/page", "ws://example.com/ws")),
        ("https://example.com/", {}, ("https://example.com/page", "wss://example.com/ws")),
        ("example.com:8000", {"_scheme": "wss"}, ("wss://example.com:8000/page", "wss://example.com:8000/ws")),
        ("", {"_host": "other.example"}, ("http://other.example/page", "ws://other.example/ws")),
        ("https://example.com", {"_server": "other"}, ("https://other/page", "wss://other/ws")),
    ],
)
def test_url_for_elsewhere(app: App, server_name: str, options: Any, expected: tuple[str, str]) -> None:
    app.config.SERVER_NAME = server_name
    app.add_route(lambda request: None, "/page", name="page")
    app.add_websocket_route(lambda request, ws: None, "/ws", name="ws")
    assert (app.url_for("page", _external=True, **options), app.url_for("ws", _external=True, **options)) == expected


def test_url_for_elsewhere_is_at_the_routes_own_host(app: App) -> None:
    app.add_route(lambda request: None, "/", host=["*.example", "own.example"], name="page")
    assert app.url_for("page", _external=True) == "http://own.example/"


def test_url_for_says_what_it_lacks(app: App) -> None:
    app.add_route(lambda request: None, "/", name="page")
    with pytest.raises(ServerError, match="no route with the name 'missing'"):
        app.url_for("missing")
    with pytest.raises(ServerError, match="SERVER_NAME"):
        app.url_for("page", _external=True)
    with pytest.raises(ValueError, match="_scheme needs _external"):
        app.url_for("page", _scheme="https")


# ---- tasks


async def test_task_begins_at_once_on_a_running_loop_and_is_cancelled(app: App) -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    task = app.add_task(forever(), name="forever")
    assert task is not None
    assert app.get_task("forever") is task
    assert app.tasks == [task]
    with pytest.raises(ValueError, match="'forever' is there already"):
        app.add_task(forever, name="forever")
    await app.cancel_task("forever")
    assert task.cancelled()
    assert (app.tasks, app.get_task("forever")) == ([], None)
    with pytest.raises(ServerError, match="no task with the name 'forever'"):
        await app.cancel_task("forever")


def test_task_before_the_loop_is_kept(app: App) -> None:
    done: list[Any] = []

    async def with_app(given: App) -> None:
        done.append(given)

    async def without() -> None:
        done.append("without")

    async def coroutine() -> None:
        done.append("coroutine")

    assert app.add_task(with_app) is None
    assert app.add_task(without, name="named") is None
    assert app.add_task(coroutine()) is None
    with pytest.raises(ValueError, match="'named' is there already"):
        app.add_task(without, name="named")

    async def main() -> None:
        app.start_tasks()
        await asyncio.gather(*app.tasks)

    asyncio.run(main())
    assert done == [app, "without", "coroutine"]


async def test_what_a_task_raises_is_logged(app: App, caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise RuntimeError("background")

    task = app.add_task(fail, name="failing")
    assert task is not None
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records] == ["task failing failed"]


async def test_task_must_be_a_coroutine_or_make_one(app: App) -> None:
    with pytest.raises(ServerError, match="must be a coroutine"):
        app.add_task(lambda: 3)


async def test_task_of_a_builtin_that_does_not_tell_its_parameters_gets_the_app(app: App) -> None:
    with pytest.raises(TypeError, match="'App' object is not iterable"):
        app.add_task(max)


async def test_shutdown_of_tasks_spares_the_one_that_asks(app: App) -> None:
    async def stop() -> str:
        await app.shutdown_tasks()
        return "went on"

    other = app.add_task(asyncio.Event().wait)
    own = app.add_task(stop)
    assert own is not None and other is not None
    assert await own == "went on"
    assert other.cancelled()
