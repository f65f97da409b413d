"""Config: every setting of an app, from defaults, code and ``FERROWS_*`` environment variables.

Values are kept as they were given and checked when the server starts (:meth:`Config.validate`), so that an error names
the key whatever the order of assignments was. A variable of the environment is parsed, and so checked, when it is read.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from .extensions import DeflateParameters
from .limits import InboundLimits, Rate
from .networks import parse_networks

__all__ = ["Config", "WebsocketSettings", "parse_setting"]

# Read by ferrows itself before there is an app; the password is the command line's, and nobody else's business.
_NOT_SETTINGS: Final = frozenset({"NO_EXTENSIONS", "NO_UVLOOP", "SSL_KEYFILE_PASSWORD", "WORKER"})


@dataclass(frozen=True, slots=True)
class WebsocketSettings:
    """The checked settings of one websocket route. Times are seconds, sizes bytes; None takes a limit away.

    ``deflate`` is the most that the server agrees to (None: no compression). ``origins`` are the serialised origins
    that may connect (RFC 6454 §6.2), lowercase and without a default port; ``same`` among them is the host that the
    request itself names, ``*`` every origin. None: ``same`` for requests with cookies, every origin for others.
    ``limits`` are of what the client may send, beyond the size of a message. ``engine`` is its name or its factory;
    None is the codec.
    """

    timeout: float = 10
    ping_interval: float | None = 20
    ping_timeout: float | None = 20
    max_size: int | None = 2**20
    max_queue: int = 32
    handler_timeout: float | None = 300
    deflate: DeflateParameters | None = None
    origins: tuple[str, ...] | None = None
    limits: InboundLimits | None = None
    engine: str | Callable[[WebsocketSettings], Any] | None = None


class Config(dict[str, Any]):
    """Settings by attribute (``config.ACCESS_LOG``) and by item (``config["ACCESS_LOG"]``).

    ``defaults`` go over the built-in ones, and variables that begin with ``env_prefix`` go over both (None: the
    environment is not read). Upper-case keys that ferrows does not know belong to the application.
    """

    ACCESS_LOG: bool
    DEBUG: bool
    DRAIN_DELAY: float
    DRAIN_TIMEOUT: float
    FALLBACK_ERROR_FORMAT: str
    FORWARDED_ALLOW_IPS: str | Iterable[str] | None
    GRACEFUL_SHUTDOWN_TIMEOUT: float
    KEEP_ALIVE: bool
    KEEP_ALIVE_TIMEOUT: float
    MAX_CONNECTIONS: int | None
    MAX_CONNECTIONS_PER_ADDRESS: int | None
    MAX_HANDSHAKES: int | None
    MOTD: bool
    PROXIES_COUNT: int | None
    PROXY_PROTOCOL: str | Iterable[str] | None
    READY_PATH: str | None
    REAL_IP_HEADER: str | None
    REQUEST_HEAD_TIMEOUT: float
    REQUEST_MAX_HEADERS: int
    REQUEST_MAX_HEADER_SIZE: int
    REQUEST_MAX_SIZE: int
    REQUEST_MAX_TARGET_SIZE: int
    REQUEST_TIMEOUT: float
    RESPONSE_TIMEOUT: float
    SERVER_NAME: str
    USE_UVLOOP: bool
    WEBSOCKET_BYTE_RATE: float | tuple[float, float] | None
    WEBSOCKET_COMPRESSION: str | Mapping[str, Any] | None
    WEBSOCKET_ENGINE: str | Callable[[WebsocketSettings], Any]
    WEBSOCKET_HANDLER_TIMEOUT: float | None
    WEBSOCKET_MAX_FRAGMENTS: int | None
    WEBSOCKET_MAX_QUEUE: int
    WEBSOCKET_MAX_SIZE: int | None
    WEBSOCKET_MESSAGE_RATE: float | tuple[float, float] | None
    WEBSOCKET_ORIGINS: str | Iterable[str] | None
    WEBSOCKET_PING_INTERVAL: float | None
    WEBSOCKET_PING_RATE: float | tuple[float, float] | None
    WEBSOCKET_PING_TIMEOUT: float | None
    WEBSOCKET_TIMEOUT: float

    def __init__(self, defaults: Mapping[str, Any] | None = None, *, env_prefix: str | None = "FERROWS_") -> None:
        super().__init__({key: option.default for key, option in _OPTIONS.items()})
        self.update(defaults or {})
        if env_prefix is not None:
            self.load_environment(env_prefix)

    def __getattr__(self, key: str) -> Any:
        try:
            return self[key]
        except KeyError:
            raise AttributeError(f"config has no {key!r}") from None

    def __setattr__(self, key: str, value: Any) -> None:
        self[key] = value

    def __delattr__(self, key: str) -> None:
        try:
            del self[key]
        except KeyError:
            raise AttributeError(f"config has no {key!r}") from None

    def update(self, *sources: Any, **values: Any) -> None:
        """Take keys from mappings, from iterables of pairs, or upper-case attributes from a class, module or object.

        TypeError for a path or a string: to read a file is the program's part.
        """
        for source in sources:
            if isinstance(source, (str, bytes, os.PathLike)):
                raise TypeError(f"configuration is a mapping, a class, a module or an object, not {source!r}")
            if isinstance(source, Mapping):
                super().update(source)
            elif isinstance(source, Iterable):
                super().update(dict(source))
            else:
                super().update({key: getattr(source, key) for key in dir(source) if key.isupper()})
        super().update(values)

    def load_environment(self, prefix: str = "FERROWS_") -> None:
        """Take variables that begin with ``prefix``; ValueError, naming the variable, for one that cannot be read.

        Variables for keys that ferrows does not know become int, float or bool where they look like it, else str.
        """
        for variable, text in os.environ.items():
            key = variable.removeprefix(prefix)
            if key == variable or not key.isupper() or key in _NOT_SETTINGS:
                continue
            option = _OPTIONS.get(key)
            if option is None:
                self[key] = _guess(text)
                continue
            try:
                self[key] = _read(option, text)
            except ValueError as error:
                raise ValueError(f"{variable} {error}") from None

    def validate(self) -> None:
        """Check every key that ferrows knows; ValueError names the first that is wrong and what is permitted.

        A key that looks like one of these and is none is wrong too: it would have no effect.
        """
        for key in self:
            if key not in _OPTIONS:
                _refuse_near_miss(key)
        for key, option in _OPTIONS.items():
            _checked(key, option, self.get(key))
        for key in ("PROXIES_COUNT", "REAL_IP_HEADER"):
            if self.get(key) and not parse_networks(self.get("FORWARDED_ALLOW_IPS")):
                raise ValueError(f"{key} needs FORWARDED_ALLOW_IPS: without it nobody is believed")

    def websocket_settings(self, **overrides: Any) -> WebsocketSettings:
        """Check and combine the ``WEBSOCKET_*`` keys with a route's own options; ValueError names the wrong one.

        Options: ``max_size max_queue max_fragments message_rate byte_rate ping_rate timeout ping_interval ping_timeout
        handler_timeout compression origins engine``. One that is given counts also when it is None.
        """
        for name in overrides:
            if name not in WEBSOCKET_OPTIONS:
                raise ValueError(f"websocket option {name!r} is unknown, permitted: {', '.join(WEBSOCKET_OPTIONS)}")
        values = {}
        for name, key in WEBSOCKET_OPTIONS.items():
            if name in overrides:
                values[name] = _checked(name, _OPTIONS[key], overrides[name])
            else:
                values[name] = _checked(key, _OPTIONS[key], self.get(key))
        return WebsocketSettings(
            timeout=values["timeout"],
            ping_interval=values["ping_interval"],
            ping_timeout=values["ping_timeout"],
            max_size=values["max_size"],
            max_queue=values["max_queue"],
            handler_timeout=values["handler_timeout"],
            deflate=None if values["compression"] is None else DeflateParameters(**values["compression"]),
            origins=values["origins"],
            limits=InboundLimits(
                messages=values["message_rate"],
                bytes=values["byte_rate"],
                pings=values["ping_rate"],
                fragments=values["max_fragments"],
            ),
            engine=None if values["engine"] == NATIVE_ENGINE else values["engine"],
        )


def parse_setting(key: str, text: str) -> Any:
    """Read a key's value as the environment's is read; ValueError says what is permitted, and what was given."""
    return _read(_OPTIONS[key], text)


# A route's option -> the key that it stands in for.
WEBSOCKET_OPTIONS: Final[Mapping[str, str]] = {
    "max_size": "WEBSOCKET_MAX_SIZE",
    "max_queue": "WEBSOCKET_MAX_QUEUE",
    "max_fragments": "WEBSOCKET_MAX_FRAGMENTS",
    "message_rate": "WEBSOCKET_MESSAGE_RATE",
    "byte_rate": "WEBSOCKET_BYTE_RATE",
    "ping_rate": "WEBSOCKET_PING_RATE",
    "timeout": "WEBSOCKET_TIMEOUT",
    "ping_interval": "WEBSOCKET_PING_INTERVAL",
    "ping_timeout": "WEBSOCKET_PING_TIMEOUT",
    "handler_timeout": "WEBSOCKET_HANDLER_TIMEOUT",
    "compression": "WEBSOCKET_COMPRESSION",
    "origins": "WEBSOCKET_ORIGINS",
    "engine": "WEBSOCKET_ENGINE",
}


# --------------------------------------------------------------------------------------------------------------------
# Kinds of values. ``check`` gives the value in its valid form or raises ValueError("must be …"); ``parse`` reads the
# environment's text into something that ``check`` can judge.


class _Kind(NamedTuple):
    check: Callable[[Any], Any]
    parse: Callable[[str], Any]


class _Option(NamedTuple):
    default: Any
    kind: _Kind

    def check(self, value: Any) -> Any:
        return self.kind.check(value)


def _read(option: _Option, text: str) -> Any:
    try:
        return option.check(option.kind.parse(text.strip()))
    except ValueError as error:
        raise ValueError(f"{error}, not {text!r}") from None


def _checked(name: str, option: _Option, value: Any) -> Any:
    try:
        return option.check(value)
    except ValueError as error:
        raise ValueError(f"{name} {error}, not {value!r}") from None


# Keys that begin so are ferrows's alone.
_OWN_PREFIXES: Final = ("WEBSOCKET_", "REQUEST_", "KEEP_ALIVE")


def _refuse_near_miss(key: Any) -> None:
    if not isinstance(key, str):
        return
    upper = key.upper()
    near = difflib.get_close_matches(upper, _OPTIONS, n=1, cutoff=0.85)
    if upper.startswith(_OWN_PREFIXES):
        prefix = next(prefix for prefix in _OWN_PREFIXES if upper.startswith(prefix))
        permitted = ", ".join(name for name in _OPTIONS if name.startswith(prefix))
        raise ValueError(f"{key} is unknown, " + (f"did you mean {near[0]}?" if near else f"permitted: {permitted}"))
    if key != upper and near:
        raise ValueError(f"{key} is unknown, did you mean {near[0]}?")


def _guess(text: str) -> Any:
    # Only what can mean nothing else: "no" may be Norway.
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return _parse_number(text) if text[:1] in "0123456789+-." else text


# What the extension and the event loops can count.
_GREATEST: Final = 2**63 - 1


def _is_number(value: Any) -> bool:
    if isinstance(value, int) and value > _GREATEST:
        raise ValueError("must be at most 2**63 - 1")
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _parse_flag(text: str) -> bool:
    lowered = text.lower()
    if lowered in ("1", "true", "yes", "on", "y", "t", "enable", "enabled"):
        return True
    if lowered in ("0", "false", "no", "off", "n", "f", "disable", "disabled"):
        return False
    raise ValueError("must be true or false")


def _parse_number(text: str) -> Any:
    # What is no number is left as it is, for `check` to say what is permitted.
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def _or_none(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: None if text.lower() in ("", "none", "null") else parse(text)


def _flag() -> _Kind:
    def check(value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError("must be True or False")
        return value

    return _Kind(check, _parse_flag)


def _seconds(*, zero: bool = False) -> _Kind:
    def check(value: Any) -> float:
        if not _is_number(value) or value < 0 or (value == 0 and not zero):
            raise ValueError(f"must be a number of seconds {'>=' if zero else '>'} 0")
        return value  # type: ignore[no-any-return]

    return _Kind(check, _parse_number)


def _interval() -> _Kind:
    def check(value: Any) -> float | None:
        if value is not None and (not _is_number(value) or value < 0):
            raise ValueError("must be a number of seconds > 0, or None or 0 to turn it off")
        return value or None

    return _Kind(check, _or_none(_parse_number))


def _count(*, none: bool = False) -> _Kind:
    def check(value: Any) -> int | None:
        if none and value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError("must be an integer >= 1" + (" or None for no limit" if none else ""))
        if value > _GREATEST:
            raise ValueError("must be at most 2**63 - 1" + (", or None for no limit" if none else ""))
        return value

    return _Kind(check, _or_none(_parse_number) if none else _parse_number)


_BURST: Final = 10.0
"""Seconds' worth of a rate that may come at once where nothing else is said.

Enough for what piles up while a mobile network, or this worker, is held up for a while.
"""


def _rate() -> _Kind:
    def check(value: Any) -> Rate | None:
        if value is None:
            return None
        pair = tuple(value) if isinstance(value, (tuple, list)) else (value, None)
        if len(pair) != 2 or not _is_number(pair[0]) or not 0.001 <= pair[0] <= 1e12:
            raise ValueError("must be a number a second in 0.001..1e12, a pair of it and of how many at once, or None")
        burst = max(1.0, pair[0] * _BURST) if pair[1] is None else pair[1]
        if not _is_number(burst) or not 1 <= burst <= 1e15:
            raise ValueError("must have as its second number, of how many at once, one in 1..1e15")
        return Rate(float(pair[0]), float(burst))

    def parse(text: str) -> Any:
        rate, comma, burst = text.partition(",")
        return (_parse_number(rate.strip()), _parse_number(burst.strip())) if comma else _parse_number(text)

    return _Kind(check, _or_none(parse))


def _choice(*permitted: str) -> _Kind:
    def check(value: Any) -> str:
        if value not in permitted:
            raise ValueError(f"must be one of {', '.join(permitted)}")
        return str(value)

    return _Kind(check, str.lower)


def _text() -> _Kind:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("must be a string")
        return value

    return _Kind(check, str)


def _path() -> _Kind:
    def check(value: Any) -> str | None:
        if value is not None and (not isinstance(value, str) or not value.startswith("/")):
            raise ValueError("must be a path that begins with a slash, or None")
        return value

    return _Kind(check, _or_none(str))


# The parameters of RFC 7692 §7.1 and of zlib. A server window of 8 bits is not offered: zlib sends 9 instead.
_DEFLATE_RANGES: Final[Mapping[str, tuple[int, int]]] = {
    "server_max_window_bits": (9, 15),
    "client_max_window_bits": (8, 15),
    "level": (0, 9),
    "mem_level": (1, 9),
    "threshold": (0, _GREATEST),
}
_DEFLATE_FLAGS: Final = ("server_no_context_takeover", "client_no_context_takeover")


def _compression() -> _Kind:
    def check(value: Any) -> Mapping[str, Any] | None:
        if value is None or value is False:
            return None
        if value is True or (isinstance(value, str) and value.lower() == "deflate"):
            return {}
        if not isinstance(value, Mapping):
            raise ValueError("must be None, 'deflate' or a mapping of its parameters")
        for name, given in value.items():
            if name in _DEFLATE_FLAGS:
                if not isinstance(given, bool):
                    raise ValueError(f"must have True or False for {name!r}")
            elif name in _DEFLATE_RANGES:
                low, high = _DEFLATE_RANGES[name]
                if isinstance(given, bool) or not isinstance(given, int) or not low <= given <= high:
                    raise ValueError(f"must have an integer in {low}..{high} for {name!r}")
            else:
                raise ValueError(f"must have no {name!r}, permitted: {', '.join((*_DEFLATE_FLAGS, *_DEFLATE_RANGES))}")
        return dict(value)

    def parse(text: str) -> Any:
        if not text.startswith("{"):
            return text
        try:
            return json.loads(text)
        except ValueError:
            raise ValueError("must be a JSON object where it begins with a brace") from None

    return _Kind(check, _or_none(parse))


NATIVE_ENGINE: Final = "ferrows"
"""The name of the codec among the engines."""

_ENGINES: Final = (NATIVE_ENGINE, "websockets", "wsproto")


def _engine() -> _Kind:
    def check(value: Any) -> Any:
        if not callable(value) and value not in _ENGINES:
            raise ValueError(f"must be one of {', '.join(_ENGINES)}, or a factory of engines")
        return value

    return _Kind(check, str.lower)


_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def _origins() -> _Kind:
    def check(value: Any) -> tuple[str, ...] | None:
        if value is None:
            return None
        origins = value.split(",") if isinstance(value, str) else value
        if not isinstance(origins, Iterable) or not all(isinstance(origin, str) for origin in origins):
            raise ValueError("must be None or origins such as 'https://example.com'")
        return tuple(_origin(origin.strip()) for origin in origins)

    return _Kind(check, _or_none(str))


def _origin(text: str) -> str:
    # "null" is what sandboxed pages and local files send (RFC 6454 §7.1), "same" the request's host, "*" every origin.
    if text in ("null", "same", "*"):
        return text
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if not parts.scheme or not parts.hostname or parts.netloc != text[len(parts.scheme) + 3 :] or "@" in text:
        raise ValueError(f"must have origins such as 'https://example.com' and no path; {text!r} is none")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    suffix = "" if port is None or port == _DEFAULT_PORTS.get(parts.scheme) else f":{port}"
    return f"{parts.scheme}://{host}{suffix}"


def _networks() -> _Kind:
    def check(value: Any) -> Any:
        return value if parse_networks(value) else None

    return _Kind(check, _or_none(str))


_HEADER_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def _header_name() -> _Kind:
    def check(value: Any) -> str | None:
        if value is not None and not (isinstance(value, str) and _HEADER_NAME.fullmatch(value)):
            raise ValueError("must be None or the name of a header")
        return value

    return _Kind(check, _or_none(str))


_OPTIONS: Final[Mapping[str, _Option]] = {
    "ACCESS_LOG": _Option(True, _flag()),
    "DEBUG": _Option(False, _flag()),
    # How long a stopping server goes on accepting while `READY_PATH` already says that it stops.
    "DRAIN_DELAY": _Option(0, _seconds(zero=True)),
    # The most over which the Closes of a stopping server's WebSockets are spread.
    "DRAIN_TIMEOUT": _Option(5, _seconds(zero=True)),
    # The form of error pages: by what the client accepts, or always the same.
    "FALLBACK_ERROR_FORMAT": _Option("auto", _choice("auto", "text", "json", "html")),
    # The proxies whose word about a client is taken.
    "FORWARDED_ALLOW_IPS": _Option(None, _networks()),
    # How long a stop waits for requests and handlers before it cancels them.
    "GRACEFUL_SHUTDOWN_TIMEOUT": _Option(15, _seconds(zero=True)),
    "KEEP_ALIVE": _Option(True, _flag()),
    "KEEP_ALIVE_TIMEOUT": _Option(75, _seconds()),
    # Of one worker. None: as many as the limit of open files leaves room for.
    "MAX_CONNECTIONS": _Option(None, _count(none=True)),
    "MAX_CONNECTIONS_PER_ADDRESS": _Option(None, _count(none=True)),
    # Connections whose first request has no answer yet.
    "MAX_HANDSHAKES": _Option(None, _count(none=True)),
    # Whether `App.run` logs its start banner.
    "MOTD": _Option(True, _flag()),
    # How many proxies stand before the server; None: those that FORWARDED_ALLOW_IPS names are skipped.
    "PROXIES_COUNT": _Option(None, _count(none=True)),
    # The peers that begin each connection with a PROXY header.
    "PROXY_PROTOCOL": _Option(None, _networks()),
    # Where the server says whether it is ready, for balancers.
    "READY_PATH": _Option(None, _path()),
    # The header in which a proxy names the client; None: X-Forwarded-For.
    "REAL_IP_HEADER": _Option(None, _header_name()),
    "REQUEST_HEAD_TIMEOUT": _Option(10, _seconds()),
    "REQUEST_MAX_HEADERS": _Option(100, _count()),
    "REQUEST_MAX_HEADER_SIZE": _Option(8192, _count()),
    "REQUEST_MAX_SIZE": _Option(100 * 2**20, _count()),
    "REQUEST_MAX_TARGET_SIZE": _Option(8190, _count()),
    # From the end of the head to the end of the body.
    "REQUEST_TIMEOUT": _Option(60, _seconds()),
    "RESPONSE_TIMEOUT": _Option(60, _seconds()),
    # Host, or scheme and host, for `App.url_for(..., _external=True)`.
    "SERVER_NAME": _Option("", _text()),
    "USE_UVLOOP": _Option(True, _flag()),
    # A second, or a pair: a second and at once. Bytes are those on the wire, or what they inflate to.
    "WEBSOCKET_BYTE_RATE": _Option(None, _rate()),
    "WEBSOCKET_COMPRESSION": _Option(None, _compression()),
    # How long a handler may go on after the end of its connection.
    "WEBSOCKET_HANDLER_TIMEOUT": _Option(300, _interval()),
    "WEBSOCKET_ENGINE": _Option("ferrows", _engine()),
    # Frames of one message.
    "WEBSOCKET_MAX_FRAGMENTS": _Option(2**17, _count(none=True)),
    "WEBSOCKET_MAX_QUEUE": _Option(32, _count()),
    "WEBSOCKET_MAX_SIZE": _Option(2**20, _count(none=True)),
    "WEBSOCKET_MESSAGE_RATE": _Option(None, _rate()),
    "WEBSOCKET_ORIGINS": _Option(None, _origins()),
    "WEBSOCKET_PING_INTERVAL": _Option(20, _interval()),
    # What a client cannot reach that means well: to parse a hundred thousand pings takes some 20 ms.
    "WEBSOCKET_PING_RATE": _Option((1000, 100_000), _rate()),
    "WEBSOCKET_PING_TIMEOUT": _Option(20, _interval()),
    "WEBSOCKET_TIMEOUT": _Option(10, _seconds(zero=True)),
}


def _setting(key: str) -> property:
    """Look a setting up as an attribute: ``__getattr__`` costs four times as much, and connections ask for several."""

    def setting(config: Config) -> Any:
        try:
            return config[key]
        except KeyError:
            raise AttributeError(f"config has no {key!r}") from None

    return property(setting)


for _key in _OPTIONS:
    setattr(Config, _key, _setting(_key))
