"""TLS: versions, ALPN, and the certificates that clients show."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import warnings
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from ferrows import App, Request, json
from ferrows.server import AsyncioServer
from ferrows.server.tls import ssl_context

from .harness import Answer, connect, on_both_loops


@dataclass
class Certificates:
    folder: Path
    ca: trustme.CA
    other: trustme.CA

    def given(self, **more: Any) -> dict[str, Any]:
        return {"cert": self.folder / "fullchain.pem", "key": str(self.folder / "privkey.pem"), **more}

    @property
    def clients(self) -> Path:
        return self.folder / "clients.pem"

    def client(self, issuer: trustme.CA | None = None) -> ssl.SSLContext:
        """Make a client's context, with a certificate of its own if somebody issues one."""
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        if issuer is not None:
            issuer.issue_cert("alice@example.com").configure_cert(context)
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("tls")
    ca, other = trustme.CA(), trustme.CA()
    certificate = ca.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(folder / "privkey.pem")
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(folder / "fullchain.pem", append=True)
    ca.cert_pem.write_to_path(folder / "clients.pem")
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (folder / "encrypted.pem").write_bytes(encrypted)
    return Certificates(folder, ca, other)


@pytest.fixture
def app() -> App:
    app = App("secure", env_prefix=None)

    @app.get("/")
    async def index(request: Request) -> Any:
        return json({"cert": request.conn_info.cert.get("subjectAltName", []), "scheme": request.scheme})

    return app


@contextlib.asynccontextmanager
async def running(app: App, given: Any) -> AsyncIterator[AsyncioServer]:
    async with await app.create_server(port=0, ssl=given) as server:
        yield server


async def ask(server: AsyncioServer, context: ssl.SSLContext) -> Answer:
    client = await connect(server, ssl=context, server_hostname="localhost")
    try:
        return await client.ask("/")
    finally:
        client.writer.transport.abort()


async def is_refused(server: AsyncioServer, context: ssl.SSLContext) -> bool:
    """With TLS 1.3 a client learns only after its own handshake that its certificate will not do."""
    try:
        await ask(server, context)
    except (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
        return True
    return False


@on_both_loops
async def test_http_1_1_is_what_alpn_chooses(app: App, certificates: Certificates) -> None:
    for offered, chosen in ((["h2", "http/1.1"], "http/1.1"), (["h2"], None), ([], None)):
        context = certificates.client()
        if offered:
            context.set_alpn_protocols(offered)
        async with running(app, certificates.given()) as server:
            client = await connect(server, ssl=context, server_hostname="localhost")
            assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == chosen
            assert (await client.ask("/")).status == 200
            await client.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@on_both_loops
async def test_old_tls_is_refused(app: App, certificates: Certificates, version: ssl.TLSVersion) -> None:
    context = certificates.client()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    # What this client's own OpenSSL would refuse to send.
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with running(app, certificates.given()) as server:
        assert await is_refused(server, context)
        assert (await ask(server, certificates.client())).status == 200
    # It is the version that is refused: a server that is told to takes it.
    lenient = ssl_context(certificates.given())
    assert lenient is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        lenient.minimum_version = version
    lenient.set_ciphers("ALL:@SECLEVEL=0")
    async with running(app, lenient) as server:
        assert (await ask(server, context)).status == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@on_both_loops
async def test_client_that_must_show_a_certificate(
    app: App, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    for given in ({}, {"client": "required"}):
        async with running(app, certificates.given(ca=certificates.clients, **given)) as server:
            for issuer, admitted in ((certificates.ca, True), (certificates.other, False), (None, False)):
                context = certificates.client(issuer)
                context.minimum_version = context.maximum_version = version
                if admitted:
                    assert b"alice@example.com" in (await ask(server, context)).body
                else:
                    assert await is_refused(server, context)


@on_both_loops
async def test_client_that_may_show_a_certificate(app: App, certificates: Certificates) -> None:
    async with running(app, certificates.given(ca=str(certificates.clients), client="optional")) as server:
        assert b"alice@example.com" in (await ask(server, certificates.client(certificates.ca))).body
        assert b'"cert":[]' in (await ask(server, certificates.client())).body.replace(b" ", b"")
        assert await is_refused(server, certificates.client(certificates.other))


@on_both_loops
async def test_client_that_is_not_asked_for_a_certificate(app: App, certificates: Certificates) -> None:
    for given in ({"client": "none"}, {"client": "none", "ca": certificates.clients}):
        async with running(app, certificates.given(**given)) as server:
            for issuer in (None, certificates.ca, certificates.other):
                answer = await ask(server, certificates.client(issuer))
                assert b'"cert":[]' in answer.body.replace(b" ", b"")
                assert b'"scheme":"https"' in answer.body.replace(b" ", b"")


@pytest.mark.parametrize("proxies", [None, "10.0.0.0/8"])
@on_both_loops
async def test_client_that_does_not_begin_its_handshake_is_dropped(
    app: App, certificates: Certificates, proxies: str | None
) -> None:
    app.config.update(REQUEST_HEAD_TIMEOUT=0.2, PROXY_PROTOCOL=proxies)
    async with running(app, certificates.given()) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()


@pytest.mark.parametrize("client", ["optional", "required"])
def test_certificates_of_clients_need_who_signs_them(certificates: Certificates, client: str) -> None:
    with pytest.raises(ValueError, match=f"ssl must have 'ca', .* where 'client' is '{client}'"):
        ssl_context(certificates.given(client=client))


@pytest.mark.parametrize("client", ["always", True, 2])
def test_what_is_no_choice_for_clients_is_an_error(certificates: Certificates, client: Any) -> None:
    with pytest.raises(ValueError, match="ssl must have 'none', 'optional', 'required' for 'client', not"):
        ssl_context(certificates.given(ca=certificates.clients, client=client))


def test_file_of_authorities_that_is_none_is_named(certificates: Certificates, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pem"):
        ssl_context(certificates.given(ca=tmp_path / "nowhere.pem"))
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(ValueError, match=r"empty\.pem' has no certificates"):
        ssl_context(certificates.given(ca=tmp_path / "empty.pem"))
    assert ssl_context(certificates.given(ca=tmp_path)) is not None


def test_key_that_is_encrypted_needs_its_password(certificates: Certificates) -> None:
    given = certificates.given() | {"key": certificates.folder / "encrypted.pem"}
    assert ssl_context(given | {"password": "secret"}) is not None
    with pytest.raises(ValueError, match=r"encrypted\.pem' is encrypted: ssl must have its 'password'"):
        ssl_context(given)
    with pytest.raises(ssl.SSLError):
        ssl_context(given | {"password": "wrong"})
