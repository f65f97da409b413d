"""``module:app``: finding an app by its name in a module."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..app import App

__all__ = ["import_app"]


def import_app(spec: str) -> App:
    """Import what ``package.module:app`` names; ``module:make()`` calls it, and ``app`` is the name where none is said.

    ValueError for what is no such text, ImportError where there is no such name, TypeError where it is no app, and
    whatever the module raises.
    """
    module_name, _, name = spec.partition(":")
    name = name or "app"
    attributes = name.removesuffix("()").split(".")
    if not all(part.isidentifier() for part in (*module_name.split("."), *attributes)):
        raise ValueError(f"app {spec!r} must look like 'package.module:app' or 'package.module:make()'")
    found = importlib.import_module(module_name)
    for attribute in attributes:
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise ImportError(f"module {module_name!r} has no {'.'.join(attributes)!r}") from None
    app: App = found() if name.endswith("()") else found  # type: ignore[operator, assignment]
    if not callable(getattr(app, "run", None)) or not hasattr(app, "config"):
        raise TypeError(f"{spec!r} is {type(app).__name__}, permitted: App")
    return app
