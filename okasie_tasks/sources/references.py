"""How a row's reference is read: one column or path, or a template of which every column must be filled."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Final

from okasie_tasks.core.listing import Issue, parse_reference
from okasie_tasks.sources.columns import Row, take, template_columns
from okasie_tasks.sources.csv_reader import cells_of
from okasie_tasks.sources.values import reference_text

_MOST_SHOWN: Final = 200
"""Characters of an unreadable reference that are kept."""
_LONGEST_SHOWN: Final = 58
"""Characters that a message shows whole."""


class ReferenceReader:
    """``target``: a column, a path or a template, as configured. ``columns``: those of a feed with a header."""

    def __init__(self, target: str, columns: Sequence[str] | None) -> None:
        names = template_columns(target)
        self.columns = tuple(names) or (target,)
        parts = string.Formatter().parse(target) if names else [("", target, "", None)]
        self._parts = [(literal, name, take(name, columns).get if name else None) for literal, name, *_ in parts]
        self._column = None if names else self._parts[0][2]
        self._order, self._width = columns, 0
        if columns is not None and not names and target in columns:
            # Of two columns with the same name the last one counts, as in a dict.
            self._width = len(columns) - columns[::-1].index(target)

    def read(self, row: Row) -> str | None:
        """Return the row's reference; None when it cannot be read."""
        if self._column is not None:
            return parse_reference(reference_text(self._column(row)))
        texts = self._texts(row)
        return None if any(text == "" for text in texts) else parse_reference("".join(texts))

    def found(self, row: Row) -> str:
        """Return what stands where the reference should be, cut to `_MOST_SHOWN` characters."""
        return "".join(self._texts(row)).strip()[:_MOST_SHOWN]

    def issue(self, row: Row) -> Issue:
        """Return what is wrong with a reference that cannot be read."""
        place = f"column{'s' if len(self.columns) > 1 else ''} {', '.join(self.columns)}"
        texts = zip(self._parts, self._texts(row), strict=True)
        empty = ", ".join(name for (_, name, get), text in texts if name and get and not text)
        if empty and len(self.columns) > 1:
            return Issue("externalReference", "bad_reference", f"{place}: {empty} must be filled")
        text = "".join(self._texts(row))
        got = f"{text!r:.60}" if text else "nothing"
        got = f"{len(text)}: {got}" if len(text) > _LONGEST_SHOWN else got
        return Issue("externalReference", "bad_reference", f"{place}: expected 1 to 64 printable characters, got {got}")

    def total_line(self, reference: str) -> Issue:
        """Return what is wrong with a row that `okasie_tasks.sources.total_lines` recognises by its reference."""
        place = f"column {', '.join(self.columns)}"
        message = (
            f"{place}: expected the reference of a car, got {reference!r:.60}, a total line: leave it out with `skip`"
        )
        return Issue("externalReference", "total_line", message)

    def of_line(self, line: str, delimiter: str) -> str | None:
        """Return the reference of a csv line that is a complete row. Only the cells up to it are parsed."""
        if not self._width:
            return self.of_cells(cells_of(line, delimiter))
        ahead = line.split(delimiter, self._width)
        if '"' in line and any('"' in cell for cell in ahead[: self._width]):
            ahead = cells_of(line, delimiter)
        return ahead[self._width - 1].strip()

    def of_cells(self, cells: Sequence[str]) -> str | None:
        """Return the reference of a csv row that has all columns."""
        if not self._width:
            return self.read(dict(zip(self._order or (), cells, strict=True)))
        return cells[self._width - 1].strip()

    def _texts(self, row: Row) -> list[str]:
        """Return the parts of the reference: of each column its text before it, and "" if the column is empty."""
        texts = []
        for literal, _, get in self._parts:
            text = (reference_text(get(row)) or "").strip() if get else ""
            texts.append(literal + text if text or not get else "")
        return texts
