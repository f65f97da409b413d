"""The imports of the package go one way: app -> server -> protocol -> … -> exceptions.

What stands under `if TYPE_CHECKING:` is left out, for it is never imported; an import within a function counts.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "python" / "ferrows"

# From the top down. A module imports from its own layer and from those below it. A name stands for a module and for
# what is in it, and the longest that fits decides.
LAYERS = [
    ["", "__main__", "cli"],
    ["asgi"],
    ["app", "blueprints", "parameters", "registration", "tasks", "testing", "fanout", "urls"],
    ["server", "client"],
    [
        "server.protocols",
        "server.websockets",
        "server.body",
        "server.keepalive",
        "server.scope",
        "server.takeover",
        "server.writer",
    ],
    ["engines"],
    ["routing", "handshake", "websocket", "upgrade", "errorpages", "signals", "static", "auth"],
    ["request", "response", "extensions", "_codec", "config", "forwarding"],
    ["_core", "_pycore"],
    [
        "exceptions",
        "cookies",
        "deadlines",
        "events",
        "forms",
        "headers",
        "limits",
        "log",
        "networks",
        "redaction",
        "request_target",
    ],
]
DEPTH = {name: depth for depth, names in enumerate(LAYERS) for name in names}


def module_name(path: Path) -> str:
    """Return the dotted name within the package, "" for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = {*PATHS, "_core"}


def depth(module: str) -> int | None:
    """Return how far down the module's layer is."""
    name = module
    while name not in DEPTH:
        name, dot, _ = name.rpartition(".")
        if not dot:
            return None
    return DEPTH[name]


def statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for branch in child.orelse:
                yield from statements(ast.Module([branch], []))
        else:
            yield from statements(child)


def imports(module: str, source: str, *, is_package: bool) -> Iterator[str]:
    """Yield the modules of the package that a module imports."""
    for statement in statements(ast.parse(source)):
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                if alias.name.split(".")[0] == "ferrows":
                    yield alias.name.partition(".")[2]
            continue
        if statement.level:
            parts = module.split(".") if module else []
            base = parts[: len(parts) + is_package - statement.level]
            target = ".".join([*base, *filter(None, [statement.module])])
        elif (statement.module or "").split(".")[0] == "ferrows":
            target = (statement.module or "").partition(".")[2]
        else:
            continue
        for alias in statement.names:
            inner = f"{target}.{alias.name}".lstrip(".")
            yield inner if inner in MODULES else target


def imports_of(module: str) -> list[str]:
    path = PATHS[module]
    return list(imports(module, path.read_text("utf-8"), is_package=path.name == "__init__.py"))


@pytest.mark.parametrize("module", PATHS, ids=lambda module: module or "ferrows")
def test_module_imports_only_from_its_layer_and_below(module: str) -> None:
    own = depth(module)
    assert own is not None, f"{module} has no place in LAYERS yet"
    upward = [name for name in imports_of(module) if (there := depth(name)) is None or there < own]
    assert upward == []


def test_no_module_imports_itself_by_a_detour() -> None:
    graph = {module: set(imports_of(module)) & set(PATHS) - {module} for module in PATHS}
    while free := [module for module, needs in graph.items() if not needs]:
        for module in free:
            del graph[module]
        for needs in graph.values():
            needs.difference_update(free)
    assert graph == {}


def test_websocket_imports_no_protocol() -> None:
    assert [name for name in imports_of("websocket") if name.startswith("server")] == []


@pytest.mark.parametrize("module", [name for name in PATHS if name.split(".")[0] == "_pycore"])
def test_the_twin_needs_nothing_of_the_extension(module: str) -> None:
    assert [name for name in imports_of(module) if name in ("_core", "_codec")] == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import asyncio, ferrows.app", ["app"]),
        ("from ferrows import App, websocket", ["", "websocket"]),
        ("from .config import Config", ["server.config"]),
        ("from ..config import Config", ["config"]),
        ("from .. import config", ["config"]),
        ("def f():\n    from ..app import App", ["app"]),
        ("if TYPE_CHECKING:\n    from ..app import App\nelse:\n    from ..request import Request", ["request"]),
    ],
)
def test_imports_are_found_in_every_form(source: str, found: list[str]) -> None:
    assert list(imports("server.socket", source, is_package=False)) == found


def test_imports_of_a_package_count_from_itself() -> None:
    assert list(imports("server", "from .socket import bind_socket", is_package=True)) == ["server.socket"]
