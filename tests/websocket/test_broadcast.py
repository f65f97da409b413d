"""``ferrows.broadcast``: one message to many websockets, on the codec that is in use."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ferrows import Websocket, broadcast
from ferrows._codec import Connection
from ferrows.events import Event, Message
from ferrows.extensions import DeflateParameters

from .harness import Peer, close, text, turns

Reports = list[dict[str, Any]]
LONG = "long enough, long enough, long enough to be compressed " * 3
LARGE = 100_000  # bytes, of which no peer gets a copy of its own


@pytest.fixture
async def reports() -> Reports:
    """What was reported to the event loop."""
    reported: Reports = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    return reported


async def in_a_turn(work: Callable[[Websocket], Any]) -> tuple[Peer, Any]:
    """Run ``work`` in the turn of another connection, which is returned with the result."""
    source = Peer()
    results = []

    async def handler(ws: Websocket) -> None:
        async for _ in ws:
            results.append(work(ws))

    await source.handle(handler)
    await source.feed(text("go"))
    (result,) = results
    return source, result


async def outside_of_a_turn(work: Callable[[Websocket], Any]) -> tuple[Peer, Any]:
    source = Peer()
    return source, work(source.ws)


WHERE = pytest.mark.parametrize("where", [in_a_turn, outside_of_a_turn])


def websockets(peers: list[Peer]) -> list[Websocket]:
    return [peer.ws for peer in peers]


def read_by(peer: Peer, deflate: DeflateParameters | None = None, *, client: bool = False) -> list[Event]:
    """Return what the other side of a connection understands."""
    other = Connection(client=not client, deflate=deflate)
    other.receive_data(b"".join(peer.transport.writes))
    return other.events()


# ---- who gets it


@WHERE
@pytest.mark.parametrize(
    ("data", "frame"), [("häh", (1, "häh".encode())), (b"\x00\xff", (2, b"\x00\xff")), ("", (1, b""))]
)
async def test_all_get_the_message(where: Any, data: str | bytes, frame: tuple[int, bytes]) -> None:
    peers = [Peer() for _ in range(4)]
    _, left_out = await where(lambda _: broadcast(websockets(peers), data))
    assert left_out == []
    for peer in peers:
        assert peer.sent == [frame]
        assert len(peer.transport.writes) == 1
        assert (peer.ws.messages_sent, peer.ws.bytes_sent) == (1, len(frame[1]))


@pytest.mark.parametrize("data", [bytearray(b"abcd"), memoryview(b"abcd"), memoryview(b"-abcd-")[1:-1]])
async def test_bytes_like_data_is_a_binary_message(data: bytearray | memoryview) -> None:
    peer = Peer()
    assert broadcast([peer.ws], data) == []
    assert peer.sent == [(2, b"abcd")]


async def test_data_that_changes_afterwards_was_copied() -> None:
    data = bytearray(b"before")
    peer = Peer()

    async def handler(ws: Websocket) -> None:
        async for _ in ws:
            broadcast([ws], data)
            data[:] = b"behind"

    await peer.handle(handler)
    await peer.feed(text("go"))
    assert peer.sent == [(2, b"before")]


@pytest.mark.parametrize("kind", [list, tuple, set, frozenset, iter, lambda items: dict.fromkeys(items).keys()])
async def test_any_iterable_will_do(kind: Callable[[list[Websocket]], Any]) -> None:
    peers = [Peer() for _ in range(3)]
    assert broadcast(kind(websockets(peers)), "a") == []
    assert [peer.sent for peer in peers] == [[(1, b"a")]] * 3


async def test_nobody_is_no_error() -> None:
    assert broadcast([], "a") == []


@WHERE
async def test_who_is_listed_twice_gets_it_twice(where: Any) -> None:
    peer = Peer()
    await where(lambda _: broadcast([peer.ws, peer.ws], "a"))
    assert peer.sent == [(1, b"a"), (1, b"a")]
    assert peer.ws.messages_sent == 2


@WHERE
async def test_who_cannot_take_it_is_returned_in_order_and_gets_nothing(where: Any) -> None:
    def closed(peer: Peer) -> None:
        peer.ws.lose_transport()

    def closing(peer: Peer) -> None:
        peer.ws.end_connection(1000)

    def failed(peer: Peer) -> None:
        peer.ws.fail_connection(1011)

    def paused(peer: Peer) -> None:
        peer.ws.pause_writing()

    def queued(peer: Peer) -> None:
        peer.ws.send_queued = True

    def fragmenting(peer: Peer) -> None:
        peer.ws.send_data("beg", False)

    peers = [Peer() for _ in range(12)]
    for make, peer in zip([closed, closing, failed, paused, queued, fragmenting], peers[::2], strict=True):
        make(peer)
    before = [list(peer.sent) for peer in peers]
    sent = [peer.ws.messages_sent for peer in peers]
    source, left_out = await where(lambda ws: broadcast([*websockets(peers), ws], "a"))
    assert left_out == websockets(peers[::2])
    assert [peer.sent for peer in peers[::2]] == before[::2]
    assert [peer.ws.messages_sent for peer in peers[::2]] == sent[::2]
    assert [peer.sent for peer in peers[1::2]] == [[(1, b"a")]] * 6
    assert source.sent == [(1, b"a")]


@pytest.mark.parametrize("large", [False, True])
async def test_senders_that_wait_come_first(large: bool) -> None:
    peer = Peer()
    message = "x" * LARGE if large else "second"
    peer.ws.pause_writing()
    waiting = asyncio.ensure_future(peer.ws.send("first"))
    await turns()
    assert broadcast([peer.ws], message) == [peer.ws]
    peer.ws.resume_writing()
    # The sender has the turn but did not run yet.
    assert broadcast([peer.ws], message) == [peer.ws]
    await waiting
    assert broadcast([peer.ws], message) == []
    assert [payload.decode() == wanted for (_, payload), wanted in zip(peer.sent, ["first", message], strict=True)]


async def test_a_message_in_fragments_is_not_interrupted() -> None:
    peer = Peer()
    more = asyncio.Event()

    async def fragments() -> Any:
        yield "a"
        await more.wait()
        yield "b"

    sending = asyncio.ensure_future(peer.ws.send(fragments()))
    await turns()
    assert broadcast([peer.ws], "c") == [peer.ws]
    more.set()
    await sending
    assert broadcast([peer.ws], "c") == []
    assert peer.sent == [(0x11, b"a"), (0x10, b"b"), (0, b""), (1, b"c")]


async def test_a_peer_that_was_returned_gets_it_by_send() -> None:
    peer = Peer()
    peer.ws.pause_writing()
    (slow,) = broadcast([peer.ws], "a")
    sending = asyncio.ensure_future(slow.send("a"))
    await turns()
    assert peer.sent == []
    peer.ws.resume_writing()
    await sending
    assert peer.sent == [(1, b"a")]


async def test_before_a_close_that_is_pending_it_is_sent_as_send_does() -> None:
    peer, other = Peer(), Peer()

    async def handler(ws: Websocket) -> None:
        async for message in ws:
            assert broadcast([ws, other.ws], message) == []

    await peer.handle(handler)
    await peer.feed(text("last") + close(1000))
    assert peer.sent == [(1, b"last"), (8, b"\x03\xe8")]
    assert other.sent == [(1, b"last")]
    await peer.lose()


# ---- what it is not given to


@pytest.mark.parametrize("data", [None, 1, ["a"], {"a": 1}, object(), iter(())])
async def test_other_data_is_an_error(data: Any) -> None:
    peer = Peer()
    with pytest.raises(TypeError, match=f"cannot broadcast {type(data).__name__}, permitted: str or bytes-like"):
        broadcast([peer.ws], data)
    assert peer.sent == []


async def test_a_str_that_is_no_text_is_an_error() -> None:
    peer = Peer()
    with pytest.raises(UnicodeEncodeError):
        broadcast([peer.ws], "\ud800")
    assert peer.sent == []
    assert peer.ws.messages_sent == 0


@WHERE
@pytest.mark.parametrize("other", [None, "ws", object(), Websocket])
async def test_an_object_that_is_no_websocket_is_seen_before_anything_is_sent(where: Any, other: Any) -> None:
    peers = [Peer(), Peer()]

    def work(_: Websocket) -> None:
        with pytest.raises(TypeError, match=f"cannot broadcast to {type(other).__name__}, permitted: Websocket"):
            broadcast([peers[0].ws, other, peers[1].ws], "a")

    await where(work)
    assert [peer.sent for peer in peers] == [[], []]


async def test_what_is_no_iterable_is_an_error() -> None:
    with pytest.raises(TypeError, match="not iterable"):
        broadcast(Peer().ws, "a")  # type: ignore[arg-type]


@WHERE
async def test_what_the_iterable_raises_is_raised_before_anything_is_sent(where: Any) -> None:
    peer = Peer()

    def failing() -> Iterator[Websocket]:
        yield peer.ws
        raise LookupError

    def work(_: Websocket) -> None:
        with pytest.raises(LookupError):
            broadcast(failing(), "a")
        # The batch is not in the way of what follows.
        broadcast([peer.ws], "b")

    await where(work)
    assert peer.sent == [(1, b"b")]


async def test_a_peer_that_is_closed_while_they_are_listed_is_left_out() -> None:
    first, second, third = Peer(), Peer(), Peer()

    def closing() -> Iterator[Websocket]:
        yield first.ws
        yield second.ws
        first.ws.end_connection(1001, "bye")
        second.ws.lose_transport()
        yield third.ws

    assert broadcast(closing(), "a") == [first.ws, second.ws]
    assert (first.sent, second.sent, third.sent) == ([(8, b"\x03\xe9bye")], [], [(1, b"a")])


# ---- in which order, and when


async def test_it_keeps_its_place_among_other_sends() -> None:
    peers = [Peer() for _ in range(3)]
    everyone = websockets(peers)

    async def handler(ws: Websocket) -> None:
        async for message in ws:
            broadcast(everyone, f"1{message}")
            await peers[1].ws.send("own")
            broadcast(everyone, b"2")
            await peers[1].ws.pong(b"p")
            broadcast([peers[1].ws], "3")

    await peers[0].handle(handler)
    await peers[0].feed(text("a") + text("b"))
    others = [(1, b"1a"), (2, b"2"), (1, b"1b"), (2, b"2")]
    first = [(1, b"1a"), (1, b"own"), (2, b"2"), (10, b"p"), (1, b"3")]
    assert peers[0].sent == peers[2].sent == others
    assert peers[1].sent == [*first, (1, b"1b"), *first[1:]]
    assert [len(peer.transport.writes) for peer in peers] == [1, 1, 1]


@pytest.mark.parametrize("sizes", list(itertools.product([5, 40_000, LARGE], repeat=3)), ids=str)
@WHERE
async def test_any_sizes_stay_in_order(where: Any, sizes: tuple[int, int, int]) -> None:
    peer, other = Peer(), Peer()
    messages = [str(index) * size for index, size in enumerate(sizes)]

    def work(ws: Websocket) -> None:
        broadcast([peer.ws, other.ws], messages[0])
        peer.ws.send(messages[1])
        broadcast([peer.ws, other.ws], messages[2])
        peer.ws.send("end")

    await where(work)
    assert [payload.decode() for _, payload in peer.sent] == [*messages, "end"]
    assert [payload.decode() for _, payload in other.sent] == [messages[0], messages[2]]


async def test_outside_of_a_turn_it_leaves_at_once() -> None:
    peer = Peer()
    broadcast([peer.ws], "a")
    assert peer.sent == [(1, b"a")]
    await peer.ws.send("b")
    broadcast([peer.ws], "c")
    assert peer.sent == [(1, b"a"), (1, b"b"), (1, b"c")]
    assert len(peer.transport.writes) == 3


async def test_within_a_turn_it_leaves_at_the_end_of_the_turn() -> None:
    peers = [Peer() for _ in range(3)]
    during: list[int] = []

    async def handler(ws: Websocket) -> None:
        async for message in ws:
            broadcast(websockets(peers), message)
            during.append(sum(len(peer.transport.writes) for peer in peers))

    await peers[0].handle(handler)
    await peers[0].feed(text("a") + text("b"))
    assert during == [0, 0]
    assert [peer.sent for peer in peers] == [[(1, b"a"), (1, b"b")]] * 3
    assert [len(peer.transport.writes) for peer in peers] == [1, 1, 1]


@pytest.mark.parametrize("size", [20_000, LARGE])
async def test_a_peer_that_stops_reading_is_felt_at_once(size: int) -> None:
    slow = Peer()
    slow.transport.on_write = lambda data: slow.ws.pause_writing()
    _, taken = await in_a_turn(lambda _: [not broadcast([slow.ws], bytes(size)) for _ in range(8)])
    # Up to 64 KiB and a message wait for the end of the turn; a paused transport is given nothing more.
    assert taken == ([True] * 4 + [False] * 4 if size == 20_000 else [True] + [False] * 7)
    assert len(slow.sent) == taken.count(True)
    assert slow.ws.messages_sent == taken.count(True)


async def test_what_leaves_before_a_large_message_may_pause_the_peer() -> None:
    slow = Peer()
    slow.transport.on_write = lambda data: slow.ws.pause_writing()

    def work(_: Websocket) -> list[Websocket]:
        assert broadcast([slow.ws], "small") == []
        return broadcast([slow.ws], "x" * LARGE)

    _, left_out = await in_a_turn(work)
    assert left_out == [slow.ws]
    assert slow.sent == [(1, b"small")]


@WHERE
async def test_a_large_message_is_one_object_for_all(where: Any) -> None:
    peers = [Peer() for _ in range(3)]
    written: list[object] = []
    for peer in peers:
        peer.transport.write = written.append  # type: ignore[method-assign]

    def work(_: Websocket) -> None:
        peers[0].ws.send("small")
        broadcast(websockets(peers), "x" * LARGE)
        peers[1].ws.send("small")

    await where(work)
    large = [data for data in written if isinstance(data, bytes) and len(data) > LARGE]
    assert len(large) == 3
    assert large[0] is large[1] is large[2]
    assert len(written) == 5


async def test_a_close_comes_after_it() -> None:
    peer = Peer()

    def work(_: Websocket) -> None:
        broadcast([peer.ws], "a")
        peer.ws.end_connection(1001, "bye")
        assert broadcast([peer.ws], "late") == [peer.ws]

    await in_a_turn(work)
    assert peer.sent == [(1, b"a"), (8, b"\x03\xe9bye")]
    assert len(peer.transport.writes) == 1


async def test_a_transport_that_is_lost_before_it_leaves() -> None:
    peer, other = Peer(), Peer()

    def work(_: Websocket) -> None:
        assert broadcast([peer.ws, other.ws], "a") == []
        peer.ws.lose_transport()

    await in_a_turn(work)
    assert (peer.sent, other.sent) == ([], [(1, b"a")])


# ---- what a transport raises


class Panic(BaseException):
    """What a panic of the extension is like that went through Python code."""


@WHERE
@pytest.mark.parametrize("size", [5, LARGE])
async def test_a_transport_that_raises_keeps_nothing_from_the_others(where: Any, size: int, reports: Reports) -> None:
    broken, whole = Peer(), Peer()

    def fail(data: bytes) -> None:
        raise OSError("no route")

    broken.transport.on_write = fail
    source, left_out = await where(lambda ws: broadcast([broken.ws, whole.ws, ws], "x" * size))
    assert left_out == []
    assert len(whole.sent) == len(source.sent) == 1
    assert [(type(report["exception"]), report["websocket"]) for report in reports] == [(OSError, broken.ws)]
    broadcast([whole.ws], "next")
    assert whole.sent[1:] == [(1, b"next")]


@pytest.mark.parametrize("error", [asyncio.CancelledError, Panic])
@pytest.mark.parametrize("size", [5, LARGE])
async def test_an_exit_is_raised_after_the_last(error: type[BaseException], size: int, reports: Reports) -> None:
    leaving, whole = Peer(), Peer()

    def leave(data: bytes) -> None:
        leaving.transport.on_write = None
        raise error("enough")

    leaving.transport.on_write = leave
    with pytest.raises(error):
        broadcast([leaving.ws, whole.ws], "x" * size)
    assert len(whole.sent) == 1
    assert reports == []
    assert broadcast([leaving.ws, whole.ws], "next") == []
    assert (len(leaving.sent), len(whole.sent)) == (2, 2)


async def test_an_exit_within_a_turn_is_raised_after_the_last(reports: Reports) -> None:
    leaving, whole = Peer(), Peer()

    def leave(data: bytes) -> None:
        raise asyncio.CancelledError("enough")

    leaving.transport.on_write = leave
    with pytest.raises(asyncio.CancelledError):
        await in_a_turn(lambda _: broadcast([leaving.ws, whole.ws], "a"))
    assert whole.sent == [(1, b"a")]
    assert reports == []


# ---- permessage-deflate, and the client's role

FRESH = DeflateParameters(threshold=100)
KEEPING = DeflateParameters(server_no_context_takeover=False, threshold=100)
SETTINGS = {
    "none": None,
    "fresh": FRESH,
    "fresh again": FRESH,
    "level 1": DeflateParameters(level=1, threshold=100),
    "small window": DeflateParameters(server_max_window_bits=9, mem_level=2, threshold=100),
    "higher threshold": DeflateParameters(threshold=10_000),
    "takeover": KEEPING,
    "takeover again": KEEPING,
}


@WHERE
@pytest.mark.parametrize("compress", [None, True, False])
async def test_each_peer_understands_it_whatever_was_agreed_on(where: Any, compress: bool | None) -> None:
    peers = [Peer(deflate=deflate) for deflate in SETTINGS.values()]
    messages = [LONG, "short", LONG.encode(), LONG, "", "x" * LARGE]

    def work(_: Websocket) -> None:
        for message in messages:
            assert broadcast(websockets(peers), message, compress=compress) == []

    await where(work)
    for peer, (name, deflate) in zip(peers, SETTINGS.items(), strict=True):
        assert read_by(peer, deflate) == [Message(message) for message in messages], name
        assert peer.ws.messages_sent == len(messages)
        assert peer.ws.bytes_sent == sum(len(message) for message in messages)


@pytest.mark.parametrize("message", ["short", LONG, LONG.encode(), "x" * LARGE])
@pytest.mark.parametrize("compress", [None, True, False])
async def test_a_peer_gets_the_bytes_that_a_send_sends(message: str | bytes, compress: bool | None) -> None:
    for deflate in SETTINGS.values():
        one, other = Peer(deflate=deflate), Peer(deflate=deflate)
        for _ in range(2):
            broadcast([one.ws], message, compress=compress)
            await other.ws.send(message, compress=compress)
        assert b"".join(one.transport.writes) == b"".join(other.transport.writes)


async def test_the_context_survives_what_is_shared() -> None:
    peer, plain = Peer(deflate=KEEPING), Peer()
    for index in range(3):
        await peer.ws.send(f"{LONG} {index}")
        broadcast([plain.ws, peer.ws], LONG)
        broadcast([plain.ws, peer.ws], "short")
    expected = [Message(data) for index in range(3) for data in (f"{LONG} {index}", LONG, "short")]
    assert read_by(peer, KEEPING) == expected
    sizes = [len(data) for data in peer.transport.writes if len(data) > 20]
    assert min(sizes[1:] or [0]) < sizes[0]


async def test_a_client_masks_each_for_itself() -> None:
    server, clients = Peer(), [Peer(client=True) for _ in range(2)]
    assert broadcast([clients[0].ws, server.ws, clients[1].ws], "secret") == []
    assert (
        read_by(server) == read_by(clients[0], client=True) == read_by(clients[1], client=True) == [Message("secret")]
    )
    first, second = (b"".join(client.transport.writes) for client in clients)
    assert first[1] & 0x80
    assert first[2:6] != second[2:6]  # masking keys are not shared (RFC 6455 §5.3)
