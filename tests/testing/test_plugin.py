"""The fixtures for pytest, in runs of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

APP = """
from ferrows import App, text

app = App("tested", env_prefix=None)
app.ctx.events = []


@app.before_server_start
async def start(app):
    app.ctx.events.append("start")


@app.after_server_stop
async def stop(app):
    app.ctx.events.append("stop")


@app.get("/")
async def root(request):
    return text("hello")


@app.websocket("/ws")
async def echo(request, ws):
    async for message in ws:
        await ws.send(message)
"""

SYNC = """
from application import app


def test_http_and_websocket(ferrows_client):
    client = ferrows_client(app, timeout=20)
    assert app.ctx.events == ["start"]
    assert client.get("/").text == "hello"
    ws = client.websocket("/ws")
    ws.send("a")
    assert ws.recv() == "a"
    assert ferrows_client(app, over="socket").get("/").status == 200


def test_clients_were_closed():
    assert app.ctx.events == ["start", "start", "stop", "stop"]
"""

ASYNC = """
import pytest
from application import app


@pytest.mark.asyncio
async def test_http_and_websocket(async_ferrows_client):
    async with async_ferrows_client(app) as client:
        assert (await client.get("/")).text == "hello"
        async with client.websocket("/ws") as ws:
            await ws.send("a")
            assert await ws.recv() == "a"
"""

WITHOUT = """
import sys


def test_nothing_of_ferrows_is_imported_but_the_plugin():
    imported = {name for name in sys.modules if name.split(".")[0] == "ferrows"}
    assert imported == {"ferrows", "ferrows.testing", "ferrows.testing.plugin"}
    assert "httptools" not in sys.modules
"""


# pytest-asyncio warns where it is not told.
WITH_ASYNCIO = ("-o", "asyncio_default_fixture_loop_scope=function")


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest as a user does, with the plugin by its entry point."""
    # As an installed ferrows has it; with `pip install` it is in the metadata of the package.
    metadata = folder / "site" / "plugin_of_ferrows-0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-of-ferrows\nVersion: 0\n")
    (metadata / "entry_points.txt").write_text("[pytest11]\nferrows = ferrows.testing.plugin\n")
    paths = [str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *(arguments or WITH_ASYNCIO)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (tmp_path / "application.py").write_text(APP)
    return tmp_path


@pytest.mark.parametrize("arguments", [[], ["-p", "no:asyncio"]], ids=["", "without-pytest-asyncio"])
def test_clients_are_started_and_closed(folder: Path, arguments: list[str]) -> None:
    (folder / "test_app.py").write_text(SYNC)
    ended = run_pytest(folder, *arguments)
    assert "2 passed" in ended.stdout, ended.stdout + ended.stderr


def test_async_client(folder: Path) -> None:
    (folder / "test_app.py").write_text(ASYNC)
    ended = run_pytest(folder)
    assert "1 passed" in ended.stdout, ended.stdout + ended.stderr


def test_run_that_does_not_use_it_imports_nothing(folder: Path) -> None:
    (folder / "test_other.py").write_text(WITHOUT)
    ended = run_pytest(folder)
    assert "1 passed" in ended.stdout, ended.stdout + ended.stderr


def test_fixtures_are_listed_with_what_they_do(folder: Path) -> None:
    listed = run_pytest(folder, "--fixtures", *WITH_ASYNCIO).stdout
    assert "ferrows_client" in listed and "async_ferrows_client" in listed
    assert "Make clients of apps, started" in listed
