"""The one switch between the Rust extension and the pure-Python twin.

``FERROWS_NO_EXTENSIONS=1`` chooses the twin. Without it a missing extension is an error, since a silent fallback would
hide a large slowdown.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

__all__ = [
    "CLOSED",
    "CLOSING",
    "CODEC",
    "OPEN",
    "Connection",
    "Head",
    "HeadReader",
    "MessageStream",
    "apply_mask",
    "broadcast",
]

PURE_PYTHON: Final = os.environ.get("FERROWS_NO_EXTENSIONS", "") not in ("", "0")

if TYPE_CHECKING:
    from ._core import CLOSED, CLOSING, OPEN, Connection, Head, HeadReader, MessageStream, apply_mask, broadcast
elif PURE_PYTHON:
    from ._pycore import CLOSED, CLOSING, OPEN, Connection, Head, HeadReader, MessageStream, apply_mask, broadcast
else:
    try:
        from ._core import CLOSED, CLOSING, OPEN, Connection, Head, HeadReader, MessageStream, apply_mask, broadcast
    except ImportError as error:
        raise ImportError(
            "the extension module ferrows._core cannot be imported; install a wheel or build it (pip install .), "
            "or choose the slow pure-Python codec with FERROWS_NO_EXTENSIONS=1"
        ) from error

CODEC: Final = "pure Python" if PURE_PYTHON else "Rust extension"
"""Which codec is in use, for the start banner and bug reports."""
