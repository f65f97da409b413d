"""The batch: what is sent on other connections while one connection's turn runs leaves at that turn's end.

A handler that passes a message on to many peers, or many messages to one, costs each of them one write a turn. The
turn that is outermost on the stack has the batch; there is one a thread, as there is one event loop. The twin of
``batch.rs``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .stream import MessageStream

__all__ = ["add", "end", "guarded", "open_batch"]


class _Thread(threading.local):
    #: The streams that something was sent on, in the order in which that began; None outside of a turn.
    streams: list[MessageStream] | None = None


_thread = _Thread()


def open_batch() -> bool:
    """Open a batch; False where a turn that is on the stack has one."""
    if _thread.streams is not None:
        return False
    _thread.streams = []
    return True


def add(stream: MessageStream) -> bool:
    """Add a stream to the open batch, and tell whether there is one."""
    if _thread.streams is None:
        return False
    _thread.streams.append(stream)
    return True


def end() -> None:
    """End the batch: let what was sent on its streams leave.

    What one of them raises is reported to its event loop and keeps nothing from the others; an exit or an interrupt is
    raised after the last.
    """
    # From here on, what is sent leaves at once.
    streams, _thread.streams = _thread.streams, None
    raised: BaseException | None = None
    for stream in streams or ():
        raised = guarded(stream, stream.leave_batch) or raised
    if raised is not None:
        raise raised


def guarded(stream: MessageStream, work: Callable[[], object]) -> BaseException | None:
    """Do what concerns one stream of many: report an exception to its event loop, return an exit or an interrupt."""
    try:
        work()
    except Exception as error:
        message = "what was sent on a websocket could not be written"
        stream.loop.call_exception_handler({"message": message, "exception": error, "websocket": stream})
    except BaseException as error:
        return error
    return None
