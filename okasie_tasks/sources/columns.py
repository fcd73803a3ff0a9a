"""How the raw value of a field is taken from a row: a column, a path, a template, a list in one or several columns."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from okasie_tasks.errors import ConfigurationError
from okasie_tasks.settings import ColumnSettings
from okasie_tasks.sources.paths import compile_path, is_path
from okasie_tasks.sources.values import plain_text

Row = Mapping[str, Any]
Getter = Callable[[Row], Any]


class Taken(NamedTuple):
    """How a value is taken, and the columns that it is taken from, for messages."""

    get: Getter
    columns: tuple[str, ...]


def take(target: str | ColumnSettings, columns: Iterable[str] | None) -> Taken:
    """Compile one entry of ``fields``. ``columns``: those of a feed that has a header; None: names may be paths.

    Raises `ConfigurationError` for an invalid template or path.
    """
    known = None if columns is None else tuple(columns)
    if isinstance(target, str):
        names = template_columns(target)
        if names:
            return Taken(_template(target, known), tuple(names))
        return Taken(_column(target, known), (target,))
    if target.columns:
        return _several(target, known)
    return Taken(_split(_column(target.column, known), target.split_on), (target.column,))


def needed_columns(target: str | ColumnSettings) -> list[str]:
    """Return the columns that a feed with a header must have for this entry; a wildcard may match none."""
    if isinstance(target, str):
        return template_columns(target) or [target]
    if target.column:
        return [target.column]
    return [] if isinstance(target.columns, str) else list(target.columns)


def _column(name: str, known: tuple[str, ...] | None) -> Getter:
    if known is not None:
        return lambda row: row.get(name)
    return _path(name) if is_path(name) else lambda row: _flat(row.get(name))


def _path(name: str) -> Getter:
    read = compile_path(name)
    # The name itself goes first: a member may have a dot in its name.
    return lambda row: _flat(row[name]) if name in row else read(row)


def _flat(value: Any) -> Any:
    """Return the text of an XML element that has attributes as well; any other value unchanged."""
    return value.get("#text", value) if isinstance(value, dict) else value


def _split(get: Getter, on: str | None) -> Getter:
    def split(row: Row) -> Any:
        value = get(row)
        return _parts(value, on) if on is not None and isinstance(value, str) else value

    return split


def _several(target: ColumnSettings, known: tuple[str, ...] | None) -> Taken:
    """Return the values of several columns as one list, without those that are empty."""
    if isinstance(target.columns, str):
        pattern = target.columns.replace("[", "[[]").replace("?", "[?]")  # only * is a wildcard
        fixed = tuple(name for name in known or () if fnmatchcase(name, pattern))
        names = fixed or (target.columns,)

        def cells(row: Row) -> Iterable[Any]:
            return (_flat(row[name]) for name in (row if known is None else fixed) if fnmatchcase(name, pattern))
    else:
        names = target.columns
        getters = [_column(name, known) for name in names]

        def cells(row: Row) -> Iterable[Any]:
            return (get(row) for get in getters)

    return Taken(lambda row: [part for cell in cells(row) for part in _parts(cell, target.split_on)], names)


def _parts(cell: Any, split_on: str | None) -> list[Any]:
    """Return what a cell adds to a list."""
    if isinstance(cell, list):
        return cell
    if not isinstance(cell, str):
        return [] if cell is None else [cell]
    return [part.strip() for part in (cell.split(split_on) if split_on else (cell,)) if part.strip()]


def template_columns(text: str) -> list[str]:
    """Return the columns of a template; an empty list for any other text."""
    if "{" not in text:
        return []
    try:
        return [name for _, name, _, _ in string.Formatter().parse(text) if name]
    except ValueError as error:
        raise ConfigurationError(f"invalid template {text!r}: {error}", where="source.fields") from error


def _template(text: str, known: tuple[str, ...] | None) -> Getter:
    parts = [
        (literal, _column(name, known) if name else None) for literal, name, _, _ in string.Formatter().parse(text)
    ]

    def get(row: Row) -> str | None:
        out: list[str] = []
        filled = False
        for literal, read in parts:
            out.append(literal)
            value = read(row) if read else None
            if value is not None and (shown := plain_text(value)):
                out.append(shown)
                filled = True
        # Empty columns are left out, together with the spaces around them.
        return " ".join("".join(out).split()) if filled else None

    return get
