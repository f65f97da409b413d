"""The names of the reference's server package, as data.

Each entry is a name below ``ferrows.server``, its parameters and their defaults as the reference gives them, and what
it returns where the reference says so.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from ferrows.server.protocols.http_protocol import HttpProtocol
from ferrows.server.runners import Signal

NEEDED: Final = object()
"""A parameter without a default."""


class Entry(NamedTuple):
    name: str
    parameters: dict[str, Any] | None
    """None for a property, and for a class of which nothing is made."""
    returns: str = ""
    asynchronous: bool = False


def _needed(*names: str, **defaults: Any) -> dict[str, Any]:
    return {**dict.fromkeys(names, NEEDED), **defaults}


def _members(owner: str, *entries: Entry) -> list[Entry]:
    return [entry._replace(name=f"{owner}.{entry.name}") for entry in entries]


_PROTOCOL: Final = (
    Entry("abort", {}),
    Entry("close", {"timeout": None}),
    Entry("connection_lost", _needed("exc")),
    Entry("connection_made", _needed("transport")),
    Entry("ctx", None),
    Entry("data_received", _needed("data")),
    Entry("eof_received", {}, "bool | None"),
    Entry("pause_writing", {}),
    Entry("receive_more", {}, asynchronous=True),
    Entry("resume_writing", {}),
    Entry("send", _needed("data"), asynchronous=True),
)

_HTTP: Final = (
    *_PROTOCOL,
    Entry("check_timeouts", {}),
    Entry("close_if_idle", {}, "bool"),
    Entry("connection_task", {}, asynchronous=True),
    Entry("http", None),
    Entry("version", None),
)

API: Final = [
    Entry("async_server.AsyncioServer", _needed("app", "loop", "serve_coro", "connections")),
    *_members(
        "async_server.AsyncioServer",
        Entry("after_start", {}),
        Entry("after_stop", {}),
        Entry("before_start", {}),
        Entry("before_stop", {}),
        Entry("close", {}),
        Entry("is_serving", {}, "bool"),
        Entry("serve_forever", {}),
        Entry("start_serving", {}),
        Entry("startup", {}),
        Entry("wait_closed", {}),
    ),
    Entry("events.trigger_events", _needed("events", "loop", app=None, **{"**kwargs": NEEDED})),
    Entry("goodbye.get_goodbye", {}, "str"),
    Entry("loop.try_use_uvloop", {}, "None"),
    Entry("loop.try_windows_loop", {}),
    Entry(
        "protocols.base_protocol.SanicProtocol",
        _needed("loop", "app", signal=None, connections=None, unix=None, **{"**kwargs": NEEDED}),
    ),
    *_members("protocols.base_protocol.SanicProtocol", *_PROTOCOL),
    Entry("protocols.http_protocol.ConnectionProtocol", {}),
    Entry("protocols.http_protocol.Http3Protocol", {"*args": NEEDED, "app": NEEDED, "**kwargs": NEEDED}, "None"),
    *_members(
        "protocols.http_protocol.Http3Protocol",
        Entry("connection", None),
        Entry("http", None),
        Entry("quic_event_received", _needed("event"), "None"),
        Entry("version", None),
    ),
    Entry(
        "protocols.http_protocol.HttpProtocol",
        _needed("loop", "app", signal=None, connections=None, state=None, unix=None, **{"**kwargs": NEEDED}),
    ),
    *_members("protocols.http_protocol.HttpProtocol", *_HTTP),
    Entry("protocols.http_protocol.HttpProtocolMixin", {}),
    *_members("protocols.http_protocol.HttpProtocolMixin", Entry("http", None), Entry("version", None)),
    Entry(
        "protocols.websocket_protocol.WebSocketProtocol",
        {
            "*args": NEEDED,
            "websocket_timeout": 10.0,
            "websocket_max_size": None,
            "websocket_ping_interval": 20.0,
            "websocket_ping_timeout": 20.0,
            "**kwargs": NEEDED,
        },
    ),
    *_members(
        "protocols.websocket_protocol.WebSocketProtocol",
        *_HTTP,
        Entry("sanic_request_to_ws_request", _needed("request")),
        Entry("websocket_handshake", _needed("request", subprotocols=None), asynchronous=True),
    ),
    Entry(
        "runners.serve",
        _needed(
            "host",
            "port",
            "app",
            ssl=None,
            sock=None,
            unix=None,
            reuse_port=False,
            loop=None,
            protocol=HttpProtocol,
            backlog=100,
            register_sys_signals=True,
            run_multiple=False,
            run_async=False,
            connections=None,
            signal=Signal(),
            state=None,
            asyncio_server_kwargs=None,
            version=1,
        ),
    ),
    Entry("socket.bind_socket", _needed("host", "port", backlog=100), "socket.socket"),
    Entry("socket.bind_unix_socket", _needed("path", mode=438, backlog=100), "socket.socket"),
    Entry("socket.configure_socket", _needed("server_settings"), "socket.socket"),
    Entry("socket.remove_unix_socket", _needed("path"), "None"),
    Entry("websockets.connection.WebSocketConnection", _needed("send", "receive", subprotocols=None), "None"),
    *_members(
        "websockets.connection.WebSocketConnection",
        Entry("accept", {"subprotocols": None}, "None", asynchronous=True),
        Entry("close", {"code": 1000, "reason": ""}, "None", asynchronous=True),
        Entry("receive", {"*args": NEEDED, "**kwargs": NEEDED}, asynchronous=True),
        Entry("recv", {"*args": NEEDED, "**kwargs": NEEDED}, asynchronous=True),
        Entry("send", _needed("data", **{"*args": NEEDED, "**kwargs": NEEDED}), "None", asynchronous=True),
        Entry("subprotocols", None),
    ),
    Entry("websockets.frame.WebsocketFrameAssembler", _needed("protocol"), "None"),
    *_members(
        "websockets.frame.WebsocketFrameAssembler",
        Entry("get", {"timeout": None}, "str | bytes | None", asynchronous=True),
        Entry("get_iter", {}, "AsyncIterator[str | bytes]"),
        Entry("put", _needed("frame"), "None", asynchronous=True),
    ),
    Entry(
        "websockets.impl.WebsocketImplProtocol",
        _needed("ws_proto", max_queue=None, ping_interval=20, ping_timeout=20, close_timeout=10, loop=None),
    ),
    *_members(
        "websockets.impl.WebsocketImplProtocol",
        Entry("abort_pings", {}, "None"),
        Entry("async_data_received", _needed("data_to_send", "events_to_process"), asynchronous=True),
        Entry("async_eof_received", _needed("data_to_send", "events_to_process"), asynchronous=True),
        Entry("auto_close_connection", {}, "None", asynchronous=True),
        Entry("close", {"code": 1000, "reason": ""}, "None", asynchronous=True),
        Entry("connection_lost", _needed("exc")),
        Entry("connection_made", _needed("io_proto", loop=None), asynchronous=True),
        Entry("data_received", _needed("data")),
        Entry("end_connection", {"code": 1000, "reason": ""}),
        Entry("eof_received", {}, "bool | None"),
        Entry("fail_connection", {"code": 1006, "reason": ""}, "bool"),
        Entry("keepalive_ping", {}, "None", asynchronous=True),
        Entry("pause_frames", {}),
        Entry("ping", {"data": None}, "asyncio.Future[float]", asynchronous=True),
        Entry("pong", {"data": b""}, "None", asynchronous=True),
        Entry("process_events", _needed("events"), "None", asynchronous=True),
        Entry("process_pong", _needed("frame"), "None", asynchronous=True),
        Entry("recv", {"timeout": None}, asynchronous=True),
        Entry("recv_burst", {"max_recv": 256}, "Sequence[Data]", asynchronous=True),
        Entry("recv_streaming", {}, "AsyncIterator[Data]"),
        Entry("resume_frames", {}),
        Entry("send", _needed("message"), asynchronous=True),
        Entry("send_data", _needed("data_to_send"), asynchronous=True),
        Entry("subprotocol", None),
        Entry("wait_for_connection_lost", {"timeout": None}, "bool", asynchronous=True),
    ),
]

ASYNCHRONOUS_BY_RESULT: Final = {
    "websockets.impl.WebsocketImplProtocol.recv": "Coroutine",
    "websockets.impl.WebsocketImplProtocol.send": "Coroutine",
}
"""Coroutine functions of the reference that are functions here, which return what is awaited."""

DEVIATIONS: Final = {
    "protocols.websocket_protocol.WebSocketProtocol.data_received": (
        "an attribute: the codec's own method after the handshake, `receive_http` before"
    ),
    "websockets.connection.WebSocketConnection.receive": "takes `timeout` as `Websocket.recv` does, and nothing else",
    "websockets.connection.WebSocketConnection.recv": "takes `timeout` as `Websocket.recv` does, and nothing else",
    "websockets.connection.WebSocketConnection.send": "takes `encoding` and `compress` as `Websocket.send` does",
}
"""Names whose signature is another on purpose, and why."""
