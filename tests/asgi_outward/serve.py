"""Run the app of application.py under one server: `python -m tests.asgi_outward.serve SERVER` prints its port.

It serves until SIGTERM. ``mounted`` is Starlette under uvicorn, with the app below ``/mounted``.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from typing import Any

from .application import app


def serve_ferrows(sock: socket.socket) -> None:
    app.run(sock=sock)


def serve_uvicorn(sock: socket.socket, application: Any = app, ws: str = "auto") -> None:
    import uvicorn

    config = uvicorn.Config(application, ws=ws, lifespan="on", log_config=None, timeout_graceful_shutdown=5)
    uvicorn.Server(config).run(sockets=[sock])


def serve_hypercorn(sock: socket.socket) -> None:
    import hypercorn
    from hypercorn.asyncio import serve

    config = hypercorn.Config()
    config.bind = [f"fd://{sock.fileno()}"]
    config.errorlog = logging.getLogger("hypercorn.error")
    config.graceful_timeout = 5
    asyncio.run(serve(app, config))


def serve_mounted(sock: socket.socket) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    outer = Starlette(routes=[Mount("/mounted", app=app)], lifespan=lambda _: app.lifespan())
    serve_uvicorn(sock, outer)


SERVERS = {
    "ferrows": serve_ferrows,
    "uvicorn": lambda sock: serve_uvicorn(sock, ws="websockets-sansio"),
    "uvicorn-wsproto": lambda sock: serve_uvicorn(sock, ws="wsproto"),
    "hypercorn": serve_hypercorn,
    "mounted": serve_mounted,
}


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    sock = socket.create_server(("127.0.0.1", 0), backlog=100)
    print(sock.getsockname()[1], flush=True)
    SERVERS[sys.argv[1]](sock)


if __name__ == "__main__":
    main()
