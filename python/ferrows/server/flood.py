"""A line of the log for what strangers can cause as often as they like."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from ..log import error_logger

__all__ = ["Flood"]

QUIET: Final = 1.0
"""Seconds between two lines of the log."""


class Flood:
    """Logs one kind of event: the first at once, and then the latest of each second with the number of the others."""

    __slots__ = ("_count", "_latest", "_level", "_timer")

    def __init__(self, level: int = logging.WARNING) -> None:
        self._level = level
        self._latest = ""
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def log(self, loop: asyncio.AbstractEventLoop, line: str) -> None:
        """Log a line, now or together with those that follow within the second."""
        self._latest = line
        self._count += 1
        if self._timer is None:
            self._write(loop)

    def _write(self, loop: asyncio.AbstractEventLoop) -> None:
        more = f" (and {self._count - 1} more)" if self._count > 1 else ""
        error_logger.log(self._level, "%s%s", self._latest, more)
        self._count = 0
        self._timer = loop.call_later(QUIET, self._go_on, loop)

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._count:
            self._write(loop)
