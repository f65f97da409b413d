"""Every case of the frame rules, on every engine below the socket: the same events, pongs and close codes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from app.harness import make_request
from rules.wire import CLOSE, HANDSHAKE, parse_frames

from ferrows import App
from ferrows.engines import ENGINES, EngineFactory, FerrowsEngine
from ferrows.engines.inbox import EngineInbox
from ferrows.events import Close, Message, Ping, Pong

CASES = [
    case
    for case in json.loads((Path(__file__).parents[1] / "vectors" / "frames.json").read_text("utf-8"))["cases"]
    if not case["client"]
]

# What the packages themselves do otherwise, by the beginning of a case's id. Such a case must not be an engine's error.
DIFFERENCES = {
    "ferrows": (),
    # Knows no code above 1013 below 3000.
    "wsproto": ("46-code-1014",),
    "websockets": (
        "32-",  # takes lengths that are not in the shortest form
        "33-length-",  # and those of more than 63 bits
        "34-",  # judges a control frame when all of it is there
        "40-fragments-of-exactly-10",  # counts a control frame within a message to its limit
        "40-compressed-l",  # compares the limit with what is on the wire too
        "64-bfinal-then-another-message-with-takeover",  # ends with the first final block
        "64-garbage-after-bfinal",
        "65-bomb-fails-inside-its-frame",  # inflates a frame when all of it is there
        "65-each-message-by-itself",
    ),
}

FACTORIES = {"ferrows": lambda: FerrowsEngine, **ENGINES}


class Recorder(EngineInbox):
    """Keeps what arrives as events, as the codec's own connection does."""

    def _message(self, text: bool, payload: str | bytes, ends: Iterable[int]) -> None:
        self._events.append(Message(payload))

    def _answer(self, payload: bytes) -> None:
        super()._answer(payload)
        self._events.append(Ping(payload))

    def _pong(self, payload: bytes) -> None:
        self._events.append(Pong(payload))


def run(factory: EngineFactory, case: dict[str, Any], chunks: Iterable[bytes]) -> tuple[list[Any], list[Any]]:
    """Feed a connection; return what came of it and the frames that it sent, an end's reason left out."""
    app = App("vectors", env_prefix=None)
    compression = {"client_no_context_takeover": not case["takeover"]} if case["deflate"] else None
    settings = replace(app.config.websocket_settings(compression=compression), max_size=case["max_size"])
    engine = factory(settings)
    extensions = {"Sec-WebSocket-Extensions": "permessage-deflate"} if case["deflate"] else {}
    engine.handshake(make_request(app, "/", headers={**HANDSHAKE, **extensions}), None)
    connection = Recorder(engine, max_size=case["max_size"])
    for chunk in chunks:
        connection.receive_data(chunk)
    events: list[Any] = connection.events()
    if connection.close_received is not None:
        events.append(Close(*connection.close_received))
    if connection.failure is not None:
        events.append(("failure", connection.failure[0]))
    frames = parse_frames(connection.data_to_send())
    return events, [(sent.opcode, sent.payload[:2] if sent.opcode == CLOSE else sent.payload) for sent in frames]


def expected(case: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    events: list[Any] = []
    for event in case["events"]:
        match event["type"]:
            case "text":
                events.append(Message(bytes.fromhex(event["data"]).decode()))
            case "binary":
                events.append(Message(bytes.fromhex(event["data"])))
            case "ping":
                events.append(Ping(bytes.fromhex(event["data"])))
            case "pong":
                events.append(Pong(bytes.fromhex(event["data"])))
            case "close":
                events.append(Close(event["code"], event["reason"]))
            case "failure":
                events.append(("failure", event["code"]))
    frames = [(sent["opcode"], bytes.fromhex(sent["payload"])) for sent in case["output"]]
    return events, [(opcode, payload[:2] if opcode == CLOSE else payload) for opcode, payload in frames]


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_engine_gives_the_events_and_the_close_code_of_the_vector(name: str, case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["input"])
    size = 1 if len(data) < 4096 else 997
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    for delivery in ([data], chunks):
        outcome = run(FACTORIES[name](), case, delivery)
        if case["id"].startswith(DIFFERENCES[name]):
            assert ("failure", 1011) not in outcome[0]
        else:
            assert outcome == expected(case)
