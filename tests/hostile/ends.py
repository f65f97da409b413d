"""Ends: of many connections at once, and of handlers that fail."""

from __future__ import annotations

import collections
import time
from typing import Final

from .client import BINARY, CLOSE, Client, frame
from .serving import Server
from .stimulus import Finding, Stimulus


def end_of(client: Client) -> tuple[bool, str]:
    """Read to the end; return whether the answer to the last message came, and how the connection ended."""
    answered, code = False, "no Close"
    try:
        for opcode, payload in client.frames():
            if opcode == CLOSE:
                code = str(int.from_bytes(payload[:2], "big"))
            elif payload == b"last":
                answered = code == "no Close"
    except ConnectionError:
        return answered, f"{code}, reset"
    except TimeoutError:
        return answered, f"{code}, not ended"
    return answered, code


def closing_at_once(server: Server, full: bool) -> Finding:
    finding = Finding()
    count = 10_000 if full else 500
    clients = [Client(server.port) for _ in range(count)]
    # With a message on its way, so that there is something that could be lost.
    data = frame(BINARY, b"last") + frame(CLOSE, (1000).to_bytes(2, "big"))
    started = time.monotonic()
    for client in clients:
        client.send(data)
    ends: collections.Counter[str] = collections.Counter()
    answered = 0
    for client in clients:
        with client:
            answer, end = end_of(client)
            answered += answer
            ends[end] += 1
    shown = ", ".join(f"{number:,} x {end}" for end, number in ends.most_common())
    finding.note(f"ends: {shown}", holds=ends == {"1000": count})
    finding.note(f"{answered:,} of {count:,} last messages answered", holds=answered == count)
    finding.note(f"within {time.monotonic() - started:.1f} s")
    return finding


def failing_handlers(server: Server, full: bool) -> Finding:
    finding = Finding()
    count = 200 if full else 20
    # Once each, for what is imported and compiled when something fails for the first time.
    for target in ("/raises", "/cancelled", "/blocks"):
        with Client(server.port, target) as client:
            client.send(frame(BINARY, b"go"))
            client.close_code()
    server.settle()
    server.state()
    before, files = server.state(), server.files
    for target, codes in {"/raises": {1011}, "/cancelled": {1001}, "/blocks": {1000}}.items():
        rounds = count if target != "/blocks" else 1
        lines = len(server.lines())
        found = set()
        for _ in range(rounds):
            with Client(server.port, target) as client:
                client.send(frame(BINARY, b"go"))
                found.add(client.close_code())
        server.settle()
        logged = sum(f"handler of websocket {target} " in line for line in server.lines()[lines:])
        expected = rounds if target != "/blocks" else 0
        shown = ", ".join(map(str, sorted(found)))
        finding.note(f"{target[1:]}: {shown}, {logged / rounds:g} lines of log each", holds=found == codes)
        if logged != expected:
            finding.broken.append(f"{target}: {logged} lines of log, not {expected}")
    lines = len(server.lines())
    clients = [Client(server.port, "/stays") for _ in range(count)]
    for client in clients:
        client.send(frame(CLOSE, (1000).to_bytes(2, "big")))
    found = {client.close_code() for client in clients}
    for client in clients:
        client.close()
    started = time.monotonic()
    patience = 15
    while server.state()["tasks"] > before["tasks"] and time.monotonic() - started < patience:
        time.sleep(0.1)
    finding.note(f"never returns: {', '.join(map(str, sorted(found)))}", holds=found == {1000})
    logged = sum("handler of websocket /stays " in line for line in server.lines()[lines:])
    finding.note(f"{logged / count:g} lines of log each", holds=logged == count)
    after = server.state()
    finding.note(
        f"{after['tasks'] - before['tasks']} tasks, {server.files - files} descriptors, "
        f"{after['connections'] - before['connections']} connections more",
        holds=after["tasks"] <= before["tasks"]
        and server.files <= files
        and after["connections"] <= before["connections"],
    )
    grown = after["objects"] - before["objects"]
    finding.note(f"{grown} objects more", holds=grown < 10 * count)
    return finding


ENDS: Final = [
    Stimulus(
        "closing_at_once",
        "10,000 clients send a message and a Close at once",
        "every client gets its answer and the Close, none a reset",
        closing_at_once,
    ),
    Stimulus(
        "failing_handlers",
        "handlers that raise, block, are cancelled, never return (WEBSOCKET_HANDLER_TIMEOUT=1)",
        "logged once; the connection ends; nothing leaks",
        failing_handlers,
        always={"FERROWS_WEBSOCKET_HANDLER_TIMEOUT": "1"},
        peers=False,
    ),
]
