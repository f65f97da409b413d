"""Authentication of WebSockets and requests: bearer tokens, signed tickets, and sessions that end their connections."""

from .bearer import bearer_token
from .guard import Authenticated, authenticated
from .session import Session
from .tickets import (
    ExpiredTicket,
    ForeignTicket,
    InvalidTicket,
    PrematureTicket,
    TicketError,
    Tickets,
    UsedTicket,
    WrongPurpose,
)

__all__ = [
    "Authenticated",
    "ExpiredTicket",
    "ForeignTicket",
    "InvalidTicket",
    "PrematureTicket",
    "Session",
    "TicketError",
    "Tickets",
    "UsedTicket",
    "WrongPurpose",
    "authenticated",
    "bearer_token",
]
