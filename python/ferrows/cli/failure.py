"""What ends a command: one line for a person, and perhaps a traceback above it."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Final

__all__ = ["EXIT_CODE", "Failure", "show", "tail"]

EXIT_CODE: Final = 3
"""What a command that fails exits with; 2 is argparse's, for a command line that cannot be understood."""


class Failure(Exception):
    """The command cannot be carried out; the text is one line, ``trace`` what is shown above it."""

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(" ".join(message.split()))
        self.trace = trace


def show(failure: Failure) -> None:
    """Print what ends a command."""
    if failure.trace:
        print(failure.trace.rstrip("\n"), file=sys.stderr)
    print(f"ferrows: {failure}", file=sys.stderr)


def tail(error: BaseException, frames: int) -> str:
    """Format an exception with a short traceback: the last so many frames of code that is not ours."""
    formatted = traceback.TracebackException.from_exception(error)
    seen: traceback.TracebackException | None = formatted
    while seen is not None:
        others = [frame for frame in seen.stack if not _is_ours(frame.filename)]
        seen.stack = traceback.StackSummary.from_list(others[-frames:])
        seen = seen.__cause__ or seen.__context__
    return "".join(formatted.format())


def _is_ours(filename: str) -> bool:
    return filename.startswith("<frozen importlib") or filename.startswith(_PACKAGE)


_PACKAGE: Final = str(Path(__file__).parents[1]) + os.sep
