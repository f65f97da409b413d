"""Which engine a route has: decided once, when the app is finalised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ..config import WebsocketSettings
    from .engine import EngineFactory

__all__ = ["ENGINES", "with_engine"]


def with_engine(settings: WebsocketSettings) -> WebsocketSettings:
    """Return the settings with the engine's factory where they have its name.

    ValueError, naming the extra to install, where the package is missing that the engine wraps.
    """
    name = settings.engine
    if not isinstance(name, str):
        return settings
    try:
        return replace(settings, engine=ENGINES[name]())
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != name:
            raise
        raise ValueError(f"engine {name!r} needs the package {name}: pip install 'ferrows[{name}]'") from None


def _wsproto() -> EngineFactory:
    from .wsproto import WsprotoEngine

    return WsprotoEngine


def _websockets() -> EngineFactory:
    from .websockets import WebsocketsEngine

    return WebsocketsEngine


ENGINES: Final[dict[str, Callable[[], EngineFactory]]] = {"websockets": _websockets, "wsproto": _wsproto}
"""The engines that have a name, beside the codec itself, and how to load each."""
