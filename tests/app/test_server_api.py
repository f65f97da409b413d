"""Every name of the reference's server package is here, with its parameters, defaults and results."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from ferrows import App
from ferrows.server import WebSocketProtocol, serve

from .server_api import API, ASYNCHRONOUS_BY_RESULT, DEVIATIONS, NEEDED, Entry

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "server-api.md"

PREFIXES = {
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}


def found(name: str) -> Any:
    """Return what a name below ``ferrows.server`` stands for; of a class's member what the class has, unbound."""
    parts = name.split(".")
    depth = next(index for index, part in enumerate(parts) if part[0].isupper() or index == len(parts) - 1)
    thing: Any = importlib.import_module(".".join(["ferrows.server", *parts[:depth]]))
    for part in parts[depth:]:
        thing = inspect.getattr_static(thing, part) if inspect.isclass(thing) else getattr(thing, part)
    return thing.__func__ if isinstance(thing, staticmethod) else thing


def is_member(name: str) -> bool:
    return name.split(".")[-2][0].isupper()


def is_static(name: str) -> bool:
    owner, _, member = name.rpartition(".")
    return isinstance(inspect.getattr_static(found(owner), member), staticmethod)


@pytest.mark.parametrize("entry", API, ids=lambda entry: entry.name)
def test_name_is_there_and_takes_and_gives_what_the_reference_says(entry: Entry) -> None:
    thing = found(entry.name)
    if entry.name in DEVIATIONS:
        return
    if entry.parameters is None:
        assert not callable(thing) or isinstance(thing, property)
        return
    assert callable(thing)
    signature = inspect.signature(thing)
    parameters = {
        PREFIXES.get(parameter.kind, "") + parameter.name: parameter for parameter in signature.parameters.values()
    }
    if is_member(entry.name) and not is_static(entry.name):
        del parameters["self"]
    assert [name for name in parameters if name in entry.parameters] == list(entry.parameters)
    for name, parameter in parameters.items():
        expected = entry.parameters.get(name)
        if name not in entry.parameters:
            assert parameter.default is not parameter.empty or name.startswith("*"), f"{name} is needed here alone"
        elif expected is NEEDED:
            assert parameter.default is parameter.empty
        else:
            assert parameter.default == expected
            assert type(parameter.default) is type(expected)
    if entry.returns:
        assert signature.return_annotation in (entry.returns, "Self")
    if entry.asynchronous:
        result = ASYNCHRONOUS_BY_RESULT.get(entry.name)
        if result is None:
            assert inspect.iscoroutinefunction(thing)
        else:
            assert signature.return_annotation.startswith(result)


def test_a_deviation_is_one_of_a_name_that_is_listed() -> None:
    names = {entry.name for entry in API}
    assert DEVIATIONS.keys() <= names
    assert ASYNCHRONOUS_BY_RESULT.keys() <= names


def rows() -> dict[str, tuple[str, str]]:
    """Read the page's table: reference name -> where it is here, and its test."""
    found = re.findall(r"^\| `([\w.]+)` \| `([\w.]+)`[^|]* \| `([\w/.:]+)` \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    return {name: (here, test) for name, here, test in found}


def test_the_page_has_a_row_for_every_name() -> None:
    assert list(rows()) == [entry.name for entry in API]


@pytest.mark.parametrize("entry", API, ids=lambda entry: entry.name)
def test_the_page_says_where_a_name_lives_and_what_tests_it(entry: Entry) -> None:
    expected = found(entry.name)
    here, test = rows()[entry.name]
    parts = here.split(".")
    module = _module_of(parts)
    thing: Any = importlib.import_module(module)
    for part in parts[module.count(".") + 1 :]:
        thing = inspect.getattr_static(thing, part) if inspect.isclass(thing) else getattr(thing, part)
    assert (thing.__func__ if isinstance(thing, staticmethod) else thing) is expected
    path, _, function = test.partition("::")
    assert re.search(rf"^(async )?def {function}\(", (ROOT / path).read_text("utf-8"), re.MULTILINE)


def _module_of(parts: list[str]) -> str:
    for depth in range(len(parts), 0, -1):
        name = ".".join(parts[:depth])
        try:
            if importlib.util.find_spec(name) is not None:
                return name
        except ModuleNotFoundError:
            continue
    raise AssertionError(f"no module of {'.'.join(parts)}")


def test_a_request_is_its_own_request_of_a_websocket() -> None:
    request: Any = object()
    assert WebSocketProtocol.sanic_request_to_ws_request(request) is request


@pytest.mark.parametrize("given", [{}, {"signal": None}])
async def test_each_server_has_a_signal_of_its_own(given: dict[str, Any]) -> None:
    servers = [serve("127.0.0.1", 0, App("signals", env_prefix=None), run_async=True, **given) for _ in range(2)]
    first, second = (server.signal for server in servers if server is not None)
    assert first is not second
    for server in servers:
        assert server is not None
        server.serve_coro.close()  # type: ignore[attr-defined]
