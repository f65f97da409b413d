"""Twice as much of something costs at most 2.2 times as much."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .client import BINARY, CONTINUATION, TEXT, Client, frame, handshake
from .serving import Server
from .stimulus import Finding, Stimulus

TRIES: Final = 4
"""A measurement that was disturbed is repeated; a cost that grows too fast does so each time."""

RUNS: Final = 3
"""The cheapest of so many runs counts."""


def cost(server: Server, run: Callable[[], None]) -> float:
    """Return the CPU time of a run in the server, in seconds."""
    times = []
    for _ in range(RUNS):
        server.settle(0.02)
        before = server.cpu
        run()
        server.settle(0.02)
        times.append(server.cpu - before)
    return min(times)


def doubling(count: int, make: Callable[[int], tuple[str | None, bytes]]) -> Callable[[Server, bool], Finding]:
    """Make an attack: ``make`` gives the target of a handshake (None: none) and what is sent then for a number."""

    def attack(server: Server, full: bool) -> Finding:
        finding = Finding()

        def run(number: int) -> Callable[[], None]:
            target, data = make(number)

            def send() -> None:
                with Client(server.port, target) as client:
                    client.send(data)
                    if target is None:
                        assert client.read_head().startswith(b"HTTP/1.1 101 ")
                    else:
                        next(client.frames())

            return send

        once, twice = run(count), run(2 * count)
        once(), twice()
        ratios = []
        for _ in range(TRIES):
            ratios.append(cost(server, twice) / cost(server, once))
            if ratios[-1] <= 2.2:
                break
        finding.note(f"x {min(ratios):.2f} from {count:,} to {2 * count:,}", holds=min(ratios) <= 2.2)
        return finding

    return attack


def many_headers(count: int) -> tuple[str | None, bytes]:
    return None, handshake("/echo", *[f"X-Header-{number}: value" for number in range(count)])


def many_offers(count: int) -> tuple[str | None, bytes]:
    offers = ", ".join(["permessage-deflate; unknown"] * count)
    return None, handshake("/deflate", f"Sec-WebSocket-Extensions: {offers}")


def many_fragments(count: int) -> tuple[str | None, bytes]:
    return "/echo", frame(TEXT, b"x", fin=False) + frame(CONTINUATION, b"x", fin=False) * count + frame(CONTINUATION)


def many_messages(count: int) -> tuple[str | None, bytes]:
    return "/count", frame(BINARY, b"message") * count + frame(BINARY, b"?")


# The largest that a head can be is not what is measured here.
NO_LIMITS: Final = {
    "FERROWS_REQUEST_MAX_HEADERS": "10000000",
    "FERROWS_REQUEST_MAX_HEADER_SIZE": "100000000",
}

GROWTH: Final = [
    Stimulus(
        "twice_the_headers",
        "twice as many headers, their limits lifted",
        "CPU x 2.2 at most",
        doubling(320_000, many_headers),
        always=NO_LIMITS,
        peers=False,
    ),
    Stimulus(
        "twice_the_offers",
        "twice as many extension offers, the limits of headers lifted",
        "CPU x 2.2 at most",
        doubling(4_000, many_offers),
        always=NO_LIMITS,
        peers=False,
    ),
    Stimulus(
        "twice_the_fragments",
        "twice as many fragments of a message",
        "CPU x 2.2 at most",
        doubling(100_000, many_fragments),
    ),
    Stimulus(
        "twice_the_messages",
        "twice as many messages",
        "CPU x 2.2 at most",
        doubling(100_000, many_messages),
        peers=False,
    ),
]
