"""Many clients that connect in the same instant, as they do when they have all been told to come back."""

from __future__ import annotations

import select
import socket
import struct
import time
from typing import Final

from .client import handshake
from .serving import Server
from .stimulus import Finding, Stimulus

RETRANSMITTED: Final = 100
"""Where ``tcpi_total_retrans`` is in tcp(7)'s TCP_INFO, a number of 4 bytes."""


def arriving_at_once(server: Server, full: bool) -> Finding:
    """Connect before anybody waits; a client that the kernel has no room for tries again a second later."""
    finding = Finding()
    count = 2000 if full else 500
    poll = select.poll()
    waiting: dict[int, socket.socket] = {}
    began = time.monotonic()
    for _ in range(count):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", server.port))
        waiting[sock.fileno()] = sock
        poll.register(sock, select.POLLOUT)
    finding.note(f"{count:,} clients within {(time.monotonic() - began) * 1000:.0f} ms")
    answered = again = 0
    while waiting and (left := began + 30 - time.monotonic()) > 0:
        for number, event in poll.poll(left * 1000):
            sock = waiting[number]
            if event == select.POLLOUT:
                sock.send(handshake())
                poll.modify(sock, select.POLLIN)
                continue
            answered += event == select.POLLIN and sock.recv(4096).startswith(b"HTTP/1.1 101 ")
            state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
            again += struct.unpack_from("I", state, RETRANSMITTED)[0] > 0
            poll.unregister(sock)
            waiting.pop(number).close()
    seconds = time.monotonic() - began
    for sock in waiting.values():
        sock.close()
    finding.note(f"{answered:,} of {count:,} answered, the last one after {seconds:.2f} s", holds=answered == count)
    finding.note(f"{again:,} had to try again", holds=not again)
    return finding


ARRIVALS: Final = [
    Stimulus(
        "arriving_at_once",
        "2,000 clients connect at once",
        "every client gets its answer, none has to try again",
        arriving_at_once,
        peers=False,
    ),
]
