"""What a peer sends makes no line of its own in the log, and commands no terminal that shows it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ferrows import App, Request, Websocket
from ferrows.asgi import ASGIHost
from ferrows.exceptions import Forbidden, HandshakeError, WebsocketClosed
from ferrows.redaction import printable, shown

from .harness import connect

FORGED = "a%0AERROR%20forged%1B%5B2J%C2%85%E2%80%A8"
"""The end of a path, and what it would put into the log."""

HANDSHAKE_FIELDS = (
    "Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\n\r\n"
)


@asynccontextmanager
async def asked(app: App, path: str, fields: str) -> AsyncIterator[Any]:
    async with asyncio.timeout(60), await app.create_server(port=0) as server:
        client = await connect(server)
        client.writer.write(f"GET {path} HTTP/1.1\r\n{fields}".encode())
        await client.reader.readuntil(b"\r\n\r\n")
        yield client
        await client.close()


def assert_one_line_each(caplog: pytest.LogCaptureFixture, count: int = 1) -> None:
    messages = [record.getMessage() for record in caplog.records if record.name == "ferrows.error"]
    assert len(messages) == count
    for message in messages:
        assert "forged" in message
        assert message.isprintable()


@pytest.mark.parametrize("fails", [True, False], ids=["raises", "returns"])
@pytest.mark.parametrize("fields", ["Host: a\r\n\r\n", HANDSHAKE_FIELDS], ids=["http", "websocket"])
async def test_path_of_a_failed_application_is_escaped(
    fields: str, fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        if fails:
            raise LookupError

    async with asked(ASGIHost(application, "forged", env_prefix=None), f"/{FORGED}", fields):
        assert_one_line_each(caplog)


async def test_message_of_a_refusal_after_the_upgrade_is_escaped(caplog: pytest.LogCaptureFixture) -> None:
    app = App("refusing", env_prefix=None)

    @app.websocket("/<room>")
    async def join(request: Request, ws: Websocket, room: str) -> None:
        raise Forbidden(f"there is no room {room}")

    async with asked(app, f"/{FORGED}", HANDSHAKE_FIELDS) as client:
        await client.reader.readexactly(2)
        assert_one_line_each(caplog)


async def test_reason_of_a_peer_in_a_traceback_is_escaped() -> None:
    ended = WebsocketClosed(3001, "bye\nERROR forged")
    text = logging.Formatter().formatException((type(ended), ended, None))
    assert text.endswith(r"closed with 3001: bye\nERROR forged")
    assert ended.reason == "bye\nERROR forged"


def test_answer_of_a_server_in_a_handshake_error_is_escaped() -> None:
    error = HandshakeError("the server refused the upgrade with 403 evil\x1b[2J", 403)
    assert str(error) == r"the server refused the upgrade with 403 evil\x1b[2J"


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain ü", "plain ü"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\x1b[31m\x7f\x9b", r"\x1b[31m\x7f\x9b"),
        ("\u2028\u202e\udc80", r"\u2028\u202e\udc80"),
    ],
)
def test_printable(text: str, escaped: str) -> None:
    assert printable(text) == escaped


@pytest.mark.parametrize("unit", [b"a", b"a;", b"=", b"&", b" ", b"a=", b"%", b"+"])
def test_target_of_8_kilobytes_costs_the_log_no_noticeable_time(unit: bytes) -> None:
    target = (b"/?" + unit * 8190)[:8190]
    begun = time.process_time()
    for _ in range(10):
        shown(target)
    # A search that began again at each octet took 3 s for these ten.
    assert time.process_time() - begun < 0.5


@pytest.mark.parametrize(
    ("target", "line"),
    [
        (b"/?a", "/?a"),
        (b"/?access_token", "/?access_token"),
        (b"/?access_token=s3cret", "/?access_token=***"),
        (b"/?a&access_token=s=3&b=access_token=", "/?a&access_token=***&b=access_token="),
        (b"/?a=1&&=2&access%5Ftoken=s&", "/?a=1&&=2&access%5Ftoken=***&"),
        (b"GET /?x access_token=s HTTP/1.1", "GET /?x access_token=*** HTTP/1.1"),
    ],
)
def test_values_of_hidden_parameters_are_not_shown(target: bytes, line: str) -> None:
    assert shown(target) == line
