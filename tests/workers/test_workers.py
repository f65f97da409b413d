"""Several worker processes: what they share, what happens when one dies, and how all of them end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import textwrap
import time
from pathlib import Path

import pytest
import websockets

from ferrows.server import bind_socket

from .harness import Start, close_code, get, is_alive, open_on_every_worker, open_websockets, program, until

LISTENERS = """
for event in ("main_process_start", "main_process_stop", "before_server_start", "after_server_stop"):
    app.listener(event)(lambda app, event=event: say(event, os.getpid()))
"""


def workers(count: int, **settings: object) -> str:
    return json.dumps({"workers": count, **settings})


LOOPS = pytest.mark.parametrize("no_uvloop", ["0", "1"], ids=["uvloop", "asyncio"])


@LOOPS
async def test_sigterm_ends_every_connection_with_its_code(start: Start, no_uvloop: str) -> None:
    environment = {"FERROWS_NO_UVLOOP": no_uvloop, "PYTHONWARNINGS": "error"}
    server = start(program(LISTENERS), workers(2), environment=environment)
    port = server.wait_until_ready()
    opened = await open_on_every_worker(port, 2)
    assert server.pid not in opened.values()
    assert await get(port, "/set") == (200, "yes")
    codes = asyncio.gather(*(close_code(ws) for ws in opened))
    began = time.monotonic()
    server.send(signal.SIGTERM)
    assert set(await codes) == {1001}
    assert await asyncio.to_thread(server.ended) == 0
    assert time.monotonic() - began < 15
    events = [line.split() for line in server.lines if line.startswith(("main_", "before_", "after_"))]
    own = str(server.pid)
    assert (events[0], events[-1]) == (["main_process_start", own], ["main_process_stop", own])
    for event in ("before_server_start", "after_server_stop"):
        assert sorted(pid for name, pid in events if name == event) == sorted(map(str, set(opened.values())))
    assert len(events) == 6
    # What follows `app.run` is for the program, not for its workers.
    assert server.lines.count("returned") == 1
    assert server.output.count(" on http://") == 1
    loop = "asyncio" if no_uvloop == "1" else "uvloop"
    assert f"(2 workers, {loop}, " in server.output
    assert "Traceback" not in server.output and "Warning" not in server.output


async def test_killed_worker_is_replaced_and_nobody_else_notices(start: Start) -> None:
    server = start(program(), workers(3))
    port = server.wait_until_ready()
    opened = await open_on_every_worker(port, 3)
    victim = next(iter(opened.values()))
    failures = []

    async def talk(ws: websockets.ClientConnection) -> int:
        for number in itertools.count():
            if done.is_set():
                return number
            await ws.send(str(number))
            if await ws.recv() != str(number):
                failures.append(number)
        raise AssertionError

    done = asyncio.Event()
    others = [asyncio.create_task(talk(ws)) for ws, pid in opened.items() if pid != victim]
    lost = asyncio.gather(*(close_code(ws) for ws, pid in opened.items() if pid == victim))
    await asyncio.sleep(0.05)
    began = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    assert set(await lost) == {1006}
    await asyncio.to_thread(server.wait_for, rf"process {victim}\) was killed by SIGKILL, another one starts at once")
    known = set(opened.values())
    while set(opened.values()) <= known:
        opened.update(await open_websockets(port, 1))
    # It takes a tenth of it where nobody else wants the processor.
    assert time.monotonic() - began < 15
    done.set()
    assert min(await asyncio.gather(*others)) > 0
    assert failures == []
    assert await asyncio.to_thread(server.stop) == 0


@LOOPS
async def test_sighup_replaces_every_worker_without_a_refused_connection(start: Start, no_uvloop: str) -> None:
    server = start(program(), workers(2), environment={"FERROWS_NO_UVLOOP": no_uvloop})
    port = server.wait_until_ready()
    opened = await open_on_every_worker(port, 2)
    old = set(opened.values())
    refused: list[BaseException] = []
    codes: list[int] = []
    done = asyncio.Event()

    async def stay_connected() -> None:
        """Come back at once, as often as the server ends the connection, until on a new worker."""
        while True:
            try:
                async with websockets.connect(f"ws://127.0.0.1:{port}/ws", open_timeout=30) as ws:
                    pid = int(await ws.recv())
                    if started.is_set() and pid not in old:
                        await done.wait()
                        return
                    connected.append(pid)
                    codes.append(await close_code(ws))
            except (OSError, websockets.InvalidHandshake, websockets.ConnectionClosed) as error:
                refused.append(error)
                return

    started = asyncio.Event()
    connected: list[int] = []
    clients = [asyncio.create_task(stay_connected()) for _ in range(200)]
    await until(lambda: len(connected) == 200 or bool(refused))
    started.set()
    server.send(signal.SIGHUP)
    await asyncio.to_thread(server.wait_for, "restarted: 2 workers new")
    await until(lambda: not any(is_alive(pid) for pid in old))
    new = set((await open_on_every_worker(port, 2)).values())
    assert not new & old
    done.set()
    await asyncio.gather(*clients)
    assert refused == []
    # The first ones, who did not come back, were told the same.
    assert set(codes) == {1012} and {await close_code(ws) for ws in opened} == {1012}
    assert await asyncio.to_thread(server.stop) == 0


async def test_no_request_is_lost_while_workers_are_replaced(start: Start) -> None:
    body = """
    import ferrows.server.protocols.http_protocol as http
    # What a new connection has for its request: a client that has to wait for a processor may need longer.
    http.NEW_GRACE = 10
    """
    server = start(program(body), workers(2))
    port = server.wait_until_ready()
    done = asyncio.Event()

    async def ask() -> int:
        count = 0
        while not done.is_set():
            assert (await get(port, "/pid"))[0] == 200
            count += 1
        return count

    clients = [asyncio.create_task(ask()) for _ in range(8)]
    for restart in (1, 2):
        server.send(signal.SIGHUP)
        await asyncio.to_thread(server.wait_for, "restarted: 2 workers new", restart)
    await asyncio.sleep(0.2)
    done.set()
    assert min(await asyncio.gather(*clients)) > 0
    assert await asyncio.to_thread(server.stop) == 0


async def test_workers_drain_when_their_supervisor_is_gone(start: Start) -> None:
    server = start(program(), workers(2))
    port = server.wait_until_ready()
    opened = await open_on_every_worker(port, 2)
    codes = asyncio.gather(*(close_code(ws) for ws in opened))
    server.send(signal.SIGKILL)
    assert set(await codes) == {1001}
    await until(lambda: not any(is_alive(pid) for pid in opened.values()))
    with contextlib.closing(bind_socket("127.0.0.1", port)):
        pass


async def test_ctrl_c_reaches_the_group_and_counts_once(start: Start) -> None:
    body = """
    @app.before_server_stop
    async def linger(app):
        # Until every process has been told.
        while not os.path.exists("told"):
            await asyncio.sleep(0.02)
    """
    server = start(program(body), workers(2))
    port = server.wait_until_ready()
    opened = await open_on_every_worker(port, 2)
    codes = asyncio.gather(*(close_code(ws) for ws in opened))
    server.interrupt()
    # systemd too tells every process of a service.
    for pid in set(opened.values()):
        os.kill(pid, signal.SIGTERM)
    Path(os.readlink(f"/proc/{server.pid}/cwd"), "told").touch()
    assert set(await codes) == {1001}
    assert await asyncio.to_thread(server.ended) == 0
    assert "Traceback" not in server.output and "cancelled" not in server.output


def test_second_signal_ends_what_hangs(start: Start) -> None:
    body = """
    @app.before_server_stop
    async def hang(app):
        say("stopping")
        await asyncio.Event().wait()
    """
    server = start(program(body), workers(2))
    server.wait_until_ready()
    server.interrupt()
    server.wait_for("stopping", 2)
    began = time.monotonic()
    server.interrupt()
    assert server.ended() == 0
    assert time.monotonic() - began < 15


async def test_worker_that_does_not_end_is_killed_at_the_deadline(start: Start) -> None:
    body = """
    import time
    app.config.GRACEFUL_SHUTDOWN_TIMEOUT = 0.1

    @app.get("/block")
    async def block(request):
        say("blocking")
        time.sleep(600)
    """
    server = start(program(body), workers(2))
    port = server.wait_until_ready()
    asking = asyncio.create_task(get(port, "/block"))
    await asyncio.to_thread(server.wait_for, "blocking")
    server.send(signal.SIGTERM)
    assert await asyncio.to_thread(server.ended) == 1
    assert server.output.count("did not end in time and is killed") == 1
    with pytest.raises((IndexError, ConnectionError)):
        await asking


async def test_stop_of_the_app_in_a_worker_stops_them_all(start: Start) -> None:
    body = """
    @app.get("/stop")
    async def stop(request):
        app.stop()
        return text("stopping")
    """
    server = start(program(body), workers(2))
    port = server.wait_until_ready()
    assert await get(port, "/stop") == (200, "stopping")
    assert await asyncio.to_thread(server.ended) == 0
    assert server.lines.count("returned") == 1


async def test_exit_of_a_handler_ends_its_worker_alone(start: Start) -> None:
    body = """
    @app.get("/exit")
    async def leave(request):
        raise SystemExit(7)
    """
    server = start(program(body), workers(2))
    port = server.wait_until_ready()
    opened = await open_on_every_worker(port, 2)
    assert (await get(port, "/exit"))[0] == 500
    await asyncio.to_thread(server.wait_for, r"ended with exit code 7, another one starts at once")
    gone = [ws for ws, pid in opened.items() if not is_alive(pid)]
    assert 0 < len(gone) < len(opened)
    assert {await close_code(ws) for ws in gone} == {1001}
    assert await asyncio.to_thread(server.stop) == 0


async def test_readiness_fails_on_every_worker_before_the_socket_closes(start: Start) -> None:
    server = start(program("app.config.update(READY_PATH='/ready', DRAIN_DELAY=60)"), workers(2))
    port = server.wait_until_ready()
    opened = await open_on_every_worker(port, 2)
    assert await get(port, "/ready") == (200, "ready")
    server.send(signal.SIGTERM)
    await until_draining(port)
    assert {await get(port, "/ready") for _ in range(20)} == {(503, "draining")}
    server.send(signal.SIGTERM)
    assert {await close_code(ws) for ws in opened} == {1001}
    assert await asyncio.to_thread(server.ended) == 0


async def until_draining(port: int) -> None:
    in_a_row = 0
    deadline = time.monotonic() + 60
    while in_a_row < 10:
        assert time.monotonic() < deadline
        in_a_row = in_a_row + 1 if (await get(port, "/ready"))[0] == 503 else 0


async def test_server_stops_when_its_terminal_is_closed(start: Start) -> None:
    master, slave = os.openpty()
    server = start(program(), workers(2), terminal=slave)
    os.close(slave)
    port = server.wait_until_ready()
    opened = await open_on_every_worker(port, 2)
    server.send(signal.SIGHUP)
    await asyncio.to_thread(server.wait_for, "restarted: 2 workers new")
    assert {await close_code(ws) for ws in opened} == {1012}
    opened = await open_on_every_worker(port, 2)
    os.close(master)
    assert {await close_code(ws) for ws in opened} == {1001}
    assert await asyncio.to_thread(server.ended) == 0


# ---- starts that fail


def test_workers_that_cannot_start_end_the_server_with_3(start: Start) -> None:
    body = """
    @app.before_server_start
    async def connect(app):
        raise RuntimeError("no database")
    """
    server = start(program(textwrap.dedent(body) + LISTENERS), workers(4))
    assert server.ended() == 3
    assert server.output.count("a worker of served could not start: RuntimeError('no database')") == 1
    assert server.output.count("Traceback") == 1
    assert "served: worker 1 (process " in server.output and "before it was ready, giving up" in server.output
    assert server.lines[-1].startswith(("main_process_stop", "20"))
    assert "returned" not in server.lines


def test_port_in_use_is_an_os_error_before_any_worker(start: Start) -> None:
    with contextlib.closing(bind_socket("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        server = start(program(LISTENERS).replace("port=0", f"port={port}"), workers(2))
        assert server.ended() == 1
    assert server.lines[-1].endswith(f"Address already in use: 127.0.0.1:{port}")
    assert "before_server_start" not in server.output


async def test_worker_that_dies_again_and_again_is_started_less_and_less_often(start: Start) -> None:
    body = """
    @app.before_server_start
    async def fail_later(app):
        if os.path.exists("broken"):
            os._exit(9)
    """
    server = start(program(body), workers(2))
    port = server.wait_until_ready()
    opened = await open_on_every_worker(port, 2)
    victim, survivor = set(opened.values())
    broken = os.path.join(os.path.dirname(_script(server.process.pid)), "broken")
    with open(broken, "w"):
        os.kill(victim, signal.SIGKILL)
    for when in ("at once", "in 0.5 s", "in 1 s"):
        await asyncio.to_thread(server.wait_for, rf"another one starts {when}$")
    assert server.output.count("ended with exit code 9 before it was ready") == 2
    os.remove(broken)
    # The other one has served all the time.
    ws = next(ws for ws, pid in opened.items() if pid == survivor)
    await ws.send("still here")
    assert await ws.recv() == "still here"
    await open_on_every_worker(port, 2)
    assert await asyncio.to_thread(server.stop) == 0


def _script(pid: int) -> str:
    return os.path.join(os.readlink(f"/proc/{pid}/cwd"), "served.py")


@pytest.mark.parametrize("given", ["0", "-1", "true", "1.5", '"many"', "null"])
def test_number_of_workers_must_be_one(start: Start, given: str) -> None:
    server = start(program(), f'{{"workers": {given}}}')
    assert server.ended() == 1
    assert "workers must be an integer >= 1 or 'auto', not " in server.lines[-1]


def test_workers_can_be_as_many_as_processors(start: Start) -> None:
    server = start(program(), '{"workers": "auto"}')
    server.wait_until_ready()
    count = len(os.sched_getaffinity(0))
    # One alone needs no supervisor.
    assert (f"({count} workers, " in server.output) == (count > 1)
    assert server.stop() == 0
