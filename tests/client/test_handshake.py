"""The opening handshake from the client's side, without a connection: RFC 6455 §4.1, RFC 7692 §7.1."""

from __future__ import annotations

from typing import Any

import pytest

from ferrows.client.deflate import DeflateOffer
from ferrows.client.handshake import OpeningHandshake
from ferrows.client.response import MAX_HEAD, ClientResponse, ResponseReader
from ferrows.client.url import WebsocketURL
from ferrows.exceptions import HandshakeError
from ferrows.extensions import parse_extensions
from ferrows.handshake import accept_value
from ferrows.headers import Headers

URL = WebsocketURL.parse("ws://example.com/chat")


def handshake(**options: Any) -> OpeningHandshake:
    return OpeningHandshake(URL, **options)


def answer(opening: OpeningHandshake, **changes: str | None) -> ClientResponse:
    """A good answer with some of its fields changed or, by None, left out."""
    fields: dict[str, str | None] = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": accept_value(opening.key),
    }
    fields.update({name.replace("_", "-"): value for name, value in changes.items()})
    return ClientResponse(101, headers=Headers((name, value) for name, value in fields.items() if value is not None))


def lines(opening: OpeningHandshake) -> list[str]:
    head, _, rest = opening.request().decode().partition("\r\n\r\n")
    assert rest == ""
    return head.split("\r\n")


def test_4_1_request_has_what_it_must_have() -> None:
    opening = handshake(subprotocols=["a", "b"], origin="http://example.com", offer=DeflateOffer.of("deflate"))
    assert lines(opening) == [
        "GET /chat HTTP/1.1",
        "Host: example.com",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {opening.key}",
        "Sec-WebSocket-Protocol: a, b",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        "Origin: http://example.com",
        "User-Agent: ferrows",
    ]


def test_4_1_key_is_new_each_time() -> None:
    assert handshake().key != handshake().key


def test_headers_of_the_caller_are_sent_and_may_replace_host_and_user_agent() -> None:
    opening = handshake(headers=[("Cookie", "a=1"), ("host", "other.example"), ("User-Agent", "x"), ("Cookie", "b=2")])
    assert lines(opening)[1] == "Host: other.example"
    assert [line for line in lines(opening) if line.startswith(("Cookie", "User-Agent"))] == [
        "Cookie: a=1",
        "Cookie: b=2",
        "User-Agent: x",
    ]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"headers": {"sec-websocket-key": "x"}}, ValueError, "the handshake's own"),
        ({"headers": {"Sec-WebSocket-Protocol": "x"}}, ValueError, "permitted: subprotocols= instead"),
        ({"headers": {"Origin": "x"}}, ValueError, "permitted: origin= instead"),
        ({"headers": {"A": "x\r\nB: y"}}, ValueError, "control character"),
        ({"headers": {"A B": "x"}}, ValueError, "is no token"),
        ({"origin": "x\ny"}, ValueError, "control character"),
        ({"subprotocols": "chat"}, TypeError, "a sequence of str"),
        ({"subprotocols": ["a b"]}, ValueError, "is no token"),
        ({"subprotocols": ["a", "a"]}, ValueError, "one of them twice"),
    ],
)
def test_what_must_not_be_in_a_request_is_refused(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        handshake(**options)


def test_4_1_answer_may_use_other_case_and_more_connection_options() -> None:
    opening = handshake()
    agreed = opening.accept(answer(opening, Upgrade="WebSocket", Connection="keep-alive, upgrade"))
    assert agreed == (None, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Upgrade": None}, "upgrades to ''"),
        ({"Upgrade": "h2c"}, "upgrades to 'h2c'"),
        ({"Upgrade": "websocket, h2c"}, "upgrades to 'websocket, h2c'"),
        ({"Connection": None}, "Connection is ''"),
        ({"Connection": "close"}, "Connection is 'close'"),
        ({"Sec_WebSocket_Accept": None}, "Sec-WebSocket-Accept is ''"),
        ({"Sec_WebSocket_Accept": accept_value("x")}, "Sec-WebSocket-Accept is "),
        ({"Sec_WebSocket_Protocol": "c"}, "subprotocol 'c', offered: a, b"),
        ({"Sec_WebSocket_Protocol": "a, b"}, "subprotocol 'a, b', offered: a, b"),
        ({"Sec_WebSocket_Protocol": "A"}, "subprotocol 'A', offered: a, b"),
        ({"Sec_WebSocket_Extensions": "x-unknown"}, "extension 'x-unknown', offered: permessage-deflate"),
        ({"Sec_WebSocket_Extensions": "permessage-deflate, x"}, "extension 'x', offered"),
        ({"Sec_WebSocket_Extensions": "permessage-deflate, permessage-deflate"}, "permessage-deflate twice"),
        ({"Sec_WebSocket_Extensions": "a b"}, "malformed at character 3"),
        ({"Sec_WebSocket_Extensions": ""}, "names no extension"),
    ],
)
def test_4_1_answer_that_breaks_a_rule_fails(changes: dict[str, str | None], message: str) -> None:
    opening = handshake(subprotocols=["a", "b"], offer=DeflateOffer.of("deflate"))
    with pytest.raises(HandshakeError) as raised:
        opening.accept(answer(opening, **changes))
    assert message in str(raised.value)
    assert raised.value.status == 101


def test_4_1_extension_without_an_offer_fails() -> None:
    opening = handshake()
    with pytest.raises(HandshakeError, match="'permessage-deflate', offered: none"):
        opening.accept(answer(opening, Sec_WebSocket_Extensions="permessage-deflate"))


@pytest.mark.parametrize(
    ("compression", "header"),
    [
        ("deflate", "permessage-deflate; client_max_window_bits"),
        ({}, "permessage-deflate; client_max_window_bits"),
        (
            {"server_no_context_takeover": True, "client_no_context_takeover": True},
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits",
        ),
        (
            {"server_max_window_bits": 10, "client_max_window_bits": 11, "level": 9},
            "permessage-deflate; server_max_window_bits=10; client_max_window_bits=11",
        ),
    ],
)
def test_7692_7_1_offer(compression: Any, header: str) -> None:
    assert str(DeflateOffer.of(compression)) == header


@pytest.mark.parametrize(
    ("compression", "message"),
    [
        ("gzip", "compression must be None, 'deflate' or a mapping"),
        ({"window": 9}, "must have no 'window'"),
        ({"client_max_window_bits": 8}, "client_max_window_bits is 8, permitted: 9 to 15"),
    ],
)
def test_compression_that_cannot_be_says_what_is_permitted(compression: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeflateOffer.of(compression)


@pytest.mark.parametrize(
    ("compression", "header", "agreed"),
    [
        ({}, "permessage-deflate", (False, False, 15, 15)),
        ({}, "permessage-deflate; server_no_context_takeover", (True, False, 15, 15)),
        ({}, "permessage-deflate; client_no_context_takeover", (False, True, 15, 15)),
        ({}, 'permessage-deflate; client_max_window_bits="10"', (False, False, 15, 10)),
        # A server may limit its own window unasked (§7.1.2.1).
        ({}, "permessage-deflate; server_max_window_bits=12", (False, False, 12, 15)),
        ({}, "permessage-deflate; server_max_window_bits=8", (False, False, 9, 15)),
        ({"server_max_window_bits": 10}, "permessage-deflate; server_max_window_bits=9", (False, False, 9, 15)),
        # What the client said it would do it does, whether or not the server repeats it.
        ({"client_no_context_takeover": True}, "permessage-deflate", (False, True, 15, 15)),
        ({"client_max_window_bits": 11}, "permessage-deflate", (False, False, 15, 11)),
    ],
)
def test_7692_7_1_answer(compression: Any, header: str, agreed: tuple[bool, bool, int, int]) -> None:
    offer = DeflateOffer.of(compression)
    assert offer is not None
    parameters = offer.accept(parse_extensions(header)[0])
    assert agreed == (
        parameters.server_no_context_takeover,
        parameters.client_no_context_takeover,
        parameters.server_max_window_bits,
        parameters.client_max_window_bits,
    )


@pytest.mark.parametrize(
    ("compression", "parameters", "message"),
    [
        ({}, "x", "unknown parameter 'x'"),
        ({}, "server_no_context_takeover; server_no_context_takeover", "a parameter twice"),
        ({}, "client_no_context_takeover=1", "a value of client_no_context_takeover"),
        ({}, "server_max_window_bits", "server_max_window_bits=None, permitted: 8 to 15"),
        ({}, "server_max_window_bits=16", "server_max_window_bits=16"),
        ({}, "server_max_window_bits=09", "server_max_window_bits=09"),
        ({}, "client_max_window_bits", "client_max_window_bits=None"),
        ({}, "client_max_window_bits=8", "client_max_window_bits=8, supported: 9 to 15"),
        ({"client_max_window_bits": 10}, "client_max_window_bits=11", "client_max_window_bits=11, permitted: 8 to 10"),
        ({"server_max_window_bits": 10}, "server_max_window_bits=11", "server_max_window_bits=11, permitted: 8 to 10"),
        ({"server_max_window_bits": 10}, "client_no_context_takeover", "no server_max_window_bits"),
        ({"server_no_context_takeover": True}, "client_no_context_takeover", "no server_no_context_takeover"),
    ],
)
def test_7692_7_1_answer_that_is_none_to_the_offer_fails(compression: Any, parameters: str, message: str) -> None:
    offer = DeflateOffer.of(compression)
    assert offer is not None
    with pytest.raises(HandshakeError, match=message):
        offer.accept(parse_extensions(f"permessage-deflate; {parameters}")[0])


# --------------------------------------------------------------------------------------------------------------------
# Reading the answer


def read(data: bytes, *, step: int | None = None, eof: bool = False, **options: Any) -> ResponseReader:
    reader = ResponseReader(**options)
    for at in range(0, len(data), step or len(data)):
        reader.receive_data(data[at : at + (step or len(data))])
    if eof:
        reader.receive_eof()
    return reader


@pytest.mark.parametrize("step", [None, 1, 7], ids=lambda step: f"step-{step}")
@pytest.mark.parametrize(
    ("data", "status", "body", "options"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", {}),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n",
            200,
            b"hi!",
            {},
        ),
        (b"HTTP/1.0 403 No\r\n\r\nhi", 403, b"hi", {"eof": True}),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", {}),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", 200, b"", {"method": "HEAD"}),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 E\r\nA: b\r\n\r\nHTTP/1.1 404 N\r\nContent-Length: 0\r\n\r\n",
            404,
            b"",
            {},
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123456789", 200, b"12345", {"max_body": 5}),
    ],
    ids=["length", "chunked", "until-eof", "no-content", "head", "interim", "cut"],
)
def test_responses_are_read_however_they_are_cut(
    data: bytes, status: int, body: bytes, options: Any, step: int | None
) -> None:
    reader = read(data, step=step, **options)
    response = reader.response
    assert reader.complete and response is not None
    assert (response.status, response.body) == (status, body)
    assert "A" not in response.headers


@pytest.mark.parametrize("step", [None, 1, 7], ids=lambda step: f"step-{step}")
def test_what_comes_behind_a_101_is_kept(step: int | None) -> None:
    data = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    reader = ResponseReader()
    rest = b""
    for at in range(0, len(data + b"\x81\x01a"), step or 1000):
        piece = (data + b"\x81\x01a")[at : at + (step or 1000)]
        if reader.complete:
            rest += piece
        reader.receive_data(piece)
    assert reader.complete
    assert reader.rest + rest == b"\x81\x01a"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n", "is no HTTP response"),
        (b"HTTP/1.1 200 OK\r\nA b\r\n\r\n", "is no HTTP response"),
        (b"HTTP/1.1 200 OK\r\nA: b\x01\r\n\r\n", "is no HTTP response"),
        (b"HTTP/1.1 101 S\r\nA: " + b"a" * MAX_HEAD, "head of more than 65536 bytes"),
        (b"HTTP/1.1 101 S\r\n" + b"A: b\r\n" * 300, "more than 256 header lines"),
    ],
)
def test_what_is_no_response_or_too_large_a_one_fails(data: bytes, message: str) -> None:
    with pytest.raises(HandshakeError, match=message):
        read(data)


def test_large_body_in_the_chunk_of_the_head_is_no_large_head() -> None:
    body = b"a" * (2 * MAX_HEAD)
    reader = read(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert reader.complete and reader.response is not None and reader.response.body == body


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "without an answer"),
        (b"HTTP/1.1 200", "without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh", "within the response"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", "within the response"),
    ],
)
def test_end_before_the_end_of_the_response_fails(data: bytes, message: str) -> None:
    reader = ResponseReader()
    reader.receive_data(data)
    with pytest.raises(HandshakeError, match=message):
        reader.receive_eof()
