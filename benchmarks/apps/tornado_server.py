"""tornado."""

from __future__ import annotations

import asyncio
from typing import Any

import tornado.httpserver  # type: ignore[import-not-found,unused-ignore]
import tornado.web  # type: ignore[import-not-found,unused-ignore]
import tornado.websocket  # type: ignore[import-not-found,unused-ignore]

from benchmarks.apps.options import BACKLOG, GREETING, HOST, LEVEL, MAX_SIZE, MEM_LEVEL, parse


class Greet(tornado.web.RequestHandler):  # type: ignore[misc,unused-ignore]
    def get(self) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(GREETING)


class Echo(tornado.websocket.WebSocketHandler):  # type: ignore[misc,unused-ignore]
    def check_origin(self, origin: str) -> bool:
        return True

    def get_compression_options(self) -> dict[str, Any] | None:
        return {"compression_level": LEVEL, "mem_level": MEM_LEVEL} if options.deflate else None

    def open(self, *arguments: str, **named: str) -> None:
        self.set_nodelay(True)

    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message, binary=isinstance(message, bytes))


class Broadcast(Echo):
    def open(self, *arguments: str, **named: str) -> None:
        super().open()
        connected.add(self)

    def on_close(self) -> None:
        connected.discard(self)

    async def on_message(self, message: str | bytes) -> None:
        for peer in tuple(connected):
            peer.write_message(message, binary=isinstance(message, bytes))


connected: set[Broadcast] = set()


async def main(port: int) -> None:
    app = tornado.web.Application(
        [("/", Greet), ("/ws", Echo), ("/broadcast", Broadcast)],
        websocket_max_message_size=MAX_SIZE,
        log_function=lambda handler: None,
    )
    server = tornado.httpserver.HTTPServer(app)
    server.listen(port, HOST, backlog=BACKLOG)
    await asyncio.Event().wait()


if __name__ == "__main__":
    options = parse()
    options.run(main(options.port))
