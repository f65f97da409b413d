"""New code for running workers: by SIGHUP, and by ``auto_reload`` when files change."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ferrows.exceptions import ServerError
from ferrows.server.reload import Watcher

from .harness import Server, Start, close_code, get, is_alive, open_on_every_worker, open_websockets, program, until

VERSION = """
@app.get("/version")
async def version(request):
    return text("one")

for event in ("main_process_start", "reload_process_start", "reload_process_stop", "main_process_stop"):
    app.listener(event)(lambda app, event=event: say(event))
"""


def versions(server_folder: Path) -> Any:
    """Write another version of the program; where it is."""

    def write(old: str, new: str) -> None:
        path = server_folder / "served.py"
        path.write_text(path.read_text().replace(old, new))

    return write


@pytest.fixture
def change(tmp_path: Path) -> Any:
    return versions(tmp_path)


async def seen(server: Server, pattern: str, count: int = 1) -> None:
    await asyncio.to_thread(server.wait_for, pattern, count)


# ---- SIGHUP


async def test_sighup_loads_new_code(start: Start, change: Any) -> None:
    server = start(program(VERSION), json.dumps({"workers": 2}))
    port = server.wait_until_ready()
    assert await get(port, "/version") == (200, "one")
    old = set((await open_on_every_worker(port, 2)).values())
    change('text("one")', 'text("two")')
    server.send(signal.SIGHUP)
    await seen(server, "SIGHUP: restarting 2 workers")
    await seen(server, "restarted: 2 workers new")
    await until(lambda: not any(is_alive(pid) for pid in old))
    for _ in range(10):
        assert await get(port, "/version") == (200, "two")
    assert await asyncio.to_thread(server.stop) == 0
    assert server.output.count(" on http://") == 1


async def test_code_that_cannot_start_leaves_the_old_workers_at_work(start: Start, change: Any) -> None:
    server = start(program(VERSION), json.dumps({"workers": 2}))
    port = server.wait_until_ready()
    opened = await open_websockets(port, 8)
    change("import asyncio", "import asyncio, no_such_module")
    server.send(signal.SIGHUP)
    await seen(
        server, r"restart given up, 2 workers old, 0 new: worker 1 \(process \d+\) ended with exit code 1 before"
    )
    await seen(server, "ModuleNotFoundError: No module named 'no_such_module'")
    for ws in opened:
        await ws.send("still here")
        assert await ws.recv() == "still here"
    change("import asyncio, no_such_module", "import asyncio")
    server.send(signal.SIGHUP)
    await seen(server, "restarted: 2 workers new")
    assert {await close_code(ws) for ws in opened} == {1012}
    assert await asyncio.to_thread(server.stop) == 0


async def test_second_sighup_begins_anew(start: Start) -> None:
    body = """
    @app.before_server_start
    async def start_slowly(app):
        if os.path.exists("slow"):
            say("slow", os.getpid())
            await asyncio.Event().wait()
    """
    server = start(program(body), json.dumps({"workers": 2}))
    server.wait_until_ready()
    slow = Path(os.readlink(f"/proc/{server.pid}/cwd"), "slow")
    slow.touch()
    server.send(signal.SIGHUP)
    stuck = int((await asyncio.to_thread(server.wait_for, r"slow (\d+)"))[1])
    slow.unlink()
    server.send(signal.SIGHUP)
    await seen(server, "restarted: 2 workers new")
    assert server.output.count("SIGHUP: restarting 2 workers\n") == 1
    assert server.output.count("SIGHUP: restarting 2 workers anew\n") == 1
    await until(lambda: not is_alive(stuck))
    assert await asyncio.to_thread(server.stop) == 0
    assert "given up" not in server.output


async def test_stop_while_workers_start_ends_them_too(start: Start) -> None:
    body = """
    @app.before_server_start
    async def hang(app):
        if os.path.exists("slow"):
            say("slow", os.getpid())
            await asyncio.Event().wait()

    @app.after_server_stop
    async def stopped(app):
        say("stopped", os.getpid())
    """
    server = start(program(body), json.dumps({"workers": 2}))
    port = server.wait_until_ready()
    opened = await open_websockets(port, 1)
    Path(os.readlink(f"/proc/{server.pid}/cwd"), "slow").touch()
    server.send(signal.SIGHUP)
    await seen(server, "slow")
    server.send(signal.SIGTERM)
    assert {await close_code(ws) for ws in opened} == {1001}
    assert await asyncio.to_thread(server.ended) == 0
    # The third had not ended its start.
    assert sum(line.startswith("stopped ") and line.split()[1].isdigit() for line in server.lines) == 3
    assert sum("SIGTERM: stopping, 3 workers with up to 15 s to end" in line for line in server.lines) == 1
    assert sum("stopped after " in line for line in server.lines) == 1


# ---- auto_reload


@pytest.fixture
def needs_watchfiles() -> None:
    if os.environ.get("CI", "").lower() not in ("1", "true"):
        pytest.importorskip("watchfiles")


@pytest.mark.usefixtures("needs_watchfiles")
async def test_change_of_a_file_restarts(start: Start, change: Any, tmp_path: Path) -> None:
    (tmp_path / "part.py").write_text("answer = 'one'\n")
    body = VERSION.replace('text("one")', "text(part.answer)")
    server = start("import part\n" + program(body), json.dumps({"auto_reload": True}))
    port = server.wait_until_ready()
    [(ws, pid)] = (await open_websockets(port, 1)).items()
    (tmp_path / "part.py").write_text("answer = 'two'\n")
    await seen(server, r"part\.py changed: restarting 1 worker$")
    await seen(server, "restarted: 1 worker new")
    assert await close_code(ws) == 1012
    await until(lambda: not is_alive(pid))
    assert await get(port, "/version") == (200, "two")
    assert await asyncio.to_thread(server.stop) == 0
    events = [line for line in server.lines if "_process_" in line]
    assert events == ["main_process_start", "reload_process_start", "reload_process_stop", "main_process_stop"]


@pytest.mark.usefixtures("needs_watchfiles")
async def test_code_with_an_error_waits_for_the_next_change(start: Start, tmp_path: Path) -> None:
    (tmp_path / "part.py").write_text("answer = 'one'\n")
    body = VERSION.replace('text("one")', "text(part.answer)")
    server = start("import part\n" + program(body), json.dumps({"auto_reload": True}))
    port = server.wait_until_ready()
    (tmp_path / "part.py").write_text("answer = (\n")
    await seen(server, r"part\.py changed")
    await seen(server, "SyntaxError: '\\(' was never closed")
    await seen(server, "restart given up, 1 worker old, 0 new: .* waiting for the next change")
    assert await get(port, "/version") == (200, "one")
    [pid] = (await open_websockets(port, 1)).values()
    (tmp_path / "part.py").write_text("answer = 'two'\n")
    await seen(server, "restarted: 1 worker new")
    await until(lambda: not is_alive(pid))
    assert await get(port, "/version") == (200, "two")
    assert await asyncio.to_thread(server.stop) == 0


@pytest.mark.usefixtures("needs_watchfiles")
async def test_first_start_that_fails_waits_for_a_change(start: Start, tmp_path: Path) -> None:
    (tmp_path / "part.py").write_text("works = False\n")
    body = """
    @app.before_server_start
    async def check(app):
        assert part.works
    """
    server = start("import part\n" + program(body), json.dumps({"auto_reload": True}))
    await seen(server, "before it was ready, waiting for a change of the code")
    (tmp_path / "part.py").write_text("works = True\n")
    await seen(server, r"ferrows \S+ on http")
    assert await asyncio.to_thread(server.stop) == 0


@pytest.mark.usefixtures("needs_watchfiles")
def test_watcher_wants_code_and_everything_below_other_folders(tmp_path: Path) -> None:
    code, pages = tmp_path / "code", tmp_path / "pages"
    for folder in (code, pages):
        folder.mkdir()
    watcher = Watcher([code], [pages])
    assert watcher.folders == [code.resolve(), pages.resolve()]
    wanted = {
        code / "app.py": True,
        code / "notes.txt": False,
        code / "__pycache__" / "app.py": False,
        pages / "index.html": True,
        pages / "index.html~": False,
    }
    assert {path: watcher.wants(None, str(path.resolve())) for path in wanted} == wanted
    with pytest.raises(ValueError, match="reload_dir must be folders that exist, not "):
        Watcher([code], [tmp_path / "nowhere"])


@pytest.mark.usefixtures("needs_watchfiles")
@pytest.mark.parametrize("delay", [0, 0.5], ids=["at once", "in a slow folder"])
def test_watcher_that_has_started_reports_what_changes_then(
    tmp_path: Path, delay: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    import watchfiles

    watch = watchfiles.watch

    def watch_late(*arguments: Any, **options: Any) -> Any:
        time.sleep(delay)
        yield from watch(*arguments, **options)

    monkeypatch.setattr(watchfiles, "watch", watch_late)
    watcher = Watcher([tmp_path])
    reported: queue.Queue[Any] = queue.Queue()
    watcher.start(reported.put)
    try:
        (tmp_path / "app.py").write_text("changed")
        assert reported.get(timeout=60) == [str(tmp_path.resolve() / "app.py")]
    finally:
        watcher.stop()


@pytest.mark.usefixtures("needs_watchfiles")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_watcher_that_cannot_watch_holds_nobody_up(tmp_path: Path) -> None:
    folder = tmp_path / "code"
    watcher = Watcher([folder])
    watcher.start(lambda paths: None)
    watcher.stop()


def test_watcher_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(ServerError, match=r"auto_reload needs the package watchfiles: pip install 'ferrows\[reload\]'"):
        Watcher([tmp_path])
