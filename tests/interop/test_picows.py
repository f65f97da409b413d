"""The client of picows against the server: single frames, and so what really stands on the wire."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from .conftest import Server
from .messages import MESSAGES, TEXT

TIMEOUT = 20  # seconds


class Frame(NamedTuple):
    """One frame that arrived."""

    kind: WSMsgType
    payload: bytes
    fin: bool
    rsv1: bool


class Peer(WSListener):  # type: ignore[misc, unused-ignore]
    """A client that keeps each frame."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[Frame] = asyncio.Queue()
        self.transport: WSTransport

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self.frames.put_nowait(Frame(frame.msg_type, frame.get_payload_as_bytes(), frame.fin, frame.rsv1))
        if frame.msg_type is WSMsgType.CLOSE and not transport.is_close_frame_sent:
            transport.send_close(frame.get_close_code(), frame.get_close_message())

    async def frame(self) -> Frame:
        return await asyncio.wait_for(self.frames.get(), TIMEOUT)

    def send(self, message: str | bytes, **options: Any) -> None:
        if isinstance(message, str):
            self.transport.send(WSMsgType.TEXT, message.encode(), **options)
        else:
            self.transport.send(WSMsgType.BINARY, message, **options)


@asynccontextmanager
async def client(url: str, **options: Any) -> AsyncIterator[Peer]:
    transport, peer = await ws_connect(Peer, url, **{"enable_auto_pong": True, **options})
    try:
        assert isinstance(peer, Peer)
        yield peer
    finally:
        transport.disconnect()
        await asyncio.wait_for(transport.wait_disconnected(), TIMEOUT)


def whole(message: str | bytes) -> Frame:
    """Return the one frame that carries a message."""
    if isinstance(message, str):
        return Frame(WSMsgType.TEXT, message.encode(), True, False)
    return Frame(WSMsgType.BINARY, message, True, False)


@pytest.mark.parametrize("message", MESSAGES)
async def test_echo(server: Server, message: str | bytes) -> None:
    async with client(server.url("/echo"), max_frame_size=2**22) as peer:
        peer.send(message)
        assert await peer.frame() == whole(message)


async def test_many_messages_in_one_write_come_back_in_order(server: Server) -> None:
    sent = [str(n) if n % 2 else str(n).encode() for n in range(2000)]
    async with client(server.url("/echo")) as peer:
        for message in sent:
            peer.send(message)
        assert [await peer.frame() for _ in sent] == [whole(message) for message in sent]


async def test_fragments_sent_by_the_client_make_one_message(server: Server) -> None:
    async with client(server.url("/echo")) as peer:
        peer.send("one ", fin=False)
        peer.transport.send(WSMsgType.CONTINUATION, b"", fin=False)
        peer.transport.send_ping(b"inside")
        peer.transport.send(WSMsgType.CONTINUATION, b"two", fin=True)
        assert await peer.frame() == Frame(WSMsgType.PONG, b"inside", True, False)
        assert await peer.frame() == whole("one two")


@pytest.mark.parametrize("message", ["abcdefgh", b"abcdefgh"], ids=["text", "binary"])
async def test_fragments_sent_by_the_server_are_one_message_on_the_wire(server: Server, message: str | bytes) -> None:
    async with client(server.url("/fragmented")) as peer:
        for _ in ("iterable", "async iterable"):
            peer.send(message)
            frames = [await peer.frame()]
            while not frames[-1].fin:
                frames.append(await peer.frame())
            first = whole(message).kind
            assert [frame.kind for frame in frames] == [first] + [WSMsgType.CONTINUATION] * (len(frames) - 1)
            assert [frame.payload for frame in frames if frame.payload] == [b"abc", b"def", b"gh"]
            assert not any(frame.rsv1 for frame in frames)


@pytest.mark.parametrize("message", MESSAGES)
async def test_deflate_echo_is_compressed_on_the_wire(server: Server, message: str | bytes) -> None:
    """Compressed here by zlib, as RFC 7692 §7.2.1 says: a sync flush without its last four bytes."""
    headers = {"Sec-WebSocket-Extensions": "permessage-deflate; server_no_context_takeover; client_no_context_takeover"}
    async with client(server.url("/deflate"), extra_headers=headers, max_frame_size=2**22) as peer:
        agreed = peer.transport.response.headers["Sec-WebSocket-Extensions"]
        assert agreed.split(";")[0] == "permessage-deflate"
        plain = message.encode() if isinstance(message, str) else message
        compressor = zlib.compressobj(wbits=-15)
        compressed = compressor.compress(plain) + compressor.flush(zlib.Z_SYNC_FLUSH)
        peer.transport.send(whole(message).kind, compressed[:-4], rsv1=True)
        answer = await peer.frame()
        assert (answer.kind, answer.fin, answer.rsv1) == (whole(message).kind, True, True)
        assert zlib.decompressobj(wbits=-15).decompress(answer.payload + b"\0\0\xff\xff") == plain


async def test_deflate_makes_repetitive_text_small(server: Server) -> None:
    headers = {"Sec-WebSocket-Extensions": "permessage-deflate"}
    async with client(server.url("/deflate"), extra_headers=headers) as peer:
        peer.send("again and " * 10_000)
        answer = await peer.frame()
        assert answer.rsv1
        assert len(answer.payload) < 2000


async def test_a_message_may_come_uncompressed_on_a_deflate_connection(server: Server) -> None:
    headers = {"Sec-WebSocket-Extensions": "permessage-deflate"}
    async with client(server.url("/deflate"), extra_headers=headers) as peer:
        peer.send(TEXT)
        answer = await peer.frame()
        assert answer.rsv1
        assert zlib.decompressobj(wbits=-15).decompress(answer.payload + b"\0\0\xff\xff") == TEXT.encode()


async def test_pings_of_the_client_are_answered(server: Server) -> None:
    async with client(server.url("/echo")) as peer:
        for payload in (b"", b"payload", bytes(125)):
            peer.transport.send_ping(payload)
            assert await peer.frame() == Frame(WSMsgType.PONG, payload, True, False)


async def test_pings_of_the_server_are_answered(server: Server) -> None:
    async with client(server.url("/ping"), enable_auto_pong=False) as peer:
        peer.send(b"payload")
        assert await peer.frame() == Frame(WSMsgType.PING, b"payload", True, False)
        peer.transport.send_pong(b"payload")
        assert "seconds" in json.loads((await peer.frame()).payload)


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "going away"), (1011, "¡no!")])
async def test_close_by_the_server(server: Server, code: int, reason: str) -> None:
    async with client(server.close_url(code, reason)) as peer:
        close = await peer.frame()
        assert close == Frame(WSMsgType.CLOSE, code.to_bytes(2, "big") + reason.encode(), True, False)
        await asyncio.wait_for(peer.transport.wait_disconnected(), TIMEOUT)
        assert peer.frames.empty()


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "going away"), (1011, "¡no!")])
async def test_close_by_the_client_is_echoed(server: Server, code: int, reason: str) -> None:
    key = f"picows-{code}"
    async with client(server.url(f"/watched/{key}")) as peer:
        peer.transport.send_close(WSCloseCode(code), reason.encode())
        close = await peer.frame()
        assert (close.kind, close.payload[:2]) == (WSMsgType.CLOSE, code.to_bytes(2, "big"))
        await asyncio.wait_for(peer.transport.wait_disconnected(), TIMEOUT)
    assert await server.end_of(key) == (code, reason)


async def test_subprotocol(server: Server) -> None:
    headers = {"Sec-WebSocket-Protocol": "chat.v1, chat.v2"}
    async with client(server.url("/subprotocol"), extra_headers=headers) as peer:
        assert peer.transport.response.headers["Sec-WebSocket-Protocol"] == "chat.v2"
        assert await peer.frame() == whole("subprotocol chat.v2")
