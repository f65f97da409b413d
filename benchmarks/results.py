"""A run as it was measured, read from its JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.scenarios import Scenario
from benchmarks.spread import Spread, ratios


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of a measurement: the way to it in the load generator's answer, and how it is called."""

    path: tuple[str, ...]
    title: str

    per: str | None = None
    """What it is divided by, if by anything."""

    def of(self, result: Mapping[str, Any]) -> float | None:
        """Return the figure, None where the measurement has none."""
        value: Any = result
        for key in self.path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is None or isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if self.per is None:
            return float(value)
        divisor = result.get(self.per)
        return value / divisor if divisor else None


CPU = Metric(("cpu_us_per_message",), "CPU us")
THROUGHPUT = Metric(("messages_per_second",), "messages/s")
P50 = Metric(("latency_us", "p50"), "p50 us")
P99 = Metric(("latency_us", "p99"), "p99 us")
P999 = Metric(("latency_us", "p999"), "p99.9 us")
RSS = Metric(("rss_bytes", "per_connection"), "bytes a connection")
USED_RSS = Metric(("rss_bytes", "after_echo", "per_connection"), "after one message each")
OPENING = Metric(("cpu_us_per_connection",), "CPU us to open")
WIRE = Metric(("bytes_in",), "bytes a message", per="messages")
"""What the load generator received for a message: the compressed payload and its frame's header."""


@dataclass(frozen=True, slots=True)
class Part:
    """A document, and the names of the scenarios that a run takes from it."""

    document: Mapping[str, Any]
    scenarios: tuple[str, ...]


class Run:
    """The document that ``benchmarks.run`` wrote. What failed has no figures; :meth:`errors` names it.

    ``parts`` are the documents that it was put together from, with what each has given to it.
    """

    def __init__(self, document: Mapping[str, Any], parts: Sequence[Part] = ()) -> None:
        self.document = document
        self.parts = tuple(parts) or (Part(document, tuple(values["name"] for values in document["scenarios"])),)
        self.servers: list[dict[str, Any]] = document["servers"]
        self.scenarios = {values["name"]: Scenario.of(values) for values in document["scenarios"]}
        self._results: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
        for measurement in document["measurements"]:
            if not measurement["error"] and measurement["result"]:
                key = measurement["scenario"], measurement["server"]
                self._results.setdefault(key, {})[measurement["round"]] = measurement["result"]

    @classmethod
    def read(cls, file: Path) -> Run:
        """Read a JSON file."""
        return cls(json.loads(file.read_text("utf-8")))

    def renewed(self, later: Run) -> Run:
        """Return this run with what a later one has measured anew; a scenario as a whole, so that its ratios hold."""
        again = set(later.scenarios)
        scenarios = {values["name"]: values for values in self.document["scenarios"]}
        scenarios.update({values["name"]: values for values in later.document["scenarios"]})
        described = {server["name"]: server for server in self.servers}
        described.update({server["name"]: server for server in later.servers})
        kept = [measured for measured in self.document["measurements"] if measured["scenario"] not in again]
        document = {
            **later.document,
            "complete": self.document["complete"] and later.document["complete"],
            "versions": {**self.document["versions"], **later.document["versions"]},
            "servers": list(described.values()),
            "scenarios": list(scenarios.values()),
            "measurements": [*kept, *later.document["measurements"]],
        }
        parts = [
            Part(part.document, tuple(name for name in part.scenarios if name not in again)) for part in self.parts
        ]
        return Run(document, [*(part for part in parts if part.scenarios), *later.parts])

    def results(self, scenario: str, server: str) -> Mapping[int, Mapping[str, Any]]:
        """Return the load generator's answers by round."""
        return self._results.get((scenario, server), {})

    def values(self, scenario: str, server: str, metric: Metric) -> dict[int, float]:
        """Return a figure by round."""
        found = {number: metric.of(result) for number, result in self.results(scenario, server).items()}
        return {number: value for number, value in found.items() if value is not None}

    def spread(self, scenario: str, server: str, metric: Metric) -> Spread | None:
        """Return the median over the rounds, with its spread."""
        return Spread.of(self.values(scenario, server, metric).values())

    def ratio(self, scenario: str, server: str, base: str, metric: Metric) -> Spread | None:
        """Return how many times the ``base`` server's figure this server's is."""
        return ratios(self.values(scenario, server, metric), self.values(scenario, base, metric))

    def names(self, kind: str | None = None) -> list[str]:
        """Return the servers of a kind, or all."""
        return [server["name"] for server in self.servers if kind in (None, server["kind"])]

    def measured(self, scenario: str) -> list[str]:
        """Return the servers that have figures in a scenario."""
        return [name for name in self.names() if self.results(scenario, name)]

    def errors(self) -> Iterator[tuple[str, str, int, int, str]]:
        """Yield scenario, server, failed rounds, all rounds, and the last failure of what did not work."""
        counted: dict[tuple[str, str], tuple[int, int, str]] = {}
        for measurement in self.document["measurements"]:
            key = measurement["scenario"], measurement["server"]
            failed, total, error = counted.get(key, (0, 0, ""))
            failed += bool(measurement["error"])
            counted[key] = failed, total + 1, measurement["error"] or error
        for (scenario, server), (failed, total, error) in counted.items():
            if failed:
                yield scenario, server, failed, total, error
