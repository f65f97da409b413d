"""Who the client is, said by trusted proxies in headers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest
import websockets
from hypothesis import given
from hypothesis import strategies as st

from ferrows import App, Request, Websocket, forwarding
from ferrows.config import Config
from ferrows.networks import parse_address, parse_networks
from ferrows.server import AsyncioServer

from .harness import make_head, on_both_loops

# --------------------------------------------------------------------------------------------------------------------
# Networks


@pytest.mark.parametrize(
    ("given", "inside", "outside"),
    [
        ("10.0.0.0/8, ::1", ["10.1.2.3", "::1", "::ffff:10.1.2.3"], ["11.0.0.1", "::2", "", "testclient"]),
        (["127.0.0.1"], ["127.0.0.1", "::ffff:127.0.0.1"], ["127.0.0.2", ""]),
        ("fe80::/10", ["fe80::1%eth0"], ["2001:db8::1"]),
        ("unix", [""], ["127.0.0.1"]),
        ("*", ["", "192.0.2.1", "2001:db8::1", "anything"], []),
        (None, [], ["", "127.0.0.1"]),
        (" , ", [], ["", "127.0.0.1"]),
    ],
)
def test_networks(given: Any, inside: list[str], outside: list[str]) -> None:
    networks = parse_networks(given)
    assert [address for address in inside + outside if address in networks] == inside
    assert bool(networks) == bool(inside)


@pytest.mark.parametrize("key", ["FORWARDED_ALLOW_IPS", "PROXY_PROTOCOL"])
@pytest.mark.parametrize("value", ["proxy.example", "10.0.0.1/8", 3, True, ["10.0.0.0/8", 5], "10.0.0.0/33"])
def test_networks_that_are_none_are_an_error_of_the_start(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{key} must be None or networks such as"):
        Config({key: value}, env_prefix=None).validate()


@pytest.mark.parametrize(("key", "value"), [("PROXIES_COUNT", 1), ("REAL_IP_HEADER", "x-real-ip")])
def test_setting_that_has_no_effect_without_trust_is_an_error_of_the_start(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{key} needs FORWARDED_ALLOW_IPS"):
        Config({key: value}, env_prefix=None).validate()
    Config({key: value, "FORWARDED_ALLOW_IPS": "unix"}, env_prefix=None).validate()


@pytest.mark.parametrize("value", ["", "x real ip", 1, "x:y"])
def test_header_name_that_is_none_is_an_error_of_the_start(value: Any) -> None:
    with pytest.raises(ValueError, match="REAL_IP_HEADER must be None or the name of a header"):
        Config({"REAL_IP_HEADER": value, "FORWARDED_ALLOW_IPS": "*"}, env_prefix=None).validate()


def test_environment_names_the_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERROWS_FORWARDED_ALLOW_IPS", "10.0.0.0/8,unix")
    monkeypatch.setenv("FERROWS_PROXY_PROTOCOL", "none")
    config = Config()
    assert config.FORWARDED_ALLOW_IPS == "10.0.0.0/8,unix"
    assert config.PROXY_PROTOCOL is None
    monkeypatch.setenv("FERROWS_PROXY_PROTOCOL", "me")
    with pytest.raises(ValueError, match=r"FERROWS_PROXY_PROTOCOL must be None or networks .*, not 'me'"):
        Config()


# --------------------------------------------------------------------------------------------------------------------
# Headers

PEER = "10.0.0.1"


def asked(*lines: tuple[str, str], peer: str = PEER, secure: bool = False, **config: Any) -> Request:
    app = App("proxied", {"FORWARDED_ALLOW_IPS": "10.0.0.0/8", **config}, env_prefix=None)
    app.config.validate()
    protocol = SimpleNamespace(conn_info=SimpleNamespace(client_ip=peer, client_port=5, ssl=secure))
    head = make_head("GET", "/", _Lines(("Host", "example.com"), *lines))
    return Request(head, protocol, app)


class _Lines(dict[str, str]):
    """Headers that may repeat a name."""

    def __init__(self, *lines: tuple[str, str]) -> None:
        self.lines = lines

    def items(self) -> Any:
        return self.lines


FOR, REAL, FORWARDED = "X-Forwarded-For", "X-Real-IP", "Forwarded"


@pytest.mark.parametrize(
    ("values", "client"),
    [
        (["192.0.2.9"], "192.0.2.9"),
        # What the client itself has sent stands to the left.
        (["6.6.6.6, 192.0.2.9"], "192.0.2.9"),
        (["192.0.2.9, 10.0.0.2, 10.0.0.3"], "192.0.2.9"),
        (["6.6.6.6", "192.0.2.9,10.0.0.2"], "192.0.2.9"),
        (["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        (["192.0.2.9:4711"], "192.0.2.9"),
        (["2001:db8::9"], "2001:db8::9"),
        (["[2001:db8::9]:4711"], "2001:db8::9"),
        (["[2001:DB8:0::9]"], "2001:db8::9"),
        (["::ffff:192.0.2.9"], "192.0.2.9"),
        (["192.0.2.9, ::ffff:10.0.0.2"], "192.0.2.9"),
        ([",, 192.0.2.9 ,"], "192.0.2.9"),
        # What cannot be read is not believed, and nothing to its left.
        (["unknown"], PEER),
        (["192.0.2.9, unknown"], PEER),
        (["192.0.2.9, unknown, 10.0.0.2"], "10.0.0.2"),
        (["fe80::1%<b>"], PEER),
        (["[192.0.2.9"], PEER),
        (["192.0.2.999"], PEER),
        (["\xff\xfe"], PEER),
        (["," * 500], PEER),
        ([""], PEER),
        ([], PEER),
    ],
)
def test_address_is_the_first_from_the_right_that_is_no_trusted_proxy(values: list[str], client: str) -> None:
    request = asked(*((FOR, value) for value in values))
    assert (request.remote_addr, request.ip) == (client, PEER)


@pytest.mark.parametrize("count", [None, 1])
def test_addresses_that_do_not_count_are_not_read(count: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def parse(text: str) -> Any:
        read.append(text)
        return parse_address(text)

    monkeypatch.setattr(forwarding, "parse_address", parse)
    request = asked((FOR, "1," * 4000 + "192.0.2.1"), PROXIES_COUNT=count)
    assert request.remote_addr == "192.0.2.1"
    assert set(read) == {"192.0.2.1"}


@pytest.mark.parametrize("peer", ["192.0.2.1", "", "::1"])
def test_stranger_is_not_believed(peer: str) -> None:
    lines = [(FOR, "192.0.2.9"), (REAL, "192.0.2.9"), (FORWARDED, "for=192.0.2.9;proto=https")]
    for header in (None, REAL, FORWARDED):
        request = asked(*lines, ("X-Forwarded-Proto", "https"), peer=peer, REAL_IP_HEADER=header)
        assert (request.remote_addr, request.scheme, request.forwarded) == (peer, "http", {})


def test_nobody_is_believed_unless_told_so() -> None:
    request = asked((FOR, "192.0.2.9"), ("X-Forwarded-Proto", "https"), FORWARDED_ALLOW_IPS=None)
    assert (request.remote_addr, request.scheme, request.forwarded) == (PEER, "http", {})
    # Nothing was parsed, and nothing is kept.
    assert request._headers is not None  # Of the scheme's Upgrade.
    assert request._parsed is None


def test_peer_of_a_unix_socket_may_be_trusted() -> None:
    assert asked((FOR, "192.0.2.9"), peer="", FORWARDED_ALLOW_IPS="unix").remote_addr == "192.0.2.9"


def test_everyone_may_be_trusted() -> None:
    assert asked((FOR, "6.6.6.6, 192.0.2.9"), FORWARDED_ALLOW_IPS="*").remote_addr == "6.6.6.6"


@pytest.mark.parametrize(
    ("count", "value", "client"),
    [
        (1, "6.6.6.6, 192.0.2.9", "192.0.2.9"),
        (2, "6.6.6.6, 192.0.2.9, 192.0.2.77", "192.0.2.9"),
        (3, "192.0.2.9, 192.0.2.77", PEER),
        (2, "junk, 192.0.2.77", PEER),
    ],
)
def test_number_of_proxies_counts_from_the_right(count: int, value: str, client: str) -> None:
    assert asked((FOR, value), FORWARDED_ALLOW_IPS="*", PROXIES_COUNT=count).remote_addr == client


@pytest.mark.parametrize(
    ("values", "client"), [(["192.0.2.9"], "192.0.2.9"), (["192.0.2.9", "6.6.6.6"], PEER), (["x"], PEER), ([], PEER)]
)
def test_header_of_one_address(values: list[str], client: str) -> None:
    lines = [(FOR, "6.6.6.6"), (FORWARDED, "for=6.6.6.6"), *((REAL, value) for value in values)]
    assert asked(*lines, REAL_IP_HEADER="X-Real-Ip").remote_addr == client


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (["for=192.0.2.9;proto=https;host=a.example;by=10.0.0.1"], ("192.0.2.9", "https", "a.example")),
        (['For="[2001:db8::9]:4711" ; Proto=HTTPS'], ("2001:db8::9", "https", None)),
        (["for=6.6.6.6, for=192.0.2.9;proto=http, for=10.0.0.2"], ("192.0.2.9", "http", None)),
        (["for=6.6.6.6", "for=192.0.2.9", "for=10.0.0.2"], ("192.0.2.9", None, None)),
        (["for=unknown;proto=https"], (None, None, None)),
        (['for=192.0.2.9;host="a b"'], ("192.0.2.9", None, None)),
        # A quote that the client has left open swallows what its line has behind it, and no more.
        (['for=6.6.6.6;x=", for=192.0.2.9'], (None, None, None)),
        (['for=6.6.6.6;x="a, for="192.0.2.9"'], (None, None, None)),
        (['for=6.6.6.6;x="', "for=192.0.2.9"], ("192.0.2.9", None, None)),
        (["for=192.0.2.9;for=6.6.6.6"], (None, None, None)),
        (["for"], (None, None, None)),
    ],
)
def test_rfc_7239(values: list[str], told: tuple[str | None, ...]) -> None:
    lines = [(FOR, "6.6.6.6"), ("X-Forwarded-Proto", "https"), *((FORWARDED, value) for value in values)]
    forwarded = asked(*lines, REAL_IP_HEADER="Forwarded").forwarded
    assert tuple(forwarded.get(name) for name in ("for", "proto", "host")) == told


@pytest.mark.parametrize(
    ("hops", "value", "secure", "scheme"),
    [
        ("192.0.2.9", "https", False, "https"),
        ("192.0.2.9", "WSS", False, "https"),
        ("192.0.2.9", "http", True, "http"),
        ("192.0.2.9", "gopher", False, "http"),
        ("192.0.2.9", "gopher", True, "https"),
        ("192.0.2.9", "", True, "https"),
        # Each proxy has added one: the client's counts.
        ("192.0.2.9, 10.0.0.2", "https, http", False, "https"),
        ("6.6.6.6, 192.0.2.9", "https, http", False, "http"),
        # Else the nearest proxy's word.
        ("192.0.2.9", "https, http", False, "http"),
        ("", "https", False, "https"),
    ],
)
def test_scheme_is_the_clients(hops: str, value: str, secure: bool, scheme: str) -> None:
    lines = [(FOR, hops), ("X-Forwarded-Proto", value)]
    assert asked(*lines, secure=secure).scheme == scheme
    upgrade = asked(*lines, ("Upgrade", "websocket"), secure=secure)
    assert upgrade.scheme == scheme.replace("http", "ws")
    assert upgrade.server_port == (443 if scheme == "https" else 80)


@pytest.mark.parametrize("header", [None, REAL, FORWARDED])
@given(
    lines=st.lists(
        st.tuples(
            st.sampled_from([FOR, REAL, FORWARDED, "X-Forwarded-Proto", "X-Forwarded-Host"]),
            st.lists(
                st.sampled_from(["192.0.2.9", "10.0.0.2", "2001:db8::9", "for=", "proto=https", "host", '"', "\\"])
                | st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=3)
                | st.sampled_from(list(",;= []:%")),
                max_size=12,
            ).map("".join),
        ),
        max_size=5,
    ),
    count=st.none() | st.integers(1, 3),
)
def test_nothing_that_a_client_sends_is_an_error(header: str | None, lines: Any, count: int | None) -> None:
    request = asked(*lines, REAL_IP_HEADER=header, PROXIES_COUNT=count)
    assert set(request.forwarded) <= {"for", "proto", "host"}
    assert str(ip_address(request.remote_addr)) == request.remote_addr
    assert request.scheme in ("http", "https")


def test_host_stays_what_the_request_names() -> None:
    request = asked((FOR, "192.0.2.9"), ("X-Forwarded-Host", "public.example"))
    assert (request.host, request.forwarded["host"]) == ("example.com", "public.example")
    assert "host" not in asked(("X-Forwarded-Host", "<b>")).forwarded


# --------------------------------------------------------------------------------------------------------------------
# Through sockets


@pytest.fixture
def app() -> App:
    app = App("served", env_prefix=None)
    app.config.GRACEFUL_SHUTDOWN_TIMEOUT = 5

    @app.websocket("/ws", origins="same")
    async def ws(request: Request, ws: Websocket) -> None:
        await ws.send(f"{request.scheme} {request.remote_addr}")
        async for message in ws:
            await ws.send(message)

    return app


@contextlib.asynccontextmanager
async def running(app: App, **options: Any) -> AsyncIterator[AsyncioServer]:
    async with await app.create_server(port=0, **options) as server:
        yield server


def port_of(server: AsyncioServer) -> int:
    return int(server.sockets[0].getsockname()[1])


@on_both_loops
async def test_same_origin_is_judged_by_the_host_behind_a_proxy_of_tls(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ferrows.access")
    app.config.FORWARDED_ALLOW_IPS = "127.0.0.1"
    headers = {FOR: "192.0.2.9", "X-Forwarded-Proto": "https"}
    async with running(app) as server:
        host = f"127.0.0.1:{port_of(server)}"
        async with websockets.connect(
            f"ws://{host}/ws", additional_headers=headers, origin=websockets.Origin(f"https://{host}")
        ) as ws:
            assert await ws.recv() == "wss 192.0.2.9"
        with pytest.raises(websockets.InvalidStatus):
            await websockets.connect(
                f"ws://{host}/ws",
                additional_headers={**headers, "X-Forwarded-Host": "evil.example"},
                origin=websockets.Origin("https://evil.example"),
            )
    logged = [record.getMessage() for record in caplog.records if record.name == "ferrows.access"]
    assert [line.partition(" ")[0] for line in logged] == ["192.0.2.9", "192.0.2.9"]
