"""The word that a stopping server leaves its operator with."""

from __future__ import annotations

import os

__all__ = ["get_goodbye"]

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
