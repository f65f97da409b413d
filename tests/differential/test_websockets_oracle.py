"""The sans-I/O protocol of ``websockets`` reads and answers valid streams as the codecs do."""

from __future__ import annotations

import zlib
from itertools import pairwise
from random import Random
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("websockets")

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Protocol, Side

from ferrows.events import Close, Message, Ping, Pong

from .streams import Deflate

TEXTS = ["", "Hello", "grüß dich", "😀" * 40, "x" * 126, "y" * 70_000]


def oracle(side: Side, deflate: Deflate | None) -> Protocol:
    protocol = Protocol(side, state=OPEN, max_size=2**20)
    if deflate is not None:
        server = (deflate.server_no_context_takeover, deflate.server_max_window_bits)
        client = (deflate.client_no_context_takeover, deflate.client_max_window_bits)
        ours, theirs = (server, client) if side is Side.SERVER else (client, server)
        protocol.extensions = [PerMessageDeflate(theirs[0], ours[0], theirs[1], ours[1])]
    return protocol


def messages_of(frames: list[Any]) -> list[Any]:
    """Put the oracle's frames together to the events that a codec gives."""
    events: list[Any] = []
    text = False
    parts: list[bytes] = []
    for frame in frames:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if frame.opcode is not Opcode.CONT:
                text, parts = frame.opcode is Opcode.TEXT, []
            parts.append(bytes(frame.data))
            if frame.fin:
                whole = b"".join(parts)
                events.append(Message(whole.decode() if text else whole))
        elif frame.opcode is Opcode.PING:
            events.append(Ping(bytes(frame.data)))
        elif frame.opcode is Opcode.PONG:
            events.append(Pong(bytes(frame.data)))
        elif frame.opcode is Opcode.CLOSE:
            code = int.from_bytes(frame.data[:2], "big") if frame.data else 1005
            events.append(Close(code, bytes(frame.data[2:]).decode()))
    return events


DEFLATES = [
    None,
    Deflate(),
    Deflate(server_no_context_takeover=False, client_no_context_takeover=False),
    Deflate(server_max_window_bits=9, client_max_window_bits=10, client_no_context_takeover=False, threshold=0),
]


@pytest.mark.parametrize("deflate", DEFLATES, ids=["plain", "reset", "takeover", "small windows"])
@pytest.mark.parametrize("client", [False, True], ids=["server", "client"])
def test_conversations_with_websockets(codec: ModuleType, client: bool, deflate: Deflate | None) -> None:
    random = Random(6455)
    for _ in range(25):
        ours = codec.Connection(client=client, deflate=deflate)
        theirs = oracle(Side.SERVER if client else Side.CLIENT, deflate)
        sent_by_us: list[Any] = []
        sent_by_them: list[Any] = []
        events: list[Any] = []
        frames: list[Any] = []
        for _ in range(12):
            text = random.choice(TEXTS)
            match random.randrange(6):
                case 0:
                    ours.send_text(text)
                    sent_by_us.append(Message(text))
                case 1:
                    parts = [text.encode()[:5], text.encode()[5:]]
                    ours.send_binary(parts[0], fin=False)
                    ours.send_binary(parts[1])
                    sent_by_us.append(Message(text.encode()))
                case 2:
                    theirs.send_text(text.encode())
                    sent_by_them.append(Message(text))
                case 3:
                    theirs.send_binary(text.encode()[:7], fin=False)
                    theirs.send_ping(b"between")
                    theirs.send_continuation(text.encode()[7:], fin=True)
                    sent_by_them += [Ping(b"between"), Message(text.encode())]
                    sent_by_us.append(Pong(b"between"))
                case 4:
                    ours.send_ping(b"ours")
                    sent_by_us.append(Ping(b"ours"))
                    sent_by_them.append(Pong(b"ours"))
                case 5:
                    theirs.send_pong(b"theirs")
                    sent_by_them.append(Pong(b"theirs"))
            _exchange(random, ours, theirs, events, frames)
        theirs.send_close(1001, "bye")
        _exchange(random, ours, theirs, events, frames)
        assert events == [*sent_by_them, Close(1001, "bye")]
        assert messages_of(frames) == [*sent_by_us, Close(1001, "")]
        assert ours.state == codec.CLOSED
        assert theirs.close_sent is not None and theirs.close_rcvd is not None
        assert theirs.parser_exc is None


def _exchange(random: Random, ours: Any, theirs: Protocol, events: list[Any], frames: list[Any]) -> None:
    """Carry bytes both ways, cut anywhere, until there are no more."""
    while True:
        to_them = ours.data_to_send()
        to_us = b"".join(theirs.data_to_send())
        if not to_them and not to_us:
            return
        for start, end in _cuts(random, len(to_them)):
            theirs.receive_data(to_them[start:end])
            frames += [event for event in theirs.events_received() if isinstance(event, Frame)]
        for start, end in _cuts(random, len(to_us)):
            ours.receive_data(to_us[start:end])
            events += ours.events()


def _cuts(random: Random, size: int) -> list[tuple[int, int]]:
    places = [0, *sorted(random.randrange(size + 1) for _ in range(random.randrange(4))), size]
    return [pair for pair in pairwise(places) if pair[0] < pair[1]]


# What both refuse, with the code that both give.
BROKEN = [
    ("unmasked", b"\x81\x01x", 1002),
    ("reserved bit", b"\x91\x81\x00\x00\x00\x00x", 1002),
    ("opcode", b"\x83\x81\x00\x00\x00\x00x", 1002),
    ("fragmented ping", b"\x09\x80\x00\x00\x00\x00", 1002),
    ("long ping", b"\x89\xfe\x00\x7e\x00\x00\x00\x00" + bytes(126), 1002),
    ("continuation", b"\x80\x80\x00\x00\x00\x00", 1002),
    ("text inside a message", b"\x01\x80\x00\x00\x00\x00\x81\x80\x00\x00\x00\x00", 1002),
    ("too big", b"\x82\xff" + (2**21).to_bytes(8, "big") + bytes(4), 1009),
    ("close code", b"\x88\x82\x00\x00\x00\x00\x03\xed", 1002),
    ("close body", b"\x88\x81\x00\x00\x00\x00\x03", 1002),
    ("close reason", b"\x88\x83\x00\x00\x00\x00\x03\xe8\xff", 1007),
]


@pytest.mark.parametrize(("data", "code"), [pytest.param(*case[1:], id=case[0]) for case in BROKEN])
def test_websockets_fails_with_the_same_code(codec: ModuleType, data: bytes, code: int) -> None:
    ours = codec.Connection()
    theirs = oracle(Side.SERVER, None)
    ours.receive_data(data)
    theirs.receive_data(data)
    assert theirs.close_sent is not None
    assert ours.failure[0] == theirs.close_sent.code == code


def test_a_bomb_is_refused_by_both(codec: ModuleType) -> None:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = (compressor.compress(bytes(2**21)) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    data = b"\xc2\xfe" + len(bomb).to_bytes(2, "big") + bytes(4) + bomb
    ours = codec.Connection(deflate=Deflate())
    theirs = oracle(Side.SERVER, Deflate())
    ours.receive_data(data)
    theirs.receive_data(data)
    assert theirs.close_sent is not None
    assert ours.failure[0] == theirs.close_sent.code == 1009
