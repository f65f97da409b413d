"""Networks: the peers whose word about a client is taken."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

__all__ = ["NO_NETWORKS", "Networks", "parse_address", "parse_networks"]

_EVERYONE: Final = "*"
_UNIX: Final = "unix"


@dataclass(frozen=True, slots=True)
class Networks:
    """Networks of IPv4 and IPv6, perhaps all of them, perhaps the peers of Unix sockets too."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    unix: bool = False
    everyone: bool = False

    def __bool__(self) -> bool:
        return bool(self.networks) or self.unix or self.everyone

    def __contains__(self, address: str) -> bool:
        """Whether a peer's address is in one of them; that of a Unix socket's peer is empty."""
        if self.everyone:
            return True
        if not address:
            return self.unix
        # A link-local peer's has its interface.
        found = parse_address(address.partition("%")[0])
        return found is not None and any(found in network for network in self.networks)


NO_NETWORKS: Final = Networks()


def parse_networks(given: Any) -> Networks:
    """Read networks: an iterable of strings or one string with commas; ``*`` is everyone, ``unix`` Unix sockets.

    None, False and what is empty are none. ValueError, which says what is permitted.
    """
    if given is None or given is False:
        return NO_NETWORKS
    entries = given.split(",") if isinstance(given, str) else given
    if not isinstance(entries, Iterable):
        raise ValueError(_PERMITTED)
    listed = tuple(entries)
    if not all(isinstance(entry, str) for entry in listed):
        raise ValueError(_PERMITTED)
    return _parse(listed)


_PERMITTED: Final = "must be None or networks such as '10.0.0.0/8,::1', 'unix', or '*' for everyone"


@functools.lru_cache(maxsize=16)
def _parse(entries: tuple[str, ...]) -> Networks:
    named = [name for entry in entries if (name := entry.strip())]
    networks = []
    for name in named:
        if name not in (_EVERYONE, _UNIX):
            try:
                networks.append(ip_network(name))
            except ValueError as error:
                raise ValueError(f"{_PERMITTED} ({error})") from None
    return Networks(tuple(networks), unix=_UNIX in named, everyone=_EVERYONE in named)


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address, None where it is none; one of IPv4 that is mapped into IPv6 comes out as IPv4.

    A zone is refused: it may hold any character, and it means nothing on another machine.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    return None if address.scope_id else address.ipv4_mapped or address
