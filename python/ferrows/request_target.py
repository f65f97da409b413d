"""Request targets, in origin-form, in absolute-form, or an asterisk (RFC 9112 §3.2)."""

from __future__ import annotations

__all__ = ["authority_of", "split_target"]


def authority_of(target: bytes) -> bytes | None:
    """Return host and port of a target in absolute-form, which MUST replace those of the Host field; else None."""
    if target[:1] in (b"/", b"*"):
        return None
    return target.partition(b"://")[2].partition(b"/")[0].partition(b"?")[0]


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Return the path and the query, both as they came. An authority alone means the root."""
    if target[:1] not in (b"/", b"*"):
        rest = target.partition(b"://")[2]
        start = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
        target = rest[start:]
        if not target.startswith(b"/"):
            target = b"/" + target
    path, _, query = target.partition(b"?")
    return path, query
