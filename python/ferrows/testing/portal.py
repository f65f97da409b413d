"""``Portal``: an event loop in a thread of its own, for code that is not asynchronous."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

__all__ = ["Portal"]

T = TypeVar("T")

_GRACE: Final = 5.0
"""Seconds beyond its own timeout that a call may take before the loop counts as blocked."""


class Portal:
    """Runs coroutines on its loop until it is closed. The thread is a daemon: it never keeps a program alive."""

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._loop = new_loop()
        self._closed = False
        # Set on the loop itself: one that has just been left by a SystemExit is not to be stopped while it ends.
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="ferrows test client", daemon=True)
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, T], timeout: float | None, what: str) -> T:
        """Run a coroutine and return what it does; TimeoutError where the loop is blocked for too long.

        The coroutine limits itself to ``timeout`` seconds.
        """
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("a test client is used on its own loop, so that it would wait for itself")
        if self._closed:
            coroutine.close()
            raise RuntimeError("the test client is closed")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(None if timeout is None else timeout + _GRACE)
        except TimeoutError:
            if future.done():
                raise
            raise TimeoutError(f"{what}: a handler blocks the event loop for more than {timeout} seconds") from None
        finally:
            future.cancel()

    def close(self) -> None:
        """End the loop and the thread; does nothing the second time."""
        if self._closed:
            return
        self._closed = True
        self._loop.call_soon_threadsafe(self._end)
        if threading.current_thread() is not self._thread:
            self._thread.join(_GRACE)

    def _end(self) -> None:
        self._ending = True
        self._loop.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            while not self._ending:
                try:
                    self._loop.run_forever()
                except (SystemExit, KeyboardInterrupt):
                    # A handler's; the loop lets it through, and others still wait for theirs.
                    continue
            self._finish()
        finally:
            asyncio.set_event_loop(None)
            self._loop.close()

    def _finish(self) -> None:
        remaining = asyncio.all_tasks(self._loop)
        for task in remaining:
            task.cancel()
        if remaining:
            self._loop.run_until_complete(asyncio.wait(remaining, timeout=_GRACE))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
