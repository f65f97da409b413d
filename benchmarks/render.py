"""Write the report of a run: ``python -m benchmarks.render [RUN.json ...] [--output FILE] [--no-plots]``.

Of several, a later one gives what it has measured anew in place of what an earlier one has.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.page import table
from benchmarks.results import CPU, OPENING, P50, P99, P999, RSS, THROUGHPUT, USED_RSS, WIRE, Metric, Part, Run
from benchmarks.run import RESULTS
from benchmarks.scenarios import IN_FLIGHT_LIMIT, Family, Scenario, size_label
from benchmarks.servers import ROOT
from benchmarks.spread import Spread
from benchmarks.targets import NATIVE, OURS, Outcome, outcomes

DETAILED: Final = 3
"""Rounds from which on a scenario of its own is shown with all servers."""

MANY: Final = 30
"""Scenarios that are counted and not named."""

REPORT: Final = ROOT / "benchmarks" / "REPORT.md"


def main() -> None:
    """Render what the command line says, by default the newest full run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.render")
    parser.add_argument("runs", type=Path, nargs="*", help="JSON of runs; by default the newest full one")
    parser.add_argument("--output", type=Path, default=REPORT)
    parser.add_argument("--no-plots", action="store_true")
    arguments = parser.parse_args()
    files: list[Path] = arguments.runs or sorted(RESULTS.glob("full-*.json"))[-1:]
    if not files:
        sys.exit("there is no run to render: make bench")
    run = functools.reduce(Run.renewed, map(Run.read, files))
    plots: list[Path] = []
    if not arguments.no_plots:
        from benchmarks.plots import draw

        plots = draw(run, arguments.output.parent / "plots")
    names = [plot.relative_to(arguments.output.parent).as_posix() for plot in plots]
    sources = {Run.read(file).document["started"]: _relative(file, arguments.output.parent) for file in files}
    arguments.output.write_text(report(run, sources=sources, plots=names), "utf-8")
    print(f"report: {arguments.output}")


def report(run: Run, *, sources: Mapping[str, str] | None = None, plots: Sequence[str] = ()) -> str:
    """Return the whole report in Markdown. Nothing in it is known beforehand: every figure is the run's.

    ``sources`` are the files of its parts, by the time at which each was started.
    """
    parts = [
        "# Benchmarks",
        introduction(run, sources or {}),
        extents(run),
        "## Aims",
        aims(outcomes(run)),
        "## Echo",
        *(detail(run, scenario) for scenario in echoes(run) if scenario.rounds >= DETAILED),
    ]
    for family, title in (
        (Family.BROADCAST, "Broadcast"),
        (Family.IDLE, "Idle connections"),
        (Family.CONNECT, "Opening connections"),
        (Family.HTTP, "HTTP"),
    ):
        found = [scenario for scenario in run.scenarios.values() if scenario.family is family]
        if found:
            parts += [f"## {title}", *(detail(run, scenario) for scenario in found)]
    if plots:
        parts += ["## Plots", *(f"![{Path(plot).stem.replace('-', ' ')}]({plot})" for plot in plots)]
    parts += matrices(run)
    parts += ["## Servers", servers(run)]
    parts += ["## What did not work", failures(run)]
    return "\n\n".join(part for part in parts if part) + "\n"


# --------------------------------------------------------------------------------------------------------------------
# Sections


def introduction(run: Run, sources: Mapping[str, str]) -> str:
    """Return where, when and how it was measured."""
    document = run.document
    host = document["host"]
    memory = f", {host['memory_bytes'] / 2**30:.0f} GiB" if host["memory_bytes"] else ""
    rows = [
        ("Machine", f"{host['cpu']}, {host['cpus']} cores{memory}, {host['kernel']}"),
        ("Interpreter", host["python"]),
    ]
    for part in run.parts:
        rows += origin(part, sources, alone=len(run.parts) == 1)
    cores = document["cores"]
    parts = [table(("", ""), rows)]
    if not document["complete"]:
        parts.append("**The run was stopped before its end.**")
    parts.append(
        f"Each server runs in one process on core {cores['server']}, the load generator, native and checking every "
        f"byte that comes back, on core {cores['loadgen']}. In each round the servers take turns, each in a fresh "
        "process for each of the groups below. A figure is the median over the rounds, with the smallest and the "
        "largest beside it; a ratio is the median of the ratios within a round, so that what the machine did at the "
        "time falls out. *CPU us* is the CPU time of the server's whole process tree, user and system, for one "
        "message: it holds where messages per second are limited by something else. Settings are equal where a "
        "server has them: TCP_NODELAY, no access log, no keepalive pings, messages up to 16 MiB, compression off but "
        "where a table says otherwise, uvloop. A dash: the server does not have that or was not asked for it, or it "
        "failed, which the last section lists."
    )
    return "\n\n".join(parts)


def origin(part: Part, sources: Mapping[str, str], *, alone: bool) -> list[tuple[str, str]]:
    """Return when and with what a part was measured and, where it is one of several, what of it the report shows."""
    document = part.document
    host, ours = document["host"], document["ferrows"]
    started = datetime.datetime.fromisoformat(document["started"])
    commit = f"commit {ours['commit'][:12]}" if ours["commit"] else "of no commit"
    rows = [
        ("Run", f"{document['mode']}, {started:%Y-%m-%d %H:%M} UTC, {document['seconds'] / 60:.0f} minutes"),
        ("ferrows", f"{ours['version']}, {commit}{', with changes' if ours['modified'] else ''}, {ours['rustc']}"),
        ("Load before the run", f"{host['load_average']:.2f}"),
    ]
    if source := sources.get(document["started"]):
        rows.append(("Raw data", f"[{Path(source).name}]({source})"))
    if not alone:
        total = len(document["scenarios"])
        shown = "all" if len(part.scenarios) == total else f"{len(part.scenarios)} of {total}"
        names = f": {', '.join(part.scenarios)}" if len(part.scenarios) < MANY else ""
        rows.append(("Scenarios of it", f"{shown}{names}"))
    return rows


def extents(run: Run) -> str:
    """Return what was measured how often, for how long, and on which servers."""
    groups: dict[str, list[Scenario]] = {}
    for scenario in run.scenarios.values():
        groups.setdefault(scenario.group or scenario.title, []).append(scenario)
    rows = []
    for name, scenarios in groups.items():
        first = scenarios[0]
        rounds = max(rounds_of(run, scenario) for scenario in scenarios)
        measured = {server for scenario in scenarios for server in run.measured(scenario.name)}
        count = ", ".join(first.servers) if first.servers else f"all that have it, {len(measured)}"
        lengths = sorted({(scenario.seconds, scenario.warmup) for scenario in scenarios})
        each = " or ".join(f"{seconds:g} s after {warmup:g} s" for seconds, warmup in lengths)
        rows.append((name, str(len(scenarios)), str(rounds), each, count))
    head = ("what shares a process", "scenarios", "rounds", "each", "servers")
    note = (
        "One round is a sample, not a statement about noise: where the aims are, there are several, and a matrix of "
        "one round shows where the others lie."
    )
    return f"{table(head, rows)}\n\n{note}"


def aims(rows: Sequence[Outcome]) -> str:
    """Return the table of the aims."""
    if not rows:
        return "This run has none of the scenarios that the aims are about."
    cells = [
        (
            row.what,
            row.against,
            number(row.reached),
            "" if row.must is None else f"<= {number(row.must)}",
            "" if row.reach_for is None else f"<= {number(row.reach_for)}",
            row.verdict,
        )
        for row in rows
    ]
    head = ("ferrows in", "against", "ratio", "must be", "reaches for", "")
    note = (
        f"A ratio is ferrows' figure by the other's. {NATIVE} stands where the aims name uWebSockets, which is not "
        "measured here: it is the whole protocol in native code without Python."
    )
    return f"{table(head, cells)}\n\n{note}"


def detail(run: Run, scenario: Scenario) -> str:
    """Return one scenario's table, the servers in the order of their cost."""
    metrics = [metric for metric in metrics_of(scenario) if any_value(run, scenario.name, metric)]
    first = metrics[0] if metrics else CPU
    rows = []
    for name in sorted(run.measured(scenario.name), key=lambda name: _order(run, scenario.name, name, first)):
        cells = [f"**{name}**" if name == OURS else name]
        for metric in metrics:
            spread = run.spread(scenario.name, name, metric)
            if metric is first:
                cells += [number(spread.median if spread else None), extent(spread)]
                ratio = run.ratio(scenario.name, name, OURS, metric)
                cells.append(f"{number(ratio.median)} x" if ratio else "-")
            else:
                cells.append(number(spread.median if spread else None))
        if scenario.deflate:
            cells.append(extensions(run, scenario.name, name))
        rows.append(cells)
    head = ["", first.title, "min-max", "to ferrows", *(metric.title for metric in metrics[1:])]
    if scenario.deflate:
        head.append("negotiated")
    title = scenario.title[0].upper() + scenario.title[1:]
    remark = ""
    if scenario.half_of is not None:
        remark = (
            "Messages are sent at half the rate that ferrows reached with one in flight, whether the answers come or "
            "not; latency counts from the time at which a message was due. A server that falls behind shows it in "
            "its messages per second.\n\n"
        )
    if scenario.deflate:
        offer = f"The client offers `{scenario.offer}`" if scenario.offer else "The client offers what browsers offer"
        remark = f"{offer}. *{WIRE.title}* are those that the server sends, with the frame's header.\n\n"
    count = rounds_of(run, scenario)
    rounds = f"{count} round{'' if count == 1 else 's'} of {scenario.seconds:g} s."
    return f"### {title}\n\n{remark}{table(head, rows)}\n\n{rounds}"


def matrices(run: Run) -> list[str]:
    """Return the tables of all echoes by size, for each number of connections and of messages in flight."""
    groups: dict[tuple[bool, int, int], list[Scenario]] = {}
    for scenario in echoes(run):
        if not scenario.deflate and scenario.half_of is None:
            groups.setdefault((scenario.text, scenario.connections, scenario.in_flight), []).append(scenario)
    if not any(len(group) > 2 for group in groups.values()):
        return []  # the tables of the single scenarios say it all
    parts = [
        "## Echo by size",
        f"Combinations with more than {size_label(IN_FLIGHT_LIMIT)} under way at once are left out. In brackets the "
        "ratio to ferrows. The columns that have a table of their own above are from its rounds and have all servers, "
        "the others are from one short round and have those that the table of the groups names.",
    ]
    for (text, connections, in_flight), group in sorted(groups.items(), key=lambda item: (not item[0][0], item[0][1:])):
        group.sort(key=lambda scenario: scenario.size)
        title = f"{'Text' if text else 'Binary'}, {connections:,} connections, {in_flight} in flight"
        parts.append(f"### {title}")
        for metric in (CPU, THROUGHPUT, P50, P99, P999):
            parts.append(f"{metric.title}\n\n{by_size(run, group, metric)}")
    return parts


def by_size(run: Run, group: Sequence[Scenario], metric: Metric) -> str:
    """Return a table of one metric: a row for each server, a column for each scenario."""
    rows = []
    for name in run.names():
        cells = []
        for scenario in group:
            spread = run.spread(scenario.name, name, metric)
            ratio = run.ratio(scenario.name, name, OURS, metric)
            cells.append(
                "-" if spread is None else number(spread.median) + (f" ({number(ratio.median)})" if ratio else "")
            )
        if any(cell != "-" for cell in cells):
            rows.append([f"**{name}**" if name == OURS else name, *cells])
    return table(["", *(size_label(scenario.size) for scenario in group)], rows)


def servers(run: Run) -> str:
    """Return what each server is, with its versions, and what is special about it."""
    versions = run.document["versions"]
    rows = []
    for server in run.servers:
        found = ", ".join(f"{name} {versions[name]}" for name in server["distributions"] if name in versions)
        note = "; ".join(
            part for part in (server["note"], server["deflate"] and f"deflate: {server['deflate']}") if part
        )
        lacks = sorted({"broadcast", "deflate", "http"} - set(server["abilities"]))
        if lacks:
            note += f"{'; ' if note else ''}not asked for: {', '.join(lacks)}"
        rows.append((server["name"], found or server["kind"], note))
    loops = ", ".join(f"{name} {version}" for name, version in versions.items() if name in ("uvloop", "httptools"))
    return f"{table(('server', 'versions', 'notes'), rows)}\n\nUnder them: {loops or 'nothing recorded'}."


def failures(run: Run) -> str:
    """Return what is missing and what failed: nothing is left out in silence."""
    lines = [
        f"- {server['name']} is missing: {one_line(server['missing'])}" for server in run.servers if server["missing"]
    ]
    for scenario, server, failed, total, error in run.errors():
        lines.append(f"- {server}, {scenario}, {failed} of {total} rounds: {one_line(error)}")
    return "\n".join(lines) or "Nothing."


# --------------------------------------------------------------------------------------------------------------------
# Pieces


def metrics_of(scenario: Scenario) -> tuple[Metric, ...]:
    """Return the figures that a scenario is about, the one that decides first."""
    if scenario.family is Family.IDLE:
        return RSS, USED_RSS, OPENING
    if scenario.half_of is not None:
        return P99, P50, P999, THROUGHPUT, CPU
    if scenario.deflate:
        return CPU, THROUGHPUT, P50, P99, P999, WIRE
    return CPU, THROUGHPUT, P50, P99, P999


def rounds_of(run: Run, scenario: Scenario) -> int:
    """Return how often a scenario was put to the server that it was put to most often."""
    return max((len(run.results(scenario.name, name)) for name in run.names()), default=0)


def any_value(run: Run, scenario: str, metric: Metric) -> bool:
    """Whether a server has this figure."""
    return any(run.values(scenario, name, metric) for name in run.names())


def echoes(run: Run) -> list[Scenario]:
    """Return the scenarios that echo."""
    return [scenario for scenario in run.scenarios.values() if scenario.family is Family.ECHO]


def extensions(run: Run, scenario: str, server: str) -> str:
    """Return what was negotiated with a server."""
    found = {str(result.get("negotiated_extensions") or "-") for result in run.results(scenario, server).values()}
    return ", ".join(sorted(found)).replace("permessage-deflate", "deflate")


def extent(spread: Spread | None) -> str:
    """Return the smallest and the largest value."""
    return "-" if spread is None else f"{number(spread.low)}-{number(spread.high)}"


def number(value: float | None) -> str:
    """Return a figure with three digits that count, and all before the point."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    size = abs(value)
    decimals = 0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 0.9995 else 3
    return f"{value:,.{decimals}f}"


def one_line(text: str) -> str:
    """Return the last line that says something, cut where it is long."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no reason was given"


def _order(run: Run, scenario: str, server: str, metric: Metric) -> float:
    spread = run.spread(scenario, server, metric)
    return spread.median if spread else float("inf")


def _relative(file: Path, folder: Path) -> str:
    file, folder = file.resolve(), folder.resolve()
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.as_posix()


if __name__ == "__main__":
    main()
