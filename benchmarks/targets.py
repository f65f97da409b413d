"""The aims of the hot path, and how far a run is from them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.results import CPU, P99, RSS, WIRE, Metric, Run
from benchmarks.scenarios import (
    BROADCASTS,
    COMPRESSED,
    CONNECT,
    ECHO_1M,
    ECHO_64K,
    ECHO_MANY,
    ECHO_ONE,
    FIXED_RATE,
    HTTP,
    HTTP_JSON,
    KIB,
    STARLETTE_ECHOES,
    STARLETTE_HTTP,
    Family,
    Scenario,
)
from benchmarks.spread import Spread

OURS: Final = "ferrows"
TWIN: Final = "ferrows, pure Python"
NATIVE: Final = "tokio-tungstenite"
"""The native server that stands where the aims name uWebSockets: it is C++, and nothing here builds C++."""

COMPRESSING: Final = (OURS, "ferrows, level 2", "ferrows, takeover", "ferrows, takeover, level 2")
"""Ours, as a user would set them for another size on the wire."""

UVICORN: Final = "uvicorn, websockets"
"""With httptools; which WebSocket implementation it has does not matter to HTTP."""

ON_STARLETTE: Final = "ferrows, Starlette"

BROADCASTING: Final = (OURS, "ferrows, broadcast()")
"""Ours, as a user would write a broadcast: a loop over the connections, or the call that is made for it."""

TOLERANCE: Final = 0.05
"""How much larger than a peer's our compressed messages may be, for the two to be compared."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A row of the table: a ratio (or a figure) that is to be small, and what it must be or reaches for."""

    what: str
    against: str
    reached: float | None
    must: float | None
    reach_for: float | None = None

    @property
    def verdict(self) -> str:
        """Say whether the aim was reached, or how far away it is."""
        if self.reached is None:
            return "not measured"
        verdicts = []
        if self.must is not None:
            missed = f"**missed**: {self.reached / self.must:.2f} times what it must be"
            verdicts.append("reached" if self.reached <= self.must else missed)
        if self.reach_for is not None:
            short = f"{self.reached / self.reach_for:.2f} times what it reaches for"
            verdicts.append("what it reaches for, too" if self.reached <= self.reach_for else short)
        return "; ".join(verdicts)


def outcomes(run: Run) -> list[Outcome]:
    """Return every aim whose scenario this run has."""
    rows = [
        (ECHO_ONE, _against(run, ECHO_ONE, "picows, callback", 1.05)),
        (ECHO_ONE, _against(run, ECHO_ONE, "picows, queue", 0.80)),
        (ECHO_ONE, _against(run, ECHO_ONE, NATIVE, None, 1.0)),
        (ECHO_MANY, _against(run, ECHO_MANY, "aiohttp", 1 / 6)),
        (ECHO_MANY, _against(run, ECHO_MANY, "picows, callback", 1 / 10)),
        (ECHO_MANY, _against(run, ECHO_MANY, "Sanic", 1 / 60)),
        (ECHO_MANY, _against(run, ECHO_MANY, NATIVE, None, 1.0)),
        (ECHO_MANY, _against(run, ECHO_MANY, TWIN, 1 / 10)),
    ]
    for scenario in (ECHO_64K, ECHO_1M):
        rows.append((scenario, _against_best(run, scenario, 1.0)))
        rows.append((scenario, _against(run, scenario, NATIVE, 1.3, 1.0)))
    for scenario in COMPRESSED:
        rows.append((scenario, _compressed(run, scenario)))
    rows += [(scenario, _idle(run, scenario)) for scenario in _scenarios(run, Family.IDLE)]
    rows.append((CONNECT, _against(run, CONNECT, "picows, callback", 1.0, 0.5)))
    for scenario in BROADCASTS:
        rows.append((scenario, _broadcast(run, scenario, "socketify", 1.0)))
        rows.append((scenario, _against(run, scenario, NATIVE, None, 1.0)))
    rows.append((FIXED_RATE, _against_best(run, FIXED_RATE, 1.0, metric=P99)))
    for scenario in (HTTP, HTTP_JSON):
        rows += [(scenario, _against(run, scenario, UVICORN, 1.0, ours=ours)) for ours in (OURS, "ferrows, ASGI")]
    rows += [(scenario, _against_best(run, scenario, 0.5, ours=ON_STARLETTE)) for scenario in STARLETTE_ECHOES]
    rows += [
        (scenario, _against(run, scenario, "uvicorn, Starlette", 1.0, ours=ON_STARLETTE)) for scenario in STARLETTE_HTTP
    ]
    return [row for scenario, row in rows if scenario.name in run.scenarios]


def best(run: Run, scenario: str, metric: Metric, peers: Collection[str]) -> str | None:
    """Return the peer with the smallest median of a metric, None if none of them was measured."""
    medians = {}
    for peer in peers:
        spread = run.spread(scenario, peer, metric)
        if spread is not None:
            medians[peer] = spread.median
    return min(medians, key=lambda peer: medians[peer], default=None)


def comparable(run: Run, scenario: str) -> dict[str, str]:
    """Return the peers that one of our servers sends at most ``TOLERANCE`` more than, each with our cheapest that does.

    One that keeps its context from message to message sends less and works more for it, and so does a higher level.
    """
    found = {}
    for peer in run.names("peer"):
        theirs = run.spread(scenario, peer, WIRE)
        if theirs is None:
            continue
        ours = [name for name in COMPRESSING if _within(run.spread(scenario, name, WIRE), theirs)]
        cheapest = best(run, scenario, CPU, ours)
        if cheapest is not None:
            found[peer] = cheapest
    return found


def _within(ours: Spread | None, theirs: Spread) -> bool:
    return ours is not None and ours.median <= theirs.median * (1 + TOLERANCE)


def _compressed(run: Run, scenario: Scenario) -> Outcome:
    """Hold us against the cheapest peer, at a size that is its own."""
    what = f"{scenario.title}, {CPU.title}"
    pairs = comparable(run, scenario.name)
    peer = best(run, scenario.name, CPU, pairs)
    if peer is None:
        return Outcome(what, "the best peer, no larger than its messages", None, 0.7, 0.4)
    ratio = run.ratio(scenario.name, pairs[peer], peer, CPU)
    against = f"the best peer: {peer}; ours of at most its size and {TOLERANCE:.0%}: {pairs[peer]}"
    return Outcome(what, against, ratio.median if ratio else None, 0.7, 0.4)


def _broadcast(run: Run, scenario: Scenario, peer: str, must: float) -> Outcome:
    """Hold our cheaper way against a peer whose application hands a message over once, to native code, for all."""
    ours = best(run, scenario.name, CPU, BROADCASTING) or OURS
    outcome = _against(run, scenario, peer, must, ours=ours)
    measured = peer if outcome.reached is not None else f"{peer} (not measured)"
    return replace(outcome, against=f"{measured}, whose publish is native; ours: {ours}")


def _against(
    run: Run,
    scenario: Scenario,
    peer: str,
    must: float | None,
    reach_for: float | None = None,
    metric: Metric = CPU,
    ours: str = OURS,
) -> Outcome:
    ratio = run.ratio(scenario.name, ours, peer, metric)
    against = peer if run.spread(scenario.name, peer, metric) else f"{peer} (not measured)"
    if ours not in (OURS, ON_STARLETTE):
        against += f"; ours: {ours}"
    return Outcome(f"{scenario.title}, {metric.title}", against, ratio.median if ratio else None, must, reach_for)


def _against_best(
    run: Run,
    scenario: Scenario,
    must: float,
    metric: Metric = CPU,
    ours: str = OURS,
) -> Outcome:
    peer = best(run, scenario.name, metric, run.names("peer"))
    if peer is None:
        return Outcome(f"{scenario.title}, {metric.title}", "the best peer", None, must)
    outcome = _against(run, scenario, peer, must, metric=metric, ours=ours)
    return Outcome(outcome.what, f"the best peer: {peer}", outcome.reached, must)


def _idle(run: Run, scenario: Scenario) -> Outcome:
    spread = run.spread(scenario.name, OURS, RSS)
    reached = spread.median / KIB if spread else None
    return Outcome(f"{scenario.title}, KiB a connection", "(KiB)", reached, 4.0, 2.5)


def _scenarios(run: Run, family: Family) -> list[Scenario]:
    return [scenario for scenario in run.scenarios.values() if scenario.family is family]
