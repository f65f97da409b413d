"""permessage-deflate from the client's side: the offer, and whether the server may answer it so (RFC 7692 §7.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ..config import Config
from ..exceptions import HandshakeError
from ..extensions import PERMESSAGE_DEFLATE, DeflateParameters, ExtensionOffer

__all__ = ["DeflateOffer"]

# As browsers do: both sides keep their window from message to message.
_DEFAULTS: Final[Mapping[str, Any]] = {"server_no_context_takeover": False, "client_no_context_takeover": False}

_FLAGS: Final = ("server_no_context_takeover", "client_no_context_takeover")
_BITS: Final = {str(bits): bits for bits in range(8, 16)}


@dataclass(frozen=True, slots=True)
class DeflateOffer:
    """What a client offers; ``wanted`` is the least that it agrees to, and its own business."""

    wanted: DeflateParameters

    @classmethod
    def of(cls, compression: str | Mapping[str, Any] | None) -> DeflateOffer | None:
        """Make an offer of what ``WEBSOCKET_COMPRESSION`` may be; ValueError names what is wrong."""
        deflate = Config(env_prefix=None).websocket_settings(compression=compression).deflate
        if deflate is None:
            return None
        if isinstance(compression, Mapping):
            unsaid = {name: value for name, value in _DEFAULTS.items() if name not in compression}
        else:
            unsaid = dict(_DEFAULTS)
        wanted = replace(deflate, **unsaid)
        if wanted.client_max_window_bits == 8:
            raise ValueError("client_max_window_bits is 8, permitted: 9 to 15, as zlib compresses with no less")
        return cls(wanted)

    def __str__(self) -> str:
        """Return the element of ``Sec-WebSocket-Extensions``."""
        elements = [PERMESSAGE_DEFLATE, *(flag for flag in _FLAGS if getattr(self.wanted, flag))]
        if self.wanted.server_max_window_bits < 15:
            elements.append(f"server_max_window_bits={self.wanted.server_max_window_bits}")
        # §7.1.2.2: without a value, it says that the server may limit our window.
        bits = self.wanted.client_max_window_bits
        elements.append("client_max_window_bits" if bits == 15 else f"client_max_window_bits={bits}")
        return "; ".join(elements)

    def accept(self, answer: ExtensionOffer) -> DeflateParameters:
        """Check what the server agreed to; HandshakeError where it may not, or where we cannot (§5.1, §7.1)."""
        given = dict(answer.parameters)
        if len(given) != len(answer.parameters):
            raise _refused("a parameter twice")
        for flag in _FLAGS:
            if given.get(flag) is not None:
                raise _refused(f"a value of {flag}, permitted: none")
        wanted = self.wanted
        # §7.1.1.1: an offer that asks for it is accepted with it, or not at all.
        if wanted.server_no_context_takeover and _FLAGS[0] not in given:
            raise _refused("no server_no_context_takeover, which was asked for")
        server_bits = _bits(given, "server_max_window_bits", wanted.server_max_window_bits)
        if server_bits is None and wanted.server_max_window_bits < 15:
            raise _refused(f"no server_max_window_bits, permitted: up to {wanted.server_max_window_bits}")
        client_bits = _bits(given, "client_max_window_bits", wanted.client_max_window_bits)
        if client_bits == 8:
            raise _refused("client_max_window_bits=8, supported: 9 to 15")
        unknown = given.keys() - {*_FLAGS, "server_max_window_bits", "client_max_window_bits"}
        if unknown:
            raise _refused(f"the unknown parameter {min(unknown)!r}")
        return DeflateParameters(
            server_no_context_takeover=_FLAGS[0] in given,
            client_no_context_takeover=wanted.client_no_context_takeover or _FLAGS[1] in given,
            # For our inflater, whose window is the largest anyway; the type knows no 8 for a server.
            server_max_window_bits=max(server_bits or 15, 9),
            client_max_window_bits=client_bits or wanted.client_max_window_bits,
            level=wanted.level,
            mem_level=wanted.mem_level,
            threshold=wanted.threshold,
        )


def _bits(given: Mapping[str, str | None], name: str, most: int) -> int | None:
    """The window that the server names; None where it names none."""
    if name not in given:
        return None
    bits = _BITS.get(given[name] or "")
    if bits is None or bits > most:
        raise _refused(f"{name}={given[name]}, permitted: 8 to {most}")
    return bits


def _refused(what: str) -> HandshakeError:
    return HandshakeError(f"the server answered the offer of permessage-deflate with {what}", 101)
