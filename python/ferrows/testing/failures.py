"""``Failures``: what the handlers of an app raise while a test client is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errorpages import ErrorHandler
from ..exceptions import HTTPException
from ..signals import Signal

if TYPE_CHECKING:
    from ..app import App
    from ..request import Request
    from ..response import HTTPResponse

__all__ = ["Failures"]


class Failures:
    """What the handlers of an app raise and nobody handles, kept for the client whose connection it was."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._found: dict[Any, Exception] = {}
        self._handler: _Watching | None = None
        self._signal = Signal("websocket.handler.exception", self._websocket_failed)

    def watch(self) -> None:
        """Begin to watch; once."""
        if self._handler is None:
            self._handler = _Watching(self._app.error_handler, self._record)
            self._app.error_handler = self._handler
            self._app.signal_router.add(self._signal)

    def stop(self) -> None:
        """Leave the app as it was."""
        if self._handler is not None:
            if self._app.error_handler is self._handler:
                self._app.error_handler = self._handler.watched
            self._app.signal_router.remove(self._signal)
            self._handler = None

    def take(self, address: Any) -> Exception | None:
        """Return what the handler of the client with this address raised, once."""
        return self._found.pop(address, None)

    def take_any(self) -> Exception | None:
        """Return the first of all that is left, and forget the others."""
        found = next(iter(self._found.values()), None)
        self._found.clear()
        return found

    def _record(self, request: Request, error: Exception) -> None:
        info = request.conn_info
        # 404 and the like are how an application answers.
        if info is not None and (not isinstance(error, HTTPException) or error.status_code == 500):
            self._found.setdefault(info.peername, error)

    def _websocket_failed(self, request: Request, exception: Exception, **_: Any) -> None:
        self._record(request, exception)


class _Watching(ErrorHandler):
    """Another error handler, watched."""

    def __init__(self, watched: ErrorHandler, record: Callable[[Request, Exception], None]) -> None:
        super().__init__()
        self.watched = watched
        self._record = record

    def add(self, *args: Any, **kwargs: Any) -> None:
        self.watched.add(*args, **kwargs)

    def lookup(self, *args: Any, **kwargs: Any) -> Any:
        return self.watched.lookup(*args, **kwargs)

    def default(self, request: Request, exception: Exception) -> HTTPResponse:
        self._record(request, exception)
        return self.watched.default(request, exception)

    def log(self, request: Request, exception: Exception) -> None:
        self._record(request, exception)
        self.watched.log(request, exception)
