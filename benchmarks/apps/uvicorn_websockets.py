"""uvicorn with the sans-I/O layer of websockets."""

from __future__ import annotations

from typing import Literal

import uvicorn  # type: ignore[import-not-found,unused-ignore]

from benchmarks.apps.asgi import application
from benchmarks.apps.options import BACKLOG, HOST, MAX_SIZE, parse


def serve(ws: Literal["websockets-sansio", "wsproto"]) -> None:
    """Serve with the WebSocket implementation ``ws``; the parameters of its deflate cannot be set."""
    options = parse()
    uvicorn.run(
        application(options.application),
        host=HOST,
        port=options.port,
        loop="uvloop" if options.uvloop else "asyncio",
        http="httptools",
        ws=ws,
        ws_max_size=MAX_SIZE,
        ws_ping_interval=None,
        ws_per_message_deflate=options.deflate,
        lifespan="off",
        access_log=False,
        log_level="warning",
        backlog=BACKLOG,
    )


if __name__ == "__main__":
    serve("websockets-sansio")
