"""Whose turn it is to load the machine."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from .turn import Turn


def test_next_attack_begins_while_one_waits_and_that_one_goes_on_after_it() -> None:
    turn, over = Turn(), threading.Event()
    order = []

    def wait() -> None:
        order.append("first loads")
        with turn.given_away():
            over.wait(20)
        order.append("first goes on")
        turn.give()

    with ThreadPoolExecutor(1) as pool:
        turn.take()
        first = pool.submit(wait)
        turn.take()
        order.append("second loads")
        over.set()
        order.append("second goes on")
        turn.give()
        first.result(20)
    assert order == ["first loads", "second loads", "second goes on", "first goes on"]
