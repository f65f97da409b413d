"""The client of Node's `ws` package against the server."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Coroutine
from hashlib import sha256
from typing import Any

import pytest

from .conftest import Server
from .messages import BINARY, CLOSES, MESSAGES, TEXT

Node = Callable[..., Coroutine[Any, Any, Any]]


def encoded(message: str | bytes) -> dict[str, str]:
    """Return a message as client.mjs reads it."""
    return {"text": message} if isinstance(message, str) else {"base64": b64encode(message).decode()}


def digest(message: str | bytes) -> dict[str, object]:
    """Return what client.mjs reports of a message."""
    data = message.encode() if isinstance(message, str) else message
    kind = "text" if isinstance(message, str) else "binary"
    return {"kind": kind, "length": len(data), "sha256": sha256(data).hexdigest()}


@pytest.mark.parametrize("message", MESSAGES)
async def test_echo(node_ws: Node, server: Server, message: str | bytes) -> None:
    report = await node_ws("echo", server.url("/echo"), messages=[encoded(message)])
    assert report["echoed"] == [digest(message)]


@pytest.mark.parametrize("parts", [["one", "", "¡three!"], [b"one", b"", b"three"]], ids=["text", "binary"])
async def test_fragments(node_ws: Node, server: Server, parts: list[Any]) -> None:
    report = await node_ws("fragments", server.url("/echo"), parts=[encoded(part) for part in parts])
    assert report["echoed"] == [digest(type(parts[0])().join(parts))]


@pytest.mark.parametrize("message", ["abcdefgh", b"abcdefgh"], ids=["text", "binary"])
async def test_fragments_sent_by_the_server_make_one_message(
    node_ws: Node, server: Server, message: str | bytes
) -> None:
    report = await node_ws("echo", server.url("/fragmented"), messages=[encoded(message)] * 2)
    assert report["echoed"] == [digest(message)] * 2


async def test_deflate_is_not_negotiated_where_the_route_does_not_compress(node_ws: Node, server: Server) -> None:
    report = await node_ws("echo", server.url("/echo"), deflate=True, messages=[encoded(TEXT)])
    assert report["extensions"] == ""
    assert report["echoed"] == [digest(TEXT)]


@pytest.mark.parametrize("path", ["/deflate", "/takeover"])
@pytest.mark.parametrize(
    "deflate",
    [
        pytest.param(True, id="defaults"),
        pytest.param({"serverNoContextTakeover": True, "clientNoContextTakeover": True}, id="no-takeover"),
        pytest.param({"serverMaxWindowBits": 10, "clientMaxWindowBits": 10}, id="small-windows"),
    ],
)
async def test_deflate_echo(node_ws: Node, server: Server, path: str, deflate: Any) -> None:
    words = [" ".join(f"word{n * k % 97}" for k in range(2000)) for n in range(6)]
    messages: list[str | bytes] = ["", TEXT, BINARY * 40, b"", *words]
    report = await node_ws("echo", server.url(path), deflate=deflate, messages=[encoded(m) for m in messages])
    assert report["extensions"] == "permessage-deflate"
    assert report["echoed"] == [digest(message) for message in messages]


@pytest.mark.parametrize("message", [param for param in MESSAGES if "1MiB" in str(param.id)])
async def test_deflate_echo_of_1_mib(node_ws: Node, server: Server, message: str | bytes) -> None:
    report = await node_ws("echo", server.url("/deflate"), deflate=True, messages=[encoded(message)])
    assert report["extensions"] == "permessage-deflate"
    assert report["echoed"] == [digest(message)]


async def test_deflate_fragments(node_ws: Node, server: Server) -> None:
    parts = ["fragment " * 100, "", "of compressed text"]
    report = await node_ws("fragments", server.url("/deflate"), deflate=True, parts=[encoded(part) for part in parts])
    assert report["extensions"] == "permessage-deflate"
    assert report["echoed"] == [digest("".join(parts))]


async def test_pings_of_the_client_are_answered(node_ws: Node, server: Server) -> None:
    payloads = [b64encode(payload).decode() for payload in (b"", b"payload", bytes(125))]
    assert (await node_ws("ping", server.url("/echo"), payloads=payloads))["pongs"] == payloads


async def test_pings_of_the_server_are_answered(node_ws: Node, server: Server) -> None:
    report = await node_ws("pinged", server.url("/ping"), payload="payload")
    assert report["ping"] == b64encode(b"payload").decode()
    assert 0 < report["answer"]["seconds"] < 10


@pytest.mark.parametrize(("code", "reason"), CLOSES)
async def test_close_by_the_server(node_ws: Node, server: Server, code: int, reason: str) -> None:
    report = await node_ws("closed", server.close_url(code, reason))
    assert report["close"] == {"code": code, "reason": reason}


@pytest.mark.parametrize(("code", "reason"), CLOSES)
async def test_close_by_the_client(node_ws: Node, server: Server, code: int, reason: str) -> None:
    key = f"node-{code}-{len(reason)}"
    report = await node_ws("close", server.url(f"/watched/{key}"), code=code, reason=reason)
    assert report["close"]["code"] == code
    assert await server.end_of(key) == (code, reason)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(["chat.v1", "chat.v2"], "chat.v2"), (["chat.v1"], "chat.v1")],
    ids=["the-server's-order", "one-in-common"],
)
async def test_subprotocol(node_ws: Node, server: Server, offered: list[str], chosen: str) -> None:
    report = await node_ws("receive", server.url("/subprotocol"), protocols=offered)
    assert report["protocol"] == chosen
    assert report["text"] == f"subprotocol {chosen}"
