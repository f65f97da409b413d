"""Waiting for code that cannot be loaded to be mended, with ``--reload``."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from ..exceptions import FerrowsException
from ..server.reload import Watcher
from .failure import Failure, show

__all__ = ["wait_for_change"]

_LOOK: Final = 0.5
"""Seconds after which, at the latest, a signal is seen."""


def wait_for_change(failure: Failure, code: Path, everything: Iterable[str | os.PathLike[str]] = ()) -> NoReturn:
    """Say what is wrong and, when a file below ``code`` or ``everything`` has changed, run the program again.

    It takes the place of this process, in which a part of the modules is loaded. SIGINT and SIGTERM end it as they end
    a server, with 0. Failure where nothing can be watched.
    """
    try:
        watcher = Watcher([code], everything)
    except (FerrowsException, ValueError) as error:
        raise Failure(str(error)) from None
    show(failure)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    changed = threading.Event()
    found: list[str] = []

    def report(paths: Sequence[str]) -> None:
        found.extend(paths)
        changed.set()

    try:
        watcher.start(report)
        _say("waiting for a change of the code")
        # A signal that comes just before a thread waits for a lock does not end that waiting: its handler is run after.
        while not changed.wait(_LOOK):
            pass
    finally:
        watcher.stop()
    _say(f"{found[0]} changed: starting again")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _say(line: str) -> None:
    print(f"ferrows: {line}", file=sys.stderr, flush=True)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)
