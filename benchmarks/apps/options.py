"""What every server is told, and what all of them have in common."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final

HOST: Final = "127.0.0.1"

GREETING: Final = "Hello, world!\n"
"""The body of ``GET /``."""

FACTS: Final = {"name": "ferrows", "open": True, "peers": [1, 2, 3], "load": 0.25}
"""What ``GET /json`` answers."""

MAX_SIZE: Final = 16 * 2**20
"""The largest message in bytes, the same for all."""

BACKLOG: Final = 4096

# The parameters of permessage-deflate, wherever a server lets them be set: zlib's defaults.
WINDOW_BITS: Final = 15
LEVEL: Final = 6
MEM_LEVEL: Final = 8


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    port: int
    deflate: bool
    uvloop: bool
    takeover: bool
    level: int
    mem_level: int
    application: str

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run ``main`` on the chosen event loop."""
        if self.uvloop:
            import uvloop

            uvloop.run(main)
        else:
            asyncio.run(main)


def parse() -> Options:
    """Read the command line of a server."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--deflate", action="store_true", help="agree to permessage-deflate")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--takeover", action="store_true", help="keep the compression context where that is a choice")
    parser.add_argument("--level", type=int, default=LEVEL, help="of compression, where that is a choice")
    parser.add_argument("--mem-level", type=int, default=MEM_LEVEL, help="of compression, where that is a choice")
    parser.add_argument("--application", choices=("plain", "starlette"), default="plain", help="of an ASGI server")
    arguments = parser.parse_args()
    return Options(
        arguments.port,
        arguments.deflate,
        arguments.loop == "uvloop",
        arguments.takeover,
        arguments.level,
        arguments.mem_level,
        arguments.application,
    )
