"""socketify: uWebSockets behind callbacks in Python, on libuv."""

from __future__ import annotations

from typing import Any

from socketify import App, AppListenOptions, CompressOptions, OpCode  # type: ignore[import-not-found,unused-ignore]

from benchmarks.apps.options import GREETING, HOST, MAX_SIZE, parse

TOPIC = "all"

app = App()


def greet(response: Any, request: Any) -> None:
    response.write_header("Content-Type", "text/plain; charset=utf-8").end(GREETING)


def echo(ws: Any, message: str | bytes, opcode: OpCode) -> None:
    ws.send(message, opcode, options.deflate)


def join(ws: Any) -> None:
    ws.subscribe(TOPIC)


def broadcast(ws: Any, message: str | bytes, opcode: OpCode) -> None:
    app.publish(TOPIC, message, opcode, options.deflate)


def behaviour(**handlers: Any) -> dict[str, Any]:
    return {
        "compression": CompressOptions.SHARED_COMPRESSOR | CompressOptions.SHARED_DECOMPRESSOR
        if options.deflate
        else CompressOptions.DISABLED,
        "max_payload_length": MAX_SIZE,
        "idle_timeout": 0,
        # Past its limit it drops messages instead of waiting.
        "max_backpressure": 2**30,
        **handlers,
    }


if __name__ == "__main__":
    options = parse()
    app.get("/", greet)
    app.ws("/ws", behaviour(message=echo))
    app.ws("/broadcast", behaviour(open=join, message=broadcast))
    app.listen(AppListenOptions(port=options.port, host=HOST))
    app.run()
