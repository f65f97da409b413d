"""The servers under test, each in a process of its own, and the peers that are not Python's."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import pytest
import pytest_asyncio
import trustme
from playwright.async_api import Browser, async_playwright

HERE = Path(__file__).parent
NODE = HERE / "node"
CHAT = HERE.parents[1] / "examples" / "chat.py"
START_TIMEOUT = STOP_TIMEOUT = 60  # seconds

# Nothing may be fetched but from the server under test.
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

_no_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Server:
    """Where a server under test listens."""

    port: int
    pid: int
    secure: bool = False

    def stop(self) -> None:
        """Ask the server to stop, as an operator would; :func:`running` does not ask again then."""
        _asked_to_stop.add(self.pid)
        os.kill(self.pid, signal.SIGTERM)

    def url(self, path: str, scheme: str = "ws") -> str:
        return f"{scheme}{'s' * self.secure}://127.0.0.1:{self.port}{path}"

    def close_url(self, code: int, reason: str) -> str:
        """Return the URL of a route that closes with this code and reason."""
        return self.url(f"/close/{code}?reason={quote(reason)}")

    async def end_of(self, key: str) -> tuple[int, str]:
        """Return the close code and the reason that the server saw on ``/watched/<key>``."""
        end = json.loads(await asyncio.to_thread(get, self.url(f"/ends/{key}", "http")))
        return end["code"], end["reason"]


_asked_to_stop: set[int] = set()


def get(url: str) -> bytes:
    """Return the body of a page."""
    with _no_proxy.open(url, timeout=20) as response:
        body: bytes = response.read()
        return body


@pytest.fixture(scope="session", params=["uvloop", "asyncio"])
def loop_name(request: pytest.FixtureRequest) -> str:
    """The event loop that the server runs on."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def server(loop_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app of server.py."""
    with serving(loop_name, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def own_server(loop_name: str, tmp_path: Path) -> Iterator[Server]:
    """The app of server.py for one test, which may stop it."""
    with serving(loop_name, tmp_path) as server:
        yield server


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority that nobody else trusts."""
    return trustme.CA()


@pytest.fixture(scope="session")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    """What a client of `tls_server` verifies it with."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="session")
def tls_server(loop_name: str, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app of server.py behind TLS."""
    folder = tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("127.0.0.1", "localhost")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    key.write_bytes(issued.private_key_pem.bytes())
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    with serving(loop_name, folder, "--certificate", str(certificate), "--key", str(key)) as server:
        yield server


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Server]:
    """The chat example, as a user starts it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "HOST": "127.0.0.1", "PORT": str(port)}
    with running([sys.executable, str(CHAT)], tmp_path / "stderr", environment) as process:
        example = Server(port, process.pid)
        _wait_for(lambda: _answers(example.url("/health", "http")), process, tmp_path / "stderr")
        yield example


@pytest.fixture(scope="session")
def node_ws() -> Callable[..., Coroutine[Any, Any, Any]]:
    """Run a scenario of node/client.mjs against a URL, and return what it reports."""
    node = shutil.which("node")
    if node is None:
        missing("Node is not installed (make system-deps)")
    if not (NODE / "node_modules" / "ws").is_dir():
        missing("Node's ws is not installed (make system-deps)")

    async def run(scenario: str, url: str, **options: object) -> Any:
        process = await asyncio.create_subprocess_exec(
            node,
            str(NODE / "client.mjs"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        request = json.dumps({"scenario": scenario, "url": url, **options}).encode()
        try:
            out, err = await asyncio.wait_for(process.communicate(request), 60)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, err.decode()
        return json.loads(out)

    return run


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Chromium without a window."""
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        missing("Chromium is not installed (make system-deps)")
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=executable, args=CHROMIUM_FLAGS)
        yield chromium
        await chromium.close()


def missing(reason: str) -> NoReturn:
    """Skip where a developer has not installed a peer; CI has to have them all."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and CI=true", pytrace=False)
    pytest.skip(reason)


@contextmanager
def running(
    command: list[str], log: Path, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server; stop it as an operator would, and check that it ended well and logged no error."""
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stderr)
    try:
        yield process
        # A second signal may find the process on its last steps, where nobody handles it any more.
        if process.pid not in _asked_to_stop:
            process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_TIMEOUT) == 0, f"the server ended badly:\n{log.read_text()}"
        assert "Traceback" not in log.read_text(), f"the server logged an error:\n{log.read_text()}"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def serving(loop_name: str, folder: Path, *tls: str) -> Iterator[Server]:
    """Run server.py; `tls` are its options for TLS."""
    log = folder / "stderr"
    with running([sys.executable, str(HERE / "server.py"), "--loop", loop_name, *tls], log) as process:
        yield Server(_announced_port(process, log), process.pid, secure=bool(tls))


def _announced_port(process: subprocess.Popen[bytes], log: Path) -> int:
    """Return the port that server.py prints once it listens."""
    assert process.stdout is not None
    overdue = threading.Timer(START_TIMEOUT, process.kill)
    overdue.start()
    try:
        line = process.stdout.readline()
    finally:
        overdue.cancel()
    assert line.strip().isdigit(), f"the server did not start:\n{log.read_text()}"
    return int(line)


def _wait_for(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Poll a server that announces nothing."""
    waiting = threading.Event()
    for _ in range(START_TIMEOUT * 20):
        if ready():
            return
        assert process.poll() is None, f"the server ended:\n{log.read_text()}"
        waiting.wait(0.05)
    pytest.fail(f"the server did not start:\n{log.read_text()}")


def _answers(url: str) -> bool:
    try:
        get(url)
    except (urllib.error.URLError, ConnectionError):
        return False
    return True
