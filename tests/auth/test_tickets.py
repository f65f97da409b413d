"""Tickets: what comes back, what is refused and as what, and what hostile input meets."""

from __future__ import annotations

import base64
import hmac
import json
import re
import string
from typing import Any

import pytest
from app.harness import make_request
from hypothesis import assume, given
from hypothesis import strategies as st

from ferrows import App
from ferrows.auth import (
    ExpiredTicket,
    ForeignTicket,
    InvalidTicket,
    PrematureTicket,
    TicketError,
    Tickets,
    UsedTicket,
    WrongPurpose,
)
from ferrows.exceptions import BadRequest, ServiceUnavailable, Unauthorized

SECRET = b"0123456789abcdef0123456789abcdef"
OTHER = "fedcba9876543210fedcba9876543210"
ALPHABET = string.ascii_letters + string.digits + "-_"
NOW = 1_800_000_000.0

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


class Clock:
    """A wall clock that is set by hand."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def signed(octets: bytes, secret: bytes = SECRET) -> str:
    """Sign what is no ticket of ours, as one who has the secret could."""
    signature = hmac.digest(secret, b"ferrows.auth.tickets\x00" + octets, "sha256")
    return base64.urlsafe_b64encode(octets + signature).rstrip(b"=").decode()


# ---- what comes back


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.none() | st.integers(0, 10**11) | st.floats(0, 1e11),
    st.dictionaries(st.from_regex(r"[a-z]{1,6}", fullmatch=True), JSON, max_size=3),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)
def test_what_was_issued_comes_back(subject: str, expires: float | None, data: dict[str, Any], purpose: str) -> None:
    assume(not {"expires", "request"} & set(data))
    tickets = Tickets(SECRET, purpose=purpose, max_length=10_000)
    ticket = tickets.issue(subject, expires=expires, **data)
    session = tickets.verify(ticket)
    assert (session.subject, session.expires, session.data) == (subject, expires, data)
    # What may stand in a query as it is, and in the name of a subprotocol (RFC 9110 §5.6.2).
    assert re.fullmatch(r"[A-Za-z0-9_-]+", ticket)


def test_data_may_have_the_names_of_positional_parameters() -> None:
    tickets = Tickets(SECRET)
    assert tickets.verify(tickets.issue("ada", subject="x", self=1)).data == {"subject": "x", "self": 1}


def test_a_plain_ticket_is_short_and_no_two_are_the_same(clock: Clock) -> None:
    tickets = Tickets(SECRET, clock=clock)
    issued = {tickets.issue("ada") for _ in range(100)}
    assert len(issued) == 100
    assert {len(ticket) for ticket in issued} == {80}


def test_an_own_clock_goes_on_into_the_session(clock: Clock) -> None:
    tickets = Tickets(SECRET, clock=clock)
    assert tickets.verify(tickets.issue("ada", expires=NOW + 60)).ended is False
    assert tickets.verify(tickets.issue("ada", expires=NOW - 1)).ended is True


# ---- what is refused


def test_every_flipped_bit_makes_it_invalid() -> None:
    tickets = Tickets(SECRET)
    ticket = tickets.issue("ada", room="x")
    octets = base64.urlsafe_b64decode(ticket + "=" * (-len(ticket) % 4))
    for bit in range(len(octets) * 8):
        flipped = bytearray(octets)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InvalidTicket):
            tickets.verify(base64.urlsafe_b64encode(flipped).rstrip(b"=").decode())


@pytest.mark.parametrize("subject", ["a", "ab", "abc"], ids=["4 bits", "2 bits", "0 bits"])
def test_every_other_character_anywhere_makes_it_invalid(subject: str) -> None:
    """Whichever length it has, so that the last character's bits that decoding drops are covered."""
    tickets = Tickets(SECRET)
    ticket = tickets.issue(subject)
    for at, character in enumerate(ticket):
        for other in ALPHABET:
            if other != character:
                with pytest.raises(InvalidTicket):
                    tickets.verify(ticket[:at] + other + ticket[at + 1 :])


def test_every_beginning_and_every_end_alone_is_invalid() -> None:
    tickets = Tickets(SECRET)
    ticket = tickets.issue("ada")
    for at in range(len(ticket)):
        for part in (ticket[:at], ticket[at + 1 :]):
            with pytest.raises(InvalidTicket):
                tickets.verify(part)


@given(st.data())
def test_any_mutation_is_invalid(data: st.DataObject) -> None:
    tickets = Tickets(SECRET)
    ticket = tickets.issue("ada", room="x")
    start = data.draw(st.integers(0, len(ticket)))
    end = data.draw(st.integers(start, len(ticket)))
    mutated = ticket[:start] + data.draw(st.text(max_size=20)) + ticket[end:]
    assume(mutated != ticket)
    with pytest.raises(InvalidTicket):
        tickets.verify(mutated)


@given(st.text() | st.text(ALPHABET))
def test_any_text_is_invalid(text: str) -> None:
    with pytest.raises(InvalidTicket):
        Tickets(SECRET).verify(text)


@pytest.mark.parametrize(
    "change",
    [
        lambda ticket: ticket + "=",
        lambda ticket: ticket + "==",
        lambda ticket: ticket + "\n",
        lambda ticket: " " + ticket,
        lambda ticket: ticket + "A",
        lambda ticket: ticket + "AAAA",
        lambda ticket: ticket[:10] + "\u212a" + ticket[11:],
        lambda ticket: ticket.encode(),
        lambda ticket: None,
        lambda ticket: ticket.replace("-", "+").replace("_", "/") + "+",
        lambda ticket: "A" * 1024,
        lambda ticket: "",
    ],
)
def test_other_spellings_and_what_is_no_text_are_invalid(change: Any) -> None:
    tickets = Tickets(SECRET)
    with pytest.raises(InvalidTicket):
        tickets.verify(change(tickets.issue("ada")))


def test_what_is_too_long_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    tickets = Tickets(SECRET, max_length=100)
    monkeypatch.setattr(base64, "urlsafe_b64decode", None)
    monkeypatch.setattr(hmac, "digest", None)
    for length in (101, 10**7):
        with pytest.raises(InvalidTicket):
            tickets.verify("A" * length)


def test_signatures_are_compared_in_constant_time_and_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare_digest(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return False

    tickets = Tickets([SECRET, OTHER])
    ticket = tickets.issue("ada")
    monkeypatch.setattr(hmac, "compare_digest", compare_digest)
    monkeypatch.setattr(json, "loads", None)
    with pytest.raises(InvalidTicket):
        tickets.verify(ticket)
    assert [(len(one), len(other)) for one, other in compared] == [(32, 32), (32, 32)]
    assert compared[0][0] == compared[0][1] == compared[1][1] != compared[1][0]


def test_another_version_is_invalid_even_with_its_signature() -> None:
    tickets = Tickets(SECRET, clock=Clock())
    ticket = tickets.issue("ada")
    octets = base64.urlsafe_b64decode(ticket + "=" * (-len(ticket) % 4))[:-32]
    tickets.verify(signed(octets))
    with pytest.raises(InvalidTicket):
        tickets.verify(signed(b"\x02" + octets[1:]))
    with pytest.raises(InvalidTicket):
        tickets.verify(signed(octets[:21]))


def test_secrets_rotate() -> None:
    old, both, new = Tickets(SECRET), Tickets([OTHER, SECRET]), Tickets([OTHER])
    assert both.verify(old.issue("ada")).subject == "ada"
    assert new.verify(both.issue("ada")).subject == "ada"
    for issuer, verifier in ((old, new), (new, old), (both, old)):
        with pytest.raises(InvalidTicket):
            verifier.verify(issuer.issue("ada"))


@pytest.mark.parametrize(
    ("issued_for", "used_for"), [("chat", ""), ("", "chat"), ("chat", "chat2"), ("chat", "Chat"), ("a", "\u0430")]
)
def test_a_ticket_of_another_purpose_says_so(issued_for: str, used_for: str) -> None:
    ticket = Tickets(SECRET, purpose=issued_for).issue("ada")
    with pytest.raises(WrongPurpose):
        Tickets(SECRET, purpose=used_for).verify(ticket)


@pytest.mark.parametrize(
    ("later", "error"),
    [
        (0, None),
        (29.998, None),
        (30, ExpiredTicket),
        (30.5, ExpiredTicket),
        (10**6, ExpiredTicket),
        (-5, None),
        (-5.01, PrematureTicket),
        (-3600, PrematureTicket),
    ],
)
def test_time_has_no_grace_after_it_and_little_before(
    clock: Clock, later: float, error: type[TicketError] | None
) -> None:
    tickets = Tickets(SECRET, clock=clock)
    ticket = tickets.issue("ada")
    clock.now += later
    if error is None:
        assert tickets.verify(ticket).subject == "ada"
    else:
        with pytest.raises(error):
            tickets.verify(ticket)


def test_all_errors_are_401_with_a_challenge_and_without_the_ticket() -> None:
    for error in (ExpiredTicket, ForeignTicket, InvalidTicket, PrematureTicket, UsedTicket, WrongPurpose):
        assert issubclass(error, TicketError) and issubclass(error, Unauthorized)
        raised = error()
        assert raised.status_code == 401
        assert raised.headers["WWW-Authenticate"] == (
            f'Bearer error="invalid_token", error_description="{raised.message}"'
        )
    assert len({error().message for error in TicketError.__subclasses__()}) == 6


# ---- bound to a request


def ask(origin: str | None = "https://a.example", ip: str = "192.0.2.7") -> Any:
    request = make_request(App("tickets", env_prefix=None), "/", headers={"origin": origin} if origin else {})
    request.protocol.conn_info.client_ip = ip
    return request


@pytest.mark.parametrize(
    ("bind", "later", "fits"),
    [
        ("address", ask(), True),
        ("address", ask(ip="192.0.2.8"), False),
        ("address", ask(origin=None), True),
        ("origin", ask(), True),
        ("origin", ask(ip="192.0.2.8"), True),
        ("origin", ask("HTTPS://A.example"), True),
        ("origin", ask("https://b.example"), False),
        ("origin", ask("null"), False),
        ("origin", ask(None), False),
        (("address", "origin"), ask(), True),
        (("address", "origin"), ask(ip="192.0.2.8"), False),
        (("address", "origin"), ask("https://b.example"), False),
    ],
)
def test_a_bound_ticket_is_only_for_whom_it_was_issued_to(bind: Any, later: Any, fits: bool) -> None:
    tickets = Tickets(SECRET, bind=bind)
    ticket = tickets.issue("ada", request=ask())
    if fits:
        assert tickets.verify(ticket, later).subject == "ada"
    else:
        with pytest.raises(ForeignTicket):
            tickets.verify(ticket, later)


@pytest.mark.parametrize(("issued", "verified"), [((), "origin"), ("origin", ()), ("address", "origin")])
def test_a_ticket_that_is_bound_to_other_things_is_foreign(issued: Any, verified: Any) -> None:
    ticket = Tickets(SECRET, bind=issued).issue("ada", request=ask())
    with pytest.raises(ForeignTicket):
        Tickets(SECRET, bind=verified).verify(ticket, ask())


def test_binding_needs_a_request_and_its_origin() -> None:
    tickets = Tickets(SECRET, bind="origin")
    with pytest.raises(TypeError, match="request, which is needed"):
        tickets.issue("ada")
    with pytest.raises(TypeError, match="request, which is needed"):
        tickets.verify(tickets.issue("ada", request=ask()))
    with pytest.raises(BadRequest, match="0 Origin headers, permitted: 1"):
        tickets.issue("ada", request=ask(None))


# ---- used once


def test_single_use(clock: Clock) -> None:
    tickets = Tickets(SECRET, single_use=True, clock=clock)
    one, other = tickets.issue("ada"), tickets.issue("ada")
    for ticket in (one, other):
        assert tickets.verify(ticket).subject == "ada"
        with pytest.raises(UsedTicket):
            tickets.verify(ticket)
    assert Tickets(SECRET, clock=clock).verify(one).subject == "ada"


def test_only_a_ticket_that_lets_in_counts_as_used(clock: Clock) -> None:
    tickets = Tickets(SECRET, single_use=True, bind="origin", clock=clock)
    ticket = tickets.issue("ada", request=ask())
    with pytest.raises(ForeignTicket):
        tickets.verify(ticket, ask("https://b.example"))
    assert tickets.verify(ticket, ask()).subject == "ada"


def test_memory_of_used_tickets_is_bounded_and_freed_as_they_expire(clock: Clock) -> None:
    tickets = Tickets(SECRET, single_use=True, max_used=3, clock=clock)
    first = tickets.issue("first")
    tickets.verify(first)
    clock.now += 10
    for _ in range(2):
        tickets.verify(tickets.issue("ada"))
    waiting = tickets.issue("ada")
    with pytest.raises(ServiceUnavailable, match="3 tickets"):
        tickets.verify(waiting)
    clock.now += 20  # the first has expired
    tickets.verify(tickets.issue("ada"))
    assert len(tickets._used) == 3
    clock.now += 3600
    tickets.verify(tickets.issue("ada"))
    assert len(tickets._used) == 1


def test_room_is_found_behind_a_ticket_that_lasts_longer(clock: Clock) -> None:
    tickets = Tickets(SECRET, single_use=True, max_used=2, clock=clock)
    tickets.verify(Tickets(SECRET, 3600, clock=clock).issue("long"))
    tickets.verify(tickets.issue("short"))
    clock.now += 31
    assert tickets.verify(tickets.issue("ada")).subject == "ada"


def test_a_clock_that_is_set_back_brings_no_used_ticket_back(clock: Clock) -> None:
    tickets = Tickets(SECRET, single_use=True, clock=clock)
    ticket = tickets.issue("ada")
    tickets.verify(ticket)
    clock.now += 60
    tickets.verify(tickets.issue("ada"))
    assert len(tickets._used) == 1
    clock.now -= 60
    with pytest.raises(ExpiredTicket):
        tickets.verify(ticket)


# ---- what the caller gets wrong


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"secret": None}, TypeError, "secret is None, .* is its variable of the environment set?"),
        ({"secret": b"x" * 31}, ValueError, "a secret of 31 bytes, permitted: 32 or more"),
        ({"secret": "\u00e4" * 15}, ValueError, "a secret of 30 bytes"),
        ({"secret": [SECRET, "short"]}, ValueError, "a secret of 5 bytes"),
        ({"secret": []}, ValueError, "0 secrets, permitted: 1 or more"),
        ({"secret": [None]}, TypeError, "a secret is NoneType, permitted: str or bytes"),
        ({"lifetime": 0}, ValueError, "lifetime of 0 seconds"),
        ({"lifetime": float("inf")}, ValueError, "lifetime of inf seconds"),
        ({"lifetime": float("nan")}, ValueError, "lifetime of nan seconds"),
        ({"lifetime": 0.0009}, ValueError, "lifetime of 0.0009 seconds, permitted: 0.001 to 1e9"),
        ({"lifetime": 1e12}, ValueError, "lifetime of 1000000000000.0 seconds"),
        ({"lifetime": "30"}, TypeError, "lifetime is str, permitted: seconds"),
        ({"purpose": None}, TypeError, "purpose is NoneType, permitted: str"),
        ({"skew": -1}, ValueError, "skew of -1 seconds, permitted: 0 or more"),
        ({"max_used": 0}, ValueError, "max_used 0, permitted: 1 or more"),
        ({"bind": "ip"}, ValueError, "bind 'ip', permitted: address, origin"),
    ],
)
def test_wrong_options_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Tickets(**{"secret": SECRET, **arguments})


@pytest.mark.parametrize(
    ("subject", "options", "error", "message"),
    [
        (7, {}, TypeError, "subject is int, permitted: str"),
        ("ada", {"data": {1, 2}}, TypeError, "not JSON serializable"),
        ("ada", {"x": float("nan")}, ValueError, "not JSON compliant"),
        ("ada", {"x": "y" * 1024}, ValueError, "ticket of 1[0-9]{3} characters, permitted 1024"),
        ("\ud800", {}, ValueError, "surrogates"),
        ("ada", {"expires": float("inf")}, ValueError, "expires inf"),
        ("ada", {"expires": "1"}, TypeError, "expires is str"),
        ("ada", {"expires": 10**400}, ValueError, "expires 10{400}, permitted: Unix seconds"),
    ],
)
def test_what_cannot_be_issued_is_refused(
    subject: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Tickets(SECRET).issue(subject, **options)


def test_no_secret_is_in_the_representation() -> None:
    shown = repr(Tickets([SECRET, OTHER], purpose="chat"))
    assert shown == "<Tickets 'chat' for 30 s>"
