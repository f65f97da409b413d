"""``TestClient``: a client of an app for tests that are plain functions."""

from __future__ import annotations

import weakref
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from ..client.response import ClientResponse
from ..headers import Headers
from ..server.loop import new_event_loop
from .client import DEFAULT, AsyncTestClient, Verbs, WebsocketOpening
from .cookies import ClientCookies
from .patience import PatientWebsocket
from .portal import Portal
from .request import HeadersLike, RequestOptions
from .response import Response

if TYPE_CHECKING:
    from types import TracebackType

    from ..app import App

__all__ = ["TestClient", "TestWebsocket"]

T = TypeVar("T")


class TestClient(Verbs[Response]):
    """A client of an app for tests that are plain functions; the app runs on an event loop in another thread.

    The options are those of :class:`AsyncTestClient`. Entered with ``with``, the listeners of the server's life run;
    without it, the loop runs from the first request to :meth:`close` or until the client is forgotten.
    """

    __test__ = False  # pytest would take it for a test

    def __init__(self, app: App, **options: Any) -> None:
        self._client = AsyncTestClient(app, **options)
        self._portal: Portal | None = None
        self._forgotten: weakref.finalize[..., Any] | None = None

    def __repr__(self) -> str:
        return repr(self._client).replace("AsyncTestClient", "TestClient")

    @property
    def app(self) -> App:
        return self._client.app

    @property
    def headers(self) -> Headers:
        """What goes with every request."""
        return self._client.headers

    @property
    def cookies(self) -> ClientCookies:
        """What the app has set, to be changed as well."""
        return self._client.cookies

    @property
    def timeout(self) -> float | None:
        """Seconds that anything is waited for."""
        return self._client.timeout

    def __enter__(self) -> Self:
        try:
            self._call(self._client.__aenter__(), "the start of the app")
        except BaseException:
            self._close_portal()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._end(self._client.__aexit__(exc_type, exc, tb))

    def close(self) -> None:
        """Close what is open, with 1001, run the listeners of the stop if the client was entered, and end the loop."""
        if self._portal is not None:
            self._end(self._client.aclose())

    def _end(self, ending: Coroutine[Any, Any, None]) -> None:
        try:
            self._call(ending, "the stop of the app", more=20)
        finally:
            self._close_portal()

    def request(self, method: str, url: str, **options: Unpack[RequestOptions]) -> Response:
        """Send a request and return the whole response; see :meth:`AsyncTestClient.request`."""
        return self._call(
            self._client.request(method, url, **options), f"{method.upper()} {url}", options.get("timeout")
        )

    def websocket(
        self,
        url: str,
        *,
        subprotocols: Sequence[str] = (),
        headers: HeadersLike | None = None,
        origin: str | None = None,
        compression: str | Mapping[str, Any] | None = None,
        timeout: float | None = DEFAULT,
        **options: Any,
    ) -> TestWebsocket:
        """Open a WebSocket, which may be entered with ``with`` to be closed; see :meth:`AsyncTestClient.websocket`."""
        opening = self._client.websocket(
            url,
            subprotocols=subprotocols,
            headers=headers,
            origin=origin,
            compression=compression,
            timeout=timeout,
            **options,
        )
        patience = self.timeout if timeout is DEFAULT else timeout
        ws = self._call(opening.__aenter__(), f"the opening handshake of {url}", patience)
        assert self._portal is not None
        return TestWebsocket(self._portal, opening, ws, url, patience)

    def _call(
        self, coroutine: Coroutine[Any, Any, T], what: str, timeout: float | None = None, *, more: float = 0
    ) -> T:
        if self._portal is None:
            self._portal = Portal(partial(new_event_loop, use_uvloop=self.app.config.USE_UVLOOP))
            self._forgotten = weakref.finalize(self, self._portal.close)
        limit = self.timeout if timeout is None else timeout
        return self._portal.call(coroutine, None if limit is None else limit + more, what)

    def _close_portal(self) -> None:
        self._portal = None
        if self._forgotten is not None:
            self._forgotten()
            self._forgotten = None


class TestWebsocket:
    """A WebSocket of a :class:`TestClient`: the methods of :class:`ferrows.Websocket`, each waiting for its end."""

    __test__ = False

    def __init__(
        self, portal: Portal, opening: WebsocketOpening, ws: PatientWebsocket, url: str, timeout: float | None
    ) -> None:
        self._portal = portal
        self._opening = opening
        self._ws = ws
        self._url = url
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"<TestWebsocket {self._url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._call(self._opening.__aexit__(exc_type, exc, tb), "the closing handshake")

    def __iter__(self) -> Iterator[str | bytes]:
        """Iterate over messages until the connection ends, as ``async for`` does."""
        while True:
            try:
                yield self._call(self._ws.__anext__(), "a message")
            except StopAsyncIteration:
                return

    def send(self, data: Any, encoding: str | None = None, *, compress: bool | None = None) -> None:
        """Send a message: ``str``, bytes-like, an iterable of either, or anything with ``encoding="json"``."""

        async def send() -> None:
            await self._ws.send(data, encoding, compress=compress)

        self._call(send(), "a send")

    def recv(self, timeout: float | None = None) -> str | bytes:
        """Return the next message; TimeoutError after ``timeout`` seconds, by default the client's."""
        return self._call(self._ws.recv(timeout), "a message", timeout)

    def ping(self, data: str | bytes | None = None) -> float:
        """Send a Ping, wait for its Pong, and return the round-trip time in seconds."""

        async def ping() -> float:
            return await (await self._ws.ping(data))

        return self._call(ping(), "a pong")

    def pong(self, data: str | bytes = b"") -> None:
        """Send an unsolicited Pong."""
        self._call(self._ws.pong(data), "a pong")

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Perform the closing handshake."""
        self._call(self._ws.close(code, reason), "the closing handshake")

    @property
    def response(self) -> ClientResponse:
        """The answer to the opening handshake."""
        return self._ws.response

    @property
    def subprotocol(self) -> str | None:
        return self._ws.subprotocol

    @property
    def open(self) -> bool:
        """Whether messages can be sent."""
        return bool(self._attribute("open"))

    @property
    def closed(self) -> bool:
        """Whether the closing handshake is over or the connection is gone."""
        return bool(self._attribute("closed"))

    @property
    def close_code(self) -> int | None:
        """The code that the connection ended with; None while it is open."""
        code: int | None = self._attribute("close_code")
        return code

    @property
    def close_reason(self) -> str | None:
        """The reason that goes with :attr:`close_code`."""
        reason: str | None = self._attribute("close_reason")
        return reason

    def _attribute(self, name: str) -> Any:
        async def read() -> Any:
            return getattr(self._ws, name)

        return self._call(read(), name)

    def _call(self, coroutine: Coroutine[Any, Any, T], what: str, timeout: float | None = None) -> T:
        limit = self._timeout if timeout is None else timeout
        return self._portal.call(coroutine, limit, f"{what} on {self._url}")
