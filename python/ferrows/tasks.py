"""Tasks: what an app runs in the background from the start of its server to the end."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

from .exceptions import ServerError
from .log import error_logger

if TYPE_CHECKING:
    from .app import App

__all__ = ["Tasks", "Work"]

Work = Coroutine[Any, Any, Any] | Callable[..., Any]


class Tasks:
    """The background tasks of an app, some of them by name. What one raises is logged; the others go on."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._pending: list[tuple[Work, str | None]] = []
        self._running: set[asyncio.Task[Any]] = set()
        self._named: dict[str, asyncio.Task[Any]] = {}

    def __iter__(self) -> Iterator[asyncio.Task[Any]]:
        return iter(list(self._running))

    @property
    def pending(self) -> bool:
        """Whether some wait for :meth:`start`."""
        return bool(self._pending)

    def add(self, work: Work, name: str | None) -> asyncio.Task[Any] | None:
        """Start work on the running loop, or keep it for :meth:`start` where none runs (None)."""
        if name is not None and (name in self._named or any(name == other for _, other in self._pending)):
            raise ValueError(f"a task with the name {name!r} is there already")
        if not (inspect.iscoroutine(work) or callable(work)):
            raise TypeError(f"a task is a coroutine or a function that returns one, not {work!r}")
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._pending.append((work, name))
            return None
        return self._start(work, name)

    def start(self) -> None:
        """Start what was added before the loop ran."""
        pending, self._pending = self._pending, []
        for work, name in pending:
            self._start(work, name)

    def named(self, name: str) -> asyncio.Task[Any] | None:
        return self._named.get(name)

    async def cancel(self, tasks: list[asyncio.Task[Any]], timeout: float | None = None) -> None:
        """Cancel tasks and wait for their end, at most ``timeout`` seconds."""
        current = asyncio.current_task()
        tasks = [task for task in tasks if task is not current]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)

    def _start(self, work: Work, name: str | None) -> asyncio.Task[Any]:
        if not inspect.iscoroutine(work):
            work = self._call(work)
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        if name is not None:
            self._named[name] = task
        task.add_done_callback(self._done)
        return task

    def _call(self, work: Any) -> Coroutine[Any, Any, Any]:
        try:
            inspect.signature(work).bind(self._app)
        except ValueError:
            takes_app = True
        except TypeError:
            takes_app = False
        else:
            takes_app = True
        coroutine = work(self._app) if takes_app else work()
        if not inspect.isawaitable(coroutine):
            raise ServerError(f"task {work!r} must be a coroutine or a function that returns one")
        return _await(coroutine)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if self._named.get(task.get_name()) is task:
            del self._named[task.get_name()]
        if not task.cancelled() and (error := task.exception()) is not None:
            error_logger.error("task %s failed", task.get_name(), exc_info=error)


async def _await(awaitable: Any) -> Any:
    return await awaitable
