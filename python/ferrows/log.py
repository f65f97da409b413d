"""Logging: what ``App.run`` sets up where the program has not done so itself. Importing ferrows configures nothing."""

from __future__ import annotations

import contextlib
import io
import logging
import logging.config
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, Final, TextIO

__all__ = [
    "LOGGING_CONFIG_DEFAULTS",
    "LineHandler",
    "access_logger",
    "configure_logging",
    "error_logger",
    "logger",
    "websocket_logger",
]

logger = logging.getLogger("ferrows.root")
"""The life of the server."""

access_logger = logging.getLogger("ferrows.access")
"""One line for each request and each ended WebSocket connection."""

error_logger = logging.getLogger("ferrows.error")
"""What went wrong in the application, with its traceback."""

websocket_logger = logging.getLogger("ferrows.websocket")
"""What peers did wrong on a WebSocket connection."""

LOGGING_CONFIG_DEFAULTS: Final[dict[str, Any]] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "format": "%(asctime)s %(levelname)-7s %(name)s [%(process)d] %(message)s",
            "datefmt": "%Y-%m-%d %H:%M:%S%z",
        },
    },
    "handlers": {
        "stderr": {"class": "ferrows.log.LineHandler", "formatter": "line", "stream": "ext://sys.stderr"},
        "stdout": {"class": "ferrows.log.LineHandler", "formatter": "line", "stream": "ext://sys.stdout"},
    },
    "loggers": {
        "ferrows": {"level": "INFO", "handlers": ["stderr"], "propagate": False},
        "ferrows.access": {"level": "INFO", "handlers": ["stdout"], "propagate": False},
    },
}
"""A plain line for each record: access to stdout, all else to stderr."""


def configure_logging(config: Mapping[str, Any] | None = None, *, debug: bool = False) -> bool:
    """Apply ``config`` or, unless the program has set up logging, the defaults; tell whether anything was applied.

    With ``debug`` the defaults show records from DEBUG on.
    """
    if config is not None:
        logging.config.dictConfig(dict(config))
        return True
    package = logging.getLogger("ferrows")
    if logging.getLogger().handlers or package.handlers:
        return False
    logging.config.dictConfig(LOGGING_CONFIG_DEFAULTS)
    logging.getLogger("asyncio").addFilter(_is_worth_a_line)
    if debug:
        package.setLevel(logging.DEBUG)
    return True


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Whether a record of asyncio's is more than one write of many to a connection that is gone.

    Up to hundreds come of a handler that sends much; how the connection ended is in the access log.
    """
    return record.msg != "socket.send() raised exception."


_QUIET: Final = 60.0
"""Seconds between two lines on stderr that say that a log cannot be written."""


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes each record at once, and drops what cannot be written: the disk is full, or the pipe has no reader left.

    logging's own handler answers each such record with a traceback on stderr, which is longer than the access log ever
    was, and leaves it in the stream's buffer, which makes Python end with 120 in place of the program's exit code. This
    one says so on stderr, at most once a minute, and, as soon as the log can be written again, how many were dropped.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._dropped = 0
        self._reason = ""
        self._said = -_QUIET

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            lines = self.format(record) + self.terminator
            if self._dropped:
                lines = self.format(self._gap()) + self.terminator + lines
            _write(self.stream, lines)
        except OSError as error:
            self._drop(error)
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)
        else:
            self._dropped = 0

    def _drop(self, error: OSError) -> None:
        self._dropped += 1
        self._reason = error.strerror or str(error)
        now = time.monotonic()
        if now - self._said < _QUIET or sys.stderr is None or self.stream is sys.stderr:
            return
        self._said = now
        with contextlib.suppress(OSError, ValueError):
            _write(sys.stderr, f"the log cannot be written to {_name(self.stream)}: {self._reason}\n")

    def _gap(self) -> logging.LogRecord:
        message = "%d lines of the log could not be written: %s"
        return logger.makeRecord(
            logger.name, logging.WARNING, __file__, 0, message, (self._dropped, self._reason), None
        )


def _write(stream: TextIO, lines: str) -> None:
    """Write to a stream, past its buffer where it is a file's: what that cannot write, it keeps and tries again."""
    encoding = getattr(stream, "encoding", None)
    if encoding:
        # A reason of a client's may hold what a stream in latin-1, or Windows' own, has no character for.
        lines = lines.encode(encoding, "backslashreplace").decode(encoding)
    buffer = getattr(stream, "buffer", None)
    if os.name != "posix" or not isinstance(buffer, io.BufferedWriter) or not isinstance(buffer.raw, io.FileIO):
        stream.write(lines)
        stream.flush()
        return
    # What the program has printed comes first.
    with contextlib.suppress(OSError):
        stream.flush()
    data = memoryview(lines.encode(stream.encoding, stream.errors or "strict"))
    while data:
        data = data[os.write(buffer.fileno(), data) :]


def _name(stream: TextIO) -> str:
    return str(getattr(stream, "name", "its stream"))
