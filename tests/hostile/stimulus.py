"""What is done to a server, what must hold then, and what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .serving import Server


@dataclass
class Finding:
    """What an attack found: facts for the page, and which limits did not hold."""

    facts: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def note(self, fact: str, *, holds: bool = True) -> None:
        """Keep a fact, as one that breaks the limit unless it holds."""
        self.facts.append(fact)
        if not holds:
            self.broken.append(fact)


@dataclass(frozen=True)
class Stimulus:
    """One row of the page. ``attack`` gets a fresh server, and whether it is to have its full size.

    The short form is for every run of the tests, and may hurry ferrows with ``options`` and ``environment``;
    ``always`` is environment that both forms need. Limits of wall-clock time are wide in the short form, as the machine
    may have other things to do.
    """

    name: str
    title: str
    limit: str
    attack: Callable[[Server, bool], Finding]
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    always: Mapping[str, str] = field(default_factory=dict)
    always_options: tuple[str, ...] = ()
    peers: bool = True
    """Whether other servers can be asked the same."""
    ends: bool = False
    """Whether the server is to have ended by it."""

    def settings(self, peer: str, *, full: bool) -> tuple[tuple[str, ...], dict[str, str]]:
        """Return the options and the environment of the server's process."""
        if peer != "ferrows" or full:
            return self.always_options, dict(self.always)
        return (*self.always_options, *self.options), {**self.always, **self.environment}


def size(count: float) -> str:
    """Write a number of bytes for people."""
    for unit in ("B", "KiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} MiB"
