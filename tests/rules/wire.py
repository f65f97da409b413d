"""The wire format as the RFCs give it, written apart from the product so that the two can be compared.

Slow and plain on purpose. What is built here may be wrong in any way a test wants; what is parsed here must be right.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

RSV1, RSV2, RSV3 = 0b100, 0b010, 0b001

MASK = b"\x37\xfa\x21\x3d"
"""The masking key of RFC 6455 §5.7."""

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
"""The key of RFC 6455 §1.3; its Accept value is given there."""

ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

TAIL = b"\x00\x00\xff\xff"


# Frames (RFC 6455 §5.2)


def mask_payload(payload: bytes, key: bytes) -> bytes:
    """XOR octet i with octet i mod 4 of the key (§5.3)."""
    return bytes(octet ^ key[index % 4] for index, octet in enumerate(payload))


def header(
    opcode: int,
    length: int,
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    form: int | None = None,
    key: bytes = MASK,
) -> bytes:
    """Encode a frame header.

    ``form`` forces the length encoding (7, 16 or 64 bits) whether or not it is the shortest.
    """
    if form is None:
        form = 7 if length < 126 else 16 if length < 2**16 else 64
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    bit = 0x80 if masked else 0
    if form == 7:
        head = bytes([first, bit | length])
    elif form == 16:
        head = bytes([first, bit | 126]) + length.to_bytes(2, "big")
    else:
        head = bytes([first, bit | 127]) + length.to_bytes(8, "big")
    return head + key if masked else head


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    form: int | None = None,
    key: bytes = MASK,
) -> bytes:
    """Encode a frame, as a client does unless ``masked`` is False."""
    head = header(opcode, len(payload), fin=fin, rsv=rsv, masked=masked, form=form, key=key)
    return head + (mask_payload(payload, key) if masked else payload)


def text(data: str) -> bytes:
    return frame(TEXT, data.encode())


def close(code: int | None = None, reason: str | bytes = b"") -> bytes:
    return frame(CLOSE, close_body(code, reason))


def close_body(code: int | None = None, reason: str | bytes = b"") -> bytes:
    """Encode the body of a Close frame (§5.5.1): nothing, or a code and a reason."""
    if isinstance(reason, str):
        reason = reason.encode()
    return b"" if code is None else code.to_bytes(2, "big") + reason


@dataclass(frozen=True)
class Frame:
    """A frame as it was on the wire, its payload unmasked."""

    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv: int = 0
    masked: bool = False
    key: bytes = field(default=b"", compare=False)

    @property
    def close_code(self) -> int:
        assert self.opcode == CLOSE
        return int.from_bytes(self.payload[:2], "big") if self.payload else 1005


def parse_frames(data: bytes) -> list[Frame]:
    """Decode frames, every one of them whole and its length in the shortest form (§5.2)."""
    frames = []
    while data:
        assert len(data) >= 2, f"cut-off header: {data!r}"
        fin, rsv, opcode = bool(data[0] & 0x80), data[0] >> 4 & 0b111, data[0] & 0xF
        masked, length, at = bool(data[1] & 0x80), data[1] & 0x7F, 2
        if length == 126:
            length, at = int.from_bytes(data[2:4], "big"), 4
            assert length > 125, "not the shortest form"
        elif length == 127:
            length, at = int.from_bytes(data[2:10], "big"), 10
            assert 2**16 <= length < 2**63, "not the shortest form"
        key = b""
        if masked:
            key, at = data[at : at + 4], at + 4
        payload = data[at : at + length]
        assert len(payload) == length, f"cut-off payload: {len(payload)} of {length}"
        frames.append(Frame(opcode, mask_payload(payload, key) if masked else payload, fin, rsv, masked, key))
        data = data[at + length :]
    return frames


# Deflate (RFC 7692 §7.2)


def deflate(data: bytes, *, wbits: int = 15, level: int = 6) -> bytes:
    """Compress one message on its own (§7.2.1)."""
    return Deflater(wbits=wbits, level=level).message(data)


class Deflater:
    """A compressor that keeps its window from message to message."""

    def __init__(self, *, wbits: int = 15, level: int = 6) -> None:
        self._zlib = zlib.compressobj(level, zlib.DEFLATED, -wbits)

    def flushed(self, data: bytes) -> bytes:
        """Compress up to a byte boundary and leave the tail 00 00 FF FF on."""
        return self._zlib.compress(data) + self._zlib.flush(zlib.Z_SYNC_FLUSH)

    def message(self, data: bytes) -> bytes:
        out = self.flushed(data)
        assert out.endswith(TAIL)
        return out[:-4] or b"\x00"


class Inflater:
    """A decompressor that keeps its window from message to message."""

    def __init__(self, *, wbits: int = 15) -> None:
        self._zlib = zlib.decompressobj(-wbits)

    def message(self, payload: bytes) -> bytes:
        """Decompress one message (§7.2.2)."""
        return self._zlib.decompress(payload + TAIL)


def inflate(payload: bytes, *, wbits: int = 15) -> bytes:
    return Inflater(wbits=wbits).message(payload)


def stored(data: bytes, *, final: bool = False) -> bytes:
    """Encode a DEFLATE block without compression (RFC 1951 §3.2.4)."""
    size = len(data)
    return bytes([final]) + size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little") + data


# HTTP (RFC 9112)


@dataclass
class Response:
    """A response off the wire, its header names in lower case."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""

    def lines(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def line(self, name: str) -> str | None:
        """The only value of a header; None where there is no such header."""
        values = self.lines(name)
        assert len(values) <= 1, f"{name} is repeated: {values}"
        return values[0] if values else None

    def tokens(self, name: str) -> list[str]:
        """The members of a list header, in lower case."""
        return [token.strip().lower() for value in self.lines(name) for token in value.split(",") if token.strip()]


def parse_responses(data: bytes, *, head: bool = False) -> tuple[list[Response], bytes]:
    """Decode whole responses up to a 101 and return them with the bytes after it.

    ``head`` says that the request was a HEAD, so that no response has a body (RFC 9112 §6.3).
    """
    responses = []
    while data:
        assert b"\r\n\r\n" in data, f"cut-off response head: {data!r}"
        top, data = data.split(b"\r\n\r\n", 1)
        start, *lines = top.decode("latin-1").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.[01] (\d{3}) [\t\x20-\x7e\x80-\xff]*", start)
        assert match, f"malformed status line: {start!r}"
        headers = []
        for line in lines:
            pair = re.fullmatch(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*", line)
            assert pair, f"malformed header line: {line!r}"
            headers.append((pair[1].lower(), pair[2]))
        response = Response(int(match[1]), headers)
        responses.append(response)
        if response.status == 101:
            return responses, data
        if head or response.status < 200 or response.status in (204, 304):
            continue
        response.body, data = _body(response, data)
    return responses, b""


def _body(response: Response, data: bytes) -> tuple[bytes, bytes]:
    if response.tokens("transfer-encoding"):
        assert response.tokens("transfer-encoding") == ["chunked"]
        assert response.line("content-length") is None
        body = b""
        while True:
            size, data = data.split(b"\r\n", 1)
            length = int(size, 16)
            chunk, end, data = data[:length], data[length : length + 2], data[length + 2 :]
            assert len(chunk) == length and end == b"\r\n", "malformed chunk"
            body += chunk
            if not length:
                return body, data
    length_line = response.line("content-length")
    if length_line is None:
        return data, b""
    length = int(length_line)
    assert len(data) >= length, f"cut-off body: {len(data)} of {length}"
    return data[:length], data[length:]


def request(
    method: str = "GET",
    target: str = "/",
    *headers: str | bytes,
    version: str = "HTTP/1.1",
    host: str | None = "example.com",
    body: bytes = b"",
) -> bytes:
    """Encode a request; ``headers`` are whole lines, and nothing but Host is added to them."""
    lines = [f"{method} {target} {version}".encode("latin-1")]
    if host is not None:
        lines.append(f"Host: {host}".encode("latin-1"))
    lines += [line.encode("latin-1") if isinstance(line, str) else line for line in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY.decode(),
    "Sec-WebSocket-Version": "13",
}


def handshake(
    target: str = "/ws", *extra: str | bytes, method: str = "GET", version: str = "HTTP/1.1", **changes: str | None
) -> bytes:
    """Encode an opening handshake (RFC 6455 §4.1).

    ``changes`` replaces lines by name (``sec_websocket_key=...``), None drops one; ``extra`` are further lines.
    """
    fields: dict[str, str | None] = dict(HANDSHAKE)
    for name, value in changes.items():
        fields[next(key for key in HANDSHAKE if key.lower() == name.replace("_", "-"))] = value
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return request(method, target, *lines, *extra, version=version)


def accept_value(key: bytes) -> str:
    """Compute Sec-WebSocket-Accept (§4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()


def extension_parameters(value: str) -> dict[str, str | None]:
    """Decode an answer that takes permessage-deflate and nothing else (RFC 7692 §7.1)."""
    name, *parameters = [part.strip() for part in value.split(";")]
    assert name == "permessage-deflate", value
    found: dict[str, str | None] = {}
    for parameter in parameters:
        key, _, text_value = parameter.partition("=")
        assert key not in found, f"repeated parameter in {value!r}"
        found[key] = text_value if "=" in parameter else None
    return found


# Replays


WHOLE_POSITIONS = 512
"""Inputs up to this length are split at every position, longer ones at their ends and at samples between."""


def positions(size: int) -> Iterable[int]:
    """Where to cut an input in two."""
    if size <= WHOLE_POSITIONS:
        return range(1, size)
    step = max(1, (size - 192) // 32)
    return [*range(1, 97), *range(97, size - 96, step), *range(size - 96, size)]


def splits(data: bytes) -> Iterator[list[bytes]]:
    """Yield the input whole, in two pieces at each position, and byte by byte (long ones in runs of 61 bytes)."""
    yield [data]
    for at in positions(len(data)):
        yield [data[:at], data[at:]]
    run = 1 if len(data) <= 4096 else 61
    yield [data[at : at + run] for at in range(0, len(data), run)]
