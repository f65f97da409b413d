"""A crowd of clients that keep the rules and talk all at once."""

from __future__ import annotations

import collections
import contextlib
import select
import time

from .client import BINARY, CLOSE, PING, PONG, TEXT, Client, frame


class Talking:
    """A client that sends the next message when it has the answer to the one before."""

    def __init__(self, port: int, target: str) -> None:
        self.client = Client(port, target)
        self.client.sock.setblocking(False)
        self.greeting = ""
        """What the server said in text."""
        self.answers = 0
        self.slowest = 0.0
        """Seconds that an answer took at most."""
        self.end = ""
        """The close code, once the connection has ended, or what came in its place."""
        self.told = 0.0
        """When the Close came."""
        self._code = ""
        self._buffer = bytearray(self.client.received)
        self._sent = 0.0

    def speak(self) -> None:
        """Send a message."""
        self._sent = time.monotonic()
        self._write(frame(BINARY, b"message"))

    def hear(self) -> bool:
        """Take what has come; tell whether an answer was among it."""
        answers, reset, data = self.answers, False, b""
        try:
            data = self.client.sock.recv(65536)
        except ConnectionError:
            reset = True
        buffer = self._buffer
        buffer += data
        while len(buffer) >= 2 and len(buffer) >= 2 + buffer[1]:
            opcode, payload = buffer[0] & 0xF, bytes(buffer[2 : 2 + buffer[1]])
            del buffer[: 2 + buffer[1]]
            self._take(opcode, payload)
        if not data:
            self.end = (self._code or "no Close") + (", reset" if reset else "")
        return self.answers > answers and not self._code

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == CLOSE:
            self._code, self.told = str(int.from_bytes(payload[:2], "big")), time.monotonic()
            self._write(frame(CLOSE, payload[:2]))
        elif opcode == PING:
            self._write(frame(PONG, payload))
        elif opcode == TEXT:
            self.greeting = payload.decode()
        elif opcode == BINARY:
            self.answers += 1
            self.slowest = max(self.slowest, time.monotonic() - self._sent)

    def _write(self, data: bytes) -> None:
        # Of a connection that is gone, reading tells.
        with contextlib.suppress(ConnectionError):
            self.client.sock.sendall(data)


class Crowd:
    """Many clients, and what becomes of them. ``pause`` is how long they take for a breath after an answer."""

    def __init__(self, port: int, count: int, target: str, pause: float = 0.0) -> None:
        self.talking: dict[int, Talking] = {}
        self.ended: list[Talking] = []
        self._pause = pause
        self._poll = select.poll()
        for _ in range(count):
            each = Talking(port, target)
            self.talking[each.client.sock.fileno()] = each
            self._poll.register(each.client.sock, select.POLLIN)
        for each in self.talking.values():
            each.speak()

    def talk(self, seconds: float) -> None:
        """Go on for so long, or until the last one has ended."""
        deadline = time.monotonic() + seconds
        while self.talking and (left := deadline - time.monotonic()) > 0:
            answered = []
            for number, _ in self._poll.poll(left * 1000):
                each = self.talking[number]
                if each.hear():
                    answered.append(each)
                elif each.end:
                    self._poll.unregister(number)
                    each.client.close()
                    self.ended.append(self.talking.pop(number))
            time.sleep(self._pause)
            for each in answered:
                each.speak()

    @property
    def ends(self) -> collections.Counter[str]:
        """How those that have ended did so, and how many."""
        return collections.Counter(each.end for each in self.ended)

    def close(self) -> None:
        for each in self.talking.values():
            each.client.close()
