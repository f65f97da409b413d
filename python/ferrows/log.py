"""Logging: what ``App.run`` sets up where the program has not done so itself. Importing ferrows configures nothing."""

from __future__ import annotations

import logging
import logging.config
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes

__all__ = [
    "LOGGING_CONFIG_DEFAULTS",
    "access_logger",
    "configure_logging",
    "error_logger",
    "hide_parameter",
    "logger",
    "websocket_logger",
    "without_hidden",
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


# RFC 6750 §2.3 names the one that holds a token.
_hidden: Final[set[bytes]] = {b"access_token"}


def hide_parameter(name: str) -> None:
    """Keep the values of a query's parameter out of the access log, in this process and from now on."""
    _hidden.add(name.encode("utf-8", "surrogatepass"))


def without_hidden(target: bytes) -> bytes:
    """Return a request target, or a whole request line, as the log may show it: with what is secret in it replaced."""
    path, mark, query = target.partition(b"?")
    return path + mark + _PARAMETER.sub(_shown, query) if mark else target


_PARAMETER: Final = re.compile(rb"([^&= ]*)=([^& ]*)")


def _shown(parameter: re.Match[bytes]) -> bytes:
    # Spelled as it may be: what the application decodes is decoded here.
    name = unquote_to_bytes(parameter[1].replace(b"+", b" "))
    return parameter[1] + b"=***" if name in _hidden else parameter[0]
