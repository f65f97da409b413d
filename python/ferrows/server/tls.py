"""TLS: what ``ssl=`` may be, made into a context."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

__all__ = ["TLS", "ssl_context"]

_Path: TypeAlias = str | os.PathLike[str]

TLS: TypeAlias = ssl.SSLContext | Mapping[str, Any] | tuple[_Path, _Path] | list[_Path] | _Path | None
"""A context; a mapping with ``cert``, ``key`` and perhaps more; certificate and key; a directory with both.

More is ``password`` (of the key), ``ca`` (certificates in a file or a directory) and ``client``: whether clients must
show a certificate that one of ``ca`` has signed, ``none``, ``optional`` or ``required``, which ``ca`` alone means.
"""

_CLIENT: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


def ssl_context(given: TLS) -> ssl.SSLContext | None:
    """Make a server's context of TLS 1.2 and later; a directory has ``fullchain.pem`` and ``privkey.pem`` in it.

    ValueError for what is none of :data:`TLS`; FileNotFoundError and ssl.SSLError, which name them, for files that
    cannot be used.
    """
    if given is None or isinstance(given, ssl.SSLContext):
        return given
    options: Mapping[str, Any] = {}
    if isinstance(given, Mapping):
        options = _checked(given)
        cert, key = options["cert"], options["key"]
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
    # Without a password OpenSSL would ask at the terminal for that of an encrypted key.
    try:
        context.load_cert_chain(cert, key, options.get("password") or _no_password(key))
    except ssl.SSLError as error:
        # OpenSSL gives no reason for a file that it cannot make anything of, and never says which file.
        why = error.reason or "no PEM, or no private key in it, or the password is wrong"
        raise ssl.SSLError(
            error.errno, f"certificate {str(cert)!r} with key {str(key)!r} cannot be used: {why}"
        ) from None
    if options.get("ca") is not None:
        _trust(context, Path(options["ca"]))
        context.verify_mode = _CLIENT[options.get("client") or "required"]
    return context


def _checked(given: Mapping[str, Any]) -> Mapping[str, Any]:
    unknown = set(given) - {"cert", "key", "password", "ca", "client"}
    if unknown or "cert" not in given or "key" not in given:
        raise ValueError(f"ssl must have 'cert', 'key' and perhaps 'password', 'ca', 'client', not {sorted(given)}")
    client = given.get("client")
    if client not in (None, *_CLIENT):
        raise ValueError(f"ssl must have {', '.join(map(repr, _CLIENT))} for 'client', not {client!r}")
    if client in ("optional", "required") and given.get("ca") is None:
        raise ValueError(f"ssl must have 'ca', which signs what clients show, where 'client' is {client!r}")
    return given


def _trust(context: ssl.SSLContext, path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(f"ssl file {str(path)!r} does not exist")
    try:
        context.load_verify_locations(*((None, path) if path.is_dir() else (path, None)))
    except ssl.SSLError as error:
        raise ValueError(f"ssl file {str(path)!r} has no certificates: {error.reason}") from None


def _no_password(key: _Path) -> Callable[[], str]:
    def missing() -> str:
        raise ValueError(f"ssl file {str(key)!r} is encrypted: ssl must have its 'password'")

    return missing
