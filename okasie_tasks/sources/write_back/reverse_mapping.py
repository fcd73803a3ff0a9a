"""From the marketplace's value back to a cell of the source.

One rule decides what can be written back: the new cell, read by the very mapping that reads the inventory, gives the
marketplace's value again. So a listing that was written back is equal on both sides at the next run, and whatever has
no way back (templates, lists, words with two meanings, a default that would take the place of an empty cell) stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from okasie_tasks.core.fields import BY_INPUT_NAME, FIELDS
from okasie_tasks.core.fingerprint import COMPARED_FIELDS, Compared, compared, differing
from okasie_tasks.settings import AccountSettings
from okasie_tasks.sources.mapping import UNITS_BACK, RowMapping
from okasie_tasks.sources.sql import plain_cell

_REFERENCE: Final = "A"
_SUFFICIENT: Final[Mapping[str, str | int]] = {
    "status": "active", "title": "A", "price": 1, "dealerLocationCode": "A",
    "postalCode": "1000", "city": "A", "province": "A",
}  # fmt: skip
"""What makes any other field's value a valid listing, of the status that asks for most."""
_MOST_DIGITS: Final = 9
"""Decimal places that are tried before a number is written with all it has."""


class CannotWriteBack(Exception):
    """This field has no way back; the text says why. It is not an error: the other fields go on."""


class Holds(msgspec.Struct, frozen=True):
    """What a column can hold. ``anything``: a column without a type; ``other``: a type we do not write (dates ...)."""

    kind: Literal["whole", "decimal", "float", "text", "boolean", "anything", "other"]
    nullable: bool = True
    length: int | None = None
    """Characters of a text."""
    scale: int | None = None
    """Decimal places of a decimal."""

    def cells(self, value: object, point: str) -> Iterator[object]:
        """The value as this column holds it; nothing when it cannot."""
        if value is None:
            if self.nullable:
                yield None
        elif self.kind == "anything":
            yield value
        elif isinstance(value, str):
            if self.kind == "text":
                yield from self._text(value)
            elif self.kind == "whole" and value.isdecimal() and str(int(value)) == value:
                yield int(value)
        elif isinstance(value, bool):
            if self.kind in ("boolean", "whole"):
                yield value if self.kind == "boolean" else int(value)
            elif self.kind == "text":
                yield from self._text(str(value).lower())
        elif isinstance(value, int | float):
            yield from self._number(value, point)

    def _number(self, value: float, point: str) -> Iterator[object]:
        if self.kind == "whole":
            if value == int(value) and abs(value) < 2**63:
                yield int(value)
        elif self.kind == "decimal":
            yield Decimal(str(value))
        elif self.kind == "float":
            yield float(value)
        elif self.kind == "text":
            yield from self._text(str(value).replace(".", point))

    def _text(self, text: str) -> Iterator[str]:
        if (self.length is None or len(text) <= self.length) and "\x00" not in text:
            yield text

    @property
    def digits(self) -> int:
        """Decimal places that make sense here."""
        if self.kind == "whole":
            return 0
        return _MOST_DIGITS if self.scale is None else min(self.scale, _MOST_DIGITS)


class ReverseMapping:
    """The mapping of one account, backwards. ``columns`` are those of the place that is written to."""

    def __init__(self, account: AccountSettings, *, columns: Iterable[str], current_year: int) -> None:
        self._account = account
        self._year = current_year
        self._names = frozenset(columns)
        forward = RowMapping(account, columns=self._names, current_year=current_year)
        self.reference_column = forward.reference_column
        self._columns = {
            spec.name: column for spec in FIELDS.values() if (column := forward.plain_column(spec)) is not None
        }
        self._readers = Counter(self._columns.values())
        self._trials: dict[str, RowMapping] = {}

    def column(self, field: str) -> str:
        """The one column that this field is read from. Raises `CannotWriteBack` when there is none of its own."""
        spec = BY_INPUT_NAME.get(field)
        if spec is None or field not in COMPARED_FIELDS:
            raise CannotWriteBack("it is not compared with the marketplace")
        if spec.kind in ("features", "images", "texts"):
            raise CannotWriteBack("it is a list")
        column = self._columns.get(field)
        if column is None:
            raise CannotWriteBack("it is not read from one plain column")
        if column in (self.reference_column, self._account.source.updated_at):
            raise CannotWriteBack(f"column {column} says which row it is, or how new")
        if self._readers[column] > 1:
            raise CannotWriteBack(f"column {column} is read by another field, too")
        return column

    def reads_as(self, field: str, cell: object, value: object) -> bool:
        """Whether this cell, read from the source, is this value to the comparison with the marketplace."""
        found = self._read(field, cell)
        return found is not None and not differing(found, _alone(field, value))

    def cell(self, field: str, theirs: object, holds: Holds) -> object:
        """The cell that reads as ``theirs``. Raises `CannotWriteBack` when there is none, or more than one meaning."""
        if holds.kind == "other":
            raise CannotWriteBack("its column is of a type that is not written")
        point = self._account.source.decimal
        cells = [cell for value in self._candidates(field, theirs, holds) for cell in holds.cells(value, point)]
        if not cells:
            raise CannotWriteBack("its column cannot hold it")
        wanted = _alone(field, theirs)
        for cell in cells:
            if self._read(field, cell) == wanted:
                return cell
        # An integer of horsepower cannot say every kW: near enough is what the comparison calls equal.
        if self.reads_as(field, cells[-1], theirs):
            return cells[-1]
        raise CannotWriteBack("no cell would be read as what the marketplace has")

    # -- candidates ------------------------------------------------------------------------------------------------

    def _candidates(self, field: str, theirs: object, holds: Holds) -> list[Any]:
        if theirs is None:
            return [None]
        number = isinstance(theirs, int | float) and not isinstance(theirs, bool)
        words = self._words(field)
        wanted = _alone(field, theirs)
        found = [word for word in words if self._read(field, word) == wanted]
        if len(found) > 1:
            raise CannotWriteBack(f"{len(found)} of the source's values mean it")
        if found:
            return found
        if words and not number:
            raise CannotWriteBack("none of the source's values means it")
        return list(self._numbers(field, theirs, holds)) if number else [theirs]

    def _words(self, field: str) -> list[str]:
        """The source's own words for this field, each once, however it is spelt."""
        words = {
            word.strip().casefold(): word.strip()
            for name, table in self._account.source.values.items()
            if BY_INPUT_NAME[name].name == field
            for word in table
        }
        return [word for word in words.values() if word != "*"]

    def _numbers(self, field: str, theirs: Any, holds: Holds) -> Iterator[float]:
        """In the source's unit, the shortest first."""
        unit = self._account.source.units.get(field, "")
        turn = UNITS_BACK.get((field, unit))
        value = turn(theirs) if turn else theirs
        for digits in range(holds.digits + 1):
            rounded = round(value, digits)
            yield int(rounded) if rounded == int(rounded) else rounded
        if holds.kind in ("float", "text", "anything"):
            yield value

    # -- reading, as the inventory is read -------------------------------------------------------------------------

    def _read(self, field: str, cell: object) -> Compared | None:
        """The compared form of this one field; None when a row with this cell is not a valid listing."""
        trial = self._trials.get(field) or self._trials.setdefault(field, self._trial(field))
        row = trial.row({trial.reference_column: _REFERENCE, self._columns[field]: plain_cell(cell)}, 1, "")
        if row.listing is None:
            return None
        return _alone(field, compared(row.listing)[COMPARED_FIELDS.index(field)])

    def _trial(self, field: str) -> RowMapping:
        """The account's own mapping, with all other fields made up."""
        source = self._account.source
        defaults: dict[str, str | int | float | bool] = {
            name: value for name, value in _SUFFICIENT.items() if name != field
        }
        if field in source.defaults:
            defaults[field] = source.defaults[field]
        source = source.model_copy(update={"defaults": defaults})
        account = self._account.model_copy(update={"source": source})
        return RowMapping(account, columns=self._names, current_year=self._year)


def _alone(field: str, value: object) -> Compared:
    return tuple(value if name == field else None for name in COMPARED_FIELDS)
