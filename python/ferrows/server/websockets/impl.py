"""``WebsocketImplProtocol``: a websocket around a sans-I/O connection that somebody else has opened."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, cast

from ...engines import Engine, EngineWebsocket, FerrowsEngine
from ...events import Event, Pong

__all__ = ["WebsocketImplProtocol"]


class WebsocketImplProtocol(EngineWebsocket):
    """An :class:`EngineWebsocket` that is made before its transport is known, and fed by whoever has the transport.

    ``ws_proto`` is a :class:`ferrows.engines.Engine`, the codec's ``Connection``, or a ``ServerProtocol`` of the
    package websockets, open in either case; it limits the size of a message. TypeError for anything else. Times are in
    seconds; ``max_queue`` None lets any number of messages wait.

    A subclass of :class:`ferrows.server.WebSocketProtocol` that does its own handshake gives itself one of these as
    ``websocket`` and awaits :meth:`connection_made`; it is fed, paused and ended by the base class then. Others call
    :meth:`data_received`, :meth:`eof_received`, :meth:`connection_lost`, ``pause_writing`` and ``resume_writing``.
    """

    __slots__ = ("auto_closer_task", "io_proto", "keepalive_ping_task", "ws_proto")

    def __new__(
        cls,
        ws_proto: Any,
        max_queue: int | None = None,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
        close_timeout: float = 10,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> WebsocketImplProtocol:
        self = super().__new__(
            cls, loop or asyncio.get_running_loop(), None, engine=_engine(ws_proto), max_size=None, max_queue=max_queue
        )
        return cast(WebsocketImplProtocol, self)

    def __init__(
        self,
        ws_proto: Any,
        max_queue: int | None = None,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
        close_timeout: float = 10,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        engine = self._inbox.engine
        super().__init__(
            self.loop,
            None,
            engine=engine,
            subprotocol=engine.subprotocol,
            close_timeout=close_timeout,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
        )
        self.ws_proto = ws_proto
        self.io_proto: Any = None
        self.keepalive_ping_task: asyncio.Task[None] | None = None
        self.auto_closer_task: asyncio.Task[None] | None = None

    # ---- the transport's side

    async def connection_made(self, io_proto: Any, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Take the protocol whose ``transport`` is the connection's, and begin to keep the connection alive.

        ``io_proto`` is a :class:`FerrowsProtocol`, or what else has ``transport`` and ``send``.
        """
        if loop is not None:
            self.loop = loop  # type: ignore[misc]  # the stream's own, in Python
        self.io_proto = io_proto
        self.transport = io_proto.transport  # type: ignore[misc]
        if self.ping_interval:
            self.keepalive_ping_task = self.loop.create_task(self.keepalive_ping())
        self.auto_closer_task = self.loop.create_task(self.auto_close_connection())

    def data_received(self, data: bytes) -> None:
        """Take what came from the peer: answer it, and wake whoever waits for a message."""
        self.receive_data(data)

    def eof_received(self) -> bool | None:
        """Take note that the peer sends no more; the transport closes itself."""
        self.receive_eof()
        return None

    def connection_lost(self, exc: BaseException | None) -> None:
        """Take note that the transport is gone: whoever waits learns of it."""
        self.lose_transport()

    async def auto_close_connection(self) -> None:
        """Wait for the end of the connection, then end its keepalive; :meth:`connection_made` starts it in a task.

        TCP is ended by the closing handshake itself, at the latest ``close_timeout`` seconds after it.
        """
        try:
            await self.wait_closed()
        finally:
            if self.keepalive_ping_task is not None:
                self.keepalive_ping_task.cancel()
            self.abort_pings()

    # ---- for those who drive ``ws_proto`` themselves

    async def async_data_received(
        self, data_to_send: bytes | Iterable[bytes], events_to_process: Sequence[Any]
    ) -> None:
        """Send what receiving made ``ws_proto`` say, then process what it gave as events."""
        await self.send_data(data_to_send)
        await self.process_events(events_to_process)

    async def async_eof_received(self, data_to_send: bytes | Iterable[bytes], events_to_process: Sequence[Any]) -> None:
        """The same at the end of what the peer sends."""
        await self.async_data_received(data_to_send, events_to_process)
        self.receive_eof()

    async def process_events(self, events: Sequence[Any]) -> None:
        """Process a list of incoming events: those of :mod:`ferrows.events`, or frames of the package websockets.

        A frame's answer is the business of the ``ServerProtocol`` that parsed it, and in its ``data_to_send``; an event
        of an engine or of the codec is answered here. Requests and responses are passed over.
        """
        for event in events:
            if isinstance(event, tuple):
                await self._process_event(cast(Event, event))
            elif hasattr(event, "opcode"):
                await self._process_frame(event)
        self._run_turn()

    async def _process_event(self, event: Event) -> None:
        if isinstance(event, Pong):
            await self.process_pong(event)
        else:
            self._inbox.take_event(event)

    async def _process_frame(self, frame: Any) -> None:
        match int(frame.opcode):
            case 0x8:
                received, sent = self.ws_proto.close_rcvd, self.ws_proto.close_sent
                self._inbox.end(
                    (int(received.code), received.reason), None if sent is None else (int(sent.code), sent.reason)
                )
            case 0x9:
                """Answered by what parsed it."""
            case 0xA:
                await self.process_pong(frame)
            case _:
                frame_events = getattr(self.engine, "frame_events", None)
                if frame_events is None:
                    raise TypeError("frames are taken where ws_proto is a ServerProtocol of websockets, else events")
                for event in frame_events(frame):
                    self._inbox.take_event(event)

    async def process_pong(self, frame: Any) -> None:
        """Resolve the ping that a Pong answers, and those before it (RFC 6455 §5.5.3)."""
        self._pong_received(bytes(frame.data))

    async def send_data(self, data_to_send: bytes | Iterable[bytes]) -> None:  # type: ignore[override]
        """Write, and wait while the peer does not read; empty bytes among several end TCP, as websockets has it."""
        for data in [data_to_send] if isinstance(data_to_send, bytes) else data_to_send:
            if data:
                await self.io_proto.send(data)
            elif self.transport is not None and not isinstance(data_to_send, bytes):
                self.transport.close()

    # ---- the handler's side

    def send(
        self, message: Any, encoding: str | None = None, *, compress: bool | None = None
    ) -> Coroutine[Any, Any, None]:
        """Send a message, as :meth:`ferrows.Websocket.send` does."""
        return super().send(message, encoding, compress=compress)


def _engine(ws_proto: Any) -> Engine:
    if hasattr(ws_proto, "hold_pongs"):
        return FerrowsEngine(connection=ws_proto)
    if hasattr(ws_proto, "events_received"):
        from ...engines.websockets import WebsocketsEngine

        return WebsocketsEngine(protocol=ws_proto)
    if hasattr(ws_proto, "events") and hasattr(ws_proto, "data_to_send"):
        return cast(Engine, ws_proto)
    raise TypeError(
        f"ws_proto is {type(ws_proto).__name__}, permitted: an engine, the codec's Connection, "
        "or a ServerProtocol of websockets"
    )
