"""Error pages: exceptions -> responses, as text, JSON or HTML, and the one log line or traceback that each gets.

The form is what ``FALLBACK_ERROR_FORMAT`` or the route's ``error_format`` says; with ``auto`` it is what the client
accepts most, text if it says nothing. A traceback is in a page in debug mode only.
"""

from __future__ import annotations

import html
import inspect
import json
import traceback
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from .exceptions import HTTPException, ServerError
from .headers import parse_list
from .log import error_logger
from .response import HTTPResponse

if TYPE_CHECKING:
    from .request import Request

__all__ = ["ErrorHandler", "error_page"]

Handler = Callable[..., Any]

ERROR_FORMATS: Final = ("auto", "text", "json", "html")


class ErrorHandler:
    """The exception handlers of an app. To change what happens without one, give the app a subclass of this."""

    def __init__(self) -> None:
        self._handlers: dict[tuple[type[BaseException], str | None], Handler] = {}

    def add(self, exception: type[BaseException], handler: Handler, blueprint: str | None = None) -> None:
        """Register ``handler(request, exception)`` for one blueprint's routes or all; ValueError if there is one."""
        key = (exception, blueprint)
        if key in self._handlers:
            raise ValueError(f"there is a handler for {exception.__name__} already: {self._handlers[key]!r}")
        self._handlers[key] = handler

    def lookup(self, exception: BaseException, blueprint: str | None = None) -> Handler | None:
        """The handler of the most specific class that the exception is of, a blueprint's own before the app's."""
        if self._handlers:
            for name in dict.fromkeys((blueprint, None)):
                for cls in type(exception).__mro__:
                    handler = self._handlers.get((cls, name))
                    if handler is not None:
                        return handler
        return None

    def default(self, request: Request, exception: Exception) -> HTTPResponse:
        """Log the exception and make its page; what happens without a handler."""
        self.log(request, exception)
        return error_page(request, exception)

    def log(self, request: Request, exception: Exception) -> None:
        """Log an exception with its traceback, unless it is a quiet one."""
        if not getattr(exception, "quiet", False):
            error_logger.error(
                "%s %s from %s failed",
                request.method,
                request.path,
                request.remote_addr or "a local peer",
                exc_info=exception,
            )


def error_page(request: Request, exception: Exception) -> HTTPResponse:
    """The response that an exception means: its status, headers and message, or a plain 500."""
    if isinstance(exception, HTTPException):
        status, message, headers = exception.status_code, exception.message, exception.headers
    else:
        status, message, headers = 500, _INTERNAL, {}
    form = _form(request)
    content_type, render = _FORMS[form]
    body = render(request, exception, status, message, request.app.debug)
    return HTTPResponse(body, status=status, headers=headers, content_type=content_type)


_INTERNAL: Final = "The server encountered an internal error and cannot complete your request."


def _form(request: Request) -> str:
    form = getattr(request.route, "error_format", None) or request.app.config.FALLBACK_ERROR_FORMAT
    return form if form != "auto" else _accepted(request)


_MEDIA_TYPES: Final = {
    "text/plain": "text",
    "application/json": "json",
    "text/html": "html",
    "text/*": "text",
    "application/*": "json",
}


def _accepted(request: Request) -> str:
    """What the client prefers (RFC 9110 §12.5.1); the first of equal weight, text where it does not say."""
    best, form = 0.0, ""
    for element in parse_list(request.headers.combined("accept")):
        media_type, *parameters = (part.strip().lower() for part in element.split(";"))
        weight = next((_weight(parameter[2:]) for parameter in parameters if parameter.startswith("q=")), 1.0)
        if media_type in _MEDIA_TYPES and weight > best:
            best, form = weight, _MEDIA_TYPES[media_type]
    if form:
        return form
    # A client that sends JSON and does not say what it takes can read it.
    return "json" if request.content_type.startswith("application/json") else "text"


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0


# --------------------------------------------------------------------------------------------------------------------
# Pages


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown Error"


def _traceback(exception: Exception) -> str:
    return "".join(traceback.format_exception(exception))


def _details(exception: Exception, debug: bool) -> dict[str, Any]:
    """What the exception says beyond its message: ``context`` always, ``extra`` in debug mode."""
    details: dict[str, Any] = {}
    if isinstance(exception, HTTPException):
        if exception.context:
            details["context"] = dict(exception.context)
        if debug and exception.extra:
            details["extra"] = dict(exception.extra)
    return details


def _shows_traceback(exception: Exception, status: int, debug: bool) -> bool:
    return debug and status >= 500


def _text(request: Request, exception: Exception, status: int, message: str, debug: bool) -> str:
    page = f"{status} {_title(status)}\n\n{message}\n"
    for name, values in _details(exception, debug).items():
        page += f"\n{name}\n" + "".join(f"    {key}: {value!r}\n" for key, value in values.items())
    if _shows_traceback(exception, status, debug):
        page += f"\n{request.method} {request.path}\n\n{_traceback(exception)}"
    return page


def _json(request: Request, exception: Exception, status: int, message: str, debug: bool) -> str:
    page: dict[str, Any] = {"description": _title(status), "status": status, "message": message}
    page.update(_details(exception, debug))
    if _shows_traceback(exception, status, debug):
        page["path"] = request.path
        page["exception"] = f"{type(exception).__name__}: {exception}"
        page["traceback"] = _traceback(exception).splitlines()
    return json.dumps(page, default=repr)


def _html(request: Request, exception: Exception, status: int, message: str, debug: bool) -> str:
    title = f"{status} {_title(status)}"
    parts = [f"<h1>{html.escape(title)}</h1>", f"<p>{html.escape(message)}</p>"]
    for name, values in _details(exception, debug).items():
        rows = "".join(
            f"<dt>{html.escape(str(key))}</dt><dd>{html.escape(repr(value))}</dd>" for key, value in values.items()
        )
        parts.append(f"<h2>{name}</h2><dl>{rows}</dl>")
    if _shows_traceback(exception, status, debug):
        parts.append(f"<h2>{html.escape(f'{request.method} {request.path}')}</h2>")
        parts.append(f"<pre>{html.escape(_traceback(exception))}</pre>")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        "<style>body{font:16px/1.5 system-ui,sans-serif;margin:3rem auto;max-width:60rem;padding:0 1rem}"
        "pre{overflow:auto;background:#f4f4f4;padding:1rem}</style>\n" + "\n".join(parts) + "\n</html>\n"
    )


_FORMS: Final[dict[str, tuple[str, Callable[[Any, Exception, int, str, bool], str]]]] = {
    "text": ("text/plain; charset=utf-8", _text),
    "json": ("application/json", _json),
    "html": ("text/html; charset=utf-8", _html),
}


def invalid_response(request: Request, response: object) -> ServerError:
    """The error of a handler that returned something that is no response."""
    name = getattr(request.route, "name", request.path)
    hint = "is an await missing?" if inspect.isawaitable(response) else "see text, json, html of ferrows.response"
    return ServerError(f"handler {name!r} returned {type(response).__name__}, permitted: an HTTPResponse; {hint}")
