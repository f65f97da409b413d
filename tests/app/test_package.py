"""The package's public names."""

from __future__ import annotations

from importlib.metadata import version

import pytest

import ferrows


def test_all_public_names_are_there() -> None:
    assert [name for name in ferrows.__all__ if not hasattr(ferrows, name)] == []


def test_version_is_the_installed_packages() -> None:
    assert ferrows.__version__ == version("ferrows")


def test_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ferrows.nothing
