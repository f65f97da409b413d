"""Headers: the fields of a request or a response, by name in any case and several times (RFC 9110 §5)."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Final, Self

__all__ = ["Headers", "MultiDict", "parse_list", "parse_parameters"]

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

# Everything that would end a field line or hide one (RFC 9110 §5.5); HTAB is the one control that a value may hold.
_FORBIDDEN: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

# What may hold credentials, which no representation shows: it could end up in a log.
_CREDENTIALS: Final = frozenset(
    {"authorization", "cookie", "proxy-authorization", "sec-websocket-protocol", "set-cookie"}
)


class Headers(MutableMapping[str, str]):
    """A case-insensitive multi-dict that keeps order and spelling.

    ``headers[name]`` and ``get`` give the first value, ``getall`` every one; setting an item replaces all values of
    that name. A name that is no token, or a value with a control character, raises ValueError, so that no value can
    smuggle a second field into a message. Values from the network are UTF-8 with what is not kept as surrogates.
    """

    __slots__ = ("_fields", "_head")

    def __init__(self, fields: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None, **more: Any) -> None:
        self._head: Any = None
        # One list of (name as written, value) for each name in lower case.
        self._fields: dict[str, list[tuple[str, str]]] | None = {}
        if fields or more:
            if isinstance(fields, (str, bytes)):
                raise TypeError(f"headers are a mapping or pairs of name and value, not {type(fields).__name__}")
            self.extend(fields or (), **more)

    @classmethod
    def of(cls, head: Any) -> Self:
        """Wrap a head that a parser has validated.

        Nothing is decoded before it is asked for, and single fields are looked up in the head itself: a connection that
        stays open for long keeps no index of headers that nobody reads any more.
        """
        self = cls.__new__(cls)
        self._head = head
        self._fields = None
        return self

    def __getitem__(self, name: str) -> str:
        values = self.getall(name)
        if not values:
            raise KeyError(name)
        return values[0]

    def __setitem__(self, name: str, value: Any) -> None:
        fields = self._index()
        fields[_checked_name(name)] = [(name, _checked_value(name, value))]

    def __delitem__(self, name: str) -> None:
        del self._index()[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.getall(name))

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, each once, as first written."""
        return iter([fields[0][0] for fields in self._index().values()])

    def __len__(self) -> int:
        return len(self._index())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Headers):
            return self._comparable() == other._comparable()
        if isinstance(other, Mapping):
            return self._comparable() == Headers(other)._comparable()
        return NotImplemented

    def __repr__(self) -> str:
        shown = [(name, "***" if name.lower() in _CREDENTIALS else value) for name, value in self.multi_items()]
        return f"<{type(self).__name__} {shown!r}>"

    def getall(self, name: str, default: Any = ()) -> list[str]:
        """Return every value of ``name`` in order of arrival; a list of ``default`` where there is none."""
        if self._fields is None:
            return self._head.getall(name.lower()) or list(default)
        fields = self._fields.get(name.lower())
        return list(default) if fields is None else [value for _, value in fields]

    getlist = getall

    def getone(self, name: str, default: Any = None) -> Any:
        """Return the first value of ``name``."""
        return self.get(name, default)

    def combined(self, name: str) -> str:
        """Return the lines of ``name`` as one list-valued field (RFC 9110 §5.3); empty where there is none."""
        return ", ".join(self.getall(name))

    def add(self, name: str, value: Any) -> None:
        """Add a value and keep those that ``name`` has."""
        lowered, field = _checked_name(name), (name, _checked_value(name, value))
        self._index().setdefault(lowered, []).append(field)

    def extend(self, fields: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), **more: Any) -> None:
        """Add every pair."""
        if isinstance(fields, Headers):
            fields = fields.multi_items()
        elif isinstance(fields, Mapping):
            fields = fields.items()
        for name, value in fields:
            self.add(name, value)
        for name, value in more.items():
            self.add(name, value)

    def multi_items(self) -> Iterator[tuple[str, str]]:
        """Iterate over (name, value), a name as often as it has values."""
        for fields in self._index().values():
            yield from fields

    def by_name(self) -> Iterable[tuple[str, list[tuple[str, str]]]]:
        """Return each name in lower case with its fields, as (name as written, value)."""
        return self._index().items()

    def copy(self) -> Headers:
        return Headers(self)

    def _comparable(self) -> dict[str, list[str]]:
        return {name: [value for _, value in fields] for name, fields in self._index().items()}

    def _index(self) -> dict[str, list[tuple[str, str]]]:
        if self._fields is None:
            self._fields = {}
            for raw_name, raw_value in self._head.headers:
                name = raw_name.decode("latin-1")
                field = (name, raw_value.decode("utf-8", "surrogateescape"))
                self._fields.setdefault(name.lower(), []).append(field)
            self._head = None
        return self._fields


class MultiDict(dict[str, list[Any]]):
    """What a query or a form holds: ``get`` gives the first value of a name, an item all of them."""

    def get(self, name: str, default: Any = None) -> Any:
        """Return the first value."""
        values = super().get(name)
        return values[0] if values else default

    def getlist(self, name: str, default: Any = ()) -> list[Any]:
        """Return every value."""
        values = super().get(name)
        return list(default) if values is None else values

    getall = getlist

    def add(self, name: str, value: Any) -> None:
        self.setdefault(name, []).append(value)

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[str, Any]]) -> Self:
        self = cls()
        for name, value in pairs:
            self.add(name, value)
        return self


def parse_list(value: str) -> list[str]:
    """Split a list-valued field without quoted strings at its commas; empty elements are ignored (RFC 9110 §5.6.1)."""
    return [element for part in value.split(",") if (element := part.strip(" \t"))]


_PARAMETER: Final = re.compile(
    r"""[ \t]*+;[ \t]*+(?:([!#$%&'*+\-.^_`|~0-9A-Za-z]++)=(?:([!#$%&'*+\-.^_`|~0-9A-Za-z]++)"""
    r"""|"((?:[^"\\]++|\\.)*+)"))?+"""
)


def parse_parameters(value: str) -> tuple[str, dict[str, str]]:
    """Split a value such as ``text/html; charset="utf-8"`` into the part before and its parameters (RFC 9110 §5.6.6).

    The part before and the names come in lower case. ValueError: the parameters do not follow the grammar, or one comes
    twice.
    """
    main, semicolon, _ = value.partition(";")
    parameters: dict[str, str] = {}
    at = len(main) if semicolon else len(value)
    while at < len(value):
        match = _PARAMETER.match(value, at)
        if match is None:
            if not value[at:].strip(" \t"):
                break
            raise ValueError(f"malformed parameters in {value!r}")
        at = match.end()
        name, token, quoted = match.groups()
        if name is None:
            continue
        if name.lower() in parameters:
            raise ValueError(f"repeated parameter {name!r} in {value!r}")
        parameters[name.lower()] = token if token is not None else _unquote(quoted)
    return main.strip(" \t").lower(), parameters


def _unquote(quoted: str) -> str:
    return re.sub(r"\\(.)", r"\1", quoted)


@functools.lru_cache(maxsize=256)
def _checked_name(name: str) -> str:
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"header name {name!r} is no token")
    return name.lower()


def _checked_value(name: str, value: Any) -> str:
    text = value if isinstance(value, str) else str(value)
    # Text that can be printed has no control character, and to know that takes a fifth of the search.
    if not text.isprintable() and _FORBIDDEN.search(text):
        raise ValueError(f"header {name!r} has a control character in its value {text!r}")
    return text.strip(" \t")
