"""Measure: ``python -m benchmarks.run`` puts every scenario to the servers in turn and writes a JSON file."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import itertools
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, NoReturn

from benchmarks.apps.options import HOST
from benchmarks.payloads import write_payloads
from benchmarks.peers.install import missing_peers, requirements
from benchmarks.process import ProcessError, free_port, raise_file_limit, run_to_end, running
from benchmarks.scenarios import Family, Scenario, estimate, full, quick
from benchmarks.servers import BINARIES, ROOT, SERVERS, Server

LOADGEN: Final = BINARIES / "loadgen"
RESULTS: Final = ROOT / "benchmarks" / "results"
PATHS: Final = {Family.BROADCAST: "/broadcast", Family.HTTP: "/"}
GRACE: Final = 60.0
"""Seconds that the load generator may take beyond the time of its scenario."""

OPENING_LIMIT: Final = 0.05
"""Seconds that a connection may take to open, on top: socketify sleeps between the turns of its loop."""


def main() -> int:
    """Run what the command line says; return 1 if something could not be measured, 130 after Ctrl-C."""
    arguments = parse()
    signal.signal(signal.SIGTERM, _interrupt)
    scenarios = matching(quick() if arguments.quick else full(), arguments.scenarios)
    run = Run(arguments, scenarios)
    with tempfile.TemporaryDirectory() as folder:
        try:
            run.measure(write_payloads(Path(folder)))
        except KeyboardInterrupt:
            print("\nstopped; what was measured is kept", file=sys.stderr)
            return 130
        finally:
            run.save()
            print(f"results: {run.output}")
    return 1 if any(measurement["error"] for measurement in run.document["measurements"]) else 0


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run")
    parser.add_argument("--quick", action="store_true", help="the main table only")
    add_options(parser)
    return parser.parse_args()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what every run can be told."""
    parser.add_argument("--output", type=Path, help="the JSON file to write; by default one named by the date")
    parser.add_argument("--scenarios", default="", metavar="REGEX", help="only scenarios whose name matches")
    parser.add_argument("--servers", default="", metavar="REGEX", help="only servers whose name matches")
    parser.add_argument("--rounds", type=int, help="rounds of every scenario")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--loadgen-core", type=int, default=1)


def matching(scenarios: Sequence[Scenario], pattern: str) -> list[Scenario]:
    """Return the scenarios whose name matches."""
    return [scenario for scenario in scenarios if re.search(pattern, scenario.name)]


class Run:
    """One run: what it found out is in ``document``, which is what the JSON file holds."""

    def __init__(
        self, arguments: argparse.Namespace, scenarios: Sequence[Scenario], servers: Sequence[Server] = SERVERS
    ) -> None:
        self.scenarios = scenarios
        self.rounds: int | None = arguments.rounds
        self.cores: tuple[int, int] = (arguments.server_core, arguments.loadgen_core)
        started = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        mode = "quick" if arguments.quick else "full"
        self.output: Path = arguments.output or RESULTS / f"{mode}-{started:%Y%m%d-%H%M%S}.json"
        absent = missing()
        chosen = [server for server in servers if re.search(arguments.servers, server.name)]
        chosen = [server for server in chosen if any(scenario.takes(server) for scenario in scenarios)]
        self.servers = [server for server in chosen if server.name not in absent]
        self.payloads: Sequence[Path] = ()
        self.begun = time.monotonic()
        self.document: dict[str, Any] = {
            "format": 1,
            "mode": mode,
            "complete": False,
            "started": started.isoformat(),
            "seconds": 0.0,
            "host": host(),
            "cores": {"server": self.cores[0], "loadgen": self.cores[1]},
            "ferrows": ferrows(),
            "versions": versions(self.servers),
            "servers": [describe(server, absent.get(server.name)) for server in chosen],
            "scenarios": [{**asdict(scenario), "family": scenario.family.value} for scenario in scenarios],
            "measurements": [],
        }

    def measure(self, payloads: Sequence[Path]) -> None:
        """Take every scenario through its rounds, the servers alternating in each."""
        self.payloads = payloads
        if not LOADGEN.exists():
            sys.exit(f"{LOADGEN} is missing: cargo build --release -p ferrows-loadgen")
        if len(self.cores) != len(set(self.cores)) or not set(self.cores) <= os.sched_getaffinity(0):
            sys.exit(f"cores {self.cores}: two different ones of {sorted(os.sched_getaffinity(0))} are needed")
        raise_file_limit(2 * max((scenario.connections for scenario in self.scenarios), default=0) + 1000)
        self._leave_out_what_does_not_start()
        planned = [replace(scenario, rounds=self._rounds(scenario)) for scenario in self.scenarios]
        seconds = estimate(planned, self.servers)
        print(f"{len(self.scenarios)} scenarios, {len(self.servers)} servers, about {seconds / 60:.0f} minutes")
        # What depends on the speed of another scenario comes after it.
        for dependent in (False, True):
            scenarios = [scenario for scenario in self.scenarios if (scenario.half_of is not None) is dependent]
            self._measure_rounds(scenarios)
        self.document["complete"] = True

    def _leave_out_what_does_not_start(self) -> None:
        # Installed is not yet working: a library of the system may be missing, or a version not fit another.
        for server in list(self.servers):
            try:
                with self._running(server, free_port(HOST), deflate=False):
                    pass
            except ProcessError as error:
                print(f"{server.name} is missing: it {error}", file=sys.stderr)
                self.servers.remove(server)
                for described in self.document["servers"]:
                    if described["name"] == server.name:
                        described["missing"] = f"it {error}"

    def _running(self, server: Server, port: int, *, deflate: bool) -> contextlib.AbstractContextManager[int]:
        return running(
            server.command(port, deflate=deflate),
            core=self.cores[0],
            host=HOST,
            port=port,
            environment={**server.environment, "PYTHONPATH": str(server.checkout / "python")},
            folder=ROOT,
        )

    def _measure_rounds(self, scenarios: Sequence[Scenario]) -> None:
        rounds = max((self._rounds(scenario) for scenario in scenarios), default=0)
        for number in range(rounds):
            due = [scenario for scenario in scenarios if number < self._rounds(scenario)]
            for group in grouped(due):
                # No server always comes first.
                first = number % max(1, len(self.servers))
                for server in [*self.servers[first:], *self.servers[:first]]:
                    self._measure_group(number, server, [scenario for scenario in group if scenario.takes(server)])
            self.save()

    def _rounds(self, scenario: Scenario) -> int:
        return self.rounds or scenario.rounds

    def _measure_group(self, number: int, server: Server, group: Sequence[Scenario]) -> None:
        left = list(group)
        while left:
            port = free_port(HOST)
            try:
                with self._running(server, port, deflate=left[0].deflate) as pid:
                    # What failed may have left the process in any state: the next one gets a fresh one.
                    while left and self._measure_one(number, server, left.pop(0), port, pid):
                        pass
            except ProcessError as error:
                for scenario in left:
                    self._record(number, server, scenario, None, f"the server {error}")
                return

    def _measure_one(self, number: int, server: Server, scenario: Scenario, port: int, pid: int) -> bool:
        """Measure and record; tell whether there is a result."""
        rate = None if scenario.half_of is None else self._half_of(scenario.half_of)
        if scenario.half_of is not None and rate is None:
            self._record(number, server, scenario, None, f"ferrows was not measured in {scenario.half_of}")
            return False
        command = loadgen_command(scenario, port, pid, self.cores[1], self.payloads, rate)
        try:
            code, output, errors = run_to_end(command, core=None, limit=time_limit(scenario), folder=ROOT)
            result = json.loads(output) if output.strip() else None
        except (ProcessError, ValueError) as error:
            self._record(number, server, scenario, None, f"the load generator: {error}")
            return False
        if code != 0 or not isinstance(result, dict):
            self._record(number, server, scenario, result, f"the load generator ended with {code}: {errors.strip()}")
            return False
        doubt = too_few(scenario, result)
        self._record(number, server, scenario, result, doubt)
        return doubt is None

    def _half_of(self, name: str) -> float | None:
        """Half of the messages per second that ferrows reached in a scenario."""
        reached = [
            measurement["result"]["messages_per_second"]
            for measurement in self.document["measurements"]
            if measurement["scenario"] == name and measurement["server"] == SERVERS[0].name and not measurement["error"]
        ]
        return statistics.median(reached) / 2 if reached else None

    def _record(self, number: int, server: Server, scenario: Scenario, result: Any, error: str | None) -> None:
        self.document["measurements"].append(
            {"round": number, "server": server.name, "scenario": scenario.name, "result": result, "error": error}
        )
        elapsed = time.monotonic() - self.begun
        print(
            f"{elapsed:6.0f} s  {number + 1}  {scenario.name:28} {server.name:22} {summary(result, error)}", flush=True
        )

    def save(self) -> None:
        """Write what there is so far."""
        self.document["seconds"] = round(time.monotonic() - self.begun, 1)
        self.output.parent.mkdir(parents=True, exist_ok=True)
        partial = self.output.with_suffix(".partial")
        partial.write_text(json.dumps(self.document, indent=1) + "\n", "utf-8")
        partial.replace(self.output)


def too_few(scenario: Scenario, result: Mapping[str, Any]) -> str | None:
    """Say so if fewer messages came back than are under way: then the server had not settled, and its cost is open."""
    if result["messages"] >= scenario.under_way:
        return None
    return f"{result['messages']:,} messages came back in {scenario.seconds:g} s, of {scenario.under_way:,} under way"


def time_limit(scenario: Scenario) -> float:
    """Return the seconds after which a measurement counts as failed."""
    return scenario.length + GRACE + scenario.connections * OPENING_LIMIT


def grouped(scenarios: Sequence[Scenario]) -> Iterator[list[Scenario]]:
    """Yield the scenarios that share a process."""
    for _, group in itertools.groupby(scenarios, key=lambda scenario: scenario.group or scenario.name):
        yield list(group)


def loadgen_command(
    scenario: Scenario, port: int, pid: int, core: int, payloads: Sequence[Path], rate: float | None
) -> list[str]:
    """Return what puts a scenario to the server on ``port`` whose process is ``pid``."""
    command = [str(LOADGEN), scenario.family.value, "--address", f"{HOST}:{port}"]
    command += ["--path", scenario.path or PATHS.get(scenario.family, "/ws"), "--pid", str(pid), "--pin", str(core)]
    command += ["--seconds", str(scenario.seconds), "--warmup", str(scenario.warmup)]
    if scenario.family is Family.BROADCAST:
        command += ["--receivers", str(scenario.connections), "--outstanding", str(scenario.in_flight)]
    else:
        command += ["--connections", str(scenario.connections)]
    if scenario.family is Family.ECHO:
        command += ["--in-flight", str(scenario.in_flight)]
    if scenario.family in (Family.ECHO, Family.BROADCAST):
        command += ["--kind", "text" if scenario.text else "binary"]
        if scenario.deflate:
            command += [argument for payload in payloads for argument in ("--payload-file", str(payload))]
        else:
            command += ["--size", str(scenario.size)]
    if scenario.deflate:
        command += ["--offer", scenario.offer] if scenario.offer else ["--deflate"]
    if rate is not None:
        command += ["--rate", f"{rate:.0f}"]
    return command


def summary(result: Any, error: str | None) -> str:
    """Return a line for the eye that follows the run."""
    if error is not None:
        return f"FAILED {error.splitlines()[-1] if error else ''}"
    parts = []
    for key, form in (("cpu_us_per_message", "{:.2f} us CPU"), ("messages_per_second", "{:,.0f}/s")):
        if result.get(key) is not None:
            parts.append(form.format(result[key]))
    if (latency := result.get("latency_us")) and latency.get("p99") is not None:
        parts.append(f"p99 {latency['p99']:.0f} us")
    if (rss := result.get("rss_bytes")) and rss.get("per_connection") is not None:
        parts.append(f"{rss['per_connection']:,.0f} B a connection")
    return ", ".join(parts)


def missing() -> dict[str, str]:
    """Return the servers that cannot be started, and why."""
    absent = {}
    peers = missing_peers()
    for server in SERVERS:
        if server.requirements in peers:
            absent[server.name] = peers[server.requirements]
        elif not server.path.exists():
            absent[server.name] = f"{server.path.relative_to(ROOT)} is not there"
    return absent


def describe(server: Server, reason: str | None) -> dict[str, Any]:
    """Return what the report needs to know of a server."""
    return {
        "name": server.name,
        "kind": server.kind.value,
        "abilities": sorted(ability.value for ability in server.abilities),
        "distributions": requirements(server.requirements) if server.requirements else [],
        "note": server.note,
        "deflate": server.deflate,
        "missing": reason,
    }


def versions(servers: Sequence[Server]) -> dict[str, str]:
    """Return the versions of all that runs: this interpreter is the one that the servers get."""
    names = {"uvloop", "httptools"}
    for server in servers:
        names.update(requirements(server.requirements) if server.requirements else ())
    found = {}
    for name in sorted(names):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def ferrows() -> dict[str, Any]:
    """Return what identifies the ferrows that is measured."""
    version = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text("utf-8"), re.MULTILINE)
    changes = _output("git", "status", "--porcelain", "--untracked-files=no")
    return {
        "version": version[1] if version else None,
        "commit": _output("git", "rev-parse", "HEAD") or None,
        "modified": bool(changes),
        "rustc": _output("rustc", "--version") or None,
    }


def host() -> dict[str, Any]:
    """Return what the figures depend on: processor, kernel, interpreter, and how busy the machine was."""
    cpuinfo = Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
    model = re.search(r"^model name\s*: (.+)$", cpuinfo, re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB$", Path("/proc/meminfo").read_text("utf-8"), re.MULTILINE)
    return {
        "cpu": model[1] if model else platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "memory_bytes": int(memory[1]) * 1024 if memory else None,
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load_average": os.getloadavg()[0],
    }


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
