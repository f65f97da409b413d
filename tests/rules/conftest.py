"""A server without sockets for the tests of HTTP, handshake and closing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .harness import Server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The one server that all these tests talk to, each on connections of its own."""
    from .harness import Server

    server = Server()
    yield server
    server.close()
