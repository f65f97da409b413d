"""``ASGIHost``: what a server holds in an app's place to serve an ASGI application."""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..app import App
from ..config import Config, WebsocketSettings
from ..exceptions import ServerError
from .lifespan import LIFESPANS, Lifespan, LifespanMode
from .protocol import ASGIProtocol
from .scope import ASGIApplication

if TYPE_CHECKING:
    from ..server.async_server import AsyncioServer

__all__ = ["ASGIHost", "serve_asgi"]


class ASGIHost(App):
    """An ASGI application with everything around it that an :class:`App` has: configuration, listeners, signals, tasks.

    ``run`` and ``create_server`` are the app's. Routes, middleware and exception handlers are the application's own,
    so that registering one here raises ServerError. ``root_path`` is the prefix under which a proxy serves the
    application; ``lifespan`` is ``auto``, ``on`` or ``off`` (see :data:`ferrows.asgi.lifespan.LIFESPANS`); ``options``
    are those of an app. The name is by default the application's or its type's.
    """

    def __init__(
        self,
        application: ASGIApplication,
        name: str | None = None,
        config: Config | Mapping[str, Any] | None = None,
        *,
        root_path: str = "",
        lifespan: LifespanMode = "auto",
        **options: Any,
    ) -> None:
        if not callable(application):
            hint = "; the command `ferrows module:app` takes its name" if isinstance(application, str) else ""
            raise TypeError(f"an ASGI application is callable, {type(application).__name__} is not{hint}")
        if lifespan not in LIFESPANS:
            raise ValueError(f"lifespan is {lifespan!r}, permitted: {', '.join(LIFESPANS)}")
        if root_path and not root_path.startswith("/"):
            raise ValueError(f"root_path is {root_path!r}, permitted: empty, or a path that begins with /")
        super().__init__(name or _name(application), config, **options)
        self.application = application
        self.root_path = root_path.rstrip("/")
        self.state: dict[str, Any] = {}
        """What the lifespan has put there; every scope has a copy."""
        self.websocket_settings = WebsocketSettings()
        self.keep_alive_timeout = 0.0
        self.believes_proxies = False
        self.context = contextvars.copy_context()
        """What every request's context variables begin with."""
        self._lifespan_mode = lifespan
        self._lifespan: Lifespan | None = None
        # Servers that have started: the lifespan is theirs together.
        self._started = 0

    def __repr__(self) -> str:
        return f"<ASGIHost {self.name}>"

    # ---- what differs from an app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Be the application itself, under another server."""
        await self.application(scope, receive, send)

    def finalize(self) -> None:
        """Check the configuration; what a server does before it starts. ValueError names the key that is wrong."""
        super().finalize()
        settings = self.config.websocket_settings()
        if settings.engine is not None:
            raise ValueError("WEBSOCKET_ENGINE must be None for an ASGI application: it is for routes of ferrows's own")
        self.websocket_settings = settings
        self.keep_alive_timeout = self.config.KEEP_ALIVE_TIMEOUT
        self.believes_proxies = bool(self.config.FORWARDED_ALLOW_IPS)
        self.context = contextvars.copy_context()

    def run(self, *args: Any, protocol: type[Any] | None = None, **options: Any) -> None:
        """Serve until SIGINT or SIGTERM; the parameters are those of :meth:`App.run`.

        LifespanError where the application refuses to start. ``protocol`` is a subclass of :class:`ASGIProtocol`.
        """
        super().run(*args, protocol=_checked(protocol), **options)

    async def create_server(self, *args: Any, protocol: type[Any] | None = None, **options: Any) -> AsyncioServer:
        """Make a server on the running loop; the parameters are those of :meth:`App.create_server`.

        The application's startup runs with ``before_start``, its shutdown with ``after_stop``.
        """
        return await super().create_server(*args, protocol=_checked(protocol), **options)

    def default_protocol(self) -> type[ASGIProtocol]:
        """Return what speaks to the application."""
        return ASGIProtocol

    async def trigger_listeners(self, event: str) -> None:
        """Run listeners; the application's startup comes after those of before_server_start.

        Its shutdown comes before those of after_server_stop.
        """
        if event == "after_server_stop":
            await self._shut_down()
        await super().trigger_listeners(event)
        if event == "before_server_start":
            await self._start_up()

    async def _start_up(self) -> None:
        self._started += 1
        if self._started > 1:
            return
        self.state.clear()
        self._lifespan = Lifespan(self.application, self.state, self._lifespan_mode)
        try:
            await self._lifespan.startup(self.context.copy())
        except BaseException:
            self._started, self._lifespan = 0, None
            raise

    async def _shut_down(self) -> None:
        if self._started == 0:
            # Its startup was broken off.
            return
        self._started -= 1
        if self._started == 0 and self._lifespan is not None:
            lifespan, self._lifespan = self._lifespan, None
            await lifespan.shutdown()

    # ---- what an application has of its own

    def apply_route(self, *args: Any, **options: Any) -> NoReturn:
        """Raise ServerError."""
        raise self._refusal("routes")

    def apply_middleware(self, *args: Any, **options: Any) -> NoReturn:
        """Raise ServerError."""
        raise self._refusal("middleware")

    def apply_exception(self, *args: Any, **options: Any) -> NoReturn:
        """Raise ServerError."""
        raise self._refusal("exception handlers")

    def _refusal(self, what: str) -> ServerError:
        return ServerError(f"{what} belong to the ASGI application {self.name!r}, not to its host")


def serve_asgi(
    application: ASGIApplication,
    host: str | None = None,
    port: int | None = None,
    *,
    name: str | None = None,
    config: Config | Mapping[str, Any] | None = None,
    unix: str | Path | None = None,
    root_path: str = "",
    lifespan: LifespanMode = "auto",
    **options: Any,
) -> None:
    """Serve an ASGI application until SIGINT or SIGTERM, on 127.0.0.1:8000 unless told otherwise.

    ``options`` are those of :meth:`App.run`, which also says what is raised. LifespanError where the application
    refuses to start.
    """
    ASGIHost(application, name, config, root_path=root_path, lifespan=lifespan).run(host, port, unix=unix, **options)


def _checked(protocol: type[Any] | None) -> type[Any]:
    if protocol is None:
        return ASGIProtocol
    if not issubclass(protocol, ASGIProtocol):
        raise ServerError(f"protocol is {protocol.__name__}, permitted for an ASGI application: ASGIProtocol")
    return protocol


def _name(application: Any) -> str:
    name = getattr(application, "__name__", None) or type(application).__name__
    return str(name)
