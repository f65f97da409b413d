"""App: what a program registers its handlers with, and what answers a request with them."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from types import FrameType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Final
from weakref import WeakValueDictionary

from .blueprints import Blueprint, BlueprintGroup, BlueprintOptions
from .config import Config, WebsocketSettings
from .engines import with_engine
from .errorpages import ERROR_FORMATS, ErrorHandler, error_page, invalid_response
from .exceptions import HTTPException, ServerError
from .log import configure_logging, error_logger
from .parameters import check_parameters
from .registration import (
    LISTENERS,
    REQUEST,
    ExceptionRegistration,
    Handler,
    ListenerRegistration,
    MiddlewareRegistration,
    Registrar,
    RouteRegistration,
    SignalRegistration,
)
from .response import HTTPResponse, empty
from .routing import WEBSOCKET, Route, Router
from .server.asgi_application import serve_scope
from .server.async_server import AsyncioServer
from .server.events import call_listener
from .server.launch import launch
from .server.lifespan import lifespan
from .server.readiness import add_readiness, is_readiness
from .server.runners import serve
from .server.socket import ALL_INTERFACES, BACKLOG
from .server.tls import TLS, ssl_context
from .signals import Signal, SignalRouter
from .tasks import Tasks, Work
from .upgrade import Upgrade, called, is_awaitable, refusable
from .urls import build_url

if TYPE_CHECKING:
    import socket

    from .request import Request
    from .server.target import Target
    from .testing import AsyncTestClient, TestClient

__all__ = ["App"]


class App(Registrar):
    """An application: routes, middleware, listeners, signals and background tasks under one name.

    ``config`` replaces the configuration, or goes over its defaults if it is a mapping; ``env_prefix`` is what the
    environment variables that are read begin with (None: none are read). ``log_config`` is a dictionary for
    :mod:`logging.config`, applied by :meth:`run`; without one, ``configure_logging`` applies plain defaults where the
    program has set up no logging of its own.
    """

    _registry: ClassVar[WeakValueDictionary[str, App]] = WeakValueDictionary()

    def __init__(
        self,
        name: str,
        config: Config | Mapping[str, Any] | None = None,
        ctx: Any = None,
        *,
        error_handler: ErrorHandler | None = None,
        env_prefix: str | None = "FERROWS_",
        strict_slashes: bool = False,
        log_config: Mapping[str, Any] | None = None,
        configure_logging: bool = True,
    ) -> None:
        if not isinstance(name, str) or not name:
            raise ValueError(f"an app needs a name, not {name!r}")
        self.name = name
        self.config = config if isinstance(config, Config) else Config(config, env_prefix=env_prefix)
        self.ctx: Any = SimpleNamespace() if ctx is None else ctx
        self.error_handler = error_handler or ErrorHandler()
        self.strict_slashes = strict_slashes
        self.log_config = log_config
        self.configure_logging = configure_logging
        self.router = Router()
        self.signal_router = SignalRouter()
        self.blueprints: dict[str, Blueprint] = {}
        self.servers: list[AsyncioServer] = []
        # The tasks that run a websocket's handler, and the protocol of each.
        self.websocket_tasks: dict[asyncio.Task[Any], Any] = {}
        self._tasks = Tasks(self)
        self._listeners: dict[str, list[ListenerRegistration]] = {event: [] for event in LISTENERS}
        self._middleware: list[tuple[MiddlewareRegistration, str | None]] = []
        # For requests that no route answers.
        self._request_middleware: tuple[Handler, ...] = ()
        self._response_middleware: tuple[Handler, ...] = ()
        self._finalized = False
        App._registry[name] = self

    def __repr__(self) -> str:
        return f"<App {self.name}>"

    @classmethod
    def get_app(cls, name: str | None = None, *, force_create: bool = False) -> App:
        """Return the app of a name, the last one made of that name; without a name the only app that there is.

        ServerError where there is none, or several to choose from; ``force_create`` makes the one that is missing.
        """
        if name is None:
            if not cls._registry:
                raise ServerError("there is no app yet")
            if len(cls._registry) != 1:
                raise ServerError(f"there are {len(cls._registry)} apps, say which: {', '.join(sorted(cls._registry))}")
            return next(iter(cls._registry.values()))
        app = cls._registry.get(name)
        if app is None:
            if not force_create:
                raise ServerError(f"there is no app with the name {name!r}")
            app = cls(name)
        return app

    @property
    def debug(self) -> bool:
        """Whether error pages show tracebacks and the loop runs in its debug mode."""
        return bool(self.config.DEBUG)

    @debug.setter
    def debug(self, value: bool) -> None:
        self.config.DEBUG = value

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the server; ServerError where none runs."""
        if self.servers:
            return self.servers[-1].loop
        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            raise ServerError(f"app {self.name!r} has no event loop before its server starts") from None

    @property
    def is_running(self) -> bool:
        """Whether a server of this app accepts connections."""
        return any(server.is_serving() for server in self.servers)

    @property
    def is_ready(self) -> bool:
        """Whether new clients may be sent here: a server accepts connections, and nobody has asked it to stop."""
        return any(server.is_ready for server in self.servers)

    @property
    def routes(self) -> list[Route]:
        return list(self.router.routes)

    def update_config(self, config: Mapping[str, Any] | ModuleType | type | object) -> None:
        """Take configuration from a mapping, or upper-case attributes from a class, module or object."""
        self.config.update(config)

    # ----------------------------------------------------------------------------------------------------------------
    # Registration: see `Registrar` for the decorators

    def blueprint(
        self,
        blueprint: Blueprint | BlueprintGroup | Iterable[Blueprint | BlueprintGroup],
        **options: Any,
    ) -> None:
        """Take what a blueprint, a group or several of them registered.

        Options: ``url_prefix host version version_prefix strict_slashes name_prefix``. TypeError for another option and
        for what is no blueprint; ValueError for a name that another blueprint has.
        """
        unknown = options.keys() - {option.name for option in fields(BlueprintOptions)}
        if unknown:
            permitted = ", ".join(option.name for option in fields(BlueprintOptions))
            raise TypeError(f"blueprint() has no option {unknown.pop()!r}, permitted: {permitted}")
        one = isinstance(blueprint, Blueprint | BlueprintGroup | str) or not isinstance(blueprint, Iterable)
        given: Any = [blueprint] if one else blueprint
        for each in given:
            if not isinstance(each, Blueprint | BlueprintGroup):
                raise TypeError(f"blueprint() takes a Blueprint, a group or several of them, not {each!r}")
            each.register(self, BlueprintOptions(**options))

    def apply_route(self, registration: RouteRegistration, blueprint: str | None = None) -> Route:
        """Make a route of its registration; a blueprint's is already under the blueprint's prefixes."""
        self._refuse_while_running(f"route {registration.uri!r}")
        strict = self.strict_slashes if registration.strict_slashes is None else registration.strict_slashes
        hosts = (registration.host,) if isinstance(registration.host, str) else tuple(registration.host or ())
        if registration.error_format not in (None, *ERROR_FORMATS):
            raise ValueError(
                f"error_format of {registration.uri!r} must be one of {', '.join(ERROR_FORMATS)}, "
                f"not {registration.error_format!r}"
            )
        route = Route(
            path=_versioned(registration),
            name=f"{self.name}.{registration.name}",
            handler=registration.handler,
            methods=registration.methods,
            hosts=hosts,
            strict=strict,
            websocket=registration.websocket,
            subprotocols=registration.subprotocols,
            websocket_options=dict(registration.options or {}),
            error_format=registration.error_format,
            blueprint=blueprint,
            ctx=SimpleNamespace(**(registration.ctx or {})),
        )
        self._refuse_taken_name(route)
        self.router.add(route)
        check_parameters(route, decorated=bool(registration.decorators))
        if route.websocket and registration.decorators:
            route.handler = refusable(route.handler, registration.decorators)
            route.decorators = registration.decorators
        return route

    def _refuse_taken_name(self, route: Route) -> None:
        # `url_for` and the logs know a route by its name. A path may have a route for each method or host, and a
        # handler several paths.
        if route.name.endswith("<lambda>"):
            return  # Nobody's choice.
        other = self.router.named(
            route.name,
            lambda other: other.path != route.path and _unwrapped(other.handler) != _unwrapped(route.handler),
        )
        if other is not None:
            raise ValueError(
                f"the name {route.name!r} of {route.path} belongs to {other.path} already, give one of them a name="
            )

    def apply_middleware(self, registration: MiddlewareRegistration, blueprint: str | None = None) -> None:
        """Take middleware, for one blueprint's routes or for all requests."""
        self._refuse_while_running("middleware")
        self._middleware.append((registration, blueprint))

    def apply_exception(self, registration: ExceptionRegistration, blueprint: str | None = None) -> None:
        """Take an exception handler, for one blueprint's routes or for all requests."""
        for exception in registration.exceptions:
            self.error_handler.add(exception, registration.handler, blueprint)

    def apply_signal(self, registration: SignalRegistration, blueprint: str | None = None) -> None:
        """Take a signal's handler."""
        self.signal_router.add(
            Signal(registration.event, registration.handler, registration.condition or {}, blueprint)
        )

    def _take_route(self, registration: RouteRegistration) -> None:
        self.apply_route(registration)

    def _take_middleware(self, registration: MiddlewareRegistration) -> None:
        self.apply_middleware(registration)

    def _take_exception(self, registration: ExceptionRegistration) -> None:
        self.apply_exception(registration)

    def _take_listener(self, registration: ListenerRegistration) -> None:
        self._listeners[registration.event].append(registration)

    def _take_signal(self, registration: SignalRegistration) -> None:
        self.apply_signal(registration)

    def _refuse_while_running(self, what: str) -> None:
        if self.is_running:
            raise ServerError(f"{what} comes too late: the server of {self.name!r} runs")
        self._finalized = False

    def finalize(self) -> None:
        """Check the configuration and compile the routes; what a server does before it starts.

        ValueError names the key that is wrong, and the route whose it is.
        """
        self.config.validate()
        add_readiness(self)
        middleware = self._ordered_middleware(None)
        self._request_middleware, self._response_middleware = middleware
        by_blueprint = {name: self._ordered_middleware(name) for name in self.blueprints}
        for route in self.router.routes:
            if is_readiness(route):
                continue
            own = middleware if route.blueprint is None else by_blueprint[route.blueprint]
            route.request_middleware, route.response_middleware = own
            if route.websocket:
                route.websocket_settings = self._websocket_settings(route)
        self.router.compile()
        self._finalized = True

    def _ordered_middleware(self, blueprint: str | None) -> tuple[tuple[Handler, ...], tuple[Handler, ...]]:
        ordered = sorted(
            (entry for entry in self._middleware if entry[1] in (None, blueprint)),
            key=lambda entry: (-entry[0].priority, entry[1] is not None),
        )
        requests = tuple(entry.middleware for entry, _ in ordered if entry.attach_to == REQUEST)
        responses = tuple(entry.middleware for entry, _ in reversed(ordered) if entry.attach_to != REQUEST)
        return requests, responses

    def _websocket_settings(self, route: Route) -> WebsocketSettings:
        try:
            return with_engine(self.config.websocket_settings(**route.websocket_options))
        except ValueError as error:
            raise ValueError(f"websocket route {route.path!r}: {error}") from None

    # ----------------------------------------------------------------------------------------------------------------
    # URLs

    def url_for(self, view_name: str, **values: Any) -> str:
        """Build the URL of a route from its name (``handler``, ``blueprint.handler``) and its path parameters.

        Other values become the query, lists as repeated ones; what is None is left out. ``_anchor`` is the fragment.
        ``_external`` makes it absolute, with ``_scheme`` (``ws`` by default for a websocket route, with an ``s`` where
        ``SERVER_NAME`` begins with ``https://``) and ``_host``, else the route's host, else ``SERVER_NAME``.
        ``_method`` chooses among routes of one name. ServerError where no such URL can be built.
        """
        return build_url(self.name, self.router, self.config.SERVER_NAME, view_name, values)

    # ----------------------------------------------------------------------------------------------------------------
    # Signals and tasks

    async def dispatch(
        self,
        event: str,
        *,
        context: Mapping[str, Any] | None = None,
        condition: Mapping[str, Any] | None = None,
        blueprint: str | None = None,
        fail_not_found: bool = False,
        inline: bool = False,
    ) -> Any:
        """Send an event. The handlers run in a task, which is returned, and what one raises is logged.

        ``inline`` runs them before this returns, until one returns something, and returns that. With ``fail_not_found``
        an event that nobody listens to is a LookupError.
        """
        if fail_not_found and event not in self.signal_router:
            raise LookupError(f"nobody listens to the event {event!r}")
        if inline:
            return await self.signal_router.send(event, context, condition=condition, blueprint=blueprint)
        return self.signal_router.dispatch(event, context, condition=condition, blueprint=blueprint)

    async def event(
        self, event: str, timeout: float | None = None, *, condition: Mapping[str, Any] | None = None
    ) -> Any:
        """Wait for the next dispatch of an event; returns its context, TimeoutError after ``timeout`` seconds."""
        return await self.signal_router.wait(event, timeout, condition)

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """The background tasks that run."""
        return list(self._tasks)

    def add_task(self, task: Work, *, name: str | None = None) -> asyncio.Task[Any] | None:
        """Run a coroutine, or what a function makes (it gets the app if it takes a parameter), in the background.

        Before the server starts it is kept and None returned; the task then begins after the ``before_server_start``
        listeners. Tasks are cancelled when the server stops. What one raises is logged. ValueError: the name is taken;
        TypeError: it is neither a coroutine nor a function.
        """
        return self._tasks.add(task, name)

    def get_task(self, name: str) -> asyncio.Task[Any] | None:
        """The running task of a name."""
        return self._tasks.named(name)

    async def cancel_task(self, name: str) -> None:
        """Cancel the task of a name and wait for its end; ServerError where there is none."""
        task = self._tasks.named(name)
        if task is None:
            raise ServerError(f"there is no task with the name {name!r}")
        await self._tasks.cancel([task])

    async def shutdown_tasks(self, timeout: float | None = None) -> None:
        """Cancel all background tasks and wait for their end, at most ``timeout`` seconds."""
        await self._tasks.cancel(self.tasks, timeout)

    def start_tasks(self) -> None:
        """Begin the tasks that were added before the loop ran; what a server does."""
        self._tasks.start()

    # ----------------------------------------------------------------------------------------------------------------
    # Tests

    @cached_property
    def test_client(self) -> TestClient:
        """A client of this app for tests, always the same one; see :class:`ferrows.testing.TestClient`."""
        from .testing.sync import TestClient

        return TestClient(self)

    @property
    def async_test_client(self) -> AsyncTestClient:
        """A new client of this app for tests that are coroutines; see :class:`ferrows.testing.AsyncTestClient`."""
        from .testing.client import AsyncTestClient

        return AsyncTestClient(self)

    # ----------------------------------------------------------------------------------------------------------------
    # Requests

    async def handle_request(self, request: Request) -> HTTPResponse | Upgrade | None:
        """Answer a request.

        None where the response was streamed; for a websocket route an :class:`Upgrade`, whose ``serve`` does the rest.
        Only what ends the connection comes out of here as an exception: a cancellation, and an error in a response that
        is being streamed.
        """
        if not self._finalized:
            self.finalize()
        before, after = self._request_middleware, self._response_middleware
        router = self.router
        unrouted: HTTPException | None = None
        response: HTTPResponse | None
        try:
            try:
                host = request.host if router.knows_hosts else ""
                method = WEBSOCKET if router.shares_paths and request.wants_websocket else request.method
                route, values = router.resolve(request.path, method, host)
            except HTTPException as error:
                # Middleware has its say all the same: it may redirect, or answer a CORS preflight.
                unrouted = error
            else:
                request.route, request.endpoint, request.match_info = route, route.name, values
                before, after = route.request_middleware, route.response_middleware
            response = await _run_request_middleware(before, request) if before else None
            if response is None:
                if unrouted is not None:
                    response = _without_route(request, router, unrouted)
                elif route.websocket:
                    return Upgrade(request, values)
                else:
                    result = route.handler(request, **values)
                    response = await result if is_awaitable(result) else result
                    if not isinstance(response, HTTPResponse):
                        if response is None and request.responded:
                            return None
                        raise invalid_response(request, response)
        except Exception as error:
            if request.responded:
                raise
            response = await self._handle_exception(request, error)
        if after and not request.responded:
            response = await self._run_response_middleware(after, request, response)
        return response

    async def handle_exception(self, request: Request, exception: Exception) -> HTTPResponse:
        """Make the response to an exception that a handler raised, response middleware included."""
        return await self.finish_response(request, await self._handle_exception(request, exception))

    async def finish_response(self, request: Request, response: HTTPResponse) -> HTTPResponse:
        """Run the response middleware for a response that a handler is about to stream; see `Request.respond`."""
        after = self._response_middleware if request.route is None else request.route.response_middleware
        return await self._run_response_middleware(after, request, response)

    async def _run_response_middleware(
        self, middleware: tuple[Handler, ...], request: Request, response: HTTPResponse
    ) -> HTTPResponse:
        try:
            for each in middleware:
                other = await called(each, request, response)
                if other is not None:
                    if not isinstance(other, HTTPResponse):
                        raise invalid_response(request, other)
                    response = other
        except Exception as error:
            return await self._handle_exception(request, error)
        return response

    async def _handle_exception(self, request: Request, exception: Exception) -> HTTPResponse:
        handler = self.error_handler.lookup(exception, getattr(request.route, "blueprint", None))
        try:
            if handler is not None:
                response = await called(handler, request, exception)
                if isinstance(response, HTTPResponse):
                    return response
                if response is not None:
                    raise invalid_response(request, response)
            return self.error_handler.default(request, exception)
        except HTTPException as error:
            self.error_handler.log(request, error)
            return error_page(request, error)
        except Exception as error:
            self.error_handler.log(request, error)
            return error_page(request, ServerError(_INTERNAL))

    # ----------------------------------------------------------------------------------------------------------------
    # Running

    def run(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        debug: bool | None = None,
        ssl: TLS = None,
        sock: socket.socket | None = None,
        workers: int | str = 1,
        protocol: type[asyncio.Protocol] | None = None,
        backlog: int = BACKLOG,
        register_sys_signals: bool = True,
        access_log: bool | None = None,
        unix: str | Path | None = None,
        reuse_port: bool = False,
        loop: asyncio.AbstractEventLoop | None = None,
        auto_reload: bool = False,
        reload_dir: str | Path | Iterable[str | Path] | None = None,
        target: Target | str | None = None,
        motd: bool | None = None,
        asyncio_server_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Serve until SIGINT or SIGTERM, on 127.0.0.1:8000 unless told otherwise; the host ``*`` is every interface.

        A signal stops gracefully: no new connections, WebSockets closed with 1001, requests finished, all within
        ``GRACEFUL_SHUTDOWN_TIMEOUT``; a second one stops at once. Returns then, so that the program exits with 0. A
        handler's SystemExit or KeyboardInterrupt stops like a signal, and the SystemExit is raised here at the end.

        ``workers`` processes (``"auto"``: one for each CPU) serve under a supervisor, which replaces those that end;
        SIGHUP restarts them one by one. ``auto_reload`` restarts when code changes, or a file below ``reload_dir``.
        ``target`` says how a worker finds the app, see :mod:`ferrows.server.target`; ``"module:app"`` is imported. In a
        worker this does not return but ends the process. SystemExit with 3 where no worker could start, with 1 where
        one had to be killed at the end.

        ``ssl``: a context, a mapping of ``cert``, ``key`` and perhaps ``password``, ``ca`` and ``client``, a pair of
        paths, or a directory with ``fullchain.pem`` and ``privkey.pem``. ``protocol`` makes what speaks on a connection
        (``WebSocketProtocol``). OSError where the address cannot be bound; ValueError for configuration that is wrong
        and for a port that is none.
        """
        settings = {name: value for name, value in locals().items() if name not in _NOT_FOR_WORKERS}
        self._take_run_settings(debug, access_log)
        if motd is not None:
            self.config.MOTD = motd
        if self.log_config is not None or self.configure_logging:
            configure_logging(self.log_config, debug=self.debug)
        options = {
            **_address(host, port, sock, unix),
            "ssl": ssl_context(ssl),
            "reuse_port": reuse_port,
            "loop": loop,
            "protocol": protocol or self.default_protocol(),
            "backlog": backlog,
            "register_sys_signals": register_sys_signals,
            "asyncio_server_kwargs": asyncio_server_kwargs,
        }
        launch(
            self,
            options,
            settings,
            workers=workers,
            auto_reload=auto_reload,
            reload_dir=reload_dir,
            target=target,
            from_main=_caller(sys._getframe(1)) == "__main__",
        )

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[Mapping[str, Any]]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """Be an ASGI application, under another server in place of :meth:`run`."""
        await serve_scope(self, scope, receive, send)

    def lifespan(self) -> AbstractAsyncContextManager[None]:
        """Start the app when the context is entered and stop it when it is left.

        For an app that is mounted in another ASGI application, which keeps the server's lifespan events to itself.
        """
        return lifespan(self)

    @property
    def awaits_start(self) -> bool:
        """Whether there are listeners or tasks that only a start runs."""
        return self._tasks.pending or any(self._listeners.values())

    async def create_server(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        debug: bool | None = None,
        ssl: TLS = None,
        sock: socket.socket | None = None,
        protocol: type[asyncio.Protocol] | None = None,
        backlog: int = BACKLOG,
        access_log: bool | None = None,
        unix: str | Path | None = None,
        reuse_port: bool = False,
        return_asyncio_server: bool = True,
        asyncio_server_kwargs: Mapping[str, Any] | None = None,
    ) -> AsyncioServer:
        """Make a server on the running loop, whose life is the caller's to lead: see :class:`AsyncioServer`.

        The parameters are those of :meth:`run`. When this returns the app is finalised and connections are accepted,
        unless ``asyncio_server_kwargs`` has ``start_serving`` False. No listener has run then.
        """
        self._take_run_settings(debug, access_log)
        server = serve(
            **_address(host, port, sock, unix),
            app=self,
            ssl=ssl_context(ssl),
            reuse_port=reuse_port,
            loop=asyncio.get_running_loop(),
            protocol=protocol or self.default_protocol(),
            backlog=backlog,
            run_async=True,
            asyncio_server_kwargs=asyncio_server_kwargs,
        )
        assert server is not None
        return await server

    def default_protocol(self) -> type[asyncio.Protocol]:
        """Return what speaks on a connection where nothing else is asked for."""
        from .server.protocols.websocket_protocol import WebSocketProtocol

        return WebSocketProtocol

    def stop(self) -> None:
        """Stop the app's servers gracefully, as a signal does, and all workers of its supervisor; from any thread."""
        for server in list(self.servers):
            # Closed: a server that has ended while another thread asked for that.
            with contextlib.suppress(RuntimeError):
                server.loop.call_soon_threadsafe(server.stop_app)

    def stop_for(self, error: SystemExit | KeyboardInterrupt) -> bool:
        """Stop the app's servers gracefully, since a handler raised this; False where there is none.

        A SystemExit comes out of :meth:`run`, or of a server's ``serve_forever``, at the end.
        """
        for server in list(self.servers):
            server.loop.call_soon_threadsafe(server.request_exit, error)
        return bool(self.servers)

    def _take_run_settings(self, debug: bool | None, access_log: bool | None) -> None:
        if debug is not None:
            self.config.DEBUG = debug
        if access_log is not None:
            self.config.ACCESS_LOG = access_log

    async def trigger_listeners(self, event: str) -> None:
        """Run the listeners of an event of the server's life; those of a stop in reverse, and all even if one fails."""
        stops = event.endswith("_stop")
        registrations = sorted(
            reversed(self._listeners[event]) if stops else self._listeners[event], key=lambda entry: -entry.priority
        )
        for registration in registrations:
            try:
                await call_listener(registration.listener, self, asyncio.get_running_loop())
            except Exception:
                if not stops:
                    raise
                error_logger.exception("listener of %s failed", event)


# Of the arguments of `App.run`: what a worker is, it need not be told.
_NOT_FOR_WORKERS: Final = ("self", "workers", "sock", "auto_reload", "reload_dir", "target", "loop")


def _caller(frame: FrameType | None) -> Any:
    """The module that has called ``run``, by itself or through an ASGI application's host."""
    while frame is not None and frame.f_globals.get("__name__") == "ferrows.asgi.host":
        frame = frame.f_back
    return None if frame is None else frame.f_globals.get("__name__")


_INTERNAL: Final = "The server encountered an internal error and cannot complete your request."


async def _run_request_middleware(middleware: tuple[Handler, ...], request: Request) -> HTTPResponse | None:
    for each in middleware:
        response = await called(each, request)
        if response is not None:
            if not isinstance(response, HTTPResponse):
                raise invalid_response(request, response)
            return response
    return None


def _without_route(request: Request, router: Router, unrouted: HTTPException) -> HTTPResponse:
    # RFC 9110 §9.3.7: an asterisk asks about the server, not about something on it.
    if request.path != "*" or request.method != "OPTIONS":
        raise unrouted
    return empty(headers={"Allow": ", ".join(router.methods)})


def _unwrapped(handler: Handler) -> Handler:
    try:
        unwrapped: Handler = inspect.unwrap(handler)
        return unwrapped
    except ValueError:
        return handler


def _versioned(registration: RouteRegistration) -> str:
    if registration.version is None:
        return registration.uri
    version = str(registration.version).strip("/").removeprefix("v")
    prefix = registration.version_prefix
    return f"{'' if prefix.startswith('/') else '/'}{prefix}{version}{registration.uri}"


def _address(host: str | None, port: int | None, sock: socket.socket | None, unix: str | Path | None) -> dict[str, Any]:
    """What to listen on; ValueError where that is not one thing."""
    if sum((sock is not None, unix is not None, host is not None or port is not None)) > 1:
        raise ValueError("sock, unix, and host with port exclude each other")
    if not isinstance(host, str | None):
        raise TypeError(f"host must be a str such as '0.0.0.0' or '*', not {host!r}")
    if sock is not None or unix is not None:
        return {"host": None, "port": None, "sock": sock, "unix": None if unix is None else str(unix)}
    return {
        "host": None if host == ALL_INTERFACES else host or "127.0.0.1",
        "port": 8000 if port is None else port,
    }
