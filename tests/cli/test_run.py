"""``ferrows run``: what arguments and environment become, and how a start that fails is told."""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ferrows import App
from ferrows.cli.main import main
from ferrows.cli.options import options
from ferrows.config import Config
from ferrows.exceptions import ServerError
from ferrows.server.target import Program

from .conftest import Runs, Write

MODULE = "from ferrows import App\napp = App('one')\n"
Fails = Callable[..., str]


@pytest.fixture(autouse=True)
def module(write: Write) -> None:
    write("one.py", MODULE)


def ran(runs: Runs, *argv: str) -> tuple[Config, dict[str, Any]]:
    runs.clear()
    assert main(["one:app", *argv]) == 0
    app, given = runs.only
    return app.config, given


# --------------------------------------------------------------------------------------------------------------------
# Arguments and the environment

ARGUMENTS: list[tuple[list[str], dict[str, Any]]] = [
    ([], {}),
    (["--host", "0.0.0.0", "--port", "80"], {"host": "0.0.0.0", "port": 80}),
    (["-H", "[::1]", "-p", "0"], {"host": "::1", "port": 0}),
    (["--host", "*"], {"host": "*"}),
    (["--uds", "/tmp/s"], {"unix": "/tmp/s"}),
    (["--unix=/tmp/s"], {"unix": "/tmp/s"}),
    (["-u", "/tmp/s"], {"unix": "/tmp/s"}),
    (["--backlog", "2048"], {"backlog": 2048}),
    (["--workers", "4"], {"workers": 4}),
    (["-w", "auto"], {"workers": "auto"}),
    (["--reload"], {"auto_reload": True}),
    (["--auto-reload"], {"auto_reload": True}),
    (["-r", "--no-reload"], {}),
    (["--reload-dir", "a", "-R", "b"], {"auto_reload": True, "reload_dir": ["a", "b"]}),
    (["--no-reload", "--reload-dir", "a"], {}),
    (
        ["--ssl-certfile", "c"],
        {"ssl": {"cert": "c", "key": "c", "password": None, "ca": None, "client": None}},
    ),
    (
        ["--cert", "c", "--key", "k", "--ssl-keyfile-password", "p", "--ssl-ca-certs", "a", "--ssl-cert-reqs", "1"],
        {"ssl": {"cert": "c", "key": "k", "password": "p", "ca": "a", "client": "optional"}},
    ),
]


@pytest.mark.parametrize(("argv", "expected"), ARGUMENTS, ids=lambda value: " ".join(value) if value else "-")
def test_arguments_become_those_of_run(runs: Runs, argv: list[str], expected: dict[str, Any]) -> None:
    assert ran(runs, *argv)[1] == expected


SETTINGS: list[tuple[list[str], dict[str, Any]]] = [
    (["--access-log"], {"ACCESS_LOG": True}),
    (["--no-access-log"], {"ACCESS_LOG": False}),
    (["--no-access-logs"], {"ACCESS_LOG": False}),
    (["--debug"], {"DEBUG": True}),
    (["--debug", "--no-debug"], {"DEBUG": False}),
    (["--motd"], {"MOTD": True}),
    (["--no-motd"], {"MOTD": False}),
    (["--loop", "asyncio"], {"USE_UVLOOP": False}),
    (["--loop", "uvloop"], {"USE_UVLOOP": True}),
    (["--loop", "AUTO"], {"USE_UVLOOP": True}),
    (["--timeout-keep-alive", "5"], {"KEEP_ALIVE_TIMEOUT": 5}),
    (["--timeout-graceful-shutdown", "0.5"], {"GRACEFUL_SHUTDOWN_TIMEOUT": 0.5}),
    (["--ws-max-size", "100"], {"WEBSOCKET_MAX_SIZE": 100}),
    (["--ws-max-size", "none"], {"WEBSOCKET_MAX_SIZE": None}),
    (["--ws-max-queue", "3"], {"WEBSOCKET_MAX_QUEUE": 3}),
    (["--ws-ping-interval", "none"], {"WEBSOCKET_PING_INTERVAL": None}),
    (["--ws-ping-timeout", "7"], {"WEBSOCKET_PING_TIMEOUT": 7}),
    (["--ws-per-message-deflate", "true"], {"WEBSOCKET_COMPRESSION": "deflate"}),
    (["--ws-per-message-deflate", "false"], {"WEBSOCKET_COMPRESSION": None}),
    (["--forwarded-allow-ips", "10.0.0.0/8"], {"FORWARDED_ALLOW_IPS": "10.0.0.0/8"}),
    (["--proxy-headers"], {"FORWARDED_ALLOW_IPS": "127.0.0.1,::1,unix"}),
    (["--proxy-headers", "--forwarded-allow-ips", "*"], {"FORWARDED_ALLOW_IPS": "*"}),
    (["--no-proxy-headers", "--forwarded-allow-ips", "*"], {"FORWARDED_ALLOW_IPS": None}),
    (["--proxy-protocol", "unix,::1"], {"PROXY_PROTOCOL": "unix,::1"}),
]


@pytest.mark.parametrize(("argv", "expected"), SETTINGS, ids=lambda value: " ".join(value))
def test_arguments_that_are_settings_end_up_in_the_configuration(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, argv: list[str], expected: dict[str, Any]
) -> None:
    monkeypatch.delenv("FERROWS_NO_UVLOOP", raising=False)
    config, given = ran(runs, *argv)
    assert given == {}
    assert config == Config(env_prefix=None) | expected
    config.validate()


def test_every_option_is_tried() -> None:
    tried = {word for argv, _ in ARGUMENTS + SETTINGS for word in argv}
    elsewhere = {"--factory", "--app-dir", "--root-path", "--lifespan", "--fd", "--log-level", "--log-config"}
    assert [option.names for option in options() if not tried & set(option.names)] == [
        option.names for option in options() if elsewhere & set(option.names)
    ]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HOST": "0.0.0.0", "PORT": "81"}, {"host": "0.0.0.0", "port": 81}),
        ({"UDS": "/s"}, {"unix": "/s"}),
        ({"BACKLOG": "9", "WORKERS": "3"}, {"backlog": 9, "workers": 3}),
        ({"RELOAD": "yes"}, {"auto_reload": True}),
        ({"RELOAD": "0"}, {}),
        ({"RELOAD_DIR": f"a{os.pathsep}b"}, {"auto_reload": True, "reload_dir": ["a", "b"]}),
        ({"HOST": "", "PORT": ""}, {}),
        (
            {"SSL_CERTFILE": "c", "SSL_KEYFILE_PASSWORD": "p", "SSL_CERT_REQS": "none"},
            {"ssl": {"cert": "c", "key": "c", "password": "p", "ca": None, "client": "none"}},
        ),
    ],
)
def test_environment_stands_in_for_arguments(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: dict[str, Any]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"FERROWS_{name}", value)
    config, given = ran(runs)
    assert given == expected
    config.validate()
    assert "SSL_KEYFILE_PASSWORD" not in config


def test_argument_beats_the_environment(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PORT": "81",
        "HOST": "a",
        "ACCESS_LOG": "no",
        "RELOAD": "1",
        "WEBSOCKET_MAX_SIZE": "5",
    }.items():
        monkeypatch.setenv(f"FERROWS_{name}", value)
    config, given = ran(runs, "--port", "82", "--no-reload", "--access-log")
    assert given == {"host": "a", "port": 82}
    assert (config.ACCESS_LOG, config.WEBSOCKET_MAX_SIZE) == (True, 5)
    # Another kind of address is chosen, and not added.
    assert ran(runs, "--uds", "/s", "--no-reload")[1] == {"unix": "/s"}


def test_app_may_be_named_by_the_environment(runs: Runs, monkeypatch: pytest.MonkeyPatch, fails: Fails) -> None:
    assert "the following arguments are required: module:app" in fails(code=2)
    monkeypatch.setenv("FERROWS_APP", "one:app")
    assert main([]) == 0
    assert main(["--port", "1"]) == 0
    assert [given for _, given in runs] == [{}, {"port": 1}]


def test_run_may_be_said(runs: Runs, write: Write) -> None:
    write("routes.py", MODULE)
    for argv in (["run", "one"], ["run", "routes"], ["one"]):
        assert main(argv) == 0
    assert len(runs) == 3


def test_options_may_stand_before_the_app(runs: Runs) -> None:
    assert main(["--port", "5", "--reload", "one:app", "--no-motd"]) == 0
    assert runs.only[1] == {"port": 5, "auto_reload": True}


def test_factory_and_app_directory(runs: Runs, write: Write) -> None:
    write("inner/making.py", "from ferrows import App\ndef create_app():\n    return App('made')")
    assert main(["making:create_app", "--factory", "--app-dir", "inner"]) == 0
    assert runs.only[0].name == "made"


def test_inherited_socket_is_handed_on(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    given = ran(runs, "--fd", str(listening.fileno()))[1]
    assert given["sock"].getsockname() == listening.getsockname()
    listening.detach()
    given["sock"].close()
    # A worker of this command has it from its supervisor.
    monkeypatch.setattr("ferrows.cli.run.is_worker", lambda: True)
    assert ran(runs, "--fd", "9999")[1] == {}


def test_workers_run_the_command_again(runs: Runs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["ferrows", "one:app", "--reload"])
    assert main() == 0
    target = runs.only[1]["target"]
    assert isinstance(target, Program)
    assert target.folder == tmp_path
    assert target.fresh


# --------------------------------------------------------------------------------------------------------------------
# The log


def test_level_goes_into_the_configuration_of_logging(runs: Runs) -> None:
    logging.getLogger("ferrows").handlers.clear()
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        assert main(["one:app", "--log-level", "Warning"]) == 0
    finally:
        root.handlers = handlers
    config = runs.only[0].log_config
    assert config is not None
    assert {name: entry["level"] for name, entry in config["loggers"].items()} == {
        "ferrows": "WARNING",
        "ferrows.access": "WARNING",
    }
    assert config["loggers"]["ferrows"]["handlers"] == ["stderr"]


def test_level_is_set_where_the_program_has_set_up_logging(runs: Runs, write: Write) -> None:
    write("one.py", "from ferrows import App\napp = App('one', configure_logging=False)")
    assert main(["one:app", "--log-level", "error"]) == 0
    assert runs.only[0].log_config is None
    assert logging.getLogger("ferrows").level == logging.getLogger("ferrows.access").level == logging.ERROR


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("log.json", '{"version": 1, "root": {"level": "DEBUG"}}'),
        ("log.toml", 'version = 1\n[root]\nlevel = "DEBUG"'),
    ],
)
def test_configuration_of_logging_is_read(runs: Runs, write: Write, name: str, text: str) -> None:
    write(name, text)
    assert main(["one:app", "--log-config", name]) == 0
    assert runs.only[0].log_config == {"version": 1, "root": {"level": "DEBUG"}}
    runs.clear()
    assert main(["one:app", "--log-config", name, "--log-level", "info"]) == 0
    assert runs.only[0].log_config == {
        "version": 1,
        "root": {"level": "DEBUG"},
        "loggers": {"ferrows": {"level": "INFO"}, "ferrows.access": {"level": "INFO"}},
    }


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("log.ini", "[loggers]", "--log-config 'log.ini' must be a file named .json or .toml"),
        ("log.json", "{", "--log-config 'log.json' cannot be read: Expecting property name"),
        ("log.json", "[]", "--log-config 'log.json' must hold an object, not list"),
        ("log.toml", "=", "--log-config 'log.toml' cannot be read: "),
        ("log.json", None, "--log-config 'log.json': no such file or directory"),
    ],
)
def test_configuration_of_logging_that_is_none(
    runs: Runs, write: Write, fails: Fails, name: str, text: str | None, message: str
) -> None:
    if text is not None:
        write(name, text)
    assert fails("one:app", "--log-config", name).startswith(message)


# --------------------------------------------------------------------------------------------------------------------
# What is wrong


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--port", "x"], "argument --port/-p: must be an integer in 0..65535, not 'x'"),
        (["--port", "65536"], "argument --port/-p: must be an integer in 0..65535, not '65536'"),
        (["--workers", "0"], "argument --workers/-w: must be an integer in 1..10000 or auto, not '0'"),
        (["--loop", "trio"], "argument --loop: must be one of auto, uvloop, asyncio, not 'trio'"),
        (["--ssl-cert-reqs", "3"], "argument --ssl-cert-reqs: must be one of none, optional, required, not '3'"),
        (["--log-level", "loud"], "argument --log-level: must be one of critical, error, warning, info, debug, not"),
        (["--ws-max-size", "-1"], "argument --ws-max-size: must be an integer >= 1 or None for no limit, not '-1'"),
        (
            ["--timeout-keep-alive", "soon"],
            "argument --timeout-keep-alive: must be a number of seconds > 0, not 'soon'",
        ),
        (["--proxy-protocol", "me"], "argument --proxy-protocol: must be None or networks such as"),
        (["--ws-per-message-deflate", "x"], "argument --ws-per-message-deflate: must be true or false, not 'x'"),
        (["--prt", "1"], "unrecognized arguments: --prt 1"),
        (["--access", "1"], "unrecognized arguments: --access 1"),
        (["two:app"], "unrecognized arguments: two:app"),
        (["--port"], "argument --port/-p: expected one argument"),
    ],
)
def test_command_line_that_cannot_be_understood_is_one_line_and_exit_code_2(
    fails: Fails, argv: list[str], message: str
) -> None:
    line = fails("one:app", *argv, code=2)
    assert line.startswith(message)
    assert line.endswith("('ferrows --help' tells more)")


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("FERROWS_PORT", "http", "FERROWS_PORT must be an integer in 0..65535, not 'http'"),
        ("FERROWS_RELOAD", "maybe", "FERROWS_RELOAD must be true or false, not 'maybe'"),
        ("FERROWS_ACCESS_LOG", "maybe", "FERROWS_ACCESS_LOG must be true or false, not 'maybe'"),
        (
            "FERROWS_WEBSOCKET_MAX_SIZE",
            "big",
            "FERROWS_WEBSOCKET_MAX_SIZE must be an integer >= 1 or None for no limit",
        ),
    ],
)
def test_variable_that_cannot_be_read_is_one_line(
    monkeypatch: pytest.MonkeyPatch, fails: Fails, variable: str, text: str, message: str
) -> None:
    monkeypatch.setenv(variable, text)
    assert fails("one:app").startswith(message)
    assert fails.trace == ""  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--uds", "s", "--port", "1"], "--fd, --uds, and --host with --port exclude each other"),
        (["--fd", "9999"], "--fd: file descriptor 9999 is no socket: bad file descriptor"),
        (["--ssl-keyfile", "k"], "--ssl-keyfile needs --ssl-certfile"),
        (["--ssl-ca-certs", "k"], "--ssl-ca-certs needs --ssl-certfile"),
        (["--cert", "nowhere.pem"], "ssl file 'nowhere.pem' does not exist"),
        (["--cert", "one.py"], "certificate 'one.py' with key 'one.py' cannot be used: no PEM, or "),
        (["--cert", "one.py", "--ssl-cert-reqs", "2"], "ssl must have 'ca', which signs what clients show"),
        (["--uds", "nowhere/s"], "{folder}/nowhere: folder of the socket does not exist"),
        (["--uds", "one.py"], "{folder}/one.py: what exists is not a socket"),
        (["--host", "host.invalid"], "cannot listen on host.invalid:8000: "),
        (["--host", "192.0.2.1", "--port", "0"], "cannot listen on 192.0.2.1:0: cannot assign requested address"),
        (["--app-dir", "nowhere"], "app directory 'nowhere' does not exist"),
        (["--root-path", "/api"], "--root-path is for ASGI applications, and one:app is a ferrows App"),
    ],
)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_start_that_fails_is_one_line(
    fails: Fails, monkeypatch: pytest.MonkeyPatch, argv: list[str], message: str, loop: str
) -> None:
    monkeypatch.delenv("FERROWS_NO_UVLOOP", raising=False)
    assert fails("one:app", "--loop", loop, *argv).startswith(message.format(folder=Path.cwd()))
    assert fails.trace == ""  # type: ignore[attr-defined]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_port_that_is_taken_is_one_line(fails: Fails, monkeypatch: pytest.MonkeyPatch, loop: str) -> None:
    monkeypatch.delenv("FERROWS_NO_UVLOOP", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        assert fails("one:app", "--port", str(port), "--loop", loop) == (
            f"cannot listen on 127.0.0.1:{port}: address already in use, permitted: a port that is free, "
            "or 0 for any such"
        )
    assert fails.trace == ""  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            PermissionError(errno.EACCES, "error while attempting to bind"),
            "cannot listen on [::]:80: permission denied, permitted to this user: ports from 1024 on, "
            "or 0 for any that is free, not 80",
        ),
        (ServerError("no such thing"), "no such thing"),
        (ValueError("DEBUG must be True or False, not 5"), "DEBUG must be True or False, not 5"),
    ],
)
def test_error_of_the_server_is_one_line(
    fails: Fails, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def run(app: App, **options: Any) -> None:
        raise error

    monkeypatch.setattr(App, "run", run)
    # This test is the program here, and it is not to be taken for one.
    monkeypatch.setattr("ferrows.cli.run._is_the_programs", lambda error: False)
    # In containers it is often 0.
    monkeypatch.setattr("ferrows.cli.run._first_open_port", lambda: 1024)
    assert fails("one:app", "--host", "::", "--port", "80") == message
    assert fails.trace == ""  # type: ignore[attr-defined]


def test_error_of_the_programs_own_keeps_its_traceback(fails: Fails, write: Write) -> None:
    write(
        "one.py",
        """
        from ferrows import App
        app = App("one")

        @app.before_server_start
        async def connect(app):
            raise ValueError("no database")
        """,
    )
    assert fails("one:app", "--port", "0") == "the start failed: ValueError: no database"
    assert 'one.py", line 7, in connect' in fails.trace  # type: ignore[attr-defined]


def test_error_within_the_module_keeps_its_traceback(fails: Fails, write: Write) -> None:
    write("broken.py", "def f():\n    return 1 / 0\nf()")
    assert fails("broken:app") == "broken cannot be imported: ZeroDivisionError: division by zero"
    assert 'broken.py", line 2, in f' in fails.trace  # type: ignore[attr-defined]


def test_uvloop_that_is_wanted_must_be_there(fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERROWS_NO_UVLOOP", "1")
    assert fails("one:app", "--loop", "uvloop") == "--loop uvloop: FERROWS_NO_UVLOOP turns it off"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert fails("one:app", "--loop", "uvloop") == "--loop uvloop: uvloop is not installed"


def test_interrupt_while_a_module_is_imported_ends_quietly(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write("slow.py", "raise KeyboardInterrupt")
    assert main(["slow:app"]) == 130
    assert capsys.readouterr() == ("", "")


def test_exit_of_the_program_is_the_commands(write: Write) -> None:
    write(
        "one.py",
        """
        from ferrows import App
        app = App("one")

        @app.before_server_start
        async def leave(app):
            raise SystemExit(7)
        """,
    )
    with pytest.raises(SystemExit) as raised:
        main(["one:app", "--port", "0"])
    assert raised.value.code == 7


# --------------------------------------------------------------------------------------------------------------------
# Help


def test_help_names_every_option_and_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for argv in (["--help"], ["-h"], ["run", "--help"]):
        assert main(argv) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert out.startswith("usage: ferrows [run] module:app [options]\n       ferrows routes module:app [--json]\n")
        for option in options():
            assert all(name in out for name in option.names), option
    assert max(map(len, out.splitlines())) <= 80


def test_version_names_what_an_error_report_should(capsys: pytest.CaptureFixture[str]) -> None:
    from ferrows import __version__
    from ferrows._codec import CODEC

    for argv in (["--version"], ["-v"]):
        assert main(argv) == 0
        out = capsys.readouterr().out
        assert out.startswith(f"ferrows {__version__} (codec: {CODEC}; httptools ")
        assert f"CPython {sys.version_info.major}.{sys.version_info.minor}." in out
        assert "uvloop 0." in out or ", asyncio, " in out


def test_variable_of_a_setting_has_the_settings_name() -> None:
    by_name = {option.name: option.variable for option in options()}
    assert by_name["ws_max_size"] == "FERROWS_WEBSOCKET_MAX_SIZE"
    assert by_name["host"] == "FERROWS_HOST"
    known = set(Config(env_prefix=None))
    assert {option.setting for option in options() if option.setting} <= known
    # A variable must not be one of a setting by accident.
    assert not {option.variable.removeprefix("FERROWS_") for option in options() if not option.setting} & known
