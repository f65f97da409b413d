"""Feeding a connection in every way in which bytes can be cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

from ferrows.events import Close, Failure, Ping

from .wire import KEY, PING, Frame, frame, frames

PAYLOAD_AFTER = b"after"


class Outcome(NamedTuple):
    """All that can be seen of a connection after it was fed."""

    events: list[Any]
    output: list[Frame]
    state: int
    close_received: tuple[int, str] | None
    close_sent: tuple[int, str] | None
    failure: tuple[int, str] | None


def deliveries(data: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Cut ``data``: not at all, at each place once, at each place."""
    yield "whole", [data]
    for at in range(1, len(data)):
        yield f"split at {at}", [data[:at], data[at:]]
    yield "byte by byte", [data[at : at + 1] for at in range(len(data))]


def feed(
    codec: ModuleType,
    chunks: Iterable[bytes],
    before: Callable[[Any], object] = lambda connection: None,
    **options: Any,
) -> Outcome:
    connection = codec.Connection(**options)
    before(connection)
    for chunk in chunks:
        connection.receive_data(chunk)
    output = frames(connection.data_to_send())
    return Outcome(
        connection.events(),
        [sent._replace(masked=False) for sent in output],
        connection.state,
        connection.close_received,
        connection.close_sent,
        connection.failure,
    )


def replay(
    codec: ModuleType,
    data: bytes,
    before: Callable[[Any], object] = lambda connection: None,
    **options: Any,
) -> Outcome:
    """Feed ``data`` in every way and assert that it comes to the same; return what it comes to.

    ``before`` prepares each connection. Another frame is sent behind, in the same chunk: it must change nothing but
    what it is itself.
    """
    whole = feed(codec, [data], before, **options)
    for how, chunks in deliveries(data):
        assert feed(codec, chunks, before, **options) == whole, how
    following = frame(PING, PAYLOAD_AFTER, key=None if options.get("client") else KEY)
    coalesced = feed(codec, [data + following], before, **options)
    if any(isinstance(event, Close | Failure) for event in whole.events):
        assert coalesced == whole, "input after the end is ignored"
    else:
        assert coalesced.events == [*whole.events, Ping(PAYLOAD_AFTER)], "coalesced with the next frame"
    return whole
