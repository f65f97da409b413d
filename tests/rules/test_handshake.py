"""Rules 13-27: the opening handshake (RFC 6455 §4)."""

from __future__ import annotations

import base64
from collections.abc import Collection

import pytest

from .harness import SLOW, Exchange, Server
from .wire import (
    ACCEPT,
    BINARY,
    CLOSE,
    CONTINUATION,
    KEY,
    PING,
    PONG,
    TEXT,
    Frame,
    accept_value,
    close,
    close_body,
    frame,
    handshake,
    request,
    text,
)

HELLO = text("Hello")


def check_open(server: Server, data: bytes) -> Exchange:
    """The handshake is accepted however it is cut, and the first message is answered."""
    last = None
    for where, exchange in server.every_split(data, HELLO):
        assert exchange.statuses == [101], where
        assert exchange.frames == [Frame(TEXT, b"Hello")], where
        last = exchange
    assert last is not None
    return last


def check_refused(server: Server, data: bytes, statuses: Collection[int]) -> None:
    for where, exchange in server.every_split(data):
        assert len(exchange.statuses) == 1 and exchange.statuses[0] in statuses, (where, exchange.statuses)
        assert exchange.responses[0].line("sec-websocket-accept") is None, where


def accepted(server: Server, data: bytes) -> Exchange:
    exchange = server.exchange(data)
    assert exchange.statuses == [101], exchange.output
    return exchange


def test_handshake_of_the_rfc_is_accepted(server: Server) -> None:
    data = handshake("/ws", "Origin: http://example.com")
    assert check_open(server, data).responses[0].line("sec-websocket-accept") == ACCEPT.decode()


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH"])
def test_rule_13_handshake_is_a_get(server: Server, method: str) -> None:
    for where, exchange in server.every_split(handshake("/ws", method=method), head=method == "HEAD"):
        assert len(exchange.statuses) == 1, where
        assert exchange.statuses[0] in (400, 405, 426, 501), where


@pytest.mark.parametrize(
    "value", ["websocket", "WebSocket", "WEBSOCKET", "h2c, websocket", "websocket,h2c", "a/1,\tWebSocket"]
)
def test_rule_14_upgrade_list_contains_websocket(server: Server, value: str) -> None:
    check_open(server, handshake(upgrade=value))


@pytest.mark.parametrize(
    "value", [None, "", "h2c", "websockets", "xwebsocket", "web socket", "websocket-2", '"websocket"']
)
def test_rule_14_upgrade_without_websocket_is_refused(server: Server, value: str | None) -> None:
    check_refused(server, handshake(upgrade=value), (400, 426))


@pytest.mark.parametrize(
    "value", ["Upgrade", "upgrade", "UPGRADE", "keep-alive, Upgrade", "Upgrade,keep-alive", "a,\tupgrade ,b"]
)
def test_rule_15_connection_has_the_token_upgrade(server: Server, value: str) -> None:
    check_open(server, handshake(connection=value))


@pytest.mark.parametrize(
    "value", [None, "", "keep-alive", "upgraded", "x-upgrade", "keep-alive; upgrade", '"upgrade"', "keep-alive upgrade"]
)
def test_rule_15_connection_without_the_token_is_refused(server: Server, value: str | None) -> None:
    check_refused(server, handshake(connection=value), (400, 426))


@pytest.mark.parametrize(
    "data",
    [
        handshake("/ws", "Connection: Upgrade", connection="keep-alive"),
        handshake("/ws", "Connection: keep-alive"),
        handshake("/ws", "Upgrade: websocket", upgrade="h2c"),
        handshake("/ws", "Upgrade: h2c"),
        handshake("/ws", "connection: a, UPGRADE", "upgrade: b, WEBSOCKET", connection="c", upgrade="d"),
    ],
    ids=["connection-second", "connection-first", "upgrade-second", "upgrade-first", "both"],
)
def test_rule_16_repeated_header_lines_combine(server: Server, data: bytes) -> None:
    check_open(server, data)


def test_rule_16_repeated_subprotocol_lines_combine(server: Server) -> None:
    data = handshake("/chat", "Sec-WebSocket-Protocol: other", "Sec-WebSocket-Protocol: superchat")
    for where, exchange in server.every_split(data):
        assert exchange.responses[0].line("sec-websocket-protocol") == "superchat", where


def test_rule_16_repeated_extension_lines_combine(server: Server) -> None:
    data = handshake("/deflate", "Sec-WebSocket-Extensions: x-other", "Sec-WebSocket-Extensions: permessage-deflate")
    for where, exchange in server.every_split(data):
        assert (exchange.responses[0].line("sec-websocket-extensions") or "").startswith("permessage-deflate"), where


@pytest.mark.parametrize(
    "data",
    [
        handshake(sec_websocket_key=None),
        handshake("/ws", f"Sec-WebSocket-Key: {KEY.decode()}"),
        handshake("/ws", "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw=="),
        handshake(sec_websocket_key=f"{KEY.decode()}, {KEY.decode()}"),
    ],
    ids=["none", "twice-the-same", "two", "list"],
)
def test_rule_17_anything_but_one_key_is_400(server: Server, data: bytes) -> None:
    check_refused(server, data, (400,))


@pytest.mark.parametrize(
    "key",
    [
        "",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25jZQ===",
        base64.b64encode(b"a" * 15).decode(),
        base64.b64encode(b"a" * 17).decode(),
        base64.b64encode(b"a" * 12).decode(),
        base64.b64encode(b"a" * 32).decode(),
        "dGhlIHNhbXBsZSBub25jZQ==AAAA",
        "-_hlIHNhbXBsZSBub25jZQ==",
        "dGhlIHNh bXBsZSBub25jZQ==",
        "dGhlIHNhbXBsZSBub25j!Q==",
        "====================AA==",
        "the sample nonce",
        '"dGhlIHNhbXBsZSBub25jZQ=="',
    ],
)
def test_rule_18_key_that_is_no_base64_of_16_bytes_is_400(server: Server, key: str) -> None:
    check_refused(server, handshake(sec_websocket_key=key), (400,))


@pytest.mark.parametrize("nonce", [b"\0" * 16, b"\xff" * 16, b"\xfb\xef\xbe" * 5 + b"\xfb", bytes(range(16))])
def test_rule_18_key_of_any_16_bytes_is_taken(server: Server, nonce: bytes) -> None:
    check_open(server, handshake(sec_websocket_key=f" \t{base64.b64encode(nonce).decode()} "))


@pytest.mark.parametrize("version", [None, "", "0", "7", "8", "12", "14", "25", "255"])
def test_rule_19_version_other_than_13_is_426_and_names_13(server: Server, version: str | None) -> None:
    for where, exchange in server.every_split(handshake(sec_websocket_version=version)):
        assert exchange.statuses == [426], where
        assert exchange.responses[0].tokens("sec-websocket-version") == ["13"], where
        assert exchange.responses[0].tokens("upgrade") == ["websocket"], where


@pytest.mark.parametrize("version", ["13, 8", "8, 13", "13.0", "+13", "013", "0x0d", "13a", "1 3", "thirteen"])
def test_rule_19_malformed_version_is_refused(server: Server, version: str) -> None:
    check_refused(server, handshake(sec_websocket_version=version), (400, 426))


@pytest.mark.parametrize("version", ["13", "8"])
def test_rule_19_repeated_version_is_refused(server: Server, version: str) -> None:
    check_refused(server, handshake("/ws", f"Sec-WebSocket-Version: {version}"), (400, 426))


def test_rule_19_padded_version_is_taken(server: Server) -> None:
    check_open(server, handshake(sec_websocket_version=" \t13\t "))


def test_rule_20_plain_get_on_a_websocket_route_is_426_with_upgrade(server: Server) -> None:
    for where, exchange in server.every_split(request("GET", "/ws")):
        (response,) = exchange.responses
        assert response.status == 426, where
        assert response.tokens("upgrade") == ["websocket"], where
        assert "upgrade" in response.tokens("connection"), "who sends Upgrade names it in Connection (RFC 9110 §7.8)"


@pytest.mark.parametrize("target", ["/ws", "/chat", "/deflate", "/origin"])
def test_rule_20_every_websocket_route_answers_so(server: Server, target: str) -> None:
    assert server.exchange(request("GET", target)).statuses == [426]


@pytest.mark.parametrize(
    "nonce", [b"the sample nonce", b"\0" * 16, b"\xff" * 16, bytes(range(16)), bytes(range(240, 256))]
)
def test_rule_21_accept_value(server: Server, nonce: bytes) -> None:
    key = base64.b64encode(nonce)
    exchange = accepted(server, handshake(sec_websocket_key=key.decode()))
    assert exchange.responses[0].line("sec-websocket-accept") == accept_value(key)


@pytest.mark.parametrize("target", ["/ws", "/chat", "/deflate"])
def test_rule_22_101_has_no_content_length_and_no_transfer_encoding(server: Server, target: str) -> None:
    data = handshake(target, "Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Extensions: permessage-deflate")
    for where, exchange in server.every_split(data):
        (response,) = exchange.responses
        assert response.status == 101, where
        assert response.lines("content-length") == [], where
        assert response.lines("transfer-encoding") == [], where
        assert response.tokens("upgrade") == ["websocket"], where
        assert "upgrade" in response.tokens("connection"), where
        assert "close" not in response.tokens("connection"), where
        assert exchange.output.startswith(b"HTTP/1.1 101 "), where


@pytest.mark.parametrize(
    ("target", "offer", "expected"),
    [
        ("/chat", "chat", "chat"),
        ("/chat", "superchat", "superchat"),
        ("/chat", "chat, superchat", "chat"),
        ("/chat", "superchat, chat", "chat"),
        ("/chat", "other,superchat", "superchat"),
        ("/chat", "other", None),
        ("/chat", "Chat", None),
        ("/chat", "chats, xchat", None),
        ("/chat", None, None),
        ("/ws", "chat", None),
        ("/ws", "chat, superchat", None),
    ],
)
def test_rule_23_one_subprotocol_and_only_if_offered(
    server: Server, target: str, offer: str | None, expected: str | None
) -> None:
    data = handshake(target, *([] if offer is None else [f"Sec-WebSocket-Protocol: {offer}"]))
    for where, exchange in server.every_split(data):
        assert exchange.statuses == [101], where
        assert exchange.responses[0].line("sec-websocket-protocol") == expected, where
        if target == "/chat":
            assert exchange.frames[0] == Frame(TEXT, str(expected).encode()), where


@pytest.mark.parametrize(
    ("target", "offer"),
    [
        ("/deflate", None),
        ("/deflate", "x-webkit-deflate-frame"),
        ("/deflate", "permessage-bzip2; server_max_window_bits"),
        ("/deflate", "permessage-deflated"),
        ("/ws", "permessage-deflate"),
        ("/ws", "permessage-deflate; client_max_window_bits, x-other"),
        ("/ws", None),
    ],
)
def test_rule_24_extension_that_was_not_offered_or_is_off_is_not_answered(
    server: Server, target: str, offer: str | None
) -> None:
    data = handshake(target, *([] if offer is None else [f"Sec-WebSocket-Extensions: {offer}"]))
    exchange = check_open(server, data)
    assert exchange.responses[0].lines("sec-websocket-extensions") == []


@pytest.mark.parametrize("offer", ["permessage-deflate", "x-other, permessage-deflate, permessage-deflate"])
def test_rule_24_offered_extension_is_answered_once(server: Server, offer: str) -> None:
    for where, exchange in server.every_split(handshake("/deflate", f"Sec-WebSocket-Extensions: {offer}")):
        answer = exchange.responses[0].line("sec-websocket-extensions")
        assert answer is not None and answer.split(";")[0] == "permessage-deflate", where
        assert "," not in answer, where


@pytest.mark.parametrize("target", ["/deflate", "/ws"])
@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate;",
        "permessage-deflate; ;a",
        "permessage-deflate; =1",
        "permessage-deflate; a=",
        'permessage-deflate; a="',
        'permessage-deflate; a="b c"',
        'permessage-deflate; a=""',
        "permessage-deflate; a=b=c",
        "permessage-deflate; a b",
        "permessage-deflate; a=b c",
        "permessage deflate",
        "permessage-deflate; (a)",
        "permessage-deflate; a=1;, x",
        "; a",
        '"permessage-deflate"',
        "permessage-deflate; a@b",
        "permessage-deflate/1",
    ],
)
def test_rule_25_malformed_extensions_are_400(server: Server, target: str, offer: str) -> None:
    check_refused(server, handshake(target, f"Sec-WebSocket-Extensions: {offer}"), (400,))


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate;client_max_window_bits",
        "permessage-deflate ; client_max_window_bits ; server_no_context_takeover",
        'permessage-deflate; client_max_window_bits="10"',
        'permessage-deflate; client_max_window_bits="1\\0"',
        "x-a; b; c=d, permessage-deflate",
        ", permessage-deflate, ,",
        "permessage-deflate,\tx-a",
    ],
)
def test_rule_25_wellformed_extensions_are_taken(server: Server, offer: str) -> None:
    exchange = check_open(server, handshake("/deflate", f"Sec-WebSocket-Extensions: {offer}"))
    assert (exchange.responses[0].line("sec-websocket-extensions") or "").startswith("permessage-deflate")


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://example.com",
        "https://example.com:8443",
        "https://example.com.evil.example",
        "https://evil.example/https://example.com",
        "https://sub.example.com",
        "null",
        "",
    ],
)
def test_rule_26_origin_that_is_not_allowed_is_403(server: Server, origin: str) -> None:
    check_refused(server, handshake("/origin", f"Origin: {origin}"), (403,))


@pytest.mark.parametrize("origin", ["https://example.com", "http://example.com", "https://example.com:443"])
def test_rule_26_same_origin_is_the_host_of_the_request(server: Server, origin: str) -> None:
    check_open(server, handshake("/same", f"Origin: {origin}"))


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "https://example.com:8443", "https://example.com.evil.example", "null", "https://"],
)
def test_rule_26_other_origin_than_the_host_of_the_request_is_403(server: Server, origin: str) -> None:
    check_refused(server, handshake("/same", f"Origin: {origin}"), (403,))


def test_rule_26_second_origin_is_refused(server: Server) -> None:
    for lines in (
        ["Origin: https://example.com", "Origin: https://evil.example"],
        ["Origin: https://evil.example", "Origin: https://example.com"],
        ["Origin: https://example.com, https://evil.example"],
        ["Origin: https://example.com https://evil.example"],
    ):
        check_refused(server, handshake("/origin", *lines), (400, 403))


def test_rule_26_allowed_origin_is_taken(server: Server) -> None:
    check_open(server, handshake("/origin", "Origin: https://example.com"))


def test_rule_26_without_a_list_every_origin_is_taken(server: Server) -> None:
    check_open(server, handshake("/ws", "Origin: https://evil.example"))


def test_rule_26_without_a_list_cookies_make_other_origins_403(server: Server) -> None:
    check_refused(server, handshake("/ws", "Origin: https://evil.example", "Cookie: session=1"), (403,))
    check_open(server, handshake("/ws", "Origin: https://example.com", "Cookie: session=1"))


def test_rule_27_bytes_after_the_head_are_frames(server: Server) -> None:
    data = handshake() + HELLO + frame(BINARY, b"\x00\xff" * 20) + frame(PING, b"p")
    for where, exchange in server.every_split(data, text("after")):
        assert exchange.statuses == [101], where
        messages = [one for one in exchange.frames if one.opcode != PONG]
        assert messages == [Frame(TEXT, b"Hello"), Frame(BINARY, b"\x00\xff" * 20), Frame(TEXT, b"after")], where
        assert Frame(PONG, b"p") in exchange.frames, where


def test_rule_27_part_of_a_frame_after_the_head_is_kept(server: Server) -> None:
    data = handshake() + frame(TEXT, b"Hel", fin=False) + frame(CONTINUATION, b"lo")
    for where, exchange in server.every_split(data):
        assert exchange.frames == [Frame(TEXT, b"Hello")], where


def test_rule_27_bytes_after_the_head_that_look_like_a_request_are_frames(server: Server) -> None:
    """A frame may begin with any octet; a G is a continuation of nothing with RSV1."""
    for where, exchange in server.every_split(handshake() + request("GET", "/")):
        assert exchange.statuses == [101], where
        assert [one.close_code for one in exchange.frames] == [1002], where


def test_rule_27_close_after_the_head_is_answered(server: Server) -> None:
    for where, exchange in server.every_split(handshake() + HELLO + close(1000)):
        assert exchange.frames == [Frame(TEXT, b"Hello"), Frame(CLOSE, close_body(1000))], where
        assert exchange.ended, where


def test_rule_27_handshake_behind_other_requests(server: Server) -> None:
    data = request("GET", "/") + request("GET", "/ws") + handshake() + HELLO
    for where, exchange in server.every_split(data, text("after")):
        assert exchange.statuses == [200, 426, 101], where
        assert exchange.frames == [Frame(TEXT, b"Hello"), Frame(TEXT, b"after")], where


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_rule_27_frames_that_arrive_before_the_101_keep_their_order(server: Server, size: int) -> None:
    """A client may send at once; what the app does before it accepts must not lose or turn round what came."""
    data = text("one") + frame(PING, b"p") + frame(TEXT, b"tw", fin=False) + frame(CONTINUATION, b"o") + close(1000)

    async def conversation(first: bytes) -> Exchange:
        peer = server.peer()
        try:
            await peer.send(handshake("/slow") + first)
            for at in range(len(first), len(data), size):
                await peer.send(data[at : at + size])
            assert bytes(peer.transport.output) == b""
            await server.loop.advance(SLOW + 0.5)
            await peer.send()
            return peer.take()
        finally:
            await peer.drop()

    for kept in range(len(data)):
        exchange = server.run(conversation(data[:kept]))
        messages = [one for one in exchange.frames if one.opcode != PONG]
        assert messages == [Frame(TEXT, b"one"), Frame(TEXT, b"two"), Frame(CLOSE, close_body(1000))], kept
        assert exchange.ended, kept


def test_rule_27_more_messages_than_the_queue_holds(server: Server) -> None:
    many = [f"message {number}" for number in range(500)]
    data = b"".join(map(text, many))
    for pieces in (
        [handshake() + data + close(1000)],
        [handshake() + data, close(1000)],
        [handshake(), data, close(1000)],
    ):
        exchange = server.exchange(*pieces)
        assert [one.payload.decode() for one in exchange.frames[:-1]] == many
        assert exchange.frames[-1] == Frame(CLOSE, close_body(1000))
