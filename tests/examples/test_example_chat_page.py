"""The page of the chat in Chromium: what a person sees when things go well, and when they do not."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (make setup)")
expect = playwright.expect


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        reason = "Chromium is not installed (make system-deps)"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser):
    """Open a path of an example in a browser profile of its own; a script must not fail there."""
    contexts, errors = [], []

    def go(example, path, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"http://127.0.0.1:{example.port}{path}")
        return page

    yield go
    for context in contexts:
        context.close()
    assert errors == []


def state(page):
    return page.locator("#state")


def say(page, text):
    page.fill("#message", text)
    page.press("#message", "Enter")


def messages(page, text):
    return page.locator("#messages .message:not(.pending)").filter(has_text=text)


def is_open(page):
    expect(state(page)).to_have_attribute("data-state", "open")


def test_form_joins_keeps_the_room_in_the_address_and_a_reload_comes_back(serve, visit):
    page = visit(serve("chat"), "/")
    expect(state(page)).to_have_attribute("data-state", "closed")
    expect(page.locator("#name")).to_be_focused()
    page.fill("#name", "ada")
    page.fill("#room", "The Garden")
    page.press("#room", "Enter")
    is_open(page)
    expect(page.locator("#title")).to_have_text("#the-garden")
    expect(page.locator("#message")).to_be_focused()
    assert page.url.endswith("/?room=the-garden")
    say(page, "before the reload")
    expect(messages(page, "before the reload")).to_have_count(1)
    page.reload()
    is_open(page)
    expect(messages(page, "before the reload")).to_have_count(1)
    expect(page.locator("#people")).to_have_text(re.compile("ada"))
    page.click("#leave")
    expect(page.locator("#join")).to_be_visible()


def test_refusal_is_shown_in_the_form(serve, visit):
    page = visit(serve("chat"), "/?room=a.b&name=ada")
    expect(page.locator("#join-error")).to_have_text("A room's name is 1 to 32 letters, digits, - or _.")
    expect(page.locator("#join")).to_be_visible()
    expect(state(page)).to_have_attribute("data-state", "closed")


def test_room_of_the_list_can_be_picked(serve, visit):
    visit(serve("chat"), "/?room=listed&name=ada").wait_for_selector("#state[data-state=open]")
    page = visit(serve("chat"), "/")
    page.fill("#name", "bob")
    page.get_by_role("button", name="Room listed, 1 person").click()
    is_open(page)
    expect(page.locator("#people > li")).to_have_count(2)


def test_markup_stays_text_and_only_web_addresses_become_links(serve, visit):
    page = visit(serve("chat"), "/?room=text&name=<i>ada</i>")
    is_open(page)
    text = "<img src=x onerror=alert(1)> javascript:alert(1) https://example.com/a?b=1#c, &amp;"
    say(page, text)
    sent = messages(page, text)
    expect(sent).to_have_count(1)
    assert sent.locator("a").evaluate_all("(links) => links.map((link) => link.href)") == [
        "https://example.com/a?b=1#c"
    ]
    assert "noopener" in sent.locator("a").get_attribute("rel")
    assert page.locator("#messages img, #messages i, #people i").count() == 0


def test_what_was_not_read_is_counted_until_it_is(serve, visit):
    ada, bob = (visit(serve("chat"), f"/?room=unread&name={name}") for name in ("ada", "bob"))
    is_open(ada)
    is_open(bob)
    for number in range(35):
        say(bob, f"line {number}")
    expect(messages(ada, "line 34")).to_have_count(1)
    assert ada.title() == "#unread"
    ada.evaluate("document.getElementById('log').scrollTop = 0")
    ada.wait_for_function("() => !stuck")
    say(bob, "are you there?")
    expect(ada.locator("#jump")).to_have_text(re.compile("1 new message"))
    assert ada.title() == "(1) #unread"
    assert messages(ada, "line 34").bounding_box()["y"] > 700  # the page did not jump
    expect(ada.locator("#messages .fresh + .message")).to_contain_text("are you there?")
    ada.click("#jump")
    expect(ada.locator("#jump")).to_be_hidden()
    expect(messages(ada, "are you there?")).to_be_in_viewport()
    assert ada.title() == "#unread"


def test_page_comes_back_after_the_server_and_sends_what_was_written_meanwhile(launched, visit):
    example = launched("chat")
    ada, bob = (visit(example, f"/?room=lobby&name={name}") for name in ("ada", "bob"))
    is_open(ada)
    is_open(bob)
    assert example.stop() == 0
    expect(state(ada)).not_to_have_attribute("data-state", "open")
    expect(ada.locator("#notice")).to_contain_text("Connection lost.")
    say(ada, "written while offline")
    expect(ada.locator("#messages .pending")).to_have_count(1)

    launched("chat", example.port)
    for page in (ada, bob):
        expect(state(page)).to_have_attribute("data-state", "open", timeout=20_000)
        expect(messages(page, "written while offline")).to_have_count(1)
        expect(page.locator("#people > li")).to_have_count(2)
    expect(ada.locator("#messages .pending")).to_have_count(0)
    expect(ada.locator("#notice")).to_be_hidden()


def test_message_that_is_refused_can_be_sent_again(serve, visit):
    page = visit(serve("chat"), "/?room=again&name=ada")
    is_open(page)
    page.evaluate("() => { for (let number = 0; number < 60; number++) say(`number ${number}`); }")  # allowed: 40
    failed = page.locator("#messages .failed").filter(has_text="number 59")
    expect(failed).to_contain_text("Not sent. That was too fast")
    page.wait_for_timeout(500)  # the allowance grows by five a second
    failed.get_by_role("button", name="Send again").click()
    expect(failed).to_have_count(0)
    expect(messages(page, "number 59")).to_have_count(1)
    discarded = page.locator("#messages .failed").filter(has_text="number 58")
    discarded.get_by_role("button", name="Discard").click()
    expect(discarded).to_have_count(0)


def test_replaced_page_stays_away_until_it_is_asked(serve, visit):
    page = visit(serve("chat"), "/?room=twice&name=ada")
    is_open(page)
    page.evaluate(
        """() => new Promise((resolve) => {
            const other = new WebSocket(`ws://${location.host}/ws/twice`);
            other.onopen = () => other.send(JSON.stringify({type: "join", name: "ada", session}));
            other.onmessage = () => resolve();
            window.other = other;
        })"""
    )
    expect(page.locator("#notice")).to_contain_text("you came back on another connection")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange')), window.dispatchEvent(new Event('online'))")
    expect(state(page)).to_have_attribute("data-state", "closed")
    page.click("#retry")
    is_open(page)
    expect(page.locator("#people > li")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_shows_everything_without_scrolling_sideways(serve, visit, scheme):
    page = visit(
        serve("chat"), f"/?room=phone-{scheme}&name=ada", viewport={"width": 360, "height": 640}, color_scheme=scheme
    )
    is_open(page)
    say(page, "x" * 500 + " and https://example.com/" + "y" * 300)
    expect(messages(page, "and https")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate("document.getElementById('log').scrollWidth <= document.getElementById('log').clientWidth")
    expect(page.locator("#composer button")).to_be_in_viewport(ratio=1)
    expect(page.locator("#people")).to_be_hidden()
    page.click("#people-toggle")
    expect(page.locator("#people")).to_be_in_viewport(ratio=1)
    page.keyboard.press("Escape")
    expect(page.locator("#people")).to_be_hidden()
    expect(page.locator("#people-toggle")).to_be_focused()
