"""Where the vehicles of an unknown JSON document may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

_MOST_DEPTH: Final = 4
Rows = list[dict[str, Any]]


def lists_in(value: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Rows]]:
    """Yield every list of objects, and every object of objects by id, with its path, as written in ``items``."""
    if depth > _MOST_DEPTH:
        return
    if isinstance(value, list):
        rows = [row for row in value if isinstance(row, dict)]
        if rows:
            yield path, rows
            yield from _below(rows, path, depth)
    elif isinstance(value, dict):
        if _is_by_id(value):
            yield path or ".", list(value.values())
        for key, member in value.items():
            if key and "." not in key:
                yield from lists_in(member, f"{path}.{key}" if path else key, depth + 1)


def _below(rows: Rows, path: str, depth: int) -> Iterator[tuple[str, Rows]]:
    """Yield the lists within the objects of a list, of all objects together."""
    merged: dict[str, Rows] = {}
    for row in rows:
        for key, member in row.items():
            if isinstance(member, list | dict) and key and "." not in key:
                for below, found in lists_in(member, f"{path}[].{key}", depth + 1):
                    merged.setdefault(below, []).extend(found)
    yield from merged.items()


def _is_by_id(value: Mapping[str, Any]) -> bool:
    """Return whether the values of an object have the same members, so that its keys are ids."""
    if len(value) < 2 or not all(isinstance(row, dict) for row in value.values()):
        return False
    first, *others = value.values()
    return bool(first) and all(len(first.keys() & row.keys()) * 2 > len(first) for row in others[:20])
