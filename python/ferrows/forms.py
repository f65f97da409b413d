"""Forms: bodies of ``application/x-www-form-urlencoded`` and ``multipart/form-data`` (RFC 7578), strict and bounded."""

from __future__ import annotations

import re
from binascii import a2b_qp
from typing import Final, NamedTuple

from .exceptions import BadRequest, PayloadTooLarge
from .headers import MultiDict, parse_parameters

__all__ = ["File", "decode_text", "parse_form"]

MAX_FIELDS: Final = 1000
"""Fields and files together: each costs objects, whatever its size."""

MAX_PART_HEADER_SIZE: Final = 8192

# RFC 2046 §5.1.1: a boundary does not end with a space.
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_PART_HEADER: Final = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]++):[ \t]*+([^\x00-\x08\x0a-\x1f\x7f]*)")
_DISPOSITION_PARAMETER: Final = re.compile(r"""[ \t]*+;[ \t]*+([A-Za-z*]++)=(?:"([^"]*+)"|([^\s";]++))""")
# What browsers write for the three characters that a quoted name cannot hold (WHATWG HTML, "multipart/form-data").
_ESCAPES: Final = re.compile("%0D%0A|%0D|%0A|%22", re.IGNORECASE)
_UNESCAPED: Final = {"%0D%0A": "\r\n", "%0D": "\r", "%0A": "\n", "%22": '"'}


class File(NamedTuple):
    """An uploaded file: its media type, its content, and the name that the client gives it.

    The name is the client's word; never use it as a path.
    """

    type: str
    body: bytes
    name: str


def parse_form(content_type: str, body: bytes) -> tuple[MultiDict, MultiDict]:
    """Parse a body into its fields (str) and its files (:class:`File`); both are empty for any other media type.

    BadRequest: the body does not follow its media type. PayloadTooLarge: more than ``MAX_FIELDS`` fields.
    """
    try:
        media_type, parameters = parse_parameters(content_type)
    except ValueError as error:
        raise BadRequest(str(error)) from None
    if media_type == "application/x-www-form-urlencoded":
        return _parse_urlencoded(body), MultiDict()
    if media_type == "multipart/form-data":
        return _parse_multipart(body, parameters.get("boundary", ""))
    return MultiDict(), MultiDict()


# A closed list: a codec looked up by a name of the client's choice may be slow, and each name costs memory for ever.
_CHARSETS: Final = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "iso-8859-1": "latin-1",
    "windows-1252": "cp1252",
    "utf-16": "utf-16",
}


def decode_text(body: bytes, charset: str) -> str:
    """Decode by a charset's name; ValueError where the charset is unknown or the octets are not of it."""
    codec = _CHARSETS.get(charset.lower())
    if codec is None:
        raise ValueError(f"charset {charset!r}, permitted: {', '.join(_CHARSETS)}")
    return body.decode(codec)


def _parse_urlencoded(body: bytes) -> MultiDict:
    if body.count(b"&") >= MAX_FIELDS:
        raise PayloadTooLarge(f"form with over {MAX_FIELDS} fields")
    fields = MultiDict()
    try:
        for pair in body.split(b"&"):
            if pair:
                name, _, value = pair.partition(b"=")
                fields.add(_decoded(name), _decoded(value))
    except UnicodeDecodeError:
        raise BadRequest("form is not UTF-8") from None
    return fields


def _decoded(octets: bytes) -> str:
    # Judged before its escapes are decoded too: they make no UTF-8 of halves.
    octets.decode("utf-8")
    return _unquoted(octets.replace(b"+", b" ")).decode("utf-8")


# A percent sign that begins no escape stands for itself (WHATWG URL, "percent-decode").
_LONE_PERCENT: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")

_PIECE: Final = 8 * 1024


def _unquoted(octets: bytes) -> bytes:
    """Decode percent escapes at some nanoseconds an octet, with little more memory than the result has.

    The standard library's ``unquote`` makes objects of each escape: 30 MB of them took 5 GB and held the loop for half
    a minute. Quoted-printable has the same escapes behind another sign, and a decoder in C.
    """
    if b"%" not in octets:
        return octets
    decoded = bytearray()
    at = 0
    while at < len(octets):
        end = at + _PIECE
        if end < len(octets) and (cut := octets.rfind(b"%", end - 2, end)) >= 0:
            end = cut
        piece = _LONE_PERCENT.sub(b"%25", octets[at:end])
        decoded += a2b_qp(piece.replace(b"=", b"%3D").replace(b"%", b"="))
        at = end
    return bytes(decoded)


def _parse_multipart(body: bytes, boundary: str) -> tuple[MultiDict, MultiDict]:
    if not _BOUNDARY.fullmatch(boundary):
        raise BadRequest("multipart form without a valid boundary")
    fields, files = MultiDict(), MultiDict()
    delimiter = b"\r\n--" + boundary.encode("ascii")
    # The first delimiter may stand at the very beginning; what comes before it is to be ignored.
    at = len(delimiter) - 2 if body.startswith(delimiter[2:]) else _after(body, delimiter, 0)
    for _ in range(MAX_FIELDS + 1):
        if body.startswith(b"--", at):
            return fields, files
        at = _after(body, b"\r\n", at, blank_before=True)
        # A part without headers would begin with the empty line, but Content-Disposition is required.
        head_end = body.find(b"\r\n\r\n", at, at + MAX_PART_HEADER_SIZE + 4)
        if head_end < 0:
            raise BadRequest("multipart form has a part without an end of its headers")
        headers = _parse_part_headers(body[at:head_end])
        end = body.find(delimiter, head_end + 2)
        if end < 0:
            raise BadRequest("multipart form without its last boundary")
        _add_part(headers, body[head_end + 4 : end], fields, files)
        at = end + len(delimiter)
    raise PayloadTooLarge(f"form with over {MAX_FIELDS} fields")


def _after(body: bytes, separator: bytes, at: int, *, blank_before: bool = False) -> int:
    found = body.find(separator, at)
    if found < 0 or (blank_before and body[at:found].strip(b" \t")):
        raise BadRequest("multipart form has a malformed boundary")
    return found + len(separator)


def _parse_part_headers(head: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    try:
        lines = head.decode("utf-8").split("\r\n")
    except UnicodeDecodeError:
        raise BadRequest("headers of a part are not UTF-8") from None
    for line in lines:
        match = _PART_HEADER.fullmatch(line)
        if match is None or match[1].lower() in headers:
            raise BadRequest("multipart form has a part with a malformed header")
        headers[match[1].lower()] = match[2].strip(" \t")
    return headers


def _add_part(headers: dict[str, str], content: bytes, fields: MultiDict, files: MultiDict) -> None:
    name, file_name = _parse_disposition(headers.get("content-disposition", ""))
    try:
        media_type, parameters = parse_parameters(headers.get("content-type", "text/plain"))
        if file_name:
            files.add(name, File(media_type, content, file_name))
        else:
            fields.add(name, decode_text(content, parameters.get("charset", "utf-8")))
    except ValueError:
        raise BadRequest(f"field {name!r} cannot be decoded") from None


def _parse_disposition(value: str) -> tuple[str, str | None]:
    """Return the names of the field and of the file (RFC 7578 §4.2)."""
    kind, _, _ = value.partition(";")
    parameters: dict[str, str] = {}
    at = len(kind)
    while at < len(value):
        match = _DISPOSITION_PARAMETER.match(value, at)
        if match is None or match[1].lower() in parameters:
            raise BadRequest("multipart form has a part with a malformed Content-Disposition")
        quoted = match[2]
        parameters[match[1].lower()] = match[3] if quoted is None else _ESCAPES.sub(_unescape, quoted)
        at = match.end()
    if kind.strip(" \t").lower() != "form-data" or "name" not in parameters:
        raise BadRequest("multipart form has a part without a name")
    return parameters["name"], parameters.get("filename")


def _unescape(match: re.Match[str]) -> str:
    return _UNESCAPED[match[0].upper()]
