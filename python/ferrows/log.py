"""Logging: what ``App.run`` sets up where the program has not done so itself. Importing ferrows configures nothing."""

from __future__ import annotations

import logging
import logging.config
from collections.abc import Mapping
from typing import Any, Final

__all__ = [
    "LOGGING_CONFIG_DEFAULTS",
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
        "stderr": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"},
        "stdout": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stdout"},
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
    if debug:
        package.setLevel(logging.DEBUG)
    return True
