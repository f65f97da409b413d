"""When no file descriptor is left for a connection: it is cut off, as libuv does, and the server goes on."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import time
from typing import Any, Final

__all__ = ["keep_a_spare"]

logger = logging.getLogger("ferrows.error")

_CUT_OFF: Final = 100
"""Connections that are cut off in one turn of the loop, at most."""

_QUIET: Final = 1.0
"""Seconds between two lines of the log, or two tries without a spare descriptor."""

_USED_UP: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_ITS_OWN: Final = frozenset(
    getattr(errno, name)
    for name in (
        *("EPROTO", "ENOPROTOOPT", "EHOSTDOWN", "ENONET", "EHOSTUNREACH"),
        *("EOPNOTSUPP", "ENETUNREACH", "ENETDOWN", "EPERM"),
    )
    if hasattr(errno, name)
)
"""What Linux says of a connection that has failed before it was accepted; accept(2) wants them to be tried again."""


def keep_a_spare(server: asyncio.AbstractServer) -> None:
    """Let a server of asyncio's own loop cut connections off while the process has no descriptor for them.

    asyncio logs a traceback for each, a hundred at once on Python 3.11, and accepts nothing for a second. libuv, and so
    uvloop, keeps a descriptor in reserve, with which the connection is accepted and closed. This is the same, on the
    socket's own ``accept``.
    """
    if os.name != "posix":
        return
    _SPARE.open()
    for each in getattr(server, "sockets", None) or ():
        sock = getattr(each, "_sock", None)  # Behind the TransportSocket is what the loop accepts on.
        if type(sock) is socket.socket:
            sock.__class__ = _Listening


class _Spare:
    """The descriptor in reserve, one for a process."""

    __slots__ = ("cut_off", "descriptor", "failed", "logged", "raised")

    def __init__(self) -> None:
        self.descriptor: int | None = None
        self.cut_off = self.failed = 0
        self.logged = self.raised = -_QUIET

    def open(self) -> None:
        if self.descriptor is None:
            try:
                self.descriptor = os.open(os.devnull, os.O_RDONLY)
            except OSError:
                return  # Tried again when it is needed.

    def close(self) -> bool:
        """Free the descriptor; whether there was one."""
        self.open()
        descriptor, self.descriptor = self.descriptor, None
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is not None

    def log(self, error: OSError) -> None:
        now = time.monotonic()
        if now - self.logged >= _QUIET:
            logger.warning("%s: %d connections were cut off when they came", error.strerror, self.cut_off)
            self.logged, self.cut_off = now, 0

    def log_failed(self, error: OSError) -> None:
        self.failed += 1
        now = time.monotonic()
        if now - self.logged >= _QUIET:
            logger.warning("%s: %d connections failed before they were accepted", error.strerror, self.failed)
            self.logged, self.failed = now, 0


_SPARE: Final = _Spare()


class _Listening(socket.socket):
    """A listening socket whose ``accept`` says that nobody waits when there is no descriptor for who does."""

    __slots__ = ()

    def accept(self) -> tuple[socket.socket, Any]:
        try:
            return super().accept()
        except OSError as error:
            if error.errno in _ITS_OWN:
                _SPARE.log_failed(error)
                raise BlockingIOError from None
            if error.errno not in _USED_UP:
                raise
            if error.errno in (errno.EMFILE, errno.ENFILE) and self._cut_off():
                _SPARE.log(error)
            elif (now := time.monotonic()) - _SPARE.raised >= _QUIET:
                # asyncio logs it and pauses. On Python 3.11 it would go on to accept, so that it is raised once.
                _SPARE.raised = now
                raise
            raise BlockingIOError from None

    def _cut_off(self) -> bool:
        """Accept and close; False where another thread was faster to take the spare descriptor."""
        for _ in range(_CUT_OFF):
            if not _SPARE.close():
                return False
            try:
                descriptor, _ = self._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return True
            except OSError:
                return False
            else:
                os.close(descriptor)
                _SPARE.cut_off += 1
            finally:
                _SPARE.open()
        return True
