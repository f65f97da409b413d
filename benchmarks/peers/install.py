"""Install the peers into the environment that runs this: ``python -m benchmarks.peers.install UVLOOP_VERSION``."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
MISSING: Final = Path(sys.prefix) / "missing-peers.json"
"""Which peers could not be installed here, and why."""


def main() -> None:
    """Install what runs ferrows, or fail; then the peers, all together or, where that fails, one after the other."""
    uvloop = f"uvloop=={sys.argv[1]}"
    install("base", pinned=uvloop, check=True)
    peers = sorted(file.stem for file in FOLDER.glob("*.txt") if file.stem != "base")
    missing = {}
    # Together the versions suit each other; one after the other a later peer may change an earlier one's.
    if install(*peers, pinned=uvloop):
        for peer in peers:
            reason = install(peer, pinned=uvloop)
            if reason:
                missing[peer] = reason
                print(f"{peer} is missing: {reason}", file=sys.stderr)
    MISSING.write_text(json.dumps(missing, indent=1) + "\n", "utf-8")


def install(*peers: str, pinned: str, check: bool = False) -> str | None:
    """Install requirements files and ``pinned``; return None, or pip's reason why it could not (exit if ``check``)."""
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", pinned]
    for peer in peers:
        command += ["--requirement", str(FOLDER / f"{peer}.txt")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    if check:
        sys.exit(done.stderr)
    reasons = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    return reasons[-1] if reasons else f"pip ended with {done.returncode}"


def missing_peers() -> dict[str, str]:
    """Return the peers that could not be installed into this environment, and why."""
    if not MISSING.exists():
        return {}
    found: dict[str, str] = json.loads(MISSING.read_text("utf-8"))
    return found


def requirements(peer: str) -> list[str]:
    """Return the names of the distributions that a peer's file lists."""
    lines = (FOLDER / f"{peer}.txt").read_text("utf-8").splitlines()
    return [match[0] for line in lines if (match := re.match(r"[A-Za-z0-9._-]+", line))]


if __name__ == "__main__":
    main()
