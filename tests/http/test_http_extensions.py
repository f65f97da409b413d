"""Extensions: rules 24, 25 and 56 to 60."""

from __future__ import annotations

import pytest

from ferrows.exceptions import BadRequest
from ferrows.extensions import DeflateParameters, negotiate_deflate, parse_extensions

ALL = DeflateParameters(server_no_context_takeover=False, client_no_context_takeover=False)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", [("a", ())]),
        ("a; b", [("a", (("b", None),))]),
        ("a;b=c;d", [("a", (("b", "c"), ("d", None)))]),
        ("a \t;\tb = c , d", [("a", (("b", "c"),)), ("d", ())]),
        ('a; b="c"', [("a", (("b", "c"),))]),
        ('a; b="1\\0"', [("a", (("b", "10"),))]),
        ("a; b=1; b=2", [("a", (("b", "1"), ("b", "2")))]),
        (", a,, b ,", [("a", ()), ("b", ())]),
        (" a ", [("a", ())]),
    ],
)
def test_rule_25_well_formed_lists(value: str, expected: list[object]) -> None:
    assert parse_extensions(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        ",",
        ";",
        "a;",
        "a; ;b",
        "a;,b",
        "; a",
        "a b",
        "a=b",
        "a; b c",
        "a; b=",
        "a; =c",
        "a; b=c=d",
        "a; b=c d",
        'a; b="',
        'a; b=""',
        'a; b="c d"',
        'a; b="c;d"',
        'a; b="c\\"',
        'a; b="c"d',
        'a; b=c"d"',
        '"a"',
        "a/b",
        "(a)",
        "a; b@c",
        "ä",
        "a; b=\udcff",
        "a, b;",
    ],
)
def test_rule_25_malformed_lists_are_400(value: str) -> None:
    with pytest.raises(BadRequest, match="Sec-WebSocket-Extensions"):
        parse_extensions(value)


def negotiate(value: str, settings: DeflateParameters | None = ALL) -> tuple[DeflateParameters, str] | None:
    return negotiate_deflate(parse_extensions(value), settings)


@pytest.mark.parametrize(
    ("offer", "settings", "answer"),
    [
        ("permessage-deflate", ALL, "permessage-deflate"),
        (
            "permessage-deflate",
            DeflateParameters(),
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ),
        # Rule 60, RFC 7692 §7.1.1
        (
            "permessage-deflate; server_no_context_takeover",
            ALL,
            "permessage-deflate; server_no_context_takeover",
        ),
        (
            "permessage-deflate; client_no_context_takeover",
            ALL,
            "permessage-deflate; client_no_context_takeover",
        ),
        # Rule 58, RFC 7692 §7.1.2
        ("permessage-deflate; client_max_window_bits", ALL, "permessage-deflate"),
        (
            "permessage-deflate; client_max_window_bits",
            DeflateParameters(False, False, client_max_window_bits=10),
            "permessage-deflate; client_max_window_bits=10",
        ),
        (
            "permessage-deflate; client_max_window_bits=9",
            DeflateParameters(False, False, client_max_window_bits=10),
            "permessage-deflate; client_max_window_bits=9",
        ),
        (
            "permessage-deflate; client_max_window_bits=12",
            DeflateParameters(False, False, client_max_window_bits=10),
            "permessage-deflate; client_max_window_bits=10",
        ),
        ("permessage-deflate; client_max_window_bits=8", ALL, "permessage-deflate; client_max_window_bits=8"),
        ("permessage-deflate; client_max_window_bits=15", ALL, "permessage-deflate"),
        ("permessage-deflate", DeflateParameters(False, False, client_max_window_bits=10), "permessage-deflate"),
        ("permessage-deflate; server_max_window_bits=15", ALL, "permessage-deflate; server_max_window_bits=15"),
        ("permessage-deflate; server_max_window_bits=9", ALL, "permessage-deflate; server_max_window_bits=9"),
        (
            "permessage-deflate; server_max_window_bits=12",
            DeflateParameters(False, False, server_max_window_bits=10),
            "permessage-deflate; server_max_window_bits=10",
        ),
        (
            "permessage-deflate",
            DeflateParameters(False, False, server_max_window_bits=10),
            "permessage-deflate; server_max_window_bits=10",
        ),
        ('permessage-deflate; server_max_window_bits="10"', ALL, "permessage-deflate; server_max_window_bits=10"),
        ("x-other, permessage-deflate", ALL, "permessage-deflate"),
    ],
)
def test_rules_58_and_60_answer_follows_offer_and_settings(
    offer: str, settings: DeflateParameters, answer: str
) -> None:
    agreed = negotiate(offer, settings)
    assert agreed is not None
    parameters, element = agreed
    assert element == answer
    # What the answer says is what the codec is told.
    assert parameters.server_no_context_takeover is ("server_no_context_takeover" in element)
    assert parameters.client_no_context_takeover is ("client_no_context_takeover" in element)
    [(_, said)] = parse_extensions(element)
    assert parameters.server_max_window_bits == int(dict(said).get("server_max_window_bits") or 15)
    assert parameters.client_max_window_bits == int(dict(said).get("client_max_window_bits") or 15)


DECLINED = [
    "permessage-deflate; unknown",
    "permessage-deflate; unknown=1",
    "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
    "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
    "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
    "permessage-deflate; server_no_context_takeover=true",
    "permessage-deflate; client_no_context_takeover=1",
    "permessage-deflate; Server_No_Context_Takeover",
    # Rule 57, RFC 7692 §7.1.2
    "permessage-deflate; server_max_window_bits",
    "permessage-deflate; server_max_window_bits=7",
    "permessage-deflate; server_max_window_bits=16",
    "permessage-deflate; server_max_window_bits=010",
    "permessage-deflate; server_max_window_bits=+10",
    "permessage-deflate; server_max_window_bits=x",
    "permessage-deflate; client_max_window_bits=7",
    "permessage-deflate; client_max_window_bits=16",
    "permessage-deflate; client_max_window_bits=08",
    "permessage-deflate; client_max_window_bits=99999999999",
    # Rule 59
    "permessage-deflate; server_max_window_bits=8",
]


@pytest.mark.parametrize("offer", DECLINED)
def test_rules_56_57_and_59_bad_offer_is_declined_and_the_next_taken(offer: str) -> None:
    assert negotiate(offer) is None
    agreed = negotiate(f"{offer}, permessage-deflate; server_max_window_bits=11")
    assert agreed is not None
    assert agreed[1] == "permessage-deflate; server_max_window_bits=11"


@pytest.mark.parametrize("offer", ["x-other", "permessage-deflated", "Permessage-Deflate"])
def test_rule_24_nothing_else_is_accepted(offer: str) -> None:
    assert negotiate(offer) is None


def test_nothing_is_accepted_without_settings() -> None:
    assert negotiate("permessage-deflate", None) is None


def test_senders_own_settings_are_kept() -> None:
    agreed = negotiate("permessage-deflate", DeflateParameters(level=1, mem_level=3, threshold=5))
    assert agreed is not None
    assert (agreed[0].level, agreed[0].mem_level, agreed[0].threshold) == (1, 3, 5)


@pytest.mark.parametrize(
    "values",
    [
        {"server_max_window_bits": 8},
        {"server_max_window_bits": 16},
        {"client_max_window_bits": 7},
        {"level": 10},
        {"mem_level": 0},
        {"threshold": -1},
    ],
)
def test_parameters_out_of_range(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="permitted"):
        DeflateParameters(**values)  # type: ignore[arg-type]
