"""A Starlette application with a bit of everything."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from .harness import peer, serving

peer("starlette")

from starlette.applications import Starlette  # noqa: E402
from starlette.background import BackgroundTask  # noqa: E402
from starlette.endpoints import WebSocketEndpoint  # noqa: E402
from starlette.exceptions import HTTPException, WebSocketException  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402
from starlette.middleware.base import BaseHTTPMiddleware  # noqa: E402
from starlette.middleware.gzip import GZipMiddleware  # noqa: E402
from starlette.requests import ClientDisconnect, Request  # noqa: E402
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse  # noqa: E402
from starlette.routing import Mount, Route, WebSocketRoute  # noqa: E402
from starlette.websockets import WebSocket, WebSocketDisconnect  # noqa: E402


class Things:
    """What the application of one test does, and what it has noticed."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.done = asyncio.Event()
        self.seen: list[Any] = []

    async def hello(self, request: Request) -> Response:
        return PlainTextResponse(f"Hello, {request.path_params['name']}, from {request.state.where}!")

    async def echo_json(self, request: Request) -> Response:
        return JSONResponse(await request.json(), status_code=201)

    async def count(self, request: Request) -> Response:
        sizes = [len(chunk) async for chunk in request.stream()]
        return JSONResponse({"bytes": sum(sizes), "pieces": len(sizes) > 2})

    async def stream(self, request: Request) -> Response:
        async def numbers() -> AsyncIterator[str]:
            for number in range(3):
                yield f"{number};"
            await self.go.wait()
            yield "end"

        return StreamingResponse(numbers(), media_type="text/plain")

    async def endless(self, request: Request) -> Response:
        async def zeros() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield bytes(2**16)
                    await asyncio.sleep(0)
            finally:
                self.done.set()

        return StreamingResponse(zeros())

    async def file(self, request: Request) -> Response:
        return FileResponse(__file__)

    async def background(self, request: Request) -> Response:
        async def work() -> None:
            await self.go.wait()
            self.seen.append("worked")
            self.done.set()

        return PlainTextResponse("accepted", 202, background=BackgroundTask(work))

    async def left(self, request: Request) -> Response:
        try:
            await request.body()
        except ClientDisconnect:
            self.seen.append(await request.is_disconnected())
            self.done.set()
        return PlainTextResponse("")

    async def teapot(self, request: Request) -> Response:
        raise HTTPException(418, "short and stout", {"X-Tea": "yes"})

    async def broken(self, request: Request) -> Response:
        raise LookupError("no such thing")

    async def echo(self, websocket: WebSocket) -> None:
        await websocket.accept(websocket.scope["subprotocols"][0] if websocket.scope["subprotocols"] else None)
        async for text in websocket.iter_text():
            await websocket.send_text(f"{websocket.url.path} {websocket.state.where}: {text}")
        self.done.set()

    async def bytes_and_json(self, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_bytes(await websocket.receive_bytes())
        await websocket.send_json(await websocket.receive_json())
        await websocket.close(3000, "enough")

    async def unhandled(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.done.set()
        while True:
            await websocket.receive_text()

    async def refused(self, websocket: WebSocket) -> None:
        raise WebSocketException(1008, "not you")

    async def denied(self, websocket: WebSocket) -> None:
        await websocket.send_denial_response(JSONResponse({"error": "who are you"}, 401))

    def application(self, middleware: Any = ()) -> Starlette:
        @contextlib.asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
            yield {"where": "here"}
            self.seen.append("shut down")

        async def on_lookup_error(request: Request, error: Exception) -> Response:
            return PlainTextResponse(f"caught {error}", 404)

        class Endpoint(WebSocketEndpoint):
            encoding = "text"

            async def on_receive(self, websocket: WebSocket, data: Any) -> None:
                await websocket.send_text(data.upper())

        return Starlette(
            routes=[
                Route("/hello/{name}", self.hello),
                Route("/json", self.echo_json, methods=["POST"]),
                Route("/count", self.count, methods=["POST"]),
                Route("/stream", self.stream),
                Route("/endless", self.endless),
                Route("/file", self.file),
                Route("/background", self.background),
                Route("/left", self.left, methods=["POST"]),
                Route("/teapot", self.teapot),
                Route("/broken", self.broken),
                Mount("/mounted", routes=[WebSocketRoute("/ws", self.echo)]),
                WebSocketRoute("/ws", self.echo),
                WebSocketRoute("/endpoint", Endpoint),
                WebSocketRoute("/mixed", self.bytes_and_json),
                WebSocketRoute("/unhandled", self.unhandled),
                WebSocketRoute("/refused", self.refused),
                WebSocketRoute("/denied", self.denied),
            ],
            exception_handlers={LookupError: on_lookup_error},
            middleware=list(middleware),
            lifespan=lifespan,
        )


class Stamp(BaseHTTPMiddleware):
    """Middleware of the kind that listens for a disconnect while it streams."""

    async def dispatch(self, request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["X-Stamp"] = "1"
        return response


STACKS = [(), (Middleware(Stamp),), (Middleware(GZipMiddleware, minimum_size=10**9), Middleware(Stamp))]


@pytest.fixture(params=STACKS, ids=["plain", "BaseHTTPMiddleware", "two of them"])
def stack(request: pytest.FixtureRequest) -> Any:
    return request.param


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_requests(stack: Any, caplog: pytest.LogCaptureFixture) -> None:
    things = Things()
    async with serving(things.application(stack)) as served:
        client = await served.connect()
        answer = await client.ask("/hello/w%C3%B6rld")
        assert answer.body.decode() == "Hello, wörld, from here!"
        assert answer.headers.get("x-stamp") == ("1" if stack else None)
        assert (await client.ask("/json", "POST", b'{"a": 1}'))[0::2] == (201, b'{"a":1}')
        assert (await client.ask("/count", "POST", bytes(500_000))).body == b'{"bytes":500000,"pieces":true}'
        assert (await client.ask("/teapot"))[0::2] == (418, b"short and stout")
        assert (await client.ask("/broken"))[0::2] == (404, b"caught no such thing")
        assert (await client.ask("/nowhere")).status == 404
        assert (await client.ask("/hello/you", "HEAD")).status == 200
        assert (await client.ask("/hello/you", "DELETE")).status == 405
        with open(__file__, "rb") as source:
            assert (await client.ask("/file")).body == source.read()
    assert things.seen == ["shut down"]
    assert errors(caplog) == []


async def test_streamed_response_leaves_as_it_is_made(stack: Any) -> None:
    things = Things()
    async with serving(things.application(stack)) as served:
        client = await served.connect()
        client.write(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.head()
        assert [await client.chunk() for _ in range(3)] == [b"0;", b"1;", b"2;"]
        things.go.set()
        assert [await client.chunk() for _ in range(2)] == [b"end", b""]


async def test_streamed_response_ends_when_the_client_leaves(stack: Any, caplog: pytest.LogCaptureFixture) -> None:
    things = Things()
    async with serving(things.application(stack)) as served:
        client = await served.connect()
        client.write(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.chunk_after_head()
        client.reset()
        await things.done.wait()
    assert errors(caplog) == []


async def test_background_task_runs_after_the_response_and_holds_nobody_up() -> None:
    things = Things()
    async with serving(things.application()) as served:
        client = await served.connect()
        assert (await client.ask("/background")).status == 202
        assert (await client.ask("/hello/you")).status == 200
        assert things.seen == []
        things.go.set()
        await things.done.wait()
    assert things.seen == ["worked", "shut down"]


async def test_client_that_leaves_in_its_body() -> None:
    things = Things()
    async with serving(things.application()) as served:
        client = await served.connect()
        client.write(b"POST /left HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        await client.writer.drain()
        await asyncio.sleep(0.02)
        client.reset()
        await things.done.wait()
    assert things.seen == [True, "shut down"]


@pytest.mark.parametrize("path", ["/ws", "/mounted/ws"])
async def test_websocket_echo(path: str, stack: Any, caplog: pytest.LogCaptureFixture) -> None:
    things = Things()
    protocols: Any = ["chat"]
    async with serving(things.application(stack)) as served:
        async with connect(served.url(path), subprotocols=protocols) as client:
            assert client.subprotocol == "chat"
            for text in ("a", "grüße"):
                await client.send(text)
                assert await client.recv() == f"{path} here: {text}"
        await things.done.wait()
    assert errors(caplog) == []


async def test_websocket_endpoint_and_other_messages() -> None:
    async with serving(Things().application()) as served:
        async with connect(served.url("/endpoint")) as client:
            await client.send("abc")
            assert await client.recv() == "ABC"
        async with connect(served.url("/mixed")) as client:
            await client.send(b"\0\1")
            assert await client.recv() == b"\0\1"
            await client.send('{"a": [1]}')
            assert await client.recv() == '{"a":[1]}'
            await client.wait_closed()
            assert (client.close_code, client.close_reason) == (3000, "enough")


async def test_disconnect_that_nobody_handles_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    things = Things()
    async with serving(things.application()) as served, connect(served.url("/unhandled")):
        await things.done.wait()
    assert errors(caplog) == []


async def test_disconnect_of_another_kind_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    async def raising(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive()
        raise WebSocketDisconnect(4321)

    application = Starlette(routes=[WebSocketRoute("/", raising)])
    async with serving(application) as served, connect(served.url("/")):
        pass
    assert errors(caplog) == ["websocket / failed"]


@pytest.mark.parametrize(("path", "status"), [("/refused", 403), ("/denied", 401), ("/nowhere", 403)])
async def test_websocket_is_refused(path: str, status: int, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(Things().application()) as served:
        with pytest.raises(InvalidStatus) as caught:
            async with connect(served.url(path)):
                raise AssertionError("it was let in")
        assert caught.value.response.status_code == status
        if status == 401:
            assert caught.value.response.body == b'{"error":"who are you"}'
    assert errors(caplog) == []


async def test_startup_that_raises_starts_no_server(caplog: pytest.LogCaptureFixture) -> None:
    from ferrows.asgi import LifespanError

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        raise ConnectionError("no database")
        yield

    with pytest.raises(LifespanError, match="ConnectionError: no database"):
        async with serving(Starlette(lifespan=lifespan)):
            raise AssertionError("it started")
    (line,) = errors(caplog)
    assert line.startswith("application startup failed: Traceback")
