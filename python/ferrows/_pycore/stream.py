"""``MessageStream``: the hot half of a ``Websocket``; the twin of ``stream.rs``.

A connection, the queue of what arrived, the one task that waits for it, and the cork that gathers what is sent
meanwhile into one write. A *turn* is one run over what has arrived: the waiting task is woken in place, works messages
off until it waits for something else or the turn's share is used up, and what it sent leaves as one write. What it sent
on other connections does so too: they are in the turn's batch.
"""

from __future__ import annotations

import asyncio
import enum
import sys
from collections import deque
from collections.abc import Awaitable, Coroutine
from typing import TYPE_CHECKING, Any, Final, Self

from . import batch
from .connection import CLOSED, OPEN
from .inbox import Fragment, Inbox, Item, Message, payload_size
from .receive import Mode, Receive, Sent

if TYPE_CHECKING:
    from ..limits import InboundLimits
    from .broadcast import Broadcast
    from .deflate import DeflateParameters
    from .mask import Buffer

__all__ = ["MessageStream"]

TURN_MESSAGES: Final = 256
"""Messages that one connection may work off before other connections get their turn."""

CORK_LIMIT: Final = 64 * 1024
"""Corked output beyond this many bytes leaves at once, so that the transport's limits are felt."""

PIECE: Final = 32 * 1024
"""Octets that are parsed before it counts how many messages wait: the smallest take six."""

DISCARDED: Final = 64 * 2**20
"""Octets that are still read of a peer that goes on sending after its connection failed.

One that reads has our Close by then, and one that first writes what it has to write comes to its end; the others wait
for theirs without being read.
"""

DEFLATE_PIECE: Final = 1024
"""Octets of a compressed stream that are parsed before it counts how much waits.

They may inflate to a thousand times as many.
"""

SENDS_A_TURN: Final = 512
"""Messages that a handler may send in a row, receiving none, before a send suspends for one turn of the loop.

A transport that has lost its peer takes whatever is written and never says stop before the loop turns. So a handler
that does nothing but send must let it turn now and then, or nobody else would ever run again.
"""

UNCOPIED: Final = 32 * 1024
"""Bytes of a frame for many connections, from which on it is not copied for one that has more to send."""

_SENT: Final = Sent()


class _Turn(enum.Enum):
    IDLE = enum.auto()
    """Sends leave at once."""
    RUNNING = enum.auto()
    """``_run_turn`` is on the stack and will flush."""
    DEFERRED = enum.auto()
    """A handler that was woken by something else works the queue off; a scheduled turn will flush."""


class MessageStream:
    """The hot half of a ``Websocket``, its subclass, which provides the methods that raise NotImplementedError here."""

    __slots__ = (
        "__weakref__",
        "_batched",
        "_closing",
        "_core",
        "_discarded",
        "_dropping",
        "_fragments_asked",
        "_frames_paused",
        "_heard",
        "_held",
        "_held_scheduled",
        "_max_queue",
        "_max_queued_bytes",
        "_pongs",
        "_queue",
        "_queued_bytes",
        "_reported",
        "_sends_left",
        "_stalled",
        "_turn",
        "_turn_left",
        "_turn_scheduled",
        "bytes_received",
        "bytes_sent",
        "loop",
        "messages_received",
        "messages_sent",
        "read_paused",
        "send_queued",
        "streaming",
        "transport",
        "waiter",
        "write_paused",
    )

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport | None
    waiter: Receive | None
    write_paused: bool
    read_paused: bool
    send_queued: bool
    messages_received: int
    bytes_received: int
    messages_sent: int
    bytes_sent: int
    _core: Inbox
    _queue: deque[Item]
    _queued_bytes: int
    _pongs: list[bytes]
    _turn: _Turn
    _turn_left: int
    _sends_left: int
    _turn_scheduled: bool
    _batched: bool  # in the batch of another connection's turn, which will flush
    _fragments_asked: bool  # the core hands the next message over in fragments, the last of them not taken yet
    streaming: bool  # a recv_streaming() has taken the first of them
    _stalled: bool  # what waits is the beginning of a message that only its end makes deliverable
    _closing: bool  # our Close is out
    _dropping: bool  # and something that came after it found no room
    _held: bytes  # what was read and not parsed yet, since there may be no room for what it becomes
    _held_scheduled: bool
    _discarded: int  # octets that came after the connection failed
    _frames_paused: bool
    _heard: bool
    _reported: tuple[int, bool, bool]
    _max_queue: int
    _max_queued_bytes: int

    ENDED: Final = object()

    # State is set up in __new__, as in the extension, so that a subclass's __init__ is its own.
    def __new__(
        cls,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport | None,
        *,
        max_size: int | None = 2**20,
        max_queue: int | None = 32,
        deflate: DeflateParameters | None = None,
        limits: InboundLimits | None = None,
        client: bool = False,
        **_options: object,
    ) -> Self:
        self = super().__new__(cls)
        self.loop = loop
        self.transport = transport
        self.waiter = None
        self.write_paused = False
        self.read_paused = False
        self.send_queued = False
        self.messages_received = 0
        self.bytes_received = 0
        self.messages_sent = 0
        self.bytes_sent = 0
        self._core = Inbox(client=client, max_size=max_size, deflate=deflate, limits=limits)
        self._core.stream = self
        self._queue = deque()
        self._queued_bytes = 0
        self._pongs = []
        self._turn = _Turn.IDLE
        self._turn_left = 0
        self._sends_left = SENDS_A_TURN
        self._turn_scheduled = False
        self._batched = False
        self._fragments_asked = False
        self.streaming = False
        self._stalled = False
        self._closing = False
        self._dropping = False
        self._held = b""
        self._held_scheduled = False
        self._discarded = 0
        self._frames_paused = False
        self._heard = False
        self._reported = (OPEN, False, False)
        self._max_queue = max_queue or sys.maxsize
        self._max_queued_bytes = sys.maxsize if max_size is None else max_size
        return self

    # ---- from the transport

    def receive_data(self, data: Buffer) -> None:
        self._heard = True
        self._closing = self._core.close_sent is not None
        self._parse_while_room(data)
        self._react()

    def receive_held(self) -> None:
        self._held_scheduled = False
        self._closing = self._core.close_sent is not None
        held, self._held = self._held, b""
        self._parse_while_room(held)
        self._react()

    def _parse_while_room(self, data: Buffer) -> None:
        """Parse what arrived as long as there is room for what it becomes, and keep the rest for later."""
        if self._core.failure is not None:
            self._discarded += payload_size(data)
            return
        if self._held:
            self._held += data
            return
        octets = data if isinstance(data, bytes) else bytes(data)
        at = 0
        while at < len(octets):
            if self._is_full(at >= PIECE):
                self._held = octets[at:]
                return
            end = self._end_of_piece(octets, at)
            self._core.receive_data(octets[at:end])
            at = end

    def _end_of_piece(self, octets: bytes, at: int) -> int:
        """Return how far to parse next. A frame that is larger than a piece is not cut."""
        size = DEFLATE_PIECE if self._core.has_deflate else PIECE
        if len(octets) - at > size == PIECE:
            size = max(size, self._core.frame_end(octets[at:]))
        return min(at + size, len(octets))

    def _is_full(self, number: bool) -> bool:
        full = self._queued_bytes >= self._max_queued_bytes or (number and len(self._queue) >= self._max_queue)
        return full and not self._stalled and not self.ended and self._core.close_sent is None

    def _react(self) -> None:
        if self._pongs:
            pongs, self._pongs = self._pongs, []
            for payload in pongs:
                self._pong_received(payload)
        self._run_turn()

    def receive_eof(self) -> None:
        self._core.receive_eof()
        self._run_turn()

    def lose_transport(self) -> None:
        self.transport = None
        self._held = b""
        self._core.receive_eof()
        self._run_turn()

    def pause_writing(self) -> None:
        self.write_paused = True
        self._core.hold_pongs(True)

    def resume_writing(self) -> None:
        self.write_paused = False
        self._core.hold_pongs(False)
        self._settle()

    # ---- for the handler

    def __aiter__(self) -> MessageStream:
        return self

    def __anext__(self) -> Awaitable[str | bytes]:
        return Receive(self, Mode.ITERATION)

    def recv(self, timeout: float | None = None) -> Coroutine[Any, Any, str | bytes]:
        if timeout is not None:
            return self._recv_within(timeout)
        return Receive(self, Mode.MESSAGE)

    def recv_event(self) -> Coroutine[Any, Any, dict[str, Any]]:
        return Receive(self, Mode.EVENT)

    def recv_fragment(self) -> Coroutine[Any, Any, tuple[str | bytes, bool]]:
        return Receive(self, Mode.FRAGMENT)

    def take_messages(self, limit: int) -> list[str | bytes]:
        messages: list[str | bytes] = []
        self._sends_left = SENDS_A_TURN
        while len(messages) < limit and (item := self._pop(Mode.MESSAGE)) is not None:
            messages.append(item.data)
        self._adjust_reading()
        return messages

    def send(
        self, data: Any, encoding: str | None = None, *, compress: bool | None = None
    ) -> Coroutine[Any, Any, None]:
        if encoding is None and compress is None and self._send_now(data):
            self._leave_or_wait()
            self._sends_left = self._sends_left - 1 if self._sends_left else SENDS_A_TURN
            return _SENT if self._sends_left else self._give_way()
        return self._send_slowly(data, encoding, compress=compress)

    # ---- for the Python half

    def send_data(self, data: str | Buffer, fin: bool = True, compress: bool | None = None) -> None:
        if isinstance(data, str):
            self._core.send_text(data, fin, compress)
        else:
            self._core.send_binary(data, fin, compress)
        self._count_sent(data, fin)
        self._leave_or_wait()

    def send_ping(self, data: Buffer) -> None:
        self._core.send_ping(data)
        self._leave_or_wait()

    def send_pong(self, data: Buffer) -> None:
        self._core.send_pong(data)
        self._leave_or_wait()

    def send_close(self, code: int | None = 1000, reason: str = "") -> None:
        self._core.send_close(code, reason)
        self._leave_or_wait()

    def fail(self, code: int, reason: str = "") -> None:
        self._core.fail(code, reason)
        self._run_turn()

    def hold_frames(self, hold: bool) -> None:
        self._frames_paused = hold
        self._adjust_reading()

    def take_heard(self) -> bool:
        heard, self._heard = self._heard, False
        return heard

    def run_scheduled_turn(self) -> None:
        self._turn_scheduled = False
        self._turn = _Turn.IDLE
        self._run_turn()

    @property
    def state(self) -> int:
        return self._core.state

    @property
    def close_sent(self) -> tuple[int, str] | None:
        return self._core.close_sent

    @property
    def close_received(self) -> tuple[int, str] | None:
        return self._core.close_received

    @property
    def failure(self) -> tuple[int, str] | None:
        return self._core.failure

    @property
    def excess(self) -> str | None:
        return self._core.excess

    @property
    def waited_for(self) -> bool:
        return self.waiter is not None

    @property
    def ended(self) -> bool:
        core = self._core
        return (
            self.transport is None
            or core.state == CLOSED
            or core.close_received is not None
            or core.failure is not None
        )

    @property
    def queued(self) -> int:
        return len(self._queue)

    # ---- what the subclass provides

    def _recv_within(self, timeout: float) -> Coroutine[Any, Any, str | bytes]:
        raise NotImplementedError

    def _send_slowly(
        self, data: Any, encoding: str | None, *, compress: bool | None = None
    ) -> Coroutine[Any, Any, None]:
        raise NotImplementedError

    def _give_way(self) -> Coroutine[Any, Any, None]:
        raise NotImplementedError

    def _pong_received(self, payload: bytes) -> None:
        raise NotImplementedError

    def _state_changed(self) -> None:
        raise NotImplementedError

    def _closed_error(self) -> BaseException:
        raise NotImplementedError

    def _iteration_end(self) -> BaseException:
        raise NotImplementedError

    def _end_event(self) -> dict[str, Any]:
        raise NotImplementedError

    # ---- the queue

    def take(self, mode: Mode) -> Any:
        """Take the next item for a receive of this mode: a message, or a pair of data and fin.

        None: nothing now, or this turn's share is used up. :attr:`ENDED`: nothing is left and nothing will come.
        """
        if self._turn is not _Turn.IDLE and not self._turn_left and self._queue:
            return None
        if mode is Mode.FRAGMENT:
            self._stalled = False
            self._prepare_fragments()
        item = self._pop(mode)
        self._sends_left = SENDS_A_TURN
        if item is None:
            # Fragments may have been passed over or joined.
            if self.read_paused:
                self._adjust_reading()
            return self.ENDED if self.ended else None
        if self._turn_left:
            self._turn_left -= 1
        if self._turn is _Turn.IDLE and self._queue:
            self._turn = _Turn.DEFERRED
            self._turn_left = TURN_MESSAGES
            self._schedule_turn()
        if self.read_paused:
            self._adjust_reading()
        if mode is Mode.FRAGMENT:
            return item.data, item.fin if isinstance(item, Fragment) else True
        if mode is Mode.EVENT:
            return {"type": "websocket.receive", "text" if isinstance(item.data, str) else "bytes": item.data}
        return item.data

    def _append(self, item: Item) -> None:
        self.bytes_received += item.size
        if self._closing:
            # We read on for the peer's Close alone. All that follows the first that is dropped is dropped too, lest a
            # message lose its middle.
            full = len(self._queue) >= self._max_queue or self._queued_bytes + item.size > self._max_queued_bytes
            self._dropping = self._dropping or full
            if self._dropping:
                return
        self._queued_bytes += item.size
        self._queue.append(item)
        # A message that stalled for want of its end still does before that.
        if isinstance(item, Message) or item.fin:
            self._stalled = False

    def _prepare_fragments(self) -> None:
        """Make the next message available fragment by fragment."""
        if not self._queue:
            if not self._fragments_asked:
                self._fragments_asked = True
                self._core.begin_streaming()
            return
        first = self._queue[0]
        if isinstance(first, Message) and first.ends:
            self._queue.popleft()
            bounds = [0, *first.ends, len(first.data)]
            for index in range(len(bounds) - 2, -1, -1):
                piece = first.data[bounds[index] : bounds[index + 1]]
                self._queue.appendleft(Fragment(piece, payload_size(piece), index == len(bounds) - 2))
            self._fragments_asked = True

    def _pop(self, mode: Mode) -> Item | None:
        while self._queue:
            item = self._queue.popleft()
            self._queued_bytes -= item.size
            if isinstance(item, Message):
                return item
            if mode is Mode.FRAGMENT or self.streaming:
                self.streaming = not item.fin
                if item.fin:
                    self._fragments_asked = False
                if mode is Mode.FRAGMENT:
                    return item
                # The rest of a message whose iterator was abandoned half-way is of no use to anyone.
                continue
            # A recv_streaming() was given up before its first fragment: the message is still owed as a whole.
            joined = self._join(item)
            if isinstance(joined, Message):
                self._fragments_asked = False
                return joined
            self._queued_bytes += joined.size
            self._queue.appendleft(joined)
            self._stalled = True
            return None
        return None

    def _join(self, item: Fragment) -> Item:
        """Join a fragment with those behind it in the queue: to a message if its last one is there."""
        pieces = [item.data]
        size = item.size
        while not item.fin and self._queue:
            following = self._queue.popleft()
            assert isinstance(following, Fragment)  # a message's fragments are not interrupted (RFC 6455 §5.4)
            item = following
            self._queued_bytes -= item.size
            size += item.size
            pieces.append(item.data)
        data = item.data[:0].join(pieces)  # type: ignore[arg-type]  # all str or all bytes
        return Message(data, size, ()) if item.fin else Fragment(data, size, False)

    # ---- turns

    def _run_turn(self) -> None:
        """Wake the waiting task in place as long as there is something for it, then let all that was written leave."""
        if self._turn is _Turn.RUNNING:
            # The handler fed its own connection; the turn that is on the stack goes on with it.
            return
        self._turn = _Turn.RUNNING
        self._turn_left = TURN_MESSAGES
        self._sends_left = SENDS_A_TURN
        owner = batch.open_batch()
        try:
            self._wake_while_due()
        finally:
            if owner:
                batch.end()

    def _wake_while_due(self) -> None:
        ran = True
        try:
            while ran and self._turn_left and self._wake_due() and self.waiter is not None:
                ran = self.waiter.wake()
        finally:
            # A task that wakes in the next turn of the loop has its say before a Close that is pending.
            self._turn = _Turn.IDLE if ran else _Turn.DEFERRED
            if not ran or self._wake_due():
                # This turn's share is used up: what was written leaves, what waits comes in the next turn of the loop.
                self._schedule_turn()
                self._flush(before_close=True)
                self._adjust_reading()
            else:
                self._settle()

    def _wake_due(self) -> bool:
        return self.waiter is not None and self.waiter.is_wakeable() and (self._due or self.ended)

    @property
    def _due(self) -> bool:
        return bool(self._queue) and not self._stalled

    def _schedule_turn(self) -> None:
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self.loop.call_soon(self.run_scheduled_turn)

    # ---- output

    def _send_now(self, data: object) -> bool:
        """Send exactly str or bytes with nothing in the way; tell whether it was sent."""
        if self.write_paused or self.send_queued or self.transport is None or self._core.close_sent is not None:
            return False
        kind = type(data)
        try:
            if kind is str:
                self._core.send_text(data)  # type: ignore[arg-type]
            elif kind is bytes:
                self._core.send_binary(data)  # type: ignore[arg-type]
            else:
                return False
        except (UnicodeEncodeError, ConnectionError):
            return False
        self._count_sent(data, True)
        return True

    def send_broadcast(self, broadcast: Broadcast) -> bool:
        """Send a whole message that goes to others as well; tell whether it was sent.

        It was not where ``send`` would raise or wait. It leaves as what ``send`` sends does; what is raised is the
        transport's.
        """
        if not self._takes_message():
            return False
        core = self._core
        size = len(broadcast.payload)
        encoding = core.encoding(size, broadcast.compress)
        if encoding is not None:
            frame = broadcast.frame(encoding)
            # A large frame is not copied behind what waits: that leaves first, and the transport may pause at it.
            if len(frame) >= UNCOPIED and core.pending_output():
                self._flush(before_close=True)
                if not self._takes_message():
                    return False
            core.send_encoded(frame)
        elif isinstance(broadcast.data, str):
            core.send_text(broadcast.data, True, broadcast.compress)
        else:
            core.send_binary(broadcast.data, True, broadcast.compress)
        self.messages_sent += 1
        self.bytes_sent += size
        self._leave_or_wait()
        return True

    def _takes_message(self) -> bool:
        """Tell whether ``send`` would send a whole message at once."""
        blocked = self.write_paused or self.send_queued or self.transport is None
        return not blocked and self._core.takes_message()

    def _count_sent(self, data: Any, fin: bool) -> None:
        self.messages_sent += fin
        self.bytes_sent += payload_size(data)

    def _leave_or_wait(self) -> None:
        """Outside a turn, what was written leaves now; inside, at the turn's end or when it grows large."""
        if self._turn is _Turn.IDLE and not self._batched:
            if not batch.add(self):
                self._settle()
                return
            self._batched = True
        if self._core.pending_output() > CORK_LIMIT:
            self._flush(before_close=True)

    def leave_batch(self) -> None:
        """Let what was written leave; the batch ends that this stream is in."""
        self._batched = False
        self._sends_left = SENDS_A_TURN
        if self._turn is _Turn.IDLE:
            self._settle()
        else:
            self._flush(before_close=True)

    def _settle(self) -> None:
        """Let everything leave, a pending Close last, then tell the subclass what changed."""
        self._flush(before_close=False)
        self._adjust_reading()
        core = self._core
        now = (core.state, core.close_received is not None, core.failure is not None)
        if now != self._reported:
            self._reported = now
            self._state_changed()

    def _flush(self, *, before_close: bool) -> None:
        output = self._core.take_output_before_close() if before_close else self._core.data_to_send()
        if output and self.transport is not None:
            self.transport.write(output)

    def _adjust_reading(self) -> None:
        """Stop reading while more waits than the limits allow, go on once half of it is gone."""
        if self.transport is None:
            return
        count, size = len(self._queue), self._queued_bytes
        # The beginning of a message that is owed whole is of no use without its end, however long.
        full = not self._stalled and (count >= self._max_queue or size >= self._max_queued_bytes)
        low = self._stalled or (count <= self._max_queue // 2 and size <= self._max_queued_bytes // 2)
        wanted = self.ended or self._core.close_sent is not None  # to see the peer's Close, and its FIN after that
        pause = (self._frames_paused or full or (self.read_paused and not low)) and not wanted
        pause = pause or self._discarded >= DISCARDED
        if self._held:
            if self.ended:
                self._held = b""
            else:
                # What was read already comes before what the transport has.
                if not pause and not self._held_scheduled:
                    self._held_scheduled = True
                    self.loop.call_soon(self.receive_held)
                pause = True
        if pause != self.read_paused:
            self.read_paused = pause
            self._core.set_reading(not pause)
            if pause:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()
