"""The same application and the same client on uvicorn and on ferrows: the same events, but for what is listed here."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from .harness import HANDSHAKE, Client, Receive, Scope, Send, frame, peer, reply, serving

peer("uvicorn")
peer("websockets")

import uvicorn  # noqa: E402

Script = Callable[[Client, "Transcript"], Awaitable[None]]


@dataclass
class Transcript:
    """What the application and the client have seen."""

    application: list[Any] = field(default_factory=list)
    client: list[Any] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class Case:
    """An application, which writes down what it sees, and a client, which does so too."""

    application: Callable[[Scope, Receive, Send, list[Any]], Awaitable[None]]
    client: Script
    differences: Mapping[str, Any] = field(default_factory=dict)
    """On which side what is seen is another thing on uvicorn, and what that is."""


class Quiet(uvicorn.Server):
    """Leaves the process's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


@contextlib.asynccontextmanager
async def on_uvicorn(application: Any) -> AsyncIterator[int]:
    config = uvicorn.Config(
        application, port=0, http="httptools", ws="websockets-sansio", log_config=None, ws_per_message_deflate=False
    )
    server = Quiet(config)
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await serving


@contextlib.asynccontextmanager
async def on_ferrows(application: Any) -> AsyncIterator[int]:
    async with serving(application) as served:
        yield served.port


async def play(case: Case, server: Callable[[Any], Any]) -> Transcript:
    transcript = Transcript()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        try:
            await case.application(scope, receive, send, transcript.application)
        finally:
            transcript.ended.set()

    async with asyncio.timeout(60), server(application) as port:
        client = Client(*await asyncio.open_connection("127.0.0.1", port))
        try:
            await case.client(client, transcript)
            await transcript.ended.wait()
        finally:
            client.reset()
    return transcript


# ---- what the clients do


def asking(*requests: bytes) -> Script:
    """Send requests at once and read as many responses."""

    async def client(client: Client, transcript: Transcript) -> None:
        client.write(b"".join(requests))
        for request in requests:
            status, headers, body = await client.answer(request.split()[0].decode())
            headers = {name: value for name, value in headers.items() if name not in ("date", "server")}
            transcript.client.append((status, headers, body))

    return client


def request(method: bytes = b"GET", path: bytes = b"/", headers: bytes = b"", body: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return b"%b %b HTTP/1.1\r\nHost: a\r\n%b%b\r\n%b" % (method, path, headers, length, body)


async def frames_of(client: Client, transcript: Transcript) -> None:
    """Read short frames up to a Close or the end; note opcodes and payloads."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionResetError):
        while True:
            head = await client.reader.readexactly(2)
            payload = await client.reader.readexactly(head[1])
            opcode = head[0] & 15
            if opcode == 8:
                # Whether the answer to a Close repeats its reason is nobody's business.
                transcript.client.append((opcode, payload[:2]))
                return
            transcript.client.append((opcode, payload))
    transcript.client.append("ended without a Close")


def talking(
    *frames: bytes, early: bool = False, then: bytes = b"", handshake: bytes = HANDSHAKE, answer: bool = False
) -> Script:
    """Open a WebSocket, send frames, and read to the end.

    With ``early`` the frames leave with the handshake, and ``then`` once it is answered. ``answer`` closes too.
    """

    async def client(client: Client, transcript: Transcript) -> None:
        client.write(handshake + (b"".join(frames) if early else b""))
        status, headers = await client.head()
        kept = {name: value for name, value in headers.items() if name.startswith(("sec-websocket", "x-"))}
        transcript.client.append((status, kept))
        if status != 101:
            return
        client.write(then if early else b"".join(frames))
        await frames_of(client, transcript)
        if answer:
            client.write(close(4000))

    return client


async def conversing(client: Client, transcript: Transcript) -> None:
    """Wait for each echo before the next message: uvicorn drops what came before a Close."""
    client.write(HANDSHAKE)
    await client.head()
    for opcode, payload in ((1, b"a"), (2, b"b"), (1, b""), (2, b"")):
        client.write(frame(opcode, payload))
        head = await client.reader.readexactly(2)
        transcript.client.append((head[0], await client.reader.readexactly(head[1])))
    client.write(close(3001, b"bye"))
    await frames_of(client, transcript)


async def leaving(client: Client, transcript: Transcript) -> None:
    client.write(HANDSHAKE)
    await client.head()
    client.reset()


def close(code: int | None, reason: bytes = b"") -> bytes:
    return frame(8, b"" if code is None else struct.pack("!H", code) + reason)


# ---- what the applications do


async def note_body(scope: Scope, receive: Receive, send: Send, seen: list[Any]) -> None:
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event["body"], event["more_body"]
    seen.append((event["type"], body))
    await reply(send, body, headers=[(b"content-length", b"%d" % len(body)), (b"x-a", b"b")])
    seen.append(await receive())


async def note_scope(scope: Scope, receive: Receive, send: Send, seen: list[Any]) -> None:
    seen.append({name: value for name, value in scope.items() if name not in ("client", "server")})
    await reply(send, headers=[(b"content-length", b"0")])


async def stream(scope: Scope, receive: Receive, send: Send, seen: list[Any]) -> None:
    await reply(send, b"ab", more=True)
    await send({"type": "http.response.body", "body": b"", "more_body": True})
    await send({"type": "http.response.body", "body": b"c"})


async def nothing(scope: Scope, receive: Receive, send: Send, seen: list[Any]) -> None:
    return


async def raising(scope: Scope, receive: Receive, send: Send, seen: list[Any]) -> None:
    raise LookupError("no such thing")


async def no_content(scope: Scope, receive: Receive, send: Send, seen: list[Any]) -> None:
    await reply(send, status=204)


async def wrong_order(scope: Scope, receive: Receive, send: Send, seen: list[Any]) -> None:
    for event in ({"type": "http.response.body"}, {"type": "websocket.accept"}):
        try:
            await send(event)
        except Exception as error:
            seen.append(type(error))
    await reply(send, b"x", headers=[(b"content-length", b"1")])
    try:
        await send({"type": "http.response.body"})
    except Exception as error:
        seen.append(type(error))


async def echo(scope: Scope, receive: Receive, send: Send, seen: list[Any]) -> None:
    seen.append(await receive())
    await send({"type": "websocket.accept"})
    while True:
        event = await receive()
        event.setdefault("reason", "") if event["type"] == "websocket.disconnect" else None
        seen.append(event)
        if event["type"] == "websocket.disconnect":
            break
        await send({**event, "type": "websocket.send"})
    try:
        await send({"type": "websocket.send", "text": "too late"})
    except OSError:
        seen.append("OSError")


async def accept_with(scope: Scope, receive: Receive, send: Send, seen: list[Any]) -> None:
    seen.append(scope["subprotocols"])
    await receive()
    await send({"type": "websocket.accept", "subprotocol": "two", "headers": [(b"x-a", b"b")]})
    await send({"type": "websocket.close", "code": 3000, "reason": "enough"})
    seen.append(await receive())
    try:
        await send({"type": "websocket.send", "text": "too late"})
    except Exception as error:
        seen.append(type(error))


async def refuse(scope: Scope, receive: Receive, send: Send, seen: list[Any]) -> None:
    await receive()
    await send({"type": "websocket.close"})
    event = await receive()
    seen.append((event["type"], event["code"]))


async def deny(scope: Scope, receive: Receive, send: Send, seen: list[Any]) -> None:
    await receive()
    await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"x-a", b"b")]})
    await send({"type": "websocket.http.response.body", "body": b"who"})


async def accept_and_return(scope: Scope, receive: Receive, send: Send, seen: list[Any]) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "last"})


async def accept_and_raise(scope: Scope, receive: Receive, send: Send, seen: list[Any]) -> None:
    await accept_and_return(scope, receive, send, seen)
    raise LookupError("no such thing")


async def wrong_order_of_websocket(scope: Scope, receive: Receive, send: Send, seen: list[Any]) -> None:
    for event in ({"type": "websocket.send", "text": "early"}, {"type": "http.response.start", "status": 200}):
        try:
            await send(event)
        except Exception as error:
            seen.append(type(error))
    await send({"type": "websocket.accept"})
    try:
        await send({"type": "websocket.accept"})
    except Exception as error:
        seen.append(type(error))
    await send({"type": "websocket.close"})


OFFER = HANDSHAKE.replace(b"Host: a", b"Host: a\r\nSec-WebSocket-Protocol: one, two")
ACCEPTED = (101, {"sec-websocket-accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="})

SERVER_ERROR = {
    "content-type": "text/plain; charset=utf-8",
    "content-length": "21",
    "connection": "close",
}

SCOPE: dict[str, Any] = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "/a b",
    "raw_path": b"/a%20b",
    "query_string": b"x=1",
    "root_path": "",
    "headers": [(b"host", b"a"), (b"x-a", b"B")],
    "state": {},
}

CASES = {
    # A version of the specification in which `send` raises for a client that has left; and `extensions`, empty.
    "scope": Case(note_scope, asking(request(path=b"/a%20b?x=1", headers=b"X-A: B\r\n")), {"application": [SCOPE]}),
    "no body": Case(note_body, asking(request())),
    "body": Case(note_body, asking(request(b"POST", body=b"abc"))),
    "chunked body": Case(
        note_body,
        asking(request(b"POST", headers=b"Transfer-Encoding: chunked\r\n") + b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"),
    ),
    "HEAD": Case(note_body, asking(request(b"HEAD"))),
    "pipelined": Case(note_body, asking(request(), request(b"POST", body=b"abc"), request())),
    "stream": Case(stream, asking(request())),
    "204": Case(no_content, asking(request())),
    "no response": Case(
        nothing,
        asking(request()),
        # The body of a 500 ends with a line feed here, and its header fields are spelled otherwise.
        {
            "client": [
                (
                    500,
                    SERVER_ERROR,
                    b"Internal Server Error",
                )
            ]
        },
    ),
    "exception": Case(raising, asking(request()), {"client": [(500, SERVER_ERROR, b"Internal Server Error")]}),
    "wrong order": Case(wrong_order, asking(request())),
    "echo": Case(echo, conversing),
    # uvicorn loses them.
    "frames that come with the handshake": Case(
        echo,
        talking(frame(1, b"a"), early=True, then=close(1000)),
        {
            "application": [
                {"type": "websocket.connect"},
                {"type": "websocket.disconnect", "code": 1000, "reason": ""},
                "OSError",
            ],
            "client": [ACCEPTED, (8, b"\x03\xe8")],
        },
    ),
    "close without a code": Case(echo, talking(close(None))),
    # uvicorn says 1005, which is a Close without a code, where there was no Close.
    "no Close": Case(
        echo,
        leaving,
        {
            "application": [
                {"type": "websocket.connect"},
                {"type": "websocket.disconnect", "code": 1005, "reason": ""},
                "OSError",
            ]
        },
    ),
    "ping": Case(echo, talking(frame(9, b"p"), close(1000))),
    "subprotocol and close": Case(accept_with, talking(handshake=OFFER, answer=True)),
    "close before accept": Case(refuse, talking()),
    "denial": Case(deny, talking()),
    # uvicorn ends the connection without a Close, so that the client sees 1006.
    "return": Case(accept_and_return, talking(), {"client": [ACCEPTED, (1, b"last"), "ended without a Close"]}),
    "exception after accept": Case(
        accept_and_raise, talking(), {"client": [ACCEPTED, (1, b"last"), "ended without a Close"]}
    ),
    "exception before accept": Case(raising, talking()),
    "no answer": Case(nothing, talking()),
    "wrong order of a websocket": Case(wrong_order_of_websocket, talking(answer=True)),
}


@pytest.mark.parametrize("name", CASES)
async def test_same_transcript(name: str) -> None:
    case = CASES[name]
    theirs, ours = await play(case, on_uvicorn), await play(case, on_ferrows)
    for side in ("application", "client"):
        seen, other = getattr(ours, side), getattr(theirs, side)
        if side in case.differences:
            # A difference that is none any more is to be taken off the list.
            assert other == case.differences[side]
            assert seen != other
        else:
            assert seen == other
