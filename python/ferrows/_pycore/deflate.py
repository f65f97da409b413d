"""permessage-deflate (RFC 7692): compressing what one connection sends, inflating what it receives."""

from __future__ import annotations

import threading
import zlib
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from .error import PeerError

if TYPE_CHECKING:
    Compressor = zlib._Compress
    Decompressor = zlib._Decompress

__all__ = ["DeflateParameters", "Deflater", "Inflater", "Overflow", "Parameters", "compress_message"]

Parameters: TypeAlias = tuple[int, int, int]
"""What a compressor was made with: window bits, level, memory level."""

# What a flush ends with, an empty stored block without its header bits: the sender of a message strips it, the receiver
# appends it (§7.2.1, §7.2.2).
_TAIL: Final = b"\x00\x00\xff\xff"

# Bytes of output that one call of zlib makes room for, so that a bomb costs no more than its message's limit.
_STEP: Final = 64 * 1024

# Window bits of every inflater. It reads what any smaller window compressed, and only so does a distance that the
# agreed window would not permit mean the same however the bytes are split.
_INFLATE_WINDOW_BITS: Final = 15

# Idle compressors that a thread keeps. Peers choose window bits, so their number is bounded; each holds some 260 KiB.
_MAX_IDLE: Final = 8


class DeflateParameters(Protocol):
    """What a connection needs to know of the negotiated extension (§7.1)."""

    @property
    def server_no_context_takeover(self) -> bool: ...
    @property
    def client_no_context_takeover(self) -> bool: ...
    @property
    def server_max_window_bits(self) -> int: ...
    @property
    def client_max_window_bits(self) -> int: ...
    @property
    def level(self) -> int: ...
    @property
    def mem_level(self) -> int: ...
    @property
    def threshold(self) -> int: ...


class Deflater:
    """Compresses the messages that one connection sends."""

    __slots__ = ("_compressor", "_parameters", "_takeover", "threshold")

    def __init__(self, window_bits: int, *, takeover: bool, level: int, mem_level: int, threshold: int) -> None:
        # zlib cannot compress with a window of 256 bytes: §7.1.2.1 permits 8, the compressor emits 9.
        _within("window bits to compress with", window_bits, 9, 15)
        _within("compression level", level, 0, 9)
        _within("memory level", mem_level, 1, 9)
        self.threshold = threshold
        self._takeover = takeover
        self._parameters = (window_bits, level, mem_level)
        self._compressor: Compressor | None = None

    @property
    def shared(self) -> Parameters | None:
        """What compresses a message alike on every connection; None where that depends on the messages before."""
        return None if self._takeover else self._parameters

    def compress(self, payload: bytes, fin: bool) -> bytes:
        """Compress the payload of a message's next frame, which is its last if ``fin``."""
        compressor = self._compressor
        if compressor is None:
            compressor = self._compressor = (
                _new_compressor(*self._parameters) if self._takeover else _shared.take(self._parameters)
            )
        # A full flush forgets the window, which is the reset that Python's zlib does not offer, and ends alike.
        flush = zlib.Z_SYNC_FLUSH if self._takeover or not fin else zlib.Z_FULL_FLUSH
        compressed = compressor.compress(payload) + compressor.flush(flush)
        if not fin:
            return compressed
        if not self._takeover:
            self._compressor = None
            _shared.put(self._parameters, compressor)
        return _without_tail(compressed)


def compress_message(payload: bytes, parameters: Parameters) -> bytes:
    """Compress the payload of a whole message, which needs nothing that was sent before."""
    compressor = _shared.take(parameters)
    compressed = compressor.compress(payload) + compressor.flush(zlib.Z_FULL_FLUSH)
    _shared.put(parameters, compressor)
    return _without_tail(compressed)


def _without_tail(compressed: bytes) -> bytes:
    # §7.2.1: remove the tail. A flush that had nothing to add gave none; then the message ends with the header of an
    # empty stored block all the same (§7.2.3.6).
    return compressed[:-4] if compressed.endswith(_TAIL) else compressed + b"\x00"


class Inflater:
    """Inflates the messages that one connection receives."""

    __slots__ = ("_decompressor", "_ended", "_takeover")

    def __init__(self, window_bits: int, *, takeover: bool) -> None:
        _within("window bits to decompress with", window_bits, 8, 15)
        self._takeover = takeover
        self._decompressor: Decompressor | None = None
        # A block with BFINAL was the last that came.
        self._ended = False

    def inflate(self, data: bytes, out: bytearray, room: int | None) -> None:
        """Append what ``data``, the next bytes of a message's payload, inflates to.

        ``room`` is how many bytes that may be; never more are appended. Raises :class:`PeerError` for what is no
        deflate stream and :class:`Overflow` for more than ``room``: whichever comes first in the stream.
        """
        step = max(_STEP, len(data))
        # Whether the last call filled its limit: then more may come out, also where all went in.
        full = False
        try:
            while data or full:
                decompressor = self._decompressor
                if decompressor is None or self._ended:
                    # §7.2.3.4: blocks may follow one with BFINAL. They begin a new stream: zlib forgets its window.
                    decompressor = self._decompressor = zlib.decompressobj(-_INFLATE_WINDOW_BITS)
                    self._ended = False
                if room is None:
                    out += decompressor.decompress(data)
                    data = decompressor.unused_data
                elif room:
                    limit = min(room, step)
                    piece = decompressor.decompress(data, limit)
                    out += piece
                    room -= len(piece)
                    full = len(piece) == limit and not decompressor.eof
                    data = decompressor.unused_data or decompressor.unconsumed_tail
                else:
                    full = False
                    data = _require_nothing(decompressor, data)
                self._ended = decompressor.eof
        except zlib.error:
            raise PeerError(1007, "invalid deflate data") from None

    def finish(self, out: bytearray, room: int | None) -> None:
        """Append what the end of a message's payload adds, and get ready for the next message."""
        # §7.2.2: append the four bytes that the sender removed. After a final block there is nothing to end.
        if not self._ended:
            self.inflate(_TAIL, out, room)
        # With takeover, a stream that ended is replaced when there is something to inflate.
        if not self._takeover:
            self._decompressor = None
            self._ended = False


def _require_nothing(decompressor: Decompressor, data: bytes) -> bytes:
    """Raise :class:`Overflow` if ``data`` inflates to anything, before a flaw that comes after that.

    Returns what follows a block with BFINAL.
    """
    # Byte by byte, since an exception of zlib does not tell what it had written before.
    if decompressor.decompress(b"", 1):
        raise Overflow
    for at in range(len(data)):
        if decompressor.decompress(data[at : at + 1], 1):
            raise Overflow
        if decompressor.eof:
            return decompressor.unused_data + data[at + 1 :]
    return b""


class Overflow(Exception):
    """There is more than there is room for."""


class _SharedCompressors(threading.local):
    """At most one idle compressor per set of parameters and thread.

    A message takes it and puts it back when it is complete, so that one which is sent in several calls cannot be
    disturbed by another connection.
    """

    def __init__(self) -> None:
        self._idle: dict[Parameters, Compressor] = {}

    def take(self, parameters: Parameters) -> Compressor:
        idle = self._idle.pop(parameters, None)
        return _new_compressor(*parameters) if idle is None else idle

    def put(self, parameters: Parameters, compressor: Compressor) -> None:
        idle = self._idle
        if parameters not in idle:
            if len(idle) == _MAX_IDLE:
                del idle[next(iter(idle))]
            idle[parameters] = compressor


_shared: Final = _SharedCompressors()


def _new_compressor(window_bits: int, level: int, mem_level: int) -> Compressor:
    return zlib.compressobj(level, zlib.DEFLATED, -window_bits, mem_level)


def _within(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{what} {value}, permitted {low} to {high}")
