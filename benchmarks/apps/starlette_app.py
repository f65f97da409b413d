"""The same in Starlette, as its documentation shows it."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from benchmarks.apps.options import FACTS, GREETING


async def greet(request: Request) -> Response:
    return PlainTextResponse(GREETING)


async def facts(request: Request) -> Response:
    return JSONResponse(FACTS)


async def echo(ws: WebSocket) -> None:
    await ws.accept()
    try:
        while True:
            await ws.send_text(await ws.receive_text())
    except WebSocketDisconnect:
        return


app = Starlette(routes=[Route("/", greet), Route("/json", facts), WebSocketRoute("/ws", echo)])
