"""Random sessions of a ``Websocket``: what the peer sends, what the transport says, what the handlers do.

A session follows from its seed and index alone. What is drawn is data: a step or an action is the name of a method, of
the stage in ``playback.py`` or of ``Handler``, and its arguments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, TypeAlias

from . import streams

__all__ = ["Action", "Script", "Session", "make_session"]

#: The name of a method, then its arguments.
Action: TypeAlias = tuple[Any, ...]


@dataclass
class Script:
    """What one handler does, in order; then it takes messages until the connection ends."""

    actions: list[Action]
    #: It goes on with the next action after a cancellation, or after it was told that the connection is closed.
    survives_cancellation: bool
    survives_closure: bool


@dataclass
class Session:
    """How a websocket is made, and all that happens to it."""

    max_size: int | None
    max_queue: int | None
    #: Unsent bytes beyond which the transport pauses writing.
    high_water: int
    #: The data comes from a task, as when a handler feeds a websocket of its own, not from the event loop.
    fed_by_task: bool
    steps: list[Action] = field(default_factory=list)
    scripts: list[Script] = field(default_factory=list)
    #: What the peer's frames amount to, up to the first that is broken. No two are alike, save for empty ones.
    messages: list[str | bytes] = field(default_factory=list)

    @property
    def streams(self) -> bool:
        """Whether a handler reads fragments, and perhaps leaves a message half-way."""
        return any(action[0] == "stream" for script in self.scripts for action in script.actions)


_SIZES: Final = [0, 1, 2, 5, 20, 126, 300, 2000]
_LARGE: Final = [65_536, 70_000]
_CLOSE_CODES: Final = [1000, 1001, 1011, 3000, 999]
#: Opcode, payload and reserved bits of frames that break a rule wherever they come.
_BROKEN: Final = [(1, b"\xff\xfe", 0), (2, b"", 1), (0, b"", 4), (3, b"", 0), (11, b"", 0)]
_TEXT_POOL: Final = "".join(Random(1).choices("abcé€😀", k=80_000))
_BINARY_POOL: Final = Random(2).randbytes(80_000)


def make_session(seed: int, index: int) -> Session:
    """Make the session that belongs to the seed and index."""
    random = Random(seed << 40 | index)
    session = Session(
        max_size=random.choice([100, 3000, 2**20, 2**20, 2**20, None]),
        max_queue=random.choice([1, 2, 32, 32, None]),
        high_water=random.choice([0, 50, 500, 2**30, 2**30]),
        fed_by_task=random.random() < 0.15,
    )
    # Enough messages at once for the limits of a turn, and handlers that take and answer as many.
    bulk = random.random() < 0.15
    wire = _Peer(random, session.messages).wire(bulk)
    session.steps = _steps(random, _cut(random, wire, bulk))
    streams = random.random() < 0.6
    session.scripts = [_script(random, bulk, streams) for _ in range(random.choice([1, 1, 1, 2, 3]))]
    return session


class _Peer:
    """What the peer sends; the messages are noted."""

    def __init__(self, random: Random, messages: list[str | bytes]) -> None:
        self.random = random
        self.messages = messages
        self.made = 0

    def wire(self, bulk: bool) -> bytes:
        random = self.random
        frames: list[bytes] = []
        for _ in range(random.randrange(1, 40)):
            self._control(frames)
            if random.random() < 0.005:
                opcode, payload, rsv = random.choice(_BROKEN)
                frames.append(_frame(opcode, payload, rsv=rsv))
            message = self._message()
            opcode = 1 if isinstance(message, str) else 2
            payload = message.encode() if isinstance(message, str) else message
            if random.random() < 0.6:
                frames.append(_frame(opcode, payload))
            elif not self._fragments(frames, opcode, payload):
                break
            self.messages.append(message)
            if random.random() < (0.3 if bulk else 0.02):
                for _ in range(random.choice([5, 40, 300, 700])):
                    small = self._numbered("x" * random.choice([0, 0, 300]))
                    frames.append(_frame(1, small.encode()))
                    self.messages.append(small)
        if random.random() < 0.3:
            frames.append(_frame(8, (1000).to_bytes(2, "big")))
        return b"".join(frames)

    def _numbered(self, rest: str) -> str:
        self.made += 1
        return f"{self.made}:{rest}"

    def _message(self) -> str | bytes:
        random = self.random
        size = random.choice(_SIZES if random.random() < 0.97 else _LARGE)
        start = random.randrange(5000)
        if random.random() < 0.6:
            return self._numbered(_TEXT_POOL[start : start + size]) if size else ""
        return self._numbered("").encode() + _BINARY_POOL[start : start + size] if size else b""

    def _fragments(self, frames: list[bytes], opcode: int, payload: bytes) -> bool:
        """Cut a message anywhere, with control frames in between; tell whether its end was sent."""
        random = self.random
        at = 0
        while random.random() < 0.6:
            end = random.randint(at, len(payload))
            frames.append(_frame(opcode, payload[at:end], fin=False))
            at, opcode = end, 0
            self._control(frames)
            if random.random() < 0.1:
                frames += [_frame(0, b"", fin=False)] * random.choice([1, 3, 40])
        finished = opcode != 0 or random.random() < 0.98
        if finished:
            frames.append(_frame(opcode, payload[at:]))
        return finished

    def _control(self, frames: list[bytes]) -> None:
        random = self.random
        roll = random.random()
        if roll < 0.06:
            frames.append(_frame(9, random.randbytes(random.randrange(10))))
        elif roll < 0.09:
            frames.append(_frame(10, random.choice([b"", b"1", b"2", b"3", b"other"])))
        elif roll < 0.093:
            body = b"" if random.random() < 0.3 else random.choice(_CLOSE_CODES).to_bytes(2, "big") + b"bye"
            frames.append(_frame(8, body))


def _frame(opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0) -> bytes:
    return streams.frame((0x80 if fin else 0) | rsv << 4 | opcode, payload, b"\x11\x22\x33\x44")


def _cut(random: Random, wire: bytes, bulk: bool) -> list[bytes]:
    """Cut what is sent into what is read at once."""
    manner = "whole" if bulk and random.random() < 0.7 else random.choice(["whole", "small", "large", "mixed", "bytes"])
    pieces: list[bytes] = []
    at = 0
    while at < len(wire) and len(pieces) < 100:
        match manner:
            case "small":
                size = random.randrange(1, 20)
            case "large":
                size = random.randrange(1000, 70_000)
            case "mixed":
                size = random.choice([1, 7, 100, 5000, 100_000])
            case "bytes":
                size = 1
            case _:
                size = len(wire)
        pieces.append(wire[at : at + size])
        at += size
    return pieces


def _steps(random: Random, pieces: list[bytes]) -> list[Action]:
    steps: list[Action] = []
    for piece in pieces:
        steps.append(("feed", piece))
        while random.random() < 0.5:
            steps.append(_between(random))
    rare: list[Action] = [("fail", 1008), ("end", 1000), ("eof",), ("lose",)]
    for step in rare:
        if random.random() < 0.1:
            steps.insert(random.randint(0, len(steps)), step)
    return steps


def _between(random: Random) -> Action:
    """Draw what happens between two reads."""
    match random.randrange(8):
        case 0 | 1:
            return ("turn", random.randrange(1, 8))
        case 2 | 3:
            return ("drain",)
        case 4:
            return ("sleep", random.choice([0.01, 0.05, 1.0]))
        case 5:
            return ("cancel", random.randrange(4))
        case 6:
            return ("hold", random.random() < 0.4)
        case _:
            return ("send", random.choice([0, 1, 100]))


def _script(random: Random, bulk: bool, streams: bool) -> Script:
    return Script(
        [_action(random, bulk, streams) for _ in range(random.randrange(40))],
        survives_cancellation=random.random() < 0.7,
        survives_closure=random.random() < 0.3,
    )


def _action(random: Random, bulk: bool, streams: bool) -> Action:
    roll = random.random()
    if roll < 0.18:
        return ("receive",)
    if roll < 0.32:
        return ("receive_within", random.choice([0, 0.01, 0.05]))
    if roll < 0.37:
        return ("wait_for_message", random.choice([0, 0.01]))
    if roll < 0.52:
        count = random.randrange(1, 900 if bulk else 80)
        return ("iterate", count, random.choice([0, 1, 2, 3]))
    if roll < 0.6:
        return ("burst", random.choice([1, 3, 256]))
    if roll < 0.74 and streams:
        return ("stream", random.randrange(1, 6), random.choice([0.01, 0.01, 1.0]), random.choice([0, 0, 0.01]))
    if roll < 0.84:
        return ("send", random.choice(["x", "z", "z", "é" * 50, b"b" * 500, "y" * 70_000]))
    if roll < 0.88:
        return ("send_fragments", ["a", "b", "c"], random.choice([None, 0, 0.01]))
    if roll < 0.9:
        return ("send_json", {"a": 1})
    if roll < 0.92:
        return ("ping", random.choice(["1", "2", "3"]))
    if roll < 0.93:
        return ("pong",)
    if roll < 0.98:
        return ("sleep", random.choice([0, 0, 0.01, 0.2]))
    return random.choice([("sleep", 0), ("end", 1000), ("close", 1001), ("leave",), ("crash",)])
