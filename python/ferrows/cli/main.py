"""``main``: the commands, and how they end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, NoReturn

from .._codec import CODEC
from .failure import EXIT_CODE, Failure, show
from .options import GROUPS, add_options
from .routes import routes
from .run import run

__all__ = ["main", "parser"]

_INTERRUPTED: Final = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Carry a command line out and return the exit code: 0, 3 where the command failed, 2 where there was none.

    Without a command it is ``run``.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] not in _commands():
        words.insert(0, "run")
    try:
        arguments = parser(connect=words[0] == "connect").parse_args(words)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 0
    command: Callable[[argparse.Namespace], int] = arguments.__dict__.pop("command")
    arguments.again = argv is None
    try:
        return command(arguments)
    except Failure as failure:
        show(failure)
        return EXIT_CODE
    except KeyboardInterrupt:
        # While something was imported; a server ends with 0.
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever reads, such as `head`, has enough. At its exit Python would write what is left.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_CODE


def parser(*, connect: bool = False) -> argparse.ArgumentParser:
    """Make the parser; with ``connect`` also that command's, whose module need not be loaded for the others."""
    whole = _Parser(prog="ferrows", allow_abbrev=False)
    commands = whole.add_subparsers(metavar="command", required=True)
    running = commands.add_parser(
        "run",
        prog="ferrows",
        usage="ferrows [run] module:app [options]" + "".join(f"\n       {line}" for line in _other_usages()),
        description="Serve a ferrows App or any ASGI application.",
        epilog="Each option has a variable of the environment too, such as FERROWS_PORT; the option beats it. "
        "Those of settings (docs/configuration.md) have the setting's name.",
        allow_abbrev=False,
    )
    _add_target(running)
    add_options(running)
    running.add_argument("--version", "-v", action=_Version, help="print the versions and exit")
    running.set_defaults(command=run)
    listing = commands.add_parser("routes", help="list the routes of an app", allow_abbrev=False)
    _add_target(listing)
    listing.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
    for option in GROUPS["application"][:2]:
        flag: dict[str, Any] = {"action": "store_true"} if option.flag else {"metavar": option.metavar}
        listing.add_argument(*option.names, help=option.help, default=argparse.SUPPRESS, **flag)
    listing.set_defaults(command=routes)
    if connect:
        module: Any = importlib.import_module(_CONNECT)
        module.add_parser(commands)
        commands.choices["connect"].set_defaults(command=module.run)
    return whole


_CONNECT: Final = "ferrows.cli.connect"


def _commands() -> list[str]:
    return ["run", "routes", *(["connect"] if importlib.util.find_spec(_CONNECT) else [])]


def _other_usages() -> list[str]:
    usages = {"routes": "ferrows routes module:app [--json]", "connect": "ferrows connect URL"}
    return [usages[name] for name in _commands() if name in usages]


def _add_target(parser: argparse.ArgumentParser) -> None:
    variable = os.environ.get("FERROWS_APP")
    parser.add_argument(
        "target",
        metavar="module:app",
        nargs="?" if variable else None,
        default=variable,
        help="package.module:app, file.py:app, module:create_app(); without a name app, application or the only App",
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line; the usage of all options would hide it."""
        self.exit(2, f"ferrows: {message} ('{self.prog} --help' tells more)\n")


class _Version(argparse.Action):
    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "nargs": 0})

    def __call__(self, parser: argparse.ArgumentParser, *arguments: Any) -> NoReturn:
        """Print the versions that a report of an error should name."""
        from ..server.loop import loop_name, new_event_loop

        loop: asyncio.AbstractEventLoop = new_event_loop()
        name = loop_name(loop)
        loop.close()
        print(
            f"ferrows {_version('ferrows')} (codec: {CODEC}; httptools {_version('httptools')}), "
            f"{platform.python_implementation()} {platform.python_version()}, "
            f"{name}{'' if name == 'asyncio' else ' ' + _version(name)}, {platform.system()} {platform.machine()}"
        )
        parser.exit()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
