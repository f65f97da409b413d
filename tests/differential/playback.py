"""Playing one session on ``Websocket`` over two codecs, on virtual time, and telling the first difference."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import selectors
import sys
from collections.abc import Callable
from itertools import zip_longest
from typing import Any
from unittest.mock import patch

from ferrows.websocket import Websocket
from tests.websocket.harness import frames

from .handlers import Crash, Handler, Log
from .sessions import Session

__all__ = ["VirtualLoop", "compare_sessions", "copy_of", "play", "websocket_on"]

_STATE = (
    *("state", "open", "closed", "close_code", "close_reason", "closed_by", "close_sent", "close_received", "failure"),
    *("queued", "read_paused", "write_paused", "waited_for", "ended", "streaming", "send_queued"),
    *("messages_received", "bytes_received", "messages_sent", "bytes_sent"),
)

_SETTLE_SECONDS = 9
"""Longer than whatever a session waits for, above all ``_CLOSE_TIMEOUT``."""

_CLOSE_TIMEOUT = 5

_TURNS = 50_000
"""Turns of the loop after which a session does not end any more; the longest takes some thousands."""


def compare_sessions(session: Session, first: type[Websocket], second: type[Websocket]) -> str | None:
    """Play the session twice; return what is wrong with either or how they differ, None if all is well."""
    one, other = play(session, first), play(session, second)
    for log, ws in ((one, first), (other, second)):
        if log.faults:
            return f"{ws.__module__}: " + "\n".join(log.faults) + _excerpt(log, len(log.entries) - 1)
    for index, (entry, wanted) in enumerate(zip_longest(one.entries, other.entries)):
        if entry != wanted or repr(entry) != repr(wanted):
            return f"first:{_excerpt(one, index)}\nsecond:{_excerpt(other, index)}"
    return None


def play(session: Session, websocket: type[Websocket]) -> Log:
    """Play the session on a class of websockets and return what was seen."""
    log = Log()
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        loop.set_exception_handler(lambda _, context: log.fault(f"{context['message']} {context.get('exception')!r}"))
        try:
            runner.run(_Stage(session, websocket, log).play())
        except _NoEnd as error:
            log.fault(str(error))
    return log


def websocket_on(codec: Any, name: str) -> type[Websocket]:
    """Make ``Websocket`` over the codec: anything that has what ``ferrows.websocket`` imports from it."""
    with patch.dict(sys.modules, {"ferrows._codec": codec}):
        websocket: type[Websocket] = copy_of("ferrows.websocket", name).Websocket
    assert issubclass(websocket, codec.MessageStream)
    return websocket


def copy_of(module: str, name: str) -> Any:
    """Execute a module once more, under another name in the same package."""
    original = importlib.util.find_spec(module)
    assert original is not None and original.origin is not None
    spec = importlib.util.spec_from_file_location(f"{original.parent}.{name}", original.origin)
    assert spec is not None and spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy


def _excerpt(log: Log, index: int) -> str:
    start = max(0, index - 6)
    lines = [f"  {number}: {_short(log.entries[number])}" for number in range(start, min(index + 3, len(log.entries)))]
    return "\n" + "\n".join(lines)


def _short(entry: Any) -> str:
    text = repr(entry)
    return text if len(text) < 400 else f"{text[:300]}... {len(text)} in all, {hashlib.md5(text.encode()).hexdigest()}"


class _NoEnd(BaseException):
    """Nothing will ever happen any more, or it does not stop happening."""


class _VirtualSelector(selectors.SelectSelector):
    """Does not wait: where it would, its clock goes forward."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns += 1
        if timeout is None:
            raise _NoEnd("all tasks wait for something that will not happen")
        if self.turns == _TURNS:
            raise _NoEnd(f"no end after {_TURNS} turns of the loop")
        self.now += max(timeout, 0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop without input and output, on virtual time."""

    def __init__(self) -> None:
        self._clock = _VirtualSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now

    def go_on(self) -> None:
        """Take what happened so far for an end: count turns from here."""
        self._clock.turns = 0


class _Transport(asyncio.Transport):
    """Keeps what is written until it is drained, and tells the websocket as a real transport would."""

    def __init__(self, log: Log, high_water: int) -> None:
        super().__init__()
        self._log = log
        self._high_water = high_water
        self._unsent = 0
        self._paused = False
        self._closing = False
        self._eof = False
        self.ws: Any = None
        self.written = bytearray()
        self.reading = True
        self.lost = False

    def get_write_buffer_size(self) -> int:
        return self._unsent

    def write(self, data: Any) -> None:
        self._log.note("write", bytes(data))
        if self._eof:
            self._log.fault("written after the end")
        self.written += data
        self._unsent += len(data)
        if self._unsent > self._high_water and not self._paused:
            self._paused = True
            self.ws.pause_writing()

    def drain(self) -> None:
        self._unsent = 0
        if self._paused:
            self._paused = False
            self.ws.resume_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._log.note("write_eof")
        self._eof = True

    def pause_reading(self) -> None:
        self._log.note("pause_reading")
        self.reading = False

    def resume_reading(self) -> None:
        self._log.note("resume_reading")
        self.reading = True

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        self._log.note("abort")
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self.lose)

    def lose(self) -> None:
        if not self.lost:
            self._closing = self.lost = True
            self.ws.lose_transport()


class _Stage:
    """One websocket, its transport and its handlers; the methods are the steps of a session."""

    def __init__(self, session: Session, websocket: type[Websocket], log: Log) -> None:
        self._session = session
        self._websocket = websocket
        self._log = log
        self._held = False

    async def play(self) -> None:
        session, log = self._session, self._log
        self._loop = asyncio.get_running_loop()
        self._transport = transport = _Transport(log, session.high_water)
        self._ws = transport.ws = ws = self._websocket(
            self._loop,
            transport,
            max_size=session.max_size,
            max_queue=session.max_queue,
            close_timeout=_CLOSE_TIMEOUT,
        )
        handlers = [Handler(ws, log, number, script) for number, script in enumerate(session.scripts)]
        self._tasks = [asyncio.ensure_future(handler.run()) for handler in handlers]
        await self.turn(2)
        for name, *arguments in session.steps:
            log.note("step", name, *arguments)
            await getattr(self, name)(*arguments)
            self._look()
        await self._settle()
        self._look()
        self._check_nobody_waits_for_nothing()
        await self.lose()
        await self._settle()
        for task in self._tasks:
            if not task.done():
                log.fault(f"still waiting after the end: {task!r}")
                task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            log.note("result", type(result))
            if isinstance(result, Exception) and not isinstance(result, Crash):
                log.fault(f"a handler ended with {result!r}")
        self._look()
        self._check_output()

    async def _settle(self) -> None:
        for _ in range(_SETTLE_SECONDS * 2):
            await asyncio.sleep(0.5)
            await self.drain()

    async def _call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call from the event loop, where no task runs, as a transport does."""
        done = self._loop.create_future()

        def call() -> None:
            try:
                function(*arguments)
            except Exception as error:
                self._log.fault(f"{function.__name__} raised {error!r}")
            done.set_result(None)

        self._loop.call_soon(call)
        await done

    # ---- what must hold, whatever the other codec does

    def _look(self) -> None:
        """Note all that can be seen of the websocket."""
        session, log, ws = self._session, self._log, self._ws
        log.note("state", *[getattr(ws, name) for name in _STATE])
        taken = len(log.messages)
        if session.streams:
            # Some may be left out, none may come twice or late.
            remaining = iter(session.messages)
            if not all(message in remaining for message in log.messages):
                log.fault(f"messages out of order or not as sent: {log.messages[-3:]!r}")
            return
        if log.messages != session.messages[:taken]:
            log.fault(f"messages out of order or not as sent: {log.messages[-3:]!r}")
        # Once our Close is out, what finds no room is dropped.
        if ws.close_sent is None and taken + ws.queued != ws.messages_received:
            log.fault(f"{ws.messages_received} messages arrived, {taken} were taken and {ws.queued} wait")

    def _check_nobody_waits_for_nothing(self) -> None:
        ws = self._ws
        if self._transport.lost or not ws.waited_for:
            return
        if ws.read_paused and not self._held:
            self._log.fault("a task waits for a message, and reading is paused")
        if ws.queued and not self._session.streams:
            self._log.fault("a task waits for a message, and one is there")

    def _check_output(self) -> None:
        opcodes = [opcode for opcode, _ in frames(bytes(self._transport.written))]
        if 8 in opcodes[:-1]:
            self._log.fault("something was sent after a Close")

    # ---- the steps

    async def feed(self, data: bytes) -> None:
        # A transport that was paused may still have a read on its way, seldom more.
        for _ in range(3):
            if not self._transport.reading:
                await asyncio.sleep(0.02)
        if self._transport.lost:
            return
        if self._session.fed_by_task:
            self._ws.receive_data(data)
        else:
            await self._call(self._ws.receive_data, data)

    async def turn(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    async def drain(self) -> None:
        if not self._transport.lost:
            await self._call(self._transport.drain)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def cancel(self, number: int) -> None:
        if number < len(self._tasks):
            self._tasks[number].cancel()

    async def hold(self, hold: bool) -> None:
        self._held = hold
        await self._call(self._ws.hold_frames, hold)

    async def send(self, size: int) -> None:
        """Send from a task of its own, which may have to wait behind others."""

        async def send() -> None:
            try:
                await self._ws.send("S" * size)
            except Exception as error:
                self._log.note("send", repr(error))
            else:
                self._log.note("send", "done")

        self._tasks.append(asyncio.ensure_future(send()))

    async def fail(self, code: int) -> None:
        await self._call(self._ws.fail_connection, code, "no")

    async def end(self, code: int) -> None:
        await self._call(self._ws.end_connection, code)

    async def eof(self) -> None:
        if not self._transport.lost:
            await self._call(self._ws.receive_eof)

    async def lose(self) -> None:
        await self._call(self._transport.lose)
