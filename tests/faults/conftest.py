"""What every test of faults needs."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from .serving import LOOPS, Server, running, serves
from .shim import Faults, forget_library, needs_shim


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave all of them out where there is no /proc to see what a process uses."""
    if sys.platform == "linux":
        return
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="faults are injected, and seen in /proc, on Linux"))


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    """Each test runs on both loops."""
    return str(request.param)


@pytest.fixture
def faults() -> Iterator[Faults]:
    needs_shim()
    with Faults() as found:
        yield found


class Struck(NamedTuple):
    """A server with its faults, and what it uses at rest."""

    server: Server
    faults: Faults
    before: dict[str, int]


@pytest.fixture(scope="module", params=LOOPS)
def shared(request: pytest.FixtureRequest) -> Iterator[Struck]:
    """One server for a module's tests on a loop; :func:`struck` gives it to each."""
    needs_shim()
    with Faults() as faults, running(request.param, faults=faults) as server:
        # Once, for what is imported and made when it is first needed.
        assert serves(server)
        server.until_freed({**server.used(), "connections": 1, "websockets": 0})
        yield Struck(server, faults, server.used())


@pytest.fixture
def struck(shared: Struck) -> Iterator[Struck]:
    """A server that has no faults yet; afterwards it serves as before, has let go of everything, and no traceback."""
    lines = len(shared.server.lines())
    yield shared
    shared.faults.stop()
    shared.faults.set_clocks()
    assert serves(shared.server)
    shared.server.until_freed(shared.before)
    assert "Traceback" not in "\n".join(shared.server.lines()[lines:])


@pytest.fixture(scope="session", autouse=True)
def compiled() -> Iterator[None]:
    """Remove the shim at the end."""
    yield
    forget_library()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def trust(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="session")
def certificate(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(folder / "cert.pem", append=number > 0)
    return {"cert": str(folder / "cert.pem"), "key": str(folder / "key.pem")}
