"""What an app and a blueprint have in common: the decorators that register things.

An app applies a registration at once; a blueprint keeps it until an app takes the blueprint.
"""

from __future__ import annotations

import difflib
import functools
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar, overload

from .config import WEBSOCKET_OPTIONS
from .parameters import check_callback, check_handler, name_of
from .static import StaticFiles
from .upgrade import decorate as decorated

__all__ = [
    "ExceptionRegistration",
    "ListenerRegistration",
    "MiddlewareRegistration",
    "PriorityDecorator",
    "Registrar",
    "RouteRegistration",
    "SignalRegistration",
]

Handler = Callable[..., Any]
H = TypeVar("H", bound=Handler)
Decorator = Callable[[Handler], Handler]
# True or False: register the route or not; else what to wrap the handler in, the first outermost. None: in nothing.
Apply = bool | Decorator | Sequence[Decorator] | None
Version = int | float | str

DEFAULT_VERSION_PREFIX: Final = "/v"
REQUEST: Final = "request"
RESPONSE: Final = "response"

LISTENERS: Final = (
    "main_process_start",
    "main_process_stop",
    "reload_process_start",
    "reload_process_stop",
    "before_server_start",
    "after_server_start",
    "before_server_stop",
    "after_server_stop",
)
"""The events of a server's life, in the order in which they begin (`main_process_stop` is the last)."""


@dataclass(frozen=True, slots=True)
class RouteRegistration:
    """A route as it was asked for; None means: as the blueprint or the app has it."""

    handler: Handler
    uri: str
    methods: frozenset[str]
    name: str
    host: str | Sequence[str] | None = None
    strict_slashes: bool | None = None
    version: Version | None = None
    version_prefix: str = DEFAULT_VERSION_PREFIX
    error_format: str | None = None
    websocket: bool = False
    subprotocols: tuple[str, ...] = ()
    options: Mapping[str, Any] | None = None
    ctx: Mapping[str, Any] | None = None
    decorators: tuple[Decorator, ...] = ()


class MiddlewareRegistration(NamedTuple):
    middleware: Handler
    attach_to: str
    priority: int


class ExceptionRegistration(NamedTuple):
    handler: Handler
    exceptions: tuple[type[BaseException], ...]


class ListenerRegistration(NamedTuple):
    listener: Handler
    event: str
    priority: int


class SignalRegistration(NamedTuple):
    handler: Handler
    event: str
    condition: Mapping[str, Any] | None


class PriorityDecorator:
    """A decorator that is used bare or with a ``priority``."""

    __slots__ = ("_take",)

    def __init__(self, take: Callable[[Handler, int], object]) -> None:
        self._take = take

    @overload
    def __call__(self, handler: H, *, priority: int = ...) -> H: ...

    @overload
    def __call__(self, handler: None = None, *, priority: int = ...) -> Callable[[H], H]: ...

    def __call__(self, handler: Any = None, *, priority: int = 0) -> Any:
        if handler is None:
            return functools.partial(self, priority=priority)
        self._take(handler, priority)
        return handler


class Registrar(ABC):
    """The decorators. Subclasses say what becomes of a registration."""

    name: str

    @abstractmethod
    def _take_route(self, registration: RouteRegistration) -> None: ...

    @abstractmethod
    def _take_middleware(self, registration: MiddlewareRegistration) -> None: ...

    @abstractmethod
    def _take_exception(self, registration: ExceptionRegistration) -> None: ...

    @abstractmethod
    def _take_listener(self, registration: ListenerRegistration) -> None: ...

    @abstractmethod
    def _take_signal(self, registration: SignalRegistration) -> None: ...

    # ---- routes

    def route(
        self,
        uri: str,
        methods: Iterable[str] | None = None,
        host: str | Sequence[str] | None = None,
        strict_slashes: bool | None = None,
        version: Version | None = None,
        name: str | None = None,
        apply: Apply = True,
        version_prefix: str = DEFAULT_VERSION_PREFIX,
        error_format: str | None = None,
        **ctx: Any,
    ) -> Callable[[H], H]:
        """Register the handler of an HTTP path, for GET (and so HEAD) unless ``methods`` says otherwise.

        Path parameters, ``<name>`` or ``<name:type>``, arrive as keyword arguments. ``apply=False`` registers nothing;
        a decorator or a list of them wraps the handler. Other keywords go to ``route.ctx``, without a leading ``ctx_``.
        ValueError for a path that conflicts with another, for a handler that does not take the request and the path's
        parameters, and for a ``name`` (by default the handler's) that another handler has on another path.
        """
        _check_uri(uri, "@app.get('/path')")
        named = [methods] if isinstance(methods, str) else methods if methods is not None else ["GET"]
        decorators, register = _decorators(apply)

        def decorate(handler: H) -> H:
            check_handler(handler, uri, websocket=False)
            registration = RouteRegistration(
                handler=decorated(handler, decorators),
                uri=_rooted(uri),
                methods=frozenset(method.upper() for method in named),
                name=name or name_of(handler),
                host=host,
                strict_slashes=strict_slashes,
                version=version,
                version_prefix=version_prefix,
                error_format=error_format,
                ctx=_context(ctx),
            )
            if not registration.methods:
                raise ValueError(f"route {uri!r} must have at least one method")
            if register:
                self._take_route(registration)
            return handler

        return decorate

    def get(self, uri: str, *args: Any, **options: Any) -> Callable[[H], H]:
        """``route`` for GET and HEAD."""
        return self.route(uri, ("GET",), *args, **options)

    def post(self, uri: str, *args: Any, **options: Any) -> Callable[[H], H]:
        """``route`` for POST."""
        return self.route(uri, ("POST",), *args, **options)

    def put(self, uri: str, *args: Any, **options: Any) -> Callable[[H], H]:
        """``route`` for PUT."""
        return self.route(uri, ("PUT",), *args, **options)

    def patch(self, uri: str, *args: Any, **options: Any) -> Callable[[H], H]:
        """``route`` for PATCH."""
        return self.route(uri, ("PATCH",), *args, **options)

    def delete(self, uri: str, *args: Any, **options: Any) -> Callable[[H], H]:
        """``route`` for DELETE."""
        return self.route(uri, ("DELETE",), *args, **options)

    def head(self, uri: str, *args: Any, **options: Any) -> Callable[[H], H]:
        """``route`` for HEAD, which a GET route answers too where this one is not there."""
        return self.route(uri, ("HEAD",), *args, **options)

    def options(self, uri: str, *args: Any, **options: Any) -> Callable[[H], H]:
        """``route`` for OPTIONS, which is 405 where no route has it."""
        return self.route(uri, ("OPTIONS",), *args, **options)

    def add_route(self, handler: Handler, uri: str, methods: Iterable[str] = ("GET",), **options: Any) -> Handler:
        """``route`` as a call; takes the same options and returns the handler."""
        return self.route(uri, methods, **options)(handler)

    def websocket(
        self,
        uri: str,
        host: str | Sequence[str] | None = None,
        strict_slashes: bool | None = None,
        subprotocols: Sequence[str] | None = None,
        name: str | None = None,
        apply: Apply = True,
        version: Version | None = None,
        version_prefix: str = DEFAULT_VERSION_PREFIX,
        error_format: str | None = None,
        **ctx: Any,
    ) -> Callable[[H], H]:
        """Register ``handler(request, ws, **path_parameters)`` of a WebSocket path.

        ``subprotocols`` are in the server's order of preference. The decorators in ``apply`` run *before* the upgrade:
        one that raises or returns a response refuses the connection with a real HTTP status. Of the other keywords
        ``max_size max_queue max_fragments message_rate byte_rate ping_rate timeout ping_interval ping_timeout
        handler_timeout compression origins engine`` go over the app's configuration and the rest to ``route.ctx``, a
        leading ``ctx_`` left out. ValueError for a handler that does not take the request, the websocket and the path's
        parameters, or is a generator, for a ``name`` (by default the handler's) that another handler has on another
        path, and for a subprotocol that is no token;
        TypeError for a keyword that is nearly one of these options.
        """
        _check_uri(uri, "@app.websocket('/path')")
        decorators, register = _decorators(apply)
        names = _subprotocols(subprotocols)
        for decorator in decorators:
            # One that reads credentials from the offer has the name that they stand behind agreed on.
            names += _subprotocols(getattr(decorator, "subprotocols", ()))

        def decorate(handler: H) -> H:
            check_handler(handler, uri, websocket=True)
            options = {key: value for key, value in ctx.items() if key in WEBSOCKET_OPTIONS}
            registration = RouteRegistration(
                handler=handler,
                uri=_rooted(uri),
                methods=frozenset({"GET"}),
                name=name or name_of(handler),
                host=host,
                strict_slashes=strict_slashes,
                version=version,
                version_prefix=version_prefix,
                error_format=error_format,
                websocket=True,
                subprotocols=names,
                options=options,
                ctx=_context({key: value for key, value in ctx.items() if key not in options}, WEBSOCKET_OPTIONS),
                decorators=decorators,
            )
            if register:
                self._take_route(registration)
            return handler

        return decorate

    def add_websocket_route(self, handler: Handler, uri: str, *args: Any, **options: Any) -> Handler:
        """``websocket`` as a call; takes the same options and returns the handler."""
        return self.websocket(uri, *args, **options)(handler)

    def static(
        self,
        uri: str,
        file_or_directory: str | Path,
        *,
        name: str = "static",
        index: str | Sequence[str] = (),
        content_type: str | None = None,
        **options: Any,
    ) -> None:
        """Serve a file, or all files below a directory, to GET and HEAD; options are those of ``route``.

        Nothing outside of the directory is served, neither by ``..`` nor through a symbolic link: 404. A directory is
        404 unless ``index`` names a file in it. ValueError if the path does not exist.
        """
        files = StaticFiles(Path(file_or_directory), index=index, content_type=content_type)
        base = _rooted(uri).rstrip("/")
        if files.directory:
            self.route(f"{base}/<filename:path>", name=name, **options)(files)
            if index:
                self.route(f"{base}/", name=f"{name}_index", **options)(files)
        else:
            self.route(base or "/", name=name, **options)(files)

    # ---- middleware and exceptions

    @overload
    def middleware(
        self, middleware_or_request: str, attach_to: str = ..., apply: bool = ..., *, priority: int = ...
    ) -> Callable[[H], H]: ...

    @overload
    def middleware(
        self, middleware_or_request: H, attach_to: str = ..., apply: bool = ..., *, priority: int = ...
    ) -> H: ...

    def middleware(
        self, middleware_or_request: Any, attach_to: str = REQUEST, apply: bool = True, *, priority: int = 0
    ) -> Any:
        """Register middleware: ``@app.middleware``, ``@app.middleware("response")``, or as a call.

        Request middleware takes the request; what it returns other than None is the response, before a handler or an
        upgrade. Response middleware takes request and response and may return another response. Middleware of a
        higher ``priority`` is further out: first for requests, last for responses. At the same priority the one
        registered first is further out, and an app's is further out than a blueprint's. ValueError for one that takes
        something else.
        """
        if isinstance(middleware_or_request, str):
            return functools.partial(self.middleware, attach_to=middleware_or_request, apply=apply, priority=priority)
        if attach_to not in (REQUEST, RESPONSE):
            raise ValueError(f"middleware attaches to {REQUEST!r} or {RESPONSE!r}, not to {attach_to!r}")
        takes = ("the request",) if attach_to == REQUEST else ("the request", "the response")
        check_callback(middleware_or_request, f"{attach_to} middleware", *takes)
        if apply:
            self._take_middleware(MiddlewareRegistration(middleware_or_request, attach_to, priority))
        return middleware_or_request

    def register_middleware(self, middleware: H, attach_to: str = REQUEST, *, priority: int = 0) -> H:
        """``middleware`` as a call."""
        return self.middleware(middleware, attach_to, priority=priority)

    @property
    def on_request(self) -> PriorityDecorator:
        """Register request middleware: ``@app.on_request`` or ``@app.on_request(priority=1)``."""
        return PriorityDecorator(lambda given, priority: self.middleware(given, REQUEST, priority=priority))

    @property
    def on_response(self) -> PriorityDecorator:
        """Register response middleware: ``@app.on_response`` or ``@app.on_response(priority=1)``."""
        return PriorityDecorator(lambda given, priority: self.middleware(given, RESPONSE, priority=priority))

    def exception(
        self, *exceptions: type[BaseException] | Sequence[type[BaseException]], apply: bool = True
    ) -> Callable[[H], H]:
        """Register ``handler(request, exception)``, which answers for these classes and their subclasses.

        The handler of the most specific class is called, a blueprint's own before the app's. ValueError for what is no
        class of exceptions, and for a handler that does not take the two.
        """
        classes: list[type[BaseException]] = []
        for given in exceptions:
            classes.extend(given if isinstance(given, Sequence) else [given])
        wrong = [cls for cls in classes if not (isinstance(cls, type) and issubclass(cls, BaseException))]
        if wrong or not classes:
            what = ", ".join(map(repr, wrong)) or "nothing"
            raise ValueError(f"exception() takes exception classes such as NotFound, not {what}")

        def decorate(handler: H) -> H:
            check_callback(handler, "exception handler", "the request", "the exception")
            if apply:
                self._take_exception(ExceptionRegistration(handler, tuple(classes)))
            return handler

        return decorate

    # ---- listeners

    @overload
    def listener(
        self, listener_or_event: str, event_or_none: None = None, apply: bool = ..., *, priority: int = ...
    ) -> Callable[[H], H]: ...

    @overload
    def listener(self, listener_or_event: H, event_or_none: str, apply: bool = ..., *, priority: int = ...) -> H: ...

    def listener(
        self, listener_or_event: Any, event_or_none: str | None = None, apply: bool = True, *, priority: int = 0
    ) -> Any:
        """Register a listener of the server's life: ``@app.listener("before_server_start")``.

        It is called with the app, and with the event loop where it needs two arguments. Listeners of a start run in
        the order of their registration, those of a stop in reverse; a higher ``priority`` goes first in both.
        ValueError for an event that there is not, and for a listener of other parameters.
        """
        if isinstance(listener_or_event, str):
            return functools.partial(self._listen, event=listener_or_event, apply=apply, priority=priority)
        if event_or_none is None:
            raise ValueError("listener() takes the event: @app.listener('before_server_start')")
        return self._listen(listener_or_event, event=event_or_none, apply=apply, priority=priority)

    def register_listener(self, listener: H, event: str, *, priority: int = 0) -> H:
        """``listener`` as a call."""
        return self._listen(listener, event=event, priority=priority)

    def _listen(self, listener: H, *, event: str, apply: bool = True, priority: int = 0) -> H:
        if event not in LISTENERS:
            raise ValueError(f"listener event {event!r} is unknown, permitted: {', '.join(LISTENERS)}")
        check_callback(listener, f"{event} listener", "the app", "the loop", optional=1)
        if apply:
            self._take_listener(ListenerRegistration(listener, event, priority))
        return listener

    def _listen_to(self, event: str) -> PriorityDecorator:
        return PriorityDecorator(lambda given, priority: self._listen(given, event=event, priority=priority))

    @property
    def main_process_start(self) -> PriorityDecorator:
        """Listen for the start of the process, before anything else; with several workers, of their supervisor."""
        return self._listen_to("main_process_start")

    @property
    def main_process_stop(self) -> PriorityDecorator:
        """Listen for the end of the process, after everything else."""
        return self._listen_to("main_process_stop")

    @property
    def reload_process_start(self) -> PriorityDecorator:
        """Listen, in the process that watches files for ``auto_reload``, for the moment before it begins to."""
        return self._listen_to("reload_process_start")

    @property
    def reload_process_stop(self) -> PriorityDecorator:
        """Listen for the moment when files are no longer watched."""
        return self._listen_to("reload_process_stop")

    @property
    def before_server_start(self) -> PriorityDecorator:
        """Listen for the moment before connections are accepted."""
        return self._listen_to("before_server_start")

    @property
    def after_server_start(self) -> PriorityDecorator:
        """Listen for the moment after connections are accepted."""
        return self._listen_to("after_server_start")

    @property
    def before_server_stop(self) -> PriorityDecorator:
        """Listen for the moment when no more connections are accepted and the open ones are still served."""
        return self._listen_to("before_server_stop")

    @property
    def after_server_stop(self) -> PriorityDecorator:
        """Listen for the moment when all connections are closed."""
        return self._listen_to("after_server_stop")

    # ---- signals

    def signal(self, event: str, *, apply: bool = True, condition: Mapping[str, Any] | None = None) -> Callable[[H], H]:
        """Register ``handler(**context)`` of an event such as ``foo.bar.baz`` or ``foo.bar.<thing>``.

        ``condition``: called only for a dispatch whose own condition has these items.
        """

        def decorate(handler: H) -> H:
            if apply:
                self._take_signal(SignalRegistration(handler, event, condition))
            return handler

        return decorate

    def add_signal(self, handler: H, event: str, condition: Mapping[str, Any] | None = None) -> H:
        """``signal`` as a call."""
        return self.signal(event, condition=condition)(handler)


# --------------------------------------------------------------------------------------------------------------------


def _check_uri(uri: object, example: str) -> None:
    if not isinstance(uri, str):
        what = f"handler {name_of(uri)!r}" if callable(uri) else repr(uri)
        raise TypeError(f"a route needs its path, a str, not {what}: {example}")


# RFC 6455 §4.1: characters in U+0021..U+007E without separators, which RFC 2616 §2.2 calls a token.
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def _subprotocols(given: Sequence[str] | None) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given or ())
    for name in names:
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise ValueError(f"subprotocol {name!r} must be a token: ASCII letters, digits and !#$%&'*+-.^_`|~")
    return names


def _rooted(uri: str) -> str:
    return uri if uri.startswith("/") else f"/{uri}"


def _decorators(apply: Apply) -> tuple[tuple[Decorator, ...], bool]:
    if apply is None or isinstance(apply, bool):
        return (), apply is not False
    given: object = (apply,) if callable(apply) else apply
    decorators = tuple(given) if isinstance(given, Iterable) else (given,)
    if not all(callable(decorator) for decorator in decorators):
        raise TypeError(f"apply must be True, False, None, a decorator or a list of decorators, not {apply!r}")
    return decorators, True


def _context(ctx: Mapping[str, Any], options: Iterable[str] = ()) -> dict[str, Any]:
    for key in ctx:
        plain = key.lower().removeprefix("websocket_")
        near = [] if key.startswith("ctx_") else difflib.get_close_matches(plain, options, n=1, cutoff=0.85)
        if near:
            raise TypeError(f"unknown websocket option {key!r}, did you mean {near[0]!r}? (ctx_{key} is for route.ctx)")
    return {key.removeprefix("ctx_"): value for key, value in ctx.items()}
