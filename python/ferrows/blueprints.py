"""Blueprints: routes, middleware, exception handlers and listeners that an app takes as one, perhaps under a prefix."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from .exceptions import ServerError
from .registration import (
    DEFAULT_VERSION_PREFIX,
    REQUEST,
    RESPONSE,
    ExceptionRegistration,
    H,
    ListenerRegistration,
    MiddlewareRegistration,
    PriorityDecorator,
    Registrar,
    RouteRegistration,
    SignalRegistration,
    Version,
)

if TYPE_CHECKING:
    from .app import App

__all__ = ["Blueprint", "BlueprintGroup", "BlueprintOptions"]


@dataclass(frozen=True, slots=True)
class BlueprintOptions:
    """What surrounds a blueprint where it is registered. None leaves the blueprint's own."""

    url_prefix: str | None = None
    host: str | Sequence[str] | None = None
    version: Version | None = None
    version_prefix: str = DEFAULT_VERSION_PREFIX
    strict_slashes: bool | None = None
    name_prefix: str | None = None


class Blueprint(Registrar):
    """A part of an app. Its middleware and exception handlers hold for its own routes only.

    ``version`` puts ``/v1`` (``version_prefix`` and the version) before ``url_prefix``. What a route says itself comes
    before what its blueprint says, and that before what its group says.
    """

    def __init__(
        self,
        name: str,
        url_prefix: str | None = None,
        host: str | Sequence[str] | None = None,
        version: Version | None = None,
        strict_slashes: bool | None = None,
        version_prefix: str = DEFAULT_VERSION_PREFIX,
    ) -> None:
        if not name or "." in name:
            raise ValueError(f"blueprint name {name!r} must not be empty or have a dot")
        self.name = name
        self.url_prefix = url_prefix
        self.host = host
        self.version = version
        self.strict_slashes = strict_slashes
        self.version_prefix = version_prefix
        self.ctx = SimpleNamespace()
        self.apps: list[App] = []
        self._registrations: list[
            RouteRegistration
            | MiddlewareRegistration
            | ExceptionRegistration
            | ListenerRegistration
            | SignalRegistration
        ] = []

    def __repr__(self) -> str:
        return f"<Blueprint {self.name} {self.url_prefix or '/'}>"

    @staticmethod
    def group(
        *blueprints: Blueprint | BlueprintGroup | Iterable[Blueprint | BlueprintGroup],
        url_prefix: str | None = None,
        version: Version | None = None,
        strict_slashes: bool | None = None,
        version_prefix: str = DEFAULT_VERSION_PREFIX,
        name_prefix: str | None = None,
    ) -> BlueprintGroup:
        """Put blueprints and other groups under a common prefix."""
        group = BlueprintGroup(url_prefix, version, strict_slashes, version_prefix, name_prefix)
        for given in blueprints:
            if isinstance(given, Blueprint | BlueprintGroup):
                group.append(given)
            else:
                group.extend(given)
        return group

    def register(self, app: App, options: BlueprintOptions) -> None:
        """Hand everything to an app; what ``App.blueprint`` does."""
        name = f"{options.name_prefix}_{self.name}" if options.name_prefix else self.name
        if name in app.blueprints:
            raise ValueError(f"a blueprint with the name {name!r} is registered already")
        app.blueprints[name] = self
        self.apps.append(app)
        for registration in self._registrations:
            match registration:
                case RouteRegistration():
                    app.apply_route(self._placed(registration, options), name)
                case MiddlewareRegistration():
                    app.apply_middleware(registration, name)
                case ExceptionRegistration():
                    app.apply_exception(registration, name)
                case ListenerRegistration():
                    app.register_listener(registration.listener, registration.event, priority=registration.priority)
                case SignalRegistration():
                    app.apply_signal(registration, name)

    async def dispatch(self, event: str, **options: Any) -> None:
        """Dispatch an event to the handlers that this blueprint registered, on every app that has it."""
        for app in self.apps:
            for name in [name for name, blueprint in app.blueprints.items() if blueprint is self]:
                await app.dispatch(event, blueprint=name, **options)

    async def event(
        self, event: str, timeout: float | None = None, *, condition: Mapping[str, Any] | None = None
    ) -> Any:
        """Wait for the next dispatch of an event on the app that has this blueprint."""
        if not self.apps:
            raise ServerError(f"blueprint {self.name!r} is not registered with an app")
        return await self.apps[-1].event(event, timeout, condition=condition)

    def _placed(self, route: RouteRegistration, options: BlueprintOptions) -> RouteRegistration:
        """The route under the prefixes of this blueprint and of what surrounds it."""
        prefix = self.url_prefix if options.url_prefix is None else options.url_prefix
        versions = (route.version, self.version, options.version)
        version_prefixes = (route.version_prefix, self.version_prefix, options.version_prefix)
        strict = (route.strict_slashes, self.strict_slashes, options.strict_slashes)
        return RouteRegistration(
            handler=route.handler,
            uri=_join(prefix or "", route.uri),
            methods=route.methods,
            name=f"{f'{options.name_prefix}_' if options.name_prefix else ''}{self.name}.{route.name}",
            host=next((host for host in (route.host, self.host, options.host) if host is not None), None),
            strict_slashes=next((value for value in strict if value is not None), None),
            version=next((version for version in versions if version is not None), None),
            version_prefix=next(
                (prefix for prefix in version_prefixes if prefix != DEFAULT_VERSION_PREFIX), DEFAULT_VERSION_PREFIX
            ),
            error_format=route.error_format,
            websocket=route.websocket,
            subprotocols=route.subprotocols,
            options=route.options,
            ctx=route.ctx,
            decorators=route.decorators,
        )

    def _keep(
        self,
        registration: RouteRegistration
        | MiddlewareRegistration
        | ExceptionRegistration
        | ListenerRegistration
        | SignalRegistration,
    ) -> None:
        if self.apps:
            raise ServerError(f"blueprint {self.name!r} is registered already, nothing can be added to it")
        self._registrations.append(registration)

    _take_route = _keep
    _take_middleware = _keep
    _take_exception = _keep
    _take_listener = _keep
    _take_signal = _keep


class BlueprintGroup(Sequence["Blueprint | BlueprintGroup"]):
    """Blueprints and groups under a common prefix; its middleware and exception handlers hold for all of them."""

    def __init__(
        self,
        url_prefix: str | None = None,
        version: Version | None = None,
        strict_slashes: bool | None = None,
        version_prefix: str = DEFAULT_VERSION_PREFIX,
        name_prefix: str | None = None,
    ) -> None:
        self.url_prefix = url_prefix
        self.version = version
        self.strict_slashes = strict_slashes
        self.version_prefix = version_prefix
        self.name_prefix = name_prefix
        self._members: list[Blueprint | BlueprintGroup] = []

    def __getitem__(self, index: Any) -> Any:
        return self._members[index]

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Blueprint | BlueprintGroup]:
        return iter(self._members)

    def append(self, member: Blueprint | BlueprintGroup) -> None:
        """Take one more blueprint or group."""
        self._members.append(member)

    def extend(self, members: Iterable[Blueprint | BlueprintGroup]) -> None:
        """Take more blueprints or groups."""
        self._members.extend(members)

    @property
    def blueprints(self) -> list[Blueprint | BlueprintGroup]:
        """What is in the group."""
        return list(self._members)

    def register(self, app: App, options: BlueprintOptions) -> None:
        """Hand every blueprint to an app, the group's own settings between theirs and ``options``."""
        for member in self._members:
            prefix = _join(options.url_prefix or "", self.url_prefix or "")
            if isinstance(member, Blueprint):
                prefix = _join(prefix, member.url_prefix or "")
            names = [name for name in (options.name_prefix, self.name_prefix) if name]
            member.register(
                app,
                BlueprintOptions(
                    url_prefix=prefix,
                    host=options.host,
                    version=options.version if self.version is None else self.version,
                    version_prefix=(
                        options.version_prefix if self.version_prefix == DEFAULT_VERSION_PREFIX else self.version_prefix
                    ),
                    strict_slashes=options.strict_slashes if self.strict_slashes is None else self.strict_slashes,
                    name_prefix="_".join(names) or None,
                ),
            )

    def middleware(
        self, middleware_or_request: Any, attach_to: str = REQUEST, apply: bool = True, *, priority: int = 0
    ) -> Any:
        """``Blueprint.middleware`` for every member that is there by now."""
        if isinstance(middleware_or_request, str):
            return functools.partial(self.middleware, attach_to=middleware_or_request, apply=apply, priority=priority)
        for member in self._members:
            member.middleware(middleware_or_request, attach_to, apply, priority=priority)
        return middleware_or_request

    @property
    def on_request(self) -> PriorityDecorator:
        """Register request middleware for every member that is there by now."""
        return PriorityDecorator(lambda given, priority: self.middleware(given, REQUEST, priority=priority))

    @property
    def on_response(self) -> PriorityDecorator:
        """Register response middleware for every member that is there by now."""
        return PriorityDecorator(lambda given, priority: self.middleware(given, RESPONSE, priority=priority))

    def exception(self, *exceptions: Any) -> Callable[[H], H]:
        """``Blueprint.exception`` for every member that is there by now."""

        def decorate(handler: H) -> H:
            for member in self._members:
                member.exception(*exceptions)(handler)
            return handler

        return decorate


def _join(prefix: str, uri: str) -> str:
    if prefix and not prefix.startswith("/"):
        prefix = f"/{prefix}"
    return prefix.rstrip("/") + uri if uri.startswith("/") or not uri else f"{prefix.rstrip('/')}/{uri}"
