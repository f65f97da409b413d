"""Putting two implementations through the same stream and telling the first difference."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from .streams import Step, Stream

__all__ = ["Difference", "compare", "shrink"]


class Seen(NamedTuple):
    """All that can be seen of a connection after a step."""

    result: Any
    events: list[Any]
    state: int
    close_sent: tuple[int, str] | None
    close_received: tuple[int, str] | None
    failure: tuple[int, str] | None


@dataclass
class Difference:
    """Where two implementations parted."""

    stream: Stream
    step: int
    first: Seen
    second: Seen

    def __str__(self) -> str:
        stream = self.stream
        made = f"client={stream.client}, max_size={stream.max_size}, deflate={stream.deflate}, limits={stream.limits}"
        lines = [f"Connection({made})"]
        lines += [f"  .{name}({', '.join(map(repr, arguments))})" for name, *arguments in stream.steps[: self.step + 1]]
        for name, one, other in zip(Seen._fields, self.first, self.second, strict=True):
            if one != other or repr(one) != repr(other):
                lines += [f"{name}:", f"  first:  {one!r}", f"  second: {other!r}"]
        return "\n".join(lines)


class OutputReader:
    """Reads what a connection sends, so that masking keys and compressors may differ."""

    def __init__(self, stream: Stream) -> None:
        self._plain = stream.deflate is None and not stream.client
        deflate = stream.deflate
        self._takeover = deflate is not None and not (
            deflate.client_no_context_takeover if stream.client else deflate.server_no_context_takeover
        )
        self._inflater: Any = None
        self._compressed = False

    def read(self, data: bytes) -> Any:
        """Return what can be compared: the bytes, or the frames with their payloads unmasked and inflated."""
        if self._plain or not data:
            return data
        frames = []
        at = 0
        while at < len(data):
            first, size = data[at], data[at + 1] & 0x7F
            masked = data[at + 1] & 0x80
            at += 2
            if size >= 126:
                width = 2 if size == 126 else 8
                size = int.from_bytes(data[at : at + width], "big")
                at += width
            if masked:
                key = data[at : at + 4]
                at += 4
            payload = data[at : at + size]
            at += size
            if masked:
                mask = int.from_bytes((key * ((size >> 2) + 1))[:size], "little")
                payload = (int.from_bytes(payload, "little") ^ mask).to_bytes(size, "little")
            if first & 0x40:
                self._compressed = True
            if self._compressed and not first & 0x08:
                payload = self._inflate(payload, bool(first & 0x80))
            frames.append((first, masked, payload))
        return frames

    def _inflate(self, payload: bytes, fin: bool) -> bytes:
        if self._inflater is None:
            self._inflater = zlib.decompressobj(-15)
        inflated: bytes = self._inflater.decompress(payload + b"\x00\x00\xff\xff" if fin else payload)
        if fin:
            self._compressed = False
            if not self._takeover:
                self._inflater = None
        return inflated


class _Subject:
    """An implementation under comparison."""

    def __init__(self, codec: Any, stream: Stream) -> None:
        self.connection = codec.Connection(
            client=stream.client, max_size=stream.max_size, deflate=stream.deflate, limits=stream.limits
        )
        self.reader = OutputReader(stream)

    def take(self, step: Step) -> Seen:
        name, *arguments = step
        connection = self.connection
        try:
            result = getattr(connection, name)(*arguments)
            if name == "data_to_send":
                result = self.reader.read(result)
        except Exception as error:
            result = (type(error), str(error))
        return Seen(
            result,
            connection.events(),
            connection.state,
            connection.close_sent,
            connection.close_received,
            connection.failure,
        )


def compare(stream: Stream, first: Any, second: Any) -> Difference | None:
    """Put ``first`` and ``second`` through the stream; return where they part, None if they do not."""
    one, other = _Subject(first, stream), _Subject(second, stream)
    for index, step in enumerate(stream.steps):
        seen, wanted = one.take(step), other.take(step)
        # Message(b"") equals no Message(""), but a Fragment equals a tuple: names and types are compared, too.
        if seen != wanted or [*map(type, seen.events)] != [*map(type, wanted.events)]:
            return Difference(stream, index, seen, wanted)
    return None


def shrink(difference: Difference, first: Any, second: Any) -> Difference:
    """Leave steps out, and parts of what is received, as long as the implementations still part."""
    progress = True
    while progress:
        progress = False
        steps = difference.stream.steps[: difference.step + 1]
        for candidate in _smaller(steps):
            smaller = compare(replace(difference.stream, steps=candidate), first, second)
            if smaller is not None:
                difference, progress = smaller, True
                break
    return difference


def _smaller(steps: list[Step]) -> Any:
    for index in range(len(steps)):
        yield steps[:index] + steps[index + 1 :]
    for index in range(len(steps) - 1):
        if steps[index][0] == steps[index + 1][0] == "receive_data":
            joined = ("receive_data", steps[index][1] + steps[index + 1][1], *steps[index + 1][2:])
            yield [*steps[:index], joined, *steps[index + 2 :]]
