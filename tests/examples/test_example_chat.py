from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import struct
from base64 import b64encode
from hashlib import sha256
from itertools import count

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

_sessions = count()


class Person:
    """One client of the chat."""

    def __init__(self, ws, welcome):
        self.ws = ws
        self.welcome = welcome

    @classmethod
    async def join(cls, example, room, name, session=None):
        ws = await connect(example.ws(f"/ws/{room}"), max_queue=None)
        join = {"type": "join", "name": name, "session": session or f"session {next(_sessions)}"}
        await ws.send(json.dumps(join))
        return cls(ws, json.loads(await ws.recv()))

    async def say(self, text, ref=""):
        await self.ws.send(json.dumps({"type": "say", "text": text, "ref": ref}))

    async def hear(self):
        async with asyncio.timeout(60):
            return json.loads(await self.ws.recv())

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.ws.close()


@pytest.fixture
def chat(serve):
    return serve("chat")


# --------------------------------------------------------------------------------------------------------------------
# The page


def test_page_runs_its_own_script_and_style_only(chat):
    status, headers, page = chat.get("/")
    assert status == 200
    assert headers["Content-Type"].startswith("text/html")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    for tag in ("script", "style"):
        [inline] = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert f"{tag}-src 'sha256-{b64encode(sha256(inline.encode()).digest()).decode()}'" in policy
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//|@import|\burl\(""", page)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(| on\w+=", page)


@pytest.mark.parametrize(
    "element",
    ["input#name", "input#room", "form#composer", "input#message", "ul#messages", "ul#people", "span#state"],
)
def test_page_has_the_elements_that_other_tests_use(chat, element):
    tag, identifier = element.split("#")
    _, _, page = chat.get("/")
    assert len(re.findall(rf'<{tag}\b[^>]*\bid="{identifier}"', page)) == 1


def test_page_labels_each_of_its_fields(chat):
    _, _, page = chat.get("/")
    fields = re.findall(r'<input\b[^>]*\bid="(\w+)"', page)
    assert sorted(fields) == ["message", "name", "room"]
    assert all(f'for="{field}"' in page for field in fields)


def test_health(chat):
    assert chat.get("/health")[::2] == (200, "ok\n")


# --------------------------------------------------------------------------------------------------------------------
# A conversation


async def test_people_join_talk_and_leave(chat):
    async with await Person.join(chat, "talk", "ada") as ada:
        assert ada.welcome["you"] == "ada"
        assert ada.welcome["room"] == "talk"
        assert ada.welcome["people"] == ["ada"]
        assert ada.welcome["history"] == []
        async with await Person.join(chat, "talk", "bob") as bob:
            assert bob.welcome["people"] == ["ada", "bob"]
            joined = await ada.hear()
            assert (joined["type"], joined["name"]) == ("joined", "bob")

            await ada.say("  hello   there ", ref="a1")
            heard = await bob.hear()
            assert heard == await ada.hear()
            assert (heard["type"], heard["name"], heard["text"], heard["ref"]) == (
                "message",
                "ada",
                "hello there",
                "a1",
            )
            assert heard["id"]
            assert heard["at"] > 1_600_000_000_000
        left = await ada.hear()
        assert (left["type"], left["name"]) == ("left", "bob")


async def test_rooms_are_apart_whatever_the_case_of_their_name(chat):
    async with (
        await Person.join(chat, "Apart", "ada") as ada,
        await Person.join(chat, "apart", "bob") as bob,
        await Person.join(chat, "elsewhere", "eve") as eve,
    ):
        assert bob.welcome["people"] == ["ada", "bob"]
        assert (await ada.hear())["type"] == "joined"
        await ada.say("only here")
        await eve.say("only there")
        assert (await bob.hear())["text"] == "only here"
        assert (await eve.hear())["text"] == "only there"
        assert {"name": "apart", "people": 2} in json.loads(chat.get("/api/rooms")[2])["rooms"]


async def test_room_and_words_in_any_script(chat):
    async with await Person.join(chat, "%E4%B8%96%E7%95%8C", "Zoë Grüße") as zoe:
        assert zoe.welcome["room"] == "世界"
        await zoe.say("👩‍👩‍👧 <b>&amp;</b> مرحبا")
        assert (await zoe.hear())["text"] == "👩‍👩‍👧 <b>&amp;</b> مرحبا"


async def test_newcomers_read_the_last_50_messages(chat):
    async with await Person.join(chat, "history", "ada") as ada, await Person.join(chat, "history", "bob") as bob:
        for speaker, numbers in ((ada, range(30)), (bob, range(30, 60))):
            for number in numbers:
                await speaker.say(str(number))
                while (await bob.hear()).get("text") != str(number):
                    pass
        async with await Person.join(chat, "history", "eve") as eve:
            assert [message["text"] for message in eve.welcome["history"]] == [str(number) for number in range(10, 60)]
    async with await Person.join(chat, "history", "late") as late:  # an empty room is kept
        assert len(late.welcome["history"]) == 50


async def test_name_that_is_taken_gets_a_number(chat):
    async with await Person.join(chat, "names", "ada"), await Person.join(chat, "names", "Ada") as second:
        assert second.welcome["you"] == "Ada 2"
        assert second.welcome["people"] == ["ada", "Ada 2"]


async def test_session_that_comes_back_replaces_its_old_connection_without_a_word_to_the_others(chat):
    async with (
        await Person.join(chat, "again", "eve") as eve,
        await Person.join(chat, "again", "ada", "the same") as old,
    ):
        assert (await eve.hear())["type"] == "joined"
        async with await Person.join(chat, "again", "ada", "the same") as new:
            assert new.welcome["you"] == "ada"
            assert new.welcome["people"] == ["ada", "eve"]
            with pytest.raises(ConnectionClosed):
                await old.hear()
            assert old.ws.close_code == 4000
            await new.say("back")
            assert (await eve.hear())["text"] == "back"


# --------------------------------------------------------------------------------------------------------------------
# Limits


@pytest.mark.parametrize(
    ("first", "message"),
    [
        pytest.param("hello", "That was not JSON.", id="not-json"),
        pytest.param("[" * 16_000, "That was not JSON.", id="nested"),
        pytest.param("[]", "Expected a JSON object.", id="no-object"),
        pytest.param(b"{}", "Only text is understood here.", id="binary"),
        pytest.param('{"type":"say","text":"x"}', "The first message must say who joins.", id="no-join"),
        pytest.param('{"type":"join","session":"s"}', "A name is needed.", id="no-name"),
        pytest.param('{"type":"join","name":7,"session":"s"}', "A name is needed.", id="number"),
        pytest.param('{"type":"join","name":" ","session":"s"}', "A name is needed.", id="blank"),
        pytest.param(
            json.dumps({"type": "join", "name": "x" * 25, "session": "s"}),
            "The name is too long: 25 characters, and 24 are allowed.",
            id="long-name",
        ),
        pytest.param(
            '{"type":"join","name":"a\\u202eb","session":"s"}',
            "The name has characters in it that cannot be shown.",
            id="bidi-override",
        ),
        pytest.param(
            '{"type":"join","name":"\\ud800","session":"s"}',
            "The name has characters in it that cannot be shown.",
            id="surrogate",
        ),
    ],
)
async def test_first_message_that_is_no_join_is_explained_and_closed_with_1008(chat, first, message):
    async with connect(chat.ws("/ws/limits")) as ws:
        await ws.send(first)
        assert json.loads(await ws.recv()) == {"type": "error", "message": message}
        await ws.wait_closed()
    assert (ws.close_code, ws.close_reason) == (1008, message)


@pytest.mark.parametrize("room", ["x" * 33, "a%20b", "a.b", "%F0%9F%91%8B"], ids=["long", "space", "dot", "emoji"])
async def test_room_with_a_bad_name_is_refused(chat, room):
    refused = await Person.join(chat, room, "ada")
    assert refused.welcome == {"type": "error", "message": "A room's name is 1 to 32 letters, digits, - or _."}
    await refused.ws.wait_closed()
    assert refused.ws.close_code == 1008


@pytest.mark.parametrize(
    ("sent", "message", "ref"),
    [
        pytest.param("{", "That was not JSON.", "", id="not-json"),
        pytest.param(b"x", "Only text is understood here.", "", id="binary"),
        pytest.param('{"type":"shout","ref":"r"}', "That kind of message is not known here.", "r", id="kind"),
        pytest.param('{"type":"say","text":" \\n ","ref":"r"}', "There is nothing in this message.", "r", id="blank"),
        pytest.param('{"type":"say","text":["x"],"ref":"r"}', "There is nothing in this message.", "r", id="list"),
        pytest.param('{"type":"say","text":"","ref":["r"]}', "There is nothing in this message.", "", id="ref-list"),
        pytest.param(
            json.dumps({"type": "say", "text": "x" * 2001, "ref": "r"}),
            "The message is too long: 2001 characters, and 2000 are allowed.",
            "r",
            id="long",
        ),
        pytest.param(
            '{"type":"say","text":"\\ud800","ref":"r"}', "The message has half a character in it.", "r", id="surrogate"
        ),
    ],
)
async def test_mistake_is_answered_to_its_author_alone_and_the_connection_goes_on(chat, sent, message, ref):
    async with await Person.join(chat, "mistakes", "ada") as ada, await Person.join(chat, "mistakes", "bob") as bob:
        assert (await ada.hear())["type"] == "joined"
        await ada.ws.send(sent)
        assert await ada.hear() == {"type": "error", "message": message, "ref": ref}
        await ada.say("as before")
        assert (await ada.hear())["text"] == "as before"
        assert (await bob.hear())["text"] == "as before"


async def test_longest_message_passes_in_any_script(chat):
    async with await Person.join(chat, "longest", "ada") as ada:
        for text in ("x" * 2000, "世" * 2000, "👋" * 2000):
            await ada.say(text)
            assert (await ada.hear())["text"] == text


async def test_frame_over_32_kib_closes_with_1009(chat):
    async with await Person.join(chat, "huge", "ada") as ada:
        with pytest.raises(ConnectionClosed):
            await ada.ws.send("x" * 32_769)
            await ada.hear()
        assert ada.ws.close_code == 1009


async def test_more_than_40_messages_at_once_are_refused(chat):
    async with await Person.join(chat, "fast", "ada") as ada:
        for number in range(60):
            await ada.say("x", ref=str(number))
        answers = [await ada.hear() for _ in range(60)]
        refused = [answer for answer in answers if answer["type"] == "error"]
        assert [answer["type"] for answer in answers[:40]] == ["message"] * 40
        assert len(refused) >= 10
        assert refused[0]["message"] == "That was too fast: wait a moment before you write again."


async def test_client_that_does_not_read_holds_no_one_up_and_is_dropped(chat):
    stalled = socket.socket()
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stalled.connect(("127.0.0.1", chat.port))
    stalled.sendall(
        f"GET /ws/stall HTTP/1.1\r\nHost: 127.0.0.1:{chat.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    assert b" 101 " in stalled.recv(4096)
    join = b'{"type":"join","name":"stone","session":"s"}'
    stalled.sendall(b"\x81" + bytes([0x80 | len(join)]) + struct.pack("!I", 0) + join)  # masked with zeros
    texts: list[str] = []
    gone: list[str] = []
    try:
        async with await Person.join(chat, "stall", "witness") as witness, asyncio.timeout(60):
            assert witness.welcome["people"] == ["stone", "witness"]
            # 6 MiB, in the shares that one person may say: more than the outbox and the kernel's buffers hold.
            for speaker in range(20):
                async with await Person.join(chat, "stall", f"speaker {speaker}") as person:
                    for _ in range(40):
                        await person.say("👋" * 2000)
                    while len(texts) < 40 * (speaker + 1):
                        event = await witness.hear()
                        if event["type"] == "message":
                            texts.append(event["text"])
                        elif event["type"] == "left":
                            gone.append(event["name"])
    finally:
        stalled.close()
    assert texts == ["👋" * 2000] * 800
    assert "stone" in gone


async def test_end_of_the_server_closes_with_1001(launched):
    example = launched("chat")
    async with await Person.join(example, "end", "ada") as ada:
        example.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed):
            await ada.hear()
        assert ada.ws.close_code == 1001
    assert example.stop() == 0
    assert "Traceback" not in example.output()
