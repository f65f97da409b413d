"""Routing: which route a path reaches, with which parameters."""

from __future__ import annotations

import contextlib
import time
from datetime import date
from typing import Any
from uuid import UUID

import pytest

from ferrows.exceptions import BadRequest, MethodNotAllowed, NotFound, ServerError
from ferrows.routing import Route, Router


def handler() -> None: ...


def route(path: str, *methods: str, name: str | None = None, **options: Any) -> Route:
    return Route(path, name or path, handler, frozenset(methods or ("GET",)), **options)


def router(*routes: Route) -> Router:
    made = Router()
    for each in routes:
        made.add(each)
    return made


def found(made: Router, path: str, method: str = "GET", host: str = "") -> tuple[str, dict[str, Any]]:
    reached, values = made.resolve(path, method, host)
    return reached.path, values


UUID_TEXT = "123e4567-e89b-12d3-a456-426614174000"


@pytest.mark.parametrize(
    ("pattern", "path", "values"),
    [
        ("/", "/", {}),
        ("/a", "/a", {}),
        ("/héllo wörld", "/h%C3%A9llo%20w%C3%B6rld", {}),
        ("/a%20b", "/a%20b", {}),
        ("/<x>", "/one", {"x": "one"}),
        ("/<x>", "/%E2%82%AC", {"x": "€"}),
        ("/<x>", "/a%2Fb", {"x": "a/b"}),
        ("/<x>", "/a%252Fb", {"x": "a%2Fb"}),
        ("/<x>", "/+", {"x": "+"}),
        ("/<x:str>", "/a.b-c", {"x": "a.b-c"}),
        ("/<n:int>", "/-12", {"n": -12}),
        ("/<n:int>", "/0012", {"n": 12}),
        ("/<x:float>", "/1.5", {"x": 1.5}),
        ("/<x:float>", "/-.5", {"x": -0.5}),
        ("/<x:float>", "/3", {"x": 3.0}),
        ("/<u:uuid>", f"/{UUID_TEXT}", {"u": UUID(UUID_TEXT)}),
        ("/<u:uuid>", f"/{UUID_TEXT.upper()}", {"u": UUID(UUID_TEXT)}),
        ("/<d:ymd>", "/2024-02-29", {"d": date(2024, 2, 29)}),
        ("/<s:slug>", "/a-1-b", {"s": "a-1-b"}),
        ("/<a:alpha>", "/aZ", {"a": "aZ"}),
        ("/<p:path>", "/a/b/c.txt", {"p": "a/b/c.txt"}),
        ("/<p:path>", "/a/", {"p": "a/"}),
        ("/f/<p:path>/end", "/f/a/b/end", {"p": "a/b"}),
        ("/<x:[a-z]{3}>", "/abc", {"x": "abc"}),
        ("/<x:^[a-z]{3}$>", "/abc", {"x": "abc"}),
        ("/<x:(?:a|ab)>/<n:int>", "/ab/1", {"x": "ab", "n": 1}),
        (r"/<f:(?P<f>[a-z]+)\.txt>", "/note.txt", {"f": "note"}),
        (r"/<f:(?P<stem>[a-z]+)(?<!x)\.(?P=stem)>", "/a.a", {"f": "a.a"}),
        ("/<x:a/b|c>", "/a/b", {"x": "a/b"}),
        ("/<x:(?P<x>a)?b>", "/b", {"x": ""}),
        ("/<x:.+>/tail", "/a/b/tail", {"x": "a/b"}),
        ("/<name>.<ext>", "/a.b.c", {"name": "a.b", "ext": "c"}),
        ("/v<n:int>/x", "/v3/x", {"n": 3}),
        ("/a/<x>/b/<y:int>", "/a/q/b/7", {"x": "q", "y": 7}),
    ],
)
def test_path_reaches_its_route(pattern: str, path: str, values: dict[str, Any]) -> None:
    reached = found(router(route(pattern)), path)
    assert reached == (pattern, values)
    assert [type(value) for value in reached[1].values()] == [type(value) for value in values.values()]


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/", "//"),
        ("/", "*"),
        ("/a", "/A"),
        ("/a", "/a/b"),
        ("/a", "//a"),
        ("/<x>", "/"),
        ("/<x>", "/a/b"),
        ("/<x>/b", "//b"),
        ("/<n:int>", "/1.5"),
        ("/<n:int>", "/\u0663"),
        ("/<n:int>", "/" + "9" * 5000),
        ("/<x:float>", "/."),
        ("/<u:uuid>", "/123"),
        ("/<d:ymd>", "/2023-02-29"),
        ("/<s:slug>", "/a--b"),
        ("/<s:slug>", "/A"),
        ("/<a:alpha>", "/a1"),
        ("/f/<p:path>", "/f/"),
        ("/<x:[a-z]{3}>", "/abcd"),
        ("/<x:[a-z]{3}>", "/ab"),
        ("/<x:[a-z]{3}>", "/abc%0A"),
        ("/<x:a.c>/y", "/abc/z"),
        ("/<name>.<ext>", "/a"),
    ],
)
def test_path_that_does_not_fit_is_not_found(pattern: str, path: str) -> None:
    with pytest.raises(NotFound, match="not found"):
        router(route(pattern)).resolve(path, "GET")


@pytest.mark.parametrize("path", ["/%", "/%2", "/%zz", "/a%2Fb%", "/%ff", "/%ED%A0%80"])
def test_path_that_cannot_be_decoded_is_a_bad_request(path: str) -> None:
    with pytest.raises(BadRequest, match="percent"):
        router(route("/<x>")).resolve(path, "GET")


def test_the_more_specific_route_wins_whatever_the_order_of_registration() -> None:
    patterns = [
        "/<p:path>",
        "/<s>",
        "/<s:slug>",
        "/<s:alpha>",
        "/<a>-<b>",
        "/<r:[a-c]+>",
        "/<f:float>",
        "/<n:int>",
        "/lit",
    ]
    expected = {
        "/lit": "/lit",
        "/12": "/<n:int>",
        "/1.5": "/<f:float>",
        "/abc": "/<r:[a-c]+>",
        "/x-y": "/<a>-<b>",
        "/Zeta": "/<s:alpha>",
        "/z9": "/<s:slug>",
        "/z_9": "/<s>",
        "/a/b": "/<p:path>",
    }
    for order in (patterns, patterns[::-1]):
        made = router(*(route(pattern) for pattern in order))
        assert {path: found(made, path)[0] for path in expected} == expected


def test_search_goes_back_where_the_specific_branch_leads_nowhere() -> None:
    made = router(route("/a/x"), route("/<s>/y"), route("/<n:int>/z"), route("/<p:path>/q", name="deep"))
    assert found(made, "/a/y") == ("/<s>/y", {"s": "a"})
    assert found(made, "/1/y") == ("/<s>/y", {"s": "1"})
    assert found(made, "/a/b/q") == ("/<p:path>/q", {"p": "a/b"})


def test_many_routes_do_not_make_a_lookup_explode() -> None:
    depth = 12
    made = router(
        *(route("/" + "/".join(f"<{kind[0]}{level}:{kind}>" for level in range(depth))) for kind in ("str", "int")),
        route("/" + "/".join(f"<s{level}:str>" for level in range(depth - 1)) + "/<n:int>"),
    )
    with pytest.raises(NotFound):
        made.resolve("/1" * depth + "/more", "GET")
    assert found(made, "/1" * depth)[1]["i0"] == 1


# ---- methods


def test_wrong_method_is_405_with_allow() -> None:
    made = router(route("/a", "GET"), route("/a", "POST", "PUT", name="write"))
    with pytest.raises(MethodNotAllowed) as raised:
        made.resolve("/a", "DELETE")
    assert raised.value.headers["Allow"] == "GET, HEAD, POST, PUT"


def test_head_is_answered_by_get_unless_it_has_its_own_route() -> None:
    made = router(route("/a"), route("/b"), route("/b", "HEAD", name="own"), route("/<p:path>/c"))
    assert made.resolve("/a", "HEAD")[0].name == "/a"
    assert made.resolve("/b", "HEAD")[0].name == "own"
    assert made.resolve("/x/c", "HEAD")[0].name == "/<p:path>/c"


def test_websocket_route_answers_get_only() -> None:
    made = router(route("/ws", websocket=True))
    assert made.resolve("/ws", "GET")[0].websocket
    for method in ("HEAD", "POST", "OPTIONS"):
        with pytest.raises(MethodNotAllowed) as raised:
            made.resolve("/ws", method)
        assert raised.value.headers["Allow"] == "GET"


def test_another_route_that_fits_and_has_the_method_is_found() -> None:
    made = router(route("/a/b"), route("/a/<n:int>", "PUT"), route("/a/<x>", "POST"))
    assert found(made, "/a/b", "POST") == ("/a/<x>", {"x": "b"})
    assert found(made, "/a/1", "POST") == ("/a/<x>", {"x": "1"})
    with pytest.raises(MethodNotAllowed) as raised:
        made.resolve("/a/1", "GET")
    assert raised.value.headers["Allow"] == "POST, PUT"


def test_method_has_its_own_parameter_names() -> None:
    made = router(route("/a/<x>", "GET"), route("/a/<y>", "POST"))
    assert found(made, "/a/1")[1] == {"x": "1"}
    assert found(made, "/a/1", "POST")[1] == {"y": "1"}


# ---- slashes


@pytest.mark.parametrize("pattern", ["/a", "/a/", "/<x>/", "/<x>", "/<x:[a-z]>", "/<x:[a-z]>/"])
def test_slash_at_the_end_does_not_matter_by_default(pattern: str) -> None:
    made = router(route(pattern))
    assert found(made, "/a") == found(made, "/a/")


@pytest.mark.parametrize("pattern", ["/a", "/<x>", "/<x:[a-z]>"])
def test_strict_slashes_take_only_the_form_registered(pattern: str) -> None:
    bare, slash = router(route(pattern, strict=True)), router(route(f"{pattern}/", strict=True))
    assert found(bare, "/a")[0] == pattern
    assert found(slash, "/a/")[0] == f"{pattern}/"
    for made, path in ((bare, "/a/"), (slash, "/a")):
        with pytest.raises(NotFound):
            made.resolve(path, "GET")


# ---- hosts


def test_route_of_a_host_comes_before_the_one_for_all() -> None:
    made = router(
        route("/", name="all"),
        route("/", hosts=("a.example",), name="a"),
        route("/", hosts=("a.example:8080",), name="port"),
        route("/", hosts=("*.wild.example", "other.example"), name="wild"),
        route("/only", hosts=("a.example",), name="only"),
    )
    expected = {
        "": "all",
        "b.example": "all",
        "A.Example": "a",
        "a.example:81": "a",
        "a.example:8080": "port",
        "x.wild.example": "wild",
        "wild.example": "all",
        "other.example": "wild",
        "[::1]:80": "all",
    }
    assert {host: made.resolve("/", "GET", host)[0].name for host in expected} == expected
    with pytest.raises(NotFound):
        made.resolve("/only", "GET", "b.example")


# ---- registration


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (route("/a"), route("/a")),
        (route("/a"), route("/a/")),
        (route("/a"), route("/a", "POST", "GET")),
        (route("/<x>"), route("/<y>")),
        (route("/<x>"), route("/<y:str>/")),
        (route("/<x:[a-z]>"), route("/<y:[a-z]>")),
        (route("/a", websocket=True), route("/a/", websocket=True)),
        (route("/a", hosts=("x",)), route("/a", hosts=("y", "x"))),
        (route("/é"), route("/%C3%A9")),
    ],
)
def test_conflict_is_an_error_at_registration(first: Route, second: Route) -> None:
    made = router(first)
    with pytest.raises(ValueError, match="conflicts with"):
        made.add(second)
    assert made.routes == [first]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (route("/a"), route("/a", "POST")),
        (route("/a", strict=True), route("/a/", strict=True)),
        (route("/<x>"), route("/<y:int>")),
        (route("/a", hosts=("x",)), route("/a", hosts=("y",))),
        (route("/a", hosts=("x",)), route("/a")),
        (route("/a", websocket=True), route("/a")),
        (route("/a", "GET", "POST"), route("/a/", websocket=True)),
        (route("/<x>", websocket=True), route("/<y>")),
        (route("/<x:path>", websocket=True), route("/<y:path>")),
    ],
)
def test_routes_that_differ_are_no_conflict(first: Route, second: Route) -> None:
    assert router(first, second).routes == [first, second]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("a", "must begin with a slash"),
        ("/<x", "without its '>'"),
        ("/<>", "no identifier"),
        ("/<1x>", "no identifier"),
        ("/<x:number>", "unknown parameter type 'number', permitted: int"),
        ("/<x>/<x>", "<x> twice"),
        ("/<x:[a->", "invalid regular expression"),
        (r"/<x:(a)\1>", "numbered back-reference"),
        ("/<x:(?P<g>a)>/<y:(?P<g>b)>", "invalid regular expression"),
        ("/100%", "cannot be decoded"),
    ],
)
def test_path_that_cannot_be_understood_is_an_error_at_registration(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Router().add(route(path))


def test_escaped_bracket_does_not_end_an_expression() -> None:
    assert found(router(route(r"/<x:a\>b>")), "/a%3Eb") == (r"/<x:a\>b>", {"x": "a>b"})


def test_parameter_type_can_be_registered() -> None:
    made = Router()
    made.register_pattern("hex", lambda text: int(text, 16), "[0-9a-f]+")
    made.add(route("/<n:hex>"))
    made.add(route("/<n:hex>/x"))
    assert found(made, "/ff") == ("/<n:hex>", {"n": 255})
    assert found(made, "/ff/x") == ("/<n:hex>/x", {"n": 255})
    with pytest.raises(ValueError, match="'hex' must be a new identifier"):
        made.register_pattern("hex", str, "x")


def test_routes_are_compiled_once_and_anew_after_another_is_added() -> None:
    made = router(route("/a"))
    assert not made.compiled
    made.resolve("/a", "GET")
    assert made.compiled
    made.add(route("/b"))
    assert not made.compiled
    assert found(made, "/b")[0] == "/b"


# ---- URLs


@pytest.mark.parametrize(
    ("pattern", "values", "url"),
    [
        ("/a b/é", {}, "/a%20b/%C3%A9"),
        ("/<x>", {"x": "a/b c?"}, "/a%2Fb%20c%3F"),
        ("/<p:path>", {"p": "a/b c"}, "/a/b%20c"),
        ("/<n:int>/<d:ymd>", {"n": 3, "d": date(2024, 1, 2)}, "/3/2024-01-02"),
        ("/<u:uuid>", {"u": UUID(UUID_TEXT)}, f"/{UUID_TEXT}"),
        ("/a%2Fb", {}, "/a%2Fb"),
    ],
)
def test_url_is_built_so_that_it_reaches_the_route(pattern: str, values: dict[str, Any], url: str) -> None:
    made = router(route(pattern))
    given = {**values, "left": 1}
    assert made.routes[0].url(given) == url
    assert given == {"left": 1}
    assert found(made, url)[1] == values


def test_url_needs_values_that_fit() -> None:
    made = router(route("/<n:int>"))
    with pytest.raises(ServerError, match="needs a value for <n>"):
        made.routes[0].url({})
    with pytest.raises(ServerError, match="'x' is no <n:int>"):
        made.routes[0].url({"n": "x"})


def test_route_tells_what_it_is() -> None:
    made = route("/<x>", "POST", "GET", name="app.view")
    router(made)
    assert repr(made) == "<Route app.view GET,POST /<x>>"
    assert made.uri == "/<x>"
    assert [parameter.name for parameter in made.parameters] == ["x"]


def test_long_segment_does_not_make_a_lookup_explode() -> None:
    made = router(route("/<a>-<b>-<c>.json"), route("/<x>"))
    begun = time.process_time()
    # There are 1.3 thousand million ways to share it out.
    assert found(made, "/" + "-" * 2000) == ("/<x>", {"x": "-" * 2000})
    assert time.process_time() - begun < 0.5


@pytest.mark.parametrize(
    ("pattern", "end", "longest"),
    [
        ("/<a>-<b>.json", "-b.json", 3162),
        ("/<a>-<b>-<c>.json", "-b-c.json", 310),
        ("/<a><b:int>", "1", 3162),
        ("/<a>1<b:int>", "12", 3162),
        ("/<a>.<b:float>", ".5", 3162),
        ("/<a>-<b:slug>.json", "-b.json", 3162),
    ],
)
def test_segment_of_several_parameters_has_a_longest_length(pattern: str, end: str, longest: int) -> None:
    made = router(route(pattern))
    path = f"/{'a' * (longest - len(end))}{end}"
    assert found(made, path)[0] == pattern
    with pytest.raises(NotFound):
        made.resolve(f"/a{path[1:]}", "GET")


@pytest.mark.parametrize(
    ("pattern", "segment"),
    [
        ("/<y:int>-<m:int>-<d:int>-<title>", "2024-2-29-" + "a" * 8000),
        ("/<title>-<day:ymd>-<id:uuid>", "a" * 8000 + "-2024-02-29-" + "0" * 8 + "-0000" * 3 + "-" + "0" * 12),
        ("/<title>_<size:float>x.<kind:alpha>", "a" * 8000 + "_1.5x.png"),
        ("/<title:slug>.<n:int>", "a-" * 4000 + "b.7"),
    ],
)
def test_parameters_that_leave_no_choice_do_not_limit_a_segment(pattern: str, segment: str) -> None:
    made = router(route(pattern))
    assert found(made, f"/{segment}")[0] == pattern
    begun = time.process_time()
    for start in (segment, "1" * 8000, "-" * 8000, "1-" * 4000, "1.1_" * 2000):
        with contextlib.suppress(NotFound):
            made.resolve(f"/{start}!-", "GET")
    assert time.process_time() - begun < 0.5
