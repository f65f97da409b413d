"""``shim.c``: compiled, preloaded into a server, and told what to do while that runs."""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, Self

import pytest

SENDING, RECEIVING, ACCEPTING, DIRECT = range(4)
"""What is struck: writes to a socket, reads from one, accepting, and what the extension sends past the transport."""

_FAULT: Final = struct.Struct("=8i")
_NUMBER: Final = struct.Struct("=i")
_CLOCK: Final = struct.Struct("=q")
_PORT_AT: Final = 4 * _FAULT.size
_HESITATION_AT: Final = _PORT_AT + _NUMBER.size
_CLOCKS_AT: Final = _HESITATION_AT + _NUMBER.size
_SIZE: Final = _CLOCKS_AT + 16


class Struck(NamedTuple):
    """How often a kind of call was made while a fault was set, failed, and was cut short."""

    calls: int
    errors: int
    shorts: int


class Faults:
    """The faults of one process, which may be changed at any time."""

    def __init__(self) -> None:
        self._file = tempfile.NamedTemporaryFile()  # noqa: SIM115
        self._file.truncate(_SIZE)
        self._map = mmap.mmap(self._file.fileno(), _SIZE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._map.close()
        self._file.close()

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment so that it has these faults."""
        return {"LD_PRELOAD": str(library()), "FAULTS": self._file.name, "FAULTS_DIRECT": "1"}

    def fail(self, kind: int, error: int, *, every: int = 1, times: int = -1) -> None:
        """Let each ``every``-th call fail with an errno; ``times`` is how often, -1 for ever."""
        self._set(kind, 0, every, error, times)

    def cut(self, kind: int, size: int, *, every: int = 1) -> None:
        """Let each ``every``-th call move no more than ``size`` bytes."""
        self._set(kind, 3, every, size)

    def stop(self) -> None:
        """Let everything be as ever; what was counted stays, and so do the clocks."""
        for kind in range(4):
            self._set(kind, 0, 0, 0, 0, 0, 0)
        self.only(0)

    def only(self, port: int) -> None:
        """Strike only connections whose peer has this port; 0 for all."""
        _NUMBER.pack_into(self._map, _PORT_AT, port)

    def struck(self, kind: int) -> Struck:
        """What was struck since the beginning."""
        return Struck(*_FAULT.unpack_from(self._map, kind * _FAULT.size)[5:])

    def set_clocks(self, *, realtime: float = 0, monotonic: float = 0) -> None:
        """Let the clocks be ahead by so many seconds."""
        for number, seconds in enumerate((realtime, monotonic)):
            _CLOCK.pack_into(self._map, _CLOCKS_AT + 8 * number, round(seconds * 1e9))

    def hesitating(self, seconds: float) -> str:
        """Return Python code for the process: from then on its main thread takes so long to begin waiting for a lock.

        Before, it would only slow the start down.
        """
        hesitation = _NUMBER.pack(round(seconds * 1e3))
        return f"import os; os.pwrite(os.open({self._file.name!r}, os.O_WRONLY), {hesitation!r}, {_HESITATION_AT})\n"

    def _set(self, kind: int, field: int, *values: int) -> None:
        struct.pack_into(f"={len(values)}i", self._map, kind * _FAULT.size + 4 * field, *values)


def needs_shim() -> None:
    """Skip the test where there can be no shim; fail in CI on Linux, where there must be one."""
    if sys.platform != "linux":
        pytest.skip("the shim is for Linux")
    if shutil.which("cc") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("cc is missing, which compiles the shim")
        pytest.skip("cc is missing, which compiles the shim")


@functools.cache
def library() -> Path:
    """Compile the shim, once for a run of the tests."""
    folder = Path(tempfile.mkdtemp(prefix="ferrows-faults-"))
    _FOLDERS.enter_context(_removed(folder))
    compiled = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-o", compiled, source, "-ldl"], check=True, timeout=60)
    return compiled


_FOLDERS: Final = contextlib.ExitStack()


def forget_library() -> None:
    """Remove what :func:`library` has compiled."""
    _FOLDERS.close()
    library.cache_clear()


@contextlib.contextmanager
def _removed(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        shutil.rmtree(folder)
