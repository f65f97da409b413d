from __future__ import annotations

import json
import os
import re
import shutil
from http.client import HTTPConnection

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


def log_in(example, password="lovelace", name="ada", origin="http://here.example"):
    connection = HTTPConnection("127.0.0.1", example.port, timeout=60)
    body = json.dumps({"name": name, "password": password})
    connection.request("POST", "/ticket", body, {"Origin": origin, "Accept": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer.get("ticket") or answer["message"]


def opening(example, ticket, origin="http://here.example"):
    return connect(example.ws("/ws"), subprotocols=["echo", f"bearer.{ticket}"], origin=origin)


async def test_a_ticket_opens_one_connection(serve):
    example = serve("tickets")
    status, ticket = log_in(example)
    assert status == 200
    async with opening(example, ticket) as ws:
        assert ws.subprotocol == "echo"
        assert json.loads(await ws.recv())["hello"] == "ada"
        await ws.send("hello")
        assert await ws.recv() == "hello"
    with pytest.raises(InvalidStatus) as refused:
        await opening(example, ticket)
    assert refused.value.response.status_code == 401
    assert ticket not in example.output()


@pytest.mark.parametrize(
    ("ticket", "origin", "status"),
    [
        ("own", "http://elsewhere.example", 401),
        ("nonsense", "http://here.example", 401),
        ("", "http://here.example", 400),
    ],
)
async def test_nobody_else_is_let_in(serve, ticket, origin, status):
    example = serve("tickets")
    if ticket == "own":
        _, ticket = log_in(example)
    with pytest.raises(InvalidStatus) as refused:
        await opening(example, ticket, origin)
    assert refused.value.response.status_code == status


@pytest.mark.parametrize(
    ("name", "password"), [("ada", "hopper"), ("nobody", "lovelace"), (None, None), ("ada", "\ud800")]
)
def test_a_wrong_password_gets_no_ticket(serve, name, password):
    assert log_in(serve("tickets"), password, name) == (401, "wrong name or password")


async def test_a_session_is_renewed_with_a_ticket_of_the_same_person_and_ends_otherwise(launched, monkeypatch):
    monkeypatch.setitem(os.environ, "SESSION", "4")
    example = launched("tickets")
    async with opening(example, log_in(example)[1]) as ws:
        first = json.loads(await ws.recv())["expires"]
        await ws.send(f"renew {log_in(example)[1]}")
        assert json.loads(await ws.recv())["expires"] > first
        await ws.send(f"renew {log_in(example, 'hopper', 'grace')[1]}")
        assert json.loads(await ws.recv())["error"] == "the ticket is somebody else's"
        await ws.send("renew x")
        assert json.loads(await ws.recv())["error"] == "the ticket is not valid"
        with pytest.raises(ConnectionClosed):
            await ws.recv()
    assert (ws.close_code, ws.close_reason) == (3000, "session expired")


def test_the_page_logs_in_talks_renews_and_is_told_when_its_session_is_over(launched, monkeypatch):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (make setup)")
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        reason = "Chromium is not installed (make system-deps)"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    monkeypatch.setitem(os.environ, "SESSION", "6")
    example = launched("tickets")
    expect = playwright.expect
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        errors, frames = [], []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("websocket", lambda ws: ws.on("framereceived", lambda frame: frames.append(frame)))
        page.goto(f"http://127.0.0.1:{example.port}/")
        page.fill("[name=password]", "wrong")
        page.click("text=Log in")
        expect(page.locator("#state")).to_have_text("wrong name or password")
        page.fill("[name=password]", "lovelace")
        page.click("text=Log in")
        expect(page.locator("#state")).to_have_text(re.compile("^ada until"))
        page.fill("[name=text]", "hello")
        page.click("text=Send")
        expect(page.locator("#messages li")).to_have_text(["hello"])
        page.click("text=Stay longer")
        expect(page.locator("#state")).to_have_text("Your session is over, log in again.", timeout=30_000)
        expect(page.locator("#login")).to_be_visible()
        browser.close()
    assert errors == []
    hello, renewed = (json.loads(frame) for frame in frames if frame.startswith("{"))
    assert (hello["hello"], renewed["renewed"]) == ("ada", "ada")
    assert renewed["expires"] > hello["expires"]
