"""Where a worker's app comes from, and which sockets it gets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import trustme
import websockets

from ferrows import App
from ferrows.exceptions import ServerError
from ferrows.server import bind_socket, bind_sockets, is_worker
from ferrows.server.importing import import_app
from ferrows.server.listeners import Listeners
from ferrows.server.member import how_it_ended
from ferrows.server.target import Import, Post, Program, _started
from ferrows.server.worker import Worker, main, send_import

from .harness import Start, close_code, get, is_alive, open_on_every_worker, open_websockets, program, until

# `app.run` is not called by the program itself but by a module of it.
INDIRECT = (
    "import json, sys, served\nserved.app.config.SET_BY_MAIN = 'indirectly'\nserved.run(json.loads(sys.argv[1]))\n"
)
RUN = """
def run(settings):
    app.run(port=0, access_log=False, **settings)
"""


async def test_fork_is_what_a_module_gets(start: Start, tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(program(RUN))
    server = start(INDIRECT, json.dumps({"workers": 2}), name="main.py")
    port = server.wait_until_ready()
    opened = await open_on_every_worker(port, 2)
    assert await get(port, "/set") == (200, "indirectly")
    server.send(signal.SIGHUP)
    await asyncio.to_thread(server.wait_for, "workers are copies of the supervisor: a restart loads no new code")
    await asyncio.to_thread(server.wait_for, "restarted: 2 workers new")
    assert {await close_code(ws) for ws in opened} == {1012}
    opened = await open_on_every_worker(port, 2)
    victim = next(iter(opened.values()))
    os.kill(victim, signal.SIGKILL)
    await asyncio.to_thread(server.wait_for, f"process {victim}.* was killed by SIGKILL")
    await until(lambda: not is_alive(victim))
    assert await asyncio.to_thread(server.stop) == 0


async def test_forked_workers_end_with_their_supervisor(start: Start, tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(program(RUN))
    server = start(INDIRECT, json.dumps({"workers": 3}), name="main.py")
    opened = await open_on_every_worker(server.wait_until_ready(), 3)
    server.send(signal.SIGKILL)
    assert {await close_code(ws) for ws in opened} == {1001}
    await until(lambda: not any(is_alive(pid) for pid in opened.values()))


def test_forked_worker_that_cannot_start_ends_the_server_with_3(start: Start, tmp_path: Path) -> None:
    body = """
    @app.before_server_start
    async def connect(app):
        raise RuntimeError("no database")
    """
    (tmp_path / "served.py").write_text(program(textwrap.dedent(body) + RUN))
    server = start(INDIRECT, json.dumps({"workers": 2}), name="main.py")
    assert server.ended() == 3
    assert server.output.count("could not start: RuntimeError('no database')") == 1


@pytest.mark.parametrize("spec", ["served:app", "served:make()"])
async def test_imported_app_gets_settings_configuration_and_new_code(start: Start, tmp_path: Path, spec: str) -> None:
    (tmp_path / "served.py").write_text(program("def make():\n    return app"))
    main = f"""
    from ferrows.server import Import, run_workers
    run_workers({spec!r}, workers=2, target=Import({spec!r}, {{"SET_BY_MAIN": "by import"}}), port=0, access_log=False)
    """
    server = start(textwrap.dedent(main), name="main.py")
    port = server.wait_until_ready()
    await open_on_every_worker(port, 2)
    assert await get(port, "/set") == (200, "by import")
    (tmp_path / "served.py").write_text(
        (tmp_path / "served.py").read_text().replace("text(str(app.config", "text(('new")
    )
    (tmp_path / "served.py").write_text(
        (tmp_path / "served.py").read_text().replace("import asyncio", "import nothing")
    )
    server.send(signal.SIGHUP)
    await asyncio.to_thread(server.wait_for, rf"{spec.partition('(')[0]}.* cannot be imported: ")
    await asyncio.to_thread(server.wait_for, "restart given up")
    assert await asyncio.to_thread(server.stop) == 0


async def test_one_worker_may_have_a_supervisor_too(start: Start, tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(program())
    server = start("from ferrows.server import run_workers\nrun_workers('served:app', port=0)\n", name="main.py")
    port = server.wait_until_ready()
    assert "(1 worker, " in server.output
    opened = await open_websockets(port, 1)
    assert server.pid not in opened.values()
    assert await asyncio.to_thread(server.stop) == 0


# ---- where it listens


async def test_unix_socket_outlives_workers_and_goes_with_the_supervisor(start: Start, tmp_path: Path) -> None:
    server = start(program().replace("port=0, ", ""), json.dumps({"workers": 2, "unix": "s"}))
    await asyncio.to_thread(server.wait_for, r"on unix:s \(2 workers")
    path = str(tmp_path / "s")

    async def connected() -> tuple[websockets.ClientConnection, int]:
        ws = await websockets.unix_connect(path, "ws://x/ws")
        return ws, int(await ws.recv())

    ws, pid = await connected()
    server.send(signal.SIGHUP)
    assert await close_code(ws) == 1012
    ws, other = await connected()
    assert other != pid
    assert await asyncio.to_thread(server.stop) == 0
    assert not os.path.exists(path)
    assert await close_code(ws) == 1001


async def test_tls_from_paths(start: Start, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "privkey.pem")
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(tmp_path / "fullchain.pem", append=True)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    server = start(program(), json.dumps({"workers": 2, "ssl": "."}))
    port = server.wait_until_ready()
    assert f"https://127.0.0.1:{port}" in server.output
    async with websockets.connect(f"wss://localhost:{port}/ws", ssl=trusting, host="127.0.0.1") as ws:
        assert int(await ws.recv()) != server.pid
    assert await asyncio.to_thread(server.stop) == 0


async def test_socket_that_the_program_has_bound(start: Start) -> None:
    text = (
        program()
        .replace("port=0,", "sock=sock,")
        .replace('if __name__ == "__main__":', 'if __name__ == "__main__":\n    sock = bind()')
    )
    body = """
    import socket
    def bind():
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        say("bound by", os.getpid())
        return sock
    """
    server = start(text.replace('@app.get("/pid")', textwrap.dedent(body) + '\n@app.get("/pid")'), '{"workers": 2}')
    port = server.wait_until_ready()
    opened = await open_websockets(port, 4)
    assert server.pid not in opened.values()
    assert await asyncio.to_thread(server.stop) == 0
    assert [line for line in server.lines if line.startswith("bound by")] == [f"bound by {server.pid}"]


def test_places_have_sockets_of_their_own_on_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ferrows.server.listeners._SPREADS", True)
    listeners = Listeners.bound({"host": "127.0.0.1", "port": 0}, 3)
    with contextlib.closing(listeners):
        assert not listeners.shared
        addresses = {sock.getsockname() for place in listeners.places for sock in place}
        assert len(addresses) == 1
        # The first one listens, so that the port is known to be taken.
        assert [accepts(sock) for place in listeners.places for sock in place] == [True, False, False]
        with pytest.raises(OSError, match="in use"):
            Listeners.bound({"host": "127.0.0.1", "port": addresses.pop()[1]}, 2)
        listeners.of(2)[0].listen(1)
        for _ in range(2):
            listeners.rest(2)
        assert not accepts(listeners.of(2)[0])
        listeners.of(2)[0].listen(1)
        assert accepts(listeners.of(2)[0])


def accepts(sock: socket.socket) -> bool:
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


def test_places_share_what_cannot_be_spread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ferrows.server.listeners._SPREADS", False)
    with contextlib.closing(bind_socket("127.0.0.1", 0)) as given:
        for options in ({"host": "127.0.0.1", "port": 0}, {"unix": str(tmp_path / "s")}, {"sock": given}):
            listeners = Listeners.bound(options, 3)
            assert listeners.shared
            assert listeners.of(1) is listeners.of(3)
            listeners.rest(1)
            assert accepts(listeners.of(1)[0])
            listeners.remove()
    assert not (tmp_path / "s").exists()


def test_host_may_have_several_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [("127.0.0.1", 0), ("127.0.0.2", 0), ("127.0.0.1", 0), ("192.0.2.1", 0)]
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *args, **options: [(socket.AF_INET, 1, 6, "", address) for address in found]
    )
    sockets = bind_sockets("some.host", 0)
    try:
        names = [sock.getsockname() for sock in sockets]
        # What this machine does not have is left out.
        assert [host for host, _ in names] == ["127.0.0.1", "127.0.0.2"]
        assert len({port for _, port in names}) == 1
        with pytest.raises(OSError, match="in use"):
            bind_sockets("some.host", names[0][1])
    finally:
        for sock in sockets:
            sock.close()
    del found[:3]
    with pytest.raises(OSError, match=r"annot assign requested address: some\.host:0"):
        bind_sockets("some.host", 0)


# ---- what workers are told


def test_process_that_has_only_the_variable_is_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for name, value in Worker.environment(theirs, [], "tested").items():
            for wrong in (value.replace(":", "9:", 1), value.replace(":", ":9", 1), "nonsense"):
                monkeypatch.setenv(name, wrong)
                assert not is_worker()
                assert Worker.inherited("tested") is None
                assert name not in os.environ


def test_worker_of_another_app_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, contextlib.closing(bind_socket("127.0.0.1", 0)) as sock:
        for name, value in Worker.environment(theirs, [sock], "one").items():
            monkeypatch.setenv(name, value)
        assert is_worker()
        with pytest.raises(ServerError, match="a worker of app 'one', and it was to run 'other'"):
            App("other", env_prefix=None).run(port=0)


def test_signal_while_a_worker_starts_is_not_lost_and_does_not_end_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = (signal.SIGINT, signal.SIGHUP)
    seen: list[int] = []

    def popen(*arguments: Any, **options: Any) -> Any:
        for number in numbers:
            os.kill(os.getpid(), number)
        return started(*arguments, **options)

    code = """
    import os, signal
    from ferrows.server.worker import Worker
    numbers = (signal.SIGINT, signal.SIGHUP)
    for number in numbers:
        os.kill(os.getpid(), number)
    worker = Worker.inherited("tested")
    for number in numbers:
        os.kill(os.getpid(), number)
    # Processes that it starts are to get them.
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    worker.control.send(b"alive")
    """
    started = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", popen)
    before = {number: signal.signal(number, lambda number, frame: seen.append(number)) for number in numbers}
    ours, theirs = socket.socketpair()
    try:
        with ours, theirs, contextlib.closing(bind_socket("127.0.0.1", 0)) as sock:
            post = Post("tested", theirs, ours, [sock], {}, lambda worker: pytest.fail("not here"), lambda: None)
            child = _started([sys.executable, "-c", textwrap.dedent(code)], post)
            theirs.close()
            assert sorted(seen) == sorted(numbers)
            assert ours.recv(100) == b"alive"
            assert child.wait(60) == 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_program_for_workers_is_none_for_people() -> None:
    with pytest.raises(SystemExit, match="no program for people"):
        main()


def test_settings_that_cannot_be_passed_on_are_an_error() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ValueError, match="cannot be passed on to a worker that imports its app"):
        send_import(ours, {"settings": {"ssl": ssl.create_default_context()}})


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("no-module:app", ValueError, "must look like"),
        ("", ValueError, "must look like"),
        ("imported:missing", ImportError, "module 'imported' has no 'missing'"),
        ("imported:number", TypeError, "'imported:number' is int, permitted: App"),
        ("imported:fail()", RuntimeError, "no database"),
    ],
)
def test_what_is_no_app_is_an_error(
    monkeypatch: pytest.MonkeyPatch, spec: str, error: type[Exception], message: str
) -> None:
    module: Any = type(sys)("imported")
    module.number = 3

    def fail() -> None:
        raise RuntimeError("no database")

    module.fail = fail
    monkeypatch.setitem(sys.modules, "imported", module)
    with pytest.raises(error, match=message):
        import_app(spec)


def test_app_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = type(sys)("imported")
    module.app = module.other = App("imported", env_prefix=None)
    module.make = lambda: module.app
    module.place = module
    monkeypatch.setitem(sys.modules, "imported", module)
    for spec in ("imported", "imported:other", "imported:make()", "imported:place.app"):
        assert import_app(spec) is module.app


def test_folders_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    import ferrows

    assert Import("ferrows.server:nothing").folder == Path(ferrows.__file__).resolve().parent
    assert Import("never_imported:app").folder is None
    main = type(sys)("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    main.__spec__ = None
    assert Program().folder == Path.cwd()
    main.__file__ = __file__
    assert Program().folder == Path(__file__).resolve().parent
    main.__spec__ = type("Spec", (), {"name": "ferrows.__main__"})()  # type: ignore[assignment]
    assert Program().folder == Path(ferrows.__file__).resolve().parent


def test_program_that_was_typed_cannot_run_again() -> None:
    source = "import sys; from ferrows.server import Program; print(Program.possible())"
    for command, stdin in (([sys.executable, "-"], source), ([sys.executable, "-c", source], "")):
        found = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=30, check=True)
        assert found.stdout.strip() == str(stdin == "")


@pytest.mark.parametrize(
    ("code", "text"),
    [(0, "ended with exit code 0"), (-9, "was killed by SIGKILL"), (-63, "was killed by signal 63")],
)
def test_exit_codes_are_explained(code: int, text: str) -> None:
    assert how_it_ended(code) == text
