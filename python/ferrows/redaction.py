"""Redaction: what a request line has that no log may show."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

__all__ = ["hide_parameter", "without_hidden"]

# RFC 6750 §2.3 names the one that holds a token.
_hidden: Final[set[bytes]] = {b"access_token"}


def hide_parameter(name: str) -> None:
    """Keep the values of a query's parameter out of the access log, in this process and from now on."""
    _hidden.add(name.encode("utf-8", "surrogatepass"))


def without_hidden(target: bytes) -> bytes:
    """Return a request target, or a whole request line, as the log may show it: with what is secret in it replaced."""
    path, mark, query = target.partition(b"?")
    return path + mark + _PARAMETER.sub(_shown, query) if mark else target


_PARAMETER: Final = re.compile(rb"([^&= ]*)=([^& ]*)")


def _shown(parameter: re.Match[bytes]) -> bytes:
    # Spelled as it may be: what the application decodes is decoded here.
    name = unquote_to_bytes(parameter[1].replace(b"+", b" "))
    return parameter[1] + b"=***" if name in _hidden else parameter[0]
