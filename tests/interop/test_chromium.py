"""Chromium against the server: a page's WebSocket, and two people in the chat example."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, expect

from .conftest import Server
from .messages import CLOSES

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Open a connection, hand it to `scenario`, and return what that returns, with what was negotiated.
CONNECT = """
async ({url, protocols, scenario, argument}) => {
    const socket = new WebSocket(url, protocols);
    socket.binaryType = "arraybuffer";
    const arrived = [], waiting = [];
    const arrive = (event) => waiting.length ? waiting.shift()(event) : arrived.push(event);
    socket.onmessage = ({data}) => arrive({data});
    const closed = new Promise((resolve) => {
        socket.onclose = ({code, reason, wasClean}) => {
            arrive({closed: code});
            resolve({code, reason, wasClean});
        };
    });
    await new Promise((resolve, reject) => {
        socket.onopen = resolve;
        socket.onerror = () => reject(new Error("no connection"));
    });
    const next = async () => {
        const event = arrived.length ? arrived.shift() : await new Promise((resolve) => waiting.push(resolve));
        if (!("data" in event)) throw new Error(`closed with ${event.closed}`);
        return event.data;
    };
    const same = (a, b) => typeof a === "string" ? a === b
        : new Uint8Array(a).every((byte, index) => byte === new Uint8Array(b)[index]) && a.byteLength === b.byteLength;
    const report = await (0, eval)(scenario)({socket, next, closed, same, argument});
    socket.close();
    await closed;
    return {extensions: socket.extensions, protocol: socket.protocol, ...report};
}
"""

ECHO = """
async ({socket, next, same}) => {
    const random = new Uint8Array(2 ** 20);
    for (let start = 0; start < random.length; start += 65536) {
        crypto.getRandomValues(random.subarray(start, start + 65536));
    }
    const messages = {
        text: "plain, ¿accented?, 中文 and 🦀",
        binary: Uint8Array.from({length: 256}, (_, index) => index).buffer,
        "empty text": "",
        "empty binary": new ArrayBuffer(0),
        "1 MiB text": "0123456789abcdef".repeat(2 ** 16),
        "1 MiB binary": random.buffer,
    };
    const echoed = {};
    for (const [name, message] of Object.entries(messages)) {
        socket.send(message);
        const answer = await next();
        echoed[name] = typeof answer === typeof message && same(message, answer);
    }
    return {echoed};
}
"""

CONVERSATION = """
async ({socket, next, argument}) => {
    const received = [];
    for (const message of argument) {
        socket.send(message);
        received.push(await next());
    }
    return {received};
}
"""

FIRST = "async ({next}) => ({first: await next()})"
CLOSED = "async ({closed}) => ({closed: await closed})"
CLOSE = "async ({socket, closed, argument}) => { socket.close(...argument); return {closed: await closed}; }"


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, server: Server) -> AsyncIterator[Page]:
    """An empty page that came from the server under test."""
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(server.url("/page", "http"))
    yield page
    await context.close()


async def connect(page: Page, url: str, scenario: str, *, protocols: Any = (), argument: Any = None) -> dict[str, Any]:
    options = {"url": url, "protocols": list(protocols), "scenario": scenario, "argument": argument}
    report: dict[str, Any] = await page.evaluate(CONNECT, options)
    return report


@pytest.mark.parametrize(("path", "extensions"), [("/echo", r""), ("/deflate", r"permessage-deflate\b.*")])
async def test_echo(page: Page, server: Server, path: str, extensions: str) -> None:
    report = await connect(page, server.url(path), ECHO)
    assert re.fullmatch(extensions, report["extensions"])
    assert len(report["echoed"]) == 6
    assert all(report["echoed"].values()), report["echoed"]


async def test_deflate_with_takeover(page: Page, server: Server) -> None:
    texts = [" ".join(f"word{n * k % 97}" for k in range(2000)) for n in range(10)]
    report = await connect(page, server.url("/takeover"), CONVERSATION, argument=texts)
    assert report["extensions"].startswith("permessage-deflate")
    assert report["received"] == texts


async def test_fragments_sent_by_the_server_make_one_message(page: Page, server: Server) -> None:
    texts = ["abcdefgh", "¡fragments of characters, not of bytes!"]
    report = await connect(page, server.url("/fragmented"), CONVERSATION, argument=texts)
    assert report["received"] == texts


async def test_pings_of_the_server_are_answered(page: Page, server: Server) -> None:
    report = await connect(page, server.url("/ping"), CONVERSATION, argument=["payload"])
    assert re.fullmatch(r'\{"seconds": ?[0-9.e-]+\}', report["received"][0])


@pytest.mark.parametrize(("code", "reason"), CLOSES)
async def test_close_by_the_server(page: Page, server: Server, code: int, reason: str) -> None:
    report = await connect(page, server.close_url(code, reason), CLOSED)
    assert report["closed"] == {"code": code, "reason": reason, "wasClean": True}


@pytest.mark.parametrize(("code", "reason"), [(1000, "done"), (3000, "¡no!"), (4999, "x" * 123)])
async def test_close_by_the_client(page: Page, server: Server, code: int, reason: str) -> None:
    """A page may choose 1000 and 3000 to 4999 only."""
    key = f"chromium-{code}"
    report = await connect(page, server.url(f"/watched/{key}"), CLOSE, argument=[code, reason])
    assert (report["closed"]["code"], report["closed"]["wasClean"]) == (code, True)
    assert await server.end_of(key) == (code, reason)


async def test_close_without_a_code_is_1005(page: Page, server: Server) -> None:
    report = await connect(page, server.url("/watched/chromium-none"), CLOSE, argument=[])
    assert report["closed"] == {"code": 1005, "reason": "", "wasClean": True}
    assert await server.end_of("chromium-none") == (1005, "")


async def test_leaving_the_page_is_1001(page: Page, server: Server) -> None:
    await page.evaluate(
        "(url) => new Promise((resolve) => { window.socket = new WebSocket(url); window.socket.onopen = resolve; })"
        ".then(() => 0)",
        server.url("/watched/chromium-left"),
    )
    await page.goto("about:blank")
    assert await server.end_of("chromium-left") == (1001, "")


async def test_subprotocol(page: Page, server: Server) -> None:
    report = await connect(page, server.url("/subprotocol"), FIRST, protocols=["chat.v1", "chat.v2"])
    assert report["protocol"] == "chat.v2"
    assert report["first"] == "subprotocol chat.v2"


async def test_two_pages_in_one_room(page: Page, browser: Browser, server: Server) -> None:
    enter = """
    (url) => new Promise((resolve) => {
        window.heard = [];
        window.socket = new WebSocket(url);
        window.socket.onmessage = ({data}) => { window.heard.push(data); resolve(data); };
    })
    """
    other = await page.context.new_page()
    await other.goto(server.url("/page", "http"))
    assert await page.evaluate(enter, server.url("/room")) == "1 here"
    assert await other.evaluate(enter, server.url("/room")) == "2 here"
    await page.evaluate("socket.send('hello')")
    await other.wait_for_function("heard.length === 2")
    await other.evaluate("socket.send('good day')")
    for each in (page, other):
        await each.wait_for_function("heard.length === 3")
        assert (await each.evaluate("heard"))[1:] == ["hello", "good day"]


class Person:
    """Someone with the chat example in a browser of their own."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.troubles: list[str] = []
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("console", self._console)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.troubles.append(message.text)

    async def say(self, text: str) -> None:
        await self.page.locator("#message").fill(text)
        await self.page.locator("#composer #message").press("Enter")

    async def sees_state(self, state: str) -> None:
        await expect(self.page.locator("#state")).to_have_attribute("data-state", state)

    async def sees_message(self, text: str) -> None:
        await expect(self.page.locator("#messages > *").filter(has_text=text)).to_have_count(1)

    async def sees_people(self, *names: str) -> None:
        await expect(self.page.locator("#people > *")).to_have_count(len(names))
        for name in names:
            await expect(self.page.locator("#people > *").filter(has_text=name)).to_have_count(1)


async def enter(browser: Browser, chat: Server, name: str, room: str = "lobby") -> Person:
    context = await browser.new_context()
    person = Person(await context.new_page())
    await person.page.goto(chat.url(f"/?room={room}&name={name}", "http"))
    await person.sees_state("open")
    return person


async def test_two_people_talk_in_the_chat_example(browser: Browser, chat: Server) -> None:
    ada, bob = await enter(browser, chat, "ada"), await enter(browser, chat, "bob")
    for person in (ada, bob):
        await person.sees_people("ada", "bob")
    await ada.say("good morning, bob")
    await bob.say("¡good morning, ada! 🦀")
    for person in (ada, bob):
        await person.sees_message("good morning, bob")
        await person.sees_message("¡good morning, ada! 🦀")
    await ada.say("<b id=injected>markup</b>")
    await bob.sees_message("<b id=injected>markup</b>")
    await expect(bob.page.locator("#injected")).to_have_count(0)

    elsewhere = await enter(browser, chat, "eve", room="elsewhere")
    await elsewhere.sees_people("eve")
    await expect(elsewhere.page.locator("#messages")).not_to_contain_text("good morning")

    await bob.page.context.close()
    await ada.sees_people("ada")
    assert ada.troubles == bob.troubles == elsewhere.troubles == []
    await ada.page.context.close()
    await elsewhere.page.context.close()


async def test_who_comes_late_to_the_chat_example_reads_what_was_said(browser: Browser, chat: Server) -> None:
    ada = await enter(browser, chat, "ada")
    await ada.say("said before bob came")
    await ada.sees_message("said before bob came")
    bob = await enter(browser, chat, "bob")
    await bob.sees_message("said before bob came")
    await ada.page.context.close()
    await bob.page.context.close()
