"""Cookies: what a test client keeps of what it was given (RFC 6265 §5)."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from ..cookies import Cookie, parse_cookies
from ..headers import Headers

__all__ = ["ClientCookies"]


class ClientCookies(MutableMapping[str, str]):
    """The cookies of one client, by name; the application may set one name for several paths.

    There is one host, so ``Domain`` says nothing. ``Secure`` is not asked for either: as for a browser, localhost is
    secure enough.
    """

    def __init__(self) -> None:
        # (name, path) -> the value as it is sent.
        self._cookies: dict[tuple[str, str], str] = {}

    def __getitem__(self, name: str) -> str:
        for (each, _), value in self._cookies.items():
            if each == name:
                return parse_cookies(f"{name}={value}")[name]
        raise KeyError(name)

    def __setitem__(self, name: str, value: str) -> None:
        """Set a cookie for all paths, in place of all that have the name."""
        self.pop(name, None)
        pair = str(Cookie(name, value, path=None, secure=False, samesite=None))
        self._cookies[name, "/"] = pair.partition("=")[2]

    def __delitem__(self, name: str) -> None:
        found = [key for key in self._cookies if key[0] == name]
        if not found:
            raise KeyError(name)
        for key in found:
            del self._cookies[key]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for name, _ in self._cookies))

    def __len__(self) -> int:
        return len({name for name, _ in self._cookies})

    def __repr__(self) -> str:
        return f"<ClientCookies {dict(self)!r}>"

    def header(self, path: str) -> str:
        """Return the ``Cookie`` field for a path, the most specific first (§5.4); empty where there is none."""
        fitting = [(key, value) for key, value in self._cookies.items() if _is_within(path, key[1])]
        fitting.sort(key=lambda each: -len(each[0][1]))
        return "; ".join(f"{name}={value}" for (name, _), value in fitting)

    def take(self, headers: Headers, path: str) -> None:
        """Take what a response to a request for ``path`` sets and deletes (§5.2, §5.3)."""
        for field in headers.getall("set-cookie"):
            pair, *attributes = field.split(";")
            name, equals, value = pair.partition("=")
            if not equals or not name.strip():
                continue
            given = {key.strip().lower(): text.strip() for key, _, text in (each.partition("=") for each in attributes)}
            place = given.get("path", "")
            key = (name.strip(), place if place.startswith("/") else _default_path(path))
            if _is_over(given):
                self._cookies.pop(key, None)
            else:
                self._cookies[key] = value.strip()


def _is_over(given: dict[str, str]) -> bool:
    # §5.3 3: Max-Age comes before Expires.
    if "max-age" in given:
        try:
            return int(given["max-age"]) <= 0
        except ValueError:
            pass
    try:
        expires = parsedate_to_datetime(given["expires"])
    except (KeyError, ValueError):
        return False
    return expires.replace(tzinfo=expires.tzinfo or UTC) <= datetime.now(UTC)


def _default_path(path: str) -> str:
    """§5.1.4: everything up to the last slash, without it."""
    return path[: path.rfind("/")] or "/"


def _is_within(path: str, place: str) -> bool:
    """§5.1.4: whether a path is a cookie's own or below it."""
    return path == place or (path.startswith(place) and (place.endswith("/") or path[len(place)] == "/"))
