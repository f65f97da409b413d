"""``ferrows connect``, in a process of its own, on pipes and on a terminal."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import sys
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ferrows import Request, Websocket
from ferrows.cli.connect import MAX_SIZE

from .conftest import accept, make_app, peer, talking

COMMAND = [
    sys.executable,
    "-c",
    "import argparse, sys\n"
    "from ferrows.cli import connect\n"
    "parser = argparse.ArgumentParser(prog='ferrows')\n"
    "connect.add_parser(parser.add_subparsers(required=True))\n"
    "sys.exit(connect.run(parser.parse_args(['connect', *sys.argv[1:]])))\n",
]


@dataclass
class Ended:
    code: int | None
    out: str
    err: str


async def ferrows_connect(*arguments: str, stdin: str | bytes | None = None) -> Ended:
    """Run the command to its end; without ``stdin`` there is none."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        given = stdin.encode() if isinstance(stdin, str) else stdin
        out, err = await asyncio.wait_for(process.communicate(given), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ended(process.returncode, out.decode(), err.decode())


@pytest_asyncio.fixture
async def url() -> AsyncIterator[str]:
    """The URL of a server, up to its path."""
    app = make_app()

    @app.websocket("/many")
    async def many(request: Request, ws: Websocket) -> None:
        for n in range(100_000):
            await ws.send(f"message {n}")

    async with await app.create_server(port=0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_sends_and_receives_for_a_script(url: str) -> None:
    ended = await ferrows_connect(f"{url}/echo", "--send", "one", "--send", "two ¡", "-n", "2")
    assert ended == Ended(0, "one\ntwo ¡\n", "")


async def test_lines_of_a_pipe_are_sent_and_all_answers_awaited(url: str) -> None:
    lines = [f"line {n}" for n in range(3000)]
    ended = await ferrows_connect(
        f"{url}/echo", "--timeout", "20", "-n", "3001", stdin="\n".join([*lines, "no newline"])
    )
    assert ended == Ended(0, "\n".join([*lines, "no newline", ""]), "")


async def test_without_a_number_it_ends_when_nothing_arrives_any_more(url: str) -> None:
    ended = await ferrows_connect(f"{url}/echo", "--timeout", "4", stdin="a\r\n\n//b\n")
    assert ended == Ended(0, "a\n\n/b\n", "")


async def test_line_longer_than_what_is_read_at_a_time(url: str) -> None:
    line = "x" * 300_000
    assert await ferrows_connect(f"{url}/echo", "-n", "1", stdin=line + "\n") == Ended(0, line + "\n", "")


async def test_messages_missing_are_1(url: str) -> None:
    ended = await ferrows_connect(f"{url}/echo", "--send", "a", "-n", "2", "--timeout", "3")
    assert ended == Ended(1, "a\n", "ferrows: 1 messages received, wanted: 2\n")


async def test_sends_and_leaves_with_none_wanted(url: str) -> None:
    assert await ferrows_connect(f"{url}/echo", "--send", "a", "-n", "0") == Ended(0, "", "")


@pytest.mark.parametrize(("code", "exit_code"), [(1000, 0), (1001, 0), (4000, 1)])
async def test_close_of_the_server_decides_the_exit_code(url: str, code: int, exit_code: int) -> None:
    ended = await ferrows_connect(f"{url}/close/{code}", "--timeout", "20", stdin="")
    assert (ended.code, ended.out) == (exit_code, "last words\n")
    assert ended.err == ("" if exit_code == 0 else f"* closed with {code} by the server: because\n")


async def test_commands(url: str, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"\xff\xfe")
    script = f"/ping hello\n/pong x\n/binary 00 ff\n/binary @{tmp_path}/data\n/help\n/close 3001 done now\n"
    ended = await ferrows_connect(f"{url}/echo", "--timeout", "20", stdin=script)
    assert ended.out == "00ff\nfffe\n"
    assert ended.code == 1  # closed with 3001
    assert "* pong after " in ended.err
    assert "//x sends /x" in ended.err
    assert ended.err.endswith("* closed with 3001 by the client: done now\n")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"/nothing", "there is no command /nothing; /help shows them, //nothing sends it as text"),
        (b"/binary zz", "/binary: non-hexadecimal number"),
        (b"/binary @/nowhere", "/binary: [Errno 2] No such file"),
        (b"/close 1005", "/close: close code 1005 may not be sent"),
        (b"/close soon", "/close: code 'soon' is no number"),
        (b"/ping " + b"x" * 126, "/ping: control payload of 126 bytes"),
        (b"\xff", "a line is no UTF-8 and was not sent"),
    ],
)
async def test_line_that_is_wrong_is_told_and_the_rest_goes_on(url: str, line: bytes, complaint: str) -> None:
    ended = await ferrows_connect(f"{url}/echo", "-n", "1", stdin=line + b"\nhello\n")
    assert (ended.code, ended.out) == (1, "hello\n")
    assert ended.err.startswith(f"ferrows: {complaint}")
    assert len(ended.err.splitlines()) == 1


async def test_json(url: str) -> None:
    ended = await ferrows_connect(f"{url}/echo", "--json", "-n", "2", stdin="a ¡\n/binary 01\n")
    assert [json.loads(line) for line in ended.out.splitlines()] == [
        {"text": "a ¡"},
        {"binary": "01"},
        {"close": 1000, "reason": ""},
    ]


async def test_options_reach_the_server(url: str) -> None:
    ended = await ferrows_connect(
        f"{url}/headers", "-n", "1", "-H", "X-Mine: a:b", "--origin", "http://o.example", "--no-compression", stdin=""
    )
    headers = json.loads(ended.out)["headers"]
    assert (headers["X-Mine"], headers["Origin"]) == ("a:b", "http://o.example")
    assert "Sec-WebSocket-Extensions" not in headers


async def test_tls_needs_the_authority_or_insecure(tmp_path: Path) -> None:
    authority = peer("trustme").CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with await make_app().create_server(port=0, ssl=context) as server:
        target = f"wss://127.0.0.1:{server.sockets[0].getsockname()[1]}/echo"
        refused = await ferrows_connect(target, "--send", "a", "-n", "1")
        assert (refused.code, refused.out) == (3, "")
        assert "certificate verify failed" in refused.err
        for trust in (["--ca", str(tmp_path / "ca.pem")], ["-k"]):
            assert await ferrows_connect(target, "--send", "a", "-n", "1", *trust) == Ended(0, "a\n", "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["ws://127.0.0.1:1/"], "cannot connect to ws://127.0.0.1:1/: "),
        (["example.com"], "cannot connect to example.com: URL 'example.com' has the scheme ''"),
        (["ws://127.0.0.1:1/", "-s", "a b"], "subprotocol 'a b' is no token"),
        (["ws://127.0.0.1:1/", "-H", "Upgrade: x"], "header 'Upgrade' is the handshake's own"),
        (["wss://127.0.0.1:1/", "--ca", "/nowhere"], "No such file"),
    ],
)
async def test_no_connection_is_3_and_one_line(arguments: list[str], complaint: str) -> None:
    ended = await ferrows_connect(*arguments, stdin="a\n")
    assert (ended.code, ended.out) == (3, "")
    assert complaint in ended.err
    assert len(ended.err.splitlines()) == 1


async def test_refusal_says_status_and_what_the_server_said(url: str) -> None:
    ended = await ferrows_connect(f"{url}/nowhere", stdin="")
    assert ended.code == 3
    assert ended.err.startswith(f"ferrows: {url}/nowhere: the server refused the upgrade with 404 Not Found: 404")


async def test_server_cannot_command_the_terminal() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 No\x1b]0;title\x07\xc2\x9b31m\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with talking(talk) as url:
        ended = await ferrows_connect(url, stdin="")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err == rf"ferrows: {url}: the server refused the upgrade with 403 No\x1b]0;title\x07\x9b31m" + "\n"


async def test_message_that_inflates_to_more_than_anybody_reads_is_1009() -> None:
    compressor = zlib.compressobj(wbits=-15)
    mebibyte = bytes(2**20)
    bomb = b"".join(compressor.compress(mebibyte) for _ in range(MAX_SIZE // 2**20 + 1))
    bomb += compressor.flush(zlib.Z_SYNC_FLUSH)[:-4]

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await accept(reader, "Sec-WebSocket-Extensions: permessage-deflate"))
        writer.write(b"\xc2\x7f" + len(bomb).to_bytes(8, "big") + bomb)
        await reader.read()

    async with talking(talk) as url:
        ended = await ferrows_connect(url, "-n", "1", stdin="")
    assert (ended.code, ended.out) == (1, "")
    assert "closed with 1009 by the client" in ended.err


async def test_no_answer_in_time_is_3() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with talking(talk) as url:
        ended = await ferrows_connect(url, "--timeout", "0.3", stdin="")
    assert ended.code == 3
    assert "took more than 0.3 seconds" in ended.err


@pytest.mark.parametrize("arguments", [["-n", "x"], ["--timeout", "0"], ["-H", "no colon"]])
async def test_options_that_are_wrong_are_2(arguments: list[str]) -> None:
    assert (await ferrows_connect("ws://127.0.0.1:1/", *arguments)).code == 2


async def test_reader_that_has_enough_ends_it(url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        f"{url}/many",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    assert await process.stdout.readline() == b"message 0\n"
    process.stdout._transport.close()  # type: ignore[attr-defined]
    assert await asyncio.wait_for(process.wait(), 30) == 0
    assert await process.stderr.read() == b""


async def test_ctrl_c_ends_it_without_a_traceback(url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        f"{url}/echo",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    process.stdin.write(b"hello\n")
    assert await asyncio.wait_for(process.stdout.readline(), 30) == b"hello\n"
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 30) == 130
    assert await process.stderr.read() == b""
    process.stdin.close()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_signal_closes_the_connection(number: signal.Signals, status: int) -> None:
    app = make_app()
    codes: asyncio.Queue[int | None] = asyncio.Queue()

    @app.websocket("/told")
    async def told(request: Request, ws: Websocket) -> None:
        await ws.send("hello")
        try:
            async for _ in ws:
                pass
        finally:
            codes.put_nowait(ws.close_code)

    async with await app.create_server(port=0) as server:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/told",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        assert await asyncio.wait_for(process.stdout.readline(), 30) == b"hello\n"
        process.send_signal(number)
        assert await asyncio.wait_for(process.wait(), 30) == status
        assert await asyncio.wait_for(codes.get(), 30) == 1001
        assert await process.stderr.read() == b""
        process.stdin.close()


async def test_signal_ends_the_wait_for_an_answer() -> None:
    asked = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()

    async with talking(talk) as url:
        process = await asyncio.create_subprocess_exec(*COMMAND, url, stdin=asyncio.subprocess.PIPE)
        assert process.stdin is not None
        await asyncio.wait_for(asked.wait(), 30)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 9) == 143
        process.stdin.close()


async def test_second_signal_does_not_wait_for_the_servers_close() -> None:
    closing = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await accept(reader) + b"\x81\x02hi")
        await reader.readexactly(1)
        closing.set()
        await reader.read()

    async with talking(talk) as url:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, url, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdin is not None and process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 30) == b"hi\n"
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(closing.wait(), 30)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 9) == -signal.SIGTERM
        process.stdin.close()


async def test_password_in_the_url_is_not_shown() -> None:
    ended = await ferrows_connect("ws://me:secret@127.0.0.1:1/", stdin="")
    assert ended.code == 3 and "secret" not in ended.err


# --------------------------------------------------------------------------------------------------------------------
# On a terminal

pty = pytest.importorskip("pty")


class Terminal:
    """The command on a terminal of its own."""

    def __init__(self, process: asyncio.subprocess.Process, descriptor: int) -> None:
        self.process = process
        self.descriptor = descriptor
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    async def wait_for(self, text: str) -> None:
        """Wait until something is on the screen, and forget everything up to its end."""

        async def read() -> None:
            loop = asyncio.get_running_loop()
            while text not in self.seen:
                self.seen += (await loop.run_in_executor(None, os.read, self.descriptor, 65536)).decode()

        await asyncio.wait_for(read(), 30)
        self.seen = self.seen.partition(text)[2]

    async def end(self) -> int:
        return await asyncio.wait_for(self.process.wait(), 30)


@pytest_asyncio.fixture
async def terminal(url: str) -> AsyncIterator[Any]:
    opened: list[Terminal] = []

    async def open_terminal(*arguments: str) -> Terminal:
        ours, theirs = pty.openpty()
        process = await asyncio.create_subprocess_exec(*COMMAND, *arguments, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        opened.append(Terminal(process, ours))
        return opened[-1]

    yield open_terminal
    for each in opened:
        if each.process.returncode is None:
            each.process.kill()
            await each.process.wait()
        os.close(each.descriptor)


async def test_terminal_shows_prefixes_and_ends_with_ctrl_d(url: str, terminal: Any) -> None:
    screen = await terminal(f"{url}/echo", "-s", "v1")
    await screen.wait_for("* connected, subprotocol v1; /help for commands, Ctrl-D ends")
    screen.type("hello\n")
    await screen.wait_for("< hello")
    screen.type("/binary 0a0b\n")
    await screen.wait_for("< binary, 2 bytes: 0a0b")
    screen.type("/ping\n")
    await screen.wait_for("* pong after ")
    screen.type("/wrong\n")
    await screen.wait_for("there is no command /wrong")
    screen.type("\x1b[2J\x07\n")
    await screen.wait_for("< \\x1b[2J\\x07")
    screen.type("\x04")
    await screen.wait_for("* closed with 1000 by the client")
    assert await screen.end() == 0


async def test_terminal_ends_when_the_server_closes(url: str, terminal: Any) -> None:
    screen = await terminal(f"{url}/close/4001")
    await screen.wait_for("< last words")
    await screen.wait_for("* closed with 4001 by the server: because")
    assert await screen.end() == 1


async def test_terminal_close_command(url: str, terminal: Any) -> None:
    screen = await terminal(f"{url}/echo")
    await screen.wait_for("connected")
    screen.type("/close\n")
    await screen.wait_for("* closed with 1000 by the client")
    assert await screen.end() == 0
