"""Static files: the handler behind ``static``."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .exceptions import Forbidden, NotFound
from .response import HTTPResponse, file, file_stream, redirect

if TYPE_CHECKING:
    from .request import Request

__all__ = ["StaticFiles"]

# Bytes from which on a file is not read whole before it is sent.
_LARGE: Final = 2**20


class StaticFiles:
    """Answers with one file, or with the files below a directory and nothing else.

    Paths are resolved, symbolic links included, before it is checked that they are still inside. What is not there and
    what is outside look the same to the client.
    """

    def __init__(self, path: Path, *, index: str | Sequence[str] = (), content_type: str | None = None) -> None:
        if not path.exists():
            raise ValueError(f"static path {str(path)!r} does not exist")
        self.path = path.resolve()
        self.directory = self.path.is_dir()
        self._index = (index,) if isinstance(index, str) else tuple(index)
        self._content_type = content_type
        # Reads files, once: not while a client waits, or when there is no descriptor left for them.
        # Types that the program has added are there since the first time, and would go with a second one.
        if not mimetypes.inited:
            mimetypes.init()

    def __repr__(self) -> str:
        return f"<StaticFiles {self.path}>"

    async def __call__(self, request: Request, filename: str = "") -> HTTPResponse:
        path, size = await asyncio.to_thread(self._locate, filename)
        if path.name in self._index and not request.path.endswith(("/", f"/{path.name}")):
            # Relative links in the page count from the directory.
            return redirect(f"/{request.path.strip('/')}/", status=301)
        respond = file_stream if size > _LARGE else file
        try:
            return await respond(path, request_headers=request.headers, mime_type=self._content_type)
        except PermissionError:
            raise Forbidden from None
        except OSError:
            raise _not_found(filename) from None

    def _locate(self, filename: str) -> tuple[Path, int]:
        """The file to send and its size; NotFound for whatever is not a file inside."""
        if not self.directory:
            return self.path, self._size(self.path, filename)
        if ".." in filename.replace("\\", "/").split("/"):
            raise _not_found(filename)
        path = self._resolve(filename, filename)
        if path.is_dir():
            for name in self._index:
                candidate = self._resolve(f"{path.relative_to(self.path)}/{name}", filename, strict=False)
                if candidate.is_file():
                    return path / name, self._size(candidate, filename)
            raise _not_found(filename)
        return path, self._size(path, filename)

    def _resolve(self, relative: str, filename: str, *, strict: bool = True) -> Path:
        try:
            path = (self.path / relative).resolve(strict=strict)
        except (OSError, ValueError, RuntimeError):  # Not there, a NUL, a loop of links.
            raise _not_found(filename) from None
        if not path.is_relative_to(self.path):
            raise _not_found(filename)
        return path

    def _size(self, path: Path, filename: str) -> int:
        if not path.is_file():
            raise _not_found(filename)
        return path.stat().st_size


def _not_found(filename: str) -> NotFound:
    return NotFound(f"File {filename} not found" if filename else "File not found")
