"""Listening sockets, and contexts for TLS."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trustme

from ferrows.server import socket as socket_module
from ferrows.server.socket import (
    bind_socket,
    bind_unix_socket,
    configure_socket,
    inherited_socket,
    remove_unix_socket,
    shared_port,
)
from ferrows.server.tls import ssl_context


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


@pytest.mark.parametrize(
    ("host", "family"),
    [
        ("127.0.0.1", socket.AF_INET),
        pytest.param("::1", socket.AF_INET6, marks=needs_ipv6),
        ("localhost", None),
    ],
)
def test_tcp_socket_listens_at_an_address_or_a_hostname(host: str, family: socket.AddressFamily | None) -> None:
    with closing(bind_socket(host, 0, backlog=5)) as sock:
        assert family in (None, sock.family)
        with socket.create_connection(sock.getsockname()[:2], timeout=30) as client:
            assert client.getpeername()[1] == sock.getsockname()[1]
        assert not sock.getblocking()
        assert not sock.get_inheritable()


def test_port_in_use_is_an_error_that_names_the_address() -> None:
    with closing(bind_socket("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(OSError, match=rf"127\.0\.0\.1:{port}") as raised:
            bind_socket("127.0.0.1", port)
    assert raised.value.errno == errno.EADDRINUSE


def test_hostname_that_is_none_is_an_error_that_names_it() -> None:
    with pytest.raises(OSError, match=r"host\.invalid:80"):
        bind_socket("host.invalid", 80)


@needs_ipv6
def test_address_of_ipv6_is_named_in_brackets() -> None:
    with closing(bind_socket("::1", 0)) as sock, pytest.raises(OSError, match=r"\[::1\]:"):
        bind_socket("::1", sock.getsockname()[1])


def test_port_can_be_shared() -> None:
    with closing(bind_socket("127.0.0.1", 0, reuse_port=True)) as first:
        port = first.getsockname()[1]
        with closing(bind_socket("127.0.0.1", port, reuse_port=True)) as second:
            assert second.getsockname()[1] == port


@needs_ipv6
def test_port_is_free_on_each_address() -> None:
    port = shared_port(None)
    assert port > 0
    for host in ("::", "0.0.0.0"):
        bind_socket(host, port).close()
    assert shared_port("127.0.0.1") == shared_port("host.invalid") == 0


def test_port_that_is_free_nowhere_is_left_to_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = [(socket.AF_INET, 0, 0, "", ("127.0.0.1", 0)), (socket.AF_INET, 0, 0, "", ("192.0.2.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: addresses)
    assert shared_port("both") == 0


# ---- inherited


def test_socket_of_another_process_is_taken_over() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    os.set_inheritable(listening.fileno(), True)
    address = listening.getsockname()
    with closing(inherited_socket(listening.detach())) as sock:
        assert sock.getsockname() == address
        assert not sock.getblocking()
        assert not sock.get_inheritable()
        socket.create_connection(address, timeout=30).close()


def test_descriptor_that_is_no_listening_socket_is_named(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(OSError, match=f"{file.fileno()} is no socket"):
        inherited_socket(file.fileno())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        with pytest.raises(OSError, match=f"{sock.fileno()} is no socket of TCP or Unix streams"):
            inherited_socket(sock.fileno())
        # It is still whose it was.
        sock.bind(("127.0.0.1", 0))
    with pytest.raises(OSError, match="descriptor 9999 is no socket"):
        inherited_socket(9999)


# ---- Unix


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "s"
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith("s.")] == []


def test_unix_socket_listens_with_its_mode(path: Path) -> None:
    with closing(bind_unix_socket(path, mode=0o600)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_stale_unix_socket_is_replaced(path: Path) -> None:
    bind_unix_socket(path).close()
    before = path.stat().st_ino
    with closing(bind_unix_socket(str(path))), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert path.stat().st_ino != before


def test_live_unix_socket_is_respected(path: Path) -> None:
    with closing(bind_unix_socket(path)) as sock:
        with pytest.raises(OSError, match="listens on the Unix socket") as raised:
            bind_unix_socket(path)
        assert raised.value.errno == errno.EADDRINUSE
        remove_unix_socket(path)
        assert path.exists()
        # The probe was a connection and nothing else.
        sock.accept()[0].close()


def test_unix_socket_that_nobody_may_connect_to_is_respected(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: str) -> None:
        raise PermissionError

    with closing(bind_unix_socket(path)):
        monkeypatch.setattr(socket.socket, "connect", refuse)
        with pytest.raises(OSError, match="already"):
            bind_unix_socket(path)


def test_file_that_is_no_socket_is_not_replaced(path: Path) -> None:
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="not a socket"):
        bind_unix_socket(path)
    remove_unix_socket(path)
    assert path.read_text() == "mine"


def test_folder_of_a_unix_socket_must_exist(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="folder"):
        bind_unix_socket(path / "deeper")


def test_path_of_a_unix_socket_that_is_too_long_is_named(tmp_path: Path) -> None:
    path = tmp_path / ("s" * 120)
    with pytest.raises(OSError, match="bytes, permitted") as refused:
        bind_unix_socket(path)
    assert (refused.value.errno, refused.value.filename) == (errno.ENAMETOOLONG, str(path))


def test_unix_socket_that_cannot_be_made_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise PermissionError("chmod")

    monkeypatch.setattr(os, "chmod", fail)
    with pytest.raises(PermissionError, match="chmod"):
        bind_unix_socket(path)
    assert not path.exists()


def test_dead_unix_socket_is_removed(path: Path) -> None:
    bind_unix_socket(path).close()
    remove_unix_socket(path)
    assert not path.exists()
    remove_unix_socket(path)
    remove_unix_socket(None)


def test_path_that_another_server_takes_while_it_is_removed_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bind_unix_socket(path).close()
    asked: list[Path] = []
    successors: list[socket.socket] = []
    is_alive = socket_module._is_alive

    def is_alive_until_now(asked_for: Path) -> bool:
        asked.append(asked_for)
        found = is_alive(asked_for)
        if len(asked) == 1:
            successors.append(bind_unix_socket(path))
        return found

    monkeypatch.setattr(socket_module, "_is_alive", is_alive_until_now)
    remove_unix_socket(path)
    with closing(successors[0]), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    assert list(path.parent.iterdir()) == [path]


# ---- settings


def test_settings_with_a_socket_give_that_one() -> None:
    with closing(bind_socket("127.0.0.1", 0)) as sock:
        settings = {"sock": sock, "host": "ignored", "port": 1, "unix": None, "backlog": 5}
        assert configure_socket(settings) is sock
        assert (settings["sock"], settings["host"], settings["port"]) == (sock, None, None)


def test_settings_with_a_path_give_a_unix_socket(path: Path) -> None:
    settings: dict[str, object] = {"unix": os.path.relpath(path), "backlog": 5}
    with closing(configure_socket(settings)) as sock:
        assert sock.family == socket.AF_UNIX
        assert settings["unix"] == str(path)


def test_settings_with_an_address_give_a_tcp_socket() -> None:
    settings = {"host": "127.0.0.1", "port": 0, "reuse_port": True}
    with closing(configure_socket(settings)) as sock:
        assert sock.getsockname()[0] == "127.0.0.1"
        assert settings["sock"] is sock


# ---- TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    certificate = trustme.CA().issue_cert("localhost")
    certificate.private_key_pem.write_to_path(folder / "privkey.pem")
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(folder / "fullchain.pem", append=True)
    return folder


def test_context_is_taken_as_it_is() -> None:
    context = ssl.create_default_context()
    assert ssl_context(context) is context
    assert ssl_context(None) is None


def test_context_is_made_of_files_in_every_form(certificates: Path) -> None:
    cert, key = certificates / "fullchain.pem", certificates / "privkey.pem"
    forms: list[Any] = [certificates, str(certificates), (cert, key), [str(cert), key], {"cert": cert, "key": key}]
    for given in forms:
        context = ssl_context(given)
        assert context is not None
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("given", [{"cert": "x"}, {"cert": "x", "key": "y", "more": 1}, ("x",), 3])
def test_what_is_no_context_is_an_error(given: object) -> None:
    with pytest.raises(ValueError, match="ssl must"):
        ssl_context(given)  # type: ignore[arg-type]


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"fullchain\.pem"):
        ssl_context(tmp_path)
