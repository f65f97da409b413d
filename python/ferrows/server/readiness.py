"""Readiness: the path where balancers ask whether new clients may be sent here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..response import HTTPResponse, text
from ..routing import Route

if TYPE_CHECKING:
    from ..app import App
    from ..request import Request

__all__ = ["add_readiness", "is_readiness"]


def add_readiness(app: App) -> None:
    """Add the route that ``READY_PATH`` names, once; ValueError where another route has the path.

    It answers 200 "ready", or 503 "draining" from the moment in which a stop was asked for. No middleware runs for it:
    a check of who asks, or how often, is not meant for a balancer.
    """
    path = app.config.READY_PATH
    if path is None or any(is_readiness(route) for route in app.routes):
        return
    app.router.add(Route(path=path, name=f"{app.name}.ready", handler=_ready, methods=_METHODS))


def is_readiness(route: Route) -> bool:
    """Whether a route is the one that :func:`add_readiness` adds."""
    return route.handler is _ready


_METHODS: Final = frozenset({"GET"})


async def _ready(request: Request) -> HTTPResponse:
    headers = {"cache-control": "no-store"}
    app = request.app
    # Where there is no server of ours, a test client or another server asks, and whoever answers is there.
    if app.is_ready or not app.servers:
        return text("ready", headers=headers)
    # The balancer's connection must not keep a server alive that goes away.
    request.protocol.keep_alive = False
    return text("draining", 503, headers)
