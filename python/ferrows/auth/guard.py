"""``authenticated``: the decorator that lets nobody in without a session."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from ..exceptions import BadRequest, Unauthorized
from ..redaction import hide_parameter
from ..response import HTTPResponse
from ..upgrade import called, when_open
from ..websocket import check_close
from .bearer import bearer_token, challenge, check_marker
from .session import EXPIRED, Session
from .tickets import TicketError

if TYPE_CHECKING:
    from ..request import Request

__all__ = ["Authenticated", "Verify", "authenticated"]

Handler = Callable[..., Any]

Verify: TypeAlias = "Callable[[str, Request], Session | Awaitable[Session | None] | None]"
"""Takes a token and the request; returns whose it is, or None."""


class Authenticated:
    """A decorator for ``apply``, made by :func:`authenticated`.

    ``subprotocols`` is what a route adds to its own: the name that a token stands behind, so that a browser which
    offers nothing else gets one back. They come last in the server's preference.
    """

    __slots__ = ("_code", "_cookie", "_header", "_query", "_realm", "_subprotocol", "_verify", "subprotocols")

    def __init__(
        self,
        verify: Verify,
        *,
        header: bool,
        query: str | None,
        subprotocol: str | None,
        cookie: str | None,
        realm: str,
        code: int,
    ) -> None:
        if not callable(verify):
            raise TypeError(f"verify is {type(verify).__name__}, permitted: a function of a token and a request")
        if not header and query is None and subprotocol is None and cookie is None:
            raise ValueError(
                "authenticated() looks nowhere for a token: header, query, subprotocol or cookie is needed"
            )
        check_close(code, "")
        if challenge(realm) != f'Bearer realm="{realm}"':
            raise ValueError(f'realm {realm!r} must be printable ASCII without " and \\')
        if subprotocol is not None:
            check_marker(subprotocol)
        if query is not None:
            hide_parameter(query)
        self._verify = verify
        self._header = header
        self._query = query
        self._subprotocol = subprotocol
        self._cookie = cookie
        self._realm = realm
        self._code = code
        self.subprotocols: tuple[str, ...] = () if subprotocol is None else (subprotocol,)

    def __call__(self, handler: Handler) -> Handler:
        """Wrap a handler, or the upgrade and a handler."""

        @functools.wraps(handler)
        async def check(request: Request, *args: Any, **values: Any) -> Any:
            session = await self.authenticate(request)
            request.ctx.session = session
            ws = None

            def attach(opened: Any) -> None:
                nonlocal ws
                ws = opened
                session.attach(ws, self._code)

            # Where the 101 is out already, since the decorator stands below @app.websocket, the websocket is here.
            if not when_open(request, attach) and args:
                attach(args[0])
            try:
                result = await called(handler, request, *args, **values)
            finally:
                if ws is not None:
                    session.detach(ws)
            if self._query is not None and isinstance(result, HTTPResponse) and self._query in request.args:
                # RFC 6750 §2.3: what a token in a URL was shown SHOULD stay out of shared caches.
                result.headers.setdefault("Cache-Control", "private")
            return result

        return check

    async def authenticate(self, request: Request) -> Session:
        """Return the session of a request. Unauthorized or BadRequest, with a challenge, or what ``verify`` raises."""
        try:
            token = bearer_token(request, header=self._header, query=self._query, subprotocol=self._subprotocol)
        except BadRequest as error:
            error.headers["WWW-Authenticate"] = challenge(self._realm, "invalid_request", error.message)
            raise
        if token is None and self._cookie is not None:
            token = request.cookies.get(self._cookie)
        if not token:
            # §3.1: no error where nothing was sent.
            raise self._unauthorized("authentication is needed")
        try:
            session = await called(self._verify, token, request)
        except Unauthorized as error:
            if isinstance(error, TicketError) or "WWW-Authenticate" not in error.headers:
                error.headers["WWW-Authenticate"] = challenge(self._realm, "invalid_token", error.message)
            raise
        if session is None:
            raise self._unauthorized("the token is not valid", "invalid_token")
        if not isinstance(session, Session):
            raise TypeError(f"verify returned {type(session).__name__}, permitted: Session or None")
        if session.ended:
            raise self._unauthorized("the session is over", "invalid_token")
        return session

    def _unauthorized(self, message: str, error: str | None = None) -> Unauthorized:
        value = challenge(self._realm, error, message if error else None)
        return Unauthorized(message, headers={"WWW-Authenticate": value})


def authenticated(
    verify: Verify,
    *,
    header: bool = True,
    query: str | None = None,
    subprotocol: str | None = None,
    cookie: str | None = None,
    realm: str = "ferrows",
    code: int = EXPIRED,
) -> Authenticated:
    """Make a decorator for ``apply``, of WebSocket and HTTP routes, that lets nobody in without a session.

    ``verify(token, request)``, sync or async, returns the :class:`Session` of a token, or None. Where the token may be
    is said as for :func:`bearer_token`; ``cookie`` is the name of one that is looked at where there is no token.
    ``request.ctx.session`` is the session, and the WebSocket ends with it: with ``code`` when it expires.

    Without a token, with a wrong one, or where ``verify`` raises Unauthorized, the answer is 401 with a challenge for
    ``realm`` (RFC 6750 §3). Other exceptions of ``verify`` are answered as a handler's: Forbidden with 403. That is
    before the upgrade. Below ``@app.websocket`` it would be a Close with 1008, and a marker in ``subprotocol`` must
    then stand among those of the route.
    """
    return Authenticated(
        verify, header=header, query=query, subprotocol=subprotocol, cookie=cookie, realm=realm, code=code
    )
