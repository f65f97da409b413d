"""``WebSocketConnection``: what a handler holds when an ASGI server speaks the WebSocket protocol for it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from ...exceptions import ConnectionClosedError, ConnectionClosedOK, ServerError, WebsocketClosed
from ...log import error_logger
from ...websocket import CLEAN, Data, State, check_close, check_fragment, each, encoded

__all__ = ["WebSocketConnection"]

logger = logging.getLogger("ferrows.websocket")

Event = Mapping[str, Any]

_QUIET: Final = CLEAN | {1006}
"""Codes after which iteration ends quietly.

1006 is among them as a server's code does not tell a clean end from another: hypercorn reports 1006 for every close of
the client's, and uvicorn 1005 for a lost connection.
"""

_TURNS: Final = 5
"""Turns of the loop in which a disconnect arrives that the server knew of when it refused to send."""

_SENDS: Final = 64
"""Messages after which a sender lets others run: some servers never suspend, not even once the client is gone."""

_FINISH_TIMEOUT: Final = 2.0
"""Seconds that a Close has to leave once the handler is gone."""


class WebSocketConnection:
    """A WebSocket over the channels of an ASGI application, with the methods of :class:`ferrows.Websocket`.

    ``send`` and ``receive`` are the application's, ``subprotocols`` is what the client offers. ``max_size`` (bytes) and
    ``max_queue`` (messages) bound what waits to be received, None for no bound; a longer message ends the connection
    with 1009, after the server has read it whole. ``close_timeout`` is how long a Close may wait for a client that does
    not read, in seconds.

    What ASGI has no words for is the server's: frames, compression, pings, and the wait for the client's Close. So
    ``recv_streaming`` gives each message as one fragment, ``compress`` is ignored, :meth:`ping` raises ServerError, and
    :attr:`latency` stays 0.
    """

    latency = 0.0
    """Round-trip time in seconds; always 0, since ASGI has no pings."""

    def __init__(
        self,
        send: Callable[[Any], Awaitable[None]],
        receive: Callable[[], Awaitable[Event]],
        subprotocols: Sequence[str] | None = None,
        *,
        max_size: int | None = 2**20,
        max_queue: int | None = 32,
        close_timeout: float = 10,
    ) -> None:
        self.subprotocol: str | None = None
        """The subprotocol that both sides agreed on, or None."""
        self.max_size = max_size
        self.max_queue = max_queue
        self.close_timeout = close_timeout
        self.messages_received = 0
        self.bytes_received = 0
        self.messages_sent = 0
        self.bytes_sent = 0
        self._send = send
        self._receive = receive
        self._offered = list(subprotocols or ())
        self._accepted = False
        # What has arrived, and its size in bytes.
        self._messages: deque[Data] = deque()
        self._waiting = 0
        self._paused = False
        # Resolved for the task that receives, and for the reader once there is room.
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        # The server has refused to send, and has not said why yet.
        self._unsendable = False
        # Code and reason of whichever side ended the connection first, and which it was.
        self._end: tuple[int, str] | None = None
        self._ended_by = "network"
        self._closed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<WebSocketConnection {self.server_state.name.lower()} at {id(self):#x}>"

    # ---- the opening handshake

    @property
    def subprotocols(self) -> list[str]:
        """The subprotocols that the client offers."""
        return self._offered

    async def accept(self, subprotocols: Sequence[str] | None = None) -> None:
        """Accept the connection, with the first of ``subprotocols`` that the client offers, or without any.

        :exc:`WebsocketClosed`: the client left before.
        """
        self.subprotocol = next((name for name in subprotocols or () if name in self._offered), None)
        await self._transmit({"type": "websocket.accept", "subprotocol": self.subprotocol, "headers": []})
        self._accepted = True
        self._read()

    # ---- state

    @property
    def open(self) -> bool:
        """Whether messages can be sent."""
        return self._accepted and self._end is None and not self._unsendable

    @property
    def closed(self) -> bool:
        """Whether the client is gone, or the server has our Close."""
        return self._closed.is_set()

    @property
    def client_state(self) -> State:
        """How far the client is; that it is closing is never known before it is gone."""
        if not self._accepted:
            return State.CONNECTING
        return State.CLOSED if self._closed.is_set() or self._unsendable else State.OPEN

    @property
    def server_state(self) -> State:
        """How far this side is: closing while the Close is on its way to the server."""
        if self._closed.is_set() or self._unsendable:
            return State.CLOSED
        if self._end is not None:
            return State.CLOSING
        return State.OPEN if self._accepted else State.CONNECTING

    @property
    def close_code(self) -> int | None:
        """The code that the connection ended with, ours or what the server reports; None while it is open."""
        return None if self._end is None and not self._unsendable else self._ended[0]

    @property
    def close_reason(self) -> str | None:
        """The reason that goes with :attr:`close_code`, perhaps empty; None while the connection is open."""
        return None if self._end is None and not self._unsendable else self._ended[1]

    @property
    def closed_by(self) -> str:
        """Which side ended the connection: "server", "client", or "network" where no Close is known of."""
        return self._ended_by

    @property
    def _ended(self) -> tuple[int, str]:
        return (1006, "") if self._end is None else self._end

    def _closed_error(self) -> WebsocketClosed:
        code, reason = self._ended
        return ConnectionClosedOK(code, reason) if code in CLEAN else ConnectionClosedError(code, reason)

    # ---- receiving

    async def recv(self, timeout: float | None = None) -> Data:
        """Return the next message; see :class:`ferrows.Websocket`.

        ``timeout`` is in seconds: TimeoutError. Neither it nor a cancellation loses a message. ServerError where
        another task receives.
        """
        if timeout is None:
            return await self._next()
        async with asyncio.timeout(timeout):
            return await self._next()

    receive = recv

    def __aiter__(self) -> WebSocketConnection:
        return self

    async def __anext__(self) -> Data:
        try:
            return await self._next()
        except WebsocketClosed as closed:
            if closed.code in _QUIET:
                raise StopAsyncIteration from None
            raise

    async def recv_burst(self, max_recv: int = 256) -> Sequence[Data]:
        """Return the messages that have arrived, at most ``max_recv`` of them, without waiting; ``[]`` if none."""
        self._check_receiver()
        self._read()
        if not self._messages and self._end is None:
            # A loop around this call must not keep the reader from running.
            await asyncio.sleep(0)
        if not self._messages and self._end is not None:
            raise self._closed_error()
        return [self._take() for _ in range(min(max_recv, len(self._messages)))]

    async def recv_streaming(self) -> AsyncIterator[Data]:
        """Iterate over the fragments of the next message: one, since an ASGI server joins them."""
        yield await self._next()

    def pause_frames(self) -> None:
        """Take no more from the server until :meth:`resume_frames`; what has arrived can still be received."""
        self._paused = True

    def resume_frames(self) -> None:
        """Go on after :meth:`pause_frames`."""
        self._paused = False
        self._make_room()

    async def _next(self) -> Data:
        self._check_receiver()
        self._read()
        while not self._messages:
            if self._end is not None:
                raise self._closed_error()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._take()

    def _check_receiver(self) -> None:
        if self._waiter is not None:
            raise ServerError("another task is waiting for a message of this connection")

    def _take(self) -> Data:
        message = self._messages.popleft()
        self._waiting -= _size(message)
        self._make_room()
        return message

    # ---- what arrives

    def _read(self) -> None:
        # The task that receives may be cancelled at any time; a message that the server hands out then would be lost.
        # And only who listens learns that the client is gone.
        if self._reader is None:
            self._reader = asyncio.get_running_loop().create_task(self._read_events())

    async def _read_events(self) -> None:
        try:
            while True:
                while self._is_full():
                    self._room = asyncio.get_running_loop().create_future()
                    await self._room
                event = await self._receive()
                if event["type"] == "websocket.receive":
                    self._append(event)
                elif event["type"] == "websocket.disconnect":
                    # Without a code it is 1005, says the specification.
                    code = event.get("code", 1005)
                    self._finish(code, event.get("reason") or "", "network" if code == 1006 else "client")
                    return
        except Exception:
            error_logger.exception("the server's receive failed")
            self._finish(1006, "", "network")

    def _is_full(self) -> bool:
        """Whether the server is to wait. After the end it is not: it may be waiting to hand out the disconnect."""
        if self._end is not None:
            return False
        many = self.max_queue is not None and len(self._messages) >= self.max_queue
        return self._paused or many or (self.max_size is not None and self._waiting >= self.max_size > 0)

    def _make_room(self) -> None:
        if self._room is not None and not self._room.done() and not self._is_full():
            self._room.set_result(None)

    def _append(self, event: Event) -> None:
        if self._end is not None:
            return
        text = event.get("text")
        message: Data = text if text is not None else event.get("bytes") or b""
        size = _size(message)
        if self.max_size is not None and size > self.max_size:
            logger.info("%r: a message of %d bytes, permitted %d, ends it with 1009", self, size, self.max_size)
            self.fail_connection(1009, f"message of {size} bytes, permitted {self.max_size}")
            return
        self.messages_received += 1
        self.bytes_received += size
        self._messages.append(message)
        self._waiting += size
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # ---- sending

    async def send(self, data: Any, encoding: str | None = None, *, compress: bool | None = None) -> None:
        """Send a message; the data and the errors are those of :class:`ferrows.Websocket`.

        An iterable is joined into one message first. One that raises half-way leaves the connection as it is.
        """
        data = encoded(data, encoding)
        if isinstance(data, bytearray | memoryview):
            data = bytes(data)
        elif not isinstance(data, str | bytes):
            data = await _joined(data)
            if data is None:
                return
        if self._end is not None or self._unsendable:
            raise self._closed_error()
        await self._transmit({"type": "websocket.send", "text" if isinstance(data, str) else "bytes": data})
        self.messages_sent += 1
        self.bytes_sent += _size(data)
        if not self.messages_sent % _SENDS:
            await asyncio.sleep(0)

    async def _transmit(self, event: Event) -> None:
        try:
            await self._send(event)
        except Exception as error:
            # The specification's word for a client that is gone is OSError. Servers have others too, when they have
            # ended the connection and the disconnect is still in their queue.
            for _ in range(_TURNS):
                if self._end is not None:
                    break
                await asyncio.sleep(0)
            if isinstance(error, OSError):
                self._unsendable = True
            elif self._end is None:
                raise
            raise self._closed_error() from error

    # ---- ping and pong

    async def ping(self, data: Any = None) -> asyncio.Future[float]:
        """Raise ServerError: ASGI has no pings, the server sends its own."""
        raise ServerError("an ASGI application cannot ping: its server sends the pings that keep a connection alive")

    async def pong(self, data: Any = b"") -> None:
        """Do nothing: ASGI has no pongs, and the heartbeat is the server's."""

    async def keepalive_ping(self) -> None:
        """Return when the connection has ended; its server keeps it alive."""
        await self.wait_closed()

    def abort_pings(self) -> None:
        """Do nothing: there are no pings in flight."""

    # ---- closing

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Have the server send a Close, and wait until it has taken it; the client's Close is for the server to await.

        A second call sends nothing. ValueError: a code that may not be sent (RFC 6455 §7.4), a reason of more than 123
        bytes.
        """
        self.end_connection(code, reason)
        await self.wait_closed()

    def end_connection(self, code: int = 1000, reason: str = "") -> None:
        """Begin what :meth:`close` does, without waiting for its end."""
        check_close(code, reason)
        if self._end is None and not self._unsendable:
            self._end, self._ended_by = (code, reason), "server"
            self._closing = asyncio.get_running_loop().create_task(self._send_close(code, reason))
            self._wake()
            self._make_room()

    def fail_connection(self, code: int = 1006, reason: str = "") -> bool:
        """End the connection with ``code``, 1011 in place of 1006: an ASGI application cannot drop its transport.

        False if the connection had ended already.
        """
        if self._end is not None or self._unsendable:
            return False
        self.end_connection(1011 if code == 1006 else code, reason)
        return True

    async def auto_close_connection(self) -> None:
        """Close with 1000 unless closing already, and wait for the end."""
        await self.close()

    async def wait_closed(self) -> None:
        """Wait until the client is gone, or the server has our Close."""
        self._read()
        await self._closed.wait()

    async def wait_for_connection_lost(self, timeout: float | None = None) -> bool:
        """Do as :meth:`wait_closed`, at most ``timeout`` seconds; tell whether the connection has ended."""
        try:
            async with asyncio.timeout(timeout):
                await self.wait_closed()
        except TimeoutError:
            return False
        return True

    async def release(self) -> None:
        """Let go of the server's channels; what runs an application does when its handler is gone."""
        if self._closing is not None:
            await asyncio.wait((self._closing,), timeout=_FINISH_TIMEOUT)
        for task in (self._closing, self._reader):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.wait((task,), timeout=_FINISH_TIMEOUT)
        self._finish(1006, "", "network")

    async def _send_close(self, code: int, reason: str) -> None:
        try:
            async with asyncio.timeout(self.close_timeout):
                await self._transmit({"type": "websocket.close", "code": code, "reason": reason})
        except (TimeoutError, WebsocketClosed):
            # It is gone, or it reads nothing. The server drops the connection when the application returns.
            pass
        finally:
            self._closed.set()

    def _finish(self, code: int, reason: str, by: str) -> None:
        """Take note of the end, unless it is known; whoever waits learns of it."""
        if self._end is None:
            self._end, self._ended_by = (code, reason), by
        self._closed.set()
        self._wake()


async def _joined(data: Any) -> Data | None:
    """Join the fragments of a message; None where there are none."""
    if not isinstance(data, AsyncIterable):
        if not isinstance(data, Iterable):
            raise TypeError(f"cannot send {type(data).__name__}, permitted: str, bytes-like, or an iterable of these")
        data = each(data)
    fragments: list[Any] = []
    async for fragment in data:
        check_fragment(fragment, isinstance(fragments[0] if fragments else fragment, str))
        # Copied, as whoever makes them may use one buffer for all.
        fragments.append(fragment if isinstance(fragment, str) else bytes(fragment))
    if not fragments:
        return None
    return "".join(fragments) if isinstance(fragments[0], str) else b"".join(fragments)


def _size(data: Data) -> int:
    """Bytes of a message's payload."""
    return len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode("utf-8", "surrogatepass"))
