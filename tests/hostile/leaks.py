"""Leaks: what the second half of very many messages and connections adds to what the first half needed."""

from __future__ import annotations

import itertools
import time
from typing import Any, Final, NamedTuple

from .client import BINARY, TEXT, Client, frame
from .messages import SLACK
from .serving import Server, honest
from .stimulus import Finding, Stimulus, size
from .visits import OFFER, deflated, mixed, visit

MEMBERS: Final = 20
"""Those who get each broadcast."""


class Count(NamedTuple):
    """What a server at rest has."""

    memory: int
    descriptors: int
    tasks: int
    connections: int
    objects: int
    blocks: int
    heap: int


def counted(server: Server, descriptors: int) -> Count:
    """Wait until the server is at rest and, if that comes, has no more ``descriptors`` than that; count then."""
    server.settle()
    deadline = time.monotonic() + 5
    # Handles for a crowd are kept for a second or two, and connections that were cut are found by a ping.
    while time.monotonic() < deadline and (server.files > descriptors or server.state()["connections"] > 1):
        time.sleep(0.1)
    server.state()
    found: dict[str, Any] = server.state()
    names = ("tasks", "connections", "objects", "blocks", "heap")
    return Count(server.memory, server.files, *(found[name] for name in names))


def talk(server: Server, messages: int) -> int:
    """Send plain, compressed, echoed and broadcast messages; return how many there were."""
    done = 0
    for offer, data in (([], frame(BINARY, b"x" * 20)), ([OFFER], frame(BINARY, deflated(b"text " * 20), rsv1=True))):
        share = messages * (8 if not offer else 1) // 10
        with Client(server.port, "/count", *offer) as client:
            batch = data * 1000
            for _ in range(share // 1000):
                client.send(batch)
            client.send(frame(BINARY, b"?"))
            assert receive(client, 1) == [b"%d" % (share // 1000 * 1000 + 1)]
        done += share // 1000 * 1000
    with Client(server.port) as client:
        batch = frame(BINARY, b"echo") * 500
        for _ in range(messages // 20 // 500):
            client.send(batch)
            assert receive(client, 500) == [b"echo"] * 500
            done += 500
    members = [Client(server.port, "/room") for _ in range(MEMBERS)]
    batch = frame(BINARY, b"to all") * 50
    for _ in range(messages // 20 // 50 // MEMBERS):
        members[0].send(batch)
        for member in members:
            assert receive(member, 50) == [b"to all"] * 50
        done += 50 * MEMBERS
    for member in members:
        member.close()
    return done


def receive(client: Client, count: int) -> list[bytes]:
    """Receive so many messages, passing over what keeps the connection alive."""
    messages = (payload for opcode, payload in client.frames() if opcode in (TEXT, BINARY))
    return list(itertools.islice(messages, count))


def no_leaks(server: Server, full: bool) -> Finding:
    finding = Finding()
    # After each part everything is at rest and is counted.
    messages, connections, parts = (10_000_000, 100_000, 4) if full else (80_000, 800, 2)
    before = server.files
    # What is imported, compiled or cached when something happens for the first time.
    for part in range(2):
        talk(server, 20_000)
        for _ in range(2 if part else 10):
            visit(server.port, mixed())
    counts, echoes, talked, visited = [], [], 0, 0
    for _ in range(parts):
        with honest(server) as seen:
            talked += talk(server, messages // parts)
            for _ in range(connections // parts // 100):
                visit(server.port, mixed())
                visited += 100
        echoes.append(seen[0].echo)
        counts.append(counted(server, before))
    finding.note(f"{talked:,} messages, {visited:,} connections", holds=talked >= messages and visited >= connections)
    finding.note("memory " + ", ".join(f"{each.memory / 2**20:.2f}" for each in counts) + " MiB after each part")
    first, second = counts[: parts // 2], counts[parts // 2 :]

    def more(name: str) -> int:
        earlier, later = (max(each._asdict()[name] for each in half) for half in (first, second))
        return int(later - earlier)

    finding.note(f"{size(more('memory'))} more memory", holds=more("memory") <= SLACK)
    finding.note(f"{size(more('heap'))} more of it in use on the heap", holds=more("heap") <= 128 * 1024)
    for name, slack in (("descriptors", 0), ("tasks", 0), ("connections", 0), ("objects", 100), ("blocks", 1000)):
        finding.note(f"{more(name)} {NAMES.get(name, name)} more", holds=more(name) <= slack)
    finding.note(f"echo beside it p99 {max(echoes):.0f} ms")
    return finding


NAMES: Final = {"blocks": "blocks of Python's allocator"}

LEAKS: Final = [
    Stimulus(
        "no_leaks",
        "10 million messages, 100,000 connections",
        "descriptors, tasks, connections, objects and memory stay: the second half needs no more than the first",
        no_leaks,
        always={"FERROWS_WEBSOCKET_PING_INTERVAL": "1"},
        peers=False,
    ),
]
