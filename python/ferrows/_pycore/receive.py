"""``Receive`` and ``Sent``: what ``ws.recv()`` and ``ws.send()`` return; the twin of ``receive.rs``.

``Receive`` is a coroutine and, while it is suspended, also the future-like object that it yields. asyncio's Task asks
such an object for ``_asyncio_future_blocking``, ``get_loop()`` and ``add_done_callback(wakeup, context=)``; the stream
calls that wakeup in place when a message is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import Callable, Generator
from contextvars import Context
from typing import TYPE_CHECKING, Any, NoReturn

from ..exceptions import ServerError

if TYPE_CHECKING:
    from .stream import MessageStream

__all__ = ["Mode", "Receive", "Sent"]


class Mode(enum.Enum):
    """What a :class:`Receive` waits for and how it ends."""

    MESSAGE = enum.auto()
    """``recv()``: a message, else ``WebsocketClosed``."""
    ITERATION = enum.auto()
    """``__anext__()``: a message, else ``StopAsyncIteration`` after a clean end."""
    FRAGMENT = enum.auto()
    """One step of ``recv_streaming()``: a pair of data and fin, else ``WebsocketClosed``."""
    EVENT = enum.auto()
    """``recv_event()``: a message as ASGI's ``websocket.receive``, else what the subclass makes of the end."""


class _Phase(enum.Enum):
    FRESH = enum.auto()
    WAITING = enum.auto()
    DONE = enum.auto()


class Receive:
    """The awaitable of the next message.

    It takes the message when it is resumed, not when it is woken: a cancellation that comes in between loses nothing.
    """

    __slots__ = ("_blocking", "_cancel_message", "_cancelled", "_context", "_mode", "_phase", "_stream", "_wakeup")

    def __init__(self, stream: MessageStream, mode: Mode) -> None:
        self._stream = stream
        self._mode = mode
        self._phase = _Phase.FRESH
        self._wakeup: Callable[[Receive], object] | None = None
        self._context: Context | None = None
        self._blocking = False
        self._cancelled = False
        self._cancel_message: Any = None  # anyio knows its own cancellations by it

    # ---- the coroutine protocol

    def __await__(self) -> Generator[Any, None, Any]:
        return self

    def __iter__(self) -> Receive:
        return self

    def __next__(self) -> Receive:
        stream = self._stream
        if self._phase is _Phase.DONE:
            raise RuntimeError("cannot await the same receive twice")
        if self._phase is _Phase.WAITING:
            self._release()
        elif stream.waited_for:
            self._phase = _Phase.DONE
            raise ServerError("another task is waiting for a message of this connection")
        taken = stream.take(self._mode)
        if taken is not None:
            self._phase = _Phase.DONE
            if taken is not stream.ENDED:
                raise StopIteration(taken)
            if self._mode is Mode.EVENT:
                raise StopIteration(stream._end_event())
            raise stream._iteration_end() if self._mode is Mode.ITERATION else stream._closed_error()
        self._phase = _Phase.WAITING
        self._blocking = True
        stream.waiter = self
        return self

    def send(self, value: object, /) -> Receive:
        return self.__next__()

    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> NoReturn:
        self.close()
        raise _thrown(typ, val)

    def close(self) -> None:
        self._release()
        self._phase = _Phase.DONE

    @property
    def __name__(self) -> str:
        """What asyncio calls the coroutine when it describes a task."""
        return "Websocket.recv"

    def _release(self) -> None:
        """Give the stream's one place for a waiting receive back."""
        self._wakeup = None
        if self._stream.waiter is self:
            self._stream.waiter = None

    # ---- the protocol between a Task and the future that it waits for

    @property
    def _asyncio_future_blocking(self) -> bool | None:
        # None unless suspended, so that asyncio.isfuture() takes it for what it is elsewhere: a coroutine.
        return self._blocking if self._phase is _Phase.WAITING else None

    @_asyncio_future_blocking.setter
    def _asyncio_future_blocking(self, blocking: bool) -> None:
        self._blocking = blocking

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._stream.loop

    def add_done_callback(self, callback: Callable[[Receive], object], /, *, context: Context | None = None) -> None:
        self._wakeup = callback
        self._context = context

    def remove_done_callback(self, callback: object, /) -> int:
        held = self._wakeup is not None and self._wakeup == callback
        if held:
            self._wakeup = None
        return int(held)

    def cancel(self, msg: Any = None) -> bool:
        wakeup = self._wakeup
        if wakeup is None:
            return False
        self._release()
        self._cancelled = True
        self._cancel_message = msg
        self._stream.loop.call_soon(wakeup, self, context=self._context)
        return True

    def result(self) -> None:
        if self._cancelled:
            raise asyncio.CancelledError(*(() if self._cancel_message is None else (self._cancel_message,)))

    def done(self) -> bool:
        return self._wakeup is None

    def cancelled(self) -> bool:
        return self._cancelled

    # ---- for the stream

    def is_wakeable(self) -> bool:
        """Whether a task waits to be woken."""
        return self._wakeup is not None

    def wake(self) -> bool:
        """Wake the waiting task: in place where that is possible, else in the next turn. Tell whether it ran."""
        wakeup, self._wakeup = self._wakeup, None
        if wakeup is None:
            return True
        loop = self._stream.loop
        # A task that feeds its own connection cannot be left half-way for another one.
        if asyncio.current_task(loop) is None:
            # Neither can a context be entered twice. A task's wakeup raises no RuntimeError of its own once it runs.
            with contextlib.suppress(RuntimeError):
                if self._context is None:
                    wakeup(self)
                else:
                    self._context.run(wakeup, self)
                return True
        loop.call_soon(wakeup, self, context=self._context)
        return False


class Sent:
    """The awaitable of a ``send()`` that is done already: awaiting it never suspends."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        return self

    def __iter__(self) -> Sent:
        return self

    def __next__(self) -> NoReturn:
        raise StopIteration

    def send(self, value: object, /) -> NoReturn:
        raise StopIteration

    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> NoReturn:
        raise _thrown(typ, val)

    def close(self) -> None:
        """There is nothing to close."""

    @property
    def __name__(self) -> str:
        return "Websocket.send"


def _thrown(typ: Any, val: Any) -> BaseException:
    """Return the exception that the arguments of a coroutine's ``throw()`` mean."""
    for given in (val, typ):
        if isinstance(given, BaseException):
            return given
    raised: BaseException = typ() if val is None else typ(val)
    return raised
