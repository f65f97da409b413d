"""Waiting for code that cannot be loaded to be mended, with ``--reload``."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from ..exceptions import FerrowsException
from ..server.interrupts import wait_for
from ..server.reload import Watcher
from .failure import Failure, show

__all__ = ["Changes"]


class Changes:
    """What changes of the code from before it is loaded: an editor may still be writing what turns out to be wrong."""

    def __init__(self, code: Path, everything: Iterable[str | os.PathLike[str]] = ()) -> None:
        """Watch what lies below ``code`` and ``everything``, where that is possible."""
        self._changed = threading.Event()
        self._paths: Sequence[str] = ()
        self._watcher: Watcher | None = None
        try:
            self._watcher = Watcher([code], everything)
        except (FerrowsException, ValueError) as error:
            # Whoever needs it will be told.
            self._obstacle = str(error)
        else:
            self._watcher.start(self._report)

    def stop(self) -> None:
        """Watch no more."""
        if self._watcher is not None:
            self._watcher.stop()

    def wait(self, failure: Failure) -> NoReturn:
        """Say what is wrong and, when a file has changed, run the program again.

        It takes the place of this process, in which a part of the modules is loaded. SIGINT and SIGTERM end it as they
        end a server, with 0. Failure where nothing can be watched.
        """
        if self._watcher is None:
            raise Failure(self._obstacle)
        show(failure)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _leave)
        _say("waiting for a change of the code")
        wait_for(self._changed)
        self.stop()
        _say(f"{self._paths[0]} changed: starting again")
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    def _report(self, paths: Sequence[str]) -> None:
        self._paths = self._paths or paths
        self._changed.set()


def _say(line: str) -> None:
    print(f"ferrows: {line}", file=sys.stderr, flush=True)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)
