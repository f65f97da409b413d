"""What all tests share: the two codecs, and how long Hypothesis searches."""

from __future__ import annotations

import importlib
import importlib.util
import os
from importlib.machinery import PathFinder
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

CI = os.environ.get("CI", "").lower() in ("1", "true")

NOT_BUILT = "the extension module ferrows._core is not built (make build)"


def extension_is_built() -> bool:
    """Look for the extension without importing ``ferrows``, which needs it."""
    package = importlib.util.find_spec("ferrows")
    return package is not None and PathFinder.find_spec("ferrows._core", package.submodule_search_locations) is not None


if not CI and not extension_is_built():
    # `import ferrows` raises without the extension. On a developer's machine the twin's tests are to run all the same.
    os.environ.setdefault("FERROWS_NO_EXTENSIONS", "1")

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, print_blob=True)
settings.register_profile("long", settings.get_profile("default"), max_examples=50_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if CI else "default"))


def extension() -> ModuleType:
    """Return ``ferrows._core``; without it the test fails in CI and is skipped elsewhere."""
    if not extension_is_built():
        if CI:
            pytest.fail(NOT_BUILT)
        pytest.skip(NOT_BUILT)
    return importlib.import_module("ferrows._core")


@pytest.fixture(params=["rust", "python"], scope="session")
def codec(request: pytest.FixtureRequest) -> ModuleType:
    """One of the two codecs: ``ferrows._core`` and its pure-Python twin ``ferrows._pycore``."""
    if request.param == "rust":
        return extension()
    return importlib.import_module("ferrows._pycore")


@pytest.fixture(scope="session")
def extension_and_twin() -> tuple[ModuleType, ModuleType]:
    """Both codecs, to be compared."""
    return extension(), importlib.import_module("ferrows._pycore")
