"""The app that every peer of the interoperability tests talks to, in a process of its own.

`python server.py --loop uvloop|asyncio [--port 0] [--certificate PEM --key PEM]` prints the port that it listens on and
serves until SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator

import uvloop

from ferrows import App, Request, Websocket
from ferrows.response import HTTPResponse, html, json

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
MAX_SIZE = 2**22

app = App("interop")
closes: dict[str, asyncio.Future[dict[str, object]]] = {}
room: set[Websocket] = set()


@app.websocket("/echo", max_size=MAX_SIZE)
async def echo(request: Request, ws: Websocket) -> None:
    async for message in ws:
        await ws.send(message)


@app.websocket("/deflate", max_size=MAX_SIZE, compression="deflate")
async def deflate(request: Request, ws: Websocket) -> None:
    """Echo, compressed whatever the size."""
    async for message in ws:
        await ws.send(message, compress=True)


@app.websocket("/takeover", max_size=MAX_SIZE, compression={"server_no_context_takeover": False, "threshold": 0})
async def takeover(request: Request, ws: Websocket) -> None:
    """Echo, compressed with the window kept from message to message where the client agrees."""
    async for message in ws:
        await ws.send(message)


@app.websocket("/subprotocol", subprotocols=["chat.v2", "chat.v1"])
async def subprotocol(request: Request, ws: Websocket) -> None:
    await ws.send(f"subprotocol {ws.subprotocol}")


@app.websocket("/close/<code:int>")
async def close(request: Request, ws: Websocket, code: int) -> None:
    await ws.close(code, request.args.get("reason", ""))


@app.websocket("/watched/<key>")
async def watched(request: Request, ws: Websocket, key: str) -> None:
    """Keep how the client ended the connection, for `/ends/<key>`."""
    try:
        async for _ in ws:
            pass
    finally:
        _end(key).set_result({"code": ws.close_code, "reason": ws.close_reason})


@app.get("/ends/<key>")
async def ends(request: Request, key: str) -> HTTPResponse:
    """Wait until the client of `/watched/<key>` is gone, and answer with the code and reason that it gave."""
    return json(await asyncio.wait_for(_end(key), 10))


def _end(key: str) -> asyncio.Future[dict[str, object]]:
    if key not in closes:
        closes[key] = asyncio.get_running_loop().create_future()
    return closes[key]


@app.websocket("/fragmented", max_size=MAX_SIZE)
async def fragmented(request: Request, ws: Websocket) -> None:
    """Send each message back in fragments of three characters or bytes, by turns from both kinds of iterables."""

    def parts(message: str | bytes) -> Iterator[str | bytes]:
        for start in range(0, len(message), 3):
            yield message[start : start + 3]

    async def slow_parts(message: str | bytes) -> AsyncIterator[str | bytes]:
        for part in parts(message):
            await asyncio.sleep(0)
            yield part

    while True:
        await ws.send(parts(await ws.recv()))
        await ws.send(slow_parts(await ws.recv()))


@app.websocket("/streamed", max_size=MAX_SIZE)
async def streamed(request: Request, ws: Websocket) -> None:
    """Read each message fragment by fragment, and answer with the list of them."""
    while True:
        parts = [part async for part in ws.recv_streaming()]
        await ws.send({"parts": [part if isinstance(part, str) else part.hex() for part in parts]}, encoding="json")


@app.websocket("/ping")
async def ping(request: Request, ws: Websocket) -> None:
    """Ping with each message as the payload, and answer with the round-trip time."""
    async for message in ws:
        pong = await ws.ping(message)
        await ws.send({"seconds": await asyncio.wait_for(pong, 10)}, encoding="json")


@app.websocket("/room")
async def broadcast(request: Request, ws: Websocket) -> None:
    """Send each message to everyone here."""
    room.add(ws)
    try:
        await ws.send(f"{len(room)} here")
        async for message in ws:
            for member in tuple(room):
                await member.send(message)
    finally:
        room.discard(ws)


@app.get("/page")
async def page(request: Request) -> HTTPResponse:
    """An empty page, from whose origin a browser opens its connections."""
    return html("<!doctype html><title>interop</title>")


async def serve(sock: socket.socket, tls: ssl.SSLContext | None) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = await app.create_server(sock=sock, ssl=tls)
    await server.startup()
    await server.before_start()
    await server.start_serving()
    await server.after_start()
    print(sock.getsockname()[1], flush=True)
    await stop.wait()
    await server.before_stop()
    server.close()
    await server.wait_closed()
    await server.after_stop()


def main() -> None:
    arguments = argparse.ArgumentParser(description="the app under the interoperability tests")
    arguments.add_argument("--loop", choices=sorted(LOOPS), default="uvloop")
    arguments.add_argument("--port", type=int, default=0)
    arguments.add_argument("--certificate", help="PEM file: serve TLS")
    arguments.add_argument("--key", help="PEM file")
    options = arguments.parse_args()
    tls = None
    if options.certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.certificate, options.key)
    sock = socket.create_server(("127.0.0.1", options.port))
    with asyncio.Runner(loop_factory=LOOPS[options.loop]) as runner:
        runner.run(serve(sock, tls))


if __name__ == "__main__":
    main()
