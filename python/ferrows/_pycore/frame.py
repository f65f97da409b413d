"""Frames on the wire (RFC 6455 §5.2)."""

from __future__ import annotations

import os
from typing import Final

from .error import PeerError
from .mask import unmask

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "FIN",
    "PING",
    "PONG",
    "RSV1",
    "TEXT",
    "check_length",
    "encode_frame",
    "first_byte_error",
    "permitted_first_bytes",
]

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

FIN: Final = 0x80
RSV1: Final = 0x40

_OPCODES: Final = frozenset((CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))


def encode_frame(first: int, payload: bytes, *, masked: bool) -> bytes:
    """Encode a frame whose first byte is ``first``; ``masked`` with a fresh random key (§5.3: a client MUST mask)."""
    size = len(payload)
    bit = 0x80 if masked else 0
    # §5.2: the shortest form of the length MUST be used.
    if size < 126:
        header = bytes((first, bit | size))
    elif size < 0x10000:
        header = bytes((first, bit | 126, size >> 8, size & 0xFF))
    else:
        header = bytes((first, bit | 127)) + size.to_bytes(8, "big")
    if masked:
        key = os.urandom(4)
        return header + key + unmask(payload, key)
    return header + payload


def first_byte_error(first: int, *, deflate: bool, in_message: bool) -> PeerError | None:
    """Check the first byte of a header: reserved bits, opcode, fragmentation; None if it is permitted."""
    opcode = first & 0x0F
    # §5.2: a reserved bit MUST be 0 unless an extension gave it a meaning; RFC 7692 §6 gives RSV1 one on the first
    # frame of a message only.
    rsv = first >> 4 & 0b111
    permitted = 0b100 if deflate and opcode in (TEXT, BINARY) else 0
    if rsv & ~permitted:
        return PeerError(1002, f"reserved bits 0b{rsv:03b}, permitted 0b{permitted:03b}")
    if opcode not in _OPCODES:
        return PeerError(1002, f"opcode 0x{opcode:X} is not defined")
    if opcode & 0x8:
        # §5.5: control frames MUST NOT be fragmented.
        return None if first & FIN else PeerError(1002, "fragmented control frame")
    # §5.4: a message's frames MUST NOT be interleaved with another's.
    if opcode == CONTINUATION:
        return None if in_message else PeerError(1002, "continuation frame outside a message")
    return PeerError(1002, "data frame inside a fragmented message") if in_message else None


# One table per (deflate, in a message): table[first byte] is 1 where that byte is permitted.
_FIRST_BYTES: Final = {
    (deflate, in_message): bytes(
        first_byte_error(first, deflate=deflate, in_message=in_message) is None for first in range(256)
    )
    for deflate in (False, True)
    for in_message in (False, True)
}


def permitted_first_bytes(*, deflate: bool, in_message: bool) -> bytes:
    """Return the table whose item ``first`` is 1 where :func:`first_byte_error` has nothing to say."""
    return _FIRST_BYTES[deflate, in_message]


def check_length(length: int, shortest: int) -> None:
    """Check a length that was sent in the extended form that begins at ``shortest``."""
    # §5.2: the most significant bit MUST be 0, and the minimal number of bytes MUST be used.
    if length >> 63:
        raise PeerError(1002, "payload length has its top bit set")
    if length < shortest:
        raise PeerError(1002, f"payload length {length} is not in its shortest form")
