"""Patience: everything that a test waits for has a limit, and a name."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from ..client.connection import ClientWebsocket

__all__ = ["PatientWebsocket", "within"]


@contextlib.asynccontextmanager
async def within(timeout: float | None, what: str) -> AsyncIterator[None]:
    """Raise TimeoutError, which says what was waited for, after ``timeout`` seconds."""
    try:
        async with asyncio.timeout(timeout) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise TimeoutError(f"{what} took more than {timeout} seconds") from None


class PatientWebsocket(ClientWebsocket):
    """A websocket that is received from with a timeout, unless the caller says otherwise."""

    __slots__ = ("_patience", "_url")

    def __init__(self, *args: Any, patience: float | None, url: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self._patience = patience
        self._url = url

    def recv(self, timeout: float | None = None) -> Coroutine[Any, Any, str | bytes]:
        """Return the next message; ``timeout`` replaces the client's."""
        return self._recv_within(self._patience if timeout is None else timeout)

    async def _recv_within(self, timeout: float | None) -> str | bytes:
        async with within(timeout, f"a message on {self._url}"):
            return await super().recv()

    def __anext__(self) -> Coroutine[Any, Any, str | bytes]:
        return self._next()

    async def _next(self) -> str | bytes:
        async with within(self._patience, f"a message on {self._url}"):
            return await super().__anext__()
