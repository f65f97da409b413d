"""WebSocket extensions: the header of RFC 6455 §9.1, and the negotiation of permessage-deflate (RFC 7692 §7)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from .exceptions import BadRequest

__all__ = ["DeflateParameters", "ExtensionOffer", "negotiate_deflate", "parse_extensions"]

PERMESSAGE_DEFLATE: Final = "permessage-deflate"


@dataclass(frozen=True, slots=True)
class DeflateParameters:
    """permessage-deflate as two peers agreed on it, or the most that a server agrees to.

    ``server_*`` governs what the server compresses, ``client_*`` what the client does; window bits are the base-2
    logarithm of the window's bytes. ``level``, ``mem_level`` and ``threshold`` (bytes below which a message goes out
    uncompressed) are the sender's own business and not negotiated.
    """

    server_no_context_takeover: bool = True
    client_no_context_takeover: bool = True
    server_max_window_bits: int = 15
    client_max_window_bits: int = 15
    level: int = 6
    mem_level: int = 8
    threshold: int = 1024

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} is {value}, permitted: {low} to {high}")


# zlib turns a window of 8 bits into one of 9 when it compresses, so as a server we never use 8 ourselves.
_RANGES: Final[Mapping[str, tuple[int, int]]] = {
    "server_max_window_bits": (9, 15),
    "client_max_window_bits": (8, 15),
    "level": (0, 9),
    "mem_level": (1, 9),
    "threshold": (0, 2**63 - 1),
}


class ExtensionOffer(NamedTuple):
    """One extension that a client offers; ``parameters`` keeps repeated names, a value is None where there is none."""

    name: str
    parameters: tuple[tuple[str, str | None], ...]


_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_OWS = r"[ \t]*+"
_NAME: Final = re.compile(rf"{_OWS}({_TOKEN}){_OWS}")
# A quoted value must be a token once its quoting is undone (§9.1).
_PARAMETER: Final = re.compile(
    rf""";{_OWS}({_TOKEN}){_OWS}(?:={_OWS}(?:({_TOKEN})|"((?:\\?[!#$%&'*+\-.^_`|~0-9A-Za-z])++)"){_OWS})?+"""
)
_EMPTY: Final = re.compile(rf"{_OWS}(?=,|\Z)")


def parse_extensions(value: str) -> list[ExtensionOffer]:
    """Parse a whole ``Sec-WebSocket-Extensions`` field, its lines combined with commas.

    BadRequest: the value does not follow the ABNF, ``extension-list = 1#extension``. Empty elements between commas are
    ignored, as the #rule asks of recipients; a list of nothing else is malformed.
    """
    offers = []
    at = 0
    while at <= len(value):
        if match := _EMPTY.match(value, at):
            at = match.end() + 1
            continue
        match = _NAME.match(value, at)
        if match is None:
            raise _malformed(value, at)
        name, at = match[1], match.end()
        parameters: list[tuple[str, str | None]] = []
        while match := _PARAMETER.match(value, at):
            key, token, quoted = match.groups()
            parameters.append((key, token if quoted is None else quoted.replace("\\", "")))
            at = match.end()
        if at < len(value) and value[at] != ",":
            raise _malformed(value, at)
        at += 1
        offers.append(ExtensionOffer(name, tuple(parameters)))
    if not offers:
        raise BadRequest("Sec-WebSocket-Extensions names no extension")
    return offers


def _malformed(value: str, at: int) -> BadRequest:
    return BadRequest(f"Sec-WebSocket-Extensions is malformed at character {at + 1}")


def negotiate_deflate(
    offers: Iterable[ExtensionOffer], settings: DeflateParameters | None
) -> tuple[DeflateParameters, str] | None:
    """Accept the first offer of permessage-deflate that we can, within ``settings``.

    Returns the parameters agreed on and the element of ``Sec-WebSocket-Extensions`` that says so; None where
    ``settings`` is None or no offer will do. An offer with an unknown, repeated or invalid parameter is declined and
    the next one tried, since clients list them in order of preference (RFC 7692 §5, §7).
    """
    if settings is None:
        return None
    for offer in offers:
        if offer.name == PERMESSAGE_DEFLATE:
            agreed = _agree(offer.parameters, settings)
            if agreed is not None:
                return agreed
    return None


# §7.1.2.1: a decimal integer without leading zeroes between 8 and 15.
_WINDOW_BITS: Final = {str(bits): bits for bits in range(8, 16)}


def _agree(
    offered: tuple[tuple[str, str | None], ...], settings: DeflateParameters
) -> tuple[DeflateParameters, str] | None:
    parameters = dict(offered)
    if len(parameters) != len(offered) or not parameters.keys() <= _KNOWN:
        return None
    # §7.1.1: these two take no value.
    for flag in ("server_no_context_takeover", "client_no_context_takeover"):
        if parameters.get(flag) is not None:
            return None

    server_bits = settings.server_max_window_bits
    if "server_max_window_bits" in parameters:
        # §7.1.2.1: in an offer the value is not optional. 8 is legal, but what we compress would need 9.
        limit = _WINDOW_BITS.get(parameters["server_max_window_bits"] or "", 8)
        if limit == 8:
            return None
        server_bits = min(server_bits, limit)

    client_bits = 15
    if "client_max_window_bits" in parameters:
        # §7.1.2.2: without a value the client only says that it understands the parameter.
        value = parameters["client_max_window_bits"]
        if value is not None and value not in _WINDOW_BITS:
            return None
        client_bits = min(settings.client_max_window_bits, _WINDOW_BITS[value or "15"])

    agreed = DeflateParameters(
        server_no_context_takeover=settings.server_no_context_takeover or "server_no_context_takeover" in parameters,
        client_no_context_takeover=settings.client_no_context_takeover or "client_no_context_takeover" in parameters,
        server_max_window_bits=server_bits,
        client_max_window_bits=client_bits,
        level=settings.level,
        mem_level=settings.mem_level,
        threshold=settings.threshold,
    )
    return agreed, _answer(agreed, parameters)


_KNOWN: Final = frozenset(
    {
        "server_no_context_takeover",
        "client_no_context_takeover",
        "server_max_window_bits",
        "client_max_window_bits",
    }
)


def _answer(agreed: DeflateParameters, offered: Mapping[str, str | None]) -> str:
    elements = [PERMESSAGE_DEFLATE]
    if agreed.server_no_context_takeover:
        elements.append("server_no_context_takeover")
    if agreed.client_no_context_takeover:
        elements.append("client_no_context_takeover")
    if agreed.server_max_window_bits < 15 or "server_max_window_bits" in offered:
        elements.append(f"server_max_window_bits={agreed.server_max_window_bits}")
    # §7.1.2.2: never sent unless the client offered it; below 15 only then, so this is the whole condition.
    if agreed.client_max_window_bits < 15:
        elements.append(f"client_max_window_bits={agreed.client_max_window_bits}")
    return "; ".join(elements)
