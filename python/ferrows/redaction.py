"""Redaction: what the logs show of what a client sent."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

__all__ = ["LOGGED_LINE", "hide_parameter", "printable", "shown", "shown_line"]

LOGGED_LINE: Final = 256
"""Bytes of a request line that are shown where it is none."""

# RFC 6750 §2.3 names the one that holds a token.
_hidden: Final[set[bytes]] = {b"access_token"}


def hide_parameter(name: str) -> None:
    """Keep the values of a query's parameter out of the access log, in this process and from now on."""
    _hidden.add(name.encode("utf-8", "surrogatepass"))


def shown(target: bytes) -> str:
    """Return a request target, or a whole request line, without the values of hidden parameters, and printable."""
    path, mark, query = target.partition(b"?")
    return _escaped(path + mark + _PARAMETER.sub(_without_value, query) if mark else target)


def shown_line(octets: bytes) -> str:
    """Return what has arrived of a first line, up to the first control character; "-" where that is nothing."""
    line = re.split(rb"[\x00-\x1f\x7f]", octets, maxsplit=1)[0]
    return (shown(line[:LOGGED_LINE]) + ("..." if len(line) > LOGGED_LINE else "")).strip() or "-"


def printable(text: str) -> str:
    """Return text without what would begin a line of its own in a log, or command a terminal: that comes escaped."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


# What is no parameter is taken as a whole too: to look for one at each of its octets would cost the square of them.
_PARAMETER: Final = re.compile(rb"([^&= ]*+)=[^& ]*+|[^&= ]++")


def _without_value(parameter: re.Match[bytes]) -> bytes:
    # Spelled as it may be: what the application decodes is decoded here.
    if parameter[1] is None:
        return parameter[0]
    name = unquote_to_bytes(parameter[1].replace(b"+", b" "))
    return parameter[1] + b"=***" if name in _hidden else parameter[0]


def _escaped(octets: bytes) -> str:
    """Octets as they may stand in the log's quotation marks."""
    text = octets.decode("latin-1")
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(
        character if " " <= character <= "~" and character not in '"\\' else f"\\x{ord(character):02x}"
        for character in text
    )
