"""The other commands: ``ferrows routes`` and ``ferrows connect``."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import ferrows
from ferrows.cli.main import main

from .conftest import Write

Fails = Callable[..., str]

ROUTES = """
    from ferrows import App, Blueprint

    app = App("one", env_prefix=None)
    v1 = Blueprint("v1", url_prefix="/v1")

    @app.route("/", methods=["GET", "POST"])
    async def index(request): ...

    @app.websocket("/ws/<room>", subprotocols=["chat", "echo"])
    async def chat(request, ws, room): ...

    @v1.get("/items", host="api.example")
    async def items(request): ...

    if HOSTS:
        app.blueprint(v1)
"""


def test_routes_are_a_table(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write("listed.py", ROUTES.replace("HOSTS", "False"))
    assert main(["routes", "listed:app"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "METHODS   PATH        NAME       WEBSOCKET  SUBPROTOCOLS",
        "GET,POST  /           one.index",
        "GET       /ws/<room>  one.chat   yes        chat,echo",
    ]


def test_routes_are_json(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write("listed.py", ROUTES.replace("HOSTS", "True"))
    assert main(["routes", "--json", "listed.py"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["path"] for entry in listed] == ["/", "/v1/items", "/ws/<room>"]
    assert listed[1] == {
        "methods": ["GET"],
        "path": "/v1/items",
        "name": "one.v1.items",
        "websocket": False,
        "subprotocols": [],
        "hosts": ["api.example"],
    }
    assert main(["routes", "listed.py"]) == 0
    assert "HOSTS\n" in capsys.readouterr().out


def test_routes_of_what_is_made(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write("inner/making.py", "from ferrows import App\ndef create_app():\n    return App('made')")
    assert main(["routes", "making", "--factory", "--app-dir", "inner"]) == 0
    assert capsys.readouterr().out == "METHODS  PATH  NAME  WEBSOCKET  SUBPROTOCOLS\n"


def test_routes_of_no_app(write: Write, fails: Fails) -> None:
    write("other.py", "async def app(scope, receive, send): ...")
    assert fails("routes", "other:app").startswith("other:app is no ferrows App but function")
    assert fails("routes", "nowhere").startswith("there is no module 'nowhere'")
    assert fails("routes", code=2).startswith("the following arguments are required: module:app")


def test_connect_has_a_parser_of_its_own(capsys: pytest.CaptureFixture[str], fails: Fails) -> None:
    assert main(["connect", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: ferrows connect ")
    line = fails("connect", code=2)
    assert line.startswith("the following arguments are required: URL")
    assert line.endswith("('ferrows connect --help' tells more)")


def test_connect_is_not_loaded_by_other_commands(write: Write) -> None:
    write("one.py", "from ferrows import App\napp = App('one')")
    program = (
        "import sys; from ferrows.cli.main import main; assert main(['routes', 'one']) == 0; "
        "sys.exit('ferrows.cli.connect' in sys.modules or 'ferrows.client' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(ferrows.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL, env=environment)


def test_connect_that_fails_is_the_commands_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    assert main(["connect", f"ws://127.0.0.1:{port}/", "--send", "x"]) == 3
    assert capsys.readouterr().err
