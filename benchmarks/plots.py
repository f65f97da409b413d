"""The plots of a report, as SVG that is the same for the same run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib  # type: ignore[import-not-found,unused-ignore]
import matplotlib.colors  # type: ignore[import-not-found,unused-ignore]
from matplotlib.figure import Figure  # type: ignore[import-not-found,unused-ignore]
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # type: ignore[import-not-found,unused-ignore]

from benchmarks.results import CPU, P99, RSS, Metric, Run
from benchmarks.scenarios import ECHO_ONE, Family, Scenario, size_label

COLOURS: Final = {"ours": "#c2410c", "peer": "#64748b", "native": "#0f766e"}


def draw(run: Run, folder: Path) -> list[Path]:
    """Draw every plot that the run has figures for into ``folder``; return the files."""
    matplotlib.rcParams.update({"svg.hashsalt": "ferrows", "svg.fonttype": "none", "font.size": 9})
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for scenario in run.scenarios.values():
        metric = RSS if scenario.family is Family.IDLE else P99 if scenario.half_of else CPU
        if scenario.rounds == max(other.rounds for other in run.scenarios.values()) or scenario.family is Family.IDLE:
            figure = dots(run, scenario, metric)
            if figure is not None:
                drawn.append(_save(figure, folder / f"{scenario.name}.svg"))
    for in_flight in sorted({scenario.in_flight for scenario in run.scenarios.values()}):
        figure = lines(run, in_flight)
        if figure is not None:
            drawn.append(_save(figure, folder / f"echo-by-size-{in_flight}-in-flight.svg"))
    return drawn


def dots(run: Run, scenario: Scenario, metric: Metric) -> Figure | None:
    """Draw a dot for each server, the cheapest on top, its spread as a line; on a logarithmic scale."""
    kinds = {server["name"]: server["kind"] for server in run.servers}
    found = [(name, spread) for name in run.names() if (spread := run.spread(scenario.name, name, metric))]
    found = sorted((pair for pair in found if pair[1].median > 0), key=lambda pair: -pair[1].median)
    if not found:
        return None
    figure = Figure(figsize=(7, 0.8 + 0.28 * len(found)), layout="constrained")
    axes: Any = figure.subplots()
    for position, (name, spread) in enumerate(found):
        colour = COLOURS[kinds[name]]
        axes.plot([max(spread.low, spread.median / 100), spread.high], [position, position], color=colour, linewidth=1)
        axes.plot([spread.median], [position], "o", color=colour)
        text = f"{spread.median:,.3g}" if spread.median < 1000 else f"{spread.median:,.0f}"
        place = {"xytext": (7, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
        axes.annotate(text, (spread.high, position), **place)
    axes.set_yticks(range(len(found)), [name for name, _ in found])
    axes.set_xscale("log")
    _plain_ticks(axes.xaxis)
    axes.margins(x=0.12)
    axes.grid(axis="both", alpha=0.3)
    axes.set_title(f"{scenario.title}: {metric.title}, less is better")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def lines(run: Run, in_flight: int) -> Figure | None:
    """Draw what a text echo costs by its size, on as many connections as the main table."""
    group = [
        scenario
        for scenario in run.scenarios.values()
        if scenario.family is Family.ECHO
        and scenario.text
        and scenario.in_flight == in_flight
        and scenario.connections == ECHO_ONE.connections
        and not (scenario.deflate or scenario.half_of)
    ]
    group.sort(key=lambda scenario: scenario.size)
    if len(group) < 2:
        return None
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes: Any = figure.subplots()
    palette = matplotlib.colormaps["tab20"]
    peers = run.names("peer")
    for server in run.servers:
        points = _points(run, server["name"], group)
        ours, native = server["kind"] == "ours", server["kind"] == "native"
        style = {"linewidth": 2.5 if ours else 1.2, "linestyle": "--" if native else "-", "marker": "."}
        # Those of one kind that is not the peers' differ in their brightness.
        shaded = ours or native
        colour = _shade(run, server, COLOURS[server["kind"]]) if shaded else palette(peers.index(server["name"]) % 20)
        if points:
            axes.plot(*zip(*points, strict=True), label=server["name"], color=colour, **style)
    if not axes.lines:
        return None
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    _plain_ticks(axes.yaxis)
    axes.set_xticks([scenario.size for scenario in group], [size_label(scenario.size) for scenario in group])
    connections = f"{ECHO_ONE.connections:,} connections, {in_flight} in flight"
    axes.set_title(f"Text echo, {connections}: {CPU.title}, less is better")
    axes.legend(fontsize=7, ncols=2)
    axes.grid(alpha=0.3)
    return figure


def _shade(run: Run, server: Mapping[str, Any], colour: str) -> tuple[float, ...]:
    same = [other["name"] for other in run.servers if other["kind"] == server["kind"]]
    share = same.index(server["name"]) / (len(same) + 1)
    return tuple(part + (1 - part) * share for part in matplotlib.colors.to_rgb(colour))


def _plain_ticks(axis: Any) -> None:
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def _points(run: Run, server: str, group: Sequence[Scenario]) -> list[tuple[int, float]]:
    found = ((scenario.size, run.spread(scenario.name, server, CPU)) for scenario in group)
    return [(size, spread.median) for size, spread in found if spread is not None]


def _save(figure: Figure, file: Path) -> Path:
    figure.savefig(file, format="svg", metadata={"Date": None})
    return file
