"""Maps a value of the marketplace back to a cell of the source.

One rule decides what can be written back: the mapping that reads the inventory must read the new cell as the
marketplace's value. A listing that was written back is therefore equal on both sides at the next run. What cannot be
reversed is not written: templates, lists, words with two meanings, a default that would replace an empty cell.
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
from okasie_tasks.sources.mapping import RowMapping
from okasie_tasks.sources.sql_cells import plain_cell
from okasie_tasks.sources.values import UNITS_BACK

_REFERENCE: Final = "A"
_SUFFICIENT: Final[Mapping[str, str | int]] = {
    "status": "active", "title": "A", "price": 1, "dealerLocationCode": "A",
    "postalCode": "1000", "city": "A", "province": "A",
}  # fmt: skip
"""Values that complete any single field to a valid listing. Status active requires the most fields."""
_MOST_DIGITS: Final = 9
"""Decimal places tried before a number is written with all its digits."""


class CannotWriteBack(Exception):
    """This field cannot be written back; the text is the reason. The other fields are still written."""


class Holds(msgspec.Struct, frozen=True):
    """What a column can hold. ``anything``: a column without a type; ``other``: a type that is not written."""

    kind: Literal["whole", "decimal", "float", "text", "boolean", "anything", "other"]
    nullable: bool = True
    length: int | None = None
    """Maximum characters of a text."""
    scale: int | None = None
    """Decimal places of a decimal."""

    def cells(self, value: object, point: str) -> Iterator[object]:
        """Yield the value as this column holds it; nothing when it cannot hold it."""
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
        """Decimal places that this column can hold."""
        if self.kind == "whole":
            return 0
        return _MOST_DIGITS if self.scale is None else min(self.scale, _MOST_DIGITS)


class ReverseMapping:
    """The reverse mapping of one account. ``columns``: those of the table that is written."""

    def __init__(self, account: AccountSettings, *, columns: Iterable[str], current_year: int) -> None:
        self._account = account
        self._year = current_year
        self._names = frozenset(columns)
        forward = RowMapping(account, columns=self._names, current_year=current_year)
        self.reference_columns = forward.reference.columns
        self._columns = {
            spec.name: column for spec in FIELDS.values() if (column := forward.plain_column(spec)) is not None
        }
        self._readers = Counter(self._columns.values())
        self._trials: dict[str, RowMapping] = {}

    def column(self, field: str) -> str:
        """Return the column that only this field is read from. Raises `CannotWriteBack` when there is none."""
        spec = BY_INPUT_NAME.get(field)
        if spec is None or field not in COMPARED_FIELDS:
            raise CannotWriteBack("it is not compared with the marketplace")
        if spec.kind in ("features", "images", "texts"):
            raise CannotWriteBack("it is a list")
        column = self._columns.get(field)
        if column is None:
            raise CannotWriteBack("it is not read from one plain column")
        if column in (*self.reference_columns, self._account.source.updated_at):
            raise CannotWriteBack(f"column {column} identifies the row, or holds its change time")
        if column in self._account.source.skip:
            raise CannotWriteBack(f"column {column} decides whether the row is skipped")
        if self._readers[column] > 1:
            raise CannotWriteBack(f"column {column} is also read by another field")
        return column

    def reads_as(self, field: str, cell: object, value: object) -> bool:
        """Return whether the comparison treats this cell, read from the source, as equal to the value."""
        values = self._read(field, cell)
        return values is not None and not differing(values, _alone(field, value))

    def cell(self, field: str, theirs: object, holds: Holds) -> object:
        """Return the cell that reads as ``theirs``. Raises `CannotWriteBack` without a single one."""
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
        # Whole horsepower cannot express every kW value: a cell that the comparison treats as equal is enough.
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
        matches = [word for word in words if self._read(field, word) == wanted]
        if len(matches) > 1:
            raise CannotWriteBack(f"{len(matches)} of the source's values mean it")
        if matches:
            return matches
        if words and not number:
            raise CannotWriteBack("none of the source's values means it")
        return list(self._numbers(field, theirs, holds)) if number else [theirs]

    def _words(self, field: str) -> list[str]:
        """Return the source's words for this field, each once, ignoring case."""
        words = {
            word.strip().casefold(): word.strip()
            for name, table in self._account.source.values.items()
            if BY_INPUT_NAME[name].name == field
            for word, value in table.items()
            if value  # a word that means an empty cell is no way to write a value
        }
        return [word for word in words.values() if word != "*"]

    def _numbers(self, field: str, theirs: Any, holds: Holds) -> Iterator[float]:
        """Yield the number in the source's unit, with the fewest digits first."""
        unit = self._account.source.units.get(field, "")
        convert = UNITS_BACK.get((field, unit))
        value = convert(theirs) if convert else theirs
        for digits in range(holds.digits + 1):
            rounded = round(value, digits)
            yield int(rounded) if rounded == int(rounded) else rounded
        if holds.kind in ("float", "text", "anything"):
            yield value

    # -- reading, as the inventory is read -------------------------------------------------------------------------

    def _read(self, field: str, cell: object) -> Compared | None:
        """Return the compared form of this field; None when a row with this cell is not a valid listing."""
        trial = self._trials.get(field) or self._trials.setdefault(field, self._trial(field))
        identity = dict.fromkeys(self.reference_columns, _REFERENCE)
        row = trial.row({**identity, self._columns[field]: plain_cell(cell)}, 1, "")
        if row.listing is None:
            return None
        return _alone(field, compared(row.listing)[COMPARED_FIELDS.index(field)])

    def _trial(self, field: str) -> RowMapping:
        """Return the account's mapping with placeholders for all other fields."""
        source = self._account.source
        defaults: dict[str, str | int | float | bool] = {
            name: value for name, value in _SUFFICIENT.items() if name != field
        }
        if field in source.defaults:
            defaults[field] = source.defaults[field]
        source = source.model_copy(update={"defaults": defaults, "skip": {}})
        account = self._account.model_copy(update={"source": source})
        return RowMapping(account, columns=self._names, current_year=self._year)


def _alone(field: str, value: object) -> Compared:
    return tuple(value if name == field else None for name in COMPARED_FIELDS)
