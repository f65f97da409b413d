"""``Websocket``: what a handler holds."""

from __future__ import annotations

import asyncio
import enum
import json
import logging
import os
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Coroutine, Generator, Iterable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ._codec import CLOSED, OPEN, MessageStream
from .deadlines import Deadlines, deadlines
from .exceptions import ConnectionClosedError, ConnectionClosedOK, ServerError, WebsocketClosed

if TYPE_CHECKING:
    from .extensions import DeflateParameters
    from .limits import InboundLimits

__all__ = [
    "CLEAN",
    "Data",
    "State",
    "Websocket",
    "WebsocketMethods",
    "check_close",
    "check_fragment",
    "each",
    "encoded",
]

Data: TypeAlias = str | bytes
"""A message as it is received: text or binary."""

_BytesLike: TypeAlias = bytes | bytearray | memoryview

CLEAN: Final = frozenset({1000, 1001, 1005})
"""Close codes after which iteration ends quietly: done, going away, no code given (RFC 6455 §7.4.1)."""

_REASON_LIMIT: Final = 123
"""Bytes of a close reason: a control frame's 125 less the code's two (§5.5)."""

SENDS_A_TURN: Final = 512
"""Messages, or fragments of one, after which a send suspends for one turn of the loop; the codec has the same."""

logger = logging.getLogger("ferrows.websocket")


class State(enum.IntEnum):
    """How far one side of a connection is."""

    CONNECTING = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3


if TYPE_CHECKING:
    _Stream = MessageStream
else:
    _Stream = object


class WebsocketMethods(_Stream):
    """The half of a websocket that is not per message, over a stream that its subclass brings.

    There is one stream for each kind of codec: :class:`Websocket` has the extension's, and
    :class:`ferrows.engines.EngineWebsocket` one that has an engine in the codec's place.
    """

    __slots__ = ()

    subprotocol: str | None
    close_timeout: float
    ping_interval: float | None
    ping_timeout: float | None
    latency: float
    _pings: dict[bytes, tuple[asyncio.Future[float], float]] | None
    # The stream's ``send_data``: a subclass may have something else by that name.
    if TYPE_CHECKING:
        _send_piece = MessageStream.send_data

    # What most connections never need, or only at their end, takes no room until it is set.
    # Those that wait for their turn to send, the first that came first.
    _senders: deque[asyncio.Future[None]] | None = None
    # A message is being sent in fragments; no other may begin.
    _fragmenting = False
    # Resolved when the peer reads again; for what may come between the fragments of a message.
    _writable: asyncio.Future[None] | None = None
    _lost: asyncio.Future[None] | None = None
    _close_deadlines: Deadlines | None = None
    _closed_first = False
    # Bytes that waited for the peer when the closing timer was armed.
    _unsent = 0

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport | None,
        *,
        max_size: int | None = 2**20,
        max_queue: int | None = 32,
        deflate: DeflateParameters | None = None,
        limits: InboundLimits | None = None,
        client: bool = False,
        subprotocol: str | None = None,
        close_timeout: float = 10,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
    ) -> None:
        # What the codec needs, MessageStream.__new__ has taken already.
        self.subprotocol = subprotocol
        """The subprotocol that both sides agreed on, or None."""
        self.close_timeout = close_timeout
        self.ping_interval = ping_interval
        self.ping_timeout = ping_timeout
        self.latency = 0.0
        """Round-trip time of the last answered ping in seconds; 0 before the first."""
        self._pings = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.server_state.name.lower()} at {id(self):#x}>"

    # ---- state

    @property
    def open(self) -> bool:
        """Whether messages can be sent."""
        return self.state == OPEN and self.transport is not None

    @property
    def closed(self) -> bool:
        """Whether the closing handshake is over or the transport is gone."""
        return self.state == CLOSED or self.transport is None

    @property
    def client_state(self) -> State:
        """How far the peer is: closing once its Close frame arrived."""
        if self.transport is None:
            return State.CLOSED
        return State.OPEN if self.close_received is None else State.CLOSING

    @property
    def server_state(self) -> State:
        """How far this side is: closing while its Close frame is on the way or not answered yet."""
        return State.CLOSED if self.transport is None else State(self.state)

    @property
    def close_code(self) -> int | None:
        """The code that the connection ended with (RFC 6455 §7.1.5); None while it is open.

        It is the code of whichever side closed first; 1005 if the peer gave none, 1006 if no Close frame came.
        """
        return None if self.open else self._end()[0]

    @property
    def close_reason(self) -> str | None:
        """The reason that goes with :attr:`close_code`, perhaps empty; None while the connection is open."""
        return None if self.open else self._end()[1]

    @property
    def closed_by(self) -> str:
        """Which side ended the connection: "server", "client", or "network" where no Close was exchanged."""
        if self.failure is not None or self._closed_first:
            return "server"
        return "network" if self.close_received is None else "client"

    def _end(self) -> tuple[int, str]:
        if self.failure is not None:
            return self.failure
        if self.close_received is None:
            return 1006, ""
        if self._closed_first and self.close_sent is not None:
            return self.close_sent  # the peer's is the answer
        return self.close_received

    def _closed_error(self) -> WebsocketClosed:
        code, reason = self._end()
        if self.close_received is None and self.close_sent is not None and self.transport is not None:
            # Closing, and the peer has not answered yet: what counts is what we said.
            code, reason = self.close_sent
        return ConnectionClosedOK(code, reason) if code in CLEAN else ConnectionClosedError(code, reason)

    def _iteration_end(self) -> BaseException:
        if self.close_received is not None and self._end()[0] in CLEAN:
            return StopAsyncIteration()
        error = self._closed_error()
        return StopAsyncIteration() if isinstance(error, ConnectionClosedOK) else error

    def _end_event(self) -> dict[str, Any]:
        """Return what ``recv_event`` gives at the end: ASGI's ``websocket.disconnect``."""
        error = self._closed_error()
        return {"type": "websocket.disconnect", "code": error.code, "reason": error.reason}

    # ---- receiving

    async def _recv_within(self, timeout: float) -> Data:
        async with asyncio.timeout(timeout):
            return await self.recv()

    async def recv_burst(self, max_recv: int = 256) -> Sequence[Data]:
        """Return the messages that have arrived, at most ``max_recv`` of them, without waiting; ``[]`` if none.

        Raises :exc:`WebsocketClosed` once the connection ended and nothing is left; :exc:`ServerError` while another
        task receives.
        """
        if self.waited_for:
            raise ServerError("another task is waiting for a message of this connection")
        messages = self.take_messages(max_recv)
        if not messages and not self.ended:
            # A loop around this call must not keep the event loop from reading.
            await asyncio.sleep(0)
            messages = self.take_messages(max_recv)
        if not messages and self.ended:
            raise self._closed_error()
        return messages

    async def recv_streaming(self) -> AsyncIterator[Data]:
        """Iterate over the fragments of the next message as they arrive (RFC 6455 §5.4).

        Text is decoded incrementally, so a character that is cut in two comes with the second fragment. Fragments
        without data are passed over; an empty message gives one empty fragment. Raises as ``recv`` does. When it is
        left half-way, the rest of the message is discarded.
        """
        while self.streaming:
            await self.recv_fragment()
        fin = False
        empty = True
        while not fin:
            data, fin = await self.recv_fragment()
            if data or (fin and empty):
                empty = False
                yield data

    def pause_frames(self) -> None:
        """Stop reading from the transport until :meth:`resume_frames`; what has arrived can still be received."""
        self.hold_frames(True)

    def resume_frames(self) -> None:
        """Go on reading after :meth:`pause_frames`."""
        self.hold_frames(False)

    # ---- sending

    async def _send_slowly(self, data: Any, encoding: str | None, *, compress: bool | None = None) -> None:
        """Send what the codec does not send at once: other types, other encodings, or with something in the way."""
        data = encoded(data, encoding)
        if isinstance(data, (str, bytes, bytearray, memoryview)):
            await self._wait_for_turn()
            try:
                self._send_piece(data, True, compress)
            finally:
                self._wake_next_sender()
            if not self.messages_sent % SENDS_A_TURN:
                await asyncio.sleep(0)
        elif isinstance(data, Awaitable):
            raise TypeError(f"cannot send {type(data).__name__}: it was not awaited")
        elif isinstance(data, AsyncIterable):
            await self._send_fragments(data, compress)
        elif isinstance(data, Iterable):
            await self._send_fragments(each(data), compress)
        else:
            raise TypeError(
                f"cannot send {type(data).__name__}, permitted: str, bytes-like, an iterable of these, "
                'or with encoding="json" what JSON knows'
            )

    async def _send_fragments(self, fragments: AsyncIterable[Any], compress: bool | None) -> None:
        iterator = aiter(fragments)
        try:
            fragment = await anext(iterator)
        except StopAsyncIteration:
            return
        text = isinstance(fragment, str)
        check_fragment(fragment, text)
        await self._wait_for_turn()
        self._fragmenting = self.send_queued = True
        try:
            self._send_piece(fragment, False, compress)
            count = 0
            async for fragment in iterator:
                check_fragment(fragment, text)
                await self._wait_until_writable()
                self._send_piece(fragment, False, compress)
                count += 1
                if not count % SENDS_A_TURN:
                    await asyncio.sleep(0)
                    self._require_sendable()
            # Only now is it known that the fragment before was the last one; to hold it back would delay a live stream.
            self._send_piece("" if text else b"", True, compress)
        except BaseException:
            # A message that was begun and cannot be ended leaves nothing that could be sent.
            if self.open and self.close_sent is None:
                self.fail(1011, "a fragmented message was not completed")
            raise
        finally:
            self._fragmenting = False
            self._wake_next_sender()

    def _give_way(self) -> Coroutine[Any, Any, None]:
        """Return what a plain send is that is done, but that lets the loop turn before it returns."""
        return _Yielding()

    async def _wait_for_turn(self) -> None:
        """Wait while the peer does not read, while a fragmented message is under way, and behind those who wait.

        Whoever returns from this sends without another await and calls :meth:`_wake_next_sender` then.
        """
        waited = False
        while True:
            self._require_sendable()
            if not self.write_paused and not self._fragmenting and (waited or not self._senders):
                return
            if self._senders is None:
                self._senders = deque()
            turn: asyncio.Future[None] = self.loop.create_future()
            # Whoever had the turn and found the peer not reading again keeps the first place.
            (self._senders.appendleft if waited else self._senders.append)(turn)
            self.send_queued = True
            try:
                await turn
            except BaseException:
                self._senders.remove(turn)
                self._wake_next_sender()
                raise
            self._senders.remove(turn)
            waited = True

    def _wake_next_sender(self) -> None:
        """Give the turn to send to the first who waits, if anybody may send now."""
        senders = self._senders
        if not senders:
            self._senders = None
            self.send_queued = self._fragmenting
        elif not self.write_paused and not self._fragmenting and not senders[0].done():
            senders[0].set_result(None)

    def _wake_all_senders(self) -> None:
        """Let all who wait learn that nothing can be sent any more."""
        if self._senders:
            for turn in self._senders:
                if not turn.done():
                    turn.set_result(None)
        self._wake_writers()

    def _require_sendable(self) -> None:
        if self.transport is None or self.close_sent is not None:
            raise self._closed_error()

    async def _wait_until_writable(self) -> None:
        """Wait while the peer does not read; raise once nothing can be sent."""
        self._require_sendable()
        while self.write_paused:
            if self._writable is None:
                self._writable = self.loop.create_future()
            await asyncio.shield(self._writable)
            self._require_sendable()

    def _wake_writers(self) -> None:
        if self._writable is not None:
            writable, self._writable = self._writable, None
            writable.set_result(None)

    def resume_writing(self) -> None:
        """Let the senders go on; the transport's word that the peer reads again."""
        super().resume_writing()
        self._wake_writers()
        self._wake_next_sender()

    # ---- ping and pong

    async def ping(self, data: str | _BytesLike | None = None) -> asyncio.Future[float]:
        """Send a Ping (RFC 6455 §5.5.2) and return a future of its round-trip time in seconds.

        Await the future to wait for the Pong, or leave it. ``data`` is at most 125 bytes, by default four random ones.
        A Pong resolves the earlier pings as well (§5.5.3). When the connection ends, the future gets
        :exc:`WebsocketClosed`. ValueError: too long, or a ping with this payload is in flight; TypeError: a number.
        """
        await self._wait_until_writable()
        return self._start_ping(data)

    def _ping_for_keepalive(self) -> None:
        # With one in flight already, its answer measures the latency; more would pile up with a peer that never
        # answers.
        try:
            if self._pings:
                self.send_ping(os.urandom(4))
            else:
                self._start_ping()
        except WebsocketClosed:
            # It was open a moment ago: the extension has panicked, and the Close with 1011 is on its way.
            return

    def _start_ping(self, data: str | _BytesLike | None = None) -> asyncio.Future[float]:
        if self._pings is None:
            self._pings = {}
        if data is None:
            payload = os.urandom(4)
            while payload in self._pings:
                payload = os.urandom(4)
        else:
            payload = _control_payload(data)
        if payload in self._pings:
            raise ValueError(f"a ping with the payload {payload!r} is in flight")
        self.send_ping(payload)
        future: asyncio.Future[float] = self.loop.create_future()
        self._pings[payload] = (future, perf_counter())
        return future

    def _pong_received(self, payload: bytes) -> None:
        if not self._pings or payload not in self._pings:
            return  # unasked for (§5.5.3)
        now = perf_counter()  # a loop's clock may count whole milliseconds
        for earlier in list(self._pings):
            future, sent = self._pings.pop(earlier)
            if not future.done():
                future.set_result(now - sent)
            if earlier == payload:
                self.latency = now - sent
                break

    async def pong(self, data: str | _BytesLike = b"") -> None:
        """Send an unsolicited Pong (§5.5.3), a one-way heartbeat; does nothing once the connection is closing."""
        payload = _control_payload(data)
        if len(payload) > 125:
            raise ValueError(f"a pong carries at most 125 bytes, not {len(payload)}")
        try:
            await self._wait_until_writable()
            self.send_pong(payload)
        except WebsocketClosed:
            return

    def abort_pings(self) -> None:
        """Give the pings in flight :exc:`WebsocketClosed`: no Pong will come."""
        pings, self._pings = self._pings, None
        for future, _ in (pings or {}).values():
            if not future.done():
                future.set_exception(self._closed_error())
                future.exception()  # seen: a ping that nobody waits for is no error

    async def keepalive_ping(self) -> None:
        """Ping every ``ping_interval`` seconds and fail the connection when no Pong comes in ``ping_timeout``.

        Returns when the connection ends. The server's connections are kept alive by one timer for all of them and do
        not run this; it serves connections made by hand.
        """
        if not self.ping_interval:
            return
        try:
            while True:
                await asyncio.sleep(self.ping_interval)
                pong = await self.ping()
                if self.ping_timeout:
                    async with asyncio.timeout(self.ping_timeout):
                        await asyncio.shield(pong)
        except TimeoutError:
            self.fail_connection(1011, "keepalive ping timeout")
        except WebsocketClosed:
            return

    # ---- closing

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Perform the closing handshake (RFC 6455 §7.1.2): send a Close, wait for the peer's and for the end of TCP.

        Waits at most ``close_timeout`` seconds (``WEBSOCKET_TIMEOUT``), longer while the peer still reads what was sent
        before, then drops the connection. A second call sends nothing and waits as well. ValueError: a code that may
        not be sent (§7.4), a reason of more than 123 bytes; TypeError: a code that is no int, a reason that is no str.
        """
        self.end_connection(code, reason)
        await self.wait_closed()

    def end_connection(self, code: int = 1000, reason: str = "") -> None:
        """Begin the closing handshake without waiting for its end; see :meth:`close`."""
        check_close(code, reason)
        if self.transport is None or self.close_sent is not None or self.state == CLOSED or self.failure is not None:
            return
        if self.close_received is None:
            self._closed_first = True
        self.send_close(code, reason)
        self._wake_all_senders()
        if self._closed_first:
            self._set_close_deadline()

    async def auto_close_connection(self) -> None:
        """Close with 1000 unless closing already, and wait for the end."""
        await self.close()

    def fail_connection(self, code: int = 1006, reason: str = "") -> bool:
        """Fail the connection (§7.1.7): a Close with ``code``, no wait for the peer's, then the end of TCP.

        1006 means no Close at all: the transport is dropped. False if the connection had ended already.
        """
        if self.transport is None:
            return False
        if code == 1006:
            self.transport.abort()
            return True
        if self.state == CLOSED:
            return False
        self.fail(code, reason)
        return True

    async def wait_closed(self) -> None:
        """Wait until the TCP connection has ended."""
        if self.transport is not None:
            if self._lost is None:
                self._lost = self.loop.create_future()
            await asyncio.shield(self._lost)

    async def wait_for_connection_lost(self, timeout: float | None = None) -> bool:
        """Wait until the TCP connection has ended, at most ``timeout`` seconds; tell whether it has."""
        try:
            async with asyncio.timeout(timeout):
                await self.wait_closed()
        except TimeoutError:
            return False
        return True

    # ---- the connection's end

    def _set_close_deadline(self) -> None:
        if self._close_deadlines is not None:
            self._close_deadlines.discard(self)
        if self.transport is not None:
            self._unsent = self.transport.get_write_buffer_size()
        self._close_deadlines = deadlines(self.loop, self.close_timeout)
        self._close_deadlines.add(self)

    def deadline_passed(self) -> None:
        """End TCP without more ado: the peer had its time, unless it still reads what is before the Close."""
        if self.transport is None:
            return
        if self.transport.get_write_buffer_size() < self._unsent:
            self._set_close_deadline()
        else:
            self.transport.abort()

    def _state_changed(self) -> None:
        if self.state != CLOSED:
            return
        self._wake_all_senders()
        self.abort_pings()
        transport = self.transport
        if transport is not None and not transport.is_closing():
            self._end_tcp(transport)

    def _end_tcp(self, transport: asyncio.Transport) -> None:
        """End our direction: the closing handshake is over, or failed."""
        # The server ends TCP first (§7.1.1): it sends its FIN and reads on until the peer's, because to close with
        # unread bytes would reset the connection, and a reset can destroy the Close that is still on its way.
        try:
            if transport.can_write_eof():
                transport.write_eof()
            else:
                transport.close()
        except OSError:
            # The peer has gone without a word; there is nothing to end in good order.
            transport.abort()
        else:
            self._set_close_deadline()

    def lose_transport(self) -> None:
        """Take note that the transport is gone; whoever waits learns of it."""
        if self.transport is None:
            return
        super().lose_transport()
        if self._close_deadlines is not None:
            self._close_deadlines.discard(self)
            self._close_deadlines = None
        self._wake_all_senders()
        self.abort_pings()
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)

    def _panicked(self, message: str) -> None:
        logger.critical("the extension panicked, this connection ends with 1011: %s", message)


class Websocket(WebsocketMethods, MessageStream):
    """A connection after its opening handshake.

    Iterate over it, or call :meth:`recv`, for messages; :meth:`send` answers. One task may receive at a time, any
    number may send. The methods belong to the event loop's thread: another thread has
    ``asyncio.run_coroutine_threadsafe`` run a coroutine there that calls them, since ``send`` sends when it is called.

    Inherited from the codec, which runs them without a Python frame:

    ``recv(timeout=None)``
        The next message, ``str`` or ``bytes``. Messages that arrived before the end are delivered first, then
        :exc:`WebsocketClosed` is raised. ``timeout`` is in seconds: ``TimeoutError``, and the next call works.
        A cancelled ``recv`` loses no message. A second task that calls it gets :exc:`ServerError`.
    ``async for message in ws``
        Ends quietly after a clean end (1000, 1001, 1005), raises :exc:`ConnectionClosedError` after any other.
    ``send(data, encoding=None, *, compress=None)``
        ``str`` as a text message, bytes-like as a binary one, an iterable or async iterable of either as one fragmented
        message, anything that :mod:`json` takes with ``encoding="json"``. ``compress`` overrides the threshold of a
        negotiated permessage-deflate. Suspends only while the peer does not read. :exc:`WebsocketClosed` once
        the connection is closing; TypeError for other data.
    """

    __slots__ = (
        "__dict__",
        "_pings",
        "close_timeout",
        "latency",
        "ping_interval",
        "ping_timeout",
        "subprotocol",
    )

    _send_piece = MessageStream.send_data


class _Yielding(Coroutine[Any, Any, None]):
    """A coroutine that suspends once. Not a function's: a send that nobody awaits is no mistake."""

    __slots__ = ("_suspended",)

    def __init__(self) -> None:
        self._suspended = False

    def __await__(self) -> Generator[Any, None, None]:
        return (yield)

    def send(self, value: Any, /) -> Any:
        if self._suspended:
            raise StopIteration
        self._suspended = True

    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any:
        raise typ if val is None else val

    def close(self) -> None:
        """There is nothing to close."""


def encoded(data: Any, encoding: str | None) -> Any:
    """Return what ``send`` is to send: JSON as text, text as bytes and the reverse where ``encoding`` asks for it."""
    match encoding:
        case "json":
            return json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        case "text":
            return bytes(data).decode("utf-8") if isinstance(data, (bytes, bytearray, memoryview)) else data
        case "bytes":
            return data.encode("utf-8") if isinstance(data, str) else data
        case None:
            if isinstance(data, dict):
                raise TypeError('cannot send dict without encoding="json"')
            return data
    raise ValueError(f'encoding {encoding!r}, permitted: "text", "bytes", "json"')


async def each(fragments: Iterable[Any]) -> AsyncIterator[Any]:
    """Make an asynchronous iterator of an iterable."""
    for fragment in fragments:
        yield fragment


def check_fragment(fragment: Any, text: bool) -> None:
    """TypeError for a fragment that does not go with the first, which was ``text`` or not."""
    if not isinstance(fragment, str if text else (bytes, bytearray, memoryview)):
        permitted = "str" if text else 'str or bytes-like, the same for all; a list as JSON goes with encoding="json"'
        raise TypeError(f"cannot send {type(fragment).__name__} as a fragment, permitted: {permitted}")


def _control_payload(data: str | _BytesLike) -> bytes:
    if isinstance(data, str):
        return data.encode("utf-8")
    if not isinstance(data, (bytes, bytearray, memoryview)):
        # bytes(5) would be five zeros.
        raise TypeError(f"ping and pong carry str or bytes-like, not {type(data).__name__}")
    return bytes(data)


def check_close(code: int, reason: str) -> None:
    """Check what a Close is to say.

    ValueError for a code that may not be sent (RFC 6455 §7.4) or a reason that does not fit; TypeError for what is no
    code or no reason.
    """
    if not isinstance(code, int):
        raise TypeError(f"close code must be an int, not {code!r}: close(code, reason)")
    if not isinstance(reason, str):
        raise TypeError(f"close reason must be a str, not {type(reason).__name__}")
    if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        raise ValueError(f"close code {code} may not be sent, permitted: 1000-1003, 1007-1014, 3000-4999")
    if reason and len(reason.encode("utf-8")) > _REASON_LIMIT:
        raise ValueError(f"close reason of {len(reason.encode('utf-8'))} bytes, permitted {_REASON_LIMIT}")
