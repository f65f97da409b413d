"""The Rust extension: RFC 6455 framing, RFC 7692 compression, the hot half of a ``Websocket``, and HTTP heads.

``ferrows._pycore`` is its twin in pure Python with the same interface.
"""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Generator, Iterable
from contextvars import Context
from typing import Any, Final, Literal, NoReturn, Protocol, Self, TypeAlias, TypeVar, final, overload

from typing_extensions import disjoint_base

from .events import Event

__all__ = [
    "CLOSED",
    "CLOSING",
    "OPEN",
    "Connection",
    "Head",
    "HeadReader",
    "MessageStream",
    "Receive",
    "Sent",
    "apply_mask",
    "broadcast",
]

_Buffer: TypeAlias = bytes | bytearray | memoryview
_Sendable: TypeAlias = (
    str
    | _Buffer
    | Iterable[str]
    | Iterable[_Buffer]
    | AsyncIterable[str]
    | AsyncIterable[_Buffer]
    | AsyncIterable[str | bytes]
)

class _Deflate(Protocol):
    # What a connection needs to know of a negotiated permessage-deflate (RFC 7692 §7.1).
    @property
    def server_no_context_takeover(self) -> bool: ...
    @property
    def client_no_context_takeover(self) -> bool: ...
    @property
    def server_max_window_bits(self) -> int: ...
    @property
    def client_max_window_bits(self) -> int: ...
    @property
    def level(self) -> int: ...
    @property
    def mem_level(self) -> int: ...
    @property
    def threshold(self) -> int: ...

_Rate: TypeAlias = tuple[float, float]
# Messages, bytes and pings: how many a second, and at once; fragments of a message. ``ferrows.limits.InboundLimits``.
_Limits: TypeAlias = tuple[_Rate | None, _Rate | None, _Rate | None, int | None]

OPEN: Final[int]
CLOSING: Final[int]
CLOSED: Final[int]

def apply_mask(data: _Buffer, mask: _Buffer) -> bytes:
    """Apply the four-byte masking key to ``data`` (RFC 6455 §5.3); the same call unmasks.

    ValueError for a key that has not four bytes.
    """

_Stream = TypeVar("_Stream", bound=MessageStream)

def broadcast(websockets: Iterable[_Stream], data: str | _Buffer, *, compress: bool | None = None) -> list[_Stream]:
    """Send one message to many websockets at once, and return those that it was not sent to.

    ``data`` is ``str`` or bytes-like; it is encoded once for all that agreed on the same. Never suspends. Left out, and
    returned in their order, are those on which ``send`` would raise or wait: closing or closed, not reading, or with
    other senders or a fragmented message before it. What the transport of one raises goes to the event loop's exception
    handler. TypeError, with nothing sent, for other data, and for what is no websocket.
    """

@final
class Connection:
    """A sans-I/O WebSocket connection after its opening handshake (RFC 6455 §5-§7, RFC 7692).

    Bytes go in by ``receive_data``, what they mean comes out of ``events``, what must be sent out of ``data_to_send``.
    ``max_size`` is the largest message in bytes, after inflating; None for no limit. ``deflate`` is what the handshake
    agreed on, with the attributes of ``ferrows.extensions.DeflateParameters``.

    What the peer sends beyond ``limits`` fails the connection with 1008.

    What the peer does wrong never raises: it is a ``Failure`` event, and a Close with the right code in the output.
    What the caller does wrong is a ValueError, or ``WebsocketClosed`` once a Close is out.
    """

    def __new__(
        cls,
        *,
        client: bool = False,
        max_size: int | None = 1048576,
        deflate: _Deflate | None = None,
        limits: _Limits | None = None,
    ) -> Self: ...
    def receive_data(self, data: _Buffer, now: float = 0.0) -> None:
        """Parse what arrived; bytes after a Close or a failure are ignored.

        ``now`` is the time in seconds, by any clock that only goes forward, for the limits of rates.
        """
    def receive_eof(self) -> None:
        """Take note that nothing more will arrive; without a Close the connection ended abnormally (1006)."""
    def events(self) -> list[Event]:
        """Return the events since the last call, in order of arrival."""
    def stream_next(self) -> None:
        """Hand the message under assembly, or else the next one, over as ``Fragment`` events."""
    def send_text(self, data: str, fin: bool = True, compress: bool | None = None) -> None:
        """Send a text message, or one fragment of it; after ``fin=False`` the next call continues it."""
    def send_binary(self, data: _Buffer, fin: bool = True, compress: bool | None = None) -> None:
        """Send a binary message, or one fragment of it; after ``fin=False`` the next call continues it."""
    def send_ping(self, data: _Buffer | None = None) -> None:
        """Send a Ping of at most 125 bytes."""
    def send_pong(self, data: _Buffer | None = None) -> None:
        """Send a Pong of at most 125 bytes."""
    def send_close(self, code: int | None = 1000, reason: str = "") -> None:
        """Send a Close; a second one is not sent. None for a Close without a body."""
    def fail(self, code: int, reason: str = "") -> None:
        """Fail the connection as if the peer had broken a rule (§7.1.7)."""
    def hold_pongs(self, hold: bool) -> None:
        """Answer only the latest Ping, once this is called with False; for a peer that does not read."""
    def data_to_send(self) -> bytes:
        """Return and forget the output; a pending Close is encoded now, behind all that was sent meanwhile."""
    @property
    def state(self) -> int: ...
    @property
    def close_sent(self) -> tuple[int, str] | None: ...
    @property
    def close_received(self) -> tuple[int, str] | None: ...
    @property
    def failure(self) -> tuple[int, str] | None: ...

@final
class HeadReader:
    """Collects the head of one request and refuses what does not follow the grammar (RFC 9110, RFC 9112).

    ``target`` and ``header_size`` are the most bytes of the request target and of the header section, ``headers`` is
    the most header lines.
    """

    def __new__(cls, target: int, header_size: int, headers: int) -> Self: ...
    def receive_data(self, data: bytes) -> tuple[Head, bytes] | None:
        """Return the head and the bytes after it, or None while it is not whole.

        Raises an ``HTTPException`` as soon as the head cannot become a valid one by its octets or its size. The reader
        is not to be used after either.
        """
    def beginning(self, size: int) -> bytes:
        """Return at most ``size`` bytes from the beginning of a head that is not whole or was refused; for the log."""
    @property
    def started(self) -> bool: ...

@final
class Head:
    """A head that follows the grammar, with what it says about the connection and about its body."""

    @property
    def method(self) -> str: ...
    @property
    def target(self) -> bytes: ...
    @property
    def version(self) -> str:
        """``1.0`` or ``1.1``."""
    @property
    def content_length(self) -> int: ...
    @property
    def chunked(self) -> bool: ...
    @property
    def keep_alive(self) -> bool: ...
    @property
    def expect_continue(self) -> bool: ...
    @property
    def websocket(self) -> bool: ...
    @property
    def has_body(self) -> bool: ...
    @property
    def raw(self) -> bytes:
        """The head's own bytes, with the empty line."""
    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Names and values in order; a new list each time."""
    def getall(self, name: str) -> list[str]:
        """Return the values of a header, whose name is given in lower case, in order.

        They are UTF-8, with what is not kept as surrogates.
        """

    def select(self, names: tuple[str, ...]) -> list[list[str]]:
        """Return what :meth:`getall` does for each of the names."""

@final
class Receive:
    """The awaitable of the next message: a coroutine that, while suspended, is also the future that it yields.

    It takes the message when it is resumed, not when it is woken: a cancellation in between loses nothing.
    """

    def __await__(self) -> Generator[Any, None, Any]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def send(self, value: object, /) -> Any: ...
    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any: ...
    def close(self) -> None: ...
    @property
    def __name__(self) -> str: ...
    _asyncio_future_blocking: bool | None
    def get_loop(self) -> asyncio.AbstractEventLoop: ...
    def add_done_callback(
        self, callback: Callable[[Receive], object], /, *, context: Context | None = None
    ) -> None: ...
    def remove_done_callback(self, callback: object, /) -> int: ...
    def cancel(self, msg: object = None) -> bool: ...
    def result(self) -> None: ...
    def done(self) -> bool: ...
    def cancelled(self) -> bool: ...

@final
class Sent:
    """The awaitable of a ``send()`` that is done already: awaiting it never suspends."""

    def __await__(self) -> Generator[Any]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> NoReturn: ...
    def send(self, value: object, /) -> NoReturn: ...
    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> NoReturn: ...
    def close(self) -> None: ...
    @property
    def __name__(self) -> str: ...

@disjoint_base
class MessageStream:
    """The hot half of a ``Websocket``: a connection, the queue of what arrived, the task that waits for it, the cork.

    A *turn* is one run over what has arrived: ``receive_data`` wakes the waiting task in place, it works messages off
    until it waits for something else or the turn's share is used up, and what it sent leaves as one write.
    ``max_queue`` messages or ``max_size`` bytes that wait pause the transport's reading.

    The subclass provides the methods that are marked as its own.
    """

    send_queued: bool
    """Senders wait, for their turn or for the end of a fragmented message: a new one has to queue up behind them."""

    def __new__(
        cls,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport | None,
        *,
        max_size: int | None = 1048576,
        max_queue: int | None = 32,
        deflate: _Deflate | None = None,
        limits: _Limits | None = None,
        client: bool = False,
        **_options: object,
    ) -> Self: ...

    # From the transport.
    def receive_data(self, data: _Buffer) -> None:
        """Parse what arrived and run a turn. The transport's ``data_received``."""
    def receive_eof(self) -> None:
        """Take note that the peer sends no more."""
    def lose_transport(self) -> None:
        """Take note that the transport is gone."""
    def pause_writing(self) -> None:
        """Take note that the peer does not read."""
    def resume_writing(self) -> None:
        """Take note that the peer reads again."""

    # For the handler; ``ferrows.Websocket`` documents them.
    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Awaitable[str | bytes]: ...
    def recv(self, timeout: float | None = None) -> Coroutine[Any, Any, str | bytes]: ...
    def recv_event(self) -> Coroutine[Any, Any, dict[str, Any]]:
        """Wait for the next message as ASGI's ``websocket.receive``; at the end it is what ``_end_event`` returns."""
    def recv_fragment(self) -> Coroutine[Any, Any, tuple[str | bytes, bool]]:
        """Wait for one fragment of the next message and tell whether it is the last."""
    def take_messages(self, limit: int) -> list[str | bytes]:
        """Return up to ``limit`` whole messages that have arrived."""
    @overload
    def send(
        self, data: Any, encoding: Literal["json"], *, compress: bool | None = None
    ) -> Coroutine[Any, Any, None]: ...
    @overload
    def send(
        self, data: _Sendable, encoding: str | None = None, *, compress: bool | None = None
    ) -> Coroutine[Any, Any, None]: ...

    # For the subclass.
    def send_data(self, data: str | _Buffer, fin: bool = True, compress: bool | None = None) -> None:
        """Send a whole message or a fragment of one, whether the transport is paused or not."""
    def send_ping(self, data: _Buffer) -> None: ...
    def send_pong(self, data: _Buffer) -> None: ...
    def send_close(self, code: int | None = 1000, reason: str = "") -> None: ...
    def fail(self, code: int, reason: str = "") -> None: ...
    def hold_frames(self, hold: bool) -> None:
        """Stop or go on reading on the handler's own wish."""
    def take_heard(self) -> bool:
        """Tell whether anything has arrived since the last call."""
    def receive_held(self) -> None:
        """Parse what was read before there was room for what it becomes; for the event loop."""
    def run_scheduled_turn(self) -> None:
        """Run a turn over what is left; for the event loop."""
    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def transport(self) -> asyncio.Transport | None: ...
    @property
    def state(self) -> int: ...
    @property
    def close_sent(self) -> tuple[int, str] | None: ...
    @property
    def close_received(self) -> tuple[int, str] | None: ...
    @property
    def failure(self) -> tuple[int, str] | None: ...
    @property
    def excess(self) -> str | None:
        """Which of the limits the peer went beyond, if the connection failed for that."""
    @property
    def write_paused(self) -> bool: ...
    @property
    def read_paused(self) -> bool: ...
    @property
    def waited_for(self) -> bool:
        """Whether a task waits for a message."""
    @property
    def ended(self) -> bool:
        """Whether nothing more will arrive; what waits can still be taken."""
    @property
    def queued(self) -> int:
        """Messages and fragments that wait for the handler."""
    @property
    def streaming(self) -> bool:
        """Whether ``recv_fragment`` has taken the first fragment of a message but not its last."""
    @property
    def messages_received(self) -> int: ...
    @property
    def bytes_received(self) -> int: ...
    @property
    def messages_sent(self) -> int: ...
    @property
    def bytes_sent(self) -> int: ...
