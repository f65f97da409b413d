"""The extension that panics on demand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ferrows import App


@pytest.fixture
def app() -> App:
    return App("panicking", env_prefix=None)


@pytest.fixture(scope="session", autouse=True)
def extension() -> Any:
    """The extension, built with the feature ``panic-injection``; with any other the tests are skipped, in CI too."""
    extension = sys.modules.get("ferrows._core")
    if not hasattr(extension, "_panic_at"):
        if getattr(sys.modules["__main__"].__spec__, "name", "").startswith("tests.panics"):
            pytest.fail("the extension that was loaded is not the one that is in use")
        pytest.skip("the extension cannot panic on demand: make panics runs these tests")
    return extension


@pytest.fixture
def panic_at(extension: Any) -> Iterator[Callable[..., None]]:
    """Have a point of the extension panic; each has to, before the test is over."""
    planned: list[str] = []

    def plan(name: str, countdown: int = 1) -> None:
        extension._panic_at(name, countdown)
        planned.append(name)

    yield plan
    left = [name for name in planned if extension._panic_at(name, 0)]
    assert not left, f"did not panic: {left}"
