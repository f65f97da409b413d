"""Calling what listens to the events of a server's life."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..app import App

__all__ = ["call_listener", "trigger_events"]


def trigger_events(
    events: Iterable[Callable[..., Any]] | None,
    loop: asyncio.AbstractEventLoop,
    app: App | None = None,
    **kwargs: Any,
) -> None:
    """Call functions and coroutine functions in turn, on a loop that is not running.

    Each gets the app, if there is one, the loop too if it needs one more argument, and ``kwargs``.
    """
    for event in events or ():
        result = _call(event, [] if app is None else [app], loop, kwargs)
        if inspect.isawaitable(result):
            loop.run_until_complete(result)


async def call_listener(listener: Callable[..., Any], app: App, loop: asyncio.AbstractEventLoop) -> None:
    """Call one listener from the running loop, with the app, and with the loop if it needs that too."""
    result = _call(listener, [app], loop, {})
    if inspect.isawaitable(result):
        await result


def _call(
    event: Callable[..., Any], arguments: list[Any], loop: asyncio.AbstractEventLoop, kwargs: dict[str, Any]
) -> Any:
    # Asking first keeps a TypeError of the function's own apart from one for its arguments.
    try:
        inspect.signature(event).bind(*arguments, **kwargs)
    except TypeError:
        return event(*arguments, loop, **kwargs)
    except ValueError:  # A builtin that does not tell.
        pass
    return event(*arguments, **kwargs)
