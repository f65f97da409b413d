"""``WebSocketProtocol``: HTTP/1.1 that can become a WebSocket connection."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from ...config import WebsocketSettings
from ...engines.websocket import open_engine
from ...exceptions import BadRequest
from ...handshake import Handshake, accept
from ...websocket import Websocket, WebsocketMethods
from ..keepalive import Keepalive
from .http_protocol import HttpProtocol

if TYPE_CHECKING:
    from ...request import Request
    from ..admission import Admission

__all__ = ["WebSocketProtocol"]

access_logger = logging.getLogger("ferrows.access")


def _setting(name: str) -> Any:
    """Make an attribute of one of a protocol's settings, which it shares until it gets one of its own."""

    def read(protocol: WebSocketProtocol) -> Any:
        return getattr(protocol._settings, name)

    def write(protocol: WebSocketProtocol, value: Any) -> None:
        protocol._settings = replace(protocol._settings, **{name: value})

    return property(read, write)


class WebSocketProtocol(HttpProtocol):
    """The protocol of a server's connections.

    After the opening handshake the transport feeds the codec directly: :attr:`data_received` is then the codec's own
    method, with no Python frame between (see :meth:`websocket_handshake`).

    The keyword arguments are the settings for connections whose route has none of its own. Times are in seconds,
    sizes in bytes.
    """

    __slots__ = ("_early", "_settings", "_websocket_request", "_websocket_since", "data_received", "websocket")

    websocket_timeout = _setting("timeout")
    websocket_max_size = _setting("max_size")
    websocket_ping_interval = _setting("ping_interval")
    websocket_ping_timeout = _setting("ping_timeout")

    data_received: Callable[[bytes], None]  # type: ignore[assignment]
    """What the transport calls: :meth:`receive_http`, and after the opening handshake the codec's own method."""

    def __init__(
        self,
        *args: Any,
        websocket_timeout: float = 10.0,
        websocket_max_size: int | None = None,
        websocket_ping_interval: float | None = 20.0,
        websocket_ping_timeout: float | None = 20.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if self.state is None:
            self.state = {}
        self.websocket: WebsocketMethods | None = None
        self._settings = _settings(
            websocket_timeout, websocket_max_size, websocket_ping_interval, websocket_ping_timeout
        )
        self._websocket_request: Request | None = None
        self._websocket_since = 0.0
        # The slot itself: a subclass may have a method of this name, which then comes first.
        _DATA_RECEIVED.__set__(self, self.receive_http)
        # Frames that came with the opening handshake; None once the transport feeds the codec.
        self._early: bytes | None = b""

    async def websocket_handshake(
        self, request: Request, subprotocols: Sequence[str] | None = None
    ) -> WebsocketMethods:
        """Answer the opening handshake (RFC 6455 §4.2.2) and hand the connection over to the codec.

        Returns an object with the methods of :class:`ferrows.Websocket`; a subclass may return another
        implementation's. Raises BadRequest, UpgradeRequired or Forbidden where the request is none that can be
        accepted.
        """
        settings: WebsocketSettings = getattr(request.route, "websocket_settings", None) or self._settings
        make: Callable[..., WebsocketMethods] = Websocket
        if settings.engine is None:
            handshake = accept(request, subprotocols, settings)
        else:
            make, handshake = open_engine(request, subprotocols, settings)
        return self._open_websocket(make, request, handshake, settings)

    def _open_websocket(
        self,
        make: Callable[..., WebsocketMethods],
        request: Request,
        handshake: Handshake,
        settings: WebsocketSettings,
    ) -> WebsocketMethods:
        """Send the 101 and let the transport feed what is made."""
        transport = self.transport
        if transport is None or self.lost:
            raise BadRequest("the client left before its handshake was answered")
        ws = make(
            self.loop,
            transport,
            max_size=settings.max_size,
            max_queue=settings.max_queue,
            deflate=handshake.deflate,
            limits=settings.limits,
            subprotocol=handshake.subprotocol,
            close_timeout=settings.timeout,
            ping_interval=settings.ping_interval,
            ping_timeout=settings.ping_timeout,
        )
        self._early = self.detach()
        self.websocket = ws
        self._websocket_request = request
        if self.app.config.ACCESS_LOG:
            self._websocket_since = perf_counter()
        self._keepalive().add(ws)
        transport.write(handshake.response)
        if self._early:
            # Frames that came in the same segment as the request wait for the handler to wait for them, so that it can
            # answer them all even if a Close is among them.
            self.loop.call_soon(self._hand_over)
        else:
            self._hand_over()
        return ws

    def _hand_over(self) -> None:
        """Let the transport feed the codec, beginning with what arrived early."""
        ws, transport = self.websocket, self.transport
        early = self._early
        if ws is None or transport is None or early is None:
            return
        self._early = None
        # uvloop keeps the bound method that it found when the protocol was set, so it is set again; asyncio looks it up
        # at each call.
        self.data_received = ws.receive_data
        transport.set_protocol(self)
        if early:
            ws.receive_data(early)
        if self._half_closed:
            # The client ended its direction before the handshake was answered.
            ws.receive_eof()
            transport.close()

    def _keepalive(self) -> Keepalive:
        """Return the one that all connections of this server share."""
        assert self.state is not None
        keepalive: Keepalive | None = self.state.get("keepalive")
        if keepalive is None:
            keepalive = self.state["keepalive"] = Keepalive(self.loop)
        return keepalive

    def receive_http(self, data: bytes) -> None:
        """Read HTTP until the transport feeds the codec."""
        if self.websocket is None:
            super().data_received(data)
        else:
            self._hand_over()
            self.websocket.receive_data(data)

    def eof_received(self) -> bool | None:
        """Take note that the peer sends no more; the transport closes itself."""
        if self.websocket is None:
            return super().eof_received()
        self._hand_over()
        self.websocket.receive_eof()
        return None

    def pause_writing(self) -> None:
        """Let sends wait: the peer does not read."""
        super().pause_writing()
        if self.websocket is not None:
            self._watch_stall()
            self.websocket.pause_writing()

    def resume_writing(self) -> None:
        """Let sends go on."""
        super().resume_writing()
        if self.websocket is not None:
            self._clear_deadline()
            self.websocket.resume_writing()

    def check_timeouts(self) -> None:
        """End what takes too long: a phase of a request, a peer that reads nothing, a handler without a connection."""
        transport = self.transport
        if self.websocket is None or transport is None:
            super().check_timeouts()
        elif self.lost:
            if self.task is not None:
                self.task.cancel("its connection has ended long ago (WEBSOCKET_HANDLER_TIMEOUT)")
        elif self._is_overdue():
            if transport.get_write_buffer_size() < self._waiting_before:
                self._watch_stall()
            else:
                transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the WebSocket, if it has not ended by a closing handshake, and log how it went."""
        ws = self.websocket
        try:
            if ws is not None:
                self._hand_over()
                ws.lose_transport()
                self._log_end(ws)
                if ws.excess is not None:
                    self._count_excess(ws.excess)
        finally:
            request = self._websocket_request
            # What would keep protocol, request and ws alive in cycles.
            self.data_received = _ignore
            _DATA_RECEIVED.__set__(self, _ignore)
            self._websocket_request = None
            super().connection_lost(exc)
            # Most handlers have returned by now: they were woken.
            if self.task is not None and request is not None:
                settings: WebsocketSettings = getattr(request.route, "websocket_settings", None) or self._settings
                if settings.handler_timeout is not None:
                    self._set_deadline(settings.handler_timeout)

    def close(self, timeout: float | None = None) -> None:
        """Close the connection: a WebSocket by the closing handshake, with 1001."""
        if self.websocket is None:
            super().close(timeout)
        else:
            self.websocket.end_connection(1001)

    def close_if_idle(self) -> bool:
        """Close the connection unless a request or a WebSocket is under way; tell whether it was closed."""
        return False if self.websocket is not None else super().close_if_idle()

    def shutdown(self, code: int = 1001) -> None:
        """Begin an orderly end; ``code`` is what a WebSocket's Close carries."""
        if self.websocket is None:
            super().shutdown(code)
        else:
            self.websocket.end_connection(code)

    @staticmethod
    def sanic_request_to_ws_request(request: Request) -> Request:
        """Return the request itself: the handshake reads it as it is. Kept for code written for Sanic."""
        return request

    def _log_end(self, ws: WebsocketMethods) -> None:
        request = self._websocket_request
        if request is None or not self.app.config.ACCESS_LOG or not access_logger.isEnabledFor(logging.INFO):
            return
        access_logger.info(
            "%s WebSocket %s closed %d by %s%s after %.3f s, in %d messages %d bytes, out %d messages %d bytes",
            request.remote_addr,
            request.path,
            ws.close_code or 1006,
            ws.closed_by,
            f" ({ws.close_reason!r})" if ws.close_reason else "",
            perf_counter() - self._websocket_since,
            ws.messages_received,
            ws.bytes_received,
            ws.messages_sent,
            ws.bytes_sent,
        )

    def _count_excess(self, excess: str) -> None:
        admission: Admission | None = getattr(self.signal, "admission", None)
        if admission is not None:
            admission.exceeded(self, excess)


_DATA_RECEIVED: Final[Any] = WebSocketProtocol.__dict__["data_received"]


def _ignore(data: bytes) -> None:
    """What a connection that is gone does with data."""


@functools.lru_cache(maxsize=16)
def _settings(
    timeout: float, max_size: int | None, ping_interval: float | None, ping_timeout: float | None
) -> WebsocketSettings:
    """The same for every connection of a server, so they share it."""
    return WebsocketSettings(timeout=timeout, max_size=max_size, ping_interval=ping_interval, ping_timeout=ping_timeout)
