"""Forms: urlencoded and multipart, strict and bounded."""

from __future__ import annotations

import random
import time
import tracemalloc
from urllib.parse import parse_qsl

import pytest

from ferrows import forms
from ferrows.exceptions import BadRequest, HTTPException, PayloadTooLarge
from ferrows.forms import MAX_FIELDS, MAX_PART_HEADER_SIZE, File, decode_text, parse_form
from ferrows.headers import MultiDict

MULTIPART = 'multipart/form-data; boundary="AaB03x"'


def part(disposition: str, content: bytes, *lines: str) -> bytes:
    head = "\r\n".join([f"Content-Disposition: {disposition}", *lines]).encode()
    return b"--AaB03x\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


END = b"--AaB03x--\r\n"


def test_urlencoded() -> None:
    fields, files = parse_form("application/x-www-form-urlencoded; charset=utf-8", b"a=1&a=2&b=%C3%A4+x&c=&d")
    assert fields == {"a": ["1", "2"], "b": ["ä x"], "c": [""], "d": [""]}
    assert files == {}


@pytest.mark.parametrize("body", [b"a=\xff", b"a=%ff"])
def test_urlencoded_that_is_not_utf_8_is_400(body: bytes) -> None:
    with pytest.raises(BadRequest, match="UTF-8"):
        parse_form("application/x-www-form-urlencoded", body)


def test_urlencoded_of_too_many_fields_is_413() -> None:
    assert len(parse_form("application/x-www-form-urlencoded", b"a&" * (MAX_FIELDS - 1) + b"a")[0]["a"]) == MAX_FIELDS
    with pytest.raises(PayloadTooLarge):
        parse_form("application/x-www-form-urlencoded", b"a&" * MAX_FIELDS + b"a")


@pytest.mark.parametrize("content_type", ["", "application/json", "multipart/mixed; boundary=a"])
def test_other_media_types_are_no_forms(content_type: str) -> None:
    assert parse_form(content_type, b"a=b") == ({}, {})


def test_multipart() -> None:
    body = (
        part('form-data; name="a"', b"1")
        + part('form-data; name="a"', b"")
        + part('FORM-DATA; name=b; filename="x.txt"', b"\x00\r\n--AaB03\r\n", "Content-Type: text/plain")
        + part('form-data; name="f"; filename="%22\xc3%0d%0A.bin"', b"2")
        + part('form-data; name="c"', b"\xe4", "content-type: text/plain; charset=ISO-8859-1")
        + part('form-data; name="none"; filename=""', b"")
        + END
    )
    fields, files = parse_form(MULTIPART, body)
    assert fields == {"a": ["1", ""], "c": ["ä"], "none": [""]}
    assert files == {
        "b": [File("text/plain", b"\x00\r\n--AaB03\r\n", "x.txt")],
        "f": [File("text/plain", b"2", '"Ã\r\n.bin')],
    }


def test_multipart_preamble_epilogue_and_padding() -> None:
    body = (
        b"preamble\r\n"
        + part('form-data; name="a"', b"1").replace(b"--AaB03x\r\n", b"--AaB03x \t\r\n")
        + END
        + b"epilogue"
    )
    assert parse_form(MULTIPART, body)[0] == {"a": ["1"]}


def test_multipart_without_parts() -> None:
    assert parse_form(MULTIPART, END) == ({}, {})


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", END),
        ("multipart/form-data; boundary=", END),
        ('multipart/form-data; boundary="a b "', END),
        (f"multipart/form-data; boundary={'a' * 71}", END),
        ("multipart/form-data; boundary=a; boundary=b", END),
        (MULTIPART, b""),
        (MULTIPART, b"nothing"),
        (MULTIPART, part('form-data; name="a"', b"1")),
        (MULTIPART, part('form-data; name="a"', b"1")[:-2] + END),
        (MULTIPART, b"--AaB03xyz\r\n" + END),
        (MULTIPART, b"--AaB03x"),
        (MULTIPART, b"--AaB03x\r\nContent-Disposition: form-data; name=a\r\n"),
        (MULTIPART, b"--AaB03x\r\n\r\n1\r\n" + END),
        (MULTIPART, part("form-data", b"1") + END),
        (MULTIPART, part("attachment; name=a", b"1") + END),
        (MULTIPART, part('form-data; name="a"; name="b"', b"1") + END),
        (MULTIPART, part('form-data; name="a', b"1") + END),
        (MULTIPART, part('form-data name="a"', b"1") + END),
        (MULTIPART, part('form-data; name="a"', b"1", "Content-Disposition: form-data; name=b") + END),
        (MULTIPART, part('form-data; name="a"', b"1", "A : b") + END),
        (MULTIPART, part('form-data; name="a"', b"1", "A: b\n c") + END),
        (MULTIPART, part('form-data; name="a"', b"\xff") + END),
        (MULTIPART, part('form-data; name="a"', b"1", "Content-Type: text/plain; charset=punycode") + END),
        (MULTIPART, part('form-data; name="a"', b"1", "Content-Type: text/plain; x") + END),
        (MULTIPART, b"--AaB03x\r\nContent-Disposition: form-data; name=\xff\r\n\r\n1\r\n" + END),
        (MULTIPART, part('form-data; name="a"', b"1", "A: " + "b" * MAX_PART_HEADER_SIZE) + END),
    ],
)
def test_malformed_multipart_is_400(content_type: str, body: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_form(content_type, body)


def test_multipart_of_too_many_parts_is_413() -> None:
    one = part('form-data; name="a"', b"1")
    assert len(parse_form(MULTIPART, one * MAX_FIELDS + END)[0]["a"]) == MAX_FIELDS
    with pytest.raises(PayloadTooLarge):
        parse_form(MULTIPART, one * (MAX_FIELDS + 1) + END)


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n--AaB03" * 100_000,
        b"--AaB03x\r\n" + b"\r\n--AaB03" * 100_000,
        part('form-data; name="a"', b"\r\n--AaB03" * 100_000),
        b"--AaB03x" + b" " * 1_000_000,
        part("form-data" + "; a" * 2000, b"1") + END,
        part('form-data; name="a"', b"1", "A: " + " " * 8000 + "\x00") + END,
    ],
)
def test_hostile_multipart_takes_linear_time(body: bytes) -> None:
    begin = time.perf_counter()
    with pytest.raises(HTTPException):
        parse_form(MULTIPART, body)
    assert time.perf_counter() - begin < 0.2


@pytest.mark.parametrize(
    ("octets", "charset", "text"),
    [
        (b"\xc3\xa4", "UTF-8", "ä"),
        (b"\xe4", "iso-8859-1", "ä"),
        (b"\x80", "windows-1252", "€"),
        (b"a", "us-ascii", "a"),
    ],
)
def test_charsets(octets: bytes, charset: str, text: str) -> None:
    assert decode_text(octets, charset) == text


@pytest.mark.parametrize(
    ("octets", "charset"), [(b"\xff", "utf-8"), (b"a", "rot13"), (b"a", "no-such"), (b"\xff", "us-ascii")]
)
def test_charsets_that_do_not_fit(octets: bytes, charset: str) -> None:
    with pytest.raises(ValueError, match=r"charset|decode"):
        decode_text(octets, charset)


# ---- percent escapes, which are decoded without the standard library's objects for each


@pytest.mark.parametrize("piece", [7, forms._PIECE])
def test_escapes_mean_what_the_standard_library_takes_them_for(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(forms, "_PIECE", piece)
    parts = [
        "%",
        "4",
        "a",
        "F",
        "=",
        "&",
        "+",
        "\n",
        "\r\n",
        "=\n",
        "%C3%A9",
        "%c3",
        "%3D",
        "%25",
        "%0D%0A",
        "%e2%82%ac",
        "é",
        "\x00",
        "_",
        ".",
        "\t",
    ]
    draw = random.Random(1)
    for _ in range(3000):
        text = "".join(draw.choices(parts, k=draw.randrange(20)))
        try:
            expected = MultiDict.from_pairs(parse_qsl(text, keep_blank_values=True, errors="strict"))
        except UnicodeDecodeError:
            with pytest.raises(BadRequest):
                parse_form("application/x-www-form-urlencoded", text.encode())
        else:
            assert parse_form("application/x-www-form-urlencoded", text.encode())[0] == expected, text


@pytest.mark.parametrize("escape", [b"%", b"%4", b"%41", b"%41a", b"+", b"="])
def test_memory_for_a_form_grows_with_its_octets_and_not_with_its_escapes(escape: bytes) -> None:
    body = b"a=" + escape * (2**20 // len(escape))
    tracemalloc.start()
    try:
        parse_form("application/x-www-form-urlencoded", body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * len(body)
