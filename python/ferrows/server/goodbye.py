"""What a stopping server says to its operator."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..config import Config

__all__ = ["get_goodbye", "stop_line", "stopped_line"]

_GOODBYES = {
    "da": "Farvel",
    "de": "Auf Wiedersehen",
    "en": "Goodbye",
    "es": "Adiós",
    "fi": "Näkemiin",
    "fr": "Au revoir",
    "it": "Arrivederci",
    "ja": "さようなら",
    "ko": "안녕히 가세요",
    "nl": "Tot ziens",
    "pl": "Do widzenia",
    "pt": "Adeus",
    "sv": "Hej då",
    "tr": "Güle güle",
    "uk": "До побачення",
    "zh": "再见",
}


def get_goodbye() -> str:
    """Say goodbye in the language of the environment's locale, else in English."""
    for variable in ("LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(variable)
        if value:
            return _GOODBYES.get(value[:2].lower(), _GOODBYES["en"])
    return _GOODBYES["en"]


def stop_line(config: Config, why: str, who: str) -> str:
    """Say in the log that a stop begins: why, and how long whoever is still there has."""
    delay = f"no new connections after {config.DRAIN_DELAY:g} s, " if config.DRAIN_DELAY else ""
    return f"{why or 'asked to'}: stopping, {delay}{who} with up to {config.GRACEFUL_SHUTDOWN_TIMEOUT:g} s to end"


def stopped_line(seconds: float) -> str:
    """Say in the log that it is over."""
    return f"stopped after {seconds:.1f} s. {get_goodbye()}"
