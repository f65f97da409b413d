"""Count instructions: ``python -m benchmarks.instructions EXTENSION [--page PAGE]`` profiles ferrows without a network.

Time depends on the machine and on what else it does; how many instructions a message takes hardly does. Each workload
runs twice under callgrind, shorter and longer: what is reported is the difference, divided by what the longer one had
more. So the start of the interpreter and of the loop falls out.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.machinery
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.page import inserted, table

ROOT: Final = Path(__file__).resolve().parent.parent
TARGET: Final = "bench-instructions"
"""The target of make that rewrites a part of the page."""

TOP: Final = 12
"""Functions that a table names."""

READS_A_TURN: Final = 50
"""Reads between two turns of the loop, as on a busy server with as many connections."""

SETTLED: Final = 4
"""Turns of the loop after which everything has happened that a read gives rise to."""

TEXT: Final = b"thirty-two bytes of plain text.."
MASK: Final = b"\x11\x22\x33\x44"
CLOSE: Final = b"\x88\x82\0\0\0\0\x03\xe8"
REQUEST: Final = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class Workload:
    """What is repeated, and how often in the shorter and in the longer run."""

    name: str
    title: str
    unit: str
    counts: tuple[int, int]
    batch: int = 0
    """Messages in a read; 0 where a connection is opened for each repetition."""
    size: int = len(TEXT)
    """Bytes of a message."""


WORKLOADS: Final = (
    Workload("echo-1", "Echo of 32 bytes, one message in a read", "message", (2_000, 8_000), 1),
    Workload("echo-32", "Echo of 32 bytes, 32 messages in a read", "message", (3_200, 35_200), 32),
    Workload("echo-64KiB", "Echo of 64 KiB, one message in a read", "message", (200, 800), 1, 65_536),
    Workload("opening", "A connection from its request to its end", "connection", (100, 300)),
)

Cost = tuple[str, str]
"""An object and a function in it."""


def main() -> None:
    """Profile every workload, print the tables, and put them between the markers of the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions")
    parser.add_argument("extension", type=Path, help="the extension, built with symbols")
    parser.add_argument("--page", type=Path, help="the page to rewrite between its markers")
    parser.add_argument("--play", nargs=2, metavar=("WORKLOAD", "COUNT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    load_extension(arguments.extension)
    if arguments.play:
        name, count = arguments.play
        play(next(workload for workload in WORKLOADS if workload.name == name), int(count))
        return
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is missing: install it with the system's packages (apt-get install valgrind)")
    text = report({workload: profile(workload, arguments.extension) for workload in WORKLOADS})
    print(text)
    if arguments.page:
        arguments.page.write_text(inserted(arguments.page.read_text("utf-8"), text, TARGET), "utf-8")


def load_extension(file: Path) -> None:
    """Make ``file`` the module ``ferrows._core``: the installed one has no symbols."""
    loader = importlib.machinery.ExtensionFileLoader("ferrows._core", str(file))
    spec = importlib.util.spec_from_file_location("ferrows._core", file, loader=loader)
    if spec is None or not file.exists():
        sys.exit(f"{file} is missing: make bench-instructions builds it")
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    sys.modules["ferrows._core"] = module


# --------------------------------------------------------------------------------------------------------------------
# Workloads


class Transport(asyncio.Transport):
    """Keeps the last write: in C, so that hardly anything of it is in the profile."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 40000), "sockname": ("127.0.0.1", 8000)})
        self.written: deque[bytes] = deque(maxlen=1)
        self.write = self.written.append  # type: ignore[method-assign,assignment]
        self.closed = False

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


def play(workload: Workload, count: int) -> None:
    """Run a workload in this process; AssertionError if ferrows does not answer as it should."""
    asyncio.run(echo(workload.batch, workload.size, count) if workload.batch else opening(count))


async def echo(batch: int, size: int, count: int) -> None:
    """Echo ``count`` messages of ``size`` bytes, ``batch`` of them in each read."""
    from ferrows.websocket import Websocket

    async def handler() -> None:
        async for message in ws:
            await ws.send(message)

    loop, transport = asyncio.get_running_loop(), Transport()
    ws = Websocket(loop, transport)
    task = asyncio.ensure_future(handler())
    await asyncio.sleep(0)
    message = TEXT * (size // len(TEXT))
    masked = bytes(byte ^ MASK[index % 4] for index, byte in enumerate(message))
    data = (b"\x81" + length(size, masked=True) + MASK + masked) * batch
    answer = (b"\x81" + length(size) + message) * batch

    def read(times: int, done: asyncio.Future[None]) -> None:
        for _ in range(times):
            ws.receive_data(data)
        done.set_result(None)

    left = count // batch
    while left:
        times, done = min(left, READS_A_TURN), loop.create_future()
        # As the transport does: from the loop, where no task runs.
        loop.call_soon(read, times, done)
        await done
        left -= times
    assert transport.written[-1] == answer
    loop.call_soon(ws.receive_data, CLOSE)
    await task
    assert ws.messages_sent == count, ws.messages_sent


def length(size: int, *, masked: bool = False) -> bytes:
    """Return what says how long a payload is (RFC 6455 §5.2)."""
    bit = 0x80 if masked else 0
    return bytes([bit | size]) if size < 126 else bytes([bit | 127]) + size.to_bytes(8, "big")


async def opening(count: int) -> None:
    """Open ``count`` connections one after the other: request, handshake, a handler that waits, Close, end."""
    from ferrows import App, Request, Websocket
    from ferrows.server.protocols.websocket_protocol import WebSocketProtocol

    app = App("profiled", env_prefix=None)
    app.config.ACCESS_LOG = False
    app.config.WEBSOCKET_PING_INTERVAL = None
    ended = 0

    @app.websocket("/ws")
    async def handler(request: Request, ws: Websocket) -> None:
        nonlocal ended
        async for message in ws:
            await ws.send(message)
        ended += 1

    app.finalize()
    loop, connections = asyncio.get_running_loop(), set[Any]()
    for _ in range(count):
        protocol, transport = WebSocketProtocol(loop, app, connections=connections), Transport()
        protocol.connection_made(transport)
        loop.call_soon(protocol.data_received, REQUEST)
        await turns(SETTLED)
        assert len(transport.written) == 1 and transport.written[0].startswith(b"HTTP/1.1 101 ")
        loop.call_soon(protocol.data_received, CLOSE)
        await turns(SETTLED)
        loop.call_soon(protocol.connection_lost, None)
        await turns(SETTLED)
    assert ended == count, ended


async def turns(count: int) -> None:
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


# --------------------------------------------------------------------------------------------------------------------
# Profile


def profile(workload: Workload, extension: Path) -> dict[Cost, float]:
    """Return the instructions of one repetition by object and function."""
    shorter, longer = (count_instructions(workload, count, extension) for count in workload.counts)
    more = workload.counts[1] - workload.counts[0]
    costs = {key: (longer.get(key, 0) - shorter.get(key, 0)) / more for key in longer.keys() | shorter.keys()}
    return {key: cost for key, cost in costs.items() if cost}


def count_instructions(workload: Workload, count: int, extension: Path) -> dict[Cost, int]:
    """Run a workload in a process under callgrind; return the instructions of each function itself."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "callgrind.out"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={output}", sys.executable, "-m"]
        command += ["benchmarks.instructions", str(extension.resolve()), "--play", workload.name, str(count)]
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT / "python")}
        environment.pop("FERROWS_NO_EXTENSIONS", None)
        ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if ran.returncode:
            sys.exit(f"{workload.name} ended with {ran.returncode} under valgrind:\n{ran.stderr[-2000:]}")
        with output.open(encoding="utf-8", errors="replace") as lines:
            return exclusive_costs(lines)


def exclusive_costs(lines: Iterable[str]) -> dict[Cost, int]:
    """Read callgrind's format: what each function of each object took itself, without what it called."""
    costs: dict[Cost, int] = {}
    names: dict[str, dict[str, str]] = {"ob": {}, "fn": {}}
    current, called = {"ob": "", "fn": ""}, False
    for line in lines:
        if found := re.match(r"(c?)(ob|fn)=(?:\((\d+)\))? ?(.*)", line):
            callee, kind, number, name = found.groups()
            if number:
                # A name stands beside its number where it comes for the first time.
                name = names[kind].setdefault(number, name) if name else names[kind][number]
            if not callee:
                current[kind] = name
        elif line.startswith("calls="):
            called = True
        elif line[0] in "+-*0123456789":
            if not called:
                key = current["ob"], current["fn"]
                costs[key] = costs.get(key, 0) + int(line.split()[1])
            # The line after a call is the cost of what was called.
            called = False
    return costs


# --------------------------------------------------------------------------------------------------------------------
# Tables


def report(profiles: Mapping[Workload, Mapping[Cost, float]]) -> str:
    """Return the tables in Markdown."""
    parts = [
        f"Measured on {platform.python_implementation()} {platform.python_version()}, {platform.machine()}, with "
        "asyncio's own loop and a transport that keeps the last write. Opening includes the turns of the loop that it "
        "takes; the loop is the interpreter's."
    ]
    rows = [(workload.title, f"{sum(costs.values()):,.0f}", workload.unit) for workload, costs in profiles.items()]
    parts.append(table(("", "instructions", "for a"), rows))
    for workload, costs in profiles.items():
        parts += [f"### {workload.title}", by_object(costs), by_function(costs)]
    return "\n\n".join(parts)


def by_object(costs: Mapping[Cost, float]) -> str:
    """Return the share of each object."""
    objects: dict[str, float] = {}
    for (file, _), cost in costs.items():
        objects[object_name(file)] = objects.get(object_name(file), 0) + cost
    total = sum(objects.values())
    ordered = sorted(objects.items(), key=lambda item: -item[1])
    return table(
        ("where", "instructions", "share"),
        [(name, f"{cost:,.0f}", f"{cost / total:.1%}") for name, cost in ordered if cost / total >= 0.001],
    )


def by_function(costs: Mapping[Cost, float]) -> str:
    """Return the functions that take most."""
    functions: dict[Cost, float] = {}
    for (file, function), cost in costs.items():
        key = object_name(file), function_name(function)
        functions[key] = functions.get(key, 0) + cost
    total = sum(functions.values())
    ordered = sorted(functions.items(), key=lambda item: -item[1])[:TOP]
    return table(
        ("function", "where", "instructions", "share"),
        [(f"`{name}`", where, f"{cost:,.0f}", f"{cost / total:.1%}") for (where, name), cost in ordered],
    )


def object_name(file: str) -> str:
    """Return what the tables call an object file."""
    name = Path(file).name
    for pattern, called in (
        (r"(lib)?_core\b", "extension"),
        (r"(lib)?python3", "interpreter"),
        (r"_asyncio\b", "_asyncio"),
        (r"libc[.-]", "libc"),
        (r"ld-linux", "loader"),
    ):
        if re.match(pattern, name):
            return called
    return name.partition(".")[0] or "unknown"


def function_name(name: str) -> str:
    """Return a function's name without what compilers append, and without a recursion's level."""
    name = re.sub(r"'\d+$", "", name)
    name = re.sub(r"(::h[0-9a-f]{16}|\.(constprop|isra|part|lto_priv|cold|llvm)[.\d]*)+$", "", name)
    return name if len(name) <= 80 else f"{name[:77]}..."


if __name__ == "__main__":
    main()
