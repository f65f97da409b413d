"""Listening sockets: TCP and Unix."""

from __future__ import annotations

import errno
import os
import secrets
import socket
import stat
import sys
from contextlib import ExitStack, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

__all__ = [
    "ALL_INTERFACES",
    "BACKLOG",
    "bind_socket",
    "bind_sockets",
    "bind_unix_socket",
    "check_port",
    "configure_socket",
    "inherited_socket",
    "remove_unix_socket",
    "shared_port",
]

BACKLOG: Final = 2048
"""How many connections may wait to be accepted, unless a server is told; the kernel may permit fewer (``somaxconn``).

``serve``, ``bind_socket`` and ``bind_unix_socket`` have the reference's 100. When a thousand clients come back at once,
the kernel drops what does not fit, and these try again after a second, after three, and after seven.
"""

ALL_INTERFACES: Final = "*"
"""The host of ``App.run`` that stands for every interface, on IPv4 and on IPv6; event loops say None."""

# What `sun_path` holds with its NUL, less what the temporary name adds.
_MAX_UNIX_PATH: Final = (108 if sys.platform == "linux" else 104) - 1 - 9


def bind_socket(host: str, port: int, backlog: int = 100, *, reuse_port: bool = False) -> socket.socket:
    """Make a listening TCP socket.

    ``host`` is an IPv4 or IPv6 address or a hostname, of which the first address is taken; port 0 takes a free one.
    OSError where the address cannot be resolved or bound; its text names the address. ValueError for a port that is
    none.
    """
    check_port(port)
    family, address = _resolve(host, port)[0]
    return _bound(family, address, _authority(host, port), backlog, reuse_port)


def bind_sockets(
    host: str | None, port: int, backlog: int | None = BACKLOG, *, reuse_port: bool = False
) -> list[socket.socket]:
    """Make a listening TCP socket for every address of a host, as event loops do; IPv6 ones take IPv6 alone.

    Without a host these are all interfaces. With port 0 all get the same free one. Addresses that this machine does not
    have are left out as long as one remains. With ``backlog`` None they do not listen yet. Errors are those of
    :func:`bind_socket`.
    """
    check_port(port)
    port = port or shared_port(host)
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, address in _resolve(host, port):
            found = port or (sockets[0].getsockname()[1] if sockets else 0)
            try:
                sock = _bound(
                    family, (address[0], found, *address[2:]), _authority(host, found), backlog, reuse_port, only=True
                )
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
            else:
                sockets.append(sock)
        if missing is not None and not sockets:
            raise missing
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bound(
    family: socket.AddressFamily,
    address: Any,
    authority: str,
    backlog: int | None,
    reuse_port: bool,
    *,
    only: bool = False,
) -> socket.socket:
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}: {authority}") from None
    try:
        if os.name == "posix":
            # Elsewhere it would let another process take the port over.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if only and family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        if backlog is not None:
            sock.listen(backlog)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"{error.strerror}: {authority}") from None
    return sock


def inherited_socket(fd: int) -> socket.socket:
    """Take a socket over that another process has bound, as systemd does (its first is 3); it is closed by its server.

    OSError, naming the descriptor, where it is no socket of TCP or Unix streams.
    """
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise OSError(error.errno, f"file descriptor {fd} is no socket: {error.strerror}") from None
    if sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX) or sock.type != socket.SOCK_STREAM:
        sock.detach()
        raise OSError(errno.EINVAL, f"file descriptor {fd} is no socket of TCP or Unix streams")
    sock.setblocking(False)
    # Not for the processes that this one starts.
    sock.set_inheritable(False)
    return sock


def shared_port(host: str | None) -> int:
    """Find a port that is free on each address of a host; 0 where there is but one, which can take one by itself.

    An event loop binds each address by itself, and port 0 would be another port on each.
    """
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror:
        return 0  # Which the loop will say.
    addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    for _ in range(_PORTS_TRIED if len(addresses) > 1 else 0):
        port = 0
        with ExitStack() as stack:
            try:
                for family, address in addresses:
                    sock = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
                    if family == socket.AF_INET6:
                        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    sock.bind((address[0], port, *address[2:]))
                    port = sock.getsockname()[1]
            except OSError:
                continue
        return port
    return 0


_PORTS_TRIED: Final = 20


def check_port(port: int | None) -> None:
    """Raise ValueError for a number that is no port; each event loop would say that in its own way, or take another."""
    if isinstance(port, int) and not 0 <= port <= 65535:
        raise ValueError(f"port must be in 0..65535, not {port}")


def bind_unix_socket(path: str | os.PathLike[str], mode: int = 0o666, backlog: int = 100) -> socket.socket:
    """Make a listening Unix socket with the permissions ``mode``.

    A socket that nobody listens on any more is replaced, in one step, so that clients never find nothing. OSError with
    EADDRINUSE where somebody does; FileExistsError where the path is no socket; FileNotFoundError without its folder;
    OSError with ENAMETOOLONG for a path that does not fit into an address.
    """
    location = Path(os.path.abspath(path))
    if (size := len(os.fsencode(location))) > _MAX_UNIX_PATH:
        message = f"path of a Unix socket has {size} bytes, permitted {_MAX_UNIX_PATH}"
        raise OSError(errno.ENAMETOOLONG, message, str(location))
    if not location.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "folder of the socket does not exist", str(location.parent))
    if not _is_socket(location) and os.path.lexists(location):
        raise FileExistsError(errno.EEXIST, "what exists is not a socket", str(location))
    if _is_alive(location):
        raise OSError(errno.EADDRINUSE, f"a server listens on the Unix socket {location} already")
    temporary = str(_beside(location))
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(temporary)
        os.chmod(temporary, mode)
        # It listens before it has its name, so that nobody is refused in between.
        sock.listen(backlog)
        sock.setblocking(False)
        os.rename(temporary, location)
    except BaseException:
        sock.close()
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    return sock


def configure_socket(server_settings: dict[str, Any]) -> socket.socket:
    """Return the listening socket that settings ask for, and leave it in them as ``sock``.

    Reads ``sock``, else ``unix``, else ``host`` and ``port``, and ``backlog``; the address is then taken out.
    """
    sock: socket.socket | None = server_settings.get("sock")
    backlog = server_settings.get("backlog", 100)
    if sock is None and server_settings.get("unix"):
        server_settings["unix"] = os.path.abspath(server_settings["unix"])
        sock = bind_unix_socket(server_settings["unix"], backlog=backlog)
    elif sock is None:
        sock = bind_socket(
            server_settings.get("host") or "127.0.0.1",
            server_settings.get("port") or 0,
            backlog,
            reuse_port=bool(server_settings.get("reuse_port")),
        )
    server_settings.update(sock=sock, host=None, port=None)
    return sock


def remove_unix_socket(path: str | os.PathLike[str] | None) -> None:
    """Remove a Unix socket at the end of its server, unless it is gone or another server has it by now."""
    if not path:
        return
    location = Path(path)
    if not _is_socket(location) or _is_alive(location):
        return
    # Another server may have taken the path just now. What is removed is looked at once more where nobody can.
    aside = _beside(location)
    with suppress(FileNotFoundError):
        os.rename(location, aside)
        try:
            if _is_alive(aside):
                with suppress(FileExistsError):  # A third one has it.
                    os.link(aside, location)
        finally:
            aside.unlink(missing_ok=True)


def _resolve(host: str | None, port: int) -> list[tuple[socket.AddressFamily, Any]]:
    """The addresses of a host, each once; OSError where there are none."""
    try:
        version = ip_address(host or "").version
    except ValueError:
        try:
            found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except socket.gaierror as error:
            raise OSError(error.errno, f"{error.strerror}: {_authority(host, port)}") from None
        return list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    return [(socket.AF_INET6 if version == 6 else socket.AF_INET, (host, port))]


def _authority(host: str | None, port: int) -> str:
    if host is None:
        return f"{ALL_INTERFACES}:{port}"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _beside(location: Path) -> Path:
    """A name in the same folder that nobody has."""
    return location.with_name(f"{location.name}.{secrets.token_hex(4)}")


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _is_alive(path: Path) -> bool:
    """Whether somebody listens; asking with a connection is the only way to know."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            # A full backlog (EAGAIN) or a refusal by permissions: somebody is there.
            return True
        return True
