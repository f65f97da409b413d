"""Ends: of many connections at once, and of handlers that fail."""

from __future__ import annotations

import collections
import time
from typing import Final

from .client import BINARY, CLOSE, Client, frame
from .serving import Server, honest
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
    count = 9000 if full else 500
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
        rounds = count if target != "/blocks" else 3
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


def no_leaks(server: Server, full: bool) -> Finding:
    """Many messages and many connections, twice: what the second time adds is a leak."""
    finding = Finding()
    messages, connects = (10_000_000, 100_000) if full else (100_000, 2_000)

    def use(part: int) -> None:
        with Client(server.port, "/count") as client:
            batch = frame(BINARY, b"x" * 20) * 1000
            for _ in range(messages // part // 1000):
                client.send(batch)
            client.send(frame(BINARY, b"?"))
            assert int(next(client.frames())[1]) == messages // part // 1000 * 1000 + 1
        for _ in range(connects // part):
            with Client(server.port) as client:
                client.echo()
        # Longer than the handles for a crowd are kept open behind it.
        server.settle(2.2)

    with honest(server) as seen:
        use(4)
        server.state()
        before, memory = server.state(), server.memory
        files = server.files
        use(1)
        after = server.state()
        grown = server.memory - memory
        finding.note(f"{files} descriptors before, {server.files} after", holds=server.files <= files + 2)
    finding.note(f"{messages:,} messages, {connects:,} connections")
    finding.note(f"{grown / 1024:.0f} KiB more memory", holds=grown <= 2 * 2**20)
    tasks = after["tasks"] - before["tasks"]
    finding.note(f"{tasks} tasks more", holds=tasks <= 1)
    objects = after["objects"] - before["objects"]
    finding.note(f"{objects} objects more", holds=objects <= 200)
    finding.note(f"echo beside it p99 {seen[0].echo:.0f} ms")
    return finding


ENDS: Final = [
    Stimulus(
        "closing_at_once",
        "9,000 clients send a message and a Close at once",
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
    Stimulus(
        "no_leaks",
        "10 million messages, 100,000 connections",
        "memory, descriptors, tasks and objects stay as they are",
        no_leaks,
        peers=False,
    ),
]
