"""Tickets: short-lived signed strings that a page fetches and opens its WebSocket with.

A ticket is base64url without padding, of

    version (1 byte), issued (6), expires (6), nonce (8), body (JSON), HMAC-SHA256 of all that (32)

with times in milliseconds since 1970. The body is ``[subject, purpose, session expires, data, binding]`` without
trailing elements that say nothing. Its characters may stand in a URL and in the name of a subprotocol.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..exceptions import BadRequest, ServiceUnavailable, Unauthorized
from .bearer import challenge
from .session import Session

if TYPE_CHECKING:
    from ..request import Request

__all__ = [
    "ExpiredTicket",
    "ForeignTicket",
    "InvalidTicket",
    "PrematureTicket",
    "TicketError",
    "Tickets",
    "UsedTicket",
    "WrongPurpose",
]

MIN_SECRET: Final = 32
"""Bytes: what HMAC-SHA256 puts out, less would be the weakest part of it (RFC 2104 §3, RFC 7518 §3.2)."""

_VERSION: Final = b"\x01"
_DOMAIN: Final = b"ferrows.auth.tickets\x00"
_HEAD: Final = 21
_SIGNATURE: Final = 32
_CHARACTERS: Final = re.compile(r"[A-Za-z0-9\-_]+")
_BINDINGS: Final = ("address", "origin")


class TicketError(Unauthorized):
    """401: a ticket that lets nobody in."""

    default_message = "the ticket is not valid"

    def __init__(self, message: str | None = None, **options: Any) -> None:
        super().__init__(message, **options)
        self.headers.setdefault("WWW-Authenticate", challenge(None, "invalid_token", self.message))


class InvalidTicket(TicketError):
    """401: no ticket at all, an altered one, or one that was signed with another secret."""


class ExpiredTicket(TicketError):
    """401: its time is over."""

    default_message = "the ticket has expired"


class PrematureTicket(TicketError):
    """401: issued in the future, by a clock that is ahead of this one, or before this one was set back."""

    default_message = "the ticket is from the future"


class WrongPurpose(TicketError):
    """401: issued for something else."""

    default_message = "the ticket is for another purpose"


class ForeignTicket(TicketError):
    """401: issued to a client at another address, or to a page of another origin."""

    default_message = "the ticket is somebody else's"


class UsedTicket(TicketError):
    """401: it was used before."""

    default_message = "the ticket was used before"


class _Ticket(NamedTuple):
    issued: int
    expires: int
    signature: bytes
    subject: str
    purpose: str = ""
    session_expires: float | None = None
    data: Mapping[str, Any] | None = None
    binding: Mapping[str, str] | None = None


class Tickets:
    """Issues and verifies tickets.

    ``secret`` is at least 32 bytes, such as ``secrets.token_bytes(32)``, a str in UTF-8; of several the first signs and
    all verify, so that a new one goes in front and the old one goes a lifetime later. The workers of a service, and
    its machines, share them. ``lifetime`` is how many seconds a ticket may take from its issue to its use, and has
    nothing to do with how long the session lasts. A ticket of one ``purpose`` is none of another.

    ``bind`` ties tickets to the ``"address"`` (:attr:`Request.remote_addr`) or to the ``"origin"`` of the request that
    they are issued to, or to both. Addresses change: between IPv4 and IPv6, and with a phone that leaves the house.

    ``single_use`` refuses a ticket the second time. What was used is remembered until it expires, ``max_used`` of them
    at most, beyond which verifying raises ServiceUnavailable. That memory is this object's: **each worker process has
    its own**, so that with several a ticket is good once in each.

    ``skew`` is by how many seconds another machine's clock may be ahead; no grace is given to what has expired.
    ``max_length`` is in characters, and ``clock`` gives Unix seconds.
    """

    def __init__(
        self,
        secret: str | bytes | Iterable[str | bytes],
        lifetime: float = 30,
        *,
        purpose: str = "",
        bind: str | Iterable[str] = (),
        single_use: bool = False,
        max_used: int = 10_000,
        skew: float = 5,
        max_length: int = 1024,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._secrets = _checked_secrets(secret)
        self._bind = (bind,) if isinstance(bind, str) else tuple(bind)
        for what in self._bind:
            if what not in _BINDINGS:
                raise ValueError(f"bind {what!r}, permitted: {', '.join(_BINDINGS)}")
        if not isinstance(lifetime, int | float):
            raise TypeError(f"lifetime is {type(lifetime).__name__}, permitted: seconds")
        # A ticket's times are whole milliseconds in 48 bits.
        if not 0.001 <= lifetime <= 1e9:
            raise ValueError(f"lifetime of {lifetime} seconds, permitted: 0.001 to 1e9")
        if not 0 <= skew < float("inf"):
            raise ValueError(f"skew of {skew} seconds, permitted: 0 or more")
        if max_used < 1:
            raise ValueError(f"max_used {max_used}, permitted: 1 or more")
        if not isinstance(purpose, str):
            # What JSON gives back would not be equal to it, and every ticket refused.
            raise TypeError(f"purpose is {type(purpose).__name__}, permitted: str")
        self.lifetime = lifetime
        self.purpose = purpose
        self._single_use = single_use
        self._max_used = max_used
        self._skew = round(skew * 1000)
        self._max_length = max_length
        self._clock = clock
        # The signatures of tickets that were used, and when they expire; and the latest expiry that was forgotten.
        self._used: dict[bytes, int] = {}
        self._forgotten = 0

    def __repr__(self) -> str:
        # Without the secrets.
        return f"<{type(self).__name__} {self.purpose!r} for {self.lifetime} s>"

    def issue(
        self, subject: str, /, *, expires: float | None = None, request: Request | None = None, **data: Any
    ) -> str:
        """Return a new ticket for ``subject``.

        ``expires`` is when the session ends that it opens, in Unix seconds; None for never. ``data`` is anything that
        :mod:`json` takes, and becomes the session's; it is signed and not encrypted. ``request`` is whom a ticket is
        bound to: BadRequest where it has not exactly one ``Origin``, which a browser sends with every POST, but not
        with every GET.

        ValueError where the ticket would be longer than ``max_length``, TypeError for data that is no JSON.
        """
        if not isinstance(subject, str):
            raise TypeError(f"subject is {type(subject).__name__}, permitted: str")
        # Refuses what no session can have.
        Session(subject, expires)
        body = [subject, self.purpose, expires, data, self._binding(request, BadRequest)]
        while not body[-1]:
            # An empty subject is one, and 0 is a time.
            if len(body) == 1 or body[-1] == 0:
                break
            body.pop()
        issued = self._now()
        signed = b"".join(
            (
                _VERSION,
                issued.to_bytes(6, "big"),
                (issued + round(self.lifetime * 1000)).to_bytes(6, "big"),
                os.urandom(8),
                json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8"),
            )
        )
        ticket = _encode(signed + _sign(self._secrets[0], signed))
        if len(ticket) > self._max_length:
            raise ValueError(f"ticket of {len(ticket)} characters, permitted {self._max_length}")
        return ticket

    def verify(self, ticket: str, request: Request | None = None) -> Session:
        """Return the session that a ticket opens; what :func:`ferrows.auth.authenticated` takes.

        Raises a :class:`TicketError`: :class:`InvalidTicket`, :class:`WrongPurpose`, :class:`PrematureTicket`,
        :class:`ExpiredTicket`, :class:`ForeignTicket` or :class:`UsedTicket`. TypeError without the ``request`` that a
        ticket which is bound must come with.
        """
        opened = self._open(ticket)
        if opened.purpose != self.purpose:
            raise WrongPurpose
        now = self._now()
        if opened.issued > now + self._skew:
            raise PrematureTicket
        if now >= opened.expires:
            raise ExpiredTicket
        if (opened.binding or {}) != self._binding(request, ForeignTicket):
            raise ForeignTicket
        if self._single_use:
            self._use(opened, now)
        return Session(opened.subject, opened.session_expires, opened.data, clock=self._clock)

    def _open(self, ticket: str) -> _Ticket:
        """Read a ticket, nothing of it before its signature is found to be right."""
        if not isinstance(ticket, str) or len(ticket) > self._max_length or not _CHARACTERS.fullmatch(ticket):
            raise InvalidTicket
        if len(ticket) % 4 == 1:
            raise InvalidTicket
        octets = base64.urlsafe_b64decode(ticket + "=" * (-len(ticket) % 4))
        # Bits that decoding drops would let one ticket have several spellings.
        if _encode(octets) != ticket or len(octets) <= _HEAD + _SIGNATURE or octets[:1] != _VERSION:
            raise InvalidTicket
        signed, signature = octets[:-_SIGNATURE], octets[-_SIGNATURE:]
        if not any(hmac.compare_digest(_sign(secret, signed), signature) for secret in self._secrets):
            raise InvalidTicket
        issued, expires = int.from_bytes(signed[1:7], "big"), int.from_bytes(signed[7:13], "big")
        return _Ticket(issued, expires, signature, *json.loads(signed[_HEAD:]))

    def _binding(self, request: Request | None, error: type[BadRequest | ForeignTicket]) -> dict[str, str]:
        if not self._bind:
            return {}
        if request is None:
            raise TypeError(
                "these tickets are bound to the request, which is needed: "
                "issue(…, request=request), verify(ticket, request)"
            )
        binding = {}
        if "address" in self._bind:
            binding["address"] = request.remote_addr
        if "origin" in self._bind:
            [origins] = request.header_lines("origin")
            if len(origins) != 1:
                raise error(None if error is ForeignTicket else f"{len(origins)} Origin headers, permitted: 1")
            binding["origin"] = origins[0].lower()
        return binding

    def _use(self, ticket: _Ticket, now: int) -> None:
        """Take note that a ticket is used; raise where it was before."""
        if ticket.signature in self._used:
            raise UsedTicket
        # A clock that is set back does not bring back what was forgotten.
        if ticket.expires <= self._forgotten:
            raise ExpiredTicket
        # The first that was used is about the first that is due.
        while self._used and next(iter(self._used.values())) <= now:
            self._forget(next(iter(self._used)))
        if len(self._used) >= self._max_used:
            for signature in [signature for signature, expires in self._used.items() if expires <= now]:
                self._forget(signature)
            if len(self._used) >= self._max_used:
                raise ServiceUnavailable(f"{self._max_used} tickets were used and have not expired")
        self._used[ticket.signature] = ticket.expires

    def _forget(self, signature: bytes) -> None:
        self._forgotten = max(self._forgotten, self._used.pop(signature))

    def _now(self) -> int:
        return int(self._clock() * 1000)


def _sign(secret: bytes, signed: bytes) -> bytes:
    return hmac.digest(secret, _DOMAIN + signed, "sha256")


def _encode(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")


def _checked_secrets(given: str | bytes | Iterable[str | bytes]) -> tuple[bytes, ...]:
    if given is None:
        raise TypeError("secret is None, permitted: str or bytes, or several; is its variable of the environment set?")
    several = (given,) if isinstance(given, str | bytes) else tuple(given)
    if not several:
        raise ValueError("0 secrets, permitted: 1 or more")
    secrets = []
    for secret in several:
        if not isinstance(secret, str | bytes):
            raise TypeError(f"a secret is {type(secret).__name__}, permitted: str or bytes")
        octets = secret.encode("utf-8") if isinstance(secret, str) else secret
        if len(octets) < MIN_SECRET:
            raise ValueError(f"a secret of {len(octets)} bytes, permitted: {MIN_SECRET} or more")
        secrets.append(octets)
    return tuple(secrets)
