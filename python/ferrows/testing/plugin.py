"""Fixtures for pytest: ``ferrows_client`` and ``async_ferrows_client``.

pytest imports this in every run of an environment that has ferrows, so that nothing else of it is imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ferrows import App

    from .client import AsyncTestClient
    from .sync import TestClient

__all__ = ["async_ferrows_client", "ferrows_client"]


@pytest.fixture
def ferrows_client() -> Iterator[Callable[..., TestClient]]:
    """Make clients of apps, started: ``client = ferrows_client(app)``. They are closed at the end of the test.

    The options are those of ``ferrows.testing.TestClient``.
    """
    from .sync import TestClient

    with ExitStack() as clients:

        def make(app: App, **options: Any) -> TestClient:
            return clients.enter_context(TestClient(app, **options))

        yield make


@pytest.fixture
def async_ferrows_client() -> Callable[..., AsyncTestClient]:
    """Make clients of apps for tests that are coroutines: ``async with async_ferrows_client(app) as client``.

    The options are those of ``ferrows.testing.AsyncTestClient``.
    """
    from .client import AsyncTestClient

    return AsyncTestClient
