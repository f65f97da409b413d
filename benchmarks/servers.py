"""The servers that are compared, and how each is started."""

from __future__ import annotations

import enum
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.apps.options import HOST

ROOT: Final = Path(__file__).resolve().parent.parent
ENVIRONMENT: Final = ROOT / ".venv-bench"
BINARIES: Final = ROOT / "target" / "release"


class Kind(enum.Enum):
    """Whose a server is."""

    OURS = "ours"
    PEER = "peer"
    NATIVE = "native"


class Ability(enum.Enum):
    """What not every server has."""

    BROADCAST = "broadcast"
    DEFLATE = "deflate"
    HTTP = "http"
    JSON = "json"


EVERYTHING: Final = frozenset({Ability.BROADCAST, Ability.DEFLATE, Ability.HTTP})
AS_A_FRAMEWORK: Final = EVERYTHING | {Ability.JSON}
STARLETTE: Final = "Starlette"


@dataclass(frozen=True, slots=True)
class Server:
    """One server. ``program`` is a module of ``benchmarks.apps`` or, for a native server, the name of a binary."""

    name: str
    program: str
    kind: Kind
    abilities: frozenset[Ability] = EVERYTHING
    requirements: str | None = None
    """The file in ``benchmarks/peers`` without its suffix; what it lists are the distributions whose versions count."""
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    deflate: str = ""
    """What is special about its compression."""
    only: frozenset[Ability] = frozenset()
    """What it is compared in; empty is everything. For one that differs from another of ours in nothing else."""
    application: str = ""
    """Whose application it runs, "" for one of its own; it is compared with others that run the same."""
    note: str = ""
    checkout: Path = ROOT
    """Where the ferrows is that it imports."""

    @property
    def path(self) -> Path:
        """The file that must be there for the server to run."""
        if self.kind is Kind.NATIVE:
            return BINARIES / self.program
        return ROOT / "benchmarks" / "apps" / f"{self.program}.py"

    def command(self, port: int, *, deflate: bool) -> list[str]:
        """Return what starts the server on ``port``."""
        if self.kind is Kind.NATIVE:
            return [str(self.path), "--address", f"{HOST}:{port}", *self.arguments]
        options = ["--port", str(port), *(["--deflate"] if deflate else []), *self.arguments]
        return [python(), "-m", f"benchmarks.apps.{self.program}", *options]


def python() -> str:
    """Return the interpreter that the servers run on: that of the peers' environment, if it was made."""
    found = ENVIRONMENT / "bin" / "python"
    return str(found) if found.exists() else sys.executable


REQUESTS: Final = frozenset({Ability.HTTP, Ability.JSON})
STARLETTE_ARGUMENTS: Final = ("--application", "starlette")

LEVEL_2: Final = ("--level", "2", "--mem-level", "5")

SERVERS: Final = (
    Server(
        "ferrows",
        "ferrows_coroutine",
        Kind.OURS,
        AS_A_FRAMEWORK,
        deflate="no context takeover, its default",
        note="`async for message in ws: await ws.send(message)`",
    ),
    Server(
        "ferrows, burst",
        "ferrows_burst",
        Kind.OURS,
        frozenset({Ability.DEFLATE, Ability.HTTP}),
        note="the same with `recv_burst`; it broadcasts as the first does",
    ),
    Server(
        "ferrows, asyncio loop",
        "ferrows_coroutine",
        Kind.OURS,
        arguments=("--loop", "asyncio"),
        note="asyncio's own event loop in place of uvloop",
    ),
    Server(
        "ferrows, pure Python",
        "ferrows_coroutine",
        Kind.OURS,
        environment={"FERROWS_NO_EXTENSIONS": "1"},
        note="the twin of the extension, `FERROWS_NO_EXTENSIONS=1`",
    ),
    Server(
        "ferrows, takeover",
        "ferrows_coroutine",
        Kind.OURS,
        arguments=("--takeover",),
        deflate="keeps the context from message to message, where the client does not ask otherwise",
        only=frozenset({Ability.DEFLATE}),
    ),
    Server(
        "ferrows, level 2",
        "ferrows_coroutine",
        Kind.OURS,
        arguments=LEVEL_2,
        deflate="level 2, memory level 5: about the size of aiohttp's messages, whose level cannot be set",
        only=frozenset({Ability.DEFLATE}),
    ),
    Server(
        "ferrows, takeover, level 2",
        "ferrows_coroutine",
        Kind.OURS,
        arguments=("--takeover", *LEVEL_2),
        deflate="the same, and keeps the context",
        only=frozenset({Ability.DEFLATE}),
    ),
    Server(
        "ferrows, broadcast()",
        "ferrows_broadcast",
        Kind.OURS,
        only=frozenset({Ability.BROADCAST}),
        note="`broadcast(connected, message)` in place of a loop of `await peer.send(message)`",
    ),
    Server(
        "ferrows, ASGI",
        "ferrows_asgi",
        Kind.OURS,
        REQUESTS,
        only=REQUESTS,
        note="the plain ASGI application that uvicorn and granian run",
    ),
    Server(
        "ferrows, Starlette",
        "ferrows_asgi",
        Kind.OURS,
        REQUESTS,
        "starlette",
        arguments=STARLETTE_ARGUMENTS,
        application=STARLETTE,
    ),
    Server(
        "uvicorn, Starlette",
        "uvicorn_websockets",
        Kind.PEER,
        REQUESTS,
        "uvicorn",
        arguments=STARLETTE_ARGUMENTS,
        application=STARLETTE,
        note="`--ws websockets-sansio`, `--http httptools`",
    ),
    Server(
        "hypercorn, Starlette",
        "hypercorn_server",
        Kind.PEER,
        REQUESTS,
        "hypercorn",
        arguments=STARLETTE_ARGUMENTS,
        application=STARLETTE,
    ),
    Server(
        "granian, Starlette",
        "granian_server",
        Kind.PEER,
        REQUESTS,
        "granian",
        arguments=STARLETTE_ARGUMENTS,
        application=STARLETTE,
        note="one worker with one runtime thread",
    ),
    Server(
        "picows, callback",
        "picows_callback",
        Kind.PEER,
        frozenset({Ability.BROADCAST}),
        "picows",
        note="its listener API; aiofastnet's transports, its default; no deflate in this API, "
        "and HTTP without keep-alive",
    ),
    Server(
        "picows, queue",
        "picows_queue",
        Kind.PEER,
        frozenset({Ability.BROADCAST}),
        "picows",
        note="a coroutine behind an `asyncio.Queue` that the listener fills",
    ),
    Server(
        "picows.websockets",
        "picows_websockets",
        Kind.PEER,
        frozenset({Ability.BROADCAST, Ability.DEFLATE}),
        "picows",
        deflate="its parameters cannot be set, and it keeps its context though the client asks otherwise",
        note="its own coroutine API, modelled on that of websockets",
    ),
    Server(
        "aiohttp",
        "aiohttp_server",
        Kind.PEER,
        AS_A_FRAMEWORK,
        requirements="aiohttp",
        deflate="level 1, cannot be set",
    ),
    Server(
        "websockets",
        "websockets_server",
        Kind.PEER,
        frozenset({Ability.BROADCAST, Ability.DEFLATE}),
        "websockets",
        note="HTTP without keep-alive",
    ),
    Server(
        "uvicorn, websockets",
        "uvicorn_websockets",
        Kind.PEER,
        AS_A_FRAMEWORK,
        requirements="uvicorn",
        deflate="window of 12 bits, memory level 5, cannot be set",
        note="`--ws websockets-sansio`, a plain ASGI application",
    ),
    Server(
        "uvicorn, wsproto",
        "uvicorn_wsproto",
        Kind.PEER,
        requirements="uvicorn",
        deflate="its parameters cannot be set",
        note="`--ws wsproto`, the same application",
    ),
    Server(
        "Sanic",
        "sanic_server",
        Kind.PEER,
        frozenset({Ability.BROADCAST, Ability.HTTP, Ability.JSON}),
        "sanic",
        note="has no deflate",
    ),
    Server(
        "granian",
        "granian_server",
        Kind.PEER,
        frozenset({Ability.BROADCAST, Ability.HTTP, Ability.JSON}),
        "granian",
        note="one worker with one runtime thread, the same ASGI application; has no deflate",
    ),
    Server(
        "socketify",
        "socketify_server",
        Kind.PEER,
        requirements="socketify",
        deflate="uWebSockets' shared compressor: no context takeover",
        note="uWebSockets behind callbacks; its own loop on libuv",
    ),
    Server("tornado", "tornado_server", Kind.PEER, requirements="tornado", note="on uvloop"),
    Server(
        "tokio-tungstenite",
        "floor-tungstenite",
        Kind.NATIVE,
        frozenset({Ability.BROADCAST, Ability.HTTP}),
        note="Rust, one thread: the whole protocol without Python; answers in one write what arrived together",
    ),
    Server(
        "epoll floor",
        "floor-epoll",
        Kind.NATIVE,
        frozenset({Ability.HTTP}),
        note="Rust: counts bytes and answers prebuilt ones, without parsing: what it costs is the kernel's",
    ),
)


def server_named(name: str) -> Server:
    """Return the server of this name; KeyError if there is none."""
    return next(server for server in SERVERS if server.name == name)
