"""The cells of a query as the mapping reads them: bits, zero dates, and paths into jsonb, JSON and arrays."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from okasie_tasks.core.fields import BY_INPUT_NAME
from okasie_tasks.core.listing import Issue
from okasie_tasks.sources.paths import compile_path, is_path, root

_ZERO_DATE: Final = re.compile(r"0000-00-00([ T]00:00:00(\.0+)?)?")
"""MySQL and MariaDB store it for "no date"; a driver returns it as a text, or as NULL."""


class SqlCells:
    """``columns``: those of the query. ``needed``: those of the mapping; a path into a column counts as a column."""

    def __init__(self, columns: Collection[str], needed: Collection[str]) -> None:
        paths = [name for name in needed if name not in columns and is_path(name) and root(name) in columns]
        self._paths = {name: (root(name), compile_path(name)) for name in paths}
        # A column that paths lead into is no value itself, even if it has a field's name, such as `engine`.
        nested = {root(name) for name in paths}.difference(needed)
        self.columns = (*(name for name in columns if name not in nested), *paths)
        self._used = {name for name in columns if name in needed or name in BY_INPUT_NAME}

    def read(self, raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[Issue]]:
        """Return the row as the mapping reads it, and what counts as empty in it, though it is not."""
        row = {name: plain_cell(value) for name, value in raw.items()}
        warnings = []
        for name in self._used:
            value = row[name]
            if isinstance(value, str) and value[:4] == "0000" and _ZERO_DATE.fullmatch(value):
                row[name] = None
                warnings.append(Issue(name, "zero_date", f"a zero date counts as empty, got {value!r}"))
        for name, (column, path) in self._paths.items():
            try:
                row[name] = path({column: _nested(row[column])})
            except msgspec.DecodeError:
                row[name] = None
                warnings.append(Issue(name, "not_json", f"left out: expected JSON in column {column}"))
        return row, warnings


def _nested(cell: Any) -> Any:
    """Return a nested cell. Databases without a type of their own for JSON return it as text."""
    return msgspec.json.decode(cell) if isinstance(cell, str) and cell.strip() else cell


def plain_cell(value: Any) -> Any:
    """Return a cell as the mapping reads it: a bit as 0 or 1, a binary text as text."""
    if not isinstance(value, bytes | memoryview):
        return value
    data = bytes(value)
    if data in (b"\x00", b"\x01"):
        return data[0]
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
