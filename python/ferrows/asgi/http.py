"""HTTP: one request of an application, from the scope to the end of its response."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .._codec import Head
from ..log import error_logger
from ..redaction import printable
from ..server.body import BodyReader
from .exchange import ClientDisconnected, Exchange, repeats_disconnect
from .response import COMPLETE, WAITING, WRITING, Responder
from .scope import Event, http_scope

if TYPE_CHECKING:
    from .protocol import ASGIProtocol

__all__ = ["HTTPExchange"]


class HTTPExchange(Exchange, Responder):
    """A request and its response. The body is read as the application asks for it.

    The task that runs it is not cancelled when the client leaves: the application receives ``http.disconnect``, and its
    next ``send`` raises :exc:`ClientDisconnected`. It may go on after its response is complete, while the connection
    has its next request answered.
    """

    __slots__ = ("_body", "_continue", "_head_read", "_received", "_waiters", "disconnected", "task")

    def __init__(self, protocol: ASGIProtocol, head: Head, body: BodyReader | None) -> None:
        super().__init__(protocol, head.method, head.version)
        self._head_read: Head | None = head
        self._body = body
        # Whether the application has received the end of the body.
        self._received = False
        # Whether the client waits for us to want its body (RFC 9110 §10.1.1).
        self._continue = head.expect_continue and body is not None
        self._waiters: list[asyncio.Future[None]] | None = None
        self.disconnected = False
        self.task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Run the application and end what it leaves open."""
        protocol = self.protocol
        host = protocol.app
        head, self._head_read = self._head_read, None
        assert head is not None
        scope = http_scope(head, protocol.address(head), host.root_path, host.state)
        del head
        try:
            await host.application(scope, self.receive, self.send)
            if self.progress != COMPLETE and not self.disconnected:
                what = "starting" if self.progress == WAITING else "completing"
                error_logger.error("%s: the application returned without %s its response", self._describe(scope), what)
                protocol.break_off(self)
        except BaseException as error:
            self._failed(error, scope)
        finally:
            # None where an eager task has not waited for anything yet.
            if self.task is not None:
                protocol.forget_task(self.task)

    # ---- what the application calls

    async def receive(self) -> Event:
        """Return the next piece of the body, or ``http.disconnect`` once there is nobody to answer."""
        while not self.disconnected and self.progress != COMPLETE:
            body = self._body
            if body is None:
                if not self._received:
                    self._received = True
                    return {"type": "http.request", "body": b"", "more_body": False}
            elif body.size or body.complete:
                if body.complete:
                    self._body = None
                    self._received = True
                piece = body.take()
                if self._body is not None:
                    self.protocol.resume_body()
                return {"type": "http.request", "body": piece, "more_body": self._body is not None}
            elif self._continue:
                self._continue = False
                if self.progress != WRITING:
                    self.protocol.write_response(b"HTTP/1.1 100 Continue\r\n\r\n")
            await self._wait()
        return {"type": "http.disconnect"}

    async def send(self, event: Event) -> None:
        """Take an event of the response.

        RuntimeError for one out of order and for a body that is not of the declared length; ValueError and TypeError
        for a head that cannot be sent; ClientDisconnected once the client has left.
        """
        kind = event["type"]
        progress = self.progress
        if progress == WAITING:
            if kind != "http.response.start":
                raise RuntimeError(f"event {kind!r}, permitted now: 'http.response.start'")
            if self.disconnected:
                raise ClientDisconnected
            self.start(event)
            return
        if kind != "http.response.body":
            raise RuntimeError(f"event {kind!r}, permitted now: {_permitted(progress)}")
        if progress == COMPLETE:
            raise RuntimeError("event 'http.response.body' after the response is complete")
        body = event.get("body", b"")
        if type(body) is not bytes:
            # A copy of a bytearray, which its owner may change; TypeError for what is no buffer.
            body = memoryview(body).tobytes()
        protocol = self.protocol
        if protocol.write_paused:
            await protocol.drain()
        if self.disconnected:
            raise ClientDisconnected
        more = bool(event.get("more_body", False))
        self.write(body, more)
        if not more:
            self._wake()
            protocol.complete(self)
        else:
            await self.give_way()

    # ---- what the protocol calls

    @property
    def awaits_continue(self) -> bool:
        """Whether the client still waits for a word on whether to send its body."""
        return self._continue

    def body_arrived(self) -> None:
        """Take note that there is more of the body."""
        self._continue = False
        self._wake()

    def client_left(self) -> None:
        """Take note that nobody is there to answer."""
        self.disconnected = True
        self._wake()

    def refuse(self) -> bool:
        """Whether the server's stop can end this at once: a request is let finish."""
        return False

    # ---- the end

    def _describe(self, scope: dict[str, Any]) -> str:
        return f"{scope['method']} {printable(scope['path'])}"

    def _excuses(self, error: BaseException) -> bool:
        return self.disconnected and repeats_disconnect(error)

    def _break_off(self, *, stopping: bool) -> None:
        if self.progress != COMPLETE and not self.disconnected:
            self.protocol.break_off(self, answer=not stopping)


def _permitted(progress: int) -> str:
    return "none" if progress == COMPLETE else "'http.response.body'"
