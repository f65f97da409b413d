"""``HttpProtocol``: HTTP/1.1 and HTTP/1.0 on one connection, until something else takes it over."""

from __future__ import annotations

import asyncio
import enum
import functools
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from ..._codec import Head, HeadReader
from ...deadlines import Deadlines, deadlines
from ...exceptions import HTTPException, RequestTimeout, ServerError, ServiceUnavailable
from ...forwarding import forwarded
from ...redaction import LOGGED_LINE, shown, shown_line
from ...request import Request
from ...response import HTTPResponse, ResponseStream
from ...upgrade import Upgrade
from ..body import BodyReader, Limits
from ..takeover import take_over
from ..writer import ResponseWriter, encode_response, join
from .base_protocol import FerrowsProtocol

__all__ = ["ConnectionProtocol", "Http3Protocol", "HttpProtocol", "HttpProtocolMixin", "Phase"]

access_logger = logging.getLogger("ferrows.access")
error_logger = logging.getLogger("ferrows.error")

LINGER_TIMEOUT: Final = 2.0
"""Seconds for which a client may finish sending what nobody reads, so that a reset does not lose it the answer."""

STALL_TIMEOUT: Final = 30.0
"""Seconds in which a client must read something of what is waiting for it."""

HALF_CLOSE_GRACE: Final = 0.5
"""Seconds between two looks at whether a client that sends no more still reads."""

NEW_GRACE: Final = 0.5
"""Seconds that a new connection has for its first request where the server has begun to stop."""

_HEAD_TIMEOUT_STEPS: Final = 100

PIECE_SIZE: Final = 8192
"""Bytes of what was read ahead that are worked on at a time."""


class Phase(enum.Enum):
    """What a connection is doing."""

    IDLE = enum.auto()
    """No byte of the next request has arrived."""
    HEAD = enum.auto()
    BODY = enum.auto()
    HANDLER = enum.auto()
    """A request is whole and being answered."""
    CLOSING = enum.auto()
    """The last response is written; what arrives is dropped."""
    UPGRADED = enum.auto()
    """The connection belongs to someone else."""


# Members by names of their own: to ask an enumeration for one takes ten times as long on 3.11, ten times a request.
_IDLE: Final = Phase.IDLE
_HEAD: Final = Phase.HEAD
_BODY: Final = Phase.BODY
_HANDLER: Final = Phase.HANDLER
_CLOSING: Final = Phase.CLOSING
_UPGRADED: Final = Phase.UPGRADED


class HttpProtocolMixin:
    """What the protocols of every version of HTTP have."""

    __slots__ = ()

    request: Request | None

    @property
    def http(self) -> Any:
        """The request that is being answered, None in between."""
        return self.request

    @property
    def version(self) -> str:
        """The version of the request that is being answered."""
        return "1.1" if self.request is None else self.request.version


class HttpProtocol(HttpProtocolMixin, FerrowsProtocol):
    """Reads requests one after the other, has the app answer each, and writes the responses in the same order.

    While a request is being answered at most one chunk is read ahead. The handler of a client that leaves is cancelled.
    Something that speaks another protocol takes the connection over with :meth:`detach`.
    """

    __slots__ = (
        "_ahead",
        "_body_reader",
        "_deadline",
        "_deadlines",
        "_head",
        "_head_reader",
        "_limits",
        "_phase",
        "_reading_paused",
        "_since",
        "_writer",
        "_written",
        "keep_alive",
        "request",
        "state",
        "upgraded",
    )

    # What the access log shows of a head that is none.
    _broken_line = "-"
    _timed_out = False
    _cancelled = False
    # The client sends no more.
    _half_closed = False
    _half_closed_timer: asyncio.TimerHandle | None = None
    _written_before = 0
    _waiting_before = 0

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        app: Any,
        signal: Any = None,
        connections: set[Any] | None = None,
        state: dict[str, Any] | None = None,
        unix: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(loop, app, signal, connections, unix, **kwargs)
        self.state = state
        config = app.config
        self.request: Request | None = None
        self.upgraded = False
        self.keep_alive: bool = config.KEEP_ALIVE
        self._limits = _limits(
            config.REQUEST_MAX_TARGET_SIZE, config.REQUEST_MAX_HEADER_SIZE, config.REQUEST_MAX_HEADERS
        )
        self._phase = _IDLE
        self._head_reader: HeadReader | None = None
        self._body_reader: BodyReader | None = None
        self._head: Head | None = None
        self._writer: ResponseWriter | None = None
        # What arrived after the current request, in pieces.
        self._ahead: Sequence[bytes] = ()
        self._reading_paused = False
        self._deadlines: Deadlines | None = None
        # The loop's time; 0 where nothing is waited for.
        self._deadline = 0.0
        self._written = 0
        self._since = 0.0

    # ----------------------------------------------------------------------------------------------------------------
    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request, as long as for a head."""
        super().connection_made(transport)
        info = self.conn_info
        if info is not None and not info.lost:
            timeout: float = self.app.config.REQUEST_HEAD_TIMEOUT
            self._set_deadline(timeout if info.begun is None else self._rest_of(timeout, info.begun))

    def data_received(self, data: bytes) -> None:
        """Read a request as far as it has arrived."""
        if self._more is not None:
            self._wake_reader()
        phase = self._phase
        if phase is _HANDLER:
            self._ahead = [*self._ahead, *_pieces(data)]
            self._pause_reading()
        elif phase is _UPGRADED:
            super().data_received(data)
        elif phase is not _CLOSING:
            self._read(data)
            if self._phase is _HANDLER:
                # A name of its own would be formatted for each, and kept.
                task = self.loop.create_task(self.connection_task(), name="ferrows connection")
                # An eager task may be over already, and has then taken itself away.
                if not task.done():
                    self.task = task

    def _rest_of(self, timeout: float, begun: float) -> float:
        """What TLS and a proxy's header have left of the time for the first head."""
        # Rounded up, so that not every connection needs a timer of its own (deadlines.py).
        step = timeout / _HEAD_TIMEOUT_STEPS
        return max(1, math.ceil((begun + timeout - self.loop.time()) / step)) * step

    def eof_received(self) -> bool | None:
        """Take note that the client sends no more: it may still read the response to what it has sent.

        A client that has left looks the same until something is written to it. So the handler goes on for a moment and,
        while it writes and is not contradicted by a reset, for longer.
        """
        self._wake_reader()
        if self._phase is not _HANDLER or self.conn_info is None or self.conn_info.ssl:
            return None
        self._half_closed = True
        self._watch_half_closed()
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        """Cancel the handler, since nobody is there to answer; never one that the connection was handed over to."""
        super().connection_lost(exc)
        self._stop_timers()
        if not self.upgraded:
            self._cancel_task()
        self._head_reader = self._body_reader = None
        self._ahead = ()

    def pause_writing(self) -> None:
        """Hold the handler back; a client that reads nothing for too long is dropped."""
        super().pause_writing()
        if not self.upgraded:
            self._watch_stall()

    def resume_writing(self) -> None:
        """Let the handler go on, for as long as it likes now that its response has begun."""
        super().resume_writing()
        if self._phase is _HANDLER:
            self._clear_deadline()

    # ----------------------------------------------------------------------------------------------------------------
    # Reading

    def _read(self, data: bytes) -> None:
        """Read on until a request is whole, the data is used up, or a rule is broken."""
        try:
            if self._body_reader is None:
                data = self._read_head(data)
            if self._body_reader is not None:
                if data and not self._body_reader.complete:
                    data = self._body_reader.receive_data(data)
                if self._body_reader.complete:
                    self._begin_request(self._body_reader.body, data)
                elif self._body_reader.laborious:
                    self._give_way()
        except HTTPException as error:
            self._reject(error)

    def _read_head(self, data: bytes) -> bytes:
        """Feed the head; when it is whole, begin the body and return the rest."""
        if self._head_reader is None:
            self._head_reader = HeadReader(*self._limits)
            self._since = self.loop.time()
        found = self._head_reader.receive_data(data)
        if found is None:
            if self._phase is _IDLE:
                self._phase = _HEAD
                # The first head has until the deadline of the connection: silence before it gains nothing.
                if self._written:
                    self._set_deadline(self.app.config.REQUEST_HEAD_TIMEOUT)
            return b""
        self._head, rest = head, _ = found
        self._head_reader = None
        if not head.has_body:
            self._begin_request(b"", rest)
            return b""
        return self._begin_body(head, rest)

    def _begin_body(self, head: Head, rest: bytes) -> bytes:
        """Prepare to read the body of a request whose head is whole; return what of ``rest`` is to be read now."""
        self._body_reader = BodyReader(head, self.app.config.REQUEST_MAX_SIZE, self._limits)
        self._phase = _BODY
        self._set_deadline(self.app.config.REQUEST_TIMEOUT)
        # RFC 9110 §10.1.1: not needed once some of the body is here.
        if head.expect_continue and not rest:
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return rest

    def _begin_request(self, body: bytes, rest: bytes) -> None:
        assert self._head is not None
        self._body_reader = None
        self.request = request = Request(self._head, self, self.app)
        request.body = body
        if rest:
            self._ahead = [*_pieces(rest), *self._ahead]
        self._phase = _HANDLER
        self._set_deadline(self.app.config.RESPONSE_TIMEOUT)

    def _reject(self, error: HTTPException) -> None:
        """Answer what is no valid request. Where its end is cannot be known, so the connection ends."""
        if self._head_reader is not None:
            self._broken_line = shown_line(self._head_reader.beginning(LOGGED_LINE + 1))
        self._head_reader = self._body_reader = None
        self._write_error(error)

    def _give_way(self) -> None:
        """Read no more of a body in this turn of the loop."""
        self._pause_reading()
        self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self._phase is _BODY:
            self._resume_reading()

    # ----------------------------------------------------------------------------------------------------------------
    # Answering

    async def connection_task(self) -> None:
        """Answer the request that is whole, and those that have arrived behind it."""
        try:
            while self._phase is _HANDLER:
                # What a websocket's handler waits in is kept shallow: each coroutine costs a connection 250 bytes.
                request = self.request
                assert request is not None
                try:
                    response = await self.app.handle_request(request)
                    if isinstance(response, Upgrade):
                        response = await response.serve()
                    if not self.upgraded:
                        await self._finish(request, response)
                except BaseException as error:
                    self._handle_failure(request, error)
                if self._phase is _HANDLER:
                    self._next_request()
                if self._phase is _HANDLER:
                    # Others have their turn: a chunk may hold thousands of small requests.
                    await asyncio.sleep(0)
        except (SystemExit, KeyboardInterrupt) as error:
            # What lets it through depends on the loop and on what woke the task. So it is said to the server, which
            # then stops as a signal would make it.
            if not self.app.stop_for(error):
                raise
        finally:
            # The request knows the protocol; without this neither would go before the garbage collector runs.
            self.task = self.request = None
            if self.upgraded and self._deadlines is not None and self.lost:
                self._clear_deadline()

    def _handle_failure(self, request: Request, error: BaseException) -> None:
        """Answer where the app has let an exception through; raise it again where it ends the task."""
        if isinstance(error, asyncio.CancelledError):
            if self.upgraded:
                raise error
            if not (self.lost or self._timed_out):
                # Cancelled from outside: the server stops.
                self._give_up()
                raise error
            self._answer_error(ServiceUnavailable("the response took too long"))
        elif isinstance(error, GeneratorExit):
            raise error
        elif isinstance(error, SystemExit | KeyboardInterrupt):
            if not self.upgraded:
                error_logger.warning("%s %s raised %r", request.method, request.path, error)
                self._answer_error(ServerError())
            raise error
        elif self.upgraded:
            # Nobody is left to answer for the connection.
            self.abort()
            error_logger.error("%s %s failed after its upgrade", request.method, request.path, exc_info=error)
        elif isinstance(error, HTTPException) and error.quiet:
            self._answer_error(error)
        else:
            if not self.lost:
                error_logger.error("%s %s failed", request.method, request.path, exc_info=error)
            self._answer_error(ServerError())

    async def _finish(self, request: Request, response: Any) -> None:
        """Write what the app returned, or end what it has streamed."""
        writer = self._writer
        if writer is not None and response is not None and response is not writer.response:
            if writer.started:
                raise ServerError("a second response to one request")
            # The handler failed, or changed its mind, before anything of its stream was sent.
            writer.response.sink = None
            self._writer = writer = None
        if writer is None and isinstance(response, ResponseStream):
            self.begin_response(request, response)
            writer = self._writer
        if writer is not None:
            if isinstance(writer.response, ResponseStream) and not writer.started:
                await writer.response.run()
            await writer.response.eof()
            # The server may have begun to stop since the head was written.
            self.keep_alive = self.keep_alive and writer.keep_alive
            self._log_access(writer.response.status, writer.bytes_sent)
        elif isinstance(response, HTTPResponse):
            head, body, self.keep_alive = encode_response(
                response, request.method, request.version, self._may_keep_alive() and not self._refuses(response)
            )
            for piece in join(head, body):
                self._write(piece)
            if self._paused:
                await self._drain_whole(response.status, len(body))
            else:
                self._log_access(response.status, len(body))
        else:
            raise ServerError(f"handler returned {type(response).__name__}, permitted: HTTPResponse")

    async def _drain_whole(self, status: int, size: int) -> None:
        """Wait until a response that is written has been taken, and log how that went: one line, whatever happens."""
        try:
            await self.drain()
        except asyncio.CancelledError:
            self._log_access(status, size, aborted=True)
            if not self.lost:
                raise
            self._phase = _CLOSING
        else:
            self._log_access(status, size)

    def begin_response(self, request: Request, response: HTTPResponse) -> None:
        """Bind a response that is to be streamed; ServerError where the request has one already."""
        if request is not self.request or self._writer is not None or self.upgraded:
            raise ServerError("a second response to one request")
        self._writer = ResponseWriter(self, response, request.method, request.version, self._may_keep_alive())
        response.sink = self._writer

    def write_response(self, data: bytes) -> None:
        """Write a piece of a streamed response; from now on the handler may take its time."""
        if not self._paused:
            self._clear_deadline()
        self._write(data)

    def _next_request(self) -> None:
        """Leave the request that is answered behind and go on with what has arrived, if anything."""
        if self.admission is not None:
            self.admission.answered(self)
        client_stays = self._head is not None and self._head.keep_alive
        self.request = self._head = self._writer = None
        if not self.keep_alive:
            self._end(linger=client_stays or bool(self._ahead) or self._reading_paused)
            return
        self._phase = _IDLE
        self._set_deadline(self.app.config.KEEP_ALIVE_TIMEOUT)
        while self._ahead and self._phase is not _HANDLER and self._phase is not _CLOSING:
            first, *self._ahead = self._ahead
            self._read(first)
        if not self._ahead:
            self._resume_reading()
        if self._half_closed and self._phase is not _HANDLER:
            self._end(linger=False)

    def _answer_error(self, error: HTTPException) -> None:
        """Answer where the app has not, unless a response has begun: then only the end of the connection can tell."""
        if self.lost:
            if self._writer is not None and self._writer.started:
                self._log_access(self._writer.response.status, self._writer.bytes_sent, aborted=True)
            else:
                # The status that nginx logs for a client that left.
                self._log_access(499, 0)
            self._phase = _CLOSING
        elif self._writer is not None and self._writer.started:
            self._log_access(self._writer.response.status, self._writer.bytes_sent, aborted=True)
            self._give_up()
        else:
            self._write_error(error)

    def _write_error(self, error: HTTPException) -> None:
        response = HTTPResponse(f"{error.message}\n", error.status_code, error.headers, "text/plain; charset=utf-8")
        method = "GET" if self._head is None else self._head.method
        head, body, _ = encode_response(response, method, "1.1", False)
        self._write(head + body)
        self._log_access(error.status_code, len(body))
        self._end(linger=True)

    def _refuses(self, response: HTTPResponse) -> bool:
        """Whether an opening handshake is answered as a broken one: what its sender sends next may well be frames."""
        return response.status == 400 and self._head is not None and self._head.websocket

    def _may_keep_alive(self) -> bool:
        head = self._head
        stopped = self.signal is not None and getattr(self.signal, "stopped", False)
        return head is not None and head.keep_alive and self.keep_alive and not stopped

    # ----------------------------------------------------------------------------------------------------------------
    # Handing over, ending

    def detach(self) -> bytes:
        """Give the connection away: stop reading HTTP on it and return every byte that arrived after the current head.

        From here on what the transport calls is the business of whoever took it; its handler is never cancelled.
        """
        if self.admission is not None:
            self.admission.answered(self)
        self._phase = _UPGRADED
        self.upgraded = True
        self._stop_timers()
        ahead, self._ahead = self._ahead, ()
        self._head = None
        self._since = 0.0
        self._resume_reading()
        return b"".join(ahead)

    def take_over(
        self, request: Request, protocol_factory: Callable[[], asyncio.BaseProtocol], *, replay: bool = False
    ) -> asyncio.BaseProtocol:
        """Hand the connection to a foreign protocol; see :meth:`Request.upgrade`."""
        return take_over(self, request, protocol_factory, replay=replay)

    def close(self, timeout: float | None = None) -> None:
        """Close once everything is written."""
        if not self.upgraded:
            self._stop_timers()
            self._phase = _CLOSING
        super().close(timeout)

    def close_if_idle(self) -> bool:
        """Close the connection unless a request is being received or answered; tell whether it was closed."""
        if self._phase is not _IDLE:
            return False
        self.close()
        return True

    def shutdown(self, code: int = 1001) -> None:
        """Begin an orderly end: now where no request is under way, else with the response to it.

        A client that has only just connected has a moment for its request: it could not know.
        """
        if self._is_new() or not self.close_if_idle():
            self.keep_alive = False

    def _is_new(self) -> bool:
        """Whether the connection has brought nothing yet, and is younger than ``NEW_GRACE``; then it has that long."""
        if self._phase is not _IDLE or self._written:
            return False
        age = self.loop.time() - (self._deadline - self.app.config.REQUEST_HEAD_TIMEOUT)
        if age >= NEW_GRACE:
            return False
        self._set_deadline(NEW_GRACE - age)
        return True

    def _give_up(self) -> None:
        """End without an orderly last word, so that a response that was begun does not look whole."""
        self._phase = _CLOSING
        self._stop_timers()
        self.abort()

    def _end(self, *, linger: bool) -> None:
        """Close after the last response (RFC 9112 §9.6).

        Closing with unread data makes the kernel send a reset, and a reset may take the response from the client; so,
        where that may be, only our direction is closed, and what the client still sends is dropped for a while.
        """
        transport = self.transport
        if transport is None or self.lost or self._phase is _CLOSING:
            return
        self._phase = _CLOSING
        self._ahead = ()
        self._waiting_before = transport.get_write_buffer_size()
        if linger and not self._half_closed and not transport.is_closing() and transport.can_write_eof():
            self._resume_reading()
            try:
                transport.write_eof()
            except OSError:
                # The client has reset the connection, which asyncio learns when it next reads.
                self.abort()
            else:
                self._set_deadline(LINGER_TIMEOUT)
        else:
            transport.close()
            self._set_deadline(STALL_TIMEOUT)

    # ----------------------------------------------------------------------------------------------------------------
    # Time

    def _set_deadline(self, seconds: float) -> None:
        """Let :meth:`check_timeouts` run after ``seconds``, and not before."""
        if self._deadlines is not None:
            self._deadlines.discard(self)
        self._deadlines = deadlines(self.loop, seconds)
        self._deadline = self._deadlines.add(self)

    def _clear_deadline(self) -> None:
        if self._deadlines is not None:
            self._deadlines.discard(self)
            self._deadlines = None
        self._deadline = 0.0

    def deadline_passed(self) -> None:
        """What :mod:`ferrows.deadlines` calls."""
        self.check_timeouts()

    def check_timeouts(self) -> None:
        """End the phase if its time is over."""
        if not self._is_overdue():
            return
        if self._phase is _IDLE:
            self._end(linger=False)
        elif self._phase is _HEAD:
            self._reject(RequestTimeout("the head took too long"))
        elif self._phase is _BODY:
            self._reject(RequestTimeout("the body took too long"))
        elif self._phase is _HANDLER:
            self._check_handler()
        elif self._phase is _CLOSING:
            self._check_closing()

    def _is_overdue(self) -> bool:
        return 0.0 < self._deadline <= self.loop.time() and not self.lost

    def _check_handler(self) -> None:
        assert self.transport is not None
        if self._paused:
            if self.transport.get_write_buffer_size() < self._waiting_before:
                self._watch_stall()
            else:
                self._give_up()
        elif self._writer is None or not self._writer.started:
            self._timed_out = True
            self._cancel_task()

    def _check_closing(self) -> None:
        assert self.transport is not None
        if 0 < self.transport.get_write_buffer_size() < self._waiting_before:
            self._watch_stall()
        else:
            self.abort()

    def _watch_stall(self) -> None:
        assert self.transport is not None
        self._waiting_before = self.transport.get_write_buffer_size()
        self._set_deadline(STALL_TIMEOUT)

    def _watch_half_closed(self) -> None:
        self._written_before = self._written
        self._half_closed_timer = self.loop.call_later(HALF_CLOSE_GRACE, self._check_half_closed)

    def _check_half_closed(self) -> None:
        self._half_closed_timer = None
        if self._phase is _HANDLER and not self.lost:
            if self._written > self._written_before:
                self._watch_half_closed()
            else:
                self.abort()

    def _stop_timers(self) -> None:
        self._clear_deadline()
        if self._half_closed_timer is not None:
            self._half_closed_timer.cancel()
            self._half_closed_timer = None

    def _cancel_task(self) -> None:
        # Once: a second one would cut the handler's cleaning up.
        if self.task is not None and not self._cancelled:
            self._cancelled = True
            self.task.cancel()

    # ----------------------------------------------------------------------------------------------------------------
    # Transport and log

    def _write(self, data: bytes) -> None:
        if self.transport is not None and not self.lost:
            self._written += len(data)
            self.transport.write(data)

    def _pause_reading(self) -> None:
        if not self._reading_paused and self.transport is not None:
            self._reading_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused and self.transport is not None:
            self._reading_paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def _log_access(self, status: int, size: int, *, aborted: bool = False) -> None:
        if not self.app.config.ACCESS_LOG or not access_logger.isEnabledFor(logging.INFO):
            return
        head = self._head
        line = self._broken_line if head is None else f"{head.method} {shown(head.target)} HTTP/{head.version}"
        duration = self.loop.time() - self._since
        end = ", aborted" if aborted else ""
        access_logger.info('%s "%s" %d %d %.4f s%s', self._client() or "-", line, status, size, duration, end)

    def _client(self) -> str:
        """The client's address for the log: `Request.remote_addr`, but a request that is refused has no `Request`."""
        peer = "" if self.conn_info is None else self.conn_info.client_ip
        config = self.app.config
        if self._head is None or not config.FORWARDED_ALLOW_IPS:
            return peer
        return forwarded(config, peer, self._head.getall).get("for") or peer


# The same for every connection of an app, so they share it.
_limits = functools.lru_cache(maxsize=16)(Limits)


def _pieces(data: bytes) -> list[bytes]:
    """Cut what was read into pieces.

    The rest of a piece is copied for each request in it, so with large ones the cost of many small requests would grow
    with the square of their number.
    """
    if len(data) <= PIECE_SIZE:
        return [data]
    return [data[at : at + PIECE_SIZE] for at in range(0, len(data), PIECE_SIZE)]


class ConnectionProtocol:
    """What a protocol of many streams on one connection would build on; a name of the reference, empty here."""


class Http3Protocol(HttpProtocolMixin, ConnectionProtocol):
    """HTTP/3, which needs QUIC."""

    def __init__(self, *args: Any, app: Any, **kwargs: Any) -> None:
        """Raise ServerError: the dependency is missing."""
        raise ServerError("HTTP/3 is not spoken, permitted: HTTP/1.1")

    @property
    def version(self) -> str:
        return "3"

    @property
    def connection(self) -> Any:
        """The QUIC connection."""
        return None

    def quic_event_received(self, event: Any) -> None:
        """Take an event of the QUIC connection."""
