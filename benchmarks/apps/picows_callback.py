"""picows as it is meant to be used: a callback for each frame."""

from __future__ import annotations

from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from benchmarks.apps.options import BACKLOG, HOST, MAX_SIZE, parse

DATA = (WSMsgType.TEXT, WSMsgType.BINARY)

connected: set[WSTransport] = set()


class Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        # A frame is a message here: the load generator sends no fragments.
        if frame.msg_type in DATA:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()


class Broadcast(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        connected.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        connected.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type in DATA:
            payload = frame.get_payload_as_bytes()
            for peer in tuple(connected):
                peer.send(frame.msg_type, payload)
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()


def listener(request: WSUpgradeRequest) -> WSListener:
    return Broadcast() if request.path == b"/broadcast" else Echo()


async def main(port: int) -> None:
    server = await ws_create_server(listener, HOST, port, max_frame_size=MAX_SIZE, backlog=BACKLOG)
    await server.serve_forever()


if __name__ == "__main__":
    options = parse()
    options.run(main(options.port))
