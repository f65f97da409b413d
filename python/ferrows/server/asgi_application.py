"""An app as an ASGI application: what another server calls for a request, a WebSocket, and its own start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from ..config import WebsocketSettings
from ..exceptions import (
    BadRequest,
    HTTPException,
    NotImplementedByServer,
    PayloadTooLarge,
    RequestCancelled,
    ServerError,
    WebsocketClosed,
)
from ..handshake import agree, upgrade_required
from ..headers import parse_list
from ..log import error_logger
from ..response import HTTPResponse, ResponseStream
from ..upgrade import Upgrade
from .lifespan import answer_lifespan
from .scope import ScopeRequest, conn_info
from .websockets.connection import WebSocketConnection
from .writer import has_content, measure, parse_length

if TYPE_CHECKING:
    from ..app import App
    from ..request import Request
    from .protocols.base_protocol import ConnInfo

__all__ = ["serve_scope"]

# Servers type their events each in its own way, as one dictionary or as many; this takes all of them.
Event = Mapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Any], Awaitable[None]]

# RFC 9113 §8.2.2: fields of one connection, which HTTP/2 MUST NOT carry; in HTTP/1.1 the server writes most of them.
_HOP_BY_HOP: Final = frozenset({"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"})


async def serve_scope(app: App, scope: Event, receive: Receive, send: Send) -> None:
    """Answer what a server calls an application for (ASGI 3)."""
    kind = scope["type"]
    if kind == "lifespan":
        await answer_lifespan(app, receive, send)
        return
    if kind not in ("http", "websocket"):
        raise ServerError(f"scope of the type {kind!r}, permitted: http, websocket, lifespan")
    if not app.servers:
        _warn_without_lifespan(app)
    exchange = HTTPExchange if kind == "http" else WebSocketExchange
    await exchange(app, scope, receive, send).serve()


_warned: Final[WeakSet[App]] = WeakSet()


def _warn_without_lifespan(app: App) -> None:
    if app not in _warned:
        _warned.add(app)
        if app.awaits_start:
            error_logger.warning(
                "app %s was not started, so its listeners and tasks do not run: its server sends no lifespan events, "
                "or the application that it is mounted in does not use app.lifespan()",
                app.name,
            )


class Exchange:
    """One scope and its channels; for the request, what a connection's protocol is elsewhere."""

    transport: Final = None
    """ASGI gives none."""
    connections: Final = None
    """The connections are not those of any server of ours."""
    response_event = "http.response"

    def __init__(self, app: App, scope: Event, receive: Receive, send: Send) -> None:
        self.app = app
        self.scope = scope
        self.receive = receive
        self.send = send
        self.lost = False
        self._conn_info: ConnInfo | None = None
        self._writer: ResponseWriter | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    @property
    def conn_info(self) -> ConnInfo:
        if self._conn_info is None:
            self._conn_info = conn_info(self.scope)
        return self._conn_info

    async def emit(self, event: Event) -> None:
        """Send an event; RequestCancelled where the client has left."""
        try:
            await self.send(event)
        except OSError as error:
            self.lose()
            raise RequestCancelled("the client has left") from error

    def lose(self) -> None:
        """Take note that the client is gone."""
        self.lost = True
        self.conn_info.lost = True

    def begin_response(self, request: Request, response: HTTPResponse) -> None:
        """Bind a response that is to be streamed; ServerError where the request has one already."""
        if self._writer is not None:
            raise ServerError("a second response to one request")
        response.sink = self._writer = ResponseWriter(self, response, request)

    async def websocket_handshake(self, request: Request, subprotocols: Sequence[str] | None = None) -> Any:
        """Accept a WebSocket, or raise the exception that it is refused with."""
        raise NotImplementedError

    async def respond(self, request: Request, response: HTTPResponse | None) -> None:
        """Send what the app returned, or end what it has streamed."""
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
        elif response is not None:
            length, body = measure(response, request.method)
            await self.begin(response, request, length)
            await self.emit({"type": f"{self.response_event}.body", "body": body, "more_body": False})

    async def begin(self, response: HTTPResponse, request: Request, length: str | None) -> None:
        """Send the head of a response; ``length`` is its ``Content-Length``."""
        headers = _encode_fields(response, request.version)
        if length is not None:
            headers.append((b"content-length", length.encode("ascii")))
        await self.emit({"type": f"{self.response_event}.start", "status": response.status, "headers": headers})


class HTTPExchange(Exchange):
    """A request and its response. The handler of a client that leaves is cancelled."""

    _task: asyncio.Task[Any] | None = None
    _starting: asyncio.Handle | None = None
    _watcher: asyncio.Task[None] | None = None
    _cancelled = False

    async def serve(self) -> None:
        """Read the request and answer it. What fails once the response has begun is for the server to end and log."""
        request = ScopeRequest(self.scope, self, self.app)
        try:
            try:
                request.body = await self._read_body(request)
            except HTTPException as error:
                # What the client still sends is for the server to drop; to close at once might lose it the answer.
                page = HTTPResponse(f"{error.message}\n", error.status_code, error.headers, "text/plain; charset=utf-8")
                await self.respond(request, page)
            else:
                await self._answer(request)
        except RequestCancelled:
            if not self.lost:
                raise

    async def websocket_handshake(self, request: Request, subprotocols: Sequence[str] | None = None) -> Any:
        """Refuse: this is a request. UpgradeRequired, or NotImplementedByServer where it asked to be more than that."""
        if "websocket" in [name.lower() for name in parse_list(request.headers.combined("upgrade"))]:
            raise NotImplementedByServer("the ASGI server in front of this application speaks no WebSocket protocol")
        raise upgrade_required("this resource speaks the WebSocket protocol only")

    async def _read_body(self, request: Request) -> bytes:
        limit = self.app.config.REQUEST_MAX_SIZE
        declared = request.headers.get("content-length", "")
        body = bytearray()
        more = True
        while more:
            # Refused before the server asks the client for it (RFC 9110 §10.1.1).
            if len(body) > limit or (declared.isdecimal() and int(declared[:18]) > limit):
                raise PayloadTooLarge(f"body over {limit} bytes")
            event = await self.receive()
            if event["type"] == "http.disconnect":
                self.lose()
                raise RequestCancelled("the client has left")
            body += event.get("body", b"")
            more = event.get("more_body", False)
        if len(body) > limit:
            raise PayloadTooLarge(f"body over {limit} bytes")
        return bytes(body)

    async def _answer(self, request: Request) -> None:
        self._task = task = asyncio.current_task()
        assert task is not None
        cancelling = task.cancelling()
        # Most handlers have answered before the loop's next turn, and need nobody who watches for their client.
        self._starting = self.loop.call_soon(self._watch)
        try:
            response = await self.app.handle_request(request)
            if isinstance(response, Upgrade):
                response = await response.serve()
            await self.respond(request, response)
        except asyncio.CancelledError:
            if not self._cancelled or task.cancelling() > cancelling + 1:
                raise
        finally:
            self._stop_watching()
            if self._cancelled:
                # The cancellation was ours and ends here, also where the handler went on in spite of it.
                task.uncancel()

    async def emit(self, event: Event) -> None:
        """Send an event; RequestCancelled where the client has left."""
        if event.get("more_body") is False:
            # Behind it the server may report a disconnect, and a cancellation would interrupt the server's own work.
            self._stop_watching()
        await super().emit(event)

    def _stop_watching(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def _watch(self) -> None:
        self._watcher = self.loop.create_task(self._wait_for_disconnect())

    async def _wait_for_disconnect(self) -> None:
        try:
            event = await self.receive()
        except Exception:
            error_logger.exception("the server's receive failed, so that its client's end will not be noticed")
            return
        # Anything else is a server's that does not wait; to ask again and again would keep the loop busy.
        if event["type"] == "http.disconnect" and self._task is not None:
            self.lose()
            self._cancelled = True
            self._task.cancel()


class WebSocketExchange(Exchange):
    """A WebSocket connection, or the HTTP response that it is refused with."""

    response_event = "websocket.http.response"
    websocket: WebSocketConnection | None = None
    _closed = False

    async def serve(self) -> None:
        """Run the handler, or answer why it does not."""
        if (await self.receive())["type"] != "websocket.connect":
            return
        request = ScopeRequest(self.scope, self, self.app)
        try:
            response = await self.app.handle_request(request)
            if isinstance(response, Upgrade):
                response = await response.serve()
            if self.websocket is None:
                await self.respond(request, response)
        except RequestCancelled:
            if not self.lost:
                raise
        finally:
            if self.websocket is not None:
                await self.websocket.release()

    async def websocket_handshake(self, request: Request, subprotocols: Sequence[str] | None = None) -> Any:
        """Accept the connection. Origin and subprotocol are the app's to judge, the rest of the handshake was judged.

        Raises Forbidden and BadRequest where the request is none that can be accepted.
        """
        settings: WebsocketSettings = getattr(request.route, "websocket_settings", None) or WebsocketSettings()
        offered: list[str] = list(self.scope.get("subprotocols") or ())
        chosen = agree(request.host, request.headers.getall("origin"), offered, subprotocols, settings)
        websocket = WebSocketConnection(
            self.send,
            self.receive,
            offered,
            max_size=settings.max_size,
            max_queue=settings.max_queue,
            close_timeout=settings.timeout,
        )
        try:
            await websocket.accept(None if chosen is None else [chosen])
        except WebsocketClosed:
            self.lose()
            raise BadRequest("the client left before its handshake was answered") from None
        self.websocket = websocket
        return websocket

    async def begin(self, response: HTTPResponse, request: Request, length: str | None) -> None:
        """Refuse with the response, or with the server's 403 where it takes none."""
        # RFC 8441 §5: over HTTP/2 a status of success would accept the connection.
        accepts = response.status < 300 and not request.version.startswith("1")
        if accepts or self.response_event not in (self.scope.get("extensions") or {}):
            await self.emit({"type": "websocket.close", "code": 1008, "reason": ""})
            self._closed = True
        else:
            await super().begin(response, request, length)

    async def emit(self, event: Event) -> None:
        """Send an event, unless the server takes no response and has refused by itself."""
        if not self._closed:
            await super().emit(event)


class ResponseWriter:
    """Sends one streamed response, its framing being the server's."""

    __slots__ = ("_exchange", "_remaining", "_request", "response", "started")

    def __init__(self, exchange: Exchange, response: HTTPResponse, request: Request) -> None:
        self._exchange = exchange
        self._request = request
        self._remaining: int | None = None
        self.response = response
        self.started = False

    async def send(self, data: bytes, end: bool) -> None:
        """Send a piece and wait until the server takes more.

        ServerError for more or less than the ``Content-Length`` that the response declares; RequestCancelled once the
        client has left.
        """
        if self._exchange.lost:
            raise RequestCancelled("the client has left")
        if not self.started:
            length = self._measure(len(data) if end else None)
            self.started = True
            await self._exchange.begin(self.response, self._request, length)
        if self._request.method == "HEAD" or not has_content(self.response.status):
            data = b""
        elif self._remaining is not None:
            if len(data) > self._remaining:
                excess = len(data) - self._remaining
                raise ServerError(f"response of more than its Content-Length: {excess} bytes over")
            self._remaining -= len(data)
            if end and self._remaining:
                raise ServerError(f"response of less than its Content-Length: {self._remaining} bytes missing")
        await self._exchange.emit({"type": f"{self._exchange.response_event}.body", "body": data, "more_body": not end})
        if not end:
            # Some servers never suspend once the client is gone, and whoever watches for that must run.
            await asyncio.sleep(0)

    def _measure(self, length: int | None) -> str | None:
        """Return the length to declare; ``length`` is the whole body's, if the first piece is the last."""
        declared = self.response.headers.get("content-length")
        if not has_content(self.response.status):
            return "0" if self.response.status == 205 else None
        self._remaining = length if declared is None else parse_length(declared)
        return None if self._remaining is None else str(self._remaining)


def _encode_fields(response: HTTPResponse, version: str) -> list[tuple[bytes, bytes]]:
    """Encode the header fields, names in lower case, without those that are the server's."""
    fields: list[tuple[bytes, bytes]] = []
    options: list[str] = []
    for name, value in response.fields():
        lowered = name.lower()
        if lowered == "connection":
            options += parse_list(value)
        elif lowered == "upgrade" and version.startswith("1"):
            # RFC 9110 §7.8: a sender of Upgrade MUST name it in Connection too.
            options.append("Upgrade")
            fields.append((b"upgrade", value.encode("latin-1")))
        elif lowered != "content-length" and lowered not in _HOP_BY_HOP:
            fields.append((lowered.encode("ascii"), value.encode("utf-8", "surrogateescape")))
    if options and version.startswith("1"):
        fields.append((b"connection", ", ".join(options).encode("latin-1")))
    return fields
