"""Request: what a client sent, decoded as far as a handler asks for it."""

from __future__ import annotations

import base64
import binascii
import json as json_module
import uuid
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

from .cookies import parse_cookies
from .exceptions import BadRequest, ServerError
from .forms import File, decode_text, parse_form
from .forwarding import forwarded
from .headers import Headers, MultiDict, parse_list, parse_parameters
from .request_target import authority_of, split_target

if TYPE_CHECKING:
    import asyncio

    from ._codec import Head
    from .response import HTTPResponse

__all__ = ["Credentials", "File", "Request"]


class Credentials(NamedTuple):
    """The ``Authorization`` field: ``token`` is all after the scheme; ``username`` and ``password`` are Basic's."""

    auth_type: str | None
    token: str | None
    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        # Without what could end up in a log.
        return f"<{type(self).__name__} {self.auth_type or 'none'}>"


class Request:
    """One request. Nothing is parsed before it is asked for.

    ``target`` and ``raw_headers`` are as they came and have been validated; ``body`` is whole. ``path`` is still
    percent-encoded. ``route``, ``match_info`` and ``endpoint`` are the router's, ``ctx`` is the application's.
    """

    __slots__ = (
        "__weakref__",
        "_ctx",
        "_head",
        "_headers",
        "_match_info",
        "_parsed",
        "app",
        "body",
        "endpoint",
        "method",
        "path",
        "protocol",
        "query_string",
        "responded",
        "route",
        "version",
    )

    def __init__(self, head: Head, protocol: Any = None, app: Any = None) -> None:
        self._head = head
        self.method: str = head.method
        self.version: str = head.version
        self.protocol = protocol
        self.app = app
        self.body = b""
        path, query = split_target(head.target)
        self.path = path.decode("latin-1")
        self.query_string = query.decode("latin-1")
        self.route: Any = None
        self._match_info: dict[str, Any] | None = None
        self.endpoint: str | None = None
        # Whether `respond` was called, so that there is no response left to return.
        self.responded = False
        self._headers: Headers | None = None
        self._ctx: SimpleNamespace | None = None
        # What was asked for, by name.
        self._parsed: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.method} {self.path}>"

    def _once(self, name: str, parse: Callable[[], Any]) -> Any:
        """Parse something when it is asked for first."""
        if self._parsed is None:
            self._parsed = {}
        if name not in self._parsed:
            self._parsed[name] = parse()
        return self._parsed[name]

    # ----------------------------------------------------------------------------------------------------------------
    # The head

    @property
    def headers(self) -> Headers:
        if self._headers is None:
            self._headers = Headers.of(self._head)
        return self._headers

    def header_lines(self, *names: str) -> list[list[str]]:
        """Return the values of several headers, whose names are given in lower case, each as `Headers.getall` does.

        It looks into the head itself, where nobody has asked for :attr:`headers` yet.
        """
        if self._headers is None:
            return self._head.select(names)
        return [self._headers.getall(name) for name in names]

    @property
    def target(self) -> bytes:
        """The request target as it came."""
        return self._head.target

    @property
    def wants_websocket(self) -> bool:
        """Whether it asks for a WebSocket, rightly or not: a GET with ``Upgrade: websocket`` that Connection names."""
        return self._head.websocket

    @property
    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers as they came: names as the client spelled them, values without the white space around them."""
        return self._head.headers

    @property
    def cookies(self) -> dict[str, str]:
        # HTTP/2 clients split them; one behind a proxy may arrive so.
        cookies: dict[str, str] = self._once("cookies", lambda: parse_cookies("; ".join(self.headers.getall("cookie"))))
        return cookies

    @property
    def args(self) -> MultiDict:
        """The query, decoded: ``args.get(name)`` is the first value, ``args.getlist(name)`` every one."""
        args: MultiDict = self._once("args", lambda: MultiDict.from_pairs(self.query_args))
        return args

    @property
    def query_args(self) -> list[tuple[str, str]]:
        """The query, decoded, in the order of the target."""
        return parse_qsl(self.query_string, keep_blank_values=True, errors="replace")

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")

    @property
    def id(self) -> uuid.UUID | str:
        """The client's ``X-Request-ID``, as a UUID where it is one; a random UUID where there is none."""
        request_id: uuid.UUID | str = self._once("id", lambda: _parse_id(self.headers.get("x-request-id")))
        return request_id

    @property
    def credentials(self) -> Credentials:
        """The ``Authorization`` field in its parts; Basic that cannot be decoded has only its token."""
        credentials: Credentials = self._once(
            "credentials", lambda: _parse_credentials(self.headers.get("authorization"))
        )
        return credentials

    @property
    def token(self) -> str | None:
        return self.credentials.token

    @property
    def ctx(self) -> SimpleNamespace:
        if self._ctx is None:
            self._ctx = SimpleNamespace()
        return self._ctx

    # ----------------------------------------------------------------------------------------------------------------
    # Where it came from and where it went

    @property
    def transport(self) -> asyncio.Transport | None:
        return None if self.protocol is None else self.protocol.transport

    @property
    def conn_info(self) -> Any:
        return None if self.protocol is None else self.protocol.conn_info

    @property
    def ip(self) -> str:
        """The peer's address; empty where the connection has none (a Unix socket)."""
        info = self.conn_info
        return "" if info is None else info.client_ip

    @property
    def port(self) -> int:
        info = self.conn_info
        return 0 if info is None else info.client_port

    @property
    def remote_addr(self) -> str:
        """The client's address as far as trusted proxies tell it (see :attr:`forwarded`), else the peer's."""
        return self.forwarded.get("for") or self.ip

    @property
    def forwarded(self) -> dict[str, str]:
        """What trusted proxies tell of the client: ``for`` (its address), ``proto`` (http or https) and ``host``.

        Empty unless the peer is in ``FORWARDED_ALLOW_IPS``; what is malformed is left out.
        """
        if self.app is None or not self.app.config.FORWARDED_ALLOW_IPS:
            return {}
        told: dict[str, str] = self._once(
            "forwarded", lambda: forwarded(self.app.config, self.ip, lambda name: self.header_lines(name)[0])
        )
        return told

    @property
    def scheme(self) -> str:
        """``http`` or ``ws``, with an ``s`` on TLS: the client's, where a trusted proxy tells of it, else ours."""
        told, info = self.forwarded.get("proto"), self.conn_info
        secure = told == "https" if told else info is not None and info.ssl
        upgrades = [protocol.lower() for protocol in parse_list(self.headers.combined("upgrade"))]
        scheme = "ws" if "websocket" in upgrades and self.version != "1.0" else "http"
        return scheme + "s" if secure else scheme

    @property
    def host(self) -> str:
        """The host, and the port where the client names it; empty where an HTTP/1.0 client names none."""
        authority = authority_of(self.target)
        return self.headers.get("host", "") if authority is None else authority.decode("latin-1")

    @property
    def server_name(self) -> str:
        """The host without its port."""
        name, _, _ = _split_port(self.host)
        return name

    @property
    def server_port(self) -> int:
        """The port that the client named, else the scheme's."""
        _, _, port = _split_port(self.host)
        return int(port) if port else 443 if self.scheme in ("https", "wss") else 80

    @property
    def server_path(self) -> str:
        return self.path

    @property
    def url(self) -> str:
        query = f"?{self.query_string}" if self.query_string else ""
        path = "" if self.path == "*" else self.path
        return f"{self.scheme}://{self.host}{path}{query}"

    @property
    def match_info(self) -> dict[str, Any]:
        """The parameters of the path."""
        if self._match_info is None:
            self._match_info = {}
        return self._match_info

    @match_info.setter
    def match_info(self, values: dict[str, Any]) -> None:
        # Most paths have none, and a dictionary lasts as long as the request.
        self._match_info = values or None

    @property
    def name(self) -> str | None:
        """The name of the route."""
        return getattr(self.route, "name", None)

    @property
    def uri_template(self) -> str | None:
        """The path of the route, as it was registered."""
        return getattr(self.route, "path", None)

    # ----------------------------------------------------------------------------------------------------------------
    # The body

    @property
    def text(self) -> str:
        """The body as text, by the charset of its ``Content-Type``, else UTF-8; BadRequest where it is not."""
        try:
            _, parameters = parse_parameters(self.content_type)
            return decode_text(self.body, parameters.get("charset", "utf-8"))
        except ValueError:
            raise BadRequest("body is not text in its charset") from None

    @property
    def json(self) -> Any:
        """The body as JSON, None where it is empty; BadRequest where it is none."""
        return self._once("json", self.load_json)

    def load_json(self, loads: Any = json_module.loads) -> Any:
        """Parse the body with ``loads``."""
        if not self.body:
            return None
        try:
            return loads(self.body)
        except (ValueError, RecursionError):
            raise BadRequest("body is not valid JSON") from None

    @property
    def form(self) -> MultiDict:
        """The fields of a form; BadRequest where the body does not follow its ``Content-Type``."""
        return self._parsed_form()[0]

    @property
    def files(self) -> MultiDict:
        """The files of a multipart form, as :class:`File`."""
        return self._parsed_form()[1]

    def _parsed_form(self) -> tuple[MultiDict, MultiDict]:
        form: tuple[MultiDict, MultiDict] = self._once("form", lambda: parse_form(self.content_type, self.body))
        return form

    # ----------------------------------------------------------------------------------------------------------------
    # The answer

    async def respond(
        self,
        response: HTTPResponse | None = None,
        *,
        status: int = 200,
        headers: Headers | Mapping[str, str] | None = None,
        content_type: str | None = None,
    ) -> HTTPResponse:
        """Begin a streamed response: ``await response.send(data)`` on what this returns, then ``await response.eof()``.

        Response middleware runs now; the head leaves with the first data. A handler that has called this need return
        nothing. Raises ServerError where the request has its response already.
        """
        from .response import HTTPResponse

        if response is None:
            response = HTTPResponse(status=status, headers=headers, content_type=content_type)
        response = await self.app.finish_response(self, response)
        self.protocol.begin_response(self, response)
        self.responded = True
        return response

    async def upgrade(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], *, replay: bool = False
    ) -> asyncio.BaseProtocol:
        """Hand the connection over to a foreign asyncio protocol, and return it; the handler then returns nothing.

        It gets ``connection_made`` with the transport, then every byte that has arrived behind the request, then what
        the transport calls. The response, a 101 or another, is for it to write. ``replay`` gives it the request itself
        first, head and body, for a protocol that does its own handshake. When the server stops, its ``close()`` is
        called, sync or async, else the transport is closed; what is left after ``GRACEFUL_SHUTDOWN_TIMEOUT`` is
        aborted. ServerError where the request has its response already, RequestCancelled where the client has left.
        """
        take_over = getattr(self.protocol, "take_over", None)
        if take_over is None:
            raise ServerError("this connection is another server's, and cannot be handed over")
        protocol: asyncio.BaseProtocol = take_over(self, protocol_factory, replay=replay)
        return protocol


def _split_port(host: str) -> tuple[str, str, str]:
    name, colon, port = host.rpartition(":")
    # An IPv6 address without a port has colons too, but within its brackets.
    if not colon or "]" in port:
        return host, "", ""
    return name, colon, port


def _parse_id(given: str | None) -> uuid.UUID | str:
    if not given:
        return uuid.uuid4()
    try:
        return uuid.UUID(given)
    except ValueError:
        return given


def _parse_credentials(value: str | None) -> Credentials:
    if not value:
        return Credentials(None, None)
    scheme, _, token = value.partition(" ")
    token = token.strip(" ")
    if not token:
        # Some clients send the token alone.
        return Credentials(None, scheme)
    if scheme.lower() != "basic":
        return Credentials(scheme, token)
    try:
        username, colon, password = base64.b64decode(token, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        return Credentials(scheme, token)
    return Credentials(scheme, token, username, password) if colon else Credentials(scheme, token)
