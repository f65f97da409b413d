"""What is measured: the questions that the load generator puts to each server."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from benchmarks.servers import STARLETTE, Ability, Server

KIB: Final = 2**10
MIB: Final = 2**20

IN_FLIGHT_LIMIT: Final = 512 * MIB
"""Bytes under way at once, all connections together, beyond which a combination is left out: the machine would swap."""

MANY_UNDER_WAY: Final = 10_000
"""Messages under way at once, beyond which a short run would not see them all come back."""

# What the estimate of a run's length takes for granted: averages over the servers.
START_SECONDS: Final = 0.7
"""Starting and stopping a server."""

OPENING_SECONDS: Final = 0.0003
"""Opening and closing a connection."""

MESSAGE_SECONDS: Final = 15e-6
"""Answering a small message, when measuring is over."""

BYTE_SECONDS: Final = 1e-9
"""Answering a byte of a large one."""


JSON_PATH: Final = "/json"


class Family(enum.Enum):
    """The load generator's subcommands."""

    ECHO = "echo"
    BROADCAST = "broadcast"
    IDLE = "idle"
    CONNECT = "connect"
    HTTP = "http"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One measurement of one server.

    In a broadcast ``connections`` are its receivers and ``in_flight`` its outstanding messages.
    """

    name: str
    family: Family
    connections: int
    in_flight: int = 1
    size: int = 0
    text: bool = True
    deflate: bool = False
    offer: str | None = None
    """The extensions that the client offers; by default, with ``deflate``, what browsers offer."""
    half_of: str | None = None
    """The scenario, half of whose messages per second with ferrows are sent here, whatever comes back (open loop)."""
    seconds: float = 1.5
    warmup: float = 0.5
    rounds: int = 3
    group: str = ""
    """Scenarios of one group follow each other on one process of a server; "" is a group of its own."""
    servers: tuple[str, ...] = ()
    """The servers that it is put to; () is all that have what it needs."""
    path: str = ""
    """The request's target, where it is not the family's own."""
    application: str = ""
    """Whose application the servers run, "" for one of their own."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Scenario:
        """Read what ``dataclasses.asdict`` made of one, its family given by its value."""
        servers = tuple(values.get("servers", ()))
        return cls(**{**values, "family": Family(values["family"]), "servers": servers})

    @property
    def title(self) -> str:
        """What the tables call it."""
        return f"{self.application}: {self._title}" if self.application else self._title

    @property
    def _title(self) -> str:
        if self.family is Family.ECHO:
            what = "text" if self.text else "binary"
            if self.deflate:
                what = "compressed JSON without context" if self.offer else "compressed JSON"
            what = f"{size_label(self.size)} {what}, {_connections(self.connections)}"
            return f"{what}, fixed rate" if self.half_of else f"{what}, {self.in_flight} in flight"
        if self.family is Family.BROADCAST:
            receivers = "1 receiver" if self.connections == 1 else f"{self.connections:,} receivers"
            return f"broadcast to {receivers}, {self.in_flight} outstanding"
        if self.family is Family.IDLE:
            return f"{self.connections:,} idle connections"
        if self.family is Family.CONNECT:
            return "opening a connection"
        return "HTTP GET of JSON" if self.path == JSON_PATH else "HTTP GET"

    @property
    def needs(self) -> frozenset[Ability]:
        """What a server must have."""
        needs = {Ability.DEFLATE} if self.deflate else set()
        if self.family is Family.BROADCAST:
            needs.add(Ability.BROADCAST)
        if self.family is Family.HTTP:
            needs.add(Ability.JSON if self.path == JSON_PATH else Ability.HTTP)
        return frozenset(needs)

    @property
    def under_way(self) -> int:
        """Messages that the load generator keeps under way; 0 where that is not what it does."""
        return self.connections * self.in_flight if self.family is Family.ECHO and self.half_of is None else 0

    @property
    def length(self) -> float:
        """Roughly the seconds that it takes, the server's start left out."""
        opening = self.connections * OPENING_SECONDS
        draining = self.under_way * (MESSAGE_SECONDS + self.size * BYTE_SECONDS)
        # One message on each idle connection, and a broadcast's receivers have time to join.
        more = {Family.IDLE: 1.5, Family.BROADCAST: 0.4}.get(self.family, 0.1)
        return self.seconds + self.warmup + opening + draining + more

    def takes(self, server: Server) -> bool:
        """Whether it can be put to this server."""
        chosen = not self.servers or server.name in self.servers
        alike = self.application == server.application and (not server.only or bool(self.needs & server.only))
        return chosen and alike and self.needs <= server.abilities


def size_label(size: int) -> str:
    """Return ``64 KiB`` for 65536."""
    if size >= MIB and size % MIB == 0:
        return f"{size // MIB} MiB"
    if size >= KIB and size % KIB == 0:
        return f"{size // KIB} KiB"
    return f"{size} B"


def _connections(count: int) -> str:
    return "1 connection" if count == 1 else f"{count:,} connections"


def _echo(size: int, connections: int, in_flight: int, text: bool = True) -> Scenario:
    label = size_label(size).replace(" ", "")
    kind = "text" if text else "binary"
    return Scenario(f"echo-{label}-{kind}-{connections}x{in_flight}", Family.ECHO, connections, in_flight, size, text)


# Those that the targets are about are named here, so that the report finds them.
ECHO_ONE: Final = _echo(32, 50, 1)
ECHO_MANY: Final = _echo(32, 50, 32)
ECHO_64K: Final = _echo(64 * KIB, 50, 1)
ECHO_1M: Final = _echo(MIB, 50, 1)
DEFLATE_ONE: Final = Scenario("deflate-2KiB-json-50x1", Family.ECHO, 50, 1, 2 * KIB, deflate=True)
DEFLATE_MANY: Final = replace(DEFLATE_ONE, name="deflate-2KiB-json-50x32", in_flight=32)
FRESH_OFFER: Final = (
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits"
)
FRESH_ONE: Final = replace(DEFLATE_ONE, name="deflate-fresh-2KiB-json-50x1", offer=FRESH_OFFER)
FRESH_MANY: Final = replace(FRESH_ONE, name="deflate-fresh-2KiB-json-50x32", in_flight=32)
BROADCASTS: Final = tuple(
    Scenario(f"broadcast-500-{outstanding}", Family.BROADCAST, 500, outstanding, 32) for outstanding in (1, 4, 16)
)
SMALL_BROADCASTS: Final = tuple(
    Scenario(f"broadcast-{receivers}-{outstanding}", Family.BROADCAST, receivers, outstanding, 32)
    for receivers in (1, 50)
    for outstanding in (1, 4, 16)
)
IDLE: Final = Scenario("idle-10000", Family.IDLE, 10_000, seconds=0.5, warmup=0.2, rounds=3)
CONNECT: Final = Scenario("connect", Family.CONNECT, 50)
HTTP: Final = Scenario("http-get", Family.HTTP, 50)
HTTP_JSON: Final = replace(HTTP, name="http-json", path=JSON_PATH)
STARLETTE_ECHOES: Final = tuple(
    replace(scenario, name=f"starlette-{scenario.name}", application=STARLETTE) for scenario in (ECHO_ONE, ECHO_MANY)
)
STARLETTE_HTTP: Final = tuple(
    replace(scenario, name=f"starlette-{scenario.name}", application=STARLETTE) for scenario in (HTTP, HTTP_JSON)
)
FIXED_RATE: Final = replace(ECHO_ONE, name="rate-32B-text-50", half_of=ECHO_ONE.name)

MAIN: Final = (ECHO_ONE, ECHO_MANY, ECHO_64K)
COMPRESSED: Final = (FRESH_ONE, FRESH_MANY, DEFLATE_ONE, DEFLATE_MANY)

SIZES: Final = (8, 32, 512, 4 * KIB, 64 * KIB, MIB)
CONNECTIONS: Final = (1, 50, 1000)
IN_FLIGHT: Final = (1, 32)

MATRIX_SERVERS: Final = (
    "ferrows",
    "picows, callback",
    "aiohttp",
    "websockets",
    "uvicorn, websockets",
    "Sanic",
    "socketify",
    "tokio-tungstenite",
    "epoll floor",
)
"""Those that the matrix of all echoes is put to: one of each kind, the best of those that are alike."""


def full() -> list[Scenario]:
    """Everything, ``make bench``: what the aims are about in rounds, the rest around it once, shorter."""
    echoes = [replace(scenario, group="echo") for scenario in (*MAIN, ECHO_1M, HTTP, HTTP_JSON)]
    starlette = [replace(scenario, group="Starlette") for scenario in (*STARLETTE_ECHOES, *STARLETTE_HTTP)]
    compressed = [replace(scenario, group="compressed") for scenario in COMPRESSED]
    broadcasts = [replace(scenario, group="broadcast") for scenario in BROADCASTS]
    # A connection is opened on a fresh process, whose memory no large message has stretched.
    targeted = [*echoes, *starlette, CONNECT, *compressed, *broadcasts, FIXED_RATE]
    scenarios = {scenario.name: replace(scenario, seconds=0.8, warmup=0.2, rounds=4) for scenario in targeted}
    scenarios[IDLE.name] = IDLE
    for scenario in SMALL_BROADCASTS:
        scenarios[scenario.name] = replace(scenario, seconds=0.4, warmup=0.1, rounds=1, group="broadcast to few")
    for scenario in echo_matrix():
        group = f"{'text' if scenario.text else 'binary'} on {scenario.connections}"
        # The slowest need two seconds for as many messages as are under way here.
        seconds, warmup = (3.0, 0.5) if scenario.under_way > MANY_UNDER_WAY else (0.4, 0.1)
        short = replace(scenario, seconds=seconds, warmup=warmup, rounds=1, group=group, servers=MATRIX_SERVERS)
        scenarios.setdefault(scenario.name, short)
    return list(scenarios.values())


def quick() -> list[Scenario]:
    """The main table, ``make bench-quick``."""
    echo = [replace(scenario, seconds=0.8, warmup=0.2, rounds=3, group="echo") for scenario in MAIN]
    connect = replace(CONNECT, seconds=0.8, warmup=0.2, rounds=1)
    idle = replace(IDLE, name="idle-1000", connections=1000, seconds=0.3, rounds=1)
    return [*echo, connect, idle]


def echo_matrix() -> Iterator[Scenario]:
    """Every echo that fits in the limit of bytes under way; those on as many connections follow each other."""
    for text in (True, False):
        for connections in CONNECTIONS:
            for size in SIZES:
                for in_flight in IN_FLIGHT:
                    if size * connections * in_flight <= IN_FLIGHT_LIMIT:
                        yield _echo(size, connections, in_flight, text)


def estimate(scenarios: Sequence[Scenario], servers: Sequence[Server]) -> float:
    """Return about how many seconds a run takes."""
    total = 0.0
    for scenario in scenarios:
        count = sum(scenario.takes(server) for server in servers)
        start = START_SECONDS / (sum(other.group == scenario.group for other in scenarios) if scenario.group else 1)
        total += scenario.rounds * count * (scenario.length + start)
    return total
