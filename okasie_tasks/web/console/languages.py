"""The languages of the console: one gettext catalogue ``locale/LANGUAGE.po`` each, loaded when the server starts.

A new language is one new file. The texts in the code and the templates are English.
"""

from __future__ import annotations

import io
from functools import lru_cache
from gettext import GNUTranslations, NullTranslations
from pathlib import Path
from typing import Final

from babel import Locale
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

SOURCE_LANGUAGE: Final = "en"
CATALOGUES: Final = Path(__file__).parent / "locale"
COOKIE: Final = "okasie_language"


def _(message: str) -> str:
    """Mark a text for extraction; it is translated where it is shown."""
    return message


@lru_cache(maxsize=1)
def languages() -> dict[str, str]:
    """Return the languages that have a catalogue, each with its own name: ``{"en": "English", ...}``."""
    codes = sorted(file.stem for file in CATALOGUES.glob("*.po"))
    return {code: (Locale(code).display_name or code).capitalize() for code in (SOURCE_LANGUAGE, *codes)}


@lru_cache(maxsize=16)
def translations(language: str) -> NullTranslations:
    """Return the catalogue of one of `languages`."""
    if language == SOURCE_LANGUAGE:
        return NullTranslations()
    compiled = io.BytesIO()
    with (CATALOGUES / f"{language}.po").open("rb") as file:
        write_mo(compiled, read_po(file, locale=language))
    compiled.seek(0)
    return GNUTranslations(compiled)


def negotiate(cookie: str | None, accept_language: str) -> str:
    """Return the language to show: the one that was chosen, else the best of ``Accept-Language``, else English."""
    known = languages()
    if cookie in known:
        return cookie
    wanted: list[tuple[float, int, str]] = []
    for position, item in enumerate(accept_language[:500].split(",")):
        tag, _separator, quality = item.strip().partition(";q=")
        try:
            wanted.append((-float(quality or 1), position, tag.lower().split("-")[0].strip()))
        except ValueError:
            continue
    return next((tag for weight, _position, tag in sorted(wanted) if tag in known and weight < 0), SOURCE_LANGUAGE)
