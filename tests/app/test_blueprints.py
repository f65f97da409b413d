"""Blueprints and groups: what prefixes they add and whose middleware runs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ferrows import App, Blueprint, HTTPResponse, text
from ferrows.exceptions import ServerError

from .harness import Ask


def body(response: HTTPResponse | None) -> str:
    assert response is not None
    return f"{response.status} {response.body.decode()}"


def shown(request: Any) -> HTTPResponse:
    return text(request.route.path)


def numbered(request: Any, n: int) -> HTTPResponse:
    return text(str(n))


def paths(app: App) -> list[str]:
    return [route.path for route in app.routes]


async def test_prefix_version_and_name_of_a_blueprint(app: App, ask: Ask) -> None:
    blueprint = Blueprint("api", url_prefix="api/", version=1)
    blueprint.add_route(numbered, "/things/<n:int>", name="things", version=None)
    blueprint.add_route(shown, "/new", name="new", version=2)
    app.blueprint(blueprint)
    assert paths(app) == ["/v1/api/things/<n:int>", "/v2/api/new"]
    assert app.url_for("api.things", n=1) == "/v1/api/things/1"
    assert app.routes[0].name == "tested.api.things"
    assert app.blueprints == {"api": blueprint}
    assert repr(blueprint) == "<Blueprint api api/>"


def test_prefix_given_at_registration_replaces_the_own_one(app: App) -> None:
    blueprint = Blueprint("b", url_prefix="/own")
    blueprint.add_route(shown, "/x")
    app.blueprint(blueprint, url_prefix="/given", version=3, version_prefix="/api/v", name_prefix="p")
    assert paths(app) == ["/api/v3/given/x"]
    assert app.url_for("p_b.shown") == "/api/v3/given/x"


async def test_host_and_strictness_of_a_blueprint(app: App, ask: Ask) -> None:
    blueprint = Blueprint("b", host="own.example", strict_slashes=True)
    blueprint.add_route(shown, "/x")
    blueprint.add_route(shown, "/y", strict_slashes=False, host="other.example", name="y")
    app.blueprint(blueprint)
    answers = [
        body(await ask(app, path, headers={"host": host}))[:3]
        for path, host in [
            ("/x", "own.example"),
            ("/x/", "own.example"),
            ("/x", "example.com"),
            ("/y/", "other.example"),
            ("/y", "own.example"),
        ]
    ]
    assert answers == ["200", "404", "404", "200", "404"]


async def test_groups_nest_their_prefixes(app: App) -> None:
    a, b, c = Blueprint("a", url_prefix="/a"), Blueprint("b", version=9), Blueprint("c", url_prefix="/c")
    for blueprint in (a, b, c):
        blueprint.add_route(shown, "/x")
    inner = Blueprint.group(a, b, url_prefix="/inner", name_prefix="in", strict_slashes=True)
    outer = Blueprint.group([inner], c, url_prefix="outer", version=1, version_prefix="/r", name_prefix="out")
    assert (len(outer), outer[0], list(inner), outer.blueprints) == (2, inner, [a, b], [inner, c])
    app.blueprint(outer, url_prefix="/root")
    assert paths(app) == ["/r1/root/outer/inner/a/x", "/r9/root/outer/inner/x", "/r1/root/outer/c/x"]
    assert [route.name for route in app.routes] == [
        "tested.out_in_a.shown",
        "tested.out_in_b.shown",
        "tested.out_c.shown",
    ]
    assert [route.strict for route in app.routes] == [True, True, False]


async def test_middleware_of_a_blueprint_is_for_its_own_routes_and_inside_the_apps(app: App, ask: Ask) -> None:
    order: list[str] = []

    def note(name: str) -> Any:
        return lambda *args: order.append(name)

    blueprint = Blueprint("b", url_prefix="/b")
    blueprint.on_request(note("blueprint request"))
    blueprint.on_response(note("blueprint response"))
    blueprint.add_route(shown, "/")
    app.blueprint(blueprint)
    app.add_route(shown, "/", name="own")
    app.on_request(note("app request"))
    app.on_response(note("app response"))
    await ask(app, "/b")
    assert order == ["app request", "blueprint request", "blueprint response", "app response"]
    order.clear()
    await ask(app, "/")
    await ask(app, "/nowhere")
    assert order == ["app request", "app response"] * 2


async def test_exception_handler_of_a_blueprint_is_for_its_own_routes(app: App, ask: Ask) -> None:
    blueprint = Blueprint("b", url_prefix="/b")

    async def fail(request: Any) -> None:
        raise KeyError("x")

    blueprint.add_route(fail, "/")
    blueprint.exception(LookupError)(lambda request, error: text("blueprint", 418))
    app.add_route(fail, "/", name="own")
    app.exception(KeyError)(lambda request, error: text("app", 419))
    app.blueprint(blueprint)
    assert body(await ask(app, "/b")) == "418 blueprint"
    assert body(await ask(app, "/")) == "419 app"


async def test_middleware_and_exceptions_of_a_group_hold_for_all_of_it(app: App, ask: Ask) -> None:
    a, b = Blueprint("a", url_prefix="/a"), Blueprint("b", url_prefix="/b")
    for blueprint in (a, b):

        async def fail(request: Any) -> None:
            raise KeyError("x")

        blueprint.add_route(fail, "/")
    group = Blueprint.group(Blueprint.group(a), b)
    order: list[str] = []
    group.middleware(lambda request: order.append("middleware"))
    group.middleware("response")(lambda request, response: order.append("response"))
    group.on_request(lambda request: order.append("on_request"))
    group.on_request()(lambda request: order.append("on_request()"))
    group.on_response(lambda request, response: order.append("on_response"))
    group.on_response(priority=1)(lambda request, response: order.append("on_response()"))
    group.exception(KeyError)(lambda request, error: text("group", 418))
    app.blueprint([group])
    for path in ("/a", "/b"):
        assert body(await ask(app, path)) == "418 group"
        assert order == ["middleware", "on_request", "on_request()", "on_response", "response", "on_response()"]
        order.clear()


async def test_listeners_and_static_files_of_a_blueprint(app: App, ask: Ask, tmp_path: Any) -> None:
    (tmp_path / "a.txt").write_text("content")
    called: list[App] = []
    blueprint = Blueprint("b", url_prefix="/b")
    blueprint.before_server_start(called.append)
    blueprint.static("/files", tmp_path)
    app.blueprint(blueprint)
    await app.trigger_listeners("before_server_start")
    assert called == [app]
    assert body(await ask(app, "/b/files/a.txt")) == "200 content"
    assert app.url_for("b.static", filename="a.txt") == "/b/files/a.txt"


async def test_signals_of_a_blueprint(app: App) -> None:
    blueprint = Blueprint("b")
    order: list[str] = []
    blueprint.signal("a.b.c")(lambda **context: order.append("blueprint"))
    app.signal("a.b.c")(lambda **context: order.append("app"))
    with pytest.raises(ServerError, match="'b' is not registered"):
        await blueprint.event("a.b.c")
    app.blueprint(blueprint)
    waiting = asyncio.create_task(blueprint.event("a.b.c", timeout=5))
    await asyncio.sleep(0)
    await blueprint.dispatch("a.b.c", inline=True)
    assert order == ["blueprint"]
    await app.dispatch("a.b.c", inline=True)
    assert sorted(order) == ["app", "blueprint", "blueprint"]
    assert await waiting == {}


def test_blueprint_is_registered_once_by_its_name(app: App) -> None:
    app.blueprint(Blueprint("b"))
    with pytest.raises(ValueError, match="name 'b' is registered already"):
        app.blueprint(Blueprint("b"))


def test_registered_blueprint_takes_nothing_more(app: App) -> None:
    blueprint = Blueprint("b")
    app.blueprint(blueprint)
    with pytest.raises(ServerError, match="nothing can be added"):
        blueprint.add_route(shown, "/")


@pytest.mark.parametrize("name", ["", "a.b"])
def test_blueprint_needs_a_name_without_a_dot(name: str) -> None:
    with pytest.raises(ValueError, match="blueprint name"):
        Blueprint(name)
