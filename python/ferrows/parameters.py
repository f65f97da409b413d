"""What a function takes, checked when it is registered: what does not fit would fail with its first request."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final

from .routing import Route

__all__ = ["check_callback", "check_handler", "check_parameters", "name_of"]

Handler = Callable[..., Any]


def check_handler(handler: Handler, uri: str, *, websocket: bool) -> None:
    """ValueError for a route's handler that does not take the request, or for a WebSocket's that takes no websocket."""
    if not _fits(handler, 2 if websocket else 1, partial=True):
        raise ValueError(
            f"websocket handler {name_of(handler)!r} of {uri!r} must take at least two parameters, "
            "the request and the websocket"
            if websocket
            else f"handler {name_of(handler)!r} of {uri!r} must take the request as its parameter"
        )
    if websocket and _is_generator(handler):
        raise ValueError(
            f"websocket handler {name_of(handler)!r} of {uri!r} must be a coroutine function, not a generator: "
            "await ws.send(...) where it yields"
        )


def check_callback(callback: Handler, what: str, *takes: str, optional: int = 0) -> None:
    """ValueError for a callback that cannot be called with ``takes``, with or without its last ``optional``."""
    counts = range(len(takes), len(takes) - optional - 1, -1)
    if not any(_fits(callback, count, partial=False) for count in counts):
        taken = " and ".join(takes) if not optional else f"{takes[0]} (and {takes[1]}, if it likes)"
        raise ValueError(f"{what} {name_of(callback)!r} must take {taken}")


def check_parameters(route: Route, *, decorated: bool) -> None:
    """ValueError where the parameters of a path and those of its handler do not go together.

    ``decorated``: a decorator around the upgrade may pass on more to the handler, or less.
    """
    leading = ("the request", "the websocket") if route.websocket else ("the request",)
    kind = "websocket handler" if route.websocket else "handler"
    try:
        # Not of what a decorator wraps but of the wrapper, which is what gets called.
        signature = inspect.signature(route.handler, follow_wrapped=False)
    except ValueError:  # A builtin that does not tell.
        return
    named = {parameter.name for parameter in route.parameters}
    positional = [each.name for each in signature.parameters.values() if each.kind in _POSITIONAL]
    taken = [name for name in positional[: len(leading)] if name in named]
    if taken:
        raise ValueError(f"{kind} of {route.path!r} must take {' and '.join(leading)} before <{taken[0]}>")
    if route.websocket and positional[1:2] in (["request"], ["req"]):
        raise ValueError(f"{kind} of {route.path!r} must take the request first, then the websocket")
    if decorated:
        return
    takes_all = any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())
    keywords = {each.name: each for each in signature.parameters.values() if each.kind in _KEYWORD}
    for name in positional[: len(leading)]:
        keywords.pop(name, None)
    for name in sorted(named - keywords.keys()):
        if not takes_all:
            raise ValueError(f"{kind} of {route.path!r} must take the path's parameter {name!r}")
    for name, parameter in keywords.items():
        if parameter.default is parameter.empty and name not in named:
            raise ValueError(f"{kind} of {route.path!r} requires {name!r}, which the path does not have as <{name}>")


def name_of(handler: Handler) -> str:
    """Return the name that a handler goes by."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    return getattr(handler, "__name__", None) or type(handler).__name__


_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_KEYWORD: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _fits(function: Handler, count: int, *, partial: bool) -> bool:
    """Whether a function can be called with so many positional arguments; ``partial``: and perhaps more arguments."""
    try:
        signature = inspect.signature(function, follow_wrapped=False)
    except ValueError:  # A builtin that does not tell.
        return True
    except TypeError:
        raise ValueError(f"handler {function!r} must be callable") from None
    try:
        (signature.bind_partial if partial else signature.bind)(*[None] * count)
    except TypeError:
        return False
    return True


def _is_generator(handler: Handler) -> bool:
    return inspect.isasyncgenfunction(handler) or inspect.isgeneratorfunction(handler)
