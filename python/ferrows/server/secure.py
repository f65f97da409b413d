"""``SecureConnection``: a connection until its TLS handshake is done."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Coroutine, Mapping
from typing import Any, Final, cast

from ..deadlines import deadlines
from ..log import error_logger
from .beginning import Beginning, BegunConnInfo, Entrance
from .flood import Flood
from .protocols.http_protocol import NEW_GRACE

__all__ = ["SecureConnection", "TLSEntrance"]


class TLSEntrance:
    """What the TLS handshakes of one server share; ``options`` are what ``loop.start_tls`` takes beside."""

    __slots__ = ("context", "entrance", "failures", "options")

    def __init__(self, entrance: Entrance, context: ssl.SSLContext, options: Mapping[str, Any]) -> None:
        self.entrance = entrance
        self.context = context
        self.options = options
        # Most are the noise of the internet.
        self.failures = Flood(logging.INFO)

    @classmethod
    def taken(
        cls, entrance: Entrance, context: ssl.SSLContext | None, server_options: dict[str, Any]
    ) -> TLSEntrance | None:
        """Take what concerns TLS out of the options of ``create_server``; None where there is no context."""
        if context is None:
            return None
        options = {name: server_options.pop(name) for name in _OPTIONS if name in server_options}
        return cls(entrance, context, options)

    def make(self, loop: asyncio.AbstractEventLoop) -> SecureConnection:
        """Make what a connection begins with."""
        return SecureConnection(self, loop)


_OPTIONS: Final[tuple[str, ...]] = ("ssl_handshake_timeout", "ssl_shutdown_timeout")


class SecureConnection(Beginning, asyncio.Protocol):
    """Lets a connection in, does the handshake, and gives the connection to the protocol that is to follow.

    The loops' own servers do TLS before anybody learns of a connection. Here one over a limit is closed before it costs
    a handshake, and one that fails leaves a line in the log.
    """

    __slots__ = ("_aborted", "_handshake", "_held", "_tls")

    def __init__(
        self,
        tls: TLSEntrance,
        loop: asyncio.AbstractEventLoop,
        begun: float | None = None,
        conn_info: BegunConnInfo | None = None,
    ) -> None:
        super().__init__(tls.entrance, loop, begun)
        self._tls = tls
        self.conn_info = conn_info
        self._held = _Held()
        self._handshake: Coroutine[Any, Any, asyncio.Transport | None] | None = None
        self._aborted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake, unless there are too many connections."""
        self.begin(transport)
        if self.conn_info is None:
            self.conn_info = BegunConnInfo(transport, self.entrance.unix)
        if not self.entrance.admission.lets_in(self):
            self.abort()
            return
        assert self.transport is not None
        self._begin_handshake(self.transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let go."""
        self.leave()

    def shutdown(self, code: int = 1001) -> None:
        """Let a client that has only just connected go on, to be told afterwards: it could not know."""
        # Not a timer of its own: what the client sent while the loop was held up has not been read.
        deadlines(self.loop, max(0.0, self.begun + NEW_GRACE - self.loop.time())).add(self)

    def abort(self) -> None:
        """Drop the connection."""
        self._aborted = True
        super().abort()

    def deadline_passed(self) -> None:
        """Give up, since a server that stops has waited long enough."""
        if self._handshake is not None:
            self.abort()

    def _begin_handshake(self, transport: asyncio.Transport) -> None:
        # A timeout of its own is the business of whoever serves.
        options = {"ssl_handshake_timeout": self.remaining, **self._tls.options}
        self._handshake = self.loop.start_tls(transport, self._held, self._tls.context, server_side=True, **options)
        self._go_on(None)

    def _go_on(self, waiter: asyncio.Future[Any] | None) -> None:
        """Do the next step of ``start_tls``, which waits for one future: the end of the handshake.

        A task would do the first one too late: uvloop reads on when ``connection_made`` has returned, and what it read
        would be lost. It would also cost more than all else that is done here.
        """
        assert self._handshake is not None
        try:
            following: Any = self._handshake.send(None)
        except StopIteration as end:
            self._succeed(end.value)
        except OSError as error:
            self._fail(error)
        except Exception:
            self._end()
            error_logger.exception("connection failed in its TLS handshake")
            self.abort()
        else:
            if following is None:
                self.loop.call_soon(self._go_on, None)
                return
            # What a task tells a future that it has taken note of (asyncio's own protocol between the two).
            following._asyncio_future_blocking = False
            following.add_done_callback(self._go_on)

    def _succeed(self, secure: asyncio.Transport | None) -> None:
        self._end()
        # The client may have left meanwhile, or we have.
        if secure is None or secure.is_closing():
            self.abort()
            return
        assert self.conn_info is not None
        self.conn_info.secured(secure)
        held = self._held
        try:
            self.hand_over(secure)
            # The protocol behind may have given the connection to another one by now.
            if held.data:
                cast(asyncio.Protocol, secure.get_protocol()).data_received(held.data)
            if held.ended:
                cast(asyncio.Protocol, secure.get_protocol()).eof_received()
        except BaseException:
            secure.abort()
            raise

    def _fail(self, error: OSError) -> None:
        self._end()
        if not self._aborted:
            self._log(error)
            self.abort()

    def _end(self) -> None:
        # Each holds the other.
        self._handshake = None

    def _log(self, error: OSError) -> None:
        address = "" if self.conn_info is None else self.conn_info.client_ip
        who = address or "a local peer"
        self._tls.failures.log(self.loop, f"TLS handshake with {who} failed: {reason(error)}")


def reason(error: OSError) -> str:
    """Say why a handshake has failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate of the client: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        name = error.reason or ""
        return _REASONS.get(name) or name.lower().replace("_", " ") or str(error)
    if isinstance(error, ConnectionAbortedError):
        return "it took too long"
    if isinstance(error, ConnectionError):
        return "the client has closed the connection"
    return str(error)


_REASONS: Final = {
    "HTTP_REQUEST": "the client speaks HTTP without TLS",
    "WRONG_VERSION_NUMBER": "the client does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "the client has no version of TLS that is permitted",
}


class _Held(asyncio.Protocol):
    """Holds what arrives behind the TLS handshake until its end is known, in the next turn of the loop."""

    __slots__ = ("data", "ended")

    def __init__(self) -> None:
        self.data = b""
        self.ended = False

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> None:
        self.ended = True
