from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.results import CPU, Run
from benchmarks.scenarios import BROADCASTS, CONNECT, DEFLATE_ONE, ECHO_64K, ECHO_MANY, ECHO_ONE, FIXED_RATE, IDLE
from benchmarks.targets import Outcome, best, comparable, outcomes

if TYPE_CHECKING:
    from tests.benchmarks.conftest import MadeUpRun


def row(made_up: MadeUpRun, what: str, against: str) -> Outcome:
    found = [row for row in outcomes(Run(made_up.document)) if what in row.what and against in row.against]
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize(
    ("reached", "must", "reach_for", "words"),
    [
        (None, 1.0, None, "not measured"),
        (1.0, 1.0, None, "reached"),
        (0.9, 1.0, 0.5, "reached; 1.80 times what it reaches for"),
        (0.4, 1.0, 0.5, "reached; what it reaches for, too"),
        (1.5, 1.0, None, "**missed**: 1.50 times what it must be"),
        (3.0, None, 1.0, "3.00 times what it reaches for"),
        (1.0, None, 1.0, "what it reaches for, too"),
    ],
)
def test_verdict(reached: float | None, must: float | None, reach_for: float | None, words: str) -> None:
    assert Outcome("echo", "a peer", reached, must, reach_for).verdict == words


def test_one_in_flight_is_held_against_both_ways_of_picows(made_up: MadeUpRun) -> None:
    made_up.add(ECHO_ONE.name, "ferrows", 8.0, 8.0, 16.0)
    made_up.add(ECHO_ONE.name, "picows, callback", 8.0, 8.0, 16.0)
    made_up.add(ECHO_ONE.name, "picows, queue", 9.0, 9.0, 18.0)
    assert row(made_up, ECHO_ONE.title, "picows, callback").verdict == "reached"
    assert row(made_up, ECHO_ONE.title, "picows, queue").verdict.startswith("**missed**: 1.11 times")


def test_32_in_flight_are_held_against_aiohttp_picows_and_sanic(made_up: MadeUpRun) -> None:
    made_up.add(ECHO_MANY.name, "ferrows", 0.5)
    for peer, cpu in (("aiohttp", 3.0), ("picows, callback", 5.0), ("Sanic", 29.0)):
        made_up.add(ECHO_MANY.name, peer, cpu)
    assert row(made_up, ECHO_MANY.title, "aiohttp").verdict == "reached"
    assert row(made_up, ECHO_MANY.title, "picows, callback").verdict == "reached"
    assert row(made_up, ECHO_MANY.title, "Sanic").verdict.startswith("**missed**: 1.03 times")


def test_best_peer_is_found_among_peers_only(made_up: MadeUpRun) -> None:
    made_up.add(ECHO_64K.name, "ferrows", 30.0)
    made_up.add(ECHO_64K.name, "epoll floor", 20.0)
    made_up.add(ECHO_64K.name, "aiohttp", 60.0)
    made_up.add(ECHO_64K.name, "picows, callback", 40.0)
    run = Run(made_up.document)
    assert best(run, ECHO_64K.name, CPU, run.names("peer")) == "picows, callback"
    assert row(made_up, ECHO_64K.title, "the best peer").reached == pytest.approx(0.75)


def test_what_was_not_measured_says_so(made_up: MadeUpRun) -> None:
    made_up.add(ECHO_MANY.name, "ferrows", 0.5)
    made_up.fail(ECHO_MANY.name, "Sanic", "it fell over")
    sanic = row(made_up, ECHO_MANY.title, "Sanic")
    assert (sanic.verdict, sanic.against) == ("not measured", "Sanic (not measured)")


def test_compressed_size_decides_which_of_ours_is_held_against_a_peer(made_up: MadeUpRun) -> None:
    made_up.add(DEFLATE_ONE.name, "ferrows", 10.0, bytes_in=600_000)
    made_up.add(DEFLATE_ONE.name, "ferrows, level 2", 8.0, bytes_in=640_000)
    made_up.add(DEFLATE_ONE.name, "aiohttp", 20.0, bytes_in=700_000)  # larger than both of ours
    made_up.add(DEFLATE_ONE.name, "websockets", 16.0, bytes_in=575_000)  # ours are 4.3 % and 11 % larger
    made_up.add(DEFLATE_ONE.name, "tornado", 5.0, bytes_in=300_000)  # keeps its context
    run = Run(made_up.document)
    assert comparable(run, DEFLATE_ONE.name) == {"aiohttp": "ferrows, level 2", "websockets": "ferrows"}
    outcome = row(made_up, DEFLATE_ONE.title, "the best peer")
    assert outcome.against.startswith("the best peer: websockets;") and outcome.against.endswith(": ferrows")
    assert outcome.verdict == "reached; 1.56 times what it reaches for"


def test_compressed_without_a_comparable_peer_is_not_measured(made_up: MadeUpRun) -> None:
    made_up.add(DEFLATE_ONE.name, "ferrows", 10.0, bytes_in=600_000)
    made_up.add(DEFLATE_ONE.name, "tornado", 5.0, bytes_in=300_000)
    assert row(made_up, DEFLATE_ONE.title, "the best peer").verdict == "not measured"


@pytest.mark.parametrize(
    ("size", "verdict"),
    [(2048, "reached; what it reaches for, too"), (5120, "**missed**: 1.25 times what it must be; 2.00 times")],
)
def test_idle_connection_is_held_against_a_size(made_up: MadeUpRun, size: int, verdict: str) -> None:
    made_up.add(IDLE.name, "ferrows", 1.0, rss_bytes={"per_connection": size})
    assert row(made_up, IDLE.title, "KiB").verdict.startswith(verdict)


def test_opening_is_held_against_picows(made_up: MadeUpRun) -> None:
    made_up.add(CONNECT.name, "ferrows", 90.0)
    made_up.add(CONNECT.name, "picows, callback", 100.0)
    assert row(made_up, CONNECT.title, "picows").verdict == "reached; 1.80 times what it reaches for"


@pytest.mark.parametrize(
    ("loop", "call", "ours", "reached"),
    [(8.0, 6.0, "ferrows, broadcast()", 1.2), (5.0, 6.0, "ferrows", 1.0), (8.0, None, "ferrows", 1.6)],
)
def test_a_broadcast_is_held_against_socketify_by_the_cheaper_of_ours(
    made_up: MadeUpRun, loop: float, call: float | None, ours: str, reached: float
) -> None:
    made_up.add(BROADCASTS[0].name, "ferrows", loop)
    if call is not None:
        made_up.add(BROADCASTS[0].name, "ferrows, broadcast()", call)
    made_up.add(BROADCASTS[0].name, "socketify", 5.0)
    outcome = row(made_up, BROADCASTS[0].title, "socketify")
    assert outcome.reached == pytest.approx(reached)
    assert outcome.against.endswith(f"; ours: {ours}")


def test_fixed_rate_is_held_against_the_best_p99(made_up: MadeUpRun) -> None:
    made_up.add(FIXED_RATE.name, "ferrows", 9.0, latency_us={"p99": 100.0})
    made_up.add(FIXED_RATE.name, "aiohttp", 8.0, latency_us={"p99": 80.0})
    made_up.add(FIXED_RATE.name, "websockets", 4.0, latency_us={"p99": 400.0})
    outcome = row(made_up, FIXED_RATE.title, "aiohttp")
    assert outcome.reached == pytest.approx(1.25)
    assert outcome.what.endswith("p99 us")


def test_aims_without_a_scenario_in_the_run_are_left_out(made_up_quick: MadeUpRun) -> None:
    rows = outcomes(Run(made_up_quick.document))
    assert rows
    assert not [row for row in rows if "broadcast" in row.what or "compressed" in row.what]
