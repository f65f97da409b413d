"""Cookies: what a request carries and what a response sets (RFC 6265)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Final, Literal

__all__ = ["Cookie", "CookieJar", "parse_cookies"]

SameSite = Literal["Strict", "Lax", "None", "strict", "lax", "none"]

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# cookie-octet (§4.1.1): what a value may hold without quotes.
_PLAIN: Final = re.compile(r"[!#-+\--:<-\[\]-~]*")
_ESCAPED: Final = re.compile(r"\\(?:([0-3][0-7][0-7])|(.))")
# An attribute's value ends at a semicolon; a control character could end the field.
_ATTRIBUTE: Final = re.compile(r"[ -:<-~]*")


def parse_cookies(value: str) -> dict[str, str]:
    """Parse a ``Cookie`` field (§5.4); of several of one name the first counts, since its path is the most specific.

    What is no pair is skipped, as a server cannot know who set it.
    """
    cookies: dict[str, str] = {}
    for pair in value.split(";"):
        name, equals, text = pair.partition("=")
        name = name.strip(" \t")
        if equals and name:
            cookies.setdefault(name, _decode(text.strip(" \t")))
    return cookies


class Cookie:
    """One ``Set-Cookie`` field; its attributes are also items (``cookie["max-age"] = 60``).

    The defaults are the safe ones: ``secure`` and ``samesite="Lax"``. A browser keeps a secure cookie from plain HTTP
    only for localhost, so a site without TLS must say ``secure=False``.
    """

    __slots__ = (
        "_domain",
        "_key",
        "_path",
        "_value",
        "expires",
        "httponly",
        "max_age",
        "partitioned",
        "samesite",
        "secure",
    )

    def __init__(
        self,
        key: str,
        value: str,
        *,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = True,
        max_age: int | None = None,
        expires: datetime | None = None,
        httponly: bool = False,
        samesite: SameSite | None = "Lax",
        partitioned: bool = False,
        host_prefix: bool = False,
        secure_prefix: bool = False,
    ) -> None:
        """Raise ValueError for a name that is no token and for attributes that browsers refuse together."""
        if not _TOKEN.fullmatch(key):
            raise ValueError(f"cookie name {key!r} is no token")
        if host_prefix and secure_prefix:
            raise ValueError("cookie has host_prefix and secure_prefix, permitted: one of them")
        if (host_prefix or secure_prefix or partitioned) and not secure:
            raise ValueError(f"cookie {key!r} has a prefix or is partitioned, so it must be secure")
        if host_prefix and (path != "/" or domain is not None):
            raise ValueError(f"cookie {key!r} has host_prefix, so its path must be '/' and its domain None")
        self._key = f"__Host-{key}" if host_prefix else f"__Secure-{key}" if secure_prefix else key
        self.value = value
        self.path = path
        self.domain = domain
        self.secure = secure
        self.max_age = max_age
        self.expires = expires
        self.httponly = httponly
        self.samesite = samesite
        self.partitioned = partitioned

    @property
    def key(self) -> str:
        return self._key

    @property
    def value(self) -> str:
        return self._value

    @value.setter
    def value(self, value: str) -> None:
        self._value = str(value)

    @property
    def path(self) -> str | None:
        return self._path

    @path.setter
    def path(self, path: str | None) -> None:
        self._path = _checked_attribute("path", path)

    @property
    def domain(self) -> str | None:
        return self._domain

    @domain.setter
    def domain(self, domain: str | None) -> None:
        self._domain = _checked_attribute("domain", domain)

    def __getitem__(self, attribute: str) -> Any:
        return getattr(self, _attribute(attribute))

    def __setitem__(self, attribute: str, value: Any) -> None:
        setattr(self, _attribute(attribute), value)

    def __str__(self) -> str:
        """Return the field's value (§4.1.1)."""
        parts = [f"{self._key}={_encode(self._value)}"]
        if self._path is not None:
            parts.append(f"Path={self._path}")
        if self._domain is not None:
            parts.append(f"Domain={self._domain}")
        if self.max_age is not None:
            parts.append(f"Max-Age={int(self.max_age)}")
        if self.expires is not None:
            expires = self.expires if self.expires.tzinfo else self.expires.replace(tzinfo=UTC)
            parts.append(f"Expires={format_datetime(expires.astimezone(UTC), usegmt=True)}")
        if self.samesite is not None:
            if self.samesite.lower() not in ("strict", "lax", "none"):
                raise ValueError(f"cookie samesite {self.samesite!r}, permitted: Strict, Lax, None")
            parts.append(f"SameSite={self.samesite.capitalize()}")
        parts += [name for name, on in _flags(self) if on]
        return "; ".join(parts)

    def __repr__(self) -> str:
        return f"<Cookie {self}>"


class CookieJar:
    """The cookies that a response sets; a name may be set once for each path and domain."""

    __slots__ = ("_cookies",)

    def __init__(self) -> None:
        self._cookies: list[Cookie] = []

    def add_cookie(self, key: str, value: str, **attributes: Any) -> Cookie:
        """Set a cookie; ``attributes`` are those of :class:`Cookie`."""
        cookie = Cookie(key, value, **attributes)
        self._drop(cookie.key, cookie.path, cookie.domain)
        self._cookies.append(cookie)
        return cookie

    def delete_cookie(self, key: str, *, path: str = "/", domain: str | None = None, **attributes: Any) -> Cookie:
        """Tell the client to forget a cookie; path and domain must be those that it was set with."""
        # §5.3: a lifetime that is over removes the cookie.
        attributes |= {"max_age": 0, "expires": datetime(1970, 1, 1, tzinfo=UTC)}
        return self.add_cookie(key, "", path=path, domain=domain, **attributes)

    def get_cookie(self, key: str, *, path: str | None = "/", domain: str | None = None) -> Cookie | None:
        """Return the cookie that is to be set, None where there is none."""
        for cookie in self._cookies:
            if (cookie.key, cookie.path, cookie.domain) == (key, path, domain):
                return cookie
        return None

    def has_cookie(self, key: str, *, path: str | None = "/", domain: str | None = None) -> bool:
        return self.get_cookie(key, path=path, domain=domain) is not None

    def __getitem__(self, key: str) -> Cookie:
        for cookie in self._cookies:
            if cookie.key == key:
                return cookie
        raise KeyError(key)

    def __setitem__(self, key: str, value: str) -> None:
        self.add_cookie(key, value)

    def __delitem__(self, key: str) -> None:
        self.delete_cookie(key)

    def __contains__(self, key: object) -> bool:
        return any(cookie.key == key for cookie in self._cookies)

    def __iter__(self) -> Iterator[Cookie]:
        return iter(self._cookies)

    def __len__(self) -> int:
        return len(self._cookies)

    def _drop(self, key: str, path: str | None, domain: str | None) -> None:
        self._cookies = [c for c in self._cookies if (c.key, c.path, c.domain) != (key, path, domain)]


_ATTRIBUTES: Final = frozenset(
    {"value", "path", "domain", "secure", "max_age", "expires", "httponly", "samesite", "partitioned"}
)


def _attribute(name: str) -> str:
    attribute = name.lower().replace("-", "_")
    if attribute not in _ATTRIBUTES:
        raise KeyError(f"cookie attribute {name!r}, permitted: {', '.join(sorted(_ATTRIBUTES))}")
    return attribute


def _flags(cookie: Cookie) -> tuple[tuple[str, bool], ...]:
    return ("Secure", cookie.secure), ("HttpOnly", cookie.httponly), ("Partitioned", cookie.partitioned)


def _checked_attribute(name: str, value: str | None) -> str | None:
    if value is not None and not _ATTRIBUTE.fullmatch(value):
        raise ValueError(f"cookie {name} {value!r} has a semicolon or a character that is not printable ASCII")
    return value


def _encode(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    # The convention of Python's http.cookies and of PHP: a quoted string with octal escapes, here of UTF-8.
    octets = value.encode("utf-8", "surrogateescape")
    return '"' + "".join(_escape(octet) for octet in octets) + '"'


def _escape(octet: int) -> str:
    if octet in b'"\\':
        return "\\" + chr(octet)
    return chr(octet) if 0x20 <= octet < 0x7F and octet not in b";," else f"\\{octet:03o}"


def _decode(value: str) -> str:
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    if "\\" not in value:
        return value[1:-1]
    octets = bytearray()
    at = 0
    inner = value[1:-1]
    for match in _ESCAPED.finditer(inner):
        octets += inner[at : match.start()].encode("utf-8", "surrogateescape")
        octal, literal = match.groups()
        octets += bytes([int(octal, 8)]) if octal else literal.encode("utf-8", "surrogateescape")
        at = match.end()
    octets += inner[at:].encode("utf-8", "surrogateescape")
    return octets.decode("utf-8", "surrogateescape")
