"""ferrows with an ASGI application in place of its own routes."""

from __future__ import annotations

from benchmarks.apps.asgi import application
from benchmarks.apps.options import BACKLOG, HOST, MAX_SIZE, parse
from ferrows.asgi import serve_asgi

if __name__ == "__main__":
    options = parse()
    config = {"WEBSOCKET_MAX_SIZE": MAX_SIZE, "WEBSOCKET_PING_INTERVAL": None, "USE_UVLOOP": options.uvloop}
    serve_asgi(
        application(options.application),
        HOST,
        options.port,
        config=config,
        access_log=False,
        backlog=BACKLOG,
        motd=False,
    )
