"""Log in with fetch(), open a WebSocket with the ticket that comes back: run it, open http://127.0.0.1:8000/.

`tickets.html` is its page; log in as ada with the password lovelace. A session lasts SESSION seconds and then its
connection is closed with 3000, unless the page sends a new ticket in time. The tickets of several processes are good in
each other if TICKET_SECRET is the same in all of them: `python -c "import secrets; print(secrets.token_hex(32))"`.
"""

from __future__ import annotations

import hmac
import os
import secrets
import time
from pathlib import Path

from ferrows import App, HTTPResponse, Request, Websocket, html
from ferrows import json as json_response
from ferrows.auth import Session, TicketError, Tickets, authenticated
from ferrows.exceptions import BadRequest, Unauthorized

SESSION = float(os.environ.get("SESSION", "60"))
SESSION_IS_OVER = 3000  # in IANA's registry of close codes: unauthorized

# A real service keeps hashes, by scrypt or Argon2, and lets nobody try as often as they like.
PASSWORDS = {"ada": "lovelace", "grace": "hopper"}

app = App("Tickets")
tickets = Tickets(os.environ.get("TICKET_SECRET") or secrets.token_hex(32), bind="origin", single_use=True)


@app.get("/")
async def page(request: Request) -> HTTPResponse:
    return html(Path(__file__).with_name("tickets.html").read_text("utf-8"))


@app.post("/ticket")
async def log_in(request: Request) -> HTTPResponse:
    """Give a ticket to who knows a password; it is good for 30 seconds, once, and for pages of the same origin."""
    given = request.json
    if not isinstance(given, dict):
        raise BadRequest("name and password, as a JSON object")
    name, password = str(given.get("name")), str(given.get("password"))
    given_octets = password.encode("utf-8", "surrogatepass")
    if name not in PASSWORDS or not hmac.compare_digest(given_octets, PASSWORDS[name].encode()):
        raise Unauthorized("wrong name or password", "Login", realm="tickets")
    ticket = tickets.issue(name, expires=time.time() + SESSION, request=request)
    return json_response({"ticket": ticket}, headers={"Cache-Control": "no-store"})


@app.websocket(
    "/ws",
    subprotocols=["echo"],
    apply=authenticated(tickets.verify, header=False, subprotocol="bearer", code=SESSION_IS_OVER),
)
async def talk(request: Request, ws: Websocket) -> None:
    """Send everything back, and renew the session with `renew <ticket>`."""
    session: Session = request.ctx.session
    await ws.send({"hello": session.subject, "expires": session.expires}, encoding="json")
    async for message in ws:
        if isinstance(message, str) and message.startswith("renew "):
            await renew(request, ws, session, message.removeprefix("renew "))
        else:
            await ws.send(message)


async def renew(request: Request, ws: Websocket, session: Session, ticket: str) -> None:
    """Let a session last as long as a new ticket says, if that is the same person's."""
    try:
        renewal = tickets.verify(ticket, request)
    except TicketError as error:
        await ws.send({"error": error.message}, encoding="json")
        return
    if renewal.subject == session.subject and session.renew(renewal.expires):
        await ws.send({"renewed": session.subject, "expires": session.expires}, encoding="json")
    else:
        await ws.send({"error": "the ticket is somebody else's"}, encoding="json")


if __name__ == "__main__":
    app.run(host=os.environ.get("HOST", "127.0.0.1"), port=int(os.environ.get("PORT", "8000")))
