"""Attacks with requests, and with connections that never become one."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable
from typing import Final

from .client import Client, ended, handshake
from .messages import SLACK
from .serving import Server, honest
from .stimulus import Finding, Stimulus, size

HEAD_TIMEOUT: Final = 10
"""REQUEST_HEAD_TIMEOUT; the short form has a tenth of it."""


def connections(port: int, count: int) -> list[Client]:
    return [Client(port, None) for _ in range(count)]


def slow_heads(server: Server, full: bool) -> Finding:
    """A third sends a head byte by byte, a third sends nothing, a third sends header lines without end."""
    finding = Finding()
    timeout = HEAD_TIMEOUT if full else HEAD_TIMEOUT / 10
    patience = timeout + 5
    before, files, opened = server.memory, server.files, time.monotonic()
    clients = connections(server.port, 4998 if full else 198)
    # Until all are accepted, so that new clients do not wait for the kernel: that is another attack.
    while server.files < files + len(clients) and time.monotonic() - opened < patience / 2:
        time.sleep(0.02)
    finding.note(f"{len(clients)} opened in {time.monotonic() - opened:.1f} s")
    third = len(clients) // 3
    head = handshake()
    lines = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X-Line: 1\r\n" * 1000
    sockets = {client.sock.fileno(): client.sock for client in clients}
    with honest(server) as seen:
        started = opened
        beats = 0
        gone: dict[int, float] = {}
        poll = select.poll()
        for number in sockets:
            poll.register(number, select.POLLIN)
        grown = 0
        while len(gone) < len(clients) and (now := time.monotonic()) - started < patience:
            if now - started >= beats * timeout / 10:
                for client in clients[:third]:
                    _try(client.sock, head[beats : beats + 1])
                for client in clients[third : 2 * third]:
                    _try(client.sock, lines[:34] if beats == 0 else b"X-Line: 1\r\n")
                beats += 1
                grown = max(grown, server.memory - before)
            for number, _ in poll.poll(50):
                try:
                    data = sockets[number].recv(4096)
                except ConnectionError:
                    data = b""
                if not data:
                    poll.unregister(number)
                    gone[number] = time.monotonic() - started
    for client in clients:
        client.close()
    left = len(clients) - len(gone)
    if left:
        finding.note(f"{left} of {len(clients)} open after {patience:.0f} s", holds=False)
    else:
        finding.note(f"all closed within {max(gone.values()):.1f} s of the first")
    finding.note(f"{size(max(0, grown) / len(clients))} of memory each")
    latencies = seen[0]
    finding.note(
        f"new clients p99 {latencies.open:.0f} ms",
        holds=latencies.failed == 0 and latencies.open < (50 if full else 5000),
    )
    return finding


def _try(sock: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        sock.send(data)


def large_heads(server: Server, full: bool) -> Finding:
    finding = Finding()
    requests = {
        "a header of 1 MiB": (handshake("/echo", "X-Large: " + "a" * 2**20), {431}),
        "5,000 headers": (handshake("/echo", *["X: 1"] * 5000), {431}),
        "a target of 100 kB": (handshake("/echo?" + "a" * 100_000), {414}),
    }
    server.settle()
    server.forget_peak()
    before = server.memory
    for name, (request, permitted) in requests.items():
        statuses = set()
        for _ in range(50 if full else 5):
            with Client(server.port, None, timeout=5) as client:
                with contextlib.suppress(ConnectionError):
                    client.send(request)
                with contextlib.suppress(ConnectionError):
                    statuses.add(int(client.read_head()[9:12] or 0))
        shown = ", ".join(str(each or "closed") for each in sorted(statuses)) or "reset"
        finding.note(f"{name}: {shown}", holds=statuses == permitted)
    grown = server.peak - before
    finding.note(f"{size(max(0, grown))} more memory", holds=grown <= SLACK)
    return finding


FILES: Final = 64
"""RLIMIT_NOFILE of a server that runs out of descriptors."""


def descriptors_used_up(server: Server, full: bool) -> Finding:
    finding = Finding()
    served = Client(server.port)
    served.echo()
    clients = [Client(server.port, None) for _ in range(2 * FILES)]
    time.sleep(0.2)
    seconds = 10 if full else 1
    cpu, lines, started = server.cpu, len(server.lines()), time.monotonic()
    while time.monotonic() - started < seconds:
        # New clients go on to come.
        with contextlib.suppress(OSError):
            clients.append(Client(server.port, None, timeout=1))
        time.sleep(0.1)
    elapsed = time.monotonic() - started
    used = (server.cpu - cpu) / elapsed
    finding.note(f"{used:.1%} of a CPU", holds=used < 0.05)
    logged = len(server.lines()) - lines
    finding.note(f"{logged / elapsed:.1f} lines of log a second", holds=logged <= elapsed + 1)
    echoed = False
    with contextlib.suppress(OSError, AssertionError):
        echoed = served.echo() == b"here"
    finding.note("open connections are served" if echoed else "an open connection is not served", holds=echoed)
    for client in clients:
        client.close()
    started = time.monotonic()
    recovered = False
    while not recovered and time.monotonic() - started < 10:
        with contextlib.suppress(OSError, AssertionError), Client(server.port, timeout=5) as client:
            recovered = client.echo() == b"here"
        time.sleep(0.005)
    took = time.monotonic() - started
    finding.note(f"recovers after {took:.2f} s", holds=recovered and took < (1 if full else 8))
    served.close()
    return finding


def refused(port: int) -> tuple[int, bool]:
    """Ask for a WebSocket; return the status, and whether the answer says when to try again."""
    with Client(port, None) as client:
        client.send(handshake())
        head = client.read_head()
        return int(head[9:12] or 0), b"\r\nretry-after: " in head.lower()


MOST: Final = 20
"""MAX_CONNECTIONS and the like of a server under this attack."""


def limit_reached(open_one: Callable[[int], Client], counter: str) -> Callable[[Server, bool], Finding]:
    """Make an attack that opens connections up to a limit, and more."""

    def attack(server: Server, full: bool) -> Finding:
        finding = Finding()
        held = [open_one(server.port) for _ in range(MOST)]
        time.sleep(0.05)
        count = 2000 if full else 50
        cpu = server.cpu
        answers = {refused(server.port) for _ in range(count)}
        used = (server.cpu - cpu) / count
        finding.note(
            "503 with Retry-After" if answers == {(503, True)} else f"answers {answers}", holds=answers == {(503, True)}
        )
        finding.note(f"{used * 1e6:.0f} µs of CPU each")
        lines = [line for line in server.lines() if "refused" in line]
        finding.note(f"{len(lines)} lines of log", holds=1 <= len(lines) <= 1 + count)
        silent = connections(server.port, 10)
        gone = ended([client.sock for client in silent], 10)
        finding.note(f"{gone} of {len(silent)} silent ones closed", holds=gone == len(silent))
        held.pop().close()
        time.sleep(0.1)
        recovered = refused(server.port)[0]
        fact = "one that leaves makes room for one" if recovered == 101 else f"{recovered} after one has left"
        finding.note(fact, holds=recovered == 101)
        for client in [*held, *silent]:
            client.close()
        time.sleep(0.1)
        refusals = server.state()["refusals"]
        finding.note(f"counted as {counter}: {refusals.get(counter, 0)}", holds=refusals.get(counter, 0) >= count)
        return finding

    return attack


def cross_site(server: Server, full: bool) -> Finding:
    finding = Finding()

    def status(*lines: str) -> int:
        with Client(server.port, None) as client:
            client.send(handshake("/echo", *lines))
            return int(client.read_head()[9:12] or 0)

    cookie = "Cookie: session=1"
    found = status("Origin: https://evil.example", cookie)
    finding.note(f"another origin with cookies: {found}", holds=found == 403)
    found = status("Origin: http://127.0.0.1", cookie)
    finding.note(f"the same origin with cookies: {found}", holds=found == 101)
    found = status("Origin: https://evil.example")
    finding.note(f"another origin without cookies: {found}", holds=found == 101)
    return finding


REQUESTS: Final = [
    Stimulus(
        "slow_heads",
        "5,000 connections: heads at one byte a second, heads without end, silence",
        "closed in 10 s; new clients answered with a p99 below 50 ms",
        slow_heads,
        environment={"FERROWS_REQUEST_HEAD_TIMEOUT": "1"},
    ),
    Stimulus(
        "large_heads",
        "a header of 1 MiB, 5,000 headers, a target of 100 kB",
        "431, 431, 414",
        large_heads,
    ),
    Stimulus(
        "descriptors_used_up",
        "no file descriptor is left",
        "below 5 % of a CPU, at most a line of log a second, open connections served, recovers within 1 s",
        descriptors_used_up,
        always={"FERROWS_MAX_CONNECTIONS": "100000"},
        always_options=("--files", str(FILES)),
    ),
    Stimulus(
        "total_limit",
        f"more than MAX_CONNECTIONS={MOST} connections",
        "503 with Retry-After before the handshake; counted",
        limit_reached(Client, "connections"),
        always={"FERROWS_MAX_CONNECTIONS": str(MOST)},
        peers=False,
    ),
    Stimulus(
        "address_limit",
        f"more than MAX_CONNECTIONS_PER_ADDRESS={MOST} connections of one address",
        "503 with Retry-After before the handshake; counted",
        limit_reached(Client, "address"),
        always={"FERROWS_MAX_CONNECTIONS_PER_ADDRESS": str(MOST)},
        peers=False,
    ),
    Stimulus(
        "handshake_limit",
        f"more than MAX_HANDSHAKES={MOST} connections without a request",
        "503 with Retry-After before the handshake; counted",
        limit_reached(lambda port: Client(port, None), "handshakes"),
        always={"FERROWS_MAX_HANDSHAKES": str(MOST)},
        peers=False,
    ),
    Stimulus(
        "cross_site",
        "a page of another site opens a connection with the user's cookies",
        "403",
        cross_site,
    ),
]
