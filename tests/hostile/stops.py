"""Ends of processes: of the server while everybody sends, and of one worker of several."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from .client import Client
from .crowd import Crowd
from .serving import Server
from .stimulus import Finding, Stimulus

CLOSES_A_SECOND: Final = 1000
"""How fast a server that stops tells its clients, unless there are so many that DRAIN_TIMEOUT cuts it short."""

GRACE: Final = 15
"""GRACEFUL_SHUTDOWN_TIMEOUT, the deadline of a server that stops."""


WORKERS: Final = 3

NEVER: Final = float("inf")
"""Seconds until what did not happen."""


def stopped_under_load(server: Server, full: bool) -> Finding:
    finding = Finding()
    count = 2000 if full else 200
    crowd = Crowd(server.port, count, "/echo")
    crowd.talk(1 if full else 0.3)
    answers = sum(each.answers for each in crowd.talking.values())
    finding.note(f"{count:,} clients with {answers:,} answers before", holds=answers >= count)
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    listened = NEVER
    while (crowd.talking or listened == NEVER) and time.monotonic() - began < GRACE:
        crowd.talk(0.1)
        if listened == NEVER and not listens(server.port):
            listened = time.monotonic() - began
    finding.note(f"listens no more after {listened:.1f} s", holds=listened < (2 if full else 5))
    left = len(crowd.talking)
    crowd.close()
    ends = ", ".join(f"{number:,} x {end}" for end, number in crowd.ends.most_common())
    finding.note(f"ends: {ends}", holds=crowd.ends == {"1001": count} and not left)
    told = sorted(each.told for each in crowd.ended) or [began]
    spread = told[-1] - told[0]
    finding.note(
        f"Closes spread over {spread:.1f} s", holds=spread >= count / CLOSES_A_SECOND / 2 and told[-1] - began < GRACE
    )
    try:
        code: int | None = server.process.wait(GRACE)
    except subprocess.TimeoutExpired:
        code = None
    finding.note(f"exit code {code} after {time.monotonic() - began:.1f} s", holds=code == 0)
    sent = sum(int(line.split()[1]) for line in server.lines() if re.fullmatch(r"echoed \d+", line))
    received = sum(each.answers for each in crowd.ended)
    finding.note(f"{received:,} of {sent:,} answers arrived", holds=received == sent > answers)
    return finding


def listens(port: int) -> bool:
    """Whether a connection can be opened."""
    try:
        Client(port, None, timeout=1).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return True
    return True


def replaced(port: int, known: set[str], seconds: float) -> float:
    """Open connections until a process answers that is new; return how long it took, infinity if none came."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        with contextlib.suppress(OSError, AssertionError), Client(port, "/who", timeout=seconds) as client:
            _, pid = next(client.frames())
            if pid.decode() not in known:
                return time.monotonic() - began
        time.sleep(0.01)
    return NEVER


def killed_worker(server: Server, full: bool) -> Finding:
    finding = Finding()
    assert server.process.stdout is not None
    for _ in range(WORKERS - 1):
        # Each says the port when it is ready; the first one has said it already.
        server.process.stdout.readline()
    crowd = Crowd(server.port, 300 if full else 60, "/who", pause=0.05)
    clients = list(crowd.talking.values())
    while not all(each.answers for each in clients) and not crowd.ended:
        crowd.talk(0.3)
    workers = {each.greeting for each in clients}
    victim = min(workers)
    lost = sum(each.greeting == victim for each in clients)
    finding.note(f"{len(workers)} workers; {lost} of {len(clients)} connections on the one that is killed")
    for each in clients:
        each.slowest = 0.0
    answers = sum(each.answers for each in clients)
    with ThreadPoolExecutor(1) as pool:
        os.kill(int(victim), signal.SIGKILL)
        waiting = pool.submit(replaced, server.port, workers, 20)
        while not waiting.done():
            crowd.talk(0.2)
        crowd.talk(0.5)
    finding.note(f"replaced after {waiting.result():.2f} s", holds=waiting.result() < (1 if full else 20))
    ended = {each.greeting for each in crowd.ended}
    finding.note(f"{len(crowd.ended)} connections ended", holds=ended == {victim} and len(crowd.ended) == lost)
    others = list(crowd.talking.values())
    answers = sum(each.answers for each in clients) - answers
    slowest = max(each.slowest for each in others)
    finding.note(
        f"the others got {answers:,} answers, the slowest after {slowest * 1000:.0f} ms",
        holds=slowest < (0.5 if full else 10) and all(each.slowest for each in others),
    )
    crowd.close()
    return finding


STOPS: Final = [
    Stimulus(
        "stopped_under_load",
        "SIGTERM while 2,000 clients send",
        "listens no more; all get 1001, spread over time, and every answer that was sent; exit by the deadline",
        stopped_under_load,
        ends=True,
        always_options=("--workers", "1"),
        peers=False,
    ),
    Stimulus(
        "killed_worker",
        f"SIGKILL of one of {WORKERS} workers",
        "the others' clients notice nothing; another worker within 1 s",
        killed_worker,
        always_options=("--workers", str(WORKERS)),
        peers=False,
    ),
]
