"""The opening handshake from the client's side: the request, and whether the answer is one to it (RFC 6455 §4.1)."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from ..exceptions import BadRequest, HandshakeError
from ..extensions import PERMESSAGE_DEFLATE, DeflateParameters, parse_extensions
from ..handshake import accept_value
from ..headers import Headers, parse_list
from .deflate import DeflateOffer
from .response import ClientResponse
from .url import WebsocketURL

__all__ = ["Agreement", "HeadersLike", "OpeningHandshake"]

HeadersLike: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

# Header -> what to give instead.
_OURS: Final[Mapping[str, str]] = {
    "connection": "nothing",
    "content-length": "nothing",
    "origin": "origin=",
    "sec-websocket-accept": "nothing",
    "sec-websocket-extensions": "compression=",
    "sec-websocket-key": "nothing",
    "sec-websocket-protocol": "subprotocols=",
    "sec-websocket-version": "nothing",
    "transfer-encoding": "nothing",
    "upgrade": "nothing",
}


class Agreement(NamedTuple):
    """What the handshake agreed on."""

    subprotocol: str | None
    deflate: DeflateParameters | None


class OpeningHandshake:
    """One opening handshake; its key is new each time. ValueError for what must not be in a request."""

    def __init__(
        self,
        url: WebsocketURL,
        headers: HeadersLike | None = None,
        subprotocols: Sequence[str] = (),
        origin: str | None = None,
        offer: DeflateOffer | None = None,
    ) -> None:
        self.url = url
        self.subprotocols = _checked_subprotocols(subprotocols)
        self.offer = offer
        self.key = base64.b64encode(os.urandom(16)).decode("ascii")
        self.headers = self._headers(Headers(headers or ()), origin)

    def _headers(self, given: Headers, origin: str | None) -> Headers:
        for name in given:
            if name.lower() in _OURS:
                raise ValueError(f"header {name!r} is the handshake's own, permitted: {_OURS[name.lower()]} instead")
        headers = Headers({"Host": given.get("host", self.url.authority)})
        headers.add("Upgrade", "websocket")
        headers.add("Connection", "Upgrade")
        headers.add("Sec-WebSocket-Version", "13")
        headers.add("Sec-WebSocket-Key", self.key)
        if self.subprotocols:
            headers.add("Sec-WebSocket-Protocol", ", ".join(self.subprotocols))
        if self.offer is not None:
            headers.add("Sec-WebSocket-Extensions", str(self.offer))
        if origin is not None:
            headers.add("Origin", origin)
        if self.url.authorization is not None and "authorization" not in given:
            headers.add("Authorization", self.url.authorization)
        if "user-agent" not in given:
            headers.add("User-Agent", "ferrows")
        headers.extend((name, value) for name, value in given.multi_items() if name.lower() != "host")
        return headers

    def request(self) -> bytes:
        """Return the bytes to send."""
        fields = "".join(f"{name}: {value}\r\n" for name, value in self.headers.multi_items())
        return f"GET {self.url.target} HTTP/1.1\r\n{fields}\r\n".encode("utf-8", "surrogateescape")

    def accept(self, response: ClientResponse) -> Agreement:
        """Check the answer; HandshakeError for a refusal, and for an agreement that is none (§4.1, second list)."""
        if response.status != 101:
            raise _refusal(response)
        try:
            self._check_upgrade(response.headers)
            return Agreement(self._subprotocol(response.headers), self._deflate(response.headers))
        except HandshakeError as error:
            raise HandshakeError(error.message, response.status, response.headers, response.body) from None

    def _check_upgrade(self, headers: Headers) -> None:
        # §4.1 2: Upgrade MUST be "websocket", in any case, and nothing else.
        if [name.lower() for name in parse_list(headers.combined("upgrade"))] != ["websocket"]:
            raise HandshakeError(f"the server upgrades to {headers.combined('upgrade')!r}, permitted: 'websocket'")
        # §4.1 3: Connection has the token "Upgrade".
        if "upgrade" not in (name.lower() for name in parse_list(headers.combined("connection"))):
            raise HandshakeError(f"the server's Connection is {headers.combined('connection')!r}, not 'Upgrade'")
        # §4.1 4: the proof that the server has read our key as such.
        if headers.getall("sec-websocket-accept") != [accept_value(self.key)]:
            raise HandshakeError(
                f"the server's Sec-WebSocket-Accept is {headers.combined('sec-websocket-accept')!r}, "
                f"permitted: {accept_value(self.key)!r}"
            )

    def _subprotocol(self, headers: Headers) -> str | None:
        # §4.1 6: one of ours, or none.
        chosen = headers.getall("sec-websocket-protocol")
        if not chosen:
            return None
        if len(chosen) > 1 or chosen[0] not in self.subprotocols:
            offered = ", ".join(self.subprotocols) or "none"
            raise HandshakeError(f"the server chose the subprotocol {', '.join(chosen)!r}, offered: {offered}")
        return chosen[0]

    def _deflate(self, headers: Headers) -> DeflateParameters | None:
        # §4.1 5: no extension that was not offered; §9.1: the answer follows the same grammar.
        if "sec-websocket-extensions" not in headers:
            return None
        try:
            answers = parse_extensions(headers.combined("sec-websocket-extensions"))
        except BadRequest as error:
            raise HandshakeError(f"the server's {error.message}") from None
        for answer in answers:
            if answer.name != PERMESSAGE_DEFLATE or self.offer is None:
                offered = "none" if self.offer is None else PERMESSAGE_DEFLATE
                raise HandshakeError(f"the server uses the extension {answer.name!r}, offered: {offered}")
        if len(answers) > 1 or self.offer is None:
            raise HandshakeError("the server uses permessage-deflate twice")
        return self.offer.accept(answers[0])


def _checked_subprotocols(subprotocols: Sequence[str]) -> tuple[str, ...]:
    if isinstance(subprotocols, str):
        raise TypeError(f"subprotocols is {subprotocols!r}, permitted: a sequence of str")
    # §4.1 10: tokens, each once.
    for name in subprotocols:
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"subprotocol {name!r} is no token")
    if len(set(subprotocols)) != len(subprotocols):
        raise ValueError(f"subprotocols {', '.join(subprotocols)} has one of them twice")
    return tuple(subprotocols)


def _refusal(response: ClientResponse) -> HandshakeError:
    message = f"the server refused the upgrade with {response.status} {response.reason}".rstrip()
    location = response.headers.get("location")
    if 300 <= response.status < 400 and location:
        # §4.1 leaves it open; to follow one could send credentials somewhere else.
        message += f"; it redirects to {location!r}, and redirects are not followed"
    return HandshakeError(message, response.status, response.headers, response.body)
