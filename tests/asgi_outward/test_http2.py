"""HTTP/2, which ferrows' own server does not speak, under hypercorn: a request, a WebSocket (RFC 8441), a refusal."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from ferrows._codec import Connection
from ferrows.events import Close, Message

from .conftest import Server, missing, serving

try:
    import h2.connection as h2_connection
    import h2.events as h2_events
except ImportError:
    h2_connection = None  # type: ignore[assignment]


class Client:
    """One HTTP/2 connection, with prior knowledge."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.h2: Any = h2_connection.H2Connection()
        self.h2.initiate_connection()
        self.events: list[Any] = []
        self.flush()
        # RFC 8441 §3: CONNECT with a protocol only after the server has offered it.
        self.wait_for(h2_events.RemoteSettingsChanged)

    def flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def wait_for(self, kind: type[Any], stream: int | None = None) -> Any:
        while True:
            for event in self.events:
                if isinstance(event, kind) and stream in (None, getattr(event, "stream_id", None)):
                    self.events.remove(event)
                    return event
            data = self.sock.recv(65536)
            assert data, "the server closed the connection"
            self.events += self.h2.receive_data(data)
            self.flush()

    def request(self, *headers: tuple[str, str], end: bool) -> int:
        stream: int = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, headers, end_stream=end)
        self.flush()
        return stream

    def response(self) -> dict[str, str]:
        headers = self.wait_for(h2_events.ResponseReceived).headers
        return {_text(name): _text(value) for name, value in headers}

    def connect(self, path: str, *headers: tuple[str, str]) -> int:
        pseudo = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", path)]
        return self.request(
            *pseudo, (":authority", "example.com"), ("sec-websocket-version", "13"), *headers, end=False
        )

    def send(self, stream: int, data: bytes) -> None:
        self.h2.send_data(stream, data)
        self.flush()

    def receive(self, ws: Connection, stream: int) -> list[Any]:
        """Return the next events of the WebSocket on a stream."""
        events: list[Any] = []
        while not events:
            ws.receive_data(self.wait_for(h2_events.DataReceived, stream).data)
            events = ws.events()
        return events


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


@pytest.fixture(scope="module")
def hypercorn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if h2_connection is None:
        missing("h2, which comes with hypercorn, is not installed")
    with serving("hypercorn", tmp_path_factory.mktemp("hypercorn")) as server:
        yield server


@pytest.fixture
def client(hypercorn: Server) -> Iterator[Client]:
    with socket.create_connection(("127.0.0.1", hypercorn.port), timeout=30) as sock:
        yield Client(sock)


def test_request(client: Client) -> None:
    pseudo = [(":method", "GET"), (":scheme", "http"), (":path", "/request/a%2Fb?x=1"), (":authority", "example.com")]
    client.request(*pseudo, end=True)
    assert client.response()[":status"] == "200"
    about = json.loads(client.wait_for(h2_events.DataReceived).data)
    assert (about["name"], about["version"], about["host"]) == ("a/b", "2", "example.com")
    assert about["url"] == "http://example.com/request/a%2Fb?x=1"


def test_websocket(client: Client) -> None:
    ws = Connection(client=True)
    stream = client.connect("/echo")
    assert client.response()[":status"] == "200"
    ws.send_text("over HTTP/2")
    client.send(stream, ws.data_to_send())
    assert client.receive(ws, stream) == [Message("over HTTP/2")]


def test_subprotocol_url_and_close(client: Client) -> None:
    stream = client.connect("/subprotocol", ("sec-websocket-protocol", "v1, v2"))
    response = client.response()
    assert (response[":status"], response["sec-websocket-protocol"]) == ("200", "v2")
    ws = Connection(client=True)
    assert client.receive(ws, stream)[0] == Message("v2")
    stream = client.connect("/about/7")
    client.response()
    ws = Connection(client=True)
    events = client.receive(ws, stream)
    about = json.loads(events[0].data)
    assert (about["number"], about["url"]) == (7, "ws://example.com/about/7")
    assert (events[1:] or client.receive(ws, stream)) == [Close(1000, "")]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/nowhere", [], "404"),
        ("/same-origin", [("origin", "http://elsewhere.example")], "403"),
        # A page would accept the connection.
        ("/text", [], "403"),
    ],
)
def test_refusal(client: Client, path: str, headers: list[tuple[str, str]], status: str) -> None:
    client.connect(path, *headers)
    assert client.response()[":status"] == status
