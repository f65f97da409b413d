"""``AsyncTestClient``: a client of an app for tests that are coroutines."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Coroutine, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Self, TypeVar, Unpack, cast

from ..client.connection import ClientWebsocket, Connecting, Dial
from ..client.deflate import DeflateOffer
from ..client.handshake import OpeningHandshake
from ..client.url import WebsocketURL
from ..exceptions import HandshakeError
from ..headers import Headers
from .cookies import ClientCookies
from .exchange import exchange
from .failures import Failures
from .patience import PatientWebsocket, within
from .request import HeadersLike, Outgoing, RequestOptions, target_of
from .response import Response
from .serving import Serving

if TYPE_CHECKING:
    from types import TracebackType

    from ..app import App

__all__ = ["AsyncTestClient", "Verbs"]

R = TypeVar("R")

DEFAULT: Final[Any] = object()
"""Stands for the client's own timeout."""


class Verbs(Generic[R]):
    """The methods of HTTP by name; ``R`` is what a request returns."""

    def request(self, method: str, url: str, **options: Unpack[RequestOptions]) -> R:
        raise NotImplementedError

    def get(self, url: str, **options: Unpack[RequestOptions]) -> R:
        """GET ``url``; see :meth:`request`."""
        return self.request("GET", url, **options)

    def head(self, url: str, **options: Unpack[RequestOptions]) -> R:
        """HEAD ``url``; see :meth:`request`."""
        return self.request("HEAD", url, **options)

    def options(self, url: str, **options: Unpack[RequestOptions]) -> R:
        """OPTIONS ``url``; see :meth:`request`."""
        return self.request("OPTIONS", url, **options)

    def post(self, url: str, **options: Unpack[RequestOptions]) -> R:
        """POST to ``url``; see :meth:`request`."""
        return self.request("POST", url, **options)

    def put(self, url: str, **options: Unpack[RequestOptions]) -> R:
        """PUT to ``url``; see :meth:`request`."""
        return self.request("PUT", url, **options)

    def patch(self, url: str, **options: Unpack[RequestOptions]) -> R:
        """PATCH ``url``; see :meth:`request`."""
        return self.request("PATCH", url, **options)

    def delete(self, url: str, **options: Unpack[RequestOptions]) -> R:
        """DELETE ``url``; see :meth:`request`."""
        return self.request("DELETE", url, **options)


class AsyncTestClient(Verbs[Coroutine[Any, Any, Response]]):
    """A client of an app, on the event loop of the test.

    ``over="memory"`` connects the app's own protocol to the client without a socket; ``over="socket"`` listens on a
    port of 127.0.0.1. The listeners of the server's life run while the client is entered with ``async with``, and only
    then; over a socket it must be entered.

    ``headers`` go with every request, cookies that the app sets are kept in :attr:`cookies`. ``timeout`` is how many
    seconds anything is waited for (None: without end). A handler that fails is a 500, or a Close with 1011; with
    ``raise_exceptions`` its exception is raised here instead. ``base_url`` is a scheme and a host, for the app to see.
    """

    __test__ = False  # pytest would take it for a test

    def __init__(
        self,
        app: App,
        *,
        over: Literal["memory", "socket"] = "memory",
        base_url: str = "http://localhost",
        headers: HeadersLike | None = None,
        cookies: Mapping[str, str] | None = None,
        timeout: float | None = 10,
        raise_exceptions: bool = False,
        protocol: type[asyncio.Protocol] | None = None,
    ) -> None:
        if not hasattr(app, "default_protocol"):
            kind = type(app).__name__
            raise TypeError(f"app is {kind}, permitted: App; an ASGI application goes into ferrows.asgi.ASGIHost first")
        self.app = app
        self.headers = Headers(headers or ())
        self.cookies = ClientCookies()
        self.cookies.update(cookies or {})
        self.timeout = timeout
        self._base = WebsocketURL.parse(base_url)
        if self._base.target != "/":
            raise ValueError(f"base_url {base_url!r} has a path, permitted: a scheme and a host")
        self._serving = Serving(app, over, protocol, secure=self._base.secure)
        self._failures = Failures(app) if raise_exceptions else None
        self._websockets: set[ClientWebsocket] = set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.app.name!r} over {self._serving.over}>"

    async def __aenter__(self) -> Self:
        if self._serving.started:
            raise RuntimeError("the client is entered already")
        self._watch()
        async with within(self.timeout, "the start of the app"):
            await self._serving.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._stop()
        if exc is None:
            self._raise_remaining()

    async def aclose(self) -> None:
        """Close what is open, with 1001, and run the listeners of the stop if the client was entered."""
        await self._stop()
        self._raise_remaining()

    async def _stop(self) -> None:
        for ws in list(self._websockets):
            ws.end_connection(1001)
        self._websockets.clear()
        try:
            await self._serving.stop(10 if self.timeout is None else self.timeout)
        finally:
            if self._failures is not None:
                self._failures.stop()

    def request(self, method: str, url: str, **options: Unpack[RequestOptions]) -> Coroutine[Any, Any, Response]:
        """Send a request and return the whole response.

        ``url`` is a path and perhaps a query. Options: ``params`` (the query), ``headers``, ``cookies``, one of
        ``json``, ``content`` (bytes, str, or an iterable of bytes, sent in chunks) and ``data`` (a form, with or
        without ``files``), and ``timeout``. Redirects are not followed.

        TimeoutError where the response takes too long, ConnectionError where the app ends the connection instead.
        """
        return self._request(method.upper(), url, options)

    async def _request(self, method: str, url: str, options: RequestOptions) -> Response:
        self._watch()
        target = target_of(url).partition("?")[0]
        cookies = self.cookies.header(target)
        if given := options.get("cookies"):
            only = ClientCookies()
            only.update(given)
            cookies = "; ".join(filter(None, (only.header("/"), cookies)))
        outgoing = Outgoing.of(method, url, self._base.authority, self.headers, cookies, options)
        async with within(options.get("timeout", self.timeout), f"the response to {method} {outgoing.target}"):
            response, address = await exchange(self._serving.dial, outgoing)
        self.cookies.take(response.headers, outgoing.path)
        self._raise_failure(address)
        return response

    def websocket(
        self,
        url: str,
        *,
        subprotocols: Sequence[str] = (),
        headers: HeadersLike | None = None,
        origin: str | None = None,
        compression: str | Mapping[str, Any] | None = None,
        max_size: int | None = 2**20,
        max_queue: int = 32,
        ping_interval: float | None = None,
        ping_timeout: float | None = None,
        timeout: float | None = DEFAULT,
    ) -> WebsocketOpening:
        """Open a WebSocket: ``async with client.websocket("/ws") as ws`` or ``ws = await client.websocket("/ws")``.

        It is a :class:`ferrows.Websocket` whose ``recv`` waits as long as ``timeout`` says, by default the client's.
        The options are those of :func:`ferrows.connect`. :exc:`ferrows.exceptions.HandshakeError` where the app refuses
        the upgrade.
        """
        self._watch()
        target = target_of(url)
        fields = self.headers.copy()
        for name, value in Headers(headers or ()).multi_items():
            fields[name] = value
        cookies = self.cookies.header(target.partition("?")[0])
        if cookies and "cookie" not in fields:
            fields["Cookie"] = cookies
        patience = self.timeout if timeout is DEFAULT else timeout
        handshake = OpeningHandshake(
            self._base._replace(target=target), fields, subprotocols, origin, DeflateOffer.of(compression)
        )
        return WebsocketOpening(
            self,
            handshake,
            self._serving.dial,
            open_timeout=patience,
            websocket=functools.partial(PatientWebsocket, patience=patience, url=target),
            max_size=max_size,
            max_queue=max_queue,
            close_timeout=10 if patience is None else patience,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
        )

    def _watch(self) -> None:
        if self._failures is not None:
            self._failures.watch()

    def _raise_failure(self, address: Any) -> None:
        """Raise what the handler of a connection has raised, if the client is to."""
        error = None if self._failures is None else self._failures.take(address)
        if error is not None:
            raise error

    def _raise_remaining(self) -> None:
        """Raise what a handler has raised when nobody looked any more."""
        error = None if self._failures is None else self._failures.take_any()
        if error is not None:
            raise error


class WebsocketOpening(Connecting):
    """What :meth:`AsyncTestClient.websocket` returns."""

    def __init__(self, client: AsyncTestClient, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._client = client
        self._address: Any = None
        self._dial = self._noting(self._dial)

    def _noting(self, dial: Dial) -> Dial:
        async def noting(make_protocol: Any) -> Any:
            transport, protocol = await dial(make_protocol)
            self._address = transport.get_extra_info("sockname")
            return transport, protocol

        return noting

    def __await__(self) -> Generator[Any, None, PatientWebsocket]:
        return self._open().__await__()

    async def __aenter__(self) -> PatientWebsocket:
        self._ws = ws = await self._open()
        return ws

    async def _open(self) -> PatientWebsocket:
        path = self._handshake.url.target.partition("?")[0]
        try:
            ws = cast(PatientWebsocket, await super()._open())
        except HandshakeError as error:
            self._client.cookies.take(Headers(error.headers), path)
            self._client._raise_failure(self._address)
            raise
        self._client.cookies.take(ws.response.headers, path)
        self._client._websockets.add(ws)
        return ws

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(exc_type, exc, tb)
        finally:
            assert self._ws is not None
            self._client._websockets.discard(self._ws)
        self._client._raise_failure(self._address)
