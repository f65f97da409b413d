"""The command as a process of its own."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

import ferrows

from .conftest import Write

MODULE = """
    from ferrows import App, text

    app = App("one")

    @app.get("/")
    async def index(request):
        return text(f"{request.scheme} {request.ip}")
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(write: Write) -> Iterator[Start]:
    """Start the command where its module is; what still runs at the end of the test is ended."""
    write("one.py", MODULE)
    started: list[subprocess.Popen[str]] = []

    def start(*argv: str, **options: Any) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(Path(ferrows.__file__).parents[1]), **options.pop("env", {})}
        # As the installed script, `-P` does not look for modules in the working directory.
        command = [sys.executable, "-P", "-m", "ferrows", *argv]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def listens(process: subprocess.Popen[str]) -> str:
    """Wait for the banner; return where the server listens."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        found = re.search(r" on (\S+)", line)
        if found:
            return found[1]
    raise AssertionError("".join(seen))


def body(connection: http.client.HTTPConnection) -> str:
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, err = process.communicate(timeout=30)
    return process.returncode, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_serves_until_a_signal_and_exits_with_0(start: Start, number: signal.Signals) -> None:
    process = start("one:app", "--port", "0")
    assert body(http.client.HTTPConnection(listens(process).removeprefix("http://"), timeout=30)) == "http 127.0.0.1"
    process.send_signal(number)
    code, err = ended(process)
    assert code == 0
    assert "Traceback" not in err


FREE = ", permitted: a port that is free, or 0 for any such"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_host_that_is_none_is_named_once(start: Start, workers: str) -> None:
    code, err = ended(start("one:app", "--host", "host.invalid", "--workers", workers))
    assert (code, len(err.splitlines())) == (3, 1)
    assert err.startswith("ferrows: cannot listen on host.invalid:8000: ") and err.count("host.invalid") == 1
    assert err.endswith(", permitted: an address or a name of this machine, or '*' for all of them\n")


def test_start_that_fails_exits_with_3_and_one_line(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        code, err = ended(start("one:app", env={"FERROWS_PORT": str(port)}))
    assert (code, err) == (3, f"ferrows: cannot listen on 127.0.0.1:{port}: address already in use{FREE}\n")
    code, err = ended(start("two:app"))
    assert (code, err) == (3, f"ferrows: there is no module 'two' in {Path.cwd()} or among what is installed\n")
    code, err = ended(start("one:app", "--port", "all"))
    assert (code, len(err.splitlines())) == (2, 1)


def test_reader_that_has_enough_is_no_error(start: Start, write: Write) -> None:
    write(
        "many.py",
        "from ferrows import App\napp = App('x')\nfor n in range(5000): app.add_route(print, f'/{n}', name=str(n))",
    )
    process = start("routes", "many", stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("METHODS")
    process.stdout.close()
    process.stdout = None
    code, err = ended(process)
    assert (code, err) == (3, "")


def test_inherited_socket_is_served(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        number = sock.fileno()
        process = start("one:app", "--fd", str(number), pass_fds=[number])
        assert listens(process) == f"http://127.0.0.1:{sock.getsockname()[1]}"
        assert body(http.client.HTTPConnection(*sock.getsockname(), timeout=30)) == "http 127.0.0.1"
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 0


@pytest.mark.parametrize("inherited", [False, True], ids=["port", "fd"])
def test_workers_run_the_command_again(start: Start, write: Write, inherited: bool) -> None:
    write(
        "making.py",
        """
        import os
        from ferrows import App, text

        def create_app():
            app = App("made")
            app.add_route(lambda request: text(f"{os.getppid()} {app.config.WEBSOCKET_MAX_SIZE}"), "/")
            return app
        """,
    )
    argv = ["making", "--factory", "--workers", "2", "--ws-max-size", "77"]
    with socket.create_server(("127.0.0.1", 0)) as sock:
        address = ["--fd", str(sock.fileno())] if inherited else ["--port", "0"]
        process = start(*argv, *address, pass_fds=[sock.fileno()] if inherited else [])
        where = listens(process).removeprefix("http://")
        assert body(http.client.HTTPConnection(where, timeout=30)) == f"{process.pid} 77"
        process.send_signal(signal.SIGINT)
        assert ended(process)[0] == 0


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(self.path))


def test_unix_socket_of_a_killed_server_is_replaced_and_a_live_one_respected(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "s"
    killed = start("one:app", "--uds", "s")
    assert listens(killed) == "unix:s"
    killed.kill()
    killed.wait(timeout=30)
    assert path.exists()
    live = start("one:app", "--uds", "s")
    listens(live)
    assert body(UnixConnection(path)) == "http "
    assert ended(start("one:app", "--uds", "s")) == (3, "ferrows: cannot listen on s: address already in use\n")
    assert body(UnixConnection(path)) == "http "
    live.send_signal(signal.SIGTERM)
    assert ended(live)[0] == 0
    assert not path.exists()


def test_inherited_unix_socket_is_served_and_left(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        process = start("one:app", "--fd", str(sock.fileno()), pass_fds=[sock.fileno()])
        listens(process)
        assert body(UnixConnection(path)) == "http "
        process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == 0
        assert path.exists()


def test_tls(start: Start, tmp_path: Path) -> None:
    ca = trustme.CA()
    # The key lies in the certificate's file.
    ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "pair.pem")
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    process = start("one:app", "--port", "0", "--cert", "pair.pem", "--ssl-ca-certs", "ca.pem")
    address = listens(process)
    assert address.startswith("https://")
    client = ssl.create_default_context()
    ca.configure_trust(client)
    port = int(address.rpartition(":")[2])
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
        body(http.client.HTTPSConnection("localhost", port, context=client, timeout=30))
    ca.issue_cert("alice@example.com").configure_cert(client)
    assert body(http.client.HTTPSConnection("localhost", port, context=client, timeout=30)) == "https 127.0.0.1"
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 0
