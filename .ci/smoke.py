"""Try an installed ferrows: the extension is there, and a message goes there and back over a real socket."""

import asyncio
import importlib.util
from typing import Any

import ferrows
from ferrows._codec import CODEC

HANDSHAKE = (
    b"GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def main() -> None:
    """Serve, connect, and echo."""
    app = ferrows.App("smoke")

    @app.websocket("/echo")
    async def echo(request: Any, ws: Any) -> None:
        async for message in ws:
            await ws.send(message)

    async with await app.create_server(port=0, access_log=False) as server:
        host, port = server.sockets[0].getsockname()[:2]
        reader, writer = await asyncio.open_connection(host, port)
        # A text message "smoke", masked with zeros.
        writer.write(HANDSHAKE + b"\x81\x85\0\0\0\0smoke")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert head.startswith(b"HTTP/1.1 101 ") and b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head, head
        echoed = await asyncio.wait_for(reader.readexactly(7), 10)
        assert echoed == b"\x81\x05smoke", echoed
        writer.close()


assert CODEC == "Rust extension", CODEC
extension = importlib.util.find_spec("ferrows._core")
assert extension is not None and not hasattr(importlib.import_module("ferrows._core"), "_panic_at")
asyncio.run(main())
print(f"ferrows from {extension.origin} echoes")
