"""Rows that are no rows of the inventory: blank ones, and those that ``[accounts.NAME.source.skip]`` names.

A total line that is named stands for every total line of its column: the numbers in it change with the stock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from okasie_tasks.sources.columns import Row, take
from okasie_tasks.sources.total_lines import is_total
from okasie_tasks.sources.values import plain_text

LeftOut = Literal["", "blank", "skipped"]


class LeftOutRows:
    """``skip``: column or path -> values. ``columns``: those of a feed with a header."""

    def __init__(self, skip: Mapping[str, Iterable[object]], columns: Sequence[str] | None) -> None:
        self.columns = tuple(skip)
        self._rules = [(take(name, columns).get, frozenset(map(_text, values))) for name, values in skip.items()]
        self._totals = {get for get, values in self._rules if any(map(is_total, values))}

    def why(self, row: Row, *, complete: bool) -> LeftOut:
        """Return why a row is left out; "" if it is not.

        ``complete``: it has all its cells. If not, an empty cell may be a missing one, which skips nothing: a listing
        must not be sold because its row was damaged.
        """
        if all(map(_is_empty, row.values())):
            return "blank"
        for get, values in self._rules:
            cell = get(row)
            texts = {_text(one) for one in cell} if isinstance(cell, list) and cell else {_text(cell)}
            if not complete:
                texts.discard("")
            if not values.isdisjoint(texts) or (get in self._totals and any(map(is_total, texts))):
                return "skipped"
        return ""


def _text(value: object) -> str:
    return "" if _is_empty(value) else plain_text(value).casefold()


def _is_empty(value: Any) -> bool:
    return not value.strip() if isinstance(value, str) else value is None or value in ([], {}, ())
