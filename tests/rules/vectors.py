"""Reads tests/vectors/frames.json and replays its cases on a codec."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from ferrows.events import Close, Event, Failure, Message, Ping, Pong
from ferrows.extensions import DeflateParameters

from .frame_cases import PATH
from .wire import CLOSE, TEXT, Frame, frame, parse_frames, splits


@dataclass(frozen=True)
class Vector:
    """A case of the file, its bytes decoded; frame_cases says what the fields mean."""

    id: str
    rule: int
    client: bool
    deflate: bool
    takeover: bool
    max_size: int | None
    input: bytes
    events: list[Event]
    output: list[tuple[int, bytes]]
    close_code: int | None
    then: str
    fails_at: int | None

    def connection(self, codec: ModuleType) -> Any:
        """Make the connection that the case is about."""
        deflate = DeflateParameters(client_no_context_takeover=not self.takeover) if self.deflate else None
        return codec.Connection(client=self.client, max_size=self.max_size, deflate=deflate)


def load() -> list[Vector]:
    table = json.loads(PATH.read_text(encoding="ascii"))["cases"]
    return [
        Vector(
            case["id"],
            case["rule"],
            case["client"],
            case["deflate"],
            case["takeover"],
            case["max_size"],
            bytes.fromhex(case["input"]),
            [_event(**event) for event in case["events"]],
            [(sent["opcode"], bytes.fromhex(sent["payload"])) for sent in case["output"]],
            case["close_code"],
            case["then"],
            case["fails_at"],
        )
        for case in table
    ]


def _event(type: str, data: str = "", code: int = 0, reason: str = "") -> Event:
    octets = bytes.fromhex(data)
    match type:
        case "text":
            return Message(octets.decode())
        case "binary":
            return Message(octets)
        case "ping":
            return Ping(octets)
        case "pong":
            return Pong(octets)
        case "close":
            return Close(code, reason)
        case "failure":
            return Failure(code, reason)
    raise AssertionError(f"no such event: {type}")


VECTORS = load()


def vectors(rule: int) -> pytest.MarkDecorator:
    """Parametrize a test with the cases of a rule."""
    found = [vector for vector in VECTORS if vector.rule == rule]
    assert found, f"no vectors for rule {rule}"
    return pytest.mark.parametrize("vector", found, ids=[vector.id for vector in found])


def feed(connection: Any, pieces: Iterable[bytes], *, drain: bool) -> tuple[list[Event], list[Frame]]:
    """Feed pieces and return what came of them; ``drain`` takes the output after each piece instead of at the end."""
    events: list[Event] = []
    output = b""
    for piece in pieces:
        connection.receive_data(piece)
        events += connection.events()
        if drain:
            output += connection.data_to_send()
    output += connection.data_to_send()
    assert connection.events() == []
    return events, parse_frames(output)


def check(codec: ModuleType, vector: Vector) -> None:
    """Replay a case whole, split at each position, byte by byte and with more behind it."""
    for pieces in splits(vector.input):
        for drain in (False, True) if len(pieces) != 2 else (len(pieces[0]) % 2 == 0,):
            _check_once(codec, vector, pieces, drain, vector.events)
    _check_coalesced(codec, vector)
    if vector.fails_at is not None:
        _check_moment(codec, vector)


def _check_once(codec: ModuleType, vector: Vector, pieces: list[bytes], drain: bool, expected: list[Event]) -> None:
    connection = vector.connection(codec)
    events, output = feed(connection, pieces, drain=drain)
    where = f"{vector.id} in pieces of {[len(piece) for piece in pieces][:8]}, drain={drain}"
    assert events == expected, where
    assert [(sent.opcode, sent.payload) for sent in output] == vector.output, where
    assert all(sent.fin and not sent.rsv and sent.masked is vector.client for sent in output), where
    assert [sent.close_code for sent in output if sent.opcode == CLOSE] == (
        [] if vector.close_code is None else [vector.close_code]
    ), where
    assert connection.state == (codec.CLOSED if vector.then == "ended" else codec.OPEN), where
    failure = next((tuple(event) for event in expected if isinstance(event, Failure)), None)
    assert connection.failure == failure, where


def _check_coalesced(codec: ModuleType, vector: Vector) -> None:
    """More in the same piece is the next message, or after the end nothing (RFC 6455 §5.5.1, §7.1.7)."""
    if vector.then == "partial":
        return
    after = frame(TEXT, b"after", masked=not vector.client)
    expected = vector.events + ([Message("after")] if vector.then == "open" else [])
    if vector.max_size is not None and vector.max_size < 5 and vector.then == "open":
        return
    _check_once(codec, vector, [vector.input + after], False, expected)
    _check_once(codec, vector, [vector.input, after], True, expected)
    _check_once(codec, vector, [vector.input + after[:3], after[3:]], False, expected)


def _check_moment(codec: ModuleType, vector: Vector) -> None:
    """The failure is known with the byte that shows it, and not a byte earlier."""
    assert vector.fails_at is not None
    connection = vector.connection(codec)
    connection.receive_data(vector.input[: vector.fails_at - 1])
    assert not any(isinstance(event, Failure) for event in connection.events()), "failed too early"
    connection.receive_data(vector.input[vector.fails_at - 1 : vector.fails_at])
    assert isinstance(connection.events()[-1], Failure), f"{vector.id} not failed at byte {vector.fails_at}"
