"""Routing: paths with parameters -> the route that answers, compiled once when the server starts.

A path is matched as it is after percent-decoding, except that an encoded slash stays part of its segment (RFC 3986
§2.2: ``%2F`` and ``/`` differ). Paths without parameters are looked up in one dict. The others live in a tree with one
level per segment: literal text first, then typed parameters from the most to the least specific. Each node of the tree
is visited at most once for a request, so that many routes cannot make one lookup explode.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from types import SimpleNamespace
from typing import Any, Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes
from uuid import UUID

from .config import WebsocketSettings
from .exceptions import BadRequest, MethodNotAllowed, NotFound, ServerError

__all__ = ["WEBSOCKET", "Parameter", "Route", "Router"]

Handler = Callable[..., Any]

WEBSOCKET: Final = "websocket"
"""Stands for the method of a request that asks for a WebSocket, where that makes a difference; no method is in lower
case."""

# Stands for an encoded slash while a path is matched: no UTF-8 decodes to it.
_SLASH: Final = "\udc2f"


class Parameter(NamedTuple):
    """One ``<name:kind>`` of a path; ``kind`` is a registered type, or ``regex`` for an expression of its own."""

    name: str
    kind: str
    regex: str
    convert: Callable[[str], Any]
    weight: int  # The lower, the more specific: tried first.


@dataclass(slots=True, eq=False)
class Route:
    """What answers one path, for a set of methods and hosts. ``ctx`` is the application's own."""

    path: str
    name: str
    handler: Handler
    methods: frozenset[str]
    hosts: tuple[str, ...] = ()
    strict: bool = False
    websocket: bool = False
    subprotocols: tuple[str, ...] = ()
    websocket_options: Mapping[str, Any] = field(default_factory=dict)
    websocket_settings: WebsocketSettings = field(default_factory=WebsocketSettings)
    error_format: str | None = None
    blueprint: str | None = None
    decorators: tuple[Callable[[Handler], Handler], ...] = ()
    ctx: SimpleNamespace = field(default_factory=SimpleNamespace)
    # Set when the app starts: what runs around the handler, in order.
    request_middleware: tuple[Handler, ...] = ()
    response_middleware: tuple[Handler, ...] = ()
    tokens: tuple[str | Parameter, ...] = ()

    @property
    def keys(self) -> frozenset[str]:
        """What it answers, as the router keeps it: its methods, or :data:`WEBSOCKET`."""
        return _WEBSOCKET_ALONE if self.websocket else self.methods

    @property
    def uri(self) -> str:
        """The path as it was registered, with the prefixes of its blueprints."""
        return self.path

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return tuple(token for token in self.tokens if isinstance(token, Parameter))

    def url(self, values: dict[str, Any]) -> str:
        """Build the path, percent-encoded; takes its parameters out of ``values``, ServerError if one does not fit."""
        built = ""
        for token in self.tokens:
            if isinstance(token, str):
                built += "%2F".join(quote(part, safe="/~!$&'()*+,;=:@") for part in token.split(_SLASH))
                continue
            if token.name not in values:
                raise ServerError(f"url_for {self.name!r} needs a value for <{token.name}>")
            text = str(values.pop(token.name))
            if re.fullmatch(token.regex, text):
                built += quote(text, safe="/")
            elif re.fullmatch(token.regex, text.replace("/", _SLASH)):
                built += quote(text, safe="")
            else:
                raise ServerError(f"url_for {self.name!r}: {text!r} is no <{token.name}:{token.kind}> ({token.regex})")
        return built

    def __repr__(self) -> str:
        return f"<Route {self.name} {'websocket' if self.websocket else ','.join(sorted(self.methods))} {self.path}>"


class Router:
    """The routes of an app. ``add`` while the app is being built, then ``resolve`` a request's path."""

    def __init__(self) -> None:
        self.routes: list[Route] = []
        self._types = dict(_TYPES)
        self._taken: dict[tuple[str, str, bool, str], Route] = {}
        self._named: dict[str, list[Route]] = {}
        self._compiled: _Compiled | None = None
        # Plain attributes, as they are asked for each request.
        self.knows_hosts = True
        """Whether the host of a request matters."""
        self.shares_paths = True
        """Whether there is a path with a route for GET and one for WebSockets.

        :meth:`resolve` then wants to know which of them is asked for, by the method ``GET`` or :data:`WEBSOCKET`. Where
        a path has only one of the two it gets both kinds of requests: a websocket route refuses what is no handshake.
        """

    def register_pattern(self, label: str, cast: Callable[[str], Any], pattern: str) -> None:
        """Make ``<name:label>`` match the regular expression and arrive as ``cast(text)`` (ValueError: no match)."""
        if not label.isidentifier() or label in self._types:
            raise ValueError(f"parameter type {label!r} must be a new identifier")
        self._types[label] = Parameter(label, label, _plain_regex(pattern, label), cast, _CUSTOM_WEIGHT)

    def add(self, route: Route) -> Route:
        """Register a route; ValueError for a path that cannot be parsed or that another route has already.

        A path may have a websocket route and one for GET: see :attr:`shares_paths`.
        """
        if not route.path.startswith("/"):
            raise ValueError(f"path {route.path!r} must begin with a slash")
        if "://" in route.path:
            raise ValueError(f"path {route.path!r} is a whole URL, permitted: the path alone, and host= for its host")
        route.tokens = tuple(_parse(route.path, self._types))
        _compile("".join(f"({parameter.regex})" for parameter in route.parameters), route.path)
        shape = "".join(f"<{token.regex}>" if isinstance(token, Parameter) else token for token in route.tokens)
        keys = [
            (host, shape.removesuffix("/"), slash, method)
            for host in route.hosts or ("",)
            for slash in _endings(route)
            for method in route.keys
        ]
        for key in keys:
            if key in self._taken:
                raise ValueError(
                    f"{key[3]} {route.path} of {route.name!r} conflicts with {self._taken[key].path} "
                    f"of {self._taken[key].name!r}"
                )
        self._taken.update(dict.fromkeys(keys, route))
        self._named.setdefault(route.name, []).append(route)
        self.routes.append(route)
        self._compiled, self.knows_hosts, self.shares_paths = None, True, True
        return route

    def named(self, name: str, accepts: Callable[[Route], bool] = lambda route: True) -> Route | None:
        """The first route registered under ``name`` that ``accepts`` takes."""
        return next((route for route in self._named.get(name, ()) if accepts(route)), None)

    @property
    def methods(self) -> list[str]:
        """The methods that at least one path answers, and OPTIONS, which the server itself does."""
        methods = {"OPTIONS"}.union(*(route.methods for route in self.routes))
        if any("GET" in route.methods and not route.websocket for route in self.routes):
            methods.add("HEAD")
        return sorted(methods)

    @property
    def compiled(self) -> bool:
        return self._compiled is not None

    def compile(self) -> None:
        """Build the dict and the tree that ``resolve`` uses."""
        self._compiled = compiled = _Compiled(self.routes)
        self.knows_hosts, self.shares_paths = compiled.knows_hosts, compiled.shares_paths

    def resolve(self, path: str, method: str, host: str = "") -> tuple[Route, dict[str, Any]]:
        """Find the route and its parameters, not to be changed, for a raw (still percent-encoded) path.

        Raises BadRequest (path not decodable), NotFound, or MethodNotAllowed with the methods that would do.
        """
        if self._compiled is None:
            self.compile()
            assert self._compiled is not None
        direct = self._compiled.direct.get(path)
        if direct is not None and method in direct:
            return direct[method], _NO_VALUES
        decoded = decode_path(path)
        allowed: set[str] = set()
        for table in self._compiled.tables(host):
            for methods, values in table.candidates(decoded):
                route = methods.get(method)
                if route is not None:
                    names = (parameter.name for parameter in route.parameters)
                    return route, dict(zip(names, values, strict=True)) if values else {}
                allowed.update(methods)
        if allowed:
            allowed.discard(WEBSOCKET)
            method = "GET" if method == WEBSOCKET else method
            raise MethodNotAllowed(f"Method {method} not allowed for URL {path}", method, sorted(allowed))
        raise NotFound(f"Requested URL {path} not found")


# One for all requests: it lasts as long as a websocket's handler.
_NO_VALUES: Final[dict[str, Any]] = {}


def decode_path(raw: str) -> str:
    """Percent-decode a path for matching; BadRequest for a broken escape or for octets that are not UTF-8."""
    if "%" not in raw:
        return raw
    if _BROKEN_ESCAPE.search(raw):
        raise BadRequest("path has a percent sign that is not followed by two hexadecimal digits")
    try:
        return _SLASH.join(unquote_to_bytes(part).decode() for part in _ENCODED_SLASH.split(raw))
    except UnicodeDecodeError:
        raise BadRequest("path is not UTF-8 after percent-decoding") from None


_BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODED_SLASH: Final = re.compile(r"%2[Ff]")


# --------------------------------------------------------------------------------------------------------------------
# Paths


def _parameter_type(kind: str, regex: str, convert: Callable[[str], Any], weight: int) -> Parameter:
    return Parameter(kind, kind, regex, convert, weight)


_CUSTOM_WEIGHT: Final = 4
_REGEX_WEIGHT: Final = 5
_MIXED_WEIGHT: Final = 6
_PATH_WEIGHT: Final = 10

_TYPES: Final[Mapping[str, Parameter]] = {
    parameter.kind: parameter
    for parameter in (
        _parameter_type("int", r"-?[0-9]+", int, 0),
        _parameter_type("float", r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)", float, 1),
        _parameter_type("ymd", r"[0-9]{4}-[0-9]{2}-[0-9]{2}", date.fromisoformat, 2),
        _parameter_type("uuid", r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", UUID, 3),
        _parameter_type("alpha", r"[A-Za-z]+", str, 7),
        _parameter_type("slug", r"[a-z0-9]+(?:-[a-z0-9]+)*", str, 8),
        _parameter_type("str", r"[^/]+", str, 9),
        _parameter_type("path", r".+", str, _PATH_WEIGHT),
    )
}

# What each type goes on with, once it has begun. Those of a fixed length have no choice.
_CHARACTERS: Final[Mapping[str, frozenset[str]]] = {
    "int": frozenset(string.digits),
    "float": frozenset(f"{string.digits}."),
    "ymd": frozenset(),
    "uuid": frozenset(),
    "alpha": frozenset(string.ascii_letters),
    "slug": frozenset(f"{string.ascii_lowercase}{string.digits}-"),
}


def _parse(path: str, types: Mapping[str, Parameter]) -> Iterator[str | Parameter]:
    """Split a path into literal text and parameters."""
    seen: set[str] = set()
    position = 0
    while position < len(path):
        start = path.find("<", position)
        if start < 0:
            start = len(path)
        if start > position:
            yield _literal(path, path[position:start])
        if start == len(path):
            return
        end = _closing_bracket(path, start)
        parameter = _parse_parameter(path, path[start + 1 : end], types)
        if parameter.name in seen:
            raise ValueError(f"path {path!r} has <{parameter.name}> twice")
        seen.add(parameter.name)
        yield parameter
        position = end + 1


def _literal(path: str, text: str) -> str:
    if "?" in text or "#" in text:
        raise ValueError(f"path {path!r} has a query or a fragment; the query arrives as request.args, whatever it is")
    if "{" in text or "}" in text:
        raise ValueError(f"path {path!r} has braces; a parameter is written <name> or <name:type>")
    try:
        return decode_path(text)
    except BadRequest as error:
        raise ValueError(f"path {path!r} cannot be decoded: {error}") from None


def _closing_bracket(path: str, start: int) -> int:
    # A regular expression may hold brackets of its own: (?P<name>…) comes in pairs, (?<=…) and (?<!…) do not.
    depth = 0
    position = start
    while position < len(path):
        character = path[position]
        if character == "\\":
            position += 1
        elif character == "<" and path[position + 1 : position + 2] not in ("=", "!"):
            depth += 1
        elif character == ">":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    raise ValueError(f"path {path!r} has a '<' without its '>'")


def _parse_parameter(path: str, text: str, types: Mapping[str, Parameter]) -> Parameter:
    name, _, kind = (part.strip() for part in text.partition(":"))
    if not name.isidentifier():
        raise ValueError(f"path {path!r} has a parameter <{text}> whose name is no identifier")
    kind = kind or "str"
    if kind in types:
        return types[kind]._replace(name=name)
    if kind.isidentifier():
        hint = f"; did you mean <{kind}:{name}>?" if name in types else ""
        raise ValueError(f"path {path!r} has the unknown parameter type {kind!r}, permitted: {', '.join(types)}{hint}")
    return Parameter(name, "regex", _plain_regex(kind, path), str, _REGEX_WEIGHT)


def _plain_regex(pattern: str, where: str) -> str:
    """Take the anchors off and check an expression; it must not count its groups, which are not the only ones."""
    plain = pattern.removeprefix("^")
    if plain.endswith("$") and not plain.endswith("\\$"):
        plain = plain[:-1]
    _compile(plain, where)
    if re.search(r"(?<!\\)(?:\\\\)*\\[1-9]", plain):
        raise ValueError(f"{where!r} has a numbered back-reference in {pattern!r}, use a named group")
    return plain


def _compile(pattern: str, where: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{where!r} has an invalid regular expression {pattern!r}: {error}") from None


def _endings(route: Route) -> tuple[bool, ...]:
    """Whether the route answers without and with a slash at the end."""
    if route.path == "/":
        return (False,)
    return (route.path.endswith("/"),) if route.strict else (False, True)


# --------------------------------------------------------------------------------------------------------------------
# What is compiled

_WEBSOCKET_ALONE: Final = frozenset({WEBSOCKET})

_Methods = dict[str, Route]
_Candidate = tuple[_Methods, Sequence[Any]]
# For each parameter the group of the expression that holds its text, and what makes its value of it.
_Slots = tuple[tuple[int, Callable[[str], Any]], ...]


class _Compiled:
    """The tables of all hosts."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._any = _Table()
        self._hosts: dict[str, _Table] = {}
        self._suffixes: dict[str, _Table] = {}
        for route in routes:
            for host in route.hosts or ("",):
                if not host:
                    table = self._any
                elif host.startswith("*."):
                    table = self._suffixes.setdefault(host[1:].lower(), _Table())
                else:
                    table = self._hosts.setdefault(host.lower(), _Table())
                table.add(route)
        self.shares_paths = False
        for table in (self._any, *self._hosts.values(), *self._suffixes.values()):
            for ends in table.ends:
                self.shares_paths |= ends.complete()
        self.direct: dict[str, _Methods] = {} if self._hosts or self._suffixes else self._any.direct()
        """The paths that need neither decoding nor a search, where all hosts are alike."""

    @property
    def knows_hosts(self) -> bool:
        return bool(self._hosts or self._suffixes)

    def tables(self, host: str) -> Iterator[_Table]:
        """The tables for a ``Host`` field, the most specific first; a port counts only where a route has one."""
        if host and self.knows_hosts:
            host = host.lower()
            name = re.sub(r":[0-9]*\Z", "", host)
            for key in dict.fromkeys((host, name)):
                if key in self._hosts:
                    yield self._hosts[key]
            for suffix, table in self._suffixes.items():
                if name.endswith(suffix):
                    yield table
        yield self._any


class _Ends:
    """The routes by method at one place of the tree, without and with a slash at the end of the path."""

    __slots__ = ("bare", "slash")

    def __init__(self) -> None:
        self.bare: _Methods = {}
        self.slash: _Methods = {}

    def add(self, route: Route) -> None:
        for slash in _endings(route):
            (self.slash if slash else self.bare).update(dict.fromkeys(route.keys, route))

    def complete(self) -> bool:
        """Say who answers what no route was registered for; tell whether GET and WebSockets have one each."""
        shared = False
        for methods in (self.bare, self.slash):
            get, websocket = methods.get("GET"), methods.get(WEBSOCKET)
            shared |= get is not None and websocket is not None
            if get is not None:
                # RFC 9110 §9.3.2: HEAD is GET without content. A websocket route has nothing to describe.
                methods.setdefault("HEAD", get)
                methods.setdefault(WEBSOCKET, get)
            elif websocket is not None:
                methods["GET"] = websocket
        return shared


class _Node(_Ends):
    """The place after some segments: what may follow."""

    __slots__ = ("edges", "literals", "tails")

    def __init__(self) -> None:
        super().__init__()
        self.literals: dict[str, _Node] = {}
        self.edges: list[_Edge] = []
        self.tails: list[_Tail] = []


_MOST_STEPS: Final = 5_000_000
"""What matching one segment may cost: some tens of milliseconds, and some hundred where parameters touch each other."""


def _longest(segment: Sequence[str | Parameter]) -> int:
    """How long a segment may be.

    An expression tries every way to share n characters out to k parameters, some n ** k / k! of them. A parameter that
    takes no character of the text on either side of it leaves no choice, and does not count.
    """
    around = ["", *segment, ""]
    parties = sum(
        isinstance(token, Parameter) and _reaches(token, around[index], around[index + 2])
        for index, token in enumerate(segment)
    )
    parties = max(1, parties)
    return int((_MOST_STEPS * math.factorial(parties)) ** (1 / parties))


def _reaches(parameter: Parameter, before: str | Parameter, after: str | Parameter) -> bool:
    """Whether a parameter might take a character of what is next to it."""
    if not isinstance(before, str) or not isinstance(after, str) or parameter.kind not in _CHARACTERS:
        return True
    return not _CHARACTERS[parameter.kind].isdisjoint(before[-1:] + after[:1])


class _Edge(NamedTuple):
    """One segment with parameters, none of which can cross a slash; one that is longer is none of its kind."""

    weight: int
    longest: int
    regex: re.Pattern[str]
    slots: _Slots
    node: _Node


class _Tail(NamedTuple):
    """The rest of a path, from the first parameter on that may cross a slash."""

    weight: int
    regex: re.Pattern[str]
    slots: _Slots
    ends: _Ends


class _Table:
    """The routes of one host."""

    def __init__(self) -> None:
        self._static: dict[str, _Node] = {}
        self._root = _Node()
        self.ends: list[_Ends] = [self._root]

    def add(self, route: Route) -> None:
        if not route.parameters:
            path = "".join(str(token) for token in route.tokens)
            self._place(self._static, path.removesuffix("/")).add(route)
            return
        node = self._root
        segments = _segments(route.tokens)
        for index, segment in enumerate(segments):
            parameters = [token for token in segment if isinstance(token, Parameter)]
            if not parameters:
                node = self._place(node.literals, "".join(str(token) for token in segment))
            elif all(parameter.weight not in (_REGEX_WEIGHT, _CUSTOM_WEIGHT, _PATH_WEIGHT) for parameter in parameters):
                node = self._edge(node, segment, parameters)
            else:
                self._tail(node, segments[index:], route)
                return
        node.add(route)

    def direct(self) -> dict[str, _Methods]:
        """The routes without parameters by the path of a request."""
        paths: dict[str, _Methods] = {}
        for bare, ends in self._static.items():
            # A percent sign in a request begins an escape.
            if "%" not in bare:
                paths[bare or "/"] = ends.bare
                if bare:
                    paths[f"{bare}/"] = ends.slash
        return paths

    def candidates(self, path: str) -> Iterator[_Candidate]:
        """Every place that a path reaches, with the values of its parameters, the most specific first."""
        slash = path.endswith("/") and path != "/"
        bare = path[:-1] if path.endswith("/") else path
        static = self._static.get(bare)
        if static is not None:
            yield static.slash if slash else static.bare, ()
        if self._root.literals or self._root.edges or self._root.tails:
            segments = bare[1:].split("/") if bare else []
            yield from _walk(self._root, segments, 0, slash, [])

    def _place(self, places: dict[str, _Node], key: str) -> _Node:
        node = places.get(key)
        if node is None:
            node = places[key] = _Node()
            self.ends.append(node)
        return node

    def _edge(self, node: _Node, segment: Sequence[str | Parameter], parameters: Sequence[Parameter]) -> _Node:
        regex = re.compile(_segment_regex(segment), re.DOTALL)
        weight = parameters[0].weight if len(segment) == 1 else _MIXED_WEIGHT
        for edge in node.edges:
            # The types that get here have one expression each, so an equal expression means equal types.
            if edge.regex.pattern == regex.pattern:
                return edge.node
        following = _Node()
        self.ends.append(following)
        node.edges.append(_Edge(weight, _longest(segment), regex, _slots(parameters), following))
        node.edges.sort(key=lambda edge: edge.weight)
        return following

    def _tail(self, node: _Node, segments: Sequence[Sequence[str | Parameter]], route: Route) -> None:
        end = "/?" if not route.strict else "/" if route.path.endswith("/") else ""
        regex = re.compile("/".join(_segment_regex(segment) for segment in segments) + end, re.DOTALL)
        parameters = [token for segment in segments for token in segment if isinstance(token, Parameter)]
        slots = _slots(parameters)
        tail = next((tail for tail in node.tails if (tail.regex.pattern, tail.slots) == (regex.pattern, slots)), None)
        if tail is None:
            crosses = any(parameter.weight == _PATH_WEIGHT for parameter in parameters)
            tail = _Tail(_PATH_WEIGHT if crosses else _REGEX_WEIGHT, regex, slots, _Ends())
            self.ends.append(tail.ends)
            node.tails.append(tail)
            node.tails.sort(key=lambda tail: tail.weight)
        # The expression itself says whether a slash may follow.
        tail.ends.bare.update(dict.fromkeys(route.keys, route))


def _segments(tokens: Sequence[str | Parameter]) -> list[list[str | Parameter]]:
    """Cut tokens at the slashes of their literal text; slashes at both ends of the path do not count."""
    segments: list[list[str | Parameter]] = [[]]
    for token in tokens:
        if isinstance(token, Parameter):
            segments[-1].append(token)
            continue
        for index, text in enumerate(token.split("/")):
            if index:
                segments.append([])
            if text:
                segments[-1].append(text)
    segments = segments[1:]
    return segments[:-1] if not segments[-1] else segments


def _segment_regex(segment: Sequence[str | Parameter]) -> str:
    return "".join(f"({token.regex})" if isinstance(token, Parameter) else re.escape(token) for token in segment)


def _walk(node: _Node, segments: list[str], index: int, slash: bool, values: list[Any]) -> Iterator[_Candidate]:
    if index == len(segments):
        methods = node.slash if slash else node.bare
        if methods:
            yield methods, values
        return
    segment = segments[index]
    literal = node.literals.get(segment)
    if literal is not None:
        yield from _walk(literal, segments, index + 1, slash, values)
    tails = iter(node.tails)
    tail = next(tails, None)
    for edge in node.edges:
        while tail is not None and tail.weight < edge.weight:
            yield from _match_tail(tail, segments, index, slash, values)
            tail = next(tails, None)
        found = _values(edge.regex.fullmatch(segment), edge.slots) if len(segment) <= edge.longest else None
        if found is not None:
            yield from _walk(edge.node, segments, index + 1, slash, values + found)
    while tail is not None:
        yield from _match_tail(tail, segments, index, slash, values)
        tail = next(tails, None)


def _match_tail(
    tail: _Tail, segments: Sequence[str], index: int, slash: bool, values: list[Any]
) -> Iterator[_Candidate]:
    rest = "/".join(segments[index:]) + ("/" if slash else "")
    found = _values(tail.regex.fullmatch(rest), tail.slots)
    if found is not None:
        yield tail.ends.bare, values + found


def _slots(parameters: Iterable[Parameter]) -> _Slots:
    slots = []
    group = 1
    for parameter in parameters:
        inner = re.compile(parameter.regex)
        # An expression that names a group as its parameter means that group's text.
        slots.append((group + inner.groupindex.get(parameter.name, 0), parameter.convert))
        group += 1 + inner.groups
    return tuple(slots)


def _values(match: re.Match[str] | None, slots: _Slots) -> list[Any] | None:
    """The parameters' values; None where the text does not match, or matches but is none (30 February)."""
    if match is None:
        return None
    try:
        return [convert((match.group(group) or "").replace(_SLASH, "/")) for group, convert in slots]
    except ValueError:
        return None
