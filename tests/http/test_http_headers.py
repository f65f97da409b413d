"""Headers, multi-dicts and parameters."""

from __future__ import annotations

import time

import pytest
from http_harness import StandInHead

from ferrows.headers import Headers, MultiDict, parse_list, parse_parameters

RAW = [(b"Host", b"a"), (b"X-A", b"1"), (b"x-a", b"2"), (b"X-B", b"\xc3\xa4\xff")]


def test_lookup_ignores_case() -> None:
    headers = Headers.of(StandInHead("GET", b"/", "1.1", RAW))
    assert headers["HOST"] == headers.get("host") == headers.getone("hOsT") == "a"
    assert "x-A" in headers
    assert "x-c" not in headers
    assert 1 not in headers  # type: ignore[comparison-overlap]
    assert headers.get("x-c") is None
    with pytest.raises(KeyError):
        headers["x-c"]


def test_first_value_and_all_values() -> None:
    headers = Headers.of(StandInHead("GET", b"/", "1.1", RAW))
    assert headers["x-a"] == "1"
    assert headers.getall("X-A") == headers.getlist("X-A") == ["1", "2"]
    assert headers.combined("x-a") == "1, 2"
    assert headers.getall("x-c") == []
    assert headers.combined("x-c") == ""


def test_values_are_utf_8_and_the_rest_is_kept() -> None:
    value = Headers.of(StandInHead("GET", b"/", "1.1", RAW))["x-b"]
    assert value == "ä\udcff"
    assert value.encode("utf-8", "surrogateescape") == RAW[3][1]


def test_names_are_iterated_once_as_written() -> None:
    headers = Headers.of(StandInHead("GET", b"/", "1.1", RAW))
    assert list(headers) == ["Host", "X-A", "X-B"]
    assert len(headers) == 3
    assert list(headers.multi_items())[:3] == [("Host", "a"), ("X-A", "1"), ("x-a", "2")]
    assert dict(headers)["X-A"] == "1"


def test_changes() -> None:
    headers = Headers({"A": 1}, b="2")
    headers["a"] = "3"
    headers.add("B", " 4 ")
    headers.extend([("C", "5"), ("c", "6")])
    headers.setdefault("C", "7")
    assert list(headers.multi_items()) == [("a", "3"), ("b", "2"), ("B", "4"), ("C", "5"), ("c", "6")]
    del headers["c"]
    assert "C" not in headers
    assert headers.pop("B") == "2"
    assert headers == {"a": "3"}


def test_equality_and_copies() -> None:
    headers = Headers.of(StandInHead("GET", b"/", "1.1", RAW))
    copy = headers.copy()
    assert copy == headers == Headers(headers)
    assert repr(copy) == "<Headers [('Host', 'a'), ('X-A', '1'), ('x-a', '2'), ('X-B', 'ä\\udcff')]>"
    copy["host"] = "b"
    assert copy != headers
    assert headers != 1
    assert headers["host"] == "a"


@pytest.mark.parametrize("value", ["a\r\nB: c", "a\nb", "a\rb", "a\x00", "a\x7f", "\x0b"])
def test_values_that_would_end_their_line_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        Headers({"A": value})
    headers = Headers()
    with pytest.raises(ValueError, match="control character"):
        headers["A"] = value
    with pytest.raises(ValueError, match="control character"):
        headers.add("A", value)
    assert len(headers) == 0


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\n", "ä", "a\n"])
def test_names_that_are_no_token_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="token"):
        Headers()[name] = "a"


def test_tab_is_no_control_character_here() -> None:
    assert Headers({"A": "b\tc"})["a"] == "b\tc"


def test_multi_dict() -> None:
    values = MultiDict.from_pairs([("a", "1"), ("a", "2"), ("b", "")])
    assert values == {"a": ["1", "2"], "b": [""]}
    assert values.get("a") == "1"
    assert values.get("b") == ""
    assert values.get("c") is None
    assert values.get("c", "d") == "d"
    assert values.getlist("a") == values.getall("a") == ["1", "2"]
    assert values.getlist("c") == []
    assert values["a"] == ["1", "2"]


def test_list_elements() -> None:
    assert parse_list(" a , ,b,\tc") == ["a", "b", "c"]
    assert parse_list("") == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", ("", {})),
        ("Text/HTML", ("text/html", {})),
        ("text/html;charset=utf-8", ("text/html", {"charset": "utf-8"})),
        ('a/b ; C="d e\\"f" ;g=h; ', ("a/b", {"c": 'd e"f', "g": "h"})),
        ('form-data; name="a;b=c"', ("form-data", {"name": "a;b=c"})),
        ("a;;b=c", ("a", {"b": "c"})),
    ],
)
def test_parameters(value: str, expected: tuple[str, dict[str, str]]) -> None:
    assert parse_parameters(value) == expected


@pytest.mark.parametrize("value", ["a; b", "a; b=", 'a; b="', "a; b=c d", "a; b = c", "a; b=1; B=2", "a;b=c=d"])
def test_malformed_parameters(value: str) -> None:
    with pytest.raises(ValueError, match="parameter"):
        parse_parameters(value)


@pytest.mark.parametrize(
    "value",
    [
        "a" + "; b" * 5000,
        'a; b="' + "\\" * 8000,
        "a;" + " " * 8000 + "x",
        "a" + ";" * 8000 + '"',
        'a; b="' + "c" * 8000,
    ],
)
def test_hostile_parameters_take_linear_time(value: str) -> None:
    begin = time.perf_counter()
    with pytest.raises(ValueError, match="parameter"):
        parse_parameters(value)
    assert time.perf_counter() - begin < 0.1
