"""Signals of the operating system, which an event loop is to act on."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FrameType
from typing import Final

from ..log import logger

__all__ = ["acting_on", "held", "wait_for"]

_LOOK: Final = 0.5
"""Seconds after which a thread that waits looks, at the latest, whether there was a signal."""


@contextlib.contextmanager
def acting_on(
    loop: asyncio.AbstractEventLoop,
    actions: Mapping[signal.Signals, Callable[[], object]],
    *,
    afterwards: signal.Handlers | None = None,
) -> Iterator[None]:
    """Have signals call functions on a loop; those that come while it does not run wait for its next turn.

    At the end each signal does what it did before, or ``afterwards``. Elsewhere than in the main thread, and where a
    loop cannot handle signals, they are left alone.
    """
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        logger.debug("signals cannot be handled by the event loop here")
        yield
        return
    context = contextvars.copy_context()
    before = {}
    with held(actions):
        for number, action in actions.items():
            handler = signal.getsignal(number)
            try:
                # Only for the signal to wake the loop up. uvloop would forget one that comes while it does not run, as
                # between two calls of `run_until_complete`: until the next signal comes.
                loop.add_signal_handler(number, _woken)
            except (NotImplementedError, RuntimeError, ValueError):
                logger.debug("signal %s cannot be handled by the event loop here", number)
                continue
            before[number] = handler
            signal.signal(number, _passing_on(loop, action, context))
            # As the loops have it: libraries' system calls are not broken off.
            signal.siginterrupt(number, False)
    try:
        yield
    finally:
        with held(before):
            for number, handler in before.items():
                # uvloop does nothing here unless it runs, asyncio's loop sets the default.
                loop.remove_signal_handler(number)
                # None: it is not Python's, and cannot be put back.
                signal.signal(number, afterwards or handler or signal.SIG_DFL)


@contextlib.contextmanager
def held(numbers: Iterable[signal.Signals]) -> Iterator[None]:
    """Keep signals from this thread; those that come are delivered at the end. A process that is started keeps them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def wait_for(event: threading.Event) -> None:
    """Wait for an event; whatever a signal's handler raises ends that.

    ``event.wait()`` would sleep through a signal that comes just before it waits for its lock: handlers run afterwards.
    """
    while not event.wait(_LOOK):
        pass


def _passing_on(
    loop: asyncio.AbstractEventLoop, action: Callable[[], object], context: contextvars.Context
) -> Callable[[int, FrameType | None], None]:
    def pass_on(number: int, frame: FrameType | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(action, context=context)

    return pass_on


def _woken() -> None: ...
