"""What a test client sends: the options of a request made into a head and a body."""

from __future__ import annotations

import json as json_module
import mimetypes
import os
from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias, TypedDict
from urllib.parse import quote, urlencode, urlsplit

from ..headers import Headers

__all__ = ["Content", "HeadersLike", "Outgoing", "RequestOptions"]

Content: TypeAlias = bytes | str | Iterable[bytes] | AsyncIterable[bytes]
HeadersLike: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]
Pairs: TypeAlias = Mapping[str, Any] | Iterable[tuple[str, Any]]


class RequestOptions(TypedDict, total=False):
    """The options of a request. At most one of ``json``, ``content`` and ``data`` (with or without ``files``)."""

    params: Pairs | None
    """Goes behind what the URL has as a query; a list is a name several times."""
    headers: HeadersLike | None
    cookies: Mapping[str, str] | None
    """For this request only."""
    json: Any
    content: Content | None
    """The body as it is; an iterable of bytes is sent in chunks."""
    data: Pairs | None
    """A form."""
    files: Mapping[str, Any] | None
    """Name -> bytes, an open file, or a tuple of filename, either of these, and perhaps the content type."""
    timeout: float | None


class Outgoing(NamedTuple):
    """A request to send."""

    method: str
    target: str
    head: bytes
    body: bytes | Iterable[bytes] | AsyncIterable[bytes]
    """An iterable is to be sent in chunks."""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @classmethod
    def of(
        cls, method: str, url: str, authority: str, headers: Headers, cookie: str, options: RequestOptions
    ) -> Outgoing:
        """Encode a request; TypeError and ValueError for options that do not go together."""
        unknown = options.keys() - RequestOptions.__annotations__.keys()
        if unknown:
            permitted = ", ".join(RequestOptions.__annotations__)
            raise TypeError(f"request option {min(unknown)!r} is unknown, permitted: {permitted}")
        body, content_type = _body(options)
        target = target_of(url, options.get("params"))
        headers = headers.copy()
        for name, value in Headers(options.get("headers") or ()).multi_items():
            headers[name] = value
        if "host" not in headers:
            headers["Host"] = authority
        if "user-agent" not in headers:
            headers["User-Agent"] = "ferrows-testing"
        if content_type and "content-type" not in headers:
            headers["Content-Type"] = content_type
        if cookie and "cookie" not in headers:
            headers["Cookie"] = cookie
        if not isinstance(body, bytes):
            headers["Transfer-Encoding"] = "chunked"
        elif (body or method in ("POST", "PUT", "PATCH")) and "content-length" not in headers:
            headers["Content-Length"] = len(body)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.multi_items())
        head = f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("utf-8", "surrogateescape")
        return cls(method, target, head, body)


def target_of(url: str, params: Pairs | None = None) -> str:
    """Return the path and the query to ask for; ValueError for a URL that has no path."""
    parts = urlsplit(url)
    if not parts.path.startswith("/") or parts.netloc or parts.scheme:
        raise ValueError(f"URL {url!r}, permitted: a path that begins with a slash, and a query")
    target = quote(parts.path, safe=_KEPT)
    pairs = list(params.items() if isinstance(params, Mapping) else params or ())
    added = urlencode([(name, value) for name, value in pairs if value is not None], doseq=True)
    query = "&".join(filter(None, (quote(parts.query, safe=_KEPT), added)))
    return f"{target}?{query}" if query else target


_KEPT = "/?:@!$&'()*+,;=-._~%"


def _body(options: RequestOptions) -> tuple[bytes | Iterable[bytes] | AsyncIterable[bytes], str]:
    """Return the body and its content type."""
    content, data, files = options.get("content"), options.get("data"), options.get("files")
    if ("json" in options) + (content is not None) + (data is not None or files is not None) > 1:
        raise ValueError("json, content, and data with files exclude each other")
    if "json" in options:
        text = json_module.dumps(options["json"], ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8"), "application/json"
    if content is not None:
        if isinstance(content, str):
            return content.encode("utf-8"), "text/plain; charset=utf-8"
        if isinstance(content, bytearray | memoryview):
            return bytes(content), ""
        return content, ""
    if files is not None:
        return _multipart(data or (), files)
    if data is not None:
        if isinstance(data, str | bytes):
            raise TypeError(
                f"data is {type(data).__name__}, permitted: a form's pairs; a body as it is goes by content="
            )
        return urlencode(list(_pairs(data)), doseq=True).encode("ascii"), "application/x-www-form-urlencoded"
    return b"", ""


def _pairs(data: Pairs) -> Iterable[tuple[str, Any]]:
    return data.items() if isinstance(data, Mapping) else data


def _multipart(data: Pairs, files: Mapping[str, Any]) -> tuple[bytes, str]:
    """A form with files (RFC 7578)."""
    boundary = os.urandom(16).hex()
    parts: list[bytes] = []
    for name, values in _pairs(data):
        for value in values if isinstance(values, list | tuple) else (values,):
            octets = value if isinstance(value, bytes) else str(value).encode("utf-8")
            parts.append(_part(boundary, f'name="{_quoted(name)}"', "", octets))
    for name, given in files.items():
        filename, content, content_type = _file(name, given)
        described = f'name="{_quoted(name)}"; filename="{_quoted(filename)}"'
        parts.append(_part(boundary, described, f"Content-Type: {content_type}\r\n", content))
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def _part(boundary: str, described: str, more: str, content: bytes) -> bytes:
    head = f"--{boundary}\r\nContent-Disposition: form-data; {described}\r\n{more}\r\n"
    return head.encode("utf-8") + content + b"\r\n"


def _quoted(text: str) -> str:
    """As browsers do (RFC 7578 §2)."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _file(name: str, given: Any) -> tuple[str, bytes, str]:
    filename, content, content_type = name, given, None
    if isinstance(given, tuple):
        filename, content, *rest = given
        content_type = rest[0] if rest else None
    if hasattr(content, "read"):
        filename = filename if isinstance(given, tuple) else os.path.basename(str(getattr(content, "name", name)))
        content = content.read()
    octets = content.encode("utf-8") if isinstance(content, str) else bytes(content)
    return filename, octets, content_type or mimetypes.guess_type(filename)[0] or "application/octet-stream"
