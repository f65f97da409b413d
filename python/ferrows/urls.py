"""URLs of an app's routes, from their names."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from .exceptions import ServerError
from .routing import Route, Router
from .static import StaticFiles

__all__ = ["build_url"]


def build_url(app_name: str, router: Router, server_name: str, view_name: str, values: dict[str, Any]) -> str:
    """Build the URL of a route; see `App.url_for`. ``server_name`` is the configuration's ``SERVER_NAME``."""
    anchor, method = values.pop("_anchor", ""), values.pop("_method", None)
    external, scheme = values.pop("_external", False), values.pop("_scheme", None)
    host = values.pop("_host", None) or values.pop("_server", None)
    if scheme and not external:
        raise ValueError("_scheme needs _external=True")
    if view_name == "static" or view_name.endswith(".static"):
        name = values.pop("name", None)
        view_name = view_name.removesuffix("static") + name if name else view_name
    route = _route_named(app_name, router, view_name, method)
    if isinstance(route.handler, StaticFiles) and "filename" in values:
        values["filename"] = str(values["filename"]).lstrip("/")
    url = route.url(values)
    query = urlencode({key: value for key, value in values.items() if value is not None}, doseq=True)
    url += f"?{query}" if query else ""
    url += f"#{quote(anchor)}" if anchor else ""
    return f"{_origin(route, server_name, scheme, host)}{url}" if external else url


def _route_named(app_name: str, router: Router, view_name: str, method: str | None) -> Route:
    def accepts(route: Route) -> bool:
        return method is None or method.upper() in route.methods

    for name in (f"{app_name}.{view_name}", view_name):
        route = router.named(name, accepts)
        if route is not None:
            return route
    raise ServerError(f"url_for: there is no route with the name {view_name!r}")


def _origin(route: Route, server_name: str, scheme: str | None, host: str | None) -> str:
    server_scheme, separator, server = server_name.rpartition("://")
    own = next((name for name in route.hosts if not name.startswith("*")), None)
    authority = host or own or (server if separator else server_name)
    if not authority:
        raise ServerError("url_for: _external needs _host or the configuration's SERVER_NAME")
    if not scheme:
        secure = server_scheme in ("https", "wss")
        scheme = ("ws" if route.websocket else "http") + ("s" if secure else "")
    return f"{scheme}://{authority.rstrip('/')}"
