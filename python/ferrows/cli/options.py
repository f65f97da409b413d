"""The options of ``ferrows run``: their names, what they mean, and where else they are read from."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..config import parse_setting
from .failure import Failure

__all__ = ["GROUPS", "Option", "add_options", "from_environment", "options"]

_PREFIX: Final = "FERROWS_"


@dataclass(frozen=True)
class Option:
    """One option. ``setting`` is the key of ``app.config`` that it sets, which then reads the environment too."""

    names: tuple[str, ...]
    help: str
    setting: str | None = None
    kind: Callable[[str], Any] | None = None
    metavar: str | None = None
    flag: bool = False
    """Whether it is on or off, and takes no value."""
    repeated: bool = False

    @property
    def name(self) -> str:
        """What it is in the arguments."""
        return next(name for name in self.names if name.startswith("--"))[2:].replace("-", "_")

    @property
    def negatives(self) -> tuple[str, ...]:
        """What turns a flag off."""
        return tuple(name.replace("--", "--no-", 1) for name in self.names if self.flag and name.startswith("--"))

    @property
    def variable(self) -> str:
        """The variable of the environment that stands for it."""
        return _PREFIX + (self.setting or self.name.upper())

    def read(self, text: str) -> Any:
        """Read a value; ValueError says what is permitted."""
        if self.setting is not None and self.kind is None:
            return parse_setting(self.setting, text)
        return text if self.kind is None else self.kind(text)

    def read_variable(self, text: str) -> Any:
        """Read the variable's value."""
        if self.repeated:
            return [self.read(part) for part in text.split(os.pathsep) if part]
        return parse_setting("DEBUG", text) if self.flag else self.read(text)


# --------------------------------------------------------------------------------------------------------------------
# Kinds of values: ValueError("must be …, not …")


def _integer(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise ValueError(f"must be an integer in {low}..{high}, not {text!r}")
        return number

    return read


def _choice(*permitted: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.lower() not in permitted:
            raise ValueError(f"must be one of {', '.join(permitted)}, not {text!r}")
        return text.lower()

    return read


def _workers(text: str) -> int | str:
    if text.lower() == "auto":
        return "auto"
    try:
        return _integer(1, 10_000)(text)
    except ValueError as error:
        raise ValueError(str(error).replace(",", " or auto,", 1)) from None


def _host(text: str) -> str:
    # As a URL has an address of IPv6.
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text


def _client_certificates(text: str) -> str:
    # The numbers are the ssl module's, which uvicorn takes.
    return _choice("none", "optional", "required")({"0": "none", "1": "optional", "2": "required"}.get(text, text))


def _deflate(text: str) -> str | None:
    return "deflate" if parse_setting("DEBUG", text) else None


_LEVELS: Final = ("critical", "error", "warning", "info", "debug")
_GREATEST: Final = 2**31 - 1

GROUPS: Final[Mapping[str, tuple[Option, ...]]] = {
    "application": (
        Option(("--factory", "-f"), "call what is named to get the app", flag=True),
        Option(("--app-dir",), "look for modules here first (default: the working directory)", metavar="DIR"),
        Option(("--root-path",), "path under which a proxy serves an ASGI application", metavar="PATH"),
        Option(
            ("--lifespan",),
            "lifespan of an ASGI application: auto (default), on, off",
            kind=_choice("auto", "on", "off"),
            metavar="MODE",
        ),
    ),
    "address": (
        Option(("--host", "-H"), "address or hostname (default: 127.0.0.1); * is every interface", kind=_host),
        Option(("--port", "-p"), "TCP port (default: 8000); 0 takes a free one", kind=_integer(0, 65535)),
        Option(("--uds", "--unix", "-u"), "listen on a Unix socket", metavar="PATH"),
        Option(
            ("--fd",), "listen on an inherited socket; systemd's first is 3", kind=_integer(0, _GREATEST), metavar="N"
        ),
        Option(
            ("--backlog",),
            "connections that may wait to be accepted (default: 2048)",
            kind=_integer(1, _GREATEST),
            metavar="N",
        ),
    ),
    "processes": (
        Option(
            ("--workers", "-w"), "worker processes (default: 1); auto: one for each CPU", kind=_workers, metavar="N"
        ),
        Option(("--reload", "--auto-reload", "-r"), "start again when a file changes", flag=True),
        Option(
            ("--reload-dir", "-R"),
            "watch this directory too, and reload; may be repeated",
            metavar="DIR",
            repeated=True,
        ),
        Option(
            ("--loop",),
            "event loop: auto (default), uvloop, asyncio",
            kind=_choice("auto", "uvloop", "asyncio"),
            metavar="LOOP",
        ),
        Option(
            ("--timeout-graceful-shutdown",),
            "seconds that handlers have to end when the server stops (default: 15)",
            setting="GRACEFUL_SHUTDOWN_TIMEOUT",
            metavar="S",
        ),
    ),
    "TLS": (
        Option(("--ssl-certfile", "--cert"), "certificate chain", metavar="FILE"),
        Option(("--ssl-keyfile", "--key"), "private key (default: it is in the certificate's file)", metavar="FILE"),
        Option(("--ssl-keyfile-password",), "password of the key; others see arguments, so prefer the environment"),
        Option(("--ssl-ca-certs",), "who signs the certificates of clients", metavar="PATH"),
        Option(
            ("--ssl-cert-reqs",),
            "certificates of clients: none, optional, required (default with --ssl-ca-certs)",
            kind=_client_certificates,
            metavar="WHICH",
        ),
    ),
    "log": (
        Option(("--access-log", "--access-logs"), "log each request and connection (default)", "ACCESS_LOG", flag=True),
        Option(("--log-level",), f"least level: {', '.join(_LEVELS)}", kind=_choice(*_LEVELS), metavar="LEVEL"),
        Option(("--log-config",), "configuration for logging, a .json or .toml file", metavar="FILE"),
        Option(("--debug",), "tracebacks on error pages, debug mode of the loop; never in public", "DEBUG", flag=True),
        Option(("--motd",), "log where the server listens (default)", "MOTD", flag=True),
    ),
    "proxies": (
        Option(
            ("--proxy-headers",),
            "believe the headers of proxies; unless --forwarded-allow-ips says more, of those on this machine",
            flag=True,
        ),
        Option(
            ("--forwarded-allow-ips",),
            "believe the headers of these: 10.0.0.0/8,::1 and the like, unix, or * for everyone",
            setting="FORWARDED_ALLOW_IPS",
            metavar="NETWORKS",
        ),
        Option(
            ("--proxy-protocol",),
            "connections of these begin with a PROXY header",
            setting="PROXY_PROTOCOL",
            metavar="NETWORKS",
        ),
    ),
    "HTTP and WebSocket": (
        Option(
            ("--timeout-keep-alive",),
            "seconds to the next request on a connection (default: 75)",
            setting="KEEP_ALIVE_TIMEOUT",
            metavar="S",
        ),
        Option(
            ("--ws-max-size",),
            "bytes of a message (default: 1 MiB); none: no limit",
            setting="WEBSOCKET_MAX_SIZE",
            metavar="N",
        ),
        Option(
            ("--ws-max-queue",),
            "messages that may wait for a handler (default: 32)",
            setting="WEBSOCKET_MAX_QUEUE",
            metavar="N",
        ),
        Option(
            ("--ws-ping-interval",),
            "seconds between pings (default: 20); none: no pings",
            setting="WEBSOCKET_PING_INTERVAL",
            metavar="S",
        ),
        Option(
            ("--ws-ping-timeout",),
            "seconds without a sign of life after a ping (default: 20); none: no limit",
            setting="WEBSOCKET_PING_TIMEOUT",
            metavar="S",
        ),
        Option(
            ("--ws-per-message-deflate",),
            "compression: true, or false (default)",
            setting="WEBSOCKET_COMPRESSION",
            kind=_deflate,
            metavar="BOOL",
        ),
    ),
}


def options() -> Iterator[Option]:
    """Yield every option."""
    for group in GROUPS.values():
        yield from group


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser, in their groups. One that is not given is not among the arguments then."""
    for title, group in GROUPS.items():
        section = parser.add_argument_group(title)
        for option in group:
            described: dict[str, Any] = {"dest": option.name, "help": option.help, "default": argparse.SUPPRESS}
            if option.flag:
                section.add_argument(*option.names, *option.negatives, action=_Flag, **described)
            else:
                described["action"] = "append" if option.repeated else "store"
                described["metavar"] = option.metavar or option.name.rpartition("_")[2].upper()
                section.add_argument(*option.names, type=_reader(option), **described)


class _Flag(argparse.Action):
    """On or off: unlike argparse's own, it does not say so twice in the help."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "nargs": 0})

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, name: str | None = None) -> None:
        """Take what was given."""
        setattr(namespace, self.dest, not (name or "").startswith("--no-"))


def _reader(option: Option) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return option.read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def from_environment() -> dict[str, Any]:
    """Read the variables of the options that are no settings, by the options' names; an empty one is none.

    Failure for one that cannot be read.
    """
    values = {}
    for option in options():
        text = os.environ.get(option.variable, "")
        if option.setting is None and text:
            try:
                values[option.name] = option.read_variable(text)
            except ValueError as error:
                raise Failure(f"{option.variable} {error}") from None
    return values
