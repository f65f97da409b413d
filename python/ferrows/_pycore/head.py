"""The strict guard in front of the HTTP parser: a request's head, or the reason to refuse it (RFC 9110, RFC 9112).

What one parser takes for the end of a message and another does not is how requests are smuggled, so nothing is repaired
here: a head follows the grammar or it is refused. Two stages give one verdict however the bytes were cut: while a head
arrives, :class:`HeadReader` judges each byte by its position alone; when it is whole, :func:`parse_head` judges its
meaning.
"""

from __future__ import annotations

import ipaddress
import re
import sys
from collections.abc import Sequence
from typing import Final

from ..exceptions import (
    BadRequest,
    ExpectationFailed,
    HeaderFieldsTooLarge,
    HTTPException,
    NotImplementedByServer,
    URITooLong,
    VersionNotSupported,
)
from ..headers import parse_list

__all__ = ["METHODS", "Head", "HeadReader"]


class Head:
    """A head that follows the grammar, with what it says about the connection and about its body."""

    __slots__ = (
        "_section",
        "chunked",
        "content_length",
        "expect_continue",
        "keep_alive",
        "method",
        "raw",
        "target",
        "version",
        "websocket",
    )

    def __init__(self, raw: bytes, section: int, method: str, target: bytes, version: str) -> None:
        #: The head's own bytes, with the empty line.
        self.raw = raw
        self._section = section
        self.method = method
        self.target = target
        self.version = version
        self.content_length = 0
        self.chunked = False
        self.keep_alive = False
        self.expect_continue = False
        self.websocket = False

    @property
    def has_body(self) -> bool:
        return self.chunked or self.content_length > 0

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Names and values in order; a new list each time."""
        headers: list[tuple[bytes, bytes]] = _HEADER.findall(self.raw, self._section)
        if _has_trailing_space(self.raw):
            headers = [(name, value.rstrip(b" \t")) for name, value in headers]
        return headers

    def getall(self, name: str) -> list[str]:
        """Return the values of a header, whose name is given in lower case, in order."""
        # What is not ASCII names no header; a question mark is no token either.
        wanted = name.encode("ascii", "replace")
        found = [value for known, value in self.headers if known.lower() == wanted]
        return [value.decode("utf-8", "surrogateescape") for value in found]

    def select(self, names: Sequence[str]) -> list[list[str]]:
        """Return what :meth:`getall` does for each of the names."""
        return [self.getall(name) for name in names]


# --------------------------------------------------------------------------------------------------------------------
# While it arrives

# The longest method that is known and the version, with the spaces around the target.
_REQUEST_LINE_EXTRA: Final = 32

# Controls, LF without CR, CR without LF. A CR at the end is judged with the byte that follows.
_BAD_OCTET: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?=[^\n])")


class HeadReader:
    """Collects one head.

    No byte is searched twice, apart from the three that may begin an end, and none is kept beyond the limits.
    """

    __slots__ = (
        "_buffer",
        "_header_limit",
        "_line_end",
        "_line_feeds",
        "_size_limit",
        "_skipped_line",
        "_target_limit",
        "started",
    )

    def __init__(self, target: int, header_size: int, headers: int) -> None:
        self._target_limit = target
        self._size_limit = header_size
        self._header_limit = headers
        self._buffer: bytes | bytearray = b""
        self._line_end = -1
        self._line_feeds = 0
        self._skipped_line = False
        self.started = False

    def beginning(self, size: int) -> bytes:
        """Return at most ``size`` bytes from the beginning of a head that is not whole or was refused; for the log."""
        return bytes(self._buffer[:size])

    def receive_data(self, data: bytes) -> tuple[Head, bytes] | None:
        """Return the head and the bytes after it, or None while it is not whole.

        Raises an :class:`HTTPException` as soon as the head cannot become a valid one by its octets or its size. The
        reader is not to be used after either.
        """
        self.started = True
        scanned = len(self._buffer)
        if not scanned:
            self._buffer = data
        else:
            if isinstance(self._buffer, bytes):
                self._buffer = bytearray(self._buffer)
            self._buffer += data

        # RFC 9112 §2.2: an empty line before the request line SHOULD be ignored; one, as a client may end a body so.
        if not self._skipped_line and self._buffer.startswith(b"\r\n"):
            self._skipped_line = True
            self._buffer = bytes(self._buffer[2:])
            scanned = 0
        buffer = self._buffer

        end = buffer.find(b"\r\n\r\n", max(0, scanned - 3))
        stop = len(buffer) if end < 0 else end + 4
        self._line_feeds += buffer.count(b"\n", scanned, stop)
        if self._line_end < 0:
            self._line_end = buffer.find(b"\r\n", max(0, scanned - 1), stop)
        excess = self._first_excess(stop, whole=end >= 0)

        if end >= 0 and excess is None:
            raw = bytes(buffer[:stop])
            try:
                head = parse_head(raw, self._target_limit)
            except HTTPException:
                # The octets are judged before the meaning, as they would be if they came one by one.
                _check_octets(buffer, scanned, stop)
                raise
            return head, bytes(buffer[stop:])

        _check_octets(buffer, scanned, stop if excess is None else excess[0])
        if excess is not None:
            raise excess[1]
        return None

    def _first_excess(self, stop: int, *, whole: bool) -> tuple[int, HTTPException] | None:
        """Return where a limit is first exceeded, as a number of bytes received, and the error."""
        line_limit = self._target_limit + _REQUEST_LINE_EXTRA
        line_end = self._line_end
        if line_end == 0:
            return 2, BadRequest("empty request line")
        if line_end > line_limit or (line_end < 0 and stop > line_limit + 1):
            return line_limit + 2, _target_too_long(self._target_limit)
        if line_end < 0:
            return None

        excess: tuple[int, HTTPException] | None = None
        # The section ends before the empty line, of which the last byte or all may be here.
        section = line_end + 2
        size_limit = self._size_limit
        if (stop - section > size_limit + 2) or (not whole and stop - section > size_limit + 1):
            message = f"header section over {size_limit} bytes"
            excess = section + size_limit + 2, HeaderFieldsTooLarge(message)
        # One line feed ends the request line and, in a whole head, one the empty line.
        if self._line_feeds - (2 if whole else 1) > self._header_limit:
            position = -1
            for _ in range(self._header_limit + 2):
                position = self._buffer.find(b"\n", position + 1)
            if excess is None or position + 1 < excess[0]:
                excess = position + 1, HeaderFieldsTooLarge(f"over {self._header_limit} headers")
        return excess


def _check_octets(buffer: bytes | bytearray, start: int, stop: int) -> None:
    match = _BAD_OCTET.search(buffer, max(0, start - 1), stop)
    if match is None:
        return
    octet = match[0]
    if octet == b"\n":
        raise BadRequest("LF without CR in the head")
    if octet == b"\r":
        raise BadRequest("CR without LF in the head")
    raise BadRequest(f"control character 0x{octet[0]:02x} in the head")


# --------------------------------------------------------------------------------------------------------------------
# When it is whole

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
# The target is judged after the length and the version.
_REQUEST_LINE: Final = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]++) HTTP/([0-9])\.([0-9])")
# No space before the colon, and no line that begins with one (RFC 9112 §5.1, §5.2).
_HEADER_SECTION: Final = re.compile(rb"(?:" + _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*+\r\n)*+\r\n")
_HEADER: Final = re.compile(rb"([^:]++):[\t ]*+([^\r]*+)\r\n")

# The methods that httptools knows, without CONNECT: a server that is no proxy has nothing to tunnel to.
METHODS: Final = frozenset(
    re.findall(
        r"\S+",
        """
        ACL BIND CHECKOUT COPY DELETE GET HEAD LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL MOVE NOTIFY OPTIONS
        PATCH POST PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SUBSCRIBE TRACE UNBIND UNLINK UNLOCK
        UNSUBSCRIBE
        """,
    )
)

_DECIDING: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect"})


def parse_head(raw: bytes, target_limit: int) -> Head:
    """Parse a whole head, its empty line included; the first rule that it breaks decides which error is raised."""
    line_end = raw.index(b"\r\n")
    match = _REQUEST_LINE.fullmatch(raw, 0, line_end)
    if match is None:
        raise BadRequest("malformed request line")
    raw_method, target, major, minor = match.groups()
    version = f"{int(major)}.{int(minor)}"
    if version not in ("1.0", "1.1"):
        raise VersionNotSupported(f"HTTP/{version} is not supported, permitted: 1.0, 1.1")
    if len(target) > target_limit:
        raise _target_too_long(target_limit)
    method = raw_method.decode("ascii")
    if method not in METHODS:
        raise NotImplementedByServer(f"method {method[:32]} is not supported")
    _check_target(method, target)

    if not _HEADER_SECTION.fullmatch(raw, line_end + 2):
        raise BadRequest(_explain_header_section(raw, line_end + 2))
    # One object for all heads that say the same.
    head = Head(raw, line_end + 2, sys.intern(method), target, sys.intern(version))
    fields: dict[bytes, list[str]] = {}
    for name, value in head.headers:
        lowered = name.lower()
        if lowered in _DECIDING:
            fields.setdefault(lowered, []).append(value.decode("latin-1"))

    http_1_1 = version == "1.1"
    _check_host(fields.get(b"host", []), required=http_1_1)
    head.content_length, head.chunked = _framing(fields, http_1_1=http_1_1)
    connection = [option.lower() for option in parse_list(",".join(fields.get(b"connection", ())))]
    # RFC 6455 §4.1: a GET request. RFC 9110 §7.8: Upgrade in an HTTP/1.0 request MUST be ignored, and it needs its
    # connection option.
    head.websocket = (
        http_1_1
        and method == "GET"
        and b"upgrade" in fields
        and "upgrade" in connection
        and "websocket" in [protocol.lower() for protocol in parse_list(",".join(fields[b"upgrade"]))]
    )
    if head.websocket and head.has_body:
        # Frames follow such a head, so what comes next could be read as either. In other requests the upgrade is
        # declined and the body one like any other.
        raise BadRequest("a websocket upgrade with a body")
    head.keep_alive = "close" not in connection and (http_1_1 or "keep-alive" in connection)
    head.expect_continue = _expects_continue(fields.get(b"expect", []), http_1_1=http_1_1)
    return head


def _has_trailing_space(raw: bytes) -> bool:
    """Whether a header line ends with white space, which is no part of its value (RFC 9112 §5)."""
    # Two searches for a constant are faster than one for a pattern.
    return b" \r\n" in raw or b"\t\r\n" in raw


def _target_too_long(limit: int) -> HTTPException:
    return URITooLong(f"request target over {limit} bytes")


_ABSOLUTE_FORM: Final = re.compile(rb"(?:https?|wss?)://([^/?#]*+)(?:[/?].*+)?", re.IGNORECASE)


def _check_target(method: str, target: bytes) -> None:
    # RFC 9112 §3.2: origin-form, absolute-form, or the asterisk of OPTIONS; a fragment is never sent.
    if b"#" in target:
        raise BadRequest("fragment in the request target")
    if target.startswith(b"/") or (target == b"*" and method == "OPTIONS"):
        return
    match = _ABSOLUTE_FORM.fullmatch(target)
    if match is None or not _valid_host(match[1].decode("ascii")):
        raise BadRequest("malformed request target")


def _explain_header_section(raw: bytes, start: int) -> str:
    for line in raw[start:].split(b"\r\n"):
        if line[:1] in (b" ", b"\t"):
            return "folded header line"
        name, colon, _ = line.partition(b":")
        if line and not colon:
            return "header line without a colon"
        if name[-1:] in (b" ", b"\t"):
            return "space before the colon of a header"
        if line and not re.fullmatch(_TOKEN, name):
            return "header name is no token"
    return "malformed header section"


# RFC 3986 §3.2.2, §3.2.3. A registered name may be empty there, but not in an http URI (RFC 9110 §4.2.1).
_HOST: Final = re.compile(
    r"(?:\[([0-9A-Fa-f:.]+|[vV][0-9A-Fa-f]+\.[0-9A-Za-z\-._~!$&'()*+,;=:]+)\]"
    r"|(?:[0-9A-Za-z\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})++)(?::([0-9]*+))?"
)


def _valid_host(value: str) -> bool:
    """Whether a ``Host`` value follows ``uri-host [ ":" port ]`` (RFC 9110 §7.2)."""
    match = _HOST.fullmatch(value)
    if match is None:
        return False
    literal, port = match.groups()
    if port and (len(port) > 5 or int(port) > 65535):
        return False
    if literal and literal[0] not in "vV":
        try:
            ipaddress.IPv6Address(literal)
        except ValueError:
            return False
    return True


def _check_host(values: list[str], *, required: bool) -> None:
    # RFC 9112 §3.2: MUST answer 400 to a request without Host (1.1), with several, or with an invalid one.
    if len(values) > 1:
        raise BadRequest("several Host headers")
    if not values:
        if required:
            raise BadRequest("no Host header")
        return
    if not _valid_host(values[0]):
        raise BadRequest("invalid Host header")


def _framing(fields: dict[bytes, list[str]], *, http_1_1: bool) -> tuple[int, bool]:
    """Return the body's length and whether it is chunked instead (RFC 9112 §6.3)."""
    lengths = fields.get(b"content-length", [])
    if b"transfer-encoding" in fields:
        if not http_1_1:
            raise BadRequest("Transfer-Encoding in an HTTP/1.0 request")
        if lengths:
            raise BadRequest("Content-Length beside Transfer-Encoding")
        codings = [coding.lower() for coding in parse_list(",".join(fields[b"transfer-encoding"]))]
        if not codings or codings[-1] != "chunked":
            # The end of such a body cannot be told, so this MUST be 400.
            raise BadRequest("the last transfer coding is not chunked")
        if "chunked" in codings[:-1]:
            raise BadRequest("chunked twice in Transfer-Encoding")
        if len(codings) > 1:
            raise NotImplementedByServer("the only transfer coding supported is chunked")
        return 0, True
    if not lengths:
        return 0, False
    # §6.3 lets a list of equal values pass; a client that sends one has been tampered with, so we do not.
    if len(lengths) > 1:
        raise BadRequest("several Content-Length headers")
    if not (lengths[0].isascii() and lengths[0].isdigit()):
        raise BadRequest("invalid Content-Length")
    digits = lengths[0].lstrip("0") or "0"
    # More than the parser can count is beyond every limit too; it needs no exact number.
    return (int(digits) if len(digits) <= 18 else 10**18), False


def _expects_continue(values: list[str], *, http_1_1: bool) -> bool:
    # RFC 9110 §10.1.1: to be ignored in HTTP/1.0.
    if not values or not http_1_1:
        return False
    expectations = [expectation.lower() for expectation in parse_list(",".join(values))]
    if any(expectation != "100-continue" for expectation in expectations):
        raise ExpectationFailed("the only expectation supported is 100-continue")
    return bool(expectations)
