"""What every peer sends and gets back."""

from __future__ import annotations

import random

import pytest

TEXT = "plain, ¿accented?, 中文 and 🦀"
BINARY = bytes(range(256))
MIB = 2**20

MESSAGES = [
    pytest.param(TEXT, id="text"),
    pytest.param(BINARY, id="binary"),
    pytest.param("", id="empty-text"),
    pytest.param(b"", id="empty-binary"),
    pytest.param("€uro" * (MIB // 6) + "1234", id="1MiB-text"),
    pytest.param(random.Random(7).randbytes(MIB), id="1MiB-binary"),
]

# Every code that an application may send (RFC 6455 §7.4): the protocol's own, the registered, the private range.
CLOSES = [
    pytest.param(1000, "", id="1000-without-reason"),
    pytest.param(1000, "done", id="1000"),
    pytest.param(1001, "going away", id="1001"),
    pytest.param(1003, "no binary", id="1003"),
    pytest.param(1008, "¡no!", id="1008-not-ascii"),
    pytest.param(1011, "x" * 123, id="1011-longest-reason"),
    pytest.param(3000, "registered", id="3000"),
    pytest.param(4999, "private", id="4999"),
]
