"""Clients that send more than the rates permit."""

from __future__ import annotations

import contextlib
import time
from typing import Final

from .client import BINARY, CLOSE, CONTINUATION, PING, Client, frame
from .serving import Server, honest
from .stimulus import Finding, Stimulus

RATE: Final = 1000
"""Messages and pings a second, and half of how many at once. The honest client sends a tenth of it."""

BYTES: Final = 1_000_000
"""Bytes a second, and half of how many at once."""

FRAGMENTS: Final = 1000
"""Of one message."""

ATTACKS: Final = {
    "messages": frame(BINARY, b"x") * 50 * RATE,
    "bytes": frame(BINARY, bytes(50_000)) * 400,
    "pings": frame(PING, b"x") * 50 * RATE,
    "fragments": frame(BINARY, b"x", fin=False) + frame(CONTINUATION, b"x", fin=False) * 50 * FRAGMENTS,
}


def answers(client: Client) -> tuple[int, int]:
    """Read to the end; return the number of frames before the Close, and its code: 1006 without one."""
    count, code = 0, 1006
    with contextlib.suppress(ConnectionError):
        for opcode, payload in client.frames():
            if opcode == CLOSE:
                code = int.from_bytes(payload[:2], "big")
                client.send(frame(CLOSE, payload[:2]))
            else:
                count += 1
    return count, code


def beyond_the_rates(server: Server, full: bool) -> Finding:
    finding = Finding()
    rounds = 100 if full else 10
    lines, started = len(server.lines()), time.monotonic()
    with honest(server) as seen:
        for counted, data in ATTACKS.items():
            codes, most, cpu, began = set(), 0, server.cpu, time.monotonic()
            for _ in range(rounds):
                with Client(server.port) as client:
                    with contextlib.suppress(ConnectionError):
                        client.send(data)
                    count, code = answers(client)
                    codes.add(code)
                    most = max(most, count)
            used = (server.cpu - cpu) / rounds
            # While it arrived, the bucket filled.
            permitted = 2 * RATE + RATE * (time.monotonic() - began)
            shown = ", ".join(map(str, sorted(codes)))
            finding.note(
                f"50 times the {counted} at once: {shown}, {most:,} answers, {used * 1000:.1f} ms of CPU each",
                holds=codes == {1008} and most <= permitted,
            )
    logged = len(server.lines()) - lines
    finding.note(f"{logged} lines of log", holds=1 <= logged <= time.monotonic() - started + 2)
    finding.note(f"honest echo beside it p99 {seen[0].echo:.0f} ms, {seen[0].failed} failed", holds=not seen[0].failed)
    refusals = server.state()["refusals"]
    counted_all = all(refusals.get(counted) == rounds for counted in ATTACKS)
    finding.note(f"counted: {refusals}", holds=counted_all)
    return finding


RATES: Final = [
    Stimulus(
        "beyond_the_rates",
        "50 times the permitted messages, bytes, pings, fragments",
        "1008 after what is permitted; an honest client is served; counted, at most a line of log a second",
        beyond_the_rates,
        always={
            "FERROWS_WEBSOCKET_MESSAGE_RATE": f"{RATE},{2 * RATE}",
            "FERROWS_WEBSOCKET_BYTE_RATE": f"{BYTES},{2 * BYTES}",
            "FERROWS_WEBSOCKET_PING_RATE": f"{RATE},{2 * RATE}",
            "FERROWS_WEBSOCKET_MAX_FRAGMENTS": str(FRAGMENTS),
        },
        peers=False,
    )
]
