"""The page that says what was done, what must hold and what was found."""

from __future__ import annotations

from typing import NamedTuple

from .stimulus import Finding, Stimulus

INTRODUCTION = """# Resilience

What hostile clients do to the server, what must hold then, and what was measured. `make hostile` does all of it in
less than ten minutes and writes this page; `tests/hostile` does it in a shorter form with every run of the tests. Each
row is a server process of its own, with its defaults but for what the row names, and often an honest client beside the
attack. One attack at a time loads the machine; those that wait for a server to let go of them do so side by side. CPU,
memory and descriptors are what the kernel counts for the process.

The peers got the same stimulus in the same run, each on the loop that it uses out of the box and with our backlog of
2048 connections; that a limit of ours does not hold there says what they do differently, and is not always a fault.

A panic in the extension needs an extension that panics when it is told to: `make panics` builds one and has it panic at
every entry from Python. One connection is closed with 1011, one line is logged, and the process serves on.

What is promised beyond this, and what a connection can pin, is in [SECURITY.md](../SECURITY.md).
"""


class Result(NamedTuple):
    """What a stimulus did to a server."""

    stimulus: Stimulus
    server: str
    finding: Finding


def render(results: list[Result], environment: str, *, full: bool) -> str:
    """Write the page: an overview, then a table for each stimulus."""
    servers = list(dict.fromkeys(result.server for result in results))
    stimuli = list(dict.fromkeys(result.stimulus.name for result in results))
    by_place = {(result.stimulus.name, result.server): result for result in results}
    titles = {result.stimulus.name: result.stimulus for result in results}
    lines = [INTRODUCTION]
    lines.append(f"Measured with {environment}.{'' if full else ' In the short form of the tests.'}\n")
    lines.append("## Overview\n")
    lines.append(f"| stimulus | {' | '.join(servers)} |")
    lines.append(f"| --- {'| --- ' * len(servers)}|")
    for name in stimuli:
        marks = []
        for server in servers:
            result = by_place.get((name, server))
            marks.append("" if result is None else "no" if result.finding.broken else "holds")
        lines.append(f"| {titles[name].title} | {' | '.join(marks)} |")
    for name in stimuli:
        lines += ["", f"## {titles[name].title[0].upper()}{titles[name].title[1:]}", ""]
        lines += [f"Must hold: {titles[name].limit}.", "", "| server | measured |", "| --- | --- |"]
        for server in servers:
            result = by_place.get((name, server))
            if result is not None:
                facts = [f"**{fact}**" if fact in result.finding.broken else fact for fact in result.finding.facts]
                missing = [f"**{fact}**" for fact in result.finding.broken if fact not in result.finding.facts]
                lines.append(f"| {server} | {'; '.join([*facts, *missing]).replace('|', '/')} |")
    return "\n".join([*lines, ""])
