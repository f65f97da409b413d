"""Signals: named events that an app sends to whoever listens.

An event has three parts with dots between them. The last part of what a handler listens to may be a parameter,
``foo.bar.<thing>``, which arrives as a keyword argument. ferrows itself sends those of :data:`RESERVED`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any, Final

__all__ = ["RESERVED", "Signal", "SignalRouter"]

Handler = Callable[..., Any]

RESERVED: Final = frozenset(
    {
        "server.init.before",
        "server.init.after",
        "server.shutdown.before",
        "server.shutdown.after",
        "websocket.handler.before",
        "websocket.handler.after",
        "websocket.handler.exception",
    }
)
"""What ferrows sends; its first parts (``server``, ``http``, ``websocket``) are closed to other events."""

_RESERVED_NAMESPACES: Final = frozenset({"server", "http", "websocket"})

logger = logging.getLogger("ferrows.error")


@dataclass(slots=True, eq=False)
class Signal:
    """One handler of one event. ``condition`` must be part of what a dispatch gives as its own."""

    event: str
    handler: Handler | None
    condition: Mapping[str, Any] = field(default_factory=dict)
    blueprint: str | None = None
    # What waits in `SignalRouter.wait`, where there is no handler.
    waiter: asyncio.Future[dict[str, Any]] | None = None


class SignalRouter:
    """The signals of an app."""

    def __init__(self) -> None:
        self._exact: dict[str, list[Signal]] = {}
        self._patterns: list[tuple[re.Pattern[str], Signal]] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    def __contains__(self, event: str) -> bool:
        return event in self._exact or (bool(self._patterns) and bool(self._listening(event)))

    def add(self, signal: Signal) -> Signal:
        """Register a handler; ValueError for an event that is not three parts or that nobody can send."""
        pattern = _pattern(signal.event)
        if pattern is None:
            self._exact.setdefault(signal.event, []).append(signal)
        else:
            self._patterns.append((pattern, signal))
        return signal

    def remove(self, signal: Signal) -> None:
        """Take a handler away again."""
        listening = self._exact.get(signal.event, [])
        if signal in listening:
            listening.remove(signal)
            if not listening:
                del self._exact[signal.event]
        self._patterns = [(pattern, other) for pattern, other in self._patterns if other is not signal]

    async def send(
        self,
        event: str,
        context: Mapping[str, Any] | None = None,
        *,
        condition: Mapping[str, Any] | None = None,
        blueprint: str | None = None,
    ) -> Any:
        """Run the handlers of an event in turn until one returns something other than None, and return that."""
        for handler, arguments in self._calls(event, context, condition, blueprint):
            result = handler(**arguments)
            if isawaitable(result):
                result = await result
            if result is not None:
                return result
        return None

    async def notify(
        self,
        event: str,
        context: Mapping[str, Any] | None = None,
        *,
        condition: Mapping[str, Any] | None = None,
        blueprint: str | None = None,
    ) -> None:
        """Run all handlers of an event in turn; what one raises is logged and stops no other."""
        for handler, arguments in self._calls(event, context, condition, blueprint):
            try:
                result = handler(**arguments)
                if isawaitable(result):
                    await result
            except Exception:
                logger.exception("handler of the signal %s failed", event)

    def dispatch(self, event: str, context: Mapping[str, Any] | None = None, **options: Any) -> asyncio.Task[None]:
        """``notify`` in a task of its own."""
        task = asyncio.get_running_loop().create_task(self.notify(event, context, **options))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def wait(self, event: str, timeout: float | None = None, condition: Mapping[str, Any] | None = None) -> Any:
        """Wait for the next dispatch of an event and return its context; TimeoutError after ``timeout`` seconds."""
        waiter: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        signal = self.add(Signal(event, None, condition or {}, waiter=waiter))
        try:
            async with asyncio.timeout(timeout):
                return await waiter
        finally:
            self.remove(signal)

    def _listening(self, event: str) -> list[tuple[Signal, dict[str, str]]]:
        found: list[tuple[Signal, dict[str, str]]] = [(signal, {}) for signal in self._exact.get(event, ())]
        for pattern, signal in self._patterns:
            match = pattern.fullmatch(event)
            if match is not None:
                found.append((signal, match.groupdict()))
        return found

    def _calls(
        self,
        event: str,
        context: Mapping[str, Any] | None,
        condition: Mapping[str, Any] | None,
        blueprint: str | None,
    ) -> list[tuple[Handler, dict[str, Any]]]:
        """Wake what waits for the event; the handlers to call and their arguments."""
        given = condition or {}
        calls: list[tuple[Handler, dict[str, Any]]] = []
        for signal, parameters in self._listening(event):
            if blueprint is not None and signal.blueprint != blueprint:
                continue
            if any(key not in given or given[key] != value for key, value in signal.condition.items()):
                continue
            arguments = {**(context or {}), **parameters}
            if signal.handler is not None:
                calls.append((signal.handler, arguments))
            elif signal.waiter is not None and not signal.waiter.done():
                signal.waiter.set_result(arguments)
        return calls


_PART: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_PARAMETER: Final = re.compile(r"<([A-Za-z_][A-Za-z0-9_]*)>")


def _pattern(event: str) -> re.Pattern[str] | None:
    """Check an event's name; None where it has no parameter."""
    parts = event.split(".")
    parameter = _PARAMETER.fullmatch(parts[-1])
    if len(parts) != 3 or not all(_PART.fullmatch(part) for part in (parts[:-1] if parameter else parts)):
        raise ValueError(f"event {event!r} must have three parts, such as 'foo.bar.baz' or 'foo.bar.<thing>'")
    pattern = None if parameter is None else re.compile(rf"{re.escape('.'.join(parts[:2]))}\.(?P<{parameter[1]}>[^.]+)")
    if parts[0] in _RESERVED_NAMESPACES and not any(
        event == name if pattern is None else pattern.fullmatch(name) for name in RESERVED
    ):
        raise ValueError(f"event {event!r} is never sent, permitted: {', '.join(sorted(RESERVED))}")
    return pattern
