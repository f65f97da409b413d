"""picows behind a queue: what a coroutine handler on top of its callbacks comes to."""

from __future__ import annotations

import asyncio

from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from benchmarks.apps.options import BACKLOG, HOST, MAX_SIZE, parse

connected: set[WSTransport] = set()


class Connection(WSListener):
    """Queues messages as str or bytes, as every coroutine API hands them over, and None at the end."""

    def __init__(self, path: bytes) -> None:
        self.broadcast = path == b"/broadcast"
        self.messages: asyncio.Queue[str | bytes | None] = asyncio.Queue()

    def on_ws_connected(self, transport: WSTransport) -> None:
        handler = broadcast if self.broadcast else echo
        self.task = asyncio.get_running_loop().create_task(handler(self, transport))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.messages.put_nowait(None)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        # A frame is a message here: the load generator sends no fragments.
        if frame.msg_type == WSMsgType.TEXT:
            self.messages.put_nowait(frame.get_payload_as_utf8_text())
        elif frame.msg_type == WSMsgType.BINARY:
            self.messages.put_nowait(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()


async def echo(connection: Connection, transport: WSTransport) -> None:
    while (message := await connection.messages.get()) is not None:
        send(transport, message)


async def broadcast(connection: Connection, transport: WSTransport) -> None:
    connected.add(transport)
    try:
        while (message := await connection.messages.get()) is not None:
            for peer in tuple(connected):
                send(peer, message)
    finally:
        connected.discard(transport)


def send(transport: WSTransport, message: str | bytes) -> None:
    if isinstance(message, str):
        transport.send(WSMsgType.TEXT, message.encode())
    else:
        transport.send(WSMsgType.BINARY, message)


def listener(request: WSUpgradeRequest) -> WSListener:
    return Connection(request.path)


async def main(port: int) -> None:
    server = await ws_create_server(listener, HOST, port, max_frame_size=MAX_SIZE, backlog=BACKLOG)
    await server.serve_forever()


if __name__ == "__main__":
    options = parse()
    options.run(main(options.port))
