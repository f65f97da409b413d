"""TLS: what ``ssl=`` may be, made into a context."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["TLS", "ssl_context"]

_Path: TypeAlias = str | os.PathLike[str]

TLS: TypeAlias = ssl.SSLContext | Mapping[str, Any] | tuple[_Path, _Path] | list[_Path] | _Path | None
"""A context; a mapping with ``cert``, ``key`` and perhaps ``password``; certificate and key; a directory with both."""


def ssl_context(given: TLS) -> ssl.SSLContext | None:
    """Make a server's context of TLS 1.2 and later; a directory has ``fullchain.pem`` and ``privkey.pem`` in it.

    ValueError for what is none of :data:`TLS`; FileNotFoundError and ssl.SSLError for files that cannot be used.
    """
    if given is None or isinstance(given, ssl.SSLContext):
        return given
    password = None
    if isinstance(given, Mapping):
        unknown = set(given) - {"cert", "key", "password"}
        if unknown or "cert" not in given or "key" not in given:
            raise ValueError(f"ssl must have 'cert', 'key' and perhaps 'password', not {sorted(given)}")
        cert, key, password = given["cert"], given["key"], given.get("password")
    elif isinstance(given, str | os.PathLike):
        cert, key = Path(given) / "fullchain.pem", Path(given) / "privkey.pem"
    elif isinstance(given, tuple | list) and len(given) == 2:
        cert, key = given
    else:
        raise ValueError(f"ssl must be a context, a mapping, two paths or a directory, not {given!r}")
    for path in (cert, key):
        if not Path(path).is_file():
            raise FileNotFoundError(f"ssl file {str(path)!r} does not exist")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(cert, key, password)
    return context
