"""Error pages: their form, and what they show in debug mode only."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ferrows import App, HTTPResponse, text
from ferrows.errorpages import ErrorHandler
from ferrows.exceptions import Forbidden, RequestCancelled, ServerError

from .harness import Ask


@pytest.fixture
def failing(app: App) -> App:
    @app.get("/boom/<tag>")
    async def boom(request: Any, tag: str) -> None:
        raise RuntimeError("<secret>")

    @app.get("/refuse")
    async def refuse(request: Any) -> None:
        raise Forbidden("<b>no</b>", context={"who": "<you>"}, extra={"why": "<rule>"}, headers={"x-a": "1"})

    return app


@pytest.mark.parametrize(
    ("headers", "content_type"),
    [
        ({}, "text/plain; charset=utf-8"),
        ({"accept": "*/*"}, "text/plain; charset=utf-8"),
        ({"accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}, "text/html; charset=utf-8"),
        ({"accept": "application/json"}, "application/json"),
        ({"accept": "text/html;q=0.5, application/json;q=0.9"}, "application/json"),
        ({"accept": "text/html;q=0, application/json;q=x, text/*"}, "text/plain; charset=utf-8"),
        ({"accept": "application/*;q=2, image/png"}, "text/plain; charset=utf-8"),
        ({"accept": "application/*"}, "application/json"),
        ({"content-type": "application/json"}, "application/json"),
    ],
)
async def test_form_is_what_the_client_accepts(failing: App, ask: Ask, headers: Any, content_type: str) -> None:
    response = await ask(failing, "/nowhere", headers=headers)
    assert response is not None
    assert (response.status, response.content_type) == (404, content_type)


async def test_configured_form_and_the_routes_come_before_what_is_accepted(failing: App, ask: Ask) -> None:
    async def fail(request: Any) -> None:
        raise Forbidden

    failing.add_route(fail, "/html", error_format="html")
    failing.config.FALLBACK_ERROR_FORMAT = "json"
    by_config = await ask(failing, "/nowhere", headers={"accept": "text/plain"})
    by_route = await ask(failing, "/html", headers={"accept": "text/plain"})
    assert by_config is not None and by_route is not None
    assert (by_config.content_type, by_route.content_type) == ("application/json", "text/html; charset=utf-8")


@pytest.mark.parametrize("form", ["text", "json", "html"])
async def test_traceback_is_shown_in_debug_mode_only(failing: App, ask: Ask, form: str) -> None:
    failing.config.FALLBACK_ERROR_FORMAT = form
    quiet = await ask(failing, "/boom/1")
    failing.debug = True
    loud = await ask(failing, "/boom/1")
    refused = await ask(failing, "/refuse")
    assert quiet is not None and loud is not None and refused is not None
    assert b"secret" not in quiet.body and b"Traceback" not in quiet.body
    assert b"Traceback" in loud.body and b"secret" in loud.body
    assert b"Traceback" not in refused.body


@pytest.mark.parametrize("form", ["text", "json", "html"])
async def test_context_is_shown_always_and_extra_in_debug_mode(failing: App, ask: Ask, form: str) -> None:
    failing.config.FALLBACK_ERROR_FORMAT = form
    quiet = await ask(failing, "/refuse")
    failing.debug = True
    loud = await ask(failing, "/refuse")
    assert quiet is not None and loud is not None
    assert quiet.headers["x-a"] == "1"
    assert b"who" in quiet.body and b"why" not in quiet.body
    assert b"who" in loud.body and b"why" in loud.body


async def test_html_page_escapes_everything(failing: App, ask: Ask) -> None:
    failing.debug = True
    pages = [
        await ask(failing, path, headers={"accept": "text/html"})
        for path in ("/boom/<script>", "/refuse", "/nowhere/<script>")
    ]
    for page in pages:
        assert page is not None
        assert b"&lt;" in page.body
        for unsafe in (b"<script>", b"<secret>", b"<b>", b"<you>", b"<rule>"):
            assert unsafe not in page.body


async def test_json_page_has_description_status_and_message(failing: App, ask: Ask) -> None:
    response = await ask(failing, "/nowhere", headers={"accept": "application/json"})
    assert response is not None
    assert json.loads(response.body) == {
        "description": "Not Found",
        "status": 404,
        "message": "Requested URL /nowhere not found",
    }


@pytest.mark.parametrize(("status", "title"), [(499, "Unknown Error"), (418, "I'm a Teapot")])
async def test_status_without_a_phrase_has_a_page_too(app: App, ask: Ask, status: int, title: str) -> None:
    async def fail(request: Any) -> None:
        raise ServerError("x", status)

    app.add_route(fail, "/")
    response = await ask(app, "/")
    assert response is not None
    assert (response.status, response.body) == (status, f"{status} {title}\n\nx\n".encode())


async def test_status_that_cannot_be_sent_is_a_500(app: App, ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(request: Any) -> None:
        raise ServerError("x", 99, quiet=True)

    app.add_route(fail, "/")
    response = await ask(app, "/")
    assert response is not None
    assert response.status == 500
    assert len(caplog.records) == 1


async def test_own_error_handler_changes_the_default(ask: Ask) -> None:
    class Own(ErrorHandler):
        def default(self, request: Any, exception: Exception) -> HTTPResponse:
            return text(f"own {type(exception).__name__}", 503)

    response = await ask(App("own", error_handler=Own()), "/nowhere")
    assert response is not None
    assert (response.status, response.body) == (503, b"own NotFound")


async def test_client_that_has_left_is_no_error_of_the_handler(
    app: App, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    @app.get("/left")
    async def left(request: Any) -> None:
        # What `Request.upgrade` and the `send` of a streamed response raise then.
        raise RequestCancelled("the client has left")

    await ask(app, "/left")
    assert caplog.records == []
