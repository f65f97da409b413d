"""Run these tests: ``python -m tests.panics EXTENSION [ARGUMENT…]``; the arguments are pytest's.

The extension has to be there before anything imports ferrows, which pytest's plugin does first of all.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

import pytest


def main() -> int:
    """Make the file the module ``ferrows._core``, and run pytest."""
    file = Path(sys.argv[1])
    if not file.exists():
        sys.exit(f"{file} is missing: make panics builds it")
    loader = importlib.machinery.ExtensionFileLoader("ferrows._core", str(file))
    spec = importlib.util.spec_from_file_location("ferrows._core", file, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    if not hasattr(module, "_panic_at"):
        sys.exit(f"{file} was built without the feature panic-injection: make panics builds it with")
    sys.modules["ferrows._core"] = module
    return int(pytest.main([str(Path(__file__).parent), *sys.argv[2:]]))


if __name__ == "__main__":
    sys.exit(main())
