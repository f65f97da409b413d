"""URLs of WebSockets (RFC 6455 §3): where to connect to, and what to ask for there."""

from __future__ import annotations

import base64
import re
from typing import Final, NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit

__all__ = ["WebsocketURL", "without_password"]

_SCHEMES: Final = {"ws": False, "http": False, "wss": True, "https": True}

_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f]")

# What stays as it is in a request target: what a path and a query may hold (RFC 3986 §3.3, §3.4), and what is escaped.
_KEPT: Final = "/?:@!$&'()*+,;=-._~%"


class WebsocketURL(NamedTuple):
    """A URL, taken apart."""

    secure: bool
    host: str
    """As it is resolved and verified: without brackets, in ASCII."""
    port: int
    target: str
    """The path and the query."""
    authorization: str | None
    """The value of an ``Authorization`` header, from the user and the password."""

    @property
    def authority(self) -> str:
        """The value of ``Host``: the port is left out where it is the scheme's own (RFC 6455 §4.1)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """The URL up to its path, for messages; it never has the password in it."""
        return f"{'wss' if self.secure else 'ws'}://{self.authority}"

    @property
    def shown(self) -> str:
        """The URL for messages: it has neither a password nor a query in it, which may be as secret."""
        return self.origin + self.target.partition("?")[0]

    @classmethod
    def parse(cls, url: str) -> WebsocketURL:
        """Take a URL apart; ValueError, which says why, where it is none that can be connected to."""
        if not isinstance(url, str):
            raise TypeError(f"URL is {url!r}, permitted: a str")
        shown = without_password(url)
        if _FORBIDDEN.search(url):
            raise ValueError(f"URL {shown!r} has a space or a control character in it")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"URL {shown!r}: {error}") from None
        if parts.scheme not in _SCHEMES:
            raise ValueError(f"URL {shown!r} has the scheme {parts.scheme!r}, permitted: {', '.join(_SCHEMES)}")
        if not parts.hostname:
            raise ValueError(f"URL {shown!r} names no host")
        # §3: a fragment has no meaning, and MUST NOT be used.
        if "#" in url:
            raise ValueError(f"URL {shown!r} has a fragment, permitted: none")
        if port == 0:
            raise ValueError(f"URL {shown!r} has the port 0, permitted: 1 to 65535")
        try:
            host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise ValueError(f"URL {shown!r} has a host that is no domain name: {error}") from None
        secure = _SCHEMES[parts.scheme]
        target = quote(parts.path or "/", safe=_KEPT)
        if parts.query:
            target += "?" + quote(parts.query, safe=_KEPT)
        return cls(secure, host, port or (443 if secure else 80), target, _basic(parts))


def without_password(url: str) -> str:
    """Return a URL, or what was meant to be one, as it may be shown: without a user and a password."""
    return re.sub(r"//[^/?#]*@", "//", url)


def _basic(parts: SplitResult) -> str | None:
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return f"Basic {base64.b64encode(pair.encode('utf-8')).decode('ascii')}"
