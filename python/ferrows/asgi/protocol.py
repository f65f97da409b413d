"""``ASGIProtocol``: the connections of a server that serves an ASGI application."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Final, cast

from .._codec import Head
from ..exceptions import HTTPException, ServerError, ServiceUnavailable
from ..forwarding import forwarded
from ..handshake import Handshake, accept
from ..request import Request
from ..server.body import BodyReader
from ..server.protocols.http_protocol import Phase
from ..server.protocols.websocket_protocol import WebSocketProtocol
from .http import HTTPExchange
from .response import WRITING, Responder
from .scope import Address
from .websocket import ASGIWebsocket, WebsocketExchange

if TYPE_CHECKING:
    from .host import ASGIHost

__all__ = ["ASGIProtocol"]

BODY_BUFFER: Final = 65536
"""Bytes of a body that may wait for the application before no more is read."""

DISCARD_LIMIT: Final = 2**20
"""Bytes of a body that are read for the next request's sake when the application has answered without them."""


# An enum's member costs several hundred instructions each time it is named by its class.
_IDLE, _BODY, _HANDLER, _CLOSING = Phase.IDLE, Phase.BODY, Phase.HANDLER, Phase.CLOSING


class ASGIProtocol(WebSocketProtocol):
    """Hands each request to the application as soon as its head is whole, and reads the body as it is asked for.

    A request has a task of its own, which the connection does not wait for once the response is complete: what the
    application does after that (Starlette's background tasks) holds no further request up.
    """

    __slots__ = ("_address", "_discarded", "_exchange")

    app: ASGIHost

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What is being answered, from the head to the end of the response or of the WebSocket.
        self._exchange: HTTPExchange | WebsocketExchange | None = None
        self._address: Address | None = None
        # Bytes of an answered request's body that were thrown away; None where none is being read.
        self._discarded: int | None = None

    # ----------------------------------------------------------------------------------------------------------------
    # What asyncio calls

    def receive_http(self, data: bytes) -> None:
        """Read requests, and the body of the one that is being answered."""
        if self.websocket is not None:
            super().receive_http(data)
        elif self._phase is _HANDLER:
            self._receive_meanwhile(data)
        elif self._phase is not _CLOSING:
            self._read(data)
            self._run_if_read()

    def eof_received(self) -> bool | None:
        """Take note that the client sends no more. What is left of a body will never come then."""
        if self._phase is _HANDLER and self._body_reader is not None:
            return None
        return super().eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell the application; its task goes on."""
        exchange = self._exchange
        if exchange is not None and self.websocket is None and not exchange.disconnected:
            if self._phase is _HANDLER:
                # The status that nginx logs for a client that left.
                written = isinstance(exchange, HTTPExchange) and exchange.progress == WRITING
                if written:
                    assert isinstance(exchange, HTTPExchange)
                    self._log_access(exchange.status, exchange.bytes_sent, aborted=True)
                else:
                    self._log_access(499, 0)
            exchange.client_left()
        self._exchange = None
        super().connection_lost(exc)

    def check_timeouts(self) -> None:
        """End what takes too long; the rest of a body that nobody wants is no request that could be refused."""
        if self._discarded is not None and self._phase is _BODY:
            if self._is_overdue():
                self._end(linger=False)
        else:
            super().check_timeouts()

    def shutdown(self, code: int = 1001) -> None:
        """Begin an orderly end; a handshake that the application has not answered yet is refused."""
        exchange = self._exchange
        if self.websocket is None and exchange is not None and self._phase is _HANDLER and exchange.refuse():
            self._write_error(ServiceUnavailable("the server stops"))
            exchange.client_left()
        else:
            super().shutdown(code)

    # ----------------------------------------------------------------------------------------------------------------
    # Reading

    def _read(self, data: bytes) -> None:
        try:
            if self._discarded is not None:
                data = self._discard(data)
            if data and self._phase is not _CLOSING:
                self._read_head(data)
        except HTTPException as error:
            if self._discarded is None:
                self._reject(error)
            else:
                self._end(linger=True)

    def _begin_body(self, head: Head, rest: bytes) -> bytes:
        self._body_reader = BodyReader(head, math.inf, self._limits)
        self._begin_request(b"", b"")
        if rest:
            self._receive_body(self._body_reader, rest)
        return b""

    def _begin_request(self, body: bytes, rest: bytes) -> None:
        """Make the exchange of a request whose head is whole; HTTPException where it is a handshake that is none."""
        head = self._head
        assert head is not None
        if head.websocket:
            request = Request(head, self, self.app)
            handshake = accept(request, None, self.app.websocket_settings)
            self._exchange = WebsocketExchange(self, head, request, handshake)
        else:
            self._exchange = HTTPExchange(self, head, self._body_reader)
        if rest:
            self._ahead = [rest, *self._ahead]
        self._phase = _HANDLER
        if self._paused:
            # The response before has not been read.
            self._watch_stall()
        else:
            # The application may take its time.
            self._clear_deadline()

    def _receive_meanwhile(self, data: bytes) -> None:
        """Take what arrives while the application runs: of its request's body, or ahead of its time."""
        reader = self._body_reader
        if reader is None:
            self._read_ahead(data)
            return
        try:
            self._receive_body(reader, data)
        except HTTPException as error:
            exchange = self._exchange
            assert isinstance(exchange, HTTPExchange)
            self._body_reader = None
            if exchange.progress == WRITING:
                self.break_off(exchange)
            else:
                self._write_error(error)
            exchange.client_left()

    def _receive_body(self, reader: BodyReader, data: bytes) -> None:
        rest = reader.receive_data(data)
        if reader.complete:
            self._body_reader = None
            if rest:
                self._read_ahead(rest)
        elif reader.size > BODY_BUFFER:
            self._pause_reading()
        if self._exchange is not None:
            self._exchange.body_arrived()

    def _read_ahead(self, data: bytes) -> None:
        self._ahead = [*self._ahead, data]
        self._pause_reading()

    def _discard(self, data: bytes) -> bytes:
        """Read on through the body of a request that is answered; return what follows it."""
        reader = self._body_reader
        assert reader is not None and self._discarded is not None
        data = reader.receive_data(data)
        self._discarded += len(reader.take())
        if reader.complete:
            self._body_reader = self._discarded = None
            self._next_request()
            return data
        if self._discarded > DISCARD_LIMIT:
            self._end(linger=True)
        elif reader.laborious:
            self._give_way()
        return b""

    # ----------------------------------------------------------------------------------------------------------------
    # The exchange

    def _run_if_read(self) -> None:
        if self._phase is _HANDLER:
            self._run_exchange()

    def _run_exchange(self) -> None:
        """Run the application for a request in a task of its own."""
        exchange = self._exchange
        if exchange is None:
            # The client has left since its next request was read.
            return
        # A context of its own too: that of the transport's callbacks may be another request's, whose application has
        # let reading go on. A name would be formatted for each task.
        context = self.app.context.copy()
        task = self.loop.create_task(exchange.run(), name="ferrows request", context=context)
        # An eager task may be over already.
        if not task.done():
            self.task = exchange.task = task
            self.app.websocket_tasks[task] = self

    def _cancel_task(self) -> None:
        """The application's task is never cancelled because its client has left."""

    def address(self, head: Head) -> Address:
        """Both ends of the connection as a scope names them; the client that a trusted proxy tells, if one does."""
        info = self.conn_info
        assert info is not None
        if self.app.believes_proxies:
            return Address(info, forwarded(self.app.config, info.client_ip, head.getall))
        if self._address is None:
            self._address = Address(info)
        return self._address

    @property
    def write_paused(self) -> bool:
        """Whether the client does not read what is waiting for it."""
        return self._paused

    def may_keep_alive(self) -> bool:
        """Whether the connection can go on after the response."""
        return self._may_keep_alive()

    def can_leave_body(self) -> bool:
        """Whether a response that is complete now leaves a connection that can go on.

        Not where the client still waits for a word on whether to send its body, for it may send it or not, and not
        where more of it is on the way than is worth reading.
        """
        reader, exchange = self._body_reader, self._exchange
        return reader is None or not (
            reader.remaining > DISCARD_LIMIT or (exchange is not None and exchange.awaits_continue)
        )

    def resume_body(self) -> None:
        """Read on: the application has taken what there was of the body."""
        if self._body_reader is not None:
            self._resume_reading()

    def complete(self, responder: Responder) -> None:
        """Go on to the next request, since a response is complete."""
        self._log_access(responder.status, responder.bytes_sent)
        # The server may have begun to stop since the head was written.
        self.keep_alive = self.keep_alive and responder.keep_alive
        self._exchange = None
        if self.lost or self._phase is not _HANDLER:
            return
        if self._body_reader is not None and self.keep_alive:
            # What is missing of a body when the client has ended its direction never comes.
            if self.can_leave_body() and not self._half_closed:
                self._phase = _BODY
                self._discarded = 0
                self.request = self._head = None
                self._set_deadline(self.app.config.REQUEST_TIMEOUT)
                self._resume_reading()
                return
            self.keep_alive = False
        self._body_reader = None
        if self.keep_alive and not self._ahead and not self._reading_paused and not self._half_closed:
            # What `_next_request` comes to where nothing has arrived yet.
            self._head = None
            self._phase = _IDLE
            if self.admission is not None:
                self.admission.answered(self)
            self._set_deadline(self.app.keep_alive_timeout)
        else:
            self._next_request()

    def _next_request(self) -> None:
        super()._next_request()
        if self._phase is _HANDLER:
            # Others have their turn: a chunk may hold thousands of small requests.
            self.loop.call_soon(self._run_exchange)

    def break_off(self, responder: Responder | None, *, answer: bool = True) -> None:
        """End an exchange that has failed: with 500, or by dropping the connection where a response is begun already.

        Not with a 500 either where ``answer`` is False.
        """
        if self.lost or self._phase is not _HANDLER:
            return
        self._body_reader = None
        if responder is not None and responder.progress == WRITING:
            self._log_access(responder.status, responder.bytes_sent, aborted=True)
            self._give_up()
        elif answer:
            self._write_error(ServerError("Internal Server Error"))
        else:
            self._give_up()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_left()

    def accept(self, request: Request, handshake: Handshake) -> ASGIWebsocket:
        """Answer the opening handshake and hand the connection over to the codec."""
        ws = self._open_websocket(ASGIWebsocket, request, handshake, self.app.websocket_settings)
        self._exchange = None
        if getattr(self.signal, "stopped", False):
            ws.end_connection(1001)
        return cast(ASGIWebsocket, ws)

    def forget_task(self, task: asyncio.Task[None]) -> None:
        """Let go of an exchange's task, which ends."""
        del self.app.websocket_tasks[task]
        if self.task is task:
            self.task = None
