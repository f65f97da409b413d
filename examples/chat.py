"""A chat with rooms: run it, open http://127.0.0.1:8000/ in two windows, talk.

HOST and PORT in the environment choose another address. `chat.html` is its page.

A client connects to /ws/<room> and sends JSON objects; the first must be `join`:

    {"type": "join", "name": "ada", "session": "…"}    session: the client's own secret, the same after a reconnect
    {"type": "say", "text": "hello", "ref": "…"}       ref: comes back with the message, so that its sender knows it

and is sent

    welcome     you, room, people, history, limits: the answer to join
    message     id, name, text, at, ref
    joined      name, at
    left        name, at
    error       message, and the ref of what was refused; the connection stays open

or a Close: 1008 refused, 1013 read too slowly, 4000 the same session came back on another connection.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from base64 import b64encode
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

from ferrows import App, Request, Websocket
from ferrows.exceptions import WebsocketClosed
from ferrows.response import HTTPResponse, html, text
from ferrows.response import json as json_response

Event: TypeAlias = dict[str, Any]

MAX_NAME = 24  # characters
MAX_ROOM = 32
MAX_TEXT = 2000
MAX_FRAME = 32 * 1024  # bytes: enough for MAX_TEXT characters in JSON, escaped or not
MAX_ROOMS = 100
MAX_PEOPLE = 200  # in one room
HISTORY = 50  # messages kept of each room
OUTBOX = 128  # events that may wait for one slow reader before it is dropped
BURST = 40  # messages that one connection may send at once ...
RATE = 5.0  # ... and how many more it may send each second
JOIN_TIMEOUT = 10.0  # seconds

REFUSED = 1008
TOO_SLOW = 1013
REPLACED = 4000

app = App("Chat")


class RefusedError(Exception):
    """What the client asked for is not possible; the text is shown to the person."""


# --------------------------------------------------------------------------------------------------------------------
# Rooms


class Member:
    """One connection in a room. What it is to read goes through a bounded outbox, so that no one waits for it."""

    def __init__(self, ws: Websocket, name: str, session: str) -> None:
        self.ws = ws
        self.name = name
        self.session = session
        self._outbox: asyncio.Queue[str] = asyncio.Queue(OUTBOX)
        self._allowance = float(BURST)
        self._refilled = time.monotonic()
        self._ending: asyncio.Task[None] | None = None

    def post(self, event: str) -> bool:
        """Leave an event to be sent; drop the connection, and return False, if it has not read the last ones."""
        try:
            self._outbox.put_nowait(event)
        except asyncio.QueueFull:
            self.drop(TOO_SLOW, "you read too slowly")
            return False
        return True

    def drop(self, code: int, reason: str) -> None:
        """Close the connection without waiting for it."""
        if self._ending is None:
            self._ending = asyncio.create_task(self.ws.close(code, reason))

    async def deliver(self) -> None:
        """Send what is posted, until the connection ends."""
        with suppress(WebsocketClosed):
            while True:
                await self.ws.send(await self._outbox.get())

    def may_speak(self) -> bool:
        """Take one message from a bucket of BURST that refills at RATE."""
        moment = time.monotonic()
        self._allowance = min(BURST, self._allowance + (moment - self._refilled) * RATE)
        self._refilled = moment
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True


@dataclass
class Room:
    """The people of a room, and what they said last."""

    name: str
    members: dict[str, Member] = field(default_factory=dict)  # by their name, case folded
    history: deque[Event] = field(default_factory=lambda: deque(maxlen=HISTORY))
    used: float = field(default_factory=time.monotonic)

    @property
    def people(self) -> list[str]:
        return sorted((member.name for member in self.members.values()), key=str.casefold)

    def enter(self, ws: Websocket, name: str, session: str) -> Member:
        """Let a person in, under this name or the next free one; a session that is here already is replaced."""
        before = next((member for member in self.members.values() if member.session == session), None)
        if before is not None:
            del self.members[before.name.casefold()]
            before.drop(REPLACED, "you came back on another connection")
        elif len(self.members) >= MAX_PEOPLE:
            raise RefusedError(f"This room is full: it holds {MAX_PEOPLE} people.")
        member = Member(ws, self._free(name), session)
        member.post(encode(self._welcome(member)))
        if before is None or before.name != member.name:
            if before is not None:
                self.tell({"type": "left", "name": before.name, "at": now()})
            self.tell({"type": "joined", "name": member.name, "at": now()})
        self.members[member.name.casefold()] = member
        self.used = time.monotonic()
        return member

    def leave(self, member: Member) -> None:
        """Forget a member, and tell the others, unless it was replaced."""
        if self.members.get(member.name.casefold()) is member:
            del self.members[member.name.casefold()]
            self.tell({"type": "left", "name": member.name, "at": now()})
            self.used = time.monotonic()

    def say(self, member: Member, words: str, ref: str) -> None:
        """Send a message to everyone here, its author too, and keep it."""
        message = {"type": "message", "id": uuid4().hex, "name": member.name, "text": words, "at": now(), "ref": ref}
        self.history.append(message)
        self.tell(message)

    def tell(self, event: Event) -> None:
        """Post an event to everyone, encoded once; never waits, and lets those go who do not read."""
        encoded = encode(event)
        for member in [member for member in self.members.values() if not member.post(encoded)]:
            self.leave(member)

    def _welcome(self, member: Member) -> Event:
        return {
            "type": "welcome",
            "you": member.name,
            "room": self.name,
            "people": sorted([*self.people, member.name], key=str.casefold),
            "history": list(self.history),
            "limits": {"text": MAX_TEXT, "name": MAX_NAME, "room": MAX_ROOM},
        }

    def _free(self, name: str) -> str:
        candidate, number = name, 1
        while candidate.casefold() in self.members:
            number += 1
            candidate = f"{name} {number}"
        return candidate


class Rooms:
    """The rooms by name, MAX_ROOMS of them: the one that has been empty longest makes way for a new one."""

    def __init__(self) -> None:
        self._rooms: dict[str, Room] = {}

    def open(self, name: str) -> Room:
        """Return the room of this name, made if need be."""
        if name not in self._rooms:
            if len(self._rooms) >= MAX_ROOMS:
                empty = [room for room in self._rooms.values() if not room.members]
                if not empty:
                    raise RefusedError(f"All {MAX_ROOMS} rooms are in use: join one of them, or try again later.")
                del self._rooms[min(empty, key=lambda room: room.used).name]
            self._rooms[name] = Room(name)
        return self._rooms[name]

    def busy(self) -> list[tuple[str, int]]:
        """The rooms with people in them, the fullest first."""
        found = [(room.name, len(room.members)) for room in self._rooms.values() if room.members]
        return sorted(found, key=lambda entry: (-entry[1], entry[0]))


rooms = Rooms()


# --------------------------------------------------------------------------------------------------------------------
# What arrives


def parse(data: str | bytes) -> Event:
    """Return the JSON object that a client sent."""
    if isinstance(data, bytes):
        raise RefusedError("Only text is understood here.")
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        raise RefusedError("That was not JSON.") from None
    if not isinstance(event, dict):
        raise RefusedError("Expected a JSON object.")
    return event


def line(event: Event, key: str, longest: int) -> str:
    """Return a member of the event that must be one line of printable text, blanks at the ends taken off."""
    value = event.get(key)
    value = " ".join(value.split()) if isinstance(value, str) else ""
    if not value:
        raise RefusedError(f"A {key} is needed.")
    if len(value) > longest:
        raise RefusedError(f"The {key} is too long: {len(value)} characters, and {longest} are allowed.")
    if not value.isprintable():
        raise RefusedError(f"The {key} has characters in it that cannot be shown.")
    return value


def words(event: Event) -> str:
    """Return the text of a `say`."""
    value = event.get("text")
    value = " ".join(value.split()) if isinstance(value, str) else ""
    if not value:
        raise RefusedError("There is nothing in this message.")
    if len(value) > MAX_TEXT:
        raise RefusedError(f"The message is too long: {len(value)} characters, and {MAX_TEXT} are allowed.")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise RefusedError("The message has half a character in it.")  # JSON can say it, UTF-8 cannot
    return value


def reference(event: Event) -> str:
    """Return the client's own mark of a message, or nothing."""
    value = event.get("ref")
    return value if isinstance(value, str) and len(value) <= 64 and value.isascii() else ""


def room_name(name: str) -> str:
    """Return the one spelling of a room's name."""
    name = name.strip().casefold()
    if not re.fullmatch(rf"[\w-]{{1,{MAX_ROOM}}}", name):
        raise RefusedError(f"A room's name is 1 to {MAX_ROOM} letters, digits, - or _.")
    return name


def encode(event: Event) -> str:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


def now() -> int:
    """Milliseconds, as JavaScript counts them."""
    return time.time_ns() // 1_000_000


# --------------------------------------------------------------------------------------------------------------------
# Routes


@app.websocket("/ws/<room>", max_size=MAX_FRAME)
async def chat(request: Request, ws: Websocket, room: str) -> None:
    """Take one connection through its life: join, talk, leave."""
    try:
        event = parse(await ws.recv(JOIN_TIMEOUT))
        if event.get("type") != "join":
            raise RefusedError("The first message must say who joins.")
        name, session = line(event, "name", MAX_NAME), line(event, "session", 64)
        place = rooms.open(room_name(room))
        member = place.enter(ws, name, session)
    except TimeoutError:
        await ws.close(REFUSED, "no one joined in time")
        return
    except RefusedError as error:
        await ws.send(encode({"type": "error", "message": str(error)}))
        await ws.close(REFUSED, str(error))
        return
    delivery = asyncio.create_task(member.deliver())
    try:
        async for data in ws:
            listen(place, member, data)
    finally:
        place.leave(member)
        delivery.cancel()


def listen(place: Room, member: Member, data: str | bytes) -> None:
    """Act on one message; a mistake is answered to its author alone."""
    ref = ""
    try:
        event = parse(data)
        ref = reference(event)
        if event.get("type") != "say":
            raise RefusedError("That kind of message is not known here.")
        said = words(event)
        if not member.may_speak():
            raise RefusedError("That was too fast: wait a moment before you write again.")
    except RefusedError as error:
        member.post(encode({"type": "error", "message": str(error), "ref": ref}))
    else:
        place.say(member, said, ref)


PAGE = Path(__file__).with_name("chat.html").read_text("utf-8")


def _hash(tag: str) -> str:
    inline = re.search(rf"<{tag}>(.*?)</{tag}>", PAGE, re.DOTALL)
    assert inline is not None
    return f"'sha256-{b64encode(sha256(inline[1].encode()).digest()).decode()}'"


PAGE_HEADERS = {
    # Only the page's own script and style run, whatever a message holds.
    "Content-Security-Policy": f"default-src 'none'; script-src {_hash('script')}; style-src {_hash('style')}; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@app.get("/")
async def page(request: Request) -> HTTPResponse:
    return html(PAGE, headers=PAGE_HEADERS)


@app.get("/api/rooms")
async def busy_rooms(request: Request) -> HTTPResponse:
    """The rooms with people in them, for the page's list."""
    return json_response({"rooms": [{"name": name, "people": people} for name, people in rooms.busy()]})


@app.get("/health")
async def health(request: Request) -> HTTPResponse:
    return text("ok\n")


if __name__ == "__main__":
    app.run(host=os.environ.get("HOST", "127.0.0.1"), port=int(os.environ.get("PORT", "8000")))
