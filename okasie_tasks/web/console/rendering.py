"""Pages out of documents: the Jinja environment, its filters, and what every page has."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_datetime
from babel.numbers import format_currency, format_decimal, format_percent
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from okasie_tasks import __version__
from okasie_tasks.core.fields import FIELDS
from okasie_tasks.masking import clean
from okasie_tasks.web.console import words
from okasie_tasks.web.console.languages import languages, translations
from okasie_tasks.web.console.sentences import sentence

STATIC: Final = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""The files that pages link to, each with its media type."""
_HERE: Final = Path(__file__).parent
_LONGEST: Final = 240
"""Characters of one value on a page."""
_FILTERS: Final = (
    "allowed", "duration", "held", "money", "number", "percent", "remark", "sentence", "value", "when", "word",
)  # fmt: skip
_BREAKS: Final = re.compile(r"[\r\n\t]+")
MOODS: Final = {
    "done": "good", "live": "good", "active": "good", "created": "good", "updated": "good", "pushed": "good",
    "running": "now", "queued": "now", "sold": "calm", "cancelled": "calm", "dropped": "calm", "expired": "calm",
    "held": "wait", "waiting": "wait", "pending": "wait", "drift": "wait", "conflict": "wait", "warning": "wait",
    "partial": "bad", "failed": "bad", "rejected": "bad", "refused": "bad", "invalid": "bad", "key_refused": "bad",
    "not_found": "bad", "overtaken": "wait",
}  # fmt: skip
"""The colour of a state. Its word always stands beside it."""


def shown(value: Any) -> Any:
    """Return a document as a page shows it: its texts on one line, without characters that no one can see."""
    if isinstance(value, str):
        return value if isinstance(value, Markup) else clean(_BREAKS.sub(" ", value))
    if isinstance(value, dict):
        return {name: shown(inner) for name, inner in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # a drawing
        return type(value)(*map(shown, value))
    return [shown(inner) for inner in value] if isinstance(value, list | tuple) else value


@lru_cache(maxsize=8)
def static_file(name: str) -> bytes:
    return (_HERE / "static" / name).read_bytes()


def static_address(name: str) -> str:
    """Return the address of a static file. It changes with the content, so no browser shows an old one."""
    return f"/static/{name}?{hashlib.sha256(static_file(name)).hexdigest()[:10]}"


class Formats:
    """How values are written in one language. The methods are the filters of the templates."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts = translations(language)

    def number(self, value: float) -> str:
        return format_decimal(value, locale=self.language)

    def percent(self, value: float) -> str:
        return format_percent(value, locale=self.language)

    def money(self, value: float) -> str:
        """``€12,345``; cents only where there are any."""
        pattern = Locale(self.language).currency_formats["standard"].pattern
        whole = pattern.replace(".00", "") if float(value).is_integer() else pattern
        return format_currency(value, "EUR", format=whole, currency_digits=False, locale=self.language)

    def word(self, code: str, table: str) -> str:
        """Return the text of a document's word from one of the tables in `words`."""
        text = getattr(words, table).get(code)
        return self._texts.gettext(text) if text else str(code)

    def allowed(self, field: str) -> str:
        """Return the values that a field may have; "" for any."""
        choices = FIELDS[field].choices if field in FIELDS else None
        return ", ".join(sorted(choices)) if choices else ""

    def remark(self, note: Mapping[str, Any]) -> str:
        """Return a note about a run, in this language."""
        return self.word(note["code"], "REMARKS") % note

    def held(self, hold: Mapping[str, Any]) -> str:
        """Return why changes are held, in this language."""
        if hold["guard"] != "field_loss":
            return self.sentence(hold["reason"])
        fields = ", ".join(self.word(field, "FIELDS") for field in hold["fields"])
        return self._texts.gettext("%(count)s cars would lose: %(fields)s") % {
            "count": self.number(hold["count"]),
            "fields": fields,
        }

    def sentence(self, text: str) -> str:
        """Return a sentence of a document in this language."""
        return sentence(text, self._texts.gettext)

    def duration(self, seconds: float | None) -> str:
        """Return a duration in the largest fitting unit: ``40 s``, ``4 min``, ``3 h``, ``2 days``."""
        if seconds is None:
            return "–"
        if seconds < 90:
            return self._texts.gettext("%(n)s s") % {"n": self.number(ceil(seconds))}
        if seconds < 90 * 60:
            return self._texts.gettext("%(n)s min") % {"n": self.number(round(seconds / 60))}
        if seconds < 48 * 3600:
            return self._texts.gettext("%(n)s h") % {"n": self.number(round(seconds / 3600))}
        days = round(seconds / 86400)
        return self._texts.ngettext("%(n)s day", "%(n)s days", days) % {"n": self.number(days)}

    def when(self, iso: str | None, zone: str) -> Markup:
        """Return a time in the account's zone as ``<time>``, with UTC in its title."""
        if not iso:
            return Markup("–")
        instant = datetime.fromisoformat(iso).astimezone(UTC)
        text = format_datetime(instant.astimezone(ZoneInfo(zone)), "d MMM y, HH:mm", locale=self.language)
        utc = instant.strftime("%Y-%m-%d %H:%M:%S UTC")
        return Markup('<time datetime="{}" title="{}">{}</time>').format(iso, utc, text)

    def value(self, value: Any, field: str = "") -> str | Markup:
        """Return the value of a listing's field."""
        if value is None or value in ("", [], {}):
            return Markup('<span class="soft">{}</span>').format(self._texts.gettext("empty"))
        if isinstance(value, bool):
            return self._texts.gettext(words.VALUES[value])
        if isinstance(value, int | float):
            return self._number_of(field, value)
        if field == "status":
            return self.word(str(value), "VALUES")
        if isinstance(value, Mapping):
            value = [f"{name}: {inner}" for name, inner in value.items()]
        if isinstance(value, Sequence) and not isinstance(value, str):
            value = ", ".join(str(inner) for inner in value)
        text = str(value)
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"

    def _number_of(self, field: str, value: float) -> str:
        if field == "price":
            return self.money(value)
        if field == "year":
            return str(value)
        return f"{self.number(value)} km" if field == "mileage" else self.number(value)


@lru_cache(maxsize=16)
def environment(language: str) -> Environment:
    """Return the templates in one language. Every value is escaped, and a missing one is an error."""
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    made.install_gettext_translations(translations(language), newstyle=True)  # type: ignore[attr-defined]
    formats = Formats(language)
    for name in _FILTERS:
        made.filters[name] = getattr(formats, name)
    made.filters["web"] = lambda address: bool(address) and address.startswith(("https://", "http://"))
    made.filters["known"] = lambda code, table: code in getattr(words, table)
    made.filters["mood"] = lambda state: MOODS.get(state, "calm")
    made.globals |= {"language": language, "languages": languages(), "static": static_address, "version": __version__}
    return made


def render(template: str, language: str, **values: Any) -> str:
    """Return a page. Texts of feeds and of the marketplace are cleaned and escaped."""
    return environment(language).get_template(template).render(**{name: shown(v) for name, v in values.items()})
