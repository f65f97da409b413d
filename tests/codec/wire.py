"""Frames made and read byte by byte for the tests, without the code under test (RFC 6455 §5.2)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

KEY = b"\x37\xfa\x21\x3d"


def xor(data: bytes, key: bytes) -> bytes:
    """Mask one byte after the other, as §5.3 says it."""
    return bytes(byte ^ key[index % 4] for index, byte in enumerate(data))


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    key: bytes | None = KEY,
    length: int | None = None,
    form: int | None = None,
) -> bytes:
    """Make a frame, masked as a client's unless ``key`` is None.

    ``length`` announces another length than the payload's, ``form`` (7, 16 or 64) writes it in that many bits.
    """
    size = len(payload) if length is None else length
    if form is None:
        form = 7 if size < 126 else 16 if size < 65536 else 64
    masked = 0x80 if key is not None else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if form == 7:
        head += bytes([masked | size])
    elif form == 16:
        head += bytes([masked | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([masked | 127]) + size.to_bytes(8, "big")
    return head + payload if key is None else head + key + xor(payload, key)


def close_body(code: int, reason: str = "") -> bytes:
    return code.to_bytes(2, "big") + reason.encode()


class Frame(NamedTuple):
    """A frame as it was on the wire, unmasked."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0
    masked: bool = False


def frames(data: bytes) -> list[Frame]:
    """Read a sequence of whole frames; fails on anything that is cut off."""
    return list(_frames(data))


def _frames(data: bytes) -> Iterator[Frame]:
    at = 0
    while at < len(data):
        first, second = data[at], data[at + 1]
        at += 2
        size = second & 0x7F
        if size >= 126:
            width = 2 if size == 126 else 8
            size = int.from_bytes(data[at : at + width], "big")
            assert size >= (126 if width == 2 else 65536), "the length is not in its shortest form"
            at += width
        masked = bool(second & 0x80)
        key = data[at : at + 4] if masked else bytes(4)
        at += 4 * masked
        payload = xor(data[at : at + size], key)
        assert len(payload) == size, "the frame is cut off"
        at += size
        yield Frame(first & 0x0F, payload, bool(first & 0x80), first >> 4 & 7, masked)


@dataclass(frozen=True)
class Deflate:
    """The parameters of permessage-deflate, with the names that a connection reads."""

    server_no_context_takeover: bool = True
    client_no_context_takeover: bool = True
    server_max_window_bits: int = 15
    client_max_window_bits: int = 15
    level: int = 6
    mem_level: int = 8
    threshold: int = 1024


TAKEOVER = Deflate(server_no_context_takeover=False, client_no_context_takeover=False)


class Peer:
    """The peer's half of permessage-deflate, with zlib (RFC 7692 §7.2)."""

    def __init__(self, *, takeover: bool = False, window_bits: int = 15) -> None:
        self.takeover = takeover
        self.window_bits = window_bits
        self._compressor = zlib.compressobj(6, zlib.DEFLATED, -window_bits)
        self._inflater = zlib.decompressobj(-window_bits)

    def compress(self, *fragments: bytes) -> list[bytes]:
        """Compress a message's fragments, one payload for each."""
        if not self.takeover:
            self._compressor = zlib.compressobj(6, zlib.DEFLATED, -self.window_bits)
        payloads = [self._compressor.compress(part) + self._compressor.flush(zlib.Z_SYNC_FLUSH) for part in fragments]
        payloads[-1] = payloads[-1].removesuffix(b"\x00\x00\xff\xff") or b"\x00"
        return payloads

    def inflate(self, payload: bytes) -> bytes:
        """Inflate a message's payload, the frames' joined."""
        if not self.takeover:
            self._inflater = zlib.decompressobj(-self.window_bits)
        return self._inflater.decompress(payload + b"\x00\x00\xff\xff")
