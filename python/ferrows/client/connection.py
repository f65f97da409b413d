"""``connect``: a client's connection, from the URL to the ``Websocket``."""

from __future__ import annotations

import asyncio
import functools
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from ..config import Config
from ..exceptions import HandshakeError
from ..server.keepalive import Keepalive
from ..websocket import State, Websocket
from .deflate import DeflateOffer
from .handshake import HeadersLike, OpeningHandshake
from .response import ClientResponse, ResponseReader
from .url import WebsocketURL

if TYPE_CHECKING:
    import socket
    from types import TracebackType

__all__ = ["ClientProtocol", "ClientWebsocket", "Connecting", "Dial", "connect"]

MAX_REFUSAL: Final = 64 * 1024
"""Bytes that are kept of the body of a refusal."""


class ClientWebsocket(Websocket):
    """A :class:`ferrows.Websocket` whose peer is the server; :attr:`response` is what it answered to the handshake."""

    __slots__ = ("response",)

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, *, response: ClientResponse, **options: Any
    ) -> None:
        super().__init__(loop, transport, **options)
        self.response = response

    @property
    def client_state(self) -> State:
        """How far this side is: closing while its Close frame is on the way or not answered yet."""
        return super().server_state

    @property
    def server_state(self) -> State:
        """How far the peer is: closing once its Close frame arrived."""
        return super().client_state

    @property
    def closed_by(self) -> str:
        """Which side ended the connection: "server", "client", or "network" where no Close was exchanged."""
        return {"server": "client", "client": "server"}.get(super().closed_by, "network")

    def _end_tcp(self, transport: asyncio.Transport) -> None:
        """Wait for the server to end TCP after a closing handshake, at most ``close_timeout``."""
        # RFC 6455 §7.1.1: the client SHOULD leave it to the server. Where there was no closing handshake, nobody waits.
        if self.close_received is not None and self.failure is None:
            self._set_close_deadline()
        else:
            super()._end_tcp(transport)

    def __repr__(self) -> str:
        return f"<ClientWebsocket {self.client_state.name.lower()} at {id(self):#x}>"


Dial: TypeAlias = Callable[[Callable[[], asyncio.Protocol]], Awaitable[tuple[asyncio.BaseTransport, Any]]]
"""What opens a connection for a protocol, as ``loop.create_connection`` does."""


def connect(
    url: str,
    *,
    headers: HeadersLike | None = None,
    subprotocols: Sequence[str] = (),
    origin: str | None = None,
    ssl: ssl_module.SSLContext | None = None,
    compression: str | Mapping[str, Any] | None = "deflate",
    max_size: int | None = 2**20,
    max_queue: int = 32,
    open_timeout: float | None = 10,
    close_timeout: float = 10,
    ping_interval: float | None = 20,
    ping_timeout: float | None = 20,
    unix: str | Path | None = None,
    sock: socket.socket | None = None,
) -> Connecting:
    """Connect to a WebSocket server: ``async with connect(url) as ws`` or ``ws = await connect(url)``.

    ``url`` begins with ``ws``, ``wss``, ``http`` or ``https``; a user and password in it become basic authentication.
    ``compression`` is None, "deflate" or a mapping as ``WEBSOCKET_COMPRESSION`` takes it. ``ssl`` replaces the default
    context of a secure URL, which verifies the server. ``unix`` (a path) or ``sock`` (connected already) is what to
    connect by, and the URL says only what to ask for. Times are in seconds, sizes in bytes; ``open_timeout`` covers
    everything up to the answer. A redirect is not followed, and proxies of the environment are not used.

    ``async with`` closes with 1000 at its end, with 1001 if an exception ended it.

    Raises ValueError or TypeError for arguments that are wrong. Opening it raises OSError where there is no connection,
    TimeoutError where it takes too long, and :exc:`ferrows.exceptions.HandshakeError` where the server refuses the
    upgrade.
    """
    target = WebsocketURL.parse(url)
    if ssl is not None and not target.secure:
        raise ValueError(f"ssl is given for {target.origin}, permitted: with wss or https")
    if unix is not None and sock is not None:
        raise ValueError("unix and sock exclude each other")
    return Connecting(
        OpeningHandshake(target, headers, subprotocols, origin, DeflateOffer.of(compression)),
        functools.partial(_dial, target, ssl, unix, sock),
        open_timeout=open_timeout,
        max_size=max_size,
        max_queue=max_queue,
        close_timeout=close_timeout,
        ping_interval=ping_interval,
        ping_timeout=ping_timeout,
    )


async def _dial(
    url: WebsocketURL,
    ssl: ssl_module.SSLContext | None,
    unix: str | Path | None,
    sock: socket.socket | None,
    make_protocol: Callable[[], asyncio.Protocol],
) -> tuple[asyncio.BaseTransport, asyncio.Protocol]:
    loop = asyncio.get_running_loop()
    options: dict[str, Any] = {}
    if url.secure:
        options = {"ssl": ssl or _default_context(), "server_hostname": url.host}
    if unix is not None:
        return await loop.create_unix_connection(make_protocol, str(unix), **options)
    if sock is not None:
        return await loop.create_connection(make_protocol, sock=sock, **options)
    return await loop.create_connection(make_protocol, url.host, url.port, **options)


@functools.lru_cache(maxsize=1)
def _default_context() -> ssl_module.SSLContext:
    """Loading the certificates takes some ten milliseconds."""
    context = ssl_module.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class Connecting:
    """What :func:`connect` returns: to be awaited once, or entered with ``async with``."""

    def __init__(
        self,
        handshake: OpeningHandshake,
        dial: Dial,
        *,
        open_timeout: float | None = 10,
        websocket: Callable[..., ClientWebsocket] = ClientWebsocket,
        max_size: int | None = 2**20,
        max_queue: int = 32,
        close_timeout: float = 10,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
    ) -> None:
        # ValueError for what a server's configuration would not take either.
        settings = Config(env_prefix=None).websocket_settings(
            max_size=max_size,
            max_queue=max_queue,
            timeout=close_timeout,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
        )
        self._handshake = handshake
        self._dial = dial
        self._open_timeout = open_timeout
        self._make_websocket = functools.partial(
            websocket,
            max_size=settings.max_size,
            max_queue=settings.max_queue,
            close_timeout=settings.timeout,
            ping_interval=settings.ping_interval,
            ping_timeout=settings.ping_timeout,
        )
        self._ws: ClientWebsocket | None = None

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(
                f"there is no {name!r} before the connection is open: ws = await connect(…), "
                "or async with connect(…) as ws"
            )

    def __await__(self) -> Generator[Any, None, ClientWebsocket]:
        return self._open().__await__()

    async def __aenter__(self) -> ClientWebsocket:
        self._ws = await self._open()
        return self._ws

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._ws is not None
        await self._ws.close(1000 if exc is None else 1001)

    async def _open(self) -> ClientWebsocket:
        protocol: ClientProtocol | None = None

        def make_protocol() -> ClientProtocol:
            nonlocal protocol
            protocol = ClientProtocol(asyncio.get_running_loop(), self._handshake, self._make_websocket)
            return protocol

        try:
            async with asyncio.timeout(self._open_timeout) as limit:
                await self._dial(make_protocol)
                assert protocol is not None
                ws = await protocol.opened
        except BaseException as error:
            refusal = None
            if protocol is not None:
                refusal = protocol.partial_refusal()
                protocol.abort()
            for each in (error, refusal):
                if isinstance(each, HandshakeError):
                    each.url = self._handshake.url.shown
            if not (isinstance(error, TimeoutError) and limit.expired()):
                raise
            # What has arrived of a refusal says more than that it took too long.
            raise refusal or TimeoutError(
                f"the opening handshake with {self._handshake.url.shown} took more than {self._open_timeout} seconds"
            ) from None
        return ws


class ClientProtocol(asyncio.Protocol):
    """A client's connection: the opening handshake, then the codec, which the transport feeds directly."""

    __slots__ = (
        "_early",
        "_handshake",
        "_loop",
        "_make_websocket",
        "_paused",
        "_reader",
        "_transport",
        "data_received",
        "opened",
        "websocket",
    )

    data_received: Callable[[bytes], None]  # type: ignore[assignment]
    """What the transport calls: a method of this class, and after the handshake the codec's own."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        handshake: OpeningHandshake,
        make_websocket: Callable[..., ClientWebsocket],
    ) -> None:
        self._loop = loop
        self._handshake = handshake
        self._make_websocket = make_websocket
        self._reader = ResponseReader(max_body=MAX_REFUSAL)
        self._transport: asyncio.Transport | None = None
        self._early: bytes | None = b""
        self._paused = False
        self.data_received = self._receive_response
        self.opened: asyncio.Future[ClientWebsocket] = loop.create_future()
        """The websocket, once it is open; HandshakeError or OSError where it cannot be."""
        self.websocket: ClientWebsocket | None = None

    def partial_refusal(self) -> HandshakeError | None:
        """The refusal of which the head has arrived and perhaps some of the body."""
        response = self._reader.response
        if response is None or self.websocket is not None:
            return None
        try:
            self._handshake.accept(response)
        except HandshakeError as error:
            return error
        return None

    def abort(self) -> None:
        """Drop the connection: nobody waits for it any more."""
        if not self.opened.cancel() and not self.opened.cancelled():
            self.opened.exception()  # seen
        if self._transport is not None:
            self._transport.abort()

    # ---- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._handshake.request())

    def _receive_response(self, data: bytes) -> None:
        if self.websocket is not None:
            self._hand_over()
            self.websocket.receive_data(data)
        elif not self.opened.done():
            try:
                self._reader.receive_data(data)
                if self._reader.complete:
                    self._finish()
            except HandshakeError as error:
                self._fail(error)

    def eof_received(self) -> bool | None:
        """Take note that the server sends no more; the transport closes itself."""
        if self.websocket is not None:
            self._hand_over()
            self.websocket.receive_eof()
        elif not self.opened.done():
            try:
                self._reader.receive_eof()
                self._finish()
            except HandshakeError as error:
                self._fail(error)
        return None

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the websocket, or the wait for it."""
        if self.websocket is not None:
            self._hand_over()
            self.websocket.lose_transport()
        elif isinstance(exc, OSError):
            self._fail(exc)
        else:
            self._fail(HandshakeError("the connection ended before the server had answered"))
        # What would keep this and the websocket alive in cycles.
        self.data_received = _ignore
        self._transport = None

    def pause_writing(self) -> None:
        """Let sends wait: the server does not read."""
        self._paused = True
        if self.websocket is not None:
            self.websocket.pause_writing()

    def resume_writing(self) -> None:
        """Let sends go on."""
        self._paused = False
        if self.websocket is not None:
            self.websocket.resume_writing()

    # ---- the handshake's end

    def _finish(self) -> None:
        """Judge the answer, which is whole, and make the websocket."""
        response = self._reader.response
        assert response is not None
        agreement = self._handshake.accept(response)
        self.websocket = ws = self._make_websocket(
            self._loop,
            self._transport,
            client=True,
            subprotocol=agreement.subprotocol,
            deflate=agreement.deflate,
            response=response,
        )
        if self._paused:
            ws.pause_writing()
        self._early = self._reader.rest
        _keepalive(self._loop).add(ws)
        self.opened.set_result(ws)
        # Behind the task that waits for it: frames that came with the answer are there when it receives, and it can
        # answer them even if a Close is among them.
        self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        """Let the transport feed the codec, beginning with what arrived early."""
        ws, transport, early = self.websocket, self._transport, self._early
        if ws is None or transport is None or early is None:
            return
        self._early = None
        # uvloop keeps the bound method that it found when the protocol was set, so it is set again.
        self.data_received = ws.receive_data
        transport.set_protocol(self)
        if early:
            ws.receive_data(early)

    def _fail(self, error: Exception) -> None:
        if not self.opened.done():
            self.opened.set_exception(error)


def _ignore(data: bytes) -> None:
    """What a connection that is gone does with data."""


# One for each loop, and so one timer for all connections of it.
_KEEPALIVES: Final[dict[asyncio.AbstractEventLoop, Keepalive]] = {}


def _keepalive(loop: asyncio.AbstractEventLoop) -> Keepalive:
    found = _KEEPALIVES.get(loop)
    if found is None:
        for closed in [each for each in _KEEPALIVES if each.is_closed()]:
            del _KEEPALIVES[closed]
        found = _KEEPALIVES[loop] = Keepalive(loop)
    return found
