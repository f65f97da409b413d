"""What trusted proxies tell about the client of a request: ``X-Forwarded-*``, ``Forwarded`` (RFC 7239), or one header.

Only a peer inside ``FORWARDED_ALLOW_IPS`` is believed. Which header names the client is a setting and not found out:
a proxy writes one of them and passes the others on as the client has sent them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from .headers import parse_list, parse_parameters
from .networks import Networks, parse_address, parse_networks

if TYPE_CHECKING:
    from .config import Config

__all__ = ["forwarded"]


def forwarded(config: Config, peer: str, lines: Callable[[str], list[str]]) -> dict[str, str]:
    """Return what is known of the client: ``for`` is its address, ``proto`` http or https, ``host`` what it asked for.

    ``peer`` is the peer's address, empty on a Unix socket; ``lines`` gives the values of a request's header, whose name
    is in lower case. What is malformed is left out, so nothing is there where nothing can be believed.
    """
    networks = parse_networks(config.FORWARDED_ALLOW_IPS)
    if peer not in networks:
        return {}
    header = (config.REAL_IP_HEADER or "x-forwarded-for").lower()
    if header == "forwarded":
        hops = _forwarded_hops(lines(header))
        at = _client(len(hops), lambda index: hops[index].address, networks, config.PROXIES_COUNT)
        return {} if at is None else _known(hops[at])
    entries = parse_list(",".join(lines(header)))
    if header != "x-forwarded-for" and len(entries) != 1:
        # Such a header has one address; what several mean cannot be told.
        entries = []
    # Each is read when it is asked for: a client may have put thousands before the one that counts.
    at = _client(len(entries), lambda index: _node(entries[index]), networks, config.PROXIES_COUNT)
    return _known(
        _Hop(
            None if at is None else _node(entries[at]),
            _at(lines("x-forwarded-proto"), at, len(entries)),
            _at(lines("x-forwarded-host"), at, len(entries)),
        )
    )


class _Hop(NamedTuple):
    """What one proxy says about its peer; None is what it does not say, or what cannot be read."""

    address: str | None = None
    proto: str | None = None
    host: str | None = None


def _client(hops: int, address_of: Callable[[int], str | None], networks: Networks, count: int | None) -> int | None:
    """Find the client among what each proxy has appended: from the right, the first that is no trusted proxy itself.

    An entry that cannot be read ends the search at the one to its right. With ``count`` it is so many from the right.
    """
    if count is not None:
        return hops - count if hops >= count and address_of(hops - count) is not None else None
    found = None
    for index in reversed(range(hops)):
        address = address_of(index)
        if address is None:
            break
        found = index
        if address not in networks:
            break
    return found


def _known(hop: _Hop) -> dict[str, str]:
    known = {}
    if hop.address is not None:
        known["for"] = hop.address
    if hop.proto is not None and (proto := _SCHEMES.get(hop.proto.lower())) is not None:
        known["proto"] = proto
    if hop.host is not None and _HOST.fullmatch(hop.host):
        known["host"] = hop.host
    return known


_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._~-]++|\[[0-9A-Fa-f:.]++\])(?::[0-9]{1,5})?")


def _at(values: list[str], at: int | None, hops: int) -> str | None:
    """Take from a list the client's entry where each proxy has added one, else what the nearest has written."""
    listed = parse_list(",".join(values))
    if not listed:
        return None
    return listed[at] if at is not None and len(listed) == hops else listed[-1]


def _node(text: str) -> str | None:
    """Read the address of ``192.0.2.1``, ``192.0.2.1:80``, ``2001:db8::1``, ``[2001:db8::1]`` or ``[2001:db8::1]:80``.

    RFC 7239 §6 permits names too (``unknown``, ``_hidden``); they are no addresses.
    """
    bracketed = _BRACKETED.fullmatch(text)
    if bracketed is not None:
        text = bracketed[1]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    address = parse_address(text)
    return None if address is None else str(address)


_BRACKETED: Final = re.compile(r"\[([0-9A-Fa-f:.]++)\](?::[0-9A-Za-z._-]*+)?")


def _forwarded_hops(lines: list[str]) -> list[_Hop]:
    """Read the elements of RFC 7239 §4, a line as a whole: behind an open quote nothing can be told apart."""
    hops: list[_Hop] = []
    for line in lines:
        try:
            if not _ELEMENTS.fullmatch(line):
                raise ValueError("malformed elements")
            elements = [parse_parameters(f";{element}")[1] for element in _ELEMENT.findall(line) if element.strip()]
        except ValueError:
            hops.append(_Hop())
            continue
        hops.extend(
            _Hop(_node(element.get("for", "")), element.get("proto"), element.get("host")) for element in elements
        )
    return hops


_ELEMENT: Final = re.compile(r'(?:[^",]++|"(?:[^"\\]++|\\.)*+")++')
_ELEMENTS: Final = re.compile(rf"(?:{_ELEMENT.pattern}|,)*+")
