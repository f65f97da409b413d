"""Close frames (RFC 6455 §5.5.1, §7.4)."""

from __future__ import annotations

from typing import Final

from .error import PeerError

__all__ = ["NO_STATUS", "check_close", "encode_close", "is_permitted", "parse_close", "truncate_reason"]

# Bytes of a reason that fit into a control frame beside the code (§5.5).
_MAX_REASON: Final = 123

#: What a Close without a body means (§7.1.5); never on the wire.
NO_STATUS: Final = 1005

# What may be on the wire: the registered codes and 3000-4999 (§7.4.2).
_PERMITTED: Final = frozenset((*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)))


def is_permitted(code: int) -> bool:
    """Tell whether a Close frame may carry ``code``."""
    return code in _PERMITTED


def parse_close(payload: bytes) -> tuple[int, str]:
    """Parse the body of a Close frame into code and reason; an empty body is 1005 and no reason."""
    if not payload:
        return NO_STATUS, ""
    # §5.5.1: if there is a body, its first two bytes MUST be the code.
    if len(payload) == 1:
        raise PeerError(1002, "close frame body of 1 byte")
    code = payload[0] << 8 | payload[1]
    if code not in _PERMITTED:
        raise PeerError(1002, f"close code {code} is not permitted")
    try:
        return code, str(payload[2:], "utf-8")
    except UnicodeDecodeError:
        raise PeerError(1007, "invalid UTF-8 in a close reason") from None


def check_close(code: int | None, reason: str) -> None:
    """Raise ``ValueError`` for what a caller must not send; no code stands for an empty body."""
    size = len(reason.encode())
    if code is None:
        if reason:
            raise ValueError("close reason without a close code")
    elif code not in _PERMITTED:
        raise ValueError(f"close code {code} is not permitted")
    if size > _MAX_REASON:
        raise ValueError(f"close reason of {size} bytes, permitted 123")


def truncate_reason(reason: str) -> str:
    """Return as many whole characters of ``reason`` as fit into a Close frame."""
    return reason.encode()[:_MAX_REASON].decode("utf-8", "ignore")


def encode_close(code: int, reason: str) -> bytes:
    """Encode the body of a Close frame; empty for 1005."""
    return b"" if code == NO_STATUS else code.to_bytes(2, "big") + reason.encode()
