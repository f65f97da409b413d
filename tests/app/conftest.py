"""Fixtures of the app's tests."""

from __future__ import annotations

from typing import Any

import pytest

from ferrows import App, HTTPResponse

from .harness import Ask, answer, make_request


@pytest.fixture
def ask() -> Ask:
    """Have an app answer a request, without a network."""

    async def ask(app: App, path: str, method: str = "GET", **options: Any) -> HTTPResponse | None:
        return await answer(app, make_request(app, path, method, **options))

    return ask


@pytest.fixture
def app() -> App:
    return App("tested", env_prefix=None)
