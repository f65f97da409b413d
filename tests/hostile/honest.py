"""An honest client beside the hostile ones, in a process of its own: `python -m tests.hostile.honest PORT`.

Until its standard input ends it sends a message every 10 ms and opens a connection every 50 ms. Then it prints how long
the answers took, in seconds: ``{"echo": [...], "open": [...], "failed": 0}``.
"""

from __future__ import annotations

import json
import select
import sys
import time

from .client import Client


def main() -> None:
    port = int(sys.argv[1])
    echo: list[float] = []
    opened: list[float] = []
    failed = turn = 0
    with Client(port) as client:
        print("ready", flush=True)
        while not select.select([sys.stdin], [], [], 0.01)[0]:
            started = time.perf_counter()
            assert client.echo() == b"here"
            echo.append(time.perf_counter() - started)
            turn += 1
            if turn % 5:
                continue
            started = time.perf_counter()
            try:
                with Client(port) as other:
                    other.echo()
                opened.append(time.perf_counter() - started)
            except (OSError, AssertionError):
                failed += 1
    print(json.dumps({"echo": echo, "open": opened, "failed": failed}), flush=True)


if __name__ == "__main__":
    main()
