"""What the peer did wrong, with the close code that it means."""

from __future__ import annotations

__all__ = ["PeerError"]


class PeerError(Exception):
    """The peer broke a rule: the connection fails with this close code and reason (RFC 6455 §7.1.7).

    It never leaves the package: ``Connection.receive_data`` turns it into a pending Close and a ``Failure``.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
