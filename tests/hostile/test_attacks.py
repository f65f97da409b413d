"""Every attack in its short form, on both loops."""

from __future__ import annotations

import sys

import pytest

from ferrows._codec import PURE_PYTHON

from .attacks import ATTACKS
from .serving import running
from .stimulus import Stimulus

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="what a process uses is read from /proc"),
    pytest.mark.skipif(PURE_PYTHON, reason="the twin is for tests of behaviour: nothing is promised of its cost"),
]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("stimulus", ATTACKS, ids=lambda stimulus: stimulus.name)
def test_limit_holds_under_attack(stimulus: Stimulus, loop: str) -> None:
    options, environment = stimulus.settings("ferrows", full=False)
    with running("ferrows", loop, *options, environment=environment) as server:
        finding = stimulus.attack(server, False)
        assert server.alive is not stimulus.ends
        assert finding.facts
        assert finding.broken == [], finding.facts
