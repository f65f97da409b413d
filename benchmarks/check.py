"""Ask every server for an echo, a broadcast and a page: ``python -m benchmarks.check [name …]``."""

from __future__ import annotations

import asyncio
import sys
import traceback
import urllib.request

from websockets.asyncio.client import connect

from benchmarks.apps.options import GREETING, HOST, MAX_SIZE
from benchmarks.process import free_port, running
from benchmarks.servers import ROOT, SERVERS, Ability, Server

SIZES = (0, 8, 125, 126, 65_535, 65_536, 2**20)


def main() -> int:
    """Check the servers named, or all; return 1 if one of them failed."""
    failed = False
    for server in SERVERS:
        # The floor answers the load generator's messages only.
        if server.program == "floor-epoll" or (sys.argv[1:] and server.name not in sys.argv[1:]):
            continue
        for deflate in (False, True):
            if deflate and Ability.DEFLATE not in server.abilities:
                continue
            label = f"{server.name}{' with deflate' if deflate else ''}"
            try:
                print(f"{label}: {check(server, deflate=deflate)}")
            except Exception:
                failed = True
                print(f"{label}: FAILED")
                traceback.print_exc()
    return failed


def check(server: Server, *, deflate: bool) -> str:
    """Check one server; return what it was asked for, AssertionError if an answer is wrong."""
    port = free_port(HOST)
    with running(
        server.command(port, deflate=deflate),
        core=None,
        host=HOST,
        port=port,
        environment={**server.environment, "PYTHONPATH": "python"},
        folder=ROOT,
    ):
        return asyncio.run(asyncio.wait_for(_check(server, port, deflate), 30))


async def _check(server: Server, port: int, deflate: bool) -> str:
    done = [await _check_echo(port, deflate)]
    if Ability.BROADCAST in server.abilities:
        await _check_broadcast(port)
        done.append("broadcast")
    if Ability.HTTP in server.abilities:
        body = await asyncio.to_thread(_page, port)
        assert body.strip() == GREETING.strip(), body
        done.append("HTTP")
    return ", ".join(done)


async def _check_echo(port: int, deflate: bool) -> str:
    async with _connection(port, "/ws", deflate) as ws:
        negotiated = ws.response.headers.get("Sec-WebSocket-Extensions") if ws.response else None
        assert bool(negotiated) == deflate, negotiated
        for size in SIZES:
            for message in ("ä" * (size // 2), bytes(range(256)) * (size // 256 + 1)):
                await ws.send(message)
                assert await ws.recv() == message, f"echo of {len(message)} {type(message).__name__}"
        for number in range(100):
            await ws.send(str(number))
        assert [await ws.recv() for _ in range(100)] == [str(number) for number in range(100)]
    return f"echo{f' ({negotiated})' if negotiated else ''}"


async def _check_broadcast(port: int) -> None:
    async with _connection(port, "/broadcast", False) as one, _connection(port, "/broadcast", False) as two:
        await asyncio.sleep(0.1)  # both have joined
        for message in ("hello", b"\x00\xff"):
            await one.send(message)
            assert await one.recv() == message
            assert await two.recv() == message


def _connection(port: int, path: str, deflate: bool) -> connect:
    return connect(
        f"ws://{HOST}:{port}{path}",
        compression="deflate" if deflate else None,
        max_size=MAX_SIZE,
        ping_interval=None,
        proxy=None,
    )


def _page(port: int) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{HOST}:{port}/", timeout=5) as response:
        return str(response.read().decode())


if __name__ == "__main__":
    sys.exit(main())
