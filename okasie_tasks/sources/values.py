"""Cells as people write them: numbers with units and spaces, dates, whole numbers as text.

Nothing is guessed. What does not fit raises `UnreadableCell`, which says what was expected.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

_TRUE: Final = frozenset({"true", "yes", "1", "y", "ja", "oui", "waar", "vrai", "wahr"})
_FALSE: Final = frozenset({"false", "no", "0", "n", "nee", "non", "nein", "onwaar", "faux", "falsch"})
_PLAIN: Final = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")
_EXACT_DIGITS: Final = 15
"""Decimal digits that a float holds exactly."""
_TOO_LARGE: Final = 1e300
_KW_PER_HP: Final = 0.73549875  # metric horsepower
_KM_PER_MILE: Final = 1.609344

_UNITS: Final[Mapping[str, Mapping[str, str]]] = {
    "price": dict.fromkeys(("€", "eur", "euro", "euros"), "EUR"),
    "mileage": dict.fromkeys(("km", "kms", "kilometer", "kilometers", "kilometres", "kilomètres"), "km")
    | dict.fromkeys(("mi", "mile", "miles"), "mi"),
    "powerKw": {"kw": "kW"} | dict.fromkeys(("hp", "ps", "ch", "pk", "cv"), "hp"),
    "weight": {"kg": "kg"},
    "co2Emission": dict.fromkeys(("g/km", "gr/km", "g"), "g/km"),
    "fuelConsumption": dict.fromkeys(("l/100km", "l/100", "l"), "l/100km"),
    "warrantyMonths": dict.fromkeys(("month", "months", "maand", "maanden", "mois", "monat", "monate"), "months"),
}
"""Field -> the sign or name of a unit, without case -> the unit."""
_CONVERTED: Final[Mapping[tuple[str, str], Callable[[float], float]]] = {
    ("powerKw", "hp"): lambda value: round(value * _KW_PER_HP, 2),
    ("mileage", "mi"): lambda value: float(round(value * _KM_PER_MILE)),
    ("price", "cent"): lambda value: value / 100,
}
UNITS_BACK: Final[Mapping[tuple[str, str], Callable[[float], float]]] = {
    ("powerKw", "hp"): lambda value: value / _KW_PER_HP,
    ("mileage", "mi"): lambda value: value / _KM_PER_MILE,
    ("price", "cent"): lambda value: value * 100,
}
"""From Okasie's unit to the feed's, not rounded: the digits of a cell are not known here."""

_BRACKETS: Final = re.compile(r"\([^()]*\)$")
_WITH_UNIT: Final = re.compile(
    r"(?P<before>[^\d+-]*)(?P<number>[+-]?\d[\d.,'’]*?)(?:[.,][-–—]+)?(?P<after>[^\d.,]*|[^\d.,]+/100\D*)"
)
_DATES: Final = (
    re.compile(r"(?P<year>\d{4})-(?P<month>0?[1-9]|1[0-2])(-(0?[1-9]|[12]\d|3[01])([T ].*)?)?"),
    re.compile(
        r"((0?[1-9]|[12]\d|3[01])(?P<sign>[/.-]))?(?P<month>0?[1-9]|1[0-2])(?(sign)(?P=sign)|[/.-])(?P<year>\d{4})"
    ),
    re.compile(r"(?P<year>\d{4})(?P<month>0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"),
)


class UnreadableCell(Exception):
    """A cell that cannot be read as a value of its field. The message states what was expected."""


class NumberReader:
    """Reads the numbers of a feed. ``decimal``: its decimal sign; ``units``: field -> unit of the feed."""

    def __init__(self, decimal: str, units: Mapping[str, str]) -> None:
        self._units = units
        self._thousands, self._point = (".", ",") if decimal == "," else (",", ".")
        self._grouped = re.compile(rf"[+-]?\d{{1,3}}([{self._thousands}'’]\d{{3}})+(\{self._point}\d+)?")
        # Three digits behind the decimal sign of a price are thousands that were written with the other sign.
        self._three = re.compile(rf"[+-]?\d{{1,3}}\{self._point}\d{{3}}")

    def read(self, field: str, value: Any) -> float:
        """Return the cell as a number in Okasie's unit of that field. Raises `UnreadableCell`."""
        number, unit = self._number(field, value)
        convert = _CONVERTED.get((field, unit or self._units.get(field, "")))
        return convert(number) if convert else number

    def _number(self, field: str, value: Any) -> tuple[float, str]:
        if isinstance(value, Decimal) and value.is_finite():
            value = int(value) if value == value.to_integral_value() else float(value)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise UnreadableCell(f"expected a number, got {value!r:.60}")
        if not isinstance(value, str):
            if not abs(value) < _TOO_LARGE:
                raise UnreadableCell(f"expected a number, got {value!r:.60}")
            return value, ""
        if len(value) <= _EXACT_DIGITS and value.isascii() and value.isdigit():
            return int(value), ""
        text, unit = "".join(value.split()), ""
        if (number := self._digits(text)) is None:
            text, unit = _without_unit(field, text, value)
            number = self._digits(text)
        if number is None:
            raise UnreadableCell(f"expected a number, got {value!r:.60}")
        if field == "price" and self._three.fullmatch(text):
            raise UnreadableCell(
                f'expected a price, got {value!r:.60} with three decimals: set decimal = "{self._thousands}" if'
                f" {self._point!r} separates thousands"
            )
        return number, unit

    def _digits(self, text: str) -> float | None:
        if self._grouped.fullmatch(text):
            text = re.sub(rf"[{self._thousands}'’]", "", text)
        text = text.replace(self._point, ".") if self._thousands not in text else "?"
        if not _PLAIN.fullmatch(text) or not math.isfinite(number := float(text)):
            return None
        return int(number) if number == int(number) else number


def _without_unit(field: str, text: str, value: str) -> tuple[str, str]:
    """Split ``text``, which has no spaces, into its digits and its unit; of two values, the second is in brackets."""
    match = _WITH_UNIT.fullmatch(_BRACKETS.sub("", text))
    if match is None:
        raise UnreadableCell(f"expected a number, got {value!r:.60}")
    names = [name.casefold().rstrip(".") for name in (match["before"], match["after"]) if name]
    units = {_UNITS.get(field, {}).get(name) for name in names}
    if None in units or len(units) > 1:
        raise UnreadableCell(f"expected a number{_expected_units(field)}, got {value!r:.60}")
    return match["number"], next(iter(units), None) or ""


def _expected_units(field: str) -> str:
    units = sorted(set(_UNITS.get(field, {}).values()))
    return f" in {' or '.join(units)}" if units else " without a unit"


def read_month(value: Any) -> tuple[int, int] | None:
    """Return year and month of a date, of a month, or of a text in one of their usual spellings; else None."""
    if isinstance(value, date):
        return value.year, value.month
    text = plain_text(value)
    if not isinstance(value, str | int) and not (isinstance(value, float | Decimal) and text.isdigit()):
        return None
    for pattern in _DATES:
        if match := pattern.fullmatch(text):
            return int(match["year"]), int(match["month"])
    return None


def read_boolean(value: Any) -> bool:
    """Return a cell as a truth value. Raises `UnreadableCell`."""
    if isinstance(value, bool):
        return value
    word = plain_text(value).casefold()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise UnreadableCell(f"expected yes or no, got {value!r:.60}")


def plain_text(value: Any) -> str:
    """Return a cell as text. A whole number stays whole, whether it came as 2020, 2020.0 or ``NUMERIC``."""
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        return str(int(value))
    return str(value).strip()


def reference_text(value: Any) -> str | None:
    """Return a cell that may be a reference as text: a text, a whole number or a UUID; else None."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | UUID):
        return None
    text = plain_text(value)
    return text if isinstance(value, UUID) or text.lstrip("-").isdigit() else None
