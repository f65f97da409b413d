"""The JSON that the compressed scenario sends: made up, but the same in every run."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any, Final

SIZE: Final = 2048
COUNT: Final = 64
"""Different messages, sent in turn: more than deflate's window of 32 KiB holds, so that no repetition is in reach."""

SEED: Final = 7692

WORDS: Final = tuple(
    re.findall(
        r"\w+",
        """
        market order price volume update trade cancel filled partial limit stop account balance margin currency region
        venue latency sequence snapshot delta reason accepted rejected pending client session channel private public
        """,
    )
)


def json_message(chance: random.Random, size: int = SIZE) -> str:
    """Return a JSON object of exactly ``size`` bytes, as a feed of orders sends them."""
    document: dict[str, Any] = {"channel": "orders", "sequence": chance.randrange(10**9), "orders": [], "note": ""}
    while True:
        document["orders"].append(_order(chance))
        if len(_encode(document)) > size:
            document["orders"].pop()
            break
    missing = size - len(_encode(document))
    note = ""
    while len(note) < missing:
        note += chance.choice(WORDS) + " "
    document["note"] = note[:missing]
    return _encode(document)


def write_payloads(folder: Path) -> list[Path]:
    """Write the messages into ``folder`` and return their files, in the order in which they are to be sent."""
    chance = random.Random(SEED)
    files = []
    for number in range(COUNT):
        file = folder / f"{number:03}.json"
        file.write_text(json_message(chance), "utf-8")
        files.append(file)
    return files


def _order(chance: random.Random) -> dict[str, Any]:
    return {
        "id": f"{chance.getrandbits(64):016x}",
        "side": chance.choice(("buy", "sell")),
        "price": round(chance.uniform(10, 900), 2),
        "quantity": chance.randrange(1, 5000),
        "status": chance.choice(WORDS),
        "tags": chance.sample(WORDS, 2),
    }


def _encode(document: dict[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))
