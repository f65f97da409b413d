"""Rules 56-60: negotiation of permessage-deflate (RFC 7692 §5, §7.1)."""

from __future__ import annotations

import pytest

from .harness import Server
from .wire import RSV1, TEXT, Deflater, Inflater, extension_parameters, frame, handshake, inflate

SENTENCE = "the quick brown fox jumps over the lazy dog; " * 40


def negotiate(server: Server, offer: str, target: str = "/deflate") -> dict[str, str | None] | None:
    """Return the parameters that the server agreed to; None where it declined every offer."""
    exchange = server.exchange(handshake(target, f"Sec-WebSocket-Extensions: {offer}"))
    assert exchange.statuses == [101], exchange.output
    answer = exchange.responses[0].line("sec-websocket-extensions")
    return None if answer is None else extension_parameters(answer)


BAD_PARAMETERS = {
    "unknown": "x_unknown",
    "unknown-with-value": "x_unknown=1",
    "other-case": "SERVER_NO_CONTEXT_TAKEOVER=1",
    "repeated-flag": "server_no_context_takeover; server_no_context_takeover",
    "repeated-bits": "client_max_window_bits=10; client_max_window_bits=10",
    "repeated-bits-without-value": "client_max_window_bits; client_max_window_bits=10",
    "repeated-server-bits": "server_max_window_bits=10; server_max_window_bits=12",
    "server-takeover-with-value": "server_no_context_takeover=1",
    "client-takeover-with-value": "client_no_context_takeover=true",
    "server-bits-without-value": "server_max_window_bits",
    "good-then-unknown": "client_max_window_bits=10; x_unknown",
}


@pytest.mark.parametrize("parameters", BAD_PARAMETERS.values(), ids=BAD_PARAMETERS.keys())
def test_rule_56_offer_with_a_bad_parameter_is_declined(server: Server, parameters: str) -> None:
    assert negotiate(server, f"permessage-deflate; {parameters}") is None


@pytest.mark.parametrize("parameters", BAD_PARAMETERS.values(), ids=BAD_PARAMETERS.keys())
def test_rule_56_next_offer_is_tried(server: Server, parameters: str) -> None:
    offers = f"permessage-deflate; {parameters}, permessage-deflate; server_max_window_bits=11"
    answer = negotiate(server, offers)
    assert answer is not None and answer.get("server_max_window_bits") == "11"


def test_rule_56_first_good_offer_is_taken(server: Server) -> None:
    answer = negotiate(
        server,
        "x-other; a=1, permessage-deflate; x_unknown, "
        "permessage-deflate; server_max_window_bits=10, permessage-deflate",
    )
    assert answer is not None and answer.get("server_max_window_bits") == "10"


def test_rule_56_offers_on_several_lines_are_tried_in_order(server: Server) -> None:
    exchange = server.exchange(
        handshake(
            "/deflate",
            "Sec-WebSocket-Extensions: permessage-deflate; x_unknown",
            "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=12, permessage-deflate",
        )
    )
    answer = extension_parameters(exchange.responses[0].line("sec-websocket-extensions") or "")
    assert answer.get("server_max_window_bits") == "12"


BAD_BITS = ("0", "1", "7", "16", "17", "100", "08", "09", "010", "015", "+9", "-9", "9.0", "nine", "0x9", "15a")


@pytest.mark.parametrize("side", ["server", "client"])
@pytest.mark.parametrize("bits", BAD_BITS)
def test_rule_57_window_bits_out_of_range_or_malformed_decline(server: Server, side: str, bits: str) -> None:
    assert negotiate(server, f"permessage-deflate; {side}_max_window_bits={bits}") is None


@pytest.mark.parametrize("bits", range(9, 16))
@pytest.mark.parametrize("quoted", [False, True])
def test_rule_57_server_window_bits_are_agreed_to(server: Server, bits: int, quoted: bool) -> None:
    value = f'"{bits}"' if quoted else str(bits)
    answer = negotiate(server, f"permessage-deflate; server_max_window_bits={value}")
    assert answer is not None
    agreed = answer.get("server_max_window_bits")
    assert agreed is not None and agreed.isdecimal(), "an offered limit is answered with one (RFC 7692 §7.1.2.1)"
    assert 9 <= int(agreed) <= bits


@pytest.mark.parametrize("bits", range(8, 16))
def test_rule_57_client_window_bits_are_agreed_to(server: Server, bits: int) -> None:
    answer = negotiate(server, f"permessage-deflate; client_max_window_bits={bits}")
    assert answer is not None
    agreed = answer.get("client_max_window_bits")
    assert agreed is None or 8 <= int(agreed) <= bits


@pytest.mark.parametrize("bits", range(9, 16))
def test_rule_57_agreed_server_window_is_kept_to(server: Server, bits: int) -> None:
    block = bytes(index * index % 251 for index in range(700))
    data = block + bytes(range(256)) * 8 + block
    exchange = server.exchange(
        handshake("/deflate", f"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits={bits}"),
        frame(0x2, data),
    )
    (only,) = exchange.frames
    assert only.rsv == RSV1
    assert inflate(only.payload, wbits=bits) == data


@pytest.mark.parametrize("target", ["/deflate", "/deflate/small", "/deflate/takeover"])
@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate",
        "permessage-deflate; server_max_window_bits=10",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
    ],
)
def test_rule_58_client_max_window_bits_is_answered_only_if_offered(server: Server, target: str, offer: str) -> None:
    answer = negotiate(server, offer, target)
    assert answer is None or "client_max_window_bits" not in answer


@pytest.mark.parametrize(
    ("offered", "most"),
    [("client_max_window_bits", 15), ("client_max_window_bits=15", 15), ("client_max_window_bits=9", 9)],
)
def test_rule_58_offered_client_max_window_bits_is_answered_with_a_value(
    server: Server, offered: str, most: int
) -> None:
    answer = negotiate(server, f"permessage-deflate; {offered}", "/deflate/small")
    assert answer is not None
    agreed = answer["client_max_window_bits"]
    assert agreed is not None and 8 <= int(agreed) <= min(most, 11), "the route asks for 11"


def test_rule_59_server_window_of_8_is_declined(server: Server) -> None:
    assert negotiate(server, "permessage-deflate; server_max_window_bits=8") is None


def test_rule_59_offer_behind_a_server_window_of_8_is_taken(server: Server) -> None:
    answer = negotiate(
        server, "permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=9"
    )
    assert answer is not None and answer.get("server_max_window_bits") == "9"


@pytest.mark.parametrize("target", ["/deflate", "/deflate/takeover"])
def test_rule_60_offered_server_no_context_takeover_is_agreed_to(server: Server, target: str) -> None:
    answer = negotiate(server, "permessage-deflate; server_no_context_takeover", target)
    assert answer is not None
    assert answer.get("server_no_context_takeover", "missing") is None


@pytest.mark.parametrize("target", ["/deflate", "/deflate/takeover"])
@pytest.mark.parametrize("offer", ["", "; server_no_context_takeover", "; client_no_context_takeover"])
def test_rule_60_agreed_takeover_is_honoured(server: Server, target: str, offer: str) -> None:
    """Each side keeps its window, or does not, as the answer says."""
    head = handshake(target, f"Sec-WebSocket-Extensions: permessage-deflate{offer}")
    answer = extension_parameters(server.exchange(head).responses[0].line("sec-websocket-extensions") or "")
    keeping = Deflater()
    packed = [
        (Deflater() if "client_no_context_takeover" in answer else keeping).message(SENTENCE.encode()) for _ in range(3)
    ]
    exchange = server.exchange(head, *[frame(TEXT, payload, rsv=RSV1) for payload in packed])
    assert [one.rsv for one in exchange.frames] == [RSV1] * 3
    inflater = Inflater()
    for one in exchange.frames:
        reading = Inflater() if "server_no_context_takeover" in answer else inflater
        assert reading.message(one.payload).decode() == SENTENCE


def test_rule_60_client_that_keeps_no_window_unasked_is_read(server: Server) -> None:
    head = handshake("/deflate/takeover", "Sec-WebSocket-Extensions: permessage-deflate")
    fresh = frame(TEXT, Deflater().message(SENTENCE.encode()), rsv=RSV1)
    exchange = server.exchange(head + fresh * 3)
    inflater = Inflater()
    assert [inflater.message(one.payload).decode() for one in exchange.frames] == [SENTENCE] * 3


def test_flag_parameters_of_the_answer_have_no_value(server: Server) -> None:
    offer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits"
    answer = negotiate(server, offer)
    assert answer is not None
    assert set(answer) <= {
        "server_no_context_takeover",
        "client_no_context_takeover",
        "server_max_window_bits",
        "client_max_window_bits",
    }
    assert answer.get("client_no_context_takeover") is None
