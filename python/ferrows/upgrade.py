"""Upgrade: a request on its way to a WebSocket, the handler's run, and the end of both."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from .errorpages import invalid_response
from .exceptions import HTTPException, ServerError, WebsocketClosed
from .log import error_logger
from .redaction import printable
from .response import HTTPResponse
from .websocket import WebsocketMethods

if TYPE_CHECKING:
    from .app import App
    from .request import Request

__all__ = ["Upgrade", "called", "decorate", "is_awaitable", "refusable", "when_open"]

Handler = Callable[..., Any]

_SIGNAL_BEFORE: Final = "websocket.handler.before"
_SIGNAL_AFTER: Final = "websocket.handler.after"
_SIGNAL_EXCEPTION: Final = "websocket.handler.exception"


class Upgrade:
    """One request on its way to a WebSocket, its handler, and the end of both."""

    __slots__ = ("opened", "request", "values", "ws")

    def __init__(self, request: Request, values: dict[str, Any]) -> None:
        self.request = request
        self.values = values
        # Whatever the protocol's handshake returned; None while the response can still be an HTTP one.
        self.ws: Any = None
        # What decorators want to be told of it; see `when_open`.
        self.opened: tuple[Callable[[Any], object], ...] = ()

    @property
    def app(self) -> App:
        """The app that answers the request."""
        app: App = self.request.app
        return app

    async def serve(self) -> HTTPResponse | None:
        """Upgrade and run the handler in this task; a response instead where the upgrade was refused."""
        task = asyncio.current_task()
        assert task is not None
        response: Any = None
        self.app.websocket_tasks[task] = self.request.protocol
        try:
            if self.request.route.decorators:
                response = await self._decorated()
            else:
                await self._open()
                # No coroutine of ours in between: this one and the handler's last as long as the connection.
                result = self.request.route.handler(self.request, self.ws, **self.values)
                if is_awaitable(result):
                    result = await result
                if result is not None:
                    self._returned(result)
        except asyncio.CancelledError as error:
            if task.cancelling():
                # The server stops, or somebody ended the handler. Either way nobody is left to receive.
                self._cancelled(error)
                raise
            await self._failed(ServerError("handler awaited something that was cancelled"))
        except Exception as error:
            if self.ws is not None:
                await self._failed(error)
            elif self.request.responded:
                raise
            else:
                return await self.app.handle_exception(self.request, error)
        except GeneratorExit:
            raise
        except BaseException as error:
            if self.ws is None:
                raise
            await self._broken(error)
            if isinstance(error, SystemExit | KeyboardInterrupt):
                raise
        else:
            if self.ws is None:
                return await self.app.finish_response(self.request, response)
            if self._ends_by_itself() and _SIGNAL_AFTER not in self.app.signal_router:
                self.ws.end_connection()
            else:
                await self._finished()
        finally:
            del self.app.websocket_tasks[task]
        return None

    async def run(self, handler: Handler, values: Mapping[str, Any], *args: Any) -> None:
        """Do the opening handshake and run the handler; ``args`` go behind the request and the websocket."""
        await self._open()
        self._returned(await called(handler, self.request, self.ws, *args, **values))

    async def _open(self) -> None:
        request = self.request
        self.ws = await request.protocol.websocket_handshake(request, self.request.route.subprotocols)
        for tell in self.opened:
            tell(self.ws)
        if _SIGNAL_BEFORE in self.app.signal_router:
            await self.app.signal_router.send(_SIGNAL_BEFORE, {"request": request, "websocket": self.ws})

    def _returned(self, result: Any) -> None:
        """Tell of a response that a handler returned; whatever else it returns is its own affair."""
        if isinstance(result, HTTPResponse):
            error_logger.warning(
                "handler of %s returned a response of %d, which cannot be sent behind the 101: "
                "middleware and decorators in apply can refuse before it",
                self._described(),
                result.status,
            )

    async def _decorated(self) -> Any:
        """Run what :func:`refusable` made, which may call ``run``; returns what it answers instead."""
        token = _upgrade.set(self)
        try:
            response = await called(self.request.route.handler, self.request, **self.values)
        finally:
            _upgrade.reset(token)
        if self.ws is None and not isinstance(response, HTTPResponse):
            raise invalid_response(self.request, response)
        return response

    async def _finished(self) -> None:
        """The handler returned: close with 1000."""
        await self._notify(_SIGNAL_AFTER)
        await self._close(1000, "")

    async def _failed(self, error: Exception) -> None:
        """The handler raised: say so once in the log, and close with the code that the exception means."""
        if self._is_over() and _only_closures(error):
            # The peer left while the handler was sending or receiving, and the handler let it be known.
            await self._finished()
            return
        await self._notify(_SIGNAL_EXCEPTION, exception=error)
        if isinstance(error, HTTPException) and error.status_code < 500:
            # The 101 is out, so that the status cannot be sent: "policy violation" (RFC 6455 §7.4.1) is the nearest.
            error_logger.warning(
                "%s refused with %d: %s", self._described(), error.status_code, printable(error.message)
            )
            await self._close(1008, error.message)
            return
        error_logger.error("handler of %s failed", self._described(), exc_info=error)
        await self._close(1011, "internal error")

    async def _broken(self, error: BaseException) -> None:
        """The handler raised what is no ``Exception``: say so once and end the connection with 1011.

        SystemExit and KeyboardInterrupt are how a program ends, so that there is no traceback of them.
        """
        if isinstance(error, SystemExit | KeyboardInterrupt):
            error_logger.warning("handler of %s raised %r", self._described(), error)
        else:
            await self._notify(_SIGNAL_EXCEPTION, exception=error)
            error_logger.error("handler of %s failed", self._described(), exc_info=error)
        self._drop(1011)

    def _cancelled(self, error: asyncio.CancelledError) -> None:
        """The handler was cancelled: end the connection with 1001, without waiting for anybody.

        It is worth a line in the log unless the server, which stops, did it.
        """
        if self.ws is None:
            return
        signal = getattr(self.request.protocol, "signal", None)
        if not getattr(signal, "stopped", False):
            reason = f": {error.args[0]}" if error.args and error.args[0] else ""
            error_logger.warning("handler of %s was cancelled%s", self._described(), reason)
        self._drop(1001)

    def _drop(self, code: int) -> None:
        end_connection = getattr(self.ws, "end_connection", None)
        if end_connection is not None:
            end_connection(code)
        elif self.request.transport is not None:
            self.request.transport.close()

    def _is_over(self) -> bool:
        """Whether this connection has ended; taken for granted of one that does not tell by ``open``."""
        return getattr(self.ws, "open", False) is not True

    async def _notify(self, event: str, **context: Any) -> None:
        router = self.app.signal_router
        if event in router:
            await router.notify(event, {"request": self.request, "websocket": self.ws, **context})

    def _ends_by_itself(self) -> bool:
        """Whether this is a websocket of ours, on whatever engine, whose closing nobody has changed."""
        return getattr(type(self.ws), "close", None) is WebsocketMethods.close

    async def _close(self, code: int, reason: str) -> None:
        """Close whatever the handshake returned: by its ``close``, sync or async, else by its transport."""
        if self._ends_by_itself():
            # The rest of the closing handshake needs nobody who waits for it.
            self.ws.end_connection(code, _shortened(reason))
            return
        close = getattr(self.ws, "close", None)
        if close is None:
            if self.request.transport is not None:
                self.request.transport.close()
            return
        arguments = (code, _shortened(reason))
        count = _accepted_arguments(getattr(close, "__func__", close), bound=hasattr(close, "__func__"))
        try:
            result = close(*arguments[:count])
            if inspect.isawaitable(result):
                await result
        except WebsocketClosed:
            return
        except Exception:
            error_logger.exception("%s could not be closed", self._described())

    def _described(self) -> str:
        return f"websocket {self.request.path} from {self.request.remote_addr or 'a local peer'}"


_upgrade: ContextVar[Upgrade] = ContextVar("ferrows_upgrade")


class _PendingWebsocket:
    """What a decorator in ``apply`` gets for its websocket: there is none before the upgrade."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        raise ServerError(
            f"the connection is not upgraded yet, so that there is no {name!r} of it: to refuse it raise an exception "
            "or return a response; a decorator that needs the websocket belongs below @app.websocket"
        )


_PENDING: Final = _PendingWebsocket()


def refusable(handler: Handler, decorators: Iterable[Callable[[Handler], Handler]]) -> Handler:
    """Wrap decorators around the upgrade and the handler, so that they can refuse while there is HTTP.

    A decorator's function is called with the request, with a stand-in for the websocket if it takes that too, and with
    the path parameters as keywords. What it passes on besides these reaches the handler.
    """

    @functools.wraps(handler)
    async def upgrade(request: Request, *args: Any, **values: Any) -> None:
        # What a decorator adds is passed on; the stand-in makes way for the websocket.
        added = [value for value in args if value is not _PENDING]
        named = {name: value for name, value in values.items() if value is not _PENDING}
        await _upgrade.get().run(handler, named, *added)

    decorated = decorate(upgrade, decorators)
    count = _accepted_arguments(decorated)

    @functools.wraps(handler)
    async def call(request: Request, **values: Any) -> Any:
        return await called(decorated, *(request, _PENDING)[:count], **values)

    return call


def decorate(handler: Handler, decorators: Iterable[Callable[[Handler], Handler]]) -> Handler:
    """Wrap decorators around a handler, the first outermost; TypeError for one that gives no function."""
    for decorator in reversed(tuple(decorators)):
        decorated = decorator(handler)
        if not callable(decorated):
            if inspect.iscoroutine(decorated):
                decorated.close()
            name = getattr(decorator, "__name__", None) or type(decorator).__name__
            raise TypeError(
                f"apply takes decorators: {name!r} is called with the handler and must return a function "
                f"that is called with the request, not {type(decorated).__name__}"
            )
        handler = decorated
    return handler


def when_open(request: Request, tell: Callable[[Any], object]) -> bool:
    """Have ``tell(ws)`` called after the upgrade and before the handler; for the decorators in ``apply``.

    False where the request is not on its way to an upgrade: it is none, or the decorator stands around the handler.
    """
    upgrade = _upgrade.get(None)
    if upgrade is None or upgrade.request is not request or upgrade.ws is not None:
        return False
    upgrade.opened += (tell,)
    return True


async def called(function: Handler, *args: Any, **kwargs: Any) -> Any:
    """Call a function or a coroutine function."""
    result = function(*args, **kwargs)
    return await result if is_awaitable(result) else result


def is_awaitable(result: Any) -> bool:
    """Whether what a handler returned has to be awaited; asked of nearly nothing but coroutines and responses."""
    kind = type(result)
    return kind is CoroutineType or (kind is not HTTPResponse and inspect.isawaitable(result))


@functools.lru_cache(maxsize=64)
def _accepted_arguments(function: Handler, *, bound: bool = False) -> int:
    """How many of two positional arguments a function takes; of a method's function ``bound`` leaves out the first."""
    try:
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return 2
    for count in (2, 1):
        try:
            signature.bind_partial(*[None] * (count + bound))
        except TypeError:
            continue
        return count
    return 0


def _only_closures(error: BaseException) -> bool:
    """Whether an exception is a closed connection's, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(_only_closures(each) for each in error.exceptions)
    return isinstance(error, WebsocketClosed)


def _shortened(reason: str) -> str:
    """Cut a close reason to what a control frame holds: 123 bytes (RFC 6455 §5.5, §5.5.1)."""
    return reason.encode("utf-8", "replace")[:123].decode("utf-8", "ignore")
