"""A FastAPI chat on ferrows: a page, a REST call and a WebSocket; needs `pip install fastapi`.

Run it, and open http://localhost:8000/ twice.
"""

import os

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse

from ferrows.asgi import serve_asgi

app = FastAPI()
members: set[WebSocket] = set()

PAGE = """<!doctype html>
<title>Chat</title>
<form onsubmit="ws.send(this.text.value); this.reset(); return false"><input name="text" autofocus></form>
<ul id="log"></ul>
<script>
  const name = "guest" + Math.floor(Math.random() * 1000)
  const ws = new WebSocket(`ws://${location.host}/chat/${name}`)
  ws.onmessage = ({data}) => log.append(Object.assign(document.createElement("li"), {textContent: data}))
</script>
"""


@app.get("/")
async def page() -> HTMLResponse:
    return HTMLResponse(PAGE)


@app.get("/members")
async def count() -> dict[str, int]:
    return {"members": len(members)}


@app.websocket("/chat/{name}")
async def chat(websocket: WebSocket, name: str) -> None:
    await websocket.accept()
    members.add(websocket)
    try:
        async for text in websocket.iter_text():
            await broadcast(f"{name}: {text}")
    finally:
        members.discard(websocket)
        await broadcast(f"{name} has left")


async def broadcast(text: str) -> None:
    for member in list(members):
        try:
            await member.send_text(text)
        except WebSocketDisconnect:
            members.discard(member)


if __name__ == "__main__":
    serve_asgi(app, host=os.environ.get("HOST", "127.0.0.1"), port=int(os.environ.get("PORT", "8000")))
