"""Runs made up for the tests of the report: no server is started."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

# `benchmarks` is no part of the installed package.
sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.scenarios import Scenario, full, quick
from benchmarks.servers import SERVERS


class MadeUpRun:
    """Builds the document of a run."""

    def __init__(self, scenarios: list[Scenario] | None = None) -> None:
        chosen = full() if scenarios is None else scenarios
        self.document: dict[str, Any] = {
            "format": 1,
            "mode": "full",
            "complete": True,
            "started": "2031-02-03T04:05:06+00:00",
            "seconds": 660.0,
            "host": {
                "cpu": "A Processor",
                "cpus": 2,
                "memory_bytes": 8 * 2**30,
                "kernel": "Linux 9.8.7",
                "python": "CPython 3.99.1",
                "load_average": 0.25,
            },
            "cores": {"server": 6, "loadgen": 7},
            "ferrows": {"version": "5.6.7", "commit": "0123456789abcdef", "modified": False, "rustc": "rustc 9.9.9"},
            "versions": {"aiohttp": "8.8.8", "uvloop": "7.7.7"},
            "servers": [
                {
                    "name": server.name,
                    "kind": server.kind.value,
                    "abilities": sorted(ability.value for ability in server.abilities),
                    "distributions": [server.requirements] if server.requirements else [],
                    "note": server.note,
                    "deflate": server.deflate,
                    "missing": None,
                }
                for server in SERVERS
            ],
            "scenarios": [{**asdict(scenario), "family": scenario.family.value} for scenario in chosen],
            "measurements": [],
        }

    def add(self, scenario: str, server: str, *cpu: float, **more: Any) -> None:
        """Add a measurement for each round; ``more`` are further members of the load generator's answer."""
        for number, value in enumerate(cpu):
            result = {
                "cpu_us_per_message": value,
                "messages_per_second": 1e6 / value,
                "latency_us": {"p50": value * 2, "p99": value * 3, "p999": value * 4, "max": value * 5},
                "messages": 1000,
                **more,
            }
            self.document["measurements"].append(
                {"round": number, "server": server, "scenario": scenario, "result": result, "error": None}
            )

    def fail(self, scenario: str, server: str, error: str, number: int = 0) -> None:
        """Add a measurement that failed."""
        self.document["measurements"].append(
            {"round": number, "server": server, "scenario": scenario, "result": None, "error": error}
        )


@pytest.fixture
def made_up() -> MadeUpRun:
    return MadeUpRun()


@pytest.fixture
def made_up_quick() -> MadeUpRun:
    return MadeUpRun(quick())
