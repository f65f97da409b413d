"""UTF-8 validation of a text that arrives in pieces (RFC 6455 §8.1, RFC 3629)."""

from __future__ import annotations

from codecs import utf_8_decode

from .error import PeerError

__all__ = ["Utf8Validator", "decode"]


class Utf8Validator:
    """Checks a text piece by piece; fails at the first byte that cannot continue it."""

    __slots__ = ("tail",)

    def __init__(self) -> None:
        #: The bytes of a character that is not whole yet, at most 3.
        self.tail = b""

    def feed(self, piece: bytes) -> None:
        """Validate what comes next; raise 1007 as soon as no continuation could make it valid."""
        if self.tail:
            piece = self.tail + piece
        elif piece.isascii():
            return
        try:
            _, used = utf_8_decode(piece, "strict", False)
        except UnicodeDecodeError:
            raise invalid() from None
        tail = piece[used:]
        # CPython keeps ED A0..BF waiting for a third byte, for its "surrogatepass"; it starts a surrogate, which no
        # third byte can mend (RFC 3629 §3). All other sequences it refuses at their first wrong byte.
        if len(tail) == 2 and tail[0] == 0xED and tail[1] >= 0xA0:
            raise invalid()
        self.tail = tail

    def finish(self) -> None:
        """Raise 1007 if the text ends inside a character."""
        if self.tail:
            raise invalid()


def decode(payload: bytes) -> str:
    """Decode a whole text message; raise 1007 if it is not UTF-8."""
    try:
        return str(payload, "utf-8")
    except UnicodeDecodeError:
        raise invalid() from None


def invalid() -> PeerError:
    return PeerError(1007, "invalid UTF-8 in a text message")
