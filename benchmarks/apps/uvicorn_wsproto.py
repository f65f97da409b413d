"""uvicorn with wsproto."""

from __future__ import annotations

from benchmarks.apps.uvicorn_websockets import serve

if __name__ == "__main__":
    serve("wsproto")
