"""WebSocket implementations that know nothing of ferrows: a whole asyncio protocol, and an object for a handshake."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.events import Request as UpgradeRequest

MAX_SIZE = 2**16


class ForeignProtocol(asyncio.Protocol):
    """An echo server on websockets' sans-I/O protocol, which does its own opening handshake."""

    ended: asyncio.Future[BaseException | None]

    def __init__(self) -> None:
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.protocol = ServerProtocol(
            max_size=MAX_SIZE,
            extensions=[
                ServerPerMessageDeflateFactory(
                    server_max_window_bits=12,
                    client_max_window_bits=12,
                )
            ],
        )
        self.kind = Opcode.TEXT
        self.message = b""

    def data_received(self, data: bytes) -> None:
        self.protocol.receive_data(data)
        for event in self.protocol.events_received():
            if isinstance(event, Request):
                self.protocol.send_response(self.protocol.accept(event))
            elif isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                self.take(event)
        self.flush()

    def take(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.CONT:
            self.kind, self.message = frame.opcode, b""
        self.message += bytes(frame.data)
        if not frame.fin:
            return
        if self.kind is Opcode.BINARY:
            self.protocol.send_binary(self.message)
            return
        try:
            text = self.message.decode()
        except UnicodeDecodeError:
            self.protocol.fail(1007, "not text")
            return
        if text.startswith("close "):
            _, code, reason = text.split(" ", 2)
            self.protocol.send_close(int(code), reason)
        else:
            self.protocol.send_text(self.message)

    def eof_received(self) -> bool:
        self.protocol.receive_eof()
        self.flush()
        return False

    def flush(self) -> None:
        for data in self.protocol.data_to_send():
            if data:
                self.transport.write(data)
            else:
                self.transport.close()

    def close(self) -> None:
        """What the server calls when it stops."""
        self.protocol.send_close(1001)
        self.flush()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.ended.set_result(exc)


class ForeignWebsocket:
    """What a ``protocol=`` subclass may return: an object of its own, here on wsproto with a queue."""

    def __init__(self, request: Any, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.connection = WSConnection(ConnectionType.SERVER)
        headers = [(name, value) for name, value in request.raw_headers]
        self.connection.initiate_upgrade_connection(headers, request.target)
        for event in self.connection.events():
            assert isinstance(event, UpgradeRequest)
            self.write(AcceptConnection())
        self.messages: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self.parts: list[Any] = []
        self.closed = False

    def write(self, event: Any) -> None:
        self.transport.write(self.connection.send(event))

    def receive_data(self, data: bytes) -> None:
        if self.closed:
            return
        self.connection.receive_data(data)
        for event in self.connection.events():
            if isinstance(event, TextMessage | BytesMessage):
                self.take(event)
            elif isinstance(event, Ping):
                self.write(event.response())
            elif isinstance(event, CloseConnection):
                if self.connection.state.name != "CLOSED":
                    self.write(CloseConnection(event.code, event.reason))
                self.end()
            if self.closed:
                return

    def take(self, event: Any) -> None:
        self.parts.append(event.data)
        if sum(map(len, self.parts)) > MAX_SIZE:
            self.write(CloseConnection(1009))
            self.end()
        elif event.message_finished:
            self.messages.put_nowait(event.data[:0].join(self.parts))
            self.parts.clear()

    def end(self) -> None:
        self.closed = True
        self.messages.put_nowait(None)
        self.transport.close()

    def connection_lost(self) -> None:
        if not self.closed:
            self.end()

    # What the handler uses.

    def __aiter__(self) -> ForeignWebsocket:
        return self

    async def __anext__(self) -> str | bytes:
        message = await self.messages.get()
        if message is None:
            raise StopAsyncIteration
        return message

    async def send(self, message: str | bytes) -> None:
        self.write(TextMessage(message) if isinstance(message, str) else BytesMessage(message))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        if not self.closed and self.connection.state.name == "OPEN":
            self.write(CloseConnection(code, reason))
