from __future__ import annotations

import contextlib
import json
import random
import zlib
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks.payloads import COUNT, SIZE, json_message, write_payloads
from benchmarks.peers.install import requirements
from benchmarks.run import GRACE, Run, grouped, loadgen_command, summary, time_limit, too_few
from benchmarks.scenarios import (
    BROADCASTS,
    COMPRESSED,
    CONNECT,
    DEFLATE_ONE,
    ECHO_1M,
    ECHO_MANY,
    ECHO_ONE,
    FIXED_RATE,
    FRESH_ONE,
    HTTP,
    HTTP_JSON,
    IDLE,
    IN_FLIGHT_LIMIT,
    MAIN,
    MATRIX_SERVERS,
    STARLETTE_ECHOES,
    STARLETTE_HTTP,
    Family,
    Scenario,
    estimate,
    full,
    quick,
    size_label,
)
from benchmarks.servers import SERVERS, Kind, Server, server_named
from benchmarks.targets import BROADCASTING, COMPRESSING, NATIVE, OURS, TWIN


def arguments(scenario: Scenario, rate: float | None = None) -> str:
    command = loadgen_command(scenario, 8001, 42, 1, [Path("a.json"), Path("b.json")], rate)
    assert Path(command[0]).name == "loadgen"
    return " ".join(command[1:])


def test_echo_command() -> None:
    assert arguments(ECHO_ONE) == (
        "echo --address 127.0.0.1:8001 --path /ws --pid 42 --pin 1 --seconds 1.5 --warmup 0.5 "
        "--connections 50 --in-flight 1 --kind text --size 32"
    )


def test_deflate_command_has_the_messages_in_place_of_a_size() -> None:
    command = arguments(DEFLATE_ONE)
    assert command.endswith("--kind text --payload-file a.json --payload-file b.json --deflate")
    assert "--size" not in command


def test_offer_takes_the_place_of_the_browsers() -> None:
    command = arguments(FRESH_ONE)
    assert FRESH_ONE.offer is not None and "server_no_context_takeover" in FRESH_ONE.offer
    assert command.endswith(f"--offer {FRESH_ONE.offer}")
    assert "--deflate" not in command


def test_rate_command() -> None:
    assert arguments(FIXED_RATE, 61_234.5).endswith("--kind text --size 32 --rate 61234")


def test_broadcast_command() -> None:
    command = arguments(BROADCASTS[1])
    assert command.startswith("broadcast --address 127.0.0.1:8001 --path /broadcast ")
    assert "--receivers 500 --outstanding 4 --kind text --size 32" in command


@pytest.mark.parametrize(("scenario", "path"), [(IDLE, "/ws"), (CONNECT, "/ws"), (HTTP, "/")])
def test_other_commands_have_connections_and_no_message(scenario: Scenario, path: str) -> None:
    command = arguments(scenario)
    assert f"--path {path} " in command
    assert command.endswith(f"--connections {scenario.connections}")


def test_scenario_survives_json() -> None:
    for scenario in (*full(), replace(ECHO_ONE, servers=("ferrows",))):
        values = json.loads(json.dumps({**asdict(scenario), "family": scenario.family.value}))
        assert Scenario.of(values) == scenario


@pytest.mark.parametrize("scenarios", [full(), quick()], ids=["full", "quick"])
def test_names_differ(scenarios: list[Scenario]) -> None:
    assert len({scenario.name for scenario in scenarios}) == len(scenarios)
    assert len({scenario.title for scenario in scenarios}) == len(scenarios)


def test_full_run_has_every_echo_that_fits() -> None:
    echoes = [s for s in full() if s.family is Family.ECHO and not s.deflate and s.half_of is None]
    assert {scenario.size for scenario in echoes} >= {8, 32, 2**16, 2**20}
    assert {scenario.connections for scenario in echoes} == {1, 50, 1000}
    assert {scenario.in_flight for scenario in echoes} == {1, 32}
    assert {scenario.text for scenario in echoes} == {True, False}
    assert all(s.size * s.connections * s.in_flight <= IN_FLIGHT_LIMIT for s in echoes)


def test_scenario_that_depends_on_another_finds_it() -> None:
    names = {scenario.name for scenario in full()}
    assert [scenario.name for scenario in full() if scenario.half_of] == [FIXED_RATE.name]
    assert FIXED_RATE.half_of in names


def test_quick_run_takes_less_than_five_minutes() -> None:
    assert estimate(quick(), SERVERS) < 300


def test_many_connections_have_time_to_open() -> None:
    assert time_limit(ECHO_ONE) > ECHO_ONE.seconds + ECHO_ONE.warmup + GRACE
    assert time_limit(IDLE) > 500


def test_only_scenarios_of_one_group_share_a_process() -> None:
    groups = [[scenario.name for scenario in group] for group in grouped(quick())]
    assert [len(group) for group in groups] == [3, 1, 1]


def test_a_process_that_is_shared_is_the_same_for_all_that_share_it() -> None:
    groups = [list(group) for group in grouped(full())]
    names = [group[0].group for group in groups if group[0].group]
    assert len(set(names)) == len(names)  # or a group would be cut in two
    for group in groups:
        assert len({(scenario.deflate, scenario.rounds, scenario.servers) for scenario in group}) == 1
        assert group[0].group or len(group) == 1


def test_many_messages_under_way_have_time_to_come_back() -> None:
    for scenario in full():
        assert scenario.under_way < 2000 or scenario.seconds >= 3


def test_too_few_messages_are_no_measurement() -> None:
    assert too_few(ECHO_MANY, {"messages": 1600}) is None
    assert too_few(ECHO_MANY, {"messages": 1599}) == "1,599 messages came back in 1.5 s, of 1,600 under way"
    assert too_few(FIXED_RATE, {"messages": 0}) is None
    assert too_few(IDLE, {"messages": 10}) is None


def test_full_run_takes_at_most_45_minutes() -> None:
    assert estimate(full(), SERVERS) <= 45 * 60


def test_what_the_aims_are_about_is_measured_in_rounds_that_are_long_enough() -> None:
    scenarios = {scenario.name: scenario for scenario in full()}
    targeted = [*MAIN, ECHO_1M, *COMPRESSED, *BROADCASTS, CONNECT, HTTP, HTTP_JSON, FIXED_RATE]
    targeted += [*STARLETTE_ECHOES, *STARLETTE_HTTP]
    for scenario in targeted:
        assert scenarios[scenario.name].rounds >= 3
        assert scenarios[scenario.name].seconds >= 0.8
        assert not scenarios[scenario.name].servers
    assert scenarios[IDLE.name].rounds >= 3


def test_full_run_broadcasts_to_one_to_500() -> None:
    broadcasts = {(s.connections, s.in_flight) for s in full() if s.family is Family.BROADCAST}
    assert broadcasts == {(receivers, outstanding) for receivers in (1, 50, 500) for outstanding in (1, 4, 16)}


def test_matrix_is_put_to_chosen_servers() -> None:
    chosen = next(scenario for scenario in full() if scenario.name == "echo-8B-text-1x1")
    assert [server.name for server in SERVERS if chosen.takes(server)] == list(MATRIX_SERVERS)
    assert OURS in MATRIX_SERVERS and NATIVE in MATRIX_SERVERS and TWIN not in MATRIX_SERVERS


def test_servers_are_asked_for_what_they_have() -> None:
    sanic, floor = server_named("Sanic"), server_named("epoll floor")
    assert ECHO_ONE.takes(sanic) and HTTP.takes(sanic) and not DEFLATE_ONE.takes(sanic)
    takeover = server_named("ferrows, takeover")
    assert DEFLATE_ONE.takes(takeover) and not ECHO_ONE.takes(takeover) and not BROADCASTS[0].takes(takeover)
    call = server_named("ferrows, broadcast()")
    assert BROADCASTS[0].takes(call) and not ECHO_ONE.takes(call) and not DEFLATE_ONE.takes(call)
    assert ECHO_ONE.takes(floor) and not BROADCASTS[0].takes(floor)


def test_servers_have_apps_requirements_and_names_that_differ() -> None:
    assert len({server.name for server in SERVERS}) == len(SERVERS)
    for server in SERVERS:
        if server.kind is not Kind.NATIVE:
            assert server.path.exists(), server.name
        if server.requirements:
            assert requirements(server.requirements), server.name
        assert server.requirements is not None or server.kind is not Kind.PEER


def test_servers_that_the_aims_name_exist() -> None:
    for name in (OURS, TWIN, NATIVE, "picows, callback", "picows, queue", "aiohttp", "Sanic", "socketify"):
        assert server_named(name).name == name
    assert {server_named(name).kind for name in (*BROADCASTING, *COMPRESSING)} == {Kind.OURS}
    assert SERVERS[0].name == OURS


@pytest.mark.parametrize(("size", "label"), [(8, "8 B"), (512, "512 B"), (1500, "1500 B"), (65536, "64 KiB")])
def test_size_label(size: int, label: str) -> None:
    assert size_label(size) == label


def test_payloads_are_json_of_one_size_and_the_same_in_every_run(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    first, second = write_payloads(tmp_path / "one"), write_payloads(tmp_path / "two")
    messages = [file.read_bytes() for file in first]
    assert messages == [file.read_bytes() for file in second]
    assert len(set(messages)) == COUNT
    assert {len(message) for message in messages} == {SIZE}
    assert all(json.loads(message)["channel"] == "orders" for message in messages)


def test_payloads_do_not_fit_in_the_window_of_deflate(tmp_path: Path) -> None:
    # Or a server that keeps its context would find each message again whole.
    assert sum(len(file.read_bytes()) for file in write_payloads(tmp_path)) > 2 * 2**15
    compressed = zlib.compress(json_message(random.Random(1)).encode())
    assert 0.2 < len(compressed) / SIZE < 0.6


def test_summary_names_what_there_is() -> None:
    result = {
        "cpu_us_per_message": 7.6543,
        "messages_per_second": 123_456.7,
        "latency_us": {"p99": 321.4},
        "rss_bytes": {"per_connection": 2345.6},
    }
    assert summary(result, None) == "7.65 us CPU, 123,457/s, p99 321 us, 2,346 B a connection"
    assert summary({"latency_us": None}, None) == ""
    assert summary(None, "one\ntwo") == "FAILED two"


class Counting(Run):
    """Starts no process and answers from a list whether a measurement worked."""

    def __init__(self, works: list[bool]) -> None:
        self.works = works
        self.processes: list[list[str]] = []

    @contextlib.contextmanager
    def _running(self, server: Server, port: int, *, deflate: bool) -> Iterator[int]:
        self.processes.append([])
        yield 1

    def _measure_one(self, number: int, server: Server, scenario: Scenario, port: int, pid: int) -> bool:
        self.processes[-1].append(scenario.name)
        return self.works.pop(0)


def test_after_a_failure_the_rest_of_a_group_gets_a_fresh_process() -> None:
    run = Counting([True, False, True])
    group = [replace(ECHO_ONE, name=name) for name in "abc"]
    run._measure_group(0, SERVERS[0], group)
    assert run.processes == [["a", "b"], ["c"]]
