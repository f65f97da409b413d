from .messages import MESSAGES
from .serving import running
import sys, time, traceback

full = "--full" in sys.argv
names = [a for a in sys.argv[1:] if not a.startswith("-")]
peers = [p for p in ("ferrows", "aiohttp", "websockets", "uvicorn") if "--" + p in sys.argv] or ["ferrows"]
from . import stimulus
import importlib

ALL = list(MESSAGES)
for m, n in (("requests", "REQUESTS"), ("growth", "GROWTH"), ("ends", "ENDS")):
    try:
        ALL += getattr(importlib.import_module("tests.hostile." + m), n)
    except ModuleNotFoundError:
        pass
for s in ALL:
    if names and s.name not in names:
        continue
    for peer in peers:
        if peer != "ferrows" and not s.peers:
            continue
        for loop in ["asyncio", "uvloop"]:
            o, e = s.settings(peer, full=full)
            t = time.time()
            try:
                with running(peer, loop, *o, environment=e) as server:
                    f = s.attack(server, full)
                    lines = server.lines()
                print(
                    s.name,
                    peer,
                    loop,
                    f"{time.time() - t:.1f}s",
                    f.facts,
                    "BROKEN" if f.broken else "",
                    f.broken,
                    len(lines),
                    flush=True,
                )
                if lines:
                    print("   ", lines[:3])
            except Exception:
                print(s.name, peer, loop)
                traceback.print_exc()
