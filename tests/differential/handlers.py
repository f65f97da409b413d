"""A handler of a ``Websocket`` that does what its script says and writes down what it sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from ferrows.exceptions import ServerError, WebsocketClosed
from ferrows.websocket import Websocket

from .sessions import Script

__all__ = ["Crash", "Handler", "Log"]


class Crash(Exception):
    """What a handler raises that is to raise something."""


class _Leave(Exception):
    """The handler returns."""


class Log:
    """What all who have to do with one websocket see, in the order in which they do, and the messages among that."""

    def __init__(self) -> None:
        self.entries: list[Any] = []
        self.messages: list[str | bytes] = []
        #: What is wrong without any comparison.
        self.faults: list[str] = []

    def note(self, *entry: Any) -> None:
        self.entries.append(entry)

    def fault(self, what: str) -> None:
        self.faults.append(what)
        self.note("fault", what)


class Handler:
    """One handler; its methods are the actions of a script."""

    def __init__(self, ws: Websocket, log: Log, number: int, script: Script) -> None:
        self._ws = ws
        self._log = log
        self._number = number
        self._script = script

    async def run(self) -> None:
        try:
            for name, *arguments in [*self._script.actions, ("take_the_rest",)]:
                await self._act(name, arguments)
        except _Leave:
            self._note("leaves")

    async def _act(self, name: str, arguments: list[Any]) -> None:
        try:
            await getattr(self, name)(*arguments)
        except (TimeoutError, ValueError) as error:
            self._note(name, repr(error))
        except ServerError as error:
            self._note(name, str(error))
            await asyncio.sleep(0.01)
        except WebsocketClosed as error:
            self._note(name, type(error).__name__, error.code, error.reason)
            if not self._script.survives_closure:
                raise _Leave from None
            await asyncio.sleep(0.05)
        except asyncio.CancelledError as error:
            self._note(name, "cancelled", error.args)
            if not self._script.survives_cancellation:
                raise

    def _note(self, *entry: Any) -> None:
        self._log.note(f"handler {self._number}", *entry)

    def _take(self, how: str, message: str | bytes) -> None:
        self._log.messages.append(message)
        self._note(how, message)

    # ---- the actions

    async def receive(self) -> None:
        self._take("receive", await self._ws.recv())

    async def receive_within(self, timeout: float) -> None:
        self._take("receive_within", await self._ws.recv(timeout=timeout))

    async def wait_for_message(self, timeout: float) -> None:
        # The message is noted in the task that takes it, where wait_for makes one.
        await asyncio.wait_for(self.receive(), timeout)

    async def iterate(self, count: int, answer_every: int) -> None:
        """Take ``count`` messages and send every so manieth back; 0 answers none."""
        taken = 0
        async for message in self._ws:
            self._take("iterate", message)
            taken += 1
            if answer_every and taken % answer_every == 0:
                await self._ws.send(message)
            if taken == count:
                return
        self._note("iterated to the end")
        raise _Leave

    async def take_the_rest(self) -> None:
        while True:
            try:
                async for message in self._ws:
                    self._take("take_the_rest", message)
                return
            except ServerError:
                # Another handler is at it.
                await asyncio.sleep(0.1)

    async def burst(self, limit: int) -> None:
        messages = await self._ws.recv_burst(limit)
        self._log.messages += messages
        self._note("burst", *messages)

    async def stream(self, count: int, timeout: float, pause: float) -> None:
        """Take at most ``count`` fragments of a message."""
        taken = 0
        async with asyncio.timeout(timeout):
            async for fragment in self._ws.recv_streaming():
                self._note("stream", fragment)
                taken += 1
                if taken == count:
                    return
                if pause:
                    await asyncio.sleep(pause)
        self._note("streamed to the end")

    async def send(self, data: str | bytes) -> None:
        await self._ws.send(data)
        self._note("sent")

    async def send_fragments(self, fragments: list[str], pause: float | None) -> None:
        """Send one message in fragments: without a pause from a list, else from an async iterator."""
        await self._ws.send(fragments if pause is None else _slowly(fragments, pause))
        self._note("sent fragments")

    async def send_json(self, data: Any) -> None:
        await self._ws.send(data, encoding="json")

    async def ping(self, payload: str) -> None:
        await self._ws.ping(payload)
        self._note("pinged")

    async def pong(self) -> None:
        await self._ws.pong(b"p")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._note("slept")

    async def end(self, code: int) -> None:
        self._ws.end_connection(code)

    async def close(self, code: int) -> None:
        await self._ws.close(code, "closed")
        self._note("closed")

    async def leave(self) -> None:
        raise _Leave

    async def crash(self) -> None:
        raise Crash


async def _slowly(fragments: list[str], pause: float) -> AsyncIterator[str]:
    for fragment in fragments:
        await asyncio.sleep(pause)
        yield fragment
