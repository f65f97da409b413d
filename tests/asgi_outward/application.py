"""The app that the handler tests talk to, whichever server it runs under."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from ferrows import App, Blueprint, HTTPResponse, Request, Websocket
from ferrows.exceptions import Forbidden, ServerError, Unauthorized, WebsocketClosed
from ferrows.response import ResponseStream, empty, file_stream, json, text

HERE = Path(__file__).parent
MAX_BODY = 2**20

app = App("outward", {"REQUEST_MAX_SIZE": MAX_BODY, "ACCESS_LOG": False, "MOTD": False}, env_prefix=None)
events: list[str] = []
ends: dict[str, asyncio.Future[Any]] = {}


def end_of(key: str) -> asyncio.Future[Any]:
    if key not in ends:
        ends[key] = asyncio.get_running_loop().create_future()
    return ends[key]


# ---- the life


@app.before_server_start
async def before_start(app: App) -> None:
    events.append("before_server_start")


@app.after_server_start
async def after_start(app: App, loop: asyncio.AbstractEventLoop) -> None:
    assert loop is app.loop is asyncio.get_running_loop()
    events.append("after_server_start")


@app.before_server_stop
async def before_stop(app: App) -> None:
    print("before_server_stop", flush=True)


@app.after_server_stop
async def after_stop(app: App) -> None:
    print("after_server_stop", flush=True)


async def background(app: App) -> None:
    events.append("task")
    try:
        await asyncio.Event().wait()
    finally:
        print("task cancelled", flush=True)


app.add_task(background, name="background")


@app.get("/life")
async def life(request: Request) -> HTTPResponse:
    task = app.get_task("background")
    return json({"events": events, "running": app.is_running, "task": task is not None and not task.done()})


@app.get("/ends/<key>")
async def ends_of(request: Request, key: str) -> HTTPResponse:
    """Wait for what a handler says about its end."""
    return json(await asyncio.wait_for(end_of(key), 20))


# ---- requests


@app.route("/request/<name>", methods=["GET", "POST", "PUT"])
async def about(request: Request, name: str) -> HTTPResponse:
    return json(
        {
            "name": name,
            "method": request.method,
            "version": request.version,
            "path": request.path,
            "query": request.query_string,
            "args": request.args,
            "host": request.host,
            "url": request.url,
            "scheme": request.scheme,
            "ip": request.ip,
            "port": request.port,
            "server_port": request.conn_info.server_port,
            "cookies": request.cookies,
            "multiple": request.headers.getall("x-multiple"),
            "raw": sorted(value.decode() for key, value in request.raw_headers if key.lower() == b"x-multiple"),
            "body": request.body.decode("utf-8", "replace"),
            "route": request.name,
            "noted": request.ctx.noted,
            "has_transport": request.transport is not None,
        }
    )


@app.post("/json")
async def json_body(request: Request) -> HTTPResponse:
    return json(request.json)


@app.post("/form")
async def form(request: Request) -> HTTPResponse:
    files = {name: [each.body.decode() for each in each_name] for name, each_name in request.files.items()}
    return json({"form": request.form, "files": files})


@app.post("/size")
async def size(request: Request) -> HTTPResponse:
    return json(len(request.body))


@app.on_request
async def note(request: Request) -> HTTPResponse | None:
    request.ctx.noted = True
    if request.headers.get("x-stop"):
        return text("stopped by middleware", 418, {"X-Stopped": "yes"})
    if request.headers.get("x-token") == "wrong":
        raise Unauthorized("wrong token", "Bearer", realm="outward")
    return None


@app.on_response
async def mark(request: Request, response: HTTPResponse) -> None:
    response.headers["X-Marked"] = "yes"


class Spilt(Exception):
    pass


@app.exception(Spilt)
async def spilt(request: Request, error: Spilt) -> HTTPResponse:
    return text(f"spilt {error}", 409)


@app.get("/spilt")
async def spill(request: Request) -> HTTPResponse:
    raise Spilt("milk")


@app.get("/broken")
async def broken(request: Request) -> HTTPResponse:
    raise RuntimeError("broken on purpose")


# ---- responses


@app.get("/cookies")
async def cookies(request: Request) -> HTTPResponse:
    response = text("two cookies")
    response.add_cookie("first", "1")
    response.add_cookie("second", "2")
    return response


@app.route("/text", methods=["GET", "HEAD"])
async def plain(request: Request) -> HTTPResponse:
    return text("twelve bytes")


@app.get("/empty")
async def nothing(request: Request) -> HTTPResponse:
    return empty()


@app.route("/respond", methods=["GET", "HEAD"])
async def respond(request: Request) -> None:
    response = await request.respond(content_type="text/plain", headers={"X-Streamed": "yes"})
    for number in range(3):
        await response.send(f"{number} ")
    await response.eof()


@app.get("/stream")
async def stream(request: Request) -> HTTPResponse:
    async def write(response: HTTPResponse) -> None:
        for number in range(50):
            await response.send(b"%04d" % number * 4096)

    return ResponseStream(write, content_type="text/plain")


@app.get("/file")
async def some_file(request: Request) -> HTTPResponse:
    return await file_stream(__file__, request_headers=request.headers, chunk_size=1000)


@app.get("/half")
async def half(request: Request) -> None:
    response = await request.respond(content_type="text/plain")
    await response.send("half of it")
    raise RuntimeError("no other half")


@app.get("/more")
async def more(request: Request) -> None:
    response = await request.respond(headers={"Content-Length": "3"})
    await response.send("four")


@app.get("/endless/<key>")
async def endless(request: Request, key: str) -> None:
    response = await request.respond()
    try:
        while True:
            await response.send(b"x" * 65536)
    finally:
        await asyncio.sleep(0)
        end_of(key).set_result("ended")


@app.get("/slow/<key>")
async def slow(request: Request, key: str) -> HTTPResponse:
    end_of(f"{key}-begun").set_result(True)
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        end_of(key).set_result("cancelled")
        raise
    return text("nobody was to see this")


app.static("/static", HERE)

nested = Blueprint("nested", url_prefix="/nested", version=1)


@nested.get("/page")
async def page(request: Request) -> HTTPResponse:
    return text(request.app.url_for("nested.page"))


@nested.websocket("/echo")
async def nested_echo(request: Request, ws: Websocket) -> None:
    async for message in ws:
        await ws.send(message)


app.blueprint(nested)


# ---- WebSockets


@app.websocket("/echo", max_size=2**21)
async def echo(request: Request, ws: Websocket) -> None:
    async for message in ws:
        await ws.send(message)


@app.websocket("/about/<number:int>")
async def about_websocket(request: Request, ws: Websocket, number: int) -> None:
    await ws.send(
        {
            "number": number,
            "scheme": request.scheme,
            "url": request.url,
            "args": request.args,
            "noted": request.ctx.noted,
            "ip": request.ip,
            "method": request.method,
            "open": ws.open,
            "latency": ws.latency,
            "state": [ws.client_state, ws.server_state],
            "close": [ws.close_code, ws.close_reason],
        },
        encoding="json",
    )


@app.websocket("/send/<kind>")
async def send(request: Request, ws: Websocket, kind: str) -> None:
    async def pieces() -> AsyncIterator[str]:
        for piece in ("a", "ß", "c"):
            yield piece

    kinds: dict[str, Any] = {
        "text": "text ß",
        "bytes": b"\x00\xff",
        "bytearray": bytearray(b"array"),
        "memoryview": memoryview(b"view"),
        "list": ["a", "b", "c"],
        "bytes-list": [b"a", bytearray(b"b")],
        "async": pieces(),
        "empty": "",
    }
    await ws.send(kinds[kind])
    unsendable: list[Any] = [1, {"a": 1}, ["a", b"b"]]
    for wrong in unsendable:
        try:
            await ws.send(wrong)
        except TypeError:
            continue
        await ws.send("no TypeError")


@app.websocket("/subprotocol", subprotocols=["v2", "v1"])
async def subprotocol(request: Request, ws: Websocket) -> None:
    await ws.send(str(ws.subprotocol))


@app.websocket("/end/<kind>")
async def end(request: Request, ws: Websocket, kind: str) -> None:
    if kind == "raise":
        raise ValueError("raised on purpose")
    if kind == "forbidden":
        raise Forbidden("members only")
    if kind == "close":
        await ws.close(4321, "as agreed")
        with contextlib.suppress(WebsocketClosed):
            await ws.recv()
        with contextlib.suppress(WebsocketClosed):
            await ws.send("late")
        await ws.close()


@app.websocket("/watched/<key>")
async def watched(request: Request, ws: Websocket, key: str) -> None:
    """Say what came before the end, and how it ended."""
    received: list[Any] = []
    try:
        await ws.send("go")
        await ws.wait_closed()
        while True:
            received.append(await ws.recv())
    except WebsocketClosed as closed:
        state = {"code": closed.code, "reason": closed.reason, "open": ws.open, "closed": ws.closed}
    finally:
        await asyncio.sleep(0.01)
    try:
        await ws.send("late")
    except WebsocketClosed as closed:
        state["sent"] = closed.code == ws.close_code
    end_of(key).set_result({**state, "received": received})


@app.websocket("/loop/<key>")
async def loop(request: Request, ws: Websocket, key: str) -> None:
    received = [message async for message in ws]
    await asyncio.sleep(0.01)
    end_of(key).set_result({"received": received, "open": ws.open})


@app.websocket("/timeouts")
async def timeouts(request: Request, ws: Websocket) -> None:
    for wait in (lambda: ws.recv(timeout=0.01), lambda: asyncio.wait_for(ws.recv(), 0.01)):
        try:
            await wait()
        except TimeoutError:
            await ws.send("timeout")
    await ws.send(await ws.recv(timeout=20))
    waiting = asyncio.create_task(ws.recv())
    await asyncio.sleep(0)
    try:
        await ws.recv()
    except ServerError:
        await ws.send("two receivers")
    waiting.cancel()
    await asyncio.wait([waiting])
    await ws.send(await ws.recv())


@app.websocket("/burst")
async def burst(request: Request, ws: Websocket) -> None:
    received: list[Any] = []
    while len(received) < 100:
        received += await ws.recv_burst(10)
        await asyncio.sleep(0)
    await ws.send("".join(received))
    ws.pause_frames()
    ws.resume_frames()
    async for message in ws:
        await ws.send(message)


@app.websocket("/streaming")
async def streaming(request: Request, ws: Websocket) -> None:
    for _ in range(2):
        await ws.send("".join([str(piece) async for piece in ws.recv_streaming()]))


@app.websocket("/small", max_size=10)
async def small(request: Request, ws: Websocket) -> None:
    async for message in ws:
        await ws.send(message)


@app.websocket("/ping")
async def ping(request: Request, ws: Websocket) -> None:
    await ws.pong(b"heartbeat")
    try:
        await ws.send(f"{await (await ws.ping()) >= 0}")
    except ServerError as error:
        await ws.send(str(error))


@app.websocket("/same-origin", origins=["same"])
async def same_origin(request: Request, ws: Websocket) -> None:
    await ws.send("welcome")


def paying(handler: Any) -> Any:
    async def check(request: Request, *args: Any, **values: Any) -> Any:
        if request.args.get("paid") != "yes":
            return text("pay first", 402)
        return await handler(request, *args, **values)

    return check


@app.websocket("/paid", apply=[paying])
async def paid(request: Request, ws: Websocket) -> None:
    await ws.send("thank you")


@app.websocket("/flood/<key>")
async def flood(request: Request, ws: Websocket, key: str) -> None:
    """Send to a client that does not read, until it leaves."""
    try:
        while True:
            await ws.send("x" * 65536)
            if request.transport is not None:
                # Our own send does not suspend while the transport takes the data, and one that was reset takes it all.
                await asyncio.sleep(0)
    except WebsocketClosed:
        end_of(key).set_result("ended")


rooms: set[Websocket] = set()


@app.websocket("/room")
async def room(request: Request, ws: Websocket) -> None:
    rooms.add(ws)
    try:
        await ws.send("joined")
        async for message in ws:
            for each in list(rooms):
                await each.send(message)
    finally:
        rooms.discard(ws)


signals: list[str] = []


@app.signal("websocket.handler.before")
async def before_handler(request: Request, websocket: Websocket) -> None:
    signals.append(f"before {request.path}")


@app.signal("websocket.handler.after")
async def after_handler(request: Request, websocket: Websocket) -> None:
    signals.append(f"after {request.path}")


@app.get("/signals")
async def all_signals(request: Request) -> HTTPResponse:
    return json(signals)
