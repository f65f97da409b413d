"""Do everything of tests/hostile in its full size, to ferrows and to its peers, and write what was found into a page.

`python -m tests.hostile [--output docs/resilience.md] [--short] [STIMULUS …]`; the page is written anew after every
stimulus, so that an end before the end leaves what was found. The exit status is 1 if a limit did not hold on ferrows.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
import time
from pathlib import Path

from .attacks import ATTACKS
from .page import Result, render
from .serving import running
from .stimulus import Finding, Stimulus

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
    results: list[Result] = []
    for stimulus in ATTACKS:
        if options.stimulus and stimulus.name not in options.stimulus:
            continue
        for peer, loop in SERVERS:
            if peer != "ferrows" and (options.alone or not stimulus.peers):
                continue
            started = time.monotonic()
            finding = attack(stimulus, peer, loop, full=not options.short)
            results.append(Result(stimulus, f"{peer}, {loop}", finding))
            verdict = f"BROKEN {finding.broken}" if finding.broken else "holds"
            print(f"{time.monotonic() - started:5.1f} s  {stimulus.name:20} {peer:10} {loop:8} {verdict}", flush=True)
            print("        ", "; ".join(finding.facts), flush=True)
        if options.output:
            options.output.write_text(render(results, environment(), full=not options.short), "utf-8")
    return int(any(each.finding.broken for each in results if each.server.startswith("ferrows")))


def attack(stimulus: Stimulus, peer: str, loop: str, *, full: bool) -> Finding:
    """Attack a server of its own; one that fails in a way that was not foreseen has broken the limit too."""
    options, settings = stimulus.settings(peer, full=full)
    try:
        with running(peer, loop, *options, environment=settings) as server:
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
