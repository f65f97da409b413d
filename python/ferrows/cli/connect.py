"""``ferrows connect``: talk to a WebSocket server from a terminal or a script."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO, Any, Final

from ..client import ClientWebsocket, connect
from ..client.url import without_password
from ..exceptions import HandshakeError, WebsocketClosed

__all__ = ["add_parser", "run"]

OPEN_TIMEOUT: Final = 10.0
MAX_SIZE: Final = 64 * 2**20
"""Bytes of a message: more than anybody reads, and a server cannot have us inflate its kilobytes to gigabytes."""

QUIET_TIMEOUT: Final = 2.0

_FINE, _UNCLEAN, _NOT_CONNECTED = 0, 1, 3

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

_SIGNALLED: Final = 128
"""What shells add to the number of the signal that has ended a command."""

_GOING_AWAY: Final = 1001

_HELP: Final = """\
a line is sent as a text message; //x sends /x
/ping [data]           send a ping and wait for its pong
/pong [data]           send a pong that nobody asked for
/binary HEX | @file    send a binary message
/close [code [reason]] close the connection
/help                  show this"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the command ``connect`` and its options."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "connect",
        help="talk to a WebSocket server",
        description="Connect to a WebSocket server: lines of the standard input are sent, messages are printed.",
        epilog="Without --receive it ends when the server closes, or when nothing has arrived for a while after the "
        "input has ended. Exit codes: 0 fine, 1 an unclean close or messages missing, 3 no connection, 130 and 143 for "
        "SIGINT and SIGTERM.",
        allow_abbrev=False,
    )
    parser.add_argument("url", metavar="URL", help="ws://, wss://, http:// or https://; user:password@ is sent as well")
    parser.add_argument(
        "--header", "-H", action="append", default=[], type=_header, metavar="'NAME: VALUE'", help="send a header too"
    )
    parser.add_argument(
        "--subprotocol", "-s", action="append", default=[], metavar="NAME", help="offer a subprotocol; repeatable"
    )
    parser.add_argument("--origin", metavar="ORIGIN", help="send an Origin header")
    parser.add_argument("--insecure", "-k", action="store_true", help="do not verify the server's certificate")
    parser.add_argument("--ca", metavar="FILE", help="certificates to verify the server with, in place of the system's")
    parser.add_argument("--unix", metavar="PATH", help="connect by a Unix socket; the URL says what to ask for")
    parser.add_argument("--no-compression", action="store_true", help="do not offer permessage-deflate")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help=f"to open the connection ({OPEN_TIMEOUT:.0f}), and to wait for a message ({QUIET_TIMEOUT:.0f}, with "
        f"--receive {OPEN_TIMEOUT:.0f})",
    )
    parser.add_argument(
        "--send", action="append", metavar="TEXT", help="send this in place of the standard input; repeatable"
    )
    parser.add_argument("--receive", "-n", type=_count, metavar="N", help="end after this many messages")
    parser.add_argument("--json", action="store_true", help="print each message and the end as an object on a line")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Talk to the server until it is over, and return the exit code."""
    try:
        return asyncio.run(_until_signal(arguments))
    except KeyboardInterrupt:
        return _SIGNALLED + signal.SIGINT
    except BrokenPipeError:
        # Whoever reads, such as `head`, has enough. At its exit Python would write what is left.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FINE


async def _until_signal(arguments: argparse.Namespace) -> int:
    """Talk to the server; a signal has the connection closed, and a second one does what signals do."""
    loop = asyncio.get_running_loop()
    talking = loop.create_task(_connect(arguments))
    received: list[signal.Signals] = []

    def leave(number: signal.Signals) -> None:
        received.append(number)
        for each in _SIGNALS:
            loop.remove_signal_handler(each)
        talking.cancel()

    with contextlib.suppress(NotImplementedError):  # Windows
        for number in _SIGNALS:
            loop.add_signal_handler(number, leave, number)
    try:
        return await talking
    except asyncio.CancelledError:
        if not received:
            raise
        return _SIGNALLED + received[0]


async def _connect(arguments: argparse.Namespace) -> int:
    timeout = OPEN_TIMEOUT if arguments.timeout is None else arguments.timeout
    try:
        ws = await connect(
            arguments.url,
            headers=arguments.header,
            subprotocols=arguments.subprotocol,
            origin=arguments.origin,
            ssl=_context(arguments),
            compression=None if arguments.no_compression else "deflate",
            max_size=MAX_SIZE,
            open_timeout=timeout,
            close_timeout=timeout,
            unix=arguments.unix,
        )
    except HandshakeError as error:
        said = _first_line(error.body)
        _complain(f"{error}{f': {said}' if said else ''}")
        return _NOT_CONNECTED
    except (OSError, ValueError) as error:  # TimeoutError and ssl.SSLError among them
        _complain(f"cannot connect to {_shown(without_password(arguments.url))}: {error or type(error).__name__}")
        return _NOT_CONNECTED
    return await _Session(arguments, ws).run()


class _Session:
    """One connection, what is sent on it, and what is shown of it."""

    def __init__(self, arguments: argparse.Namespace, ws: ClientWebsocket) -> None:
        self._ws = ws
        self._wanted: int | None = arguments.receive
        self._sends: list[str] | None = arguments.send
        terminal = sys.stdin is not None and sys.stdin.isatty()
        if self._sends is None and self._wanted is not None and terminal:
            self._sends = []  # who only receives does not type
        self._interactive = self._sends is None and terminal
        self._json: bool = arguments.json
        self._terminal = sys.stdout.isatty()
        default = QUIET_TIMEOUT if self._wanted is None else OPEN_TIMEOUT
        self._timeout: float = default if arguments.timeout is None else arguments.timeout
        self._received = 0
        self._arrived = asyncio.Event()
        self._failed = False

    async def run(self) -> int:
        if self._interactive:
            chosen = f", subprotocol {self._ws.subprotocol}" if self._ws.subprotocol else ""
            _say(f"connected{chosen}; /help for commands, Ctrl-D ends")
        receiving = asyncio.ensure_future(self._receive())
        sending = asyncio.ensure_future(self._send())
        code = 1000
        try:
            await asyncio.wait((receiving, sending), return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                sending.result()
                if not self._interactive:
                    await self._wait_until_quiet(receiving)
            if receiving.done():
                receiving.result()
        except asyncio.CancelledError:
            code = _GOING_AWAY
            raise
        finally:
            sending.cancel()
            await self._ws.close(code)
            receiving.cancel()
            # A message that was printed half is of no use, and nobody is to miss the exception of a task.
            await asyncio.gather(receiving, sending, return_exceptions=True)
        return self._end()

    def _end(self) -> int:
        code, reason = self._ws.close_code or 1006, self._ws.close_reason or ""
        clean = code in (1000, 1001, 1005)
        if self._json:
            self._print(json.dumps({"close": code, "reason": reason}, ensure_ascii=False))
        if self._interactive or not clean:
            _say(f"closed with {code} by the {self._ws.closed_by}{f': {_shown(reason)}' if reason else ''}")
        if self._wanted is not None:
            if self._received < self._wanted:
                _complain(f"{self._received} messages received, wanted: {self._wanted}")
                return _UNCLEAN
            return _UNCLEAN if self._failed else _FINE
        return _FINE if clean and not self._failed else _UNCLEAN

    # ---- what comes

    async def _receive(self) -> None:
        """Print messages until there are as many as are wanted, or the connection ends."""
        try:
            async for message in self._ws:
                if self._wanted == 0:
                    continue
                self._received += 1
                self._arrived.set()
                self._show(message)
                if self._received == self._wanted:
                    return
        except WebsocketClosed:
            return  # the code is told at the end

    async def _wait_until_quiet(self, receiving: asyncio.Future[None]) -> None:
        """Wait for the end of the connection, or until nothing has arrived for as long as the timeout."""
        while not receiving.done() and self._wanted != 0:
            self._arrived.clear()
            done, _ = await asyncio.wait(
                (receiving, arrived := asyncio.ensure_future(self._arrived.wait())),
                timeout=self._timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            arrived.cancel()
            if not done:
                return

    def _show(self, message: str | bytes) -> None:
        if self._json:
            shown = {"text": message} if isinstance(message, str) else {"binary": message.hex()}
            self._print(json.dumps(shown, ensure_ascii=False))
        elif not self._terminal:
            self._print(message if isinstance(message, str) else message.hex())
        elif isinstance(message, str):
            self._print(f"< {_shown(message)}")
        else:
            self._print(f"< binary, {len(message)} bytes: {message.hex()}")

    def _print(self, line: str) -> None:
        sys.stdout.buffer.write(line.encode("utf-8", "surrogateescape") + b"\n")
        sys.stdout.buffer.flush()

    # ---- what goes

    async def _send(self) -> None:
        try:
            if self._sends is not None:
                for text in self._sends:
                    await self._ws.send(text)
                return
            async for line in _lines(sys.stdin):
                await self._send_line(line)
        except WebsocketClosed:
            return

    async def _send_line(self, octets: bytes) -> None:
        try:
            line = octets.decode("utf-8")
        except UnicodeDecodeError as error:
            self._wrong(f"a line is no UTF-8 and was not sent: {error}")
            return
        if not line.startswith("/") or line.startswith("//"):
            if line or not self._interactive:
                await self._ws.send(line[1:] if line.startswith("//") else line)
            return
        name, _, rest = line[1:].partition(" ")
        command = _COMMANDS.get(name)
        if command is None:
            self._wrong(f"there is no command /{_shown(name)}; /help shows them, //{_shown(name)} sends it as text")
            return
        try:
            await command(self, rest.strip())
        except (ValueError, OSError) as error:
            self._wrong(f"/{name}: {error}")

    async def _ping(self, rest: str) -> None:
        pong = await self._ws.ping(rest or None)
        try:
            async with asyncio.timeout(max(self._timeout, QUIET_TIMEOUT)) as limit:
                latency = await pong
        except TimeoutError:
            if not limit.expired():
                raise
            raise ValueError("no pong came in time") from None
        _say(f"pong after {latency * 1000:.2f} ms")

    async def _pong(self, rest: str) -> None:
        await self._ws.pong(rest)

    async def _binary(self, rest: str) -> None:
        await self._ws.send(Path(rest[1:]).read_bytes() if rest.startswith("@") else bytes.fromhex(rest))

    async def _close(self, rest: str) -> None:
        code, _, reason = rest.partition(" ")
        if code and not (code.isascii() and code.isdigit()):
            raise ValueError(f"code {code!r} is no number")
        await self._ws.close(int(code or 1000), reason.strip())

    async def _help(self, rest: str) -> None:
        print(_HELP, file=sys.stderr)

    def _wrong(self, message: str) -> None:
        _complain(message)
        # At a terminal somebody has seen it; a script learns of it by the exit code.
        self._failed = self._failed or not self._interactive


_COMMANDS: Final[dict[str, Callable[[_Session, str], Any]]] = {
    "binary": _Session._binary,
    "close": _Session._close,
    "help": _Session._help,
    "ping": _Session._ping,
    "pong": _Session._pong,
}


async def _lines(stdin: IO[str] | None) -> AsyncIterator[bytes]:
    """Yield the lines of a terminal, a pipe or a file; none where there is no standard input.

    A thread reads them, since a file cannot be waited for. It reads the descriptor itself: a thread that still waited
    in ``readline`` at the end would hold the lock that the interpreter wants then.
    """
    if stdin is None:
        return
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()
    room = threading.Semaphore(_AHEAD)

    def put(line: bytes | None) -> None:
        room.acquire()
        loop.call_soon_threadsafe(queue.put_nowait, line)

    def read(descriptor: int) -> None:
        partial: list[bytes] = []
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            while data := os.read(descriptor, 65536):
                first, *lines = data.split(b"\n")
                partial.append(first)
                for line in lines:
                    put(b"".join(partial).removesuffix(b"\r"))
                    partial = [line]
            if any(partial):
                put(b"".join(partial))
            put(None)

    threading.Thread(target=read, args=[stdin.fileno()], name="ferrows stdin", daemon=True).start()
    while (line := await queue.get()) is not None:
        room.release()
        yield line


_AHEAD: Final = 64
"""Lines that are read before they can be sent."""


# --------------------------------------------------------------------------------------------------------------------
# Options


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r} must be 'Name: value'")
    return name.strip(), value.strip()


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 < seconds < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of seconds > 0")
    return seconds


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of messages")
    return int(text)


def _context(arguments: argparse.Namespace) -> ssl.SSLContext | None:
    """What to verify the server with; None for the default, and without TLS."""
    if not arguments.url.lower().startswith(("wss:", "https:")) or not (arguments.insecure or arguments.ca):
        return None
    context = ssl.create_default_context(cafile=arguments.ca)
    if arguments.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


# --------------------------------------------------------------------------------------------------------------------
# What a person reads


def _say(message: str) -> None:
    print(f"* {message}", file=sys.stderr, flush=True)


def _complain(message: str) -> None:
    print(f"ferrows: {_shown(' '.join(message.split()))}", file=sys.stderr, flush=True)


_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def _shown(text: str) -> str:
    """Text without what would command the terminal."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def _first_line(body: bytes) -> str:
    lines = body.decode("utf-8", "replace").strip().splitlines()
    return "" if not lines or lines[0].lstrip().startswith("<") else _shown(lines[0])[:200]
