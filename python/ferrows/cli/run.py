"""``ferrows run``: serve an app."""

from __future__ import annotations

import argparse
import copy
import errno
import importlib
import importlib.util
import json
import logging
import os
import socket
import ssl
import sysconfig
import tomllib
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..app import App
from ..config import Config
from ..exceptions import FerrowsException
from ..log import LOGGING_CONFIG_DEFAULTS
from ..server.socket import ALL_INTERFACES, inherited_socket
from ..server.target import Program
from ..server.worker import is_worker
from .failure import Failure
from .options import from_environment, options
from .target import CodeError, hosted, load
from .waiting import Changes

__all__ = ["arguments_given", "run"]

_ADDRESSES: Final = (("host", "port"), ("uds",), ("fd",))
_LOCAL_PROXIES: Final = "127.0.0.1,::1,unix"


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal; Failure where the start fails.

    ``again`` among the arguments says that running the program again comes here again.
    """
    given = arguments_given(arguments)
    try:
        # What every app reads of the environment is judged before one is loaded, in whose traceback it would be lost.
        Config()
    except ValueError as error:
        raise Failure(str(error)) from None
    loop = _use_uvloop(given.get("loop"))
    target = given["target"]
    found = _loaded(target, given)
    app = hosted(found, target, **{name: given[name] for name in ("root_path", "lifespan") if name in given})
    app.config.update({option.setting: given[option.name] for option in options() if option.setting in _of(given)})
    app.config.update(loop)
    _trust_proxies(app, given.get("proxy_headers"))
    _set_up_logging(app, given.get("log_config"), given.get("log_level"))
    wanted = _run_arguments(given)
    try:
        app.run(**wanted)
    except Exception as error:
        raise _explained(error, given) from None
    return 0


def _loaded(target: str, given: Mapping[str, Any]) -> Any:
    """Load what the target names; with ``--reload`` code that cannot be loaded is waited for."""
    # A worker's supervisor waits, if there is one.
    waits = given.get("again") and _reloads(given) and not is_worker()
    changes = Changes(_code(given), given.get("reload_dir", ())) if waits else None
    try:
        return load(target, factory=given.get("factory", False), app_dir=given.get("app_dir"))
    except CodeError as failure:
        if changes is None:
            raise
        changes.wait(failure)
    finally:
        if changes is not None:
            changes.stop()


def arguments_given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Put what the arguments say over what the environment says; Failure where they contradict each other."""
    given = vars(arguments)
    environment = from_environment()
    if any(name in given for kind in _ADDRESSES for name in kind):
        # Another kind of address is not added to the one that was chosen.
        chosen = [kind for kind in _ADDRESSES if any(name in given for name in kind)]
        if len(chosen) > 1:
            raise Failure("--fd, --uds, and --host with --port exclude each other")
        for kind in _ADDRESSES:
            if kind not in chosen:
                environment = {name: value for name, value in environment.items() if name not in kind}
    return environment | given


def _of(given: Mapping[str, Any]) -> set[str | None]:
    """The settings among the arguments."""
    return {option.setting for option in options() if option.setting is not None and option.name in given}


def _use_uvloop(loop: str | None) -> dict[str, bool]:
    if loop == "uvloop":
        if importlib.util.find_spec("uvloop") is None:
            raise Failure("--loop uvloop: uvloop is not installed")
        if os.environ.get("FERROWS_NO_UVLOOP", "") not in ("", "0"):
            raise Failure("--loop uvloop: FERROWS_NO_UVLOOP turns it off")
    return {} if loop in (None, "auto") else {"USE_UVLOOP": loop == "uvloop"}


def _trust_proxies(app: App, wanted: bool | None) -> None:
    if wanted and not app.config.FORWARDED_ALLOW_IPS:
        app.config.FORWARDED_ALLOW_IPS = _LOCAL_PROXIES
    elif wanted is False:
        app.config.update(FORWARDED_ALLOW_IPS=None, PROXIES_COUNT=None, REAL_IP_HEADER=None)


def _run_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for ``App.run``, of those that were given."""
    wanted: dict[str, Any] = {name: given[name] for name in ("host", "port", "backlog", "workers") if name in given}
    if "uds" in given:
        wanted["unix"] = given["uds"]
    # The command run again as a worker: its supervisor has the socket and passes it on.
    if "fd" in given and not is_worker():
        try:
            wanted["sock"] = inherited_socket(given["fd"])
        except OSError as error:
            raise Failure(f"--fd: {str(error.strerror).lower()}") from None
    if _reloads(given):
        wanted["auto_reload"] = True
        if "reload_dir" in given:
            wanted["reload_dir"] = given["reload_dir"]
    if given.get("again") and (wanted.get("workers", 1) != 1 or "auto_reload" in wanted):
        wanted["target"] = _Command(_code(given))
    tls = _tls(given)
    return wanted if tls is None else {**wanted, "ssl": tls}


def _reloads(given: Mapping[str, Any]) -> bool:
    return bool(given.get("reload", "reload_dir" in given))


def _code(given: Mapping[str, Any]) -> Path:
    return Path(given.get("app_dir", ".")).absolute()


@dataclass(frozen=True)
class _Command(Program):
    """How a worker comes to the app: it runs this command again. Code is what lies below ``code``."""

    code: Path

    @property
    def folder(self) -> Path:
        return self.code


def _tls(given: Mapping[str, Any]) -> dict[str, Any] | None:
    if "ssl_certfile" not in given:
        others = [name for name in given if name.startswith("ssl_")]
        if others:
            raise Failure(f"--{others[0].replace('_', '-')} needs --ssl-certfile")
        return None
    return {
        "cert": given["ssl_certfile"],
        "key": given.get("ssl_keyfile", given["ssl_certfile"]),
        "password": given.get("ssl_keyfile_password"),
        "ca": given.get("ssl_ca_certs"),
        "client": given.get("ssl_cert_reqs"),
    }


# --------------------------------------------------------------------------------------------------------------------
# The log


def _set_up_logging(app: App, path: str | None, level: str | None) -> None:
    if path is not None:
        app.log_config = _log_config(Path(path))
    if level is None:
        return
    package = logging.getLogger("ferrows")
    if app.log_config is None and (not app.configure_logging or logging.getLogger().handlers or package.handlers):
        # The program has set logging up itself.
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(level.upper())
        return
    config = copy.deepcopy(dict(app.log_config or LOGGING_CONFIG_DEFAULTS))
    for name in _LOGGERS:
        config.setdefault("loggers", {}).setdefault(name, {})["level"] = level.upper()
    app.log_config = config


_LOGGERS: Final = ("ferrows", "ferrows.access")


def _log_config(path: Path) -> dict[str, Any]:
    readers = {".json": json.loads, ".toml": tomllib.loads}
    if path.suffix not in readers:
        raise Failure(f"--log-config {str(path)!r} must be a file named {' or '.join(readers)}")
    try:
        config = readers[path.suffix](path.read_text("utf-8"))
    except OSError as error:
        raise Failure(f"--log-config {str(path)!r}: {(error.strerror or str(error)).lower()}") from None
    except ValueError as error:
        raise Failure(f"--log-config {str(path)!r} cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise Failure(f"--log-config {str(path)!r} must hold an object, not {type(config).__name__}")
    return config


# --------------------------------------------------------------------------------------------------------------------
# What can go wrong


# asyncio of later CPythons passes over addresses that are not the machine's, and has no errno where none is left.
_NO_ADDRESS: Final = "could not bind on any address out of "


def _explained(error: BaseException, given: Mapping[str, Any]) -> Failure:
    """Say in one line why the server did not start; with the traceback where the program's own code raised it."""
    if _is_the_programs(error) or not isinstance(error, OSError | ValueError | FerrowsException):
        return Failure(f"the start failed: {type(error).__name__}: {error}", "".join(traceback.format_exception(error)))
    if isinstance(error, ssl.SSLError):
        return Failure(str(error))
    if isinstance(error, OSError) and str(error).startswith(_NO_ADDRESS):
        error = OSError(errno.EADDRNOTAVAIL, str(error))
    if isinstance(error, OSError) and error.filename is None and error.errno is not None:
        where = given.get("uds") or f"{_authority(given)}"
        return Failure(f"cannot listen on {where}: {_reason(error)}{_permitted(error, given)}")
    if isinstance(error, OSError) and error.filename is not None:
        return Failure(f"{error.filename}: {(error.strerror or str(error)).lower()}")
    return Failure(str(error))


def _reason(error: OSError) -> str:
    # Event loops put more around it, each in its way. An error of name resolution has numbers of its own.
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return str(error.strerror or error).partition(":")[0].lower()


def _permitted(error: OSError, given: Mapping[str, Any]) -> str:
    """What would do in place of an address that cannot be had."""
    if "uds" in given or "fd" in given:
        return ""
    if error.errno == errno.EADDRINUSE:
        return ", permitted: a port that is free, or 0 for any such"
    if error.errno == errno.EACCES and 0 < (port := given.get("port", 8000)) < _first_open_port():
        return f", permitted to this user: ports from {_first_open_port()} on, or 0 for any that is free, not {port}"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL or (error.errno or 0) < 0:
        return f", permitted: an address or a name of this machine, or {ALL_INTERFACES!r} for all of them"
    return ""


def _first_open_port() -> int:
    """The first port that anybody may listen on; Linux lets it be set."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        return 1024


def _authority(given: Mapping[str, Any]) -> str:
    if "fd" in given:
        return f"file descriptor {given['fd']}"
    host, port = given.get("host", "127.0.0.1"), given.get("port", 8000)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_the_programs(error: BaseException) -> bool:
    """Whether code raised it that is neither ours nor the standard library's nor an event loop's."""
    ours = (str(Path(__file__).parents[1]) + os.sep, "<frozen ", "uvloop")
    library = tuple(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib"))
    installed = tuple(sysconfig.get_path(name) + os.sep for name in ("purelib", "platlib"))
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith(ours):
            continue
        if not frame.filename.startswith(library) or frame.filename.startswith(installed):
            return True
    return False
