"""Do everything of tests/hostile in its full size, to ferrows and to its peers, and write what was found into a page.

`python -m tests.hostile [--output docs/resilience.md] [--short] [STIMULUS …]`; the page is written anew after every
attack, so that an end before the end leaves what was found. An attack that only waits does so beside those that follow.
The exit status is 1 if a limit did not hold on ferrows.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .attacks import ATTACKS
from .page import Result, render
from .serving import running
from .stimulus import Finding, Stimulus
from .turn import Turn

# What each uses out of the box.
SERVERS = [
    ("ferrows", "asyncio"),
    ("ferrows", "uvloop"),
    ("aiohttp", "asyncio"),
    ("websockets", "asyncio"),
    ("uvicorn", "uvloop"),
]


def main() -> int:
    arguments = argparse.ArgumentParser(description="attack ferrows and its peers, and write what was found")
    arguments.add_argument("--output", type=Path, help="the page; without it what was found is printed only")
    arguments.add_argument("--short", action="store_true", help="the sizes of the tests")
    arguments.add_argument("--alone", action="store_true", help="leave the peers out")
    arguments.add_argument("stimulus", nargs="*", help="names; all without any")
    options = arguments.parse_args()
    unknown = {*options.stimulus} - {each.name for each in ATTACKS}
    if unknown:
        arguments.error(f"no stimulus {', '.join(sorted(unknown))}, permitted: {', '.join(e.name for e in ATTACKS)}")
    # The servers inherit it. Some attacks need 10,000 at each end.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    results: dict[tuple[str, str, str], Result] = {}
    began, turn, full = time.monotonic(), Turn(), not options.short

    def do(stimulus: Stimulus, peer: str, loop: str) -> None:
        started = time.monotonic()
        try:
            finding = attack(stimulus, peer, loop, turn, full=full)
            results[stimulus.name, peer, loop] = Result(stimulus, f"{peer}, {loop}", finding)
            verdict = f"BROKEN {finding.broken}" if finding.broken else "holds"
            print(f"{time.monotonic() - started:5.1f} s  {stimulus.name:20} {peer:10} {loop:8} {verdict}", flush=True)
            print("        ", "; ".join(finding.facts), flush=True)
            if options.output:
                found = [results[place] for place in places if place in results]
                options.output.write_text(render(found, environment(), full=full), "utf-8")
        finally:
            turn.give()

    chosen = [each for each in ATTACKS if not options.stimulus or each.name in options.stimulus]
    servers = [("ferrows", loop) for loop in ("asyncio", "uvloop")] if options.alone else SERVERS
    attacks = [(each, *server) for each in chosen for server in servers if each.peers or server[0] == "ferrows"]
    places = [(stimulus.name, peer, loop) for stimulus, peer, loop in attacks]
    with ThreadPoolExecutor(len(attacks)) as pool:
        doing = []
        for each in attacks:
            # One after the other, but for the waits in which an attack gives its turn away.
            turn.take()
            doing.append(pool.submit(do, *each))
        for future in doing:
            future.result()
    print(f"{time.monotonic() - began:.0f} s in all")
    return int(any(each.finding.broken for each in results.values() if each.server.startswith("ferrows")))


def attack(stimulus: Stimulus, peer: str, loop: str, turn: Turn, *, full: bool) -> Finding:
    """Attack a server of its own; one that fails in a way that was not foreseen has broken the limit too."""
    options, settings = stimulus.settings(peer, full=full)
    try:
        with running(peer, loop, *options, environment=settings, turn=turn) as server:
            try:
                return stimulus.attack(server, full)
            except (OSError, AssertionError, ValueError, StopIteration) as error:
                fact = f"{type(error).__name__}: {error}" if server.alive else "the process has ended"
                return Finding([fact], [fact])
    except OSError as error:
        return Finding([str(error)], [str(error)])


def environment() -> str:
    names = ("ferrows", "aiohttp", "websockets", "uvicorn", "uvloop")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    return (
        f"{versions}; {platform.python_implementation()} {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs; {time.strftime('%Y-%m-%d')}"
    )


if __name__ == "__main__":
    sys.exit(main())
