"""WebSocket: one connection of an application, from the opening handshake to the close code."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from .._codec import Head
from ..exceptions import WebsocketClosed
from ..handshake import Handshake
from ..log import error_logger
from ..redaction import printable
from ..request import Request
from ..websocket import Websocket
from .exchange import ClientDisconnected, Exchange, repeats_disconnect
from .response import Responder, encode_fields
from .scope import Event, websocket_scope

if TYPE_CHECKING:
    from .protocol import ASGIProtocol

__all__ = ["WebsocketExchange"]


class ASGIWebsocket(Websocket):
    """A websocket whose ``recv_event`` and ``send`` can be the application's own: its end is an OSError."""

    __slots__ = ("exchange",)

    exchange: WebsocketExchange | None

    def _end_event(self) -> dict[str, Any]:
        event = super()._end_event()
        if self.exchange is not None:
            self.exchange.disconnect_received(event["code"], event["reason"])
        return event

    def _closed_error(self) -> WebsocketClosed:
        ended = super()._closed_error()
        return ClientDisconnected(ended.code, ended.reason)


class WebsocketExchange(Exchange):
    """A connection on its way to a WebSocket, and what an application receives and sends on it.

    The opening handshake is valid, and waits for the application's word: ``websocket.accept``, ``websocket.close``
    (403), or a response of its own, which is the extension ``websocket.http.response``.
    """

    __slots__ = (
        "_asked",
        "_closed",
        "_denial",
        "_end",
        "_handshake",
        "_head",
        "_recv",
        "_request",
        "_send",
        "_waiters",
        "disconnected",
        "protocol",
        "task",
        "ws",
    )

    def __init__(self, protocol: ASGIProtocol, head: Head, request: Request, handshake: Handshake) -> None:
        self.protocol = protocol
        self.task: asyncio.Task[None] | None = None
        self.ws: ASGIWebsocket | None = None
        self.disconnected = False
        self._head: Head | None = head
        self._request: Request | None = request
        self._handshake: Handshake | None = handshake
        # The codec's own methods, between the handshake and the application's close.
        self._recv: Callable[[], Awaitable[Event]] | None = None
        self._send: Callable[[Any], Awaitable[None]] | None = None
        # Whether the application has received websocket.connect.
        self._asked = False
        # Whether the application has ended it.
        self._closed = False
        self._denial: Responder | None = None
        # The code and reason of the end that the application has received.
        self._end: tuple[int, str] | None = None
        self._waiters: list[asyncio.Future[None]] | None = None

    async def run(self) -> None:
        """Run the application, and close with 1000 what it leaves open, with 1011 where it raises."""
        protocol = self.protocol
        host = protocol.app
        head, self._head = self._head, None
        assert head is not None
        scope = websocket_scope(head, protocol.address(head), host.root_path, host.state)
        del head
        try:
            await host.application(scope, self.receive, self.send)
            if self.ws is not None:
                self.ws.end_connection()
            elif not self._closed and not self.disconnected:
                error_logger.error("%s: the application returned without an answer", self._describe(scope))
                self._refuse_broken()
        except BaseException as error:
            self._failed(error, scope)
        finally:
            if self.ws is not None:
                self.ws.exchange = None
            # None where an eager task has not waited for anything yet.
            if self.task is not None:
                protocol.forget_task(self.task)

    # ---- what the application calls

    def receive(self) -> Awaitable[Event]:
        """Wait for ``websocket.connect``, then for the messages, and after the last one ``websocket.disconnect``."""
        # The codec's own awaitable, with no coroutine around it.
        return self._receive_before() if self._recv is None else self._recv()

    def send(self, event: Event) -> Awaitable[None]:
        """Take an event; what is returned is to be awaited.

        RuntimeError for one out of order, ClientDisconnected once the connection is closed or lost.
        """
        send = self._send
        if send is not None and event["type"] == "websocket.send":
            text = event.get("text")
            if type(text) is str:
                # The codec's own method: where the peer reads, this is done when it returns.
                return send(text)
            if text is None:
                data = event.get("bytes")
                if type(data) is bytes:
                    return send(data)
        return self._send_other(event)

    # ---- what the websocket and the protocol call

    def disconnect_received(self, code: int, reason: str) -> None:
        """Take note that the application has received ``websocket.disconnect``."""
        # Our answer to the peer's Close is still to come, and the codec would let this turn send before it.
        self._send = None
        self._end = code, reason

    def client_left(self) -> None:
        """Take note that the client has left before the handshake was answered."""
        self.disconnected = True
        self._wake()

    @property
    def awaits_continue(self) -> bool:
        return False

    def body_arrived(self) -> None:
        """An opening handshake has no body."""

    def refuse(self) -> bool:
        """Whether the server's stop can end this at once: where the handshake is not answered yet."""
        return self.ws is None and self._denial is None and not self._closed

    # ----

    async def _receive_before(self) -> Event:
        """Receive while there is no WebSocket: not yet, or not at all."""
        if not self._asked:
            self._asked = True
            return {"type": "websocket.connect"}
        while self._recv is None and not self.disconnected and not self._closed:
            await self._wait()
        if self._recv is not None:
            return await self.receive()
        self._end = 1006, ""
        return {"type": "websocket.disconnect", "code": 1006, "reason": ""}

    async def _send_other(self, event: Event) -> None:
        """Take every event but the common ones."""
        kind = event["type"]
        if self._closed:
            raise RuntimeError(f"event {kind!r} after the application has closed the websocket")
        if self.ws is not None:
            if kind == "websocket.send":
                if self._end is not None:
                    raise ClientDisconnected(*self._end)
                await self.ws.send(_message(event))
            elif kind == "websocket.close":
                self._close(self.ws, event)
            else:
                raise RuntimeError(f"event {kind!r}, permitted now: 'websocket.send', 'websocket.close'")
        elif self._denial is not None:
            if kind != "websocket.http.response.body":
                raise RuntimeError(f"event {kind!r}, permitted now: 'websocket.http.response.body'")
            await self._deny(self._denial, event)
        elif kind not in _ANSWERS:
            raise RuntimeError(f"event {kind!r}, permitted now: {', '.join(map(repr, _ANSWERS))}")
        elif self.disconnected:
            raise ClientDisconnected
        elif kind == "websocket.accept":
            self._accept(event)
        elif kind == "websocket.close":
            self._closed = True
            denial = Responder(self.protocol, "GET", "1.1")
            denial.start({"status": 403, "headers": [_CLOSE]})
            denial.write(b"", False)
            self._wake()
            self.protocol.complete(denial)
        else:
            denial = Responder(self.protocol, "GET", "1.1")
            # Its sender may have sent frames already, so nothing can follow on the connection.
            denial.start({**event, "headers": [*(event.get("headers") or ()), _CLOSE]})
            self._denial = denial

    def _accept(self, event: Event) -> None:
        handshake, request = self._handshake, self._request
        assert handshake is not None and request is not None
        headers = list(event.get("headers") or ())
        for name, _ in headers:
            if name.lower() in _HANDSHAKE or name.lower().startswith(b"sec-websocket-"):
                raise ValueError(f"header {name!r} of websocket.accept is for the handshake to say")
        subprotocol = event.get("subprotocol")
        if subprotocol is not None:
            headers.insert(0, (b"sec-websocket-protocol", subprotocol.encode("latin-1")))
        response = b"%b%b\r\n" % (handshake.response[:-2], encode_fields(headers)[0])
        self.ws = ws = self.protocol.accept(request, handshake._replace(response=response, subprotocol=subprotocol))
        self._handshake = self._request = None
        ws.exchange = self
        self._recv, self._send = ws.recv_event, ws.send
        self._wake()

    def _close(self, ws: Websocket, event: Event) -> None:
        code, reason = event.get("code"), event.get("reason") or ""
        # Where the client was first there is nothing left to do: that is no error of the application's.
        ws.end_connection(1000 if code is None else code, reason)
        self._closed = True
        self._send = None

    async def _deny(self, denial: Responder, event: Event) -> None:
        if self.disconnected:
            raise ClientDisconnected
        more = bool(event.get("more_body", False))
        denial.write(bytes(event.get("body", b"")), more)
        if more:
            await denial.give_way()
        else:
            self._closed = True
            self._wake()
            self.protocol.complete(denial)

    # ---- the end

    def _describe(self, scope: dict[str, Any]) -> str:
        return f"websocket {printable(scope['path'])}"

    def _excuses(self, error: BaseException) -> bool:
        over = self.disconnected or (self.ws is not None and not self.ws.open)
        return over and repeats_disconnect(error, self._end)

    def _break_off(self, *, stopping: bool) -> None:
        if self.ws is not None:
            self.ws.end_connection(*((1001, "") if stopping else (1011, "internal error")))
        elif not self._closed and not self.disconnected:
            self._refuse_broken()

    def _refuse_broken(self) -> None:
        """Answer a handshake with 500, unless a response of the application's has begun."""
        self._closed = True
        self.protocol.break_off(self._denial)


_ANSWERS: Final = ("websocket.accept", "websocket.close", "websocket.http.response.start")
_CLOSE: Final = (b"connection", b"close")
_HANDSHAKE: Final = frozenset({b"connection", b"upgrade", b"content-length", b"transfer-encoding"})


def _message(event: Event) -> str | bytes:
    """Return what a ``websocket.send`` carries; TypeError where it is not exactly one of the two."""
    text, data = event.get("text"), event.get("bytes")
    if text is None and isinstance(data, bytes | bytearray | memoryview):
        return data if isinstance(data, bytes) else bytes(data)
    if isinstance(text, str) and data is None:
        return text
    kinds = f"{type(text).__name__} text and {type(data).__name__} bytes"
    raise TypeError(f"websocket.send with {kinds}, permitted: text of str or bytes of bytes-like, the other None")
