"""hypercorn."""

from __future__ import annotations

import asyncio

from hypercorn.asyncio import serve
from hypercorn.config import Config

from benchmarks.apps.asgi import application
from benchmarks.apps.options import BACKLOG, HOST, MAX_SIZE, parse

if __name__ == "__main__":
    options = parse()
    config = Config()
    config.bind = [f"{HOST}:{options.port}"]
    config.backlog = BACKLOG
    config.websocket_max_message_size = MAX_SIZE
    config.accesslog = None
    # It closes a connection after so many requests otherwise.
    config.keep_alive_max_requests = 2**31
    # The scenarios end it with a signal, which a trigger that never comes leaves to the system.
    options.run(serve(application(options.application), config, shutdown_trigger=asyncio.Event().wait))
