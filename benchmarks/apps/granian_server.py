"""granian with the ASGI application; its WebSocket layer has no permessage-deflate."""

from __future__ import annotations

from granian import Granian  # type: ignore[import-not-found,unused-ignore]
from granian.constants import HTTPModes, Interfaces, Loops  # type: ignore[import-not-found,unused-ignore]

from benchmarks.apps.asgi import MODULES
from benchmarks.apps.options import BACKLOG, HOST, parse

if __name__ == "__main__":
    options = parse()
    Granian(
        f"{MODULES[options.application]}:app",
        address=HOST,
        port=options.port,
        interface=Interfaces.ASGINL,
        workers=1,
        runtime_threads=1,
        loop=Loops.uvloop if options.uvloop else Loops.asyncio,
        http=HTTPModes.http1,
        websockets=True,
        log_access=False,
        log_enabled=False,
        backlog=BACKLOG,
        # It counts open WebSockets as requests in work: more than the idle scenario opens.
        backpressure=2**15,
    ).serve()
