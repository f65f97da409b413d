"""``ferrows routes``: what an app answers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from ..app import App
from ..routing import Route
from .failure import Failure
from .run import arguments_given
from .target import load

__all__ = ["routes"]


def routes(arguments: argparse.Namespace) -> int:
    """Print the routes of an app, as a table or as JSON."""
    given = arguments_given(arguments)
    target = given["target"]
    app = load(target, factory=given.get("factory", False), app_dir=given.get("app_dir"))
    if not isinstance(app, App) or not hasattr(app, "routes"):
        raise Failure(f"{target} is no ferrows App but {type(app).__name__}: its routes are its own business")
    described = [_described(route) for route in sorted(app.routes, key=lambda route: (route.path, route.name))]
    if given.get("json"):
        print(json.dumps(described, indent=2))
    else:
        print(_table(described))
    return 0


def _described(route: Route) -> dict[str, Any]:
    return {
        "methods": sorted(route.methods),
        "path": route.path,
        "name": route.name,
        "websocket": route.websocket,
        "subprotocols": list(route.subprotocols),
        "hosts": list(route.hosts),
    }


_COLUMNS: Final = ("methods", "path", "name", "websocket", "subprotocols", "hosts")


def _table(described: Iterable[dict[str, Any]]) -> str:
    rows = [[_cell(entry[column]) for column in _COLUMNS] for entry in described]
    # Few apps have routes for hosts.
    columns = _COLUMNS if any(row[-1] for row in rows) else _COLUMNS[:-1]
    lines: list[Sequence[str]] = [[name.upper() for name in columns], *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    return "\n".join("  ".join(f"{line[at]:{width}}" for at, width in enumerate(widths)).rstrip() for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return ",".join(value) if isinstance(value, list) else str(value)
