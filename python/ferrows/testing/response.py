"""``Response``: what an application answered."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

from ..client.response import ClientResponse
from ..headers import Headers, parse_parameters

__all__ = ["Response"]


class Response:
    """A whole response."""

    def __init__(self, response: ClientResponse) -> None:
        self.status = response.status
        self.reason = response.reason
        self.headers: Headers = response.headers
        self.content = response.body
        self.version = response.version

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.reason}, {len(self.content)} bytes>"

    @property
    def status_code(self) -> int:
        """The same as :attr:`status`."""
        return self.status

    @property
    def body(self) -> bytes:
        """The same as :attr:`content`."""
        return self.content

    @cached_property
    def text(self) -> str:
        """The body, decoded by the ``charset`` of its ``Content-Type``, else as UTF-8."""
        try:
            charset = parse_parameters(self.headers.get("content-type", ""))[1].get("charset", "utf-8")
            return self.content.decode(charset, "replace")
        except (LookupError, ValueError):
            return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON; ValueError, with its beginning, where it is none."""
        try:
            return json.loads(self.content)
        except ValueError as error:
            raise ValueError(f"the body of {self!r} is no JSON ({error}): {self.content[:200]!r}") from None
