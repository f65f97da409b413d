"""Whose turn it is to load the machine."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Turn:
    """The right to load the machine, which one attack has at a time.

    An attack that only waits gives it away meanwhile, so that the next one can begin. What is measured must lie before
    the wait, or be something that others do not change.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def take(self) -> None:
        """Wait for it."""
        self._lock.acquire()

    def give(self) -> None:
        """Let the next one have it; any thread may do that for the one that has it."""
        self._lock.release()

    @contextlib.contextmanager
    def given_away(self) -> Iterator[None]:
        """Let others have it for the length of a block."""
        self.give()
        try:
            yield
        finally:
            self.take()
