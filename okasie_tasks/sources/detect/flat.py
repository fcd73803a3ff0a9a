"""Nested rows of JSON and XML as flat ones: a column for each path that a field may be read from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from okasie_tasks.sources.columns import take
from okasie_tasks.sources.paths import TEXT

_MOST_PATHS: Final = 400
_MOST_DEPTH: Final = 6
_KINDS: Final = ("type", "soort", "kind", "art", "typ", "sort", "name", "naam")
"""Members that say which of several elements one is: the price of a consumer, or of a trader."""
_MOST_KINDS: Final = 12
_SIGNS: Final = frozenset("./[]{}@'\"")


def flatten(rows: Sequence[Mapping[str, Any]], separator: str) -> tuple[tuple[str, ...], tuple[dict[str, Any], ...]]:
    """Return the columns, and the rows by them. ``separator``: ``/`` for XML, ``.`` for JSON."""
    paths: dict[str, None] = {}
    for row in rows:
        for path in _paths(row, "", separator, 0):
            if path not in paths and len(paths) < _MOST_PATHS:
                paths[path] = None
    getters = {path: take(path, None).get for path in paths}
    return tuple(paths), tuple({path: get(row) for path, get in getters.items()} for row in rows)


def _paths(value: Any, path: str, separator: str, depth: int) -> Iterator[str]:
    if isinstance(value, Mapping) and depth < _MOST_DEPTH:
        if path and TEXT in value:
            yield path
        for name, inner in value.items():
            bare = name.removeprefix("@")
            if name == TEXT or (path and _SIGNS.intersection(bare)):
                continue
            yield from _paths(inner, f"{path}{separator}{name}" if path else name, separator, depth + 1)
    elif isinstance(value, list):
        yield from _paths_of_list(value, path, separator, depth)
    elif not isinstance(value, Mapping) and path:
        yield path
    if isinstance(value, Mapping) and path and (kind := _kind(value)):
        yield from _of_kind(value, path, kind, separator, depth)


def _paths_of_list(items: list[Any], path: str, separator: str, depth: int) -> Iterator[str]:
    objects = [item for item in items if isinstance(item, Mapping)]
    if len(objects) < len(items):
        yield path
    marks = [_kind(item) for item in objects]
    told_apart = all(marks) and len(set(marks)) == len(marks)
    for index, item in enumerate(objects):
        yield from _paths(item, path if separator == "/" else f"{path}[]", separator, depth)
        if not told_apart and index == 0:
            yield from _paths(item, f"{path}[0]", separator, depth)
    if told_apart and separator == "." and len(marks) <= _MOST_KINDS:
        for item, kind in zip(objects, marks, strict=True):
            yield from _of_kind(item, path, kind, separator, depth)


def _of_kind(value: Mapping[str, Any], path: str, kind: str, separator: str, depth: int) -> Iterator[str]:
    if path.endswith("]"):
        return
    rest = {name: inner for name, inner in value.items() if name.removeprefix("@") not in _KINDS}
    yield from _paths(rest, path + kind, separator, depth)


def _kind(item: Mapping[str, Any]) -> str:
    """Return the selection of this element by what it says it is, ``[@type='retail']``; "" if it says nothing."""
    for name in _KINDS:
        word = item.get(f"@{name}", item.get(name))
        if isinstance(word, str) and re.fullmatch(r"[\w -]{1,30}", word):
            return f"[@{name}='{word}']"
    return ""
