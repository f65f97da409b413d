"""``WebsocketFrameAssembler``: frames in, messages out, one at a time."""

from __future__ import annotations

import asyncio
import codecs
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final

from ...events import Fragment, Message
from ...exceptions import ServerError

__all__ = ["WebsocketFrameAssembler"]

_CONTINUATION: Final = 0x0
_TEXT: Final = 0x1
_CONTROL: Final = 0x8


class WebsocketFrameAssembler:
    """Assemble a message from frames.

    For code that parses frames by itself: one task puts them in, another takes messages out. ``protocol`` has
    ``pause_frames`` and ``resume_frames``, which hold the frames back that would follow a message that nobody has
    fetched yet. A server's own connections have this in their codec.
    """

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.paused = False
        """Whether ``protocol`` was told to pause."""
        self._pieces: deque[tuple[str | bytes, bool]] = deque()
        self._arrived = asyncio.Event()
        self._fetched = asyncio.Event()
        self._putting = asyncio.Lock()
        # What runs of `get` and `get_iter`: its name.
        self._getting = ""
        self._text = False
        self._under_way = False
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    async def get(self, timeout: float | None = None) -> str | bytes | None:
        """Read the next message: ``str`` for text, ``bytes`` for binary, its fragments joined.

        None after ``timeout`` seconds, at once for 0; nothing is lost then. ServerError while another task reads.
        """
        self._begin("get()")
        try:
            async with asyncio.timeout(timeout):
                while not (self._pieces and self._pieces[-1][1]):
                    self._arrived.clear()
                    await self._arrived.wait()
            pieces = [data for data, _ in self._pieces]
            self._pieces.clear()
            self._finish()
            return pieces[0][:0].join(pieces)  # type: ignore[arg-type]  # all str or all bytes
        except TimeoutError:
            return None
        finally:
            self._getting = ""

    async def get_iter(self) -> AsyncIterator[str | bytes]:
        """Stream the next message: ``str`` or ``bytes`` for each of its frames, as they come.

        Iterate to its end, or the next message begins with the rest. ServerError while another task reads.
        """
        self._begin("get_iter()")
        try:
            fin = False
            while not fin:
                while not self._pieces:
                    self._arrived.clear()
                    await self._arrived.wait()
                data, fin = self._pieces.popleft()
                if fin:
                    self._finish()
                yield data
        finally:
            self._getting = ""

    async def put(self, frame: Any) -> None:
        """Add a frame to the next message; if it is the message's last, wait until the message is fetched.

        A frame has ``opcode``, ``data`` and ``fin``, as those of the package websockets have; a ``Fragment`` or a
        ``Message`` of :mod:`ferrows.events` will do too. Control frames are passed over. UnicodeDecodeError for text
        that is none, ServerError for a frame that is out of order (RFC 6455 §5.4).
        """
        async with self._putting:
            piece = self._piece(frame)
            if piece is None:
                return
            self._fetched.clear()
            self._pieces.append(piece)
            self._arrived.set()
            if piece[1]:
                if not self.paused:
                    self.paused = True
                    self.protocol.pause_frames()
                await self._fetched.wait()

    def _piece(self, frame: Any) -> tuple[str | bytes, bool] | None:
        if isinstance(frame, Message):
            return frame.data, True
        if isinstance(frame, Fragment):
            return frame.data, frame.fin
        if frame.opcode & _CONTROL:
            return None
        if (frame.opcode == _CONTINUATION) is not self._under_way:
            raise ServerError("frame begins a message within another, or continues none")
        if not self._under_way:
            self._text = frame.opcode == _TEXT
            self._decoder.reset()
        self._under_way = not frame.fin
        data = bytes(frame.data)
        return (self._decoder.decode(data, bool(frame.fin)) if self._text else data), bool(frame.fin)

    def _begin(self, name: str) -> None:
        if self._getting:
            raise ServerError(f"{name} of a frame assembler while {self._getting} is under way")
        self._getting = name

    def _finish(self) -> None:
        """The message is fetched: its last `put` goes on."""
        self._fetched.set()
        if self.paused:
            self.paused = False
            self.protocol.resume_frames()
