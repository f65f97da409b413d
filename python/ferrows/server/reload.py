"""Watching files, for ``auto_reload``."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from ..exceptions import ServerError
from .interrupts import wait_for

__all__ = ["Watcher"]

_QUIET: Final = 50
"""Milliseconds without a further change after which those that there were are reported."""


class Watcher:
    """Reports changes of ``*.py`` files below some folders, and of every file below others.

    What editors, version control and caches leave behind is passed over. ServerError without the package watchfiles,
    ValueError for a folder that is none.
    """

    def __init__(self, code: Iterable[Path], everything: Iterable[str | os.PathLike[str]] = ()) -> None:
        try:
            import watchfiles
        except ImportError:
            raise ServerError("auto_reload needs the package watchfiles: pip install 'ferrows[reload]'") from None
        self._watch: Callable[..., Any] = watchfiles.watch
        self._ordinary: Callable[[Any, str], bool] = watchfiles.DefaultFilter()
        self.everything = [Path(folder).resolve() for folder in everything]
        for folder in self.everything:
            if not folder.is_dir():
                raise ValueError(f"reload_dir must be folders that exist, not {str(folder)!r}")
        self.folders = sorted({folder.resolve() for folder in code} | set(self.everything))
        self._stop = _Stop()
        self._thread: threading.Thread | None = None

    def start(self, report: Callable[[Sequence[str]], None]) -> None:
        """Watch in a thread, which calls ``report`` with the paths that have changed together.

        What changes after this has returned is reported: large folders take their time.
        """
        self._thread = threading.Thread(target=self._run, args=(report,), name="ferrows-reload", daemon=True)
        self._thread.start()
        wait_for(self._stop.asked)

    def stop(self) -> None:
        """Watch no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=2)

    def wants(self, change: Any, path: str) -> bool:
        """Whether a change of this file is to be reported."""
        if not self._ordinary(change, path):
            return False
        return path.endswith(".py") or any(Path(path).is_relative_to(folder) for folder in self.everything)

    def _run(self, report: Callable[[Sequence[str]], None]) -> None:
        # A short timeout is how it looks at the event.
        changes = self._watch(
            *self.folders, watch_filter=self.wants, stop_event=self._stop, step=_QUIET, rust_timeout=500
        )
        try:
            for found in changes:
                report(sorted({path for _, path in found}))
        finally:
            # It cannot watch: nobody is to wait for that.
            self._stop.asked.set()


class _Stop(threading.Event):
    """What ends the watching, and tells when that has begun: it is asked as soon as the folders are watched."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def is_set(self) -> bool:
        self.asked.set()
        return super().is_set()
