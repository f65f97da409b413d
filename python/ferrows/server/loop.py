"""Which event loop: uvloop where it is installed and not turned off, else asyncio's own."""

from __future__ import annotations

import asyncio
import os
import sys
import warnings
from types import ModuleType

from ..log import logger

__all__ = ["loop_name", "new_event_loop", "try_use_uvloop", "try_windows_loop"]


def new_event_loop(*, use_uvloop: bool = True) -> asyncio.AbstractEventLoop:
    """Make a loop for a server; ``FERROWS_NO_UVLOOP`` in the environment turns uvloop off as well."""
    uvloop = _uvloop() if use_uvloop else None
    return asyncio.new_event_loop() if uvloop is None else uvloop.new_event_loop()


def loop_name(loop: asyncio.AbstractEventLoop) -> str:
    """``uvloop`` or ``asyncio``, for people to read."""
    return type(loop).__module__.partition(".")[0]


def try_use_uvloop() -> None:
    """Make uvloop the default of ``asyncio.new_event_loop`` and ``asyncio.run``; log why not where it cannot be."""
    uvloop = _uvloop()
    if uvloop is None:
        logger.warning("uvloop is not used: it is not installed, or FERROWS_NO_UVLOOP is set")
        return
    with warnings.catch_warnings():
        # From Python 3.14 on policies are deprecated, and there is no other way to set a default.
        warnings.simplefilter("ignore", DeprecationWarning)
        if not isinstance(asyncio.get_event_loop_policy(), uvloop.EventLoopPolicy):
            asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())


def try_windows_loop() -> None:
    """Make the selector loop the default on Windows; elsewhere there is none, which is logged."""
    if sys.platform != "win32":
        logger.warning("the Windows event loop is not used: this is %s", sys.platform)
        return
    asyncio.set_event_loop_policy(asyncio.WindowsSelectorEventLoopPolicy())


def _uvloop() -> ModuleType | None:
    if os.environ.get("FERROWS_NO_UVLOOP", "") not in ("", "0"):
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop
