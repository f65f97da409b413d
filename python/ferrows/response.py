"""Response: what a handler answers with, and the functions that make one."""

from __future__ import annotations

import asyncio
import errno
import json as json_module
import mimetypes
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, Protocol
from urllib.parse import quote

from .cookies import Cookie, CookieJar
from .exceptions import ServerError, ServiceUnavailable
from .headers import Headers
from .log import error_logger

__all__ = [
    "HTTPResponse",
    "JSONResponse",
    "ResponseStream",
    "empty",
    "file",
    "file_stream",
    "html",
    "json",
    "raw",
    "redirect",
    "text",
]

HeaderInput = Headers | Mapping[str, Any] | Iterable[tuple[str, Any]] | None


class ResponseSink(Protocol):
    """Where a streamed response goes; the protocol's."""

    async def send(self, data: bytes, end: bool) -> None: ...


class HTTPResponse:
    """A response whose body is known, or one to stream (see :meth:`Request.respond`).

    ``Content-Length``, ``Date``, ``Transfer-Encoding`` and ``Connection`` are the server's to write. ValueError for a
    status that is none of 200 to 599 and for header values that would end their line.
    """

    __slots__ = ("_cookies", "_ended", "body", "headers", "sink", "status")

    def __init__(
        self,
        body: str | bytes | None = None,
        status: int = 200,
        headers: HeaderInput = None,
        content_type: str | None = None,
    ) -> None:
        try:
            permitted = 200 <= status <= 599
        except TypeError:
            permitted = False
        if not permitted:
            raise ValueError(f"status is {status!r}, permitted: 200 to 599")
        self.body = _encode(body)
        self.status = status
        self.headers = Headers(headers)
        if content_type is not None:
            self.headers["Content-Type"] = content_type
        self.sink: ResponseSink | None = None
        self._cookies: CookieJar | None = None
        self._ended = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.status} {self.content_type or ''}>"

    @property
    def content_type(self) -> str | None:
        return self.headers.get("content-type")

    @content_type.setter
    def content_type(self, value: str) -> None:
        self.headers["Content-Type"] = value

    @property
    def cookies(self) -> CookieJar:
        """The cookies to set; ``response.cookies["name"] = "value"`` or :meth:`add_cookie`."""
        if self._cookies is None:
            self._cookies = CookieJar()
        return self._cookies

    def add_cookie(self, key: str, value: str, **attributes: Any) -> Cookie:
        """Set a cookie; see :class:`ferrows.cookies.Cookie` for the attributes."""
        return self.cookies.add_cookie(key, value, **attributes)

    def delete_cookie(self, key: str, **attributes: Any) -> Cookie:
        """Tell the client to forget a cookie."""
        return self.cookies.delete_cookie(key, **attributes)

    def fields(self) -> list[tuple[str, str]]:
        """Return the header fields, cookies included, without those that the server writes."""
        return [*self.headers.multi_items(), *(("Set-Cookie", str(cookie)) for cookie in self.cookies_to_set())]

    def cookies_to_set(self) -> Iterable[Cookie]:
        """Return what each ``Set-Cookie`` field is to hold."""
        return self._cookies or ()

    async def send(self, data: str | bytes | None = None, end_stream: bool | None = None) -> None:
        """Send a piece of a streamed response and wait while the client does not read.

        Without ``data`` the response ends, as with ``end_stream=True``. ServerError where the response is not being
        streamed or has ended.
        """
        if self.sink is None:
            raise ServerError("response is not streamed: await request.respond() first")
        if self._ended:
            if data is None:
                return
            raise ServerError("response has ended")
        if end_stream is None:
            end_stream = data is None
        piece = _encode(data)
        if self.body:
            piece, self.body = self.body + piece, b""
        self._ended = end_stream
        await self.sink.send(piece, end_stream)

    write = send

    async def eof(self) -> None:
        """End a streamed response; does nothing when it has ended."""
        await self.send(None, True)


class JSONResponse(HTTPResponse):
    """A response of JSON that keeps the object that it was made from, as ``raw_body``."""

    __slots__ = ("raw_body",)

    def __init__(
        self,
        body: Any = None,
        status: int = 200,
        headers: HeaderInput = None,
        content_type: str = "application/json",
        dumps: Callable[..., str | bytes] | None = None,
        **options: Any,
    ) -> None:
        self.raw_body = body
        encoded = _dumps(body, **options) if dumps is None else dumps(body, **options)
        super().__init__(encoded, status, headers, content_type)


class ResponseStream(HTTPResponse):
    """A response whose body a coroutine function writes: it is called with the response, and awaits ``send`` on it."""

    __slots__ = ("streaming_fn",)

    def __init__(
        self,
        streaming_fn: Callable[[HTTPResponse], Awaitable[Any]],
        status: int = 200,
        headers: HeaderInput = None,
        content_type: str | None = None,
    ) -> None:
        super().__init__(None, status, headers, content_type)
        self.streaming_fn = streaming_fn

    async def run(self) -> None:
        """Write the body, once :attr:`sink` is set."""
        await self.streaming_fn(self)
        await self.eof()


# --------------------------------------------------------------------------------------------------------------------
# One function for each kind


def empty(status: int = 204, headers: HeaderInput = None) -> HTTPResponse:
    """Make a response without a body."""
    return HTTPResponse(b"", status, headers)


def raw(
    body: str | bytes | None,
    status: int = 200,
    headers: HeaderInput = None,
    content_type: str = "application/octet-stream",
) -> HTTPResponse:
    """Make a response of bytes."""
    return HTTPResponse(body, status, headers, content_type)


def text(
    body: str, status: int = 200, headers: HeaderInput = None, content_type: str = "text/plain; charset=utf-8"
) -> HTTPResponse:
    """Make a response of text; TypeError for anything but a string."""
    if not isinstance(body, str):
        raise TypeError(f"body is {type(body).__name__}, permitted: str")
    return HTTPResponse(body, status, headers, content_type)


def html(body: Any, status: int = 200, headers: HeaderInput = None) -> HTTPResponse:
    """Make a page of a string, of bytes, or of an object with ``__html__`` or ``_repr_html_``; nothing is escaped."""
    if not isinstance(body, str | bytes):
        method = getattr(body, "__html__", None) or getattr(body, "_repr_html_", None)
        if method is None:
            raise TypeError(f"body is {type(body).__name__}, permitted: str, bytes, an object with __html__")
        body = method()
    return HTTPResponse(body, status, headers, "text/html; charset=utf-8")


def json(
    body: Any,
    status: int = 200,
    headers: HeaderInput = None,
    content_type: str = "application/json",
    dumps: Callable[..., str | bytes] | None = None,
    **options: Any,
) -> JSONResponse:
    """Make a response of JSON; ``options`` go to ``dumps`` (the standard library's, compact, by default)."""
    return JSONResponse(body, status, headers, content_type, dumps, **options)


def redirect(
    to: str, headers: HeaderInput = None, status: int = 302, content_type: str = "text/html; charset=utf-8"
) -> HTTPResponse:
    """Send the client elsewhere; what a URL cannot hold is percent-encoded."""
    response = HTTPResponse(b"", status, headers, content_type)
    response.headers["Location"] = quote(to, safe=":/%#?&=@[]!$&'()*+,;~")
    return response


async def file(
    location: str | os.PathLike[str],
    status: int = 200,
    request_headers: Mapping[str, str] | None = None,
    validate_when_requested: bool = True,
    mime_type: str | None = None,
    headers: HeaderInput = None,
    filename: str | None = None,
    max_age: int | None = None,
    no_store: bool | None = None,
) -> HTTPResponse:
    """Make a response of a file's content, read whole in a thread.

    With ``request_headers`` conditional requests (RFC 9110 §13) are answered with 304, and a single range (§14) with
    206 or 416. ``filename`` makes the browser save it under that name. OSError where the file cannot be read.
    """
    prepared = await asyncio.to_thread(
        _prepare, Path(location), request_headers or {}, validate_when_requested and status == 200
    )
    response = HTTPResponse(None, prepared.status or status, headers)
    _describe(response, prepared, mime_type, filename, max_age, no_store)
    if prepared.sends_content:
        response.body = await asyncio.to_thread(_read, prepared)
    return response


async def file_stream(
    location: str | os.PathLike[str],
    status: int = 200,
    chunk_size: int = 65536,
    mime_type: str | None = None,
    headers: HeaderInput = None,
    filename: str | None = None,
    request_headers: Mapping[str, str] | None = None,
    max_age: int | None = None,
    no_store: bool | None = None,
) -> ResponseStream:
    """Make a response that reads a file while it is sent, ``chunk_size`` bytes at a time; else like :func:`file`."""
    prepared = await asyncio.to_thread(_prepare, Path(location), request_headers or {}, status == 200)

    async def copy(response: HTTPResponse) -> None:
        if prepared.sends_content:
            async for piece in _pieces(prepared, chunk_size):
                await response.send(piece)

    response = ResponseStream(copy, prepared.status or status, headers)
    _describe(response, prepared, mime_type, filename, max_age, no_store)
    if prepared.sends_content:
        response.headers["Content-Length"] = prepared.stop - prepared.start
    return response


# --------------------------------------------------------------------------------------------------------------------
# Files


class _Prepared(NamedTuple):
    """A file as the request wants it: which status, and which of its bytes."""

    path: Path
    status: int | None
    start: int
    stop: int
    size: int
    etag: str
    last_modified: str

    @property
    def sends_content(self) -> bool:
        return self.status in (None, 206)


def _prepare(path: Path, request_headers: Mapping[str, str], conditional: bool) -> _Prepared:
    stat = path.stat()
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file")
    size = stat.st_size
    modified = int(stat.st_mtime)
    # Strong: it changes with every write that the file system can tell apart.
    etag = f'"{stat.st_mtime_ns:x}-{size:x}"'
    last_modified = formatdate(modified, usegmt=True)
    status: int | None = None
    start, stop = 0, size
    if conditional:
        if _is_unmodified(request_headers, etag, modified):
            status = 304
        elif _range_applies(request_headers, etag, last_modified):
            found = _parse_range(request_headers.get("range", ""), size)
            if found is not None:
                start, stop = found
                status = 206 if start < stop else 416
    return _Prepared(path, status, start, stop, size, etag, last_modified)


def _is_unmodified(headers: Mapping[str, str], etag: str, modified: int) -> bool:
    # RFC 9110 §13.2.2: If-Modified-Since counts only without If-None-Match.
    tags = headers.get("if-none-match")
    if tags is not None:
        return tags.strip() == "*" or etag in [tag.strip().removeprefix("W/") for tag in tags.split(",")]
    since = headers.get("if-modified-since")
    if since is None:
        return False
    try:
        return modified <= parsedate_to_datetime(since).timestamp()
    except (ValueError, OverflowError):
        return False


def _range_applies(headers: Mapping[str, str], etag: str, last_modified: str) -> bool:
    # §13.1.5: a range of another version of the file would not fit what the client has.
    condition = headers.get("if-range")
    return condition is None or condition in (etag, last_modified)


_RANGE: Final = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)


def _parse_range(value: str, size: int) -> tuple[int, int] | None:
    """Return start and stop of one range, an empty one where it cannot be satisfied, None to ignore it (§14.2)."""
    match = _RANGE.fullmatch(value)
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    start, stop = int(first), min(size, int(last) + 1) if last else size
    if last and int(last) < start:
        return None
    return (start, stop) if start < size else (0, 0)


def _describe(
    response: HTTPResponse,
    prepared: _Prepared,
    mime_type: str | None,
    filename: str | None,
    max_age: int | None,
    no_store: bool | None,
) -> None:
    """Set the header fields that follow from the file, unless the caller has set them."""
    response.headers.setdefault("ETag", prepared.etag)
    response.headers.setdefault("Last-Modified", prepared.last_modified)
    response.headers.setdefault("Accept-Ranges", "bytes")
    if no_store:
        response.headers.setdefault("Cache-Control", "no-store")
    elif max_age is not None:
        response.headers.setdefault("Cache-Control", f"max-age={max_age}")
    if prepared.status == 416:
        response.headers["Content-Range"] = f"bytes */{prepared.size}"
    if not prepared.sends_content:
        return
    if prepared.status == 206:
        response.headers["Content-Range"] = f"bytes {prepared.start}-{prepared.stop - 1}/{prepared.size}"
    if filename is not None:
        # RFC 6266 §4.3: both forms, the second for what ASCII cannot say.
        plain = re.sub(r'[^\x20-\x7e]|["\\]', "_", filename)
        encoded = quote(filename, safe="")
        disposition = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"
        response.headers.setdefault("Content-Disposition", disposition)
    response.headers.setdefault("Content-Type", mime_type or _media_type(filename or prepared.path.name))


def _media_type(name: str) -> str:
    media_type, encoding = mimetypes.guess_type(name)
    if encoding is not None:
        # The file is the archive; the client is not to unpack it on the way.
        return "application/gzip" if encoding == "gzip" else "application/octet-stream"
    if media_type is None:
        return "application/octet-stream"
    return f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type


def _open(prepared: _Prepared) -> BinaryIO:
    """Open the file; ServiceUnavailable where the process or the machine has no descriptor or memory left for that."""
    try:
        return prepared.path.open("rb")
    except OSError as error:
        if error.errno not in _USED_UP:
            raise
        error_logger.warning("file %s cannot be sent: %s", prepared.path, error.strerror)
        raise ServiceUnavailable(quiet=True) from None


_USED_UP: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def _read(prepared: _Prepared) -> bytes:
    with _open(prepared) as opened:
        opened.seek(prepared.start)
        return opened.read(prepared.stop - prepared.start)


async def _pieces(prepared: _Prepared, size: int) -> AsyncIterator[bytes]:
    opened = await asyncio.to_thread(_open, prepared)
    try:
        opened.seek(prepared.start)
        remaining = prepared.stop - prepared.start
        while remaining > 0:
            piece = await asyncio.to_thread(opened.read, min(size, remaining))
            if not piece:
                return
            remaining -= len(piece)
            yield piece
    finally:
        opened.close()


def _encode(data: Any) -> bytes:
    if data is None:
        return b""
    if isinstance(data, str):
        return data.encode("utf-8")
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    raise TypeError(f"body is {type(data).__name__}, permitted: str, bytes")


def _dumps(body: Any, **options: Any) -> str:
    options.setdefault("separators", (",", ":"))
    return json_module.dumps(body, **options)
