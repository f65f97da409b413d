"""Masking (RFC 6455 §5.3)."""

from __future__ import annotations

from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .wire import xor


def test_5_3_the_example_of_5_7(codec: ModuleType) -> None:
    assert codec.apply_mask(b"Hello", b"\x37\xfa\x21\x3d") == b"\x7f\x9f\x4d\x51\x58"


@pytest.mark.parametrize("size", [*range(40), 63, 64, 65, 127, 128, 129, 766, 767, 768, 769, 770, 771, 4096, 65537])
def test_5_3_every_length_equals_the_definition(codec: ModuleType, size: int) -> None:
    data = bytes(index * 31 & 0xFF for index in range(size))
    for key in (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x01\x80\x7f\xfe"):
        masked = codec.apply_mask(data, key)
        assert masked == xor(data, key)
        assert type(masked) is bytes
        assert codec.apply_mask(masked, key) == data


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_is_taken_and_left_as_it_is(codec: ModuleType, kind: type) -> None:
    data, key = bytearray(b"abcdefg"), bytearray(b"1234")
    assert codec.apply_mask(kind(data), kind(key)) == xor(b"abcdefg", b"1234")
    assert data == b"abcdefg"


@pytest.mark.parametrize("key", [b"", b"123", b"12345"])
def test_a_key_of_another_length_is_refused(codec: ModuleType, key: bytes) -> None:
    with pytest.raises(ValueError, match=r"^a masking key has 4 bytes$"):
        codec.apply_mask(b"data", key)


@pytest.mark.parametrize("data", ["text", 5, None])
def test_what_is_no_buffer_is_refused(codec: ModuleType, data: object) -> None:
    with pytest.raises(TypeError):
        codec.apply_mask(data, b"1234")


@given(st.data(), st.binary(max_size=2000), st.binary(min_size=4, max_size=4))
def test_5_3_codecs_equal_the_definition(codec: ModuleType, data: st.DataObject, payload: bytes, key: bytes) -> None:
    start = data.draw(st.integers(0, len(payload)))
    view = memoryview(payload)[start:]
    assert codec.apply_mask(view, key) == xor(payload[start:], key)
